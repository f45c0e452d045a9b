"""What the plugin processes of one engine tell each other about the claims of one operation.

The engine starts a process for each provider of a stack. If a claim moves from one provider to another, the
new one creates, and the engine asks the old one to delete the earlier entry. That process must know what the
new one has done, or it would release a claim that is in use, or one whose successor is not ready.

The notes are lines of JSON, `[about, key, value]`, in a file of the user that carries the engine's address
and process. Where no such file can be kept, each process knows only its own notes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Final

from pulumi_coreweave_inference.own_file import opened

_ENTRY: Final = "entry"
_UNREADY: Final = "unready"
_DECLARED: Final = "declared"


class Siblings:
    """The notes of the plugin processes of one engine. Safe between threads."""

    def __init__(self, engine: str) -> None:
        key = hashlib.sha256(f"{os.getppid()} {engine}".encode()).hexdigest()[:16]
        user = os.getuid() if hasattr(os, "getuid") else ""
        self._file = Path(tempfile.gettempdir()) / f"coreweave-inference-{user}-{key}"
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], str] = {}
        self._read = 0  # bytes of the file

    def note_entry(self, claim_id: str, incarnation: str) -> None:
        """This process has written the current entry of a claim."""
        self._note(_ENTRY, claim_id, incarnation)

    def current_entry(self, claim_id: str) -> str | None:
        """The incarnation of the entry that was written last; None if no process has written one."""
        return self._look_up(_ENTRY, claim_id)

    def note_unready(self, urn: str, claim_id: str) -> None:
        """The claim of a resource is not known to be ready."""
        self._note(_UNREADY, urn, claim_id)

    def note_ready(self, urn: str) -> None:
        """The claim of a resource is ready, or need not be."""
        self._note(_UNREADY, urn, "")

    def unready(self, urn: str) -> str | None:
        """The id of the claim that is not ready; empty if it is, None if no process has looked."""
        return self._look_up(_UNREADY, urn)

    def note_declared(self) -> None:
        """The program of this operation declares claims."""
        if (_DECLARED, "") not in self._known:
            self._note(_DECLARED, "", "")

    def any_declared(self) -> bool:
        """Whether the operation has declared any claims; a destroy does not."""
        return self._look_up(_DECLARED, "") is not None

    def forget(self) -> None:
        """The engine is gone, and with it whoever would read the notes."""
        with contextlib.suppress(OSError):
            self._file.unlink()

    def _note(self, about: str, key: str, value: str) -> None:
        with self._lock:
            self._read_more()  # what others have said before
            self._known[about, key] = value
            line = json.dumps([about, key, value]).encode("ascii") + b"\n"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with contextlib.suppress(OSError), opened(self._file, flags) as file:
                os.write(file, line)

    def _look_up(self, about: str, key: str) -> str | None:
        with self._lock:
            self._read_more()
            return self._known.get((about, key))

    def _read_more(self) -> None:
        parts: list[bytes] = []
        with contextlib.suppress(OSError), opened(self._file, os.O_RDONLY) as file:
            os.lseek(file, self._read, os.SEEK_SET)
            while part := os.read(file, 65_536):
                parts.append(part)
        lines = b"".join(parts)
        lines = lines[: lines.rfind(b"\n") + 1]  # a note may be only half written
        self._read += len(lines)
        for line in lines.splitlines():
            with contextlib.suppress(ValueError):
                about, key, value = json.loads(line)
                self._known[about, key] = value
