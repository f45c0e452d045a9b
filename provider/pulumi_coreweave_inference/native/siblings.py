"""What the plugin processes of one engine tell each other: which entry of the state holds a claim now.

The engine starts a process for each provider of a stack. If a claim moves from one provider to another, the
new one writes its current entry, and the engine asks the old one to delete the earlier entry. The delete
guard of that process has not seen the new entry, so it would release a claim that is in use.

The notes are lines "ID INCARNATION" in a file of the user that carries the engine's address and process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from pulumi_coreweave_inference.own_file import opened


class Siblings:
    """The notes of the plugin processes of one engine."""

    def __init__(self, engine: str) -> None:
        key = hashlib.sha256(f"{os.getppid()} {engine}".encode()).hexdigest()[:16]
        user = os.getuid() if hasattr(os, "getuid") else ""
        self._file = Path(tempfile.gettempdir()) / f"coreweave-inference-{user}-{key}"

    def note(self, claim_id: str, incarnation: str) -> None:
        """A process has written the current entry of a claim."""
        with contextlib.suppress(OSError), opened(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
            os.write(file, f"{claim_id} {incarnation}\n".encode("ascii"))

    def current(self, claim_id: str) -> str | None:
        """The incarnation of the entry that was written last; None if no process has written one."""
        lines: list[str] = []
        with contextlib.suppress(OSError), opened(self._file, os.O_RDONLY) as file:
            while part := os.read(file, 65_536):
                lines.append(part.decode("ascii", "replace"))
        found = [line.split() for line in "".join(lines).splitlines() if line.startswith(f"{claim_id} ")]
        return found[-1][-1] if found else None

    def forget(self) -> None:
        """The engine is gone, and with it whoever would read the notes."""
        with contextlib.suppress(OSError):
            self._file.unlink()
