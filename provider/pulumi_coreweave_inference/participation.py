"""Which claims take part in the current run of the engine: as the provider process reports to the program.

A program cannot see which command runs it. It runs in `pulumi up`, but also in `destroy --run-program` and
`refresh --run-program`, and `up --target` runs all of it for some of its resources. It should wait only for
the claims that the run creates, updates or leaves as they are. For exactly these the engine calls `check`,
before it registers them.

    program                                engine          provider process
    make an empty private file
    register a claim, with an extra input
    "NUMBER@FILE"                        ─► takes part? ─► check: append NUMBER to FILE, drop the input
                                              │ no
    registered: is NUMBER in FILE?       ◄────┘

The extra input never reaches the state. Without a file, and where it cannot be read, the program waits. If
the provider cannot write to it, check fails: silence would mean that the claim is not waited for, and the end
of a run without a wait releases what it replaces. If the program's `ignore_changes` makes the engine drop the
input, the program sends none and waits. It does not see options that a transform adds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .errors import ClaimError, labelled, text
from .identity import resource_name_of
from .inputs import DECLARATION, IDENTITY, RUN, identity_of
from .own_file import opened

PREFIX: Final = "pulumi-coreweave-inference-"
_ABANDONED: Final = 30 * 24 * 3600.0  # seconds after which the file of a killed program is removed


class Participants:
    """The program's side: gives each claim its word, and looks for it after the claim is registered."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._numbers = itertools.count(1)
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(prefix=PREFIX)
            os.close(descriptor)
            self._file = Path(name)
            weakref.finalize(self, _remove, self._file)
            _remove_abandoned(self._file.parent)

    def word(self) -> str | None:
        """The input with which the provider process reports one claim; None if it cannot."""
        return None if self._file is None else f"{next(self._numbers)}@{self._file}"

    @staticmethod
    def include(word: str | None) -> bool:
        """Whether the claim with this word takes part. To be asked once the claim is registered."""
        if word is None:
            return True
        number, _, file = word.partition("@")
        try:
            return number in Path(file).read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return True


def reported(news: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's side: leave the word among a claim's inputs, and return the other inputs.

    Raises `ClaimError` if the word cannot be left.
    """
    identity = identity_of(news)
    word = identity.pop(RUN, None)
    if word is None:
        return dict(news)
    try:
        _leave(str(word))
    except OSError as error:
        name = resource_name_of(str(identity.get(DECLARATION, "")))
        raise ClaimError(
            text(
                f"{labelled(name, None)}: the provider cannot tell the program that this run includes it.",
                said=[str(error)],
                held="as before; nothing is changed.",
                then=["set TMPDIR to a folder to which both the program and the provider may write"],
            )
        ) from None
    return dict(news) | {IDENTITY: identity}


def _leave(word: str) -> None:
    number, _, file = word.partition("@")
    if not number.isdecimal() or not Path(file).name.startswith(PREFIX):
        raise OSError(f"{word!r} does not name a file of a program")
    with opened(Path(file), os.O_WRONLY | os.O_APPEND) as descriptor:  # never creates a file
        os.write(descriptor, f"{number}\n".encode("ascii"))


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def _remove_abandoned(folder: Path) -> None:
    for file in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - file.lstat().st_mtime > _ABANDONED:
                file.unlink()
