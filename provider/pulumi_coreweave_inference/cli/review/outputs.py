"""Where a review is written: `--format FORMAT[=FILE]`, any number of times.

A file is complete or is not written at all: it is written beside its place and then renamed. Two kinds are
written to directly: a pipe or device, and the file that GITHUB_STEP_SUMMARY names, which gets the review at
its end, because all commands of a step share it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"


class ReviewFormat(enum.StrEnum):
    """How the review is written."""

    MARKDOWN = "markdown"
    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Output:
    """A format and the file it is written to; None: standard output."""

    format: ReviewFormat
    file: Path | None = None

    @property
    def place(self) -> Path | None:
        """The file, with links followed."""
        return self.file and _place(self.file)


def _place(path: Path) -> Path:
    """The path with links followed. One of a loop stays as it is, and cannot be opened."""
    return Path(os.path.realpath(path))


def parse_output(text: str) -> Output:
    """Read `FORMAT` or `FORMAT=FILE`. Raises ValueError."""
    name, separator, file = text.partition("=")
    if name not in list(ReviewFormat):
        raise ValueError(f"{name!r} is not one of {', '.join(ReviewFormat)}.")
    if separator and not file:
        raise ValueError(f"{text!r} names no file; write {name}=FILE, or {name} for standard output.")
    return Output(ReviewFormat(name), Path(file) if file not in ("", "-") else None)


def conflict(outputs: Sequence[Output], inputs: Iterable[Path]) -> str:
    """Why these outputs cannot be written together, in one sentence; empty if they can."""
    read = {_place(path) for path in inputs}
    for index, output in enumerate(outputs):
        if output.place in read:
            return f"{output.file} is read by this review and cannot be written by it"
        if output.place in {other.place for other in outputs[:index]}:
            where = output.file or "standard output"
            return f"two formats cannot both go to {where}; write FORMAT=FILE with a file for each"
    return ""


def write_file(path: Path, text: str) -> None:
    """Write a file as a whole, in UTF-8. Raises OSError."""
    # A lone surrogate must not end in a traceback.
    data = text.encode("utf-8", "replace")
    path = _place(path)
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    if (summary := os.environ.get(STEP_SUMMARY)) and _place(Path(summary)) == path:
        with path.open("ab") as file:
            file.write(data)
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        if path.exists():
            shutil.copymode(path, part)
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
