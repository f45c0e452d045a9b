"""The command line `capacity-claims`. Each command has a module of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.foreign_text import one_line

from .console import EXIT_ERROR, EXIT_INTERNAL, note
from .doctor import doctor
from .emulator.command import app as emulator
from .get import get
from .import_ import import_
from .list import list_
from .orphans import orphans
from .plugin import app as plugin
from .release import release
from .review.command import review
from .wait import wait
from .watch import watch
from .zones import zones

_MOST_FRAMES: Final = 4


class _Commands(TyperGroup):
    """The commands, with an exit code of its own for a fault of this program."""

    def main(self, *args: Any, **named: Any) -> Any:
        """Run the command line until its output is written. A full disk or a closed pipe is one line."""
        try:
            try:
                return super().main(*args, **named)
            finally:
                sys.stdout.flush()
        except OSError as error:
            _machine(error)
            # Python flushes the stream once more at its end, and would print a traceback of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_ERROR)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            _make_harmless(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run a command. No exception ends in a traceback, whose exit code would mean a finding."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            _machine(error)
            raise typer.Exit(EXIT_ERROR) from None
        except Exception as error:
            # The command line's own ways out: usage errors, an exit code, an interrupted prompt.
            if type(error).__module__.startswith(("click.", "typer.")):
                _make_harmless(error)
                raise
            raise _internal(error) from None


def _make_harmless(error: Any) -> None:
    """A usage error quotes arguments, which may hold anything. Typer has classes of its own for these."""
    if isinstance(getattr(error, "message", None), str):
        error.message = one_line(error.message)


def _machine(error: OSError) -> None:
    """Say what this machine prevents."""
    if error.errno == errno.EPIPE:  # whoever read the output has what it wanted
        return
    reason = os.strerror(error.errno) if error.errno else str(error)
    where = f"{error.filename}: " if error.filename else ""
    with contextlib.suppress(OSError):
        note(f"capacity-claims: {where}{reason}")


def _internal(error: Exception) -> typer.Exit:
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    where = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    note(f"capacity-claims: internal error: {type(error).__name__}: {error} ({where})")
    note("  Next: this is a fault of capacity-claims; report it with the line above")
    return typer.Exit(EXIT_INTERNAL)


app: typer.Typer = typer.Typer(
    name="capacity-claims",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"capacity-claims {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Manage CoreWeave capacity claims alongside Pulumi.

    Exit code 70 of any command means a fault of the command itself.
    """


app.command("list")(list_)
app.command()(get)
app.command()(wait)
app.command()(watch)
app.command()(zones)
app.command("import")(import_)
app.command()(orphans)
app.command()(release)
app.command()(review)
app.command()(doctor)
app.add_typer(plugin, name="plugin")
app.add_typer(emulator, name="emulator")
