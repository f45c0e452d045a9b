"""The command line `capacity-claims`."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line. Without the extra `cli`, explain how to install it."""
    try:
        from .app import app
    except ModuleNotFoundError as missing:
        if missing.name not in ("typer", "rich", "starlette", "uvicorn"):
            raise
        sys.exit(
            f"capacity-claims needs {missing.name}: install it with "
            "`pip install 'pulumi-coreweave-inference[cli]'`"
        )
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed when the process began
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without a character is no reason to stop
    app()
