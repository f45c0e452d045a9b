"""`capacity-claims plugin install`: let the Pulumi engine find the plugin of the native resource.

The engine looks for a plugin in a folder of its home that the name and the version tell. What this command
writes there is a wrapper of two lines, which runs the plugin with the Python that runs this command.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Final

import typer

from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.foreign_text import in_lines, one_line

from .console import CommandError, note, report_errors

NAME: Final = "coreweave-inference"
_MODULE: Final = "pulumi_coreweave_inference.native"

app: typer.Typer = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def plugin() -> None:
    """Manage the Pulumi plugin of the native resource.

    Programs in YAML, and in every other language of Pulumi, need it. Programs that import
    pulumi_coreweave_inference do not.

    Example: capacity-claims plugin install
    """


@app.command()
def install() -> None:
    """Install the plugin where Pulumi looks for it.

    Writes a wrapper that runs the plugin with the Python of this command to
    $PULUMI_HOME/plugins/resource-coreweave-inference-vVERSION, and prints its path; the default of
    $PULUMI_HOME is ~/.pulumi. A wrapper or plugin of the same version is replaced. Does not run `pulumi`. Run
    this command again after upgrading this package, or after moving the environment that it is in.

    Exit codes: 2 if the wrapper cannot be written.

    Example: capacity-claims plugin install
    """
    with report_errors():
        path = plugin_path(pulumi_home(), __version__)
        content = wrapper(sys.executable)
        before = _write(path, content)
        typer.echo(one_line(str(path)))
        if before is None or before == content:
            done = "installed" if before is None else "already installed"
        else:
            done = "installed, and replaces what the file held"
        note(
            in_lines(
                f"The plugin {NAME} {__version__} is {done}. It runs with {sys.executable}. Next steps:",
                f"  1. Run `pulumi plugin ls`, which lists {NAME} {__version__}.",
                f"  2. Declare resources of the type {NAME}:index:CapacityClaim, and run `pulumi preview`.",
            )
        )


def pulumi_home() -> Path:
    """The folder that the engine keeps its plugins in. Raises `CommandError`."""
    if home := os.environ.get("PULUMI_HOME"):
        return Path(home).absolute()
    try:
        return Path.home() / ".pulumi"
    except RuntimeError:
        raise CommandError("there is no home directory; set PULUMI_HOME to the folder of Pulumi") from None


def plugin_path(home: Path, version: str) -> Path:
    """The file that the engine runs as the plugin."""
    suffix = ".cmd" if sys.platform == "win32" else ""
    folder = home / "plugins" / f"resource-{NAME}-v{version}"
    return folder / f"pulumi-resource-{NAME}{suffix}"


def wrapper(python: str) -> bytes:
    """A script that runs the plugin with a Python. Raises `CommandError`.

    `-P` keeps the folder of the Pulumi program, in which the engine starts plugins, off the module path.
    """
    if not python:
        raise CommandError("the path of this Python is not known, so that no plugin can run with it")
    python = os.path.abspath(python)  # noqa: PTH100  # a link may be what makes it a virtual environment
    if sys.platform == "win32":
        return f'@"{python.replace("%", "%%")}" -P -m {_MODULE} %*\r\n'.encode()
    return b"#!/bin/sh\nexec " + os.fsencode(shlex.quote(python)) + f' -P -m {_MODULE} "$@"\n'.encode()


def _write(path: Path, content: bytes) -> bytes | None:
    """Write an executable file as a whole, and return what it held before. Raises `CommandError`."""
    folder = path.parent
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if path.exists() else None
        try:
            part.write_bytes(content)
            part.chmod(0o755)
            part.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
        # Left by an interrupted `pulumi plugin install`; the engine takes it for an unfinished plugin.
        folder.with_name(f"{folder.name}.partial").unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(
            f"the plugin cannot be written to {error.filename2 or error.filename or path}: {error.strerror}",
            "  Next: set PULUMI_HOME to a folder that you may write to, here and for `pulumi`",
        ) from None
    return before
