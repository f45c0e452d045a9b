"""The command line `capacity-claims`. Each command has a module of its own."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from pulumi_coreweave_inference._version import __version__

from .console import EXIT_ERROR, EXIT_INTERNAL, note
from .emulator import emulator
from .import_ import import_
from .list import list_
from .orphans import orphans
from .release import release
from .review.command import review
from .zones import zones

_MOST_FRAMES: Final = 4


class _Commands(TyperGroup):
    """The commands, with an exit code of its own for a fault of this program."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. No exception ends in a traceback, whose exit code would mean a finding."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has what it wanted
                raise typer.Exit(EXIT_ERROR) from None
            raise _internal(error) from None
        except Exception as error:
            # The command line's own ways out: usage errors, an exit code, an interrupted prompt.
            if type(error).__module__.startswith(("click.", "typer.")):
                raise
            raise _internal(error) from None


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
    add_completion=False,
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
app.command()(zones)
app.command("import")(import_)
app.command()(orphans)
app.command()(release)
app.command()(emulator)
app.command()(review)
