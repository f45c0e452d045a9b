"""`capacity-claims emulator`: run the emulator of the API until Ctrl-C."""

from __future__ import annotations

import errno
import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from coreweave_inference.emulator import Emulator, EmulatorSettings, FaultProfile, load_inventory, serve
from coreweave_inference.emulator.settings import is_loopback
from pulumi_coreweave_inference.cli.console import EXIT_ERROR, CommandError, note, report_errors

from . import control
from .remote import CONTROL_VARIABLE

_PORT_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
TOKEN_VARIABLE = "COREWEAVE_EMULATOR_TOKEN"  # a name, not a token
_DEFAULT_HOST = "127.0.0.1"
_TOKENS = {"token": TOKEN_VARIABLE, "control_token": CONTROL_VARIABLE}

app: typer.Typer = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def emulator(
    context: typer.Context,
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
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ANSWER",
            help="Answer an open question about the API; repeatable. `emulator variants` lists them.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Any but a loopback address is reachable from the network, over "
            "plain http.",
        ),
    ] = _DEFAULT_HOST,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Accept requests to this host name, besides loopback addresses; repeatable.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not log requests to stderr.")] = False,
) -> None:
    """Run an emulator of CoreWeave's capacity claims API. Its GPUs are not real.

    Prints the variables to export and the address of its web page, then each request. The tokens are random
    unless the environment variables COREWEAVE_EMULATOR_TOKEN and COREWEAVE_EMULATOR_CONTROL_TOKEN set them.

    The commands below control an emulator that runs. They find it by the exported variables
    COREWEAVE_API_ENDPOINT and COREWEAVE_EMULATOR_CONTROL_TOKEN.

    Exit codes: 0 after Ctrl-C; 2 if the port is not available or a file cannot be read.

    Example: capacity-claims emulator --port 8080 --allocation-delay 30 --state claims.db
    """
    if context.invoked_subcommand is not None:
        with report_errors():
            _refuse_options(context)
        return
    given: dict[str, Any] = {
        name: token for name, variable in _TOKENS.items() if (token := os.environ.get(variable))
    }
    try:
        if variant:
            from coreweave_inference.emulator.variants import parse_variants  # slow to import

            given |= parse_variants(variant)
        settings = EmulatorSettings(
            port=port,
            allocation_delay=allocation_delay,
            allocation_spread=allocation_spread,
            delete_delay=delete_delay,
            inventory=load_inventory(inventory) if inventory else None,
            state=state,
            host=host,
            allowed_hosts=frozenset(allowed_host or ()),
            **given,
        )
        rules = FaultProfile.load(faults) if faults else ()
        with _requests_shown(wanted=not quiet):
            serve(settings, faults=rules, started=_announce)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        where = f"{_place(host, port)}: " if error.errno in _PORT_ERRORS else ""
        where = where or (f"{error.filename}: " if error.filename else "")
        note(f"capacity-claims emulator: {where}{reason}")
        raise typer.Exit(EXIT_ERROR) from None
    except ValueError as error:
        note(f"capacity-claims emulator: {error}")
        raise typer.Exit(EXIT_ERROR) from None


app.command()(control.stock)
app.command()(control.faults)
app.command()(control.clock)
app.command()(control.reset)
app.command()(control.requests)


@app.command()
def variants() -> None:
    """List the open questions about the API.

    Each with the answer that the emulator gives, the answers that `--variant NAME=ANSWER` can choose instead,
    and what they mean.
    """
    from coreweave_inference.emulator.variants import VARIANTS  # slow to import

    for one in VARIANTS.values():
        typer.echo(f"{one.name}={one.default}    [{one.answers}]\n  {one.question}\n")


def _refuse_options(context: typer.Context) -> None:
    """The options say how an emulator starts; a command for one that runs would ignore them."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name != "DEFAULT":
            option = parameter.opts[0]
            raise CommandError(
                f"{option} is for starting an emulator, not for `{context.invoked_subcommand}`"
            )


def _place(host: str, port: int) -> str:
    return f"port {port}" if host == _DEFAULT_HOST else f"{host}, port {port}"


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
    host = running.settings.host
    if not is_loopback(host):
        note(
            f"WARNING: this emulator listens on {host}. It can be reached from the network, over plain http: "
            "whoever sees a request has its token."
        )
    if not is_loopback(urlsplit(running.url).hostname or ""):
        note(f"WARNING: clients refuse {running.url}: they send no token over http, except to this machine.")
    exported = running.environment() | {CONTROL_VARIABLE: running.admin_token}
    typer.echo(f"Emulator of CoreWeave's inference API at {running.url}. Its GPUs are not real.")
    typer.echo("Run these lines in the shell that runs pulumi:\n")
    for name, value in exported.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f"\nSee and control it at {running.url}/ (sign in with {CONTROL_VARIABLE}).")
    typer.echo("Press Ctrl-C to stop.")
