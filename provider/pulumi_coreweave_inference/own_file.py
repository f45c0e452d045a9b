"""Opens a file in a folder that others may write to, such as that of temporary files, without surprises.

Two processes of one user leave each other notes there (participation.py, native/siblings.py).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NO_SURPRISES: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def opened(file: Path, flags: int) -> Iterator[int]:
    """The descriptor of a regular file of this user; a new one is for this user alone.

    Raises `OSError` for any other file: a link, a pipe, or the file of somebody else.
    """
    descriptor = os.open(file, flags | _NO_SURPRISES, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (hasattr(os, "geteuid") and found.st_uid != os.geteuid()):
            raise OSError(f"{file} is not a file of this user")
        yield descriptor
    finally:
        os.close(descriptor)
