"""The command line `capacity-claims`. Each command has a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from pulumi_coreweave_inference._version import __version__

from .emulator import emulator
from .import_ import import_
from .list import list_
from .orphans import orphans
from .release import release
from .review.command import review
from .zones import zones

app: typer.Typer = typer.Typer(
    name="capacity-claims",
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
    """Manage CoreWeave capacity claims alongside Pulumi."""


app.command("list")(list_)
app.command()(zones)
app.command("import")(import_)
app.command()(orphans)
app.command()(release)
app.command()(emulator)
app.command()(review)
