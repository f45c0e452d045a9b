"""`capacity-claims emulator`: run the emulator of the API until Ctrl-C."""

from __future__ import annotations

import errno
import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from coreweave_inference.emulator import Emulator, EmulatorSettings, FaultProfile, load_inventory, serve

from .console import EXIT_ERROR, note

_PORT_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
TOKEN_VARIABLE = "COREWEAVE_EMULATOR_TOKEN"  # a name, not a token


def emulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 chooses a free one.")] = 0,
    allocation_delay: Annotated[
        float, typer.Option(min=0, help="Seconds until a claim gets its first instance.")
    ] = 3,
    allocation_spread: Annotated[
        float, typer.Option(min=0, help="Seconds between instances; 0 allocates all at once.")
    ] = 0,
    delete_delay: Annotated[float, typer.Option(min=0, help="Seconds until a deleted claim is gone.")] = 1,
    inventory: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Available instances, as JSON or TOML: {zone: {instance type: count}}.",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="SQLite file that stores the claims; the default is memory."),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Initial fault rules, as JSON or TOML."),
    ] = None,
    zones_shown: Annotated[
        Literal["sent", "sorted"], typer.Option(help="The order in which claims show their zones.")
    ] = "sent",
    capacity_type_shown: Annotated[
        Literal["sent", "unspecified", "customer"],
        typer.Option(help="The capacity type that claims show."),
    ] = "sent",
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not log requests to stderr.")] = False,
) -> None:
    """Run an emulator of CoreWeave's capacity claims API. Its GPUs are not real.

    Listens on 127.0.0.1 only, and prints the variables to export, then each request. The token is random
    unless the environment variable COREWEAVE_EMULATOR_TOKEN sets one.

    Exit codes: 0 after Ctrl-C; 2 if the port is not available or a file cannot be read.

    Example: capacity-claims emulator --port 8080 --allocation-delay 30 --state claims.db
    """
    given: dict[str, Any] = {}
    if token := os.environ.get(TOKEN_VARIABLE):
        given["token"] = token
    try:
        settings = EmulatorSettings(
            port=port,
            allocation_delay=allocation_delay,
            allocation_spread=allocation_spread,
            delete_delay=delete_delay,
            inventory=load_inventory(inventory) if inventory else None,
            state=state,
            zones_shown=zones_shown,
            capacity_type_shown=capacity_type_shown,
            **given,
        )
        rules = FaultProfile.load(faults) if faults else ()
        with _requests_shown(wanted=not quiet):
            serve(settings, faults=rules, started=_announce)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        where = f"port {port}: " if error.errno in _PORT_ERRORS else ""
        where = where or (f"{error.filename}: " if error.filename else "")
        note(f"capacity-claims emulator: {where}{reason}")
        raise typer.Exit(EXIT_ERROR) from None
    except ValueError as error:
        note(f"capacity-claims emulator: {error}")
        raise typer.Exit(EXIT_ERROR) from None


@contextmanager
def _requests_shown(*, wanted: bool) -> Iterator[None]:
    logger = logging.getLogger("coreweave_inference.emulator")
    level = logger.level
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.levelno == logging.INFO)  # _announce repeats the warning
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if wanted else logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _announce(running: Emulator) -> None:
    typer.echo(f"Emulator of CoreWeave's inference API at {running.url}. Its GPUs are not real.")
    typer.echo("Run these lines in the shell that runs pulumi:\n")
    for name, value in running.environment().items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo("\nPress Ctrl-C to stop.")
