"""The commands that control an emulator that runs: its stock, faults, clock and requests."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from coreweave_inference.emulator import EmulatorControl, FaultProfile, RequestRecord, Stock
from coreweave_inference.settings import parse_duration
from pulumi_coreweave_inference.cli.console import CommandError, report_errors, write_json
from pulumi_coreweave_inference.cli.table import write_table

from .remote import RunningEmulator

_EVERY: Final = 0.5  # seconds between two looks at the log


def stock(
    zone: Annotated[str | None, typer.Argument(help="A zone; a new one is added.")] = None,
    counts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TYPE=COUNT", help="A type, and how many instances of it the zone has in total."
        ),
    ] = None,
) -> None:
    """Show or set the instances of each zone.

    A count is the total of a type, allocated instances included. Claims that wait are served at once. Fewer
    instances than are allocated take nothing away from a claim.

    Exit codes: 2 if no emulator responds.

    Example: capacity-claims emulator stock US-WEST-04A gb200-4x=16
    """
    with report_errors():
        wanted = _counts(zone, counts or ())
        running = RunningEmulator()
        if zone is not None:
            running.ask(lambda control: control.set_inventory({zone: wanted}, merge=True))
        _show_stock(running.ask(EmulatorControl.stock))


def faults(
    file: Annotated[
        Path | None,
        typer.Argument(
            exists=True, dir_okay=False, help="Fault rules that replace all others, as JSON or TOML."
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all fault rules.")] = False,
) -> None:
    """Show, replace or clear the fault rules.

    The output is JSON. Its `counts` say how many requests each rule has matched (`met`) and hit (`hit`).

    Exit codes: 2 if a rule is not valid, or no emulator responds.

    Example: capacity-claims emulator faults outage.json
    """
    with report_errors():
        if file is not None and clear:
            raise CommandError("FILE and --clear are mutually exclusive")
        profile = _profile(file) if file is not None else FaultProfile()
        running = RunningEmulator()
        if file is not None or clear:
            running.ask(lambda control: control.set_faults(profile))
        write_json(running.ask(EmulatorControl.faults))


def clock(
    by: Annotated[
        str | None, typer.Argument(metavar="+DURATION", help="How far to move it, such as +30m.")
    ] = None,
) -> None:
    """Show the emulator's time, or move it forward.

    Exit codes: 2 if no emulator responds.

    Example: capacity-claims emulator clock +30m
    """
    with report_errors():
        seconds = _forward(by) if by is not None else 0
        now = RunningEmulator().ask(lambda control: control.advance_clock(seconds))
        typer.echo(f"{datetime.fromtimestamp(now // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}")


def reset() -> None:
    """Restore the start of the emulator.

    Removes all claims and logged requests, and restores the stock and the faults of the start. Requests that
    a rule holds are not answered. The clock and the tokens stay as they are.

    Exit codes: 2 if no emulator responds.
    """
    with report_errors():
        RunningEmulator().ask(EmulatorControl.reset)


def requests(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show further requests, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the requests to the API, oldest first.

    Each with its status, and the fault that was injected.

    Exit codes: 0, also after Ctrl-C; 2 if no emulator responds.
    """
    with report_errors():
        running = RunningEmulator()
        try:
            if follow:
                for record in followed(lambda since: running.ask(lambda control: control.requests(since))):
                    _show_request(record)
            else:
                for record in running.ask(EmulatorControl.requests):
                    _show_request(record)
        except KeyboardInterrupt:
            return


def followed(
    read: Callable[[int], Sequence[RequestRecord]], sleep: Callable[[float], None] = time.sleep
) -> Iterator[RequestRecord]:
    """Each request once it is done, forever. `read` returns the requests after a number."""
    done_up_to, shown = 0, set[int]()
    while True:
        records = read(done_up_to)
        for record in records:
            if record.seconds is not None and record.sequence not in shown:
                shown.add(record.sequence)
                yield record
        still_open = [record.sequence for record in records if record.seconds is None]
        done_up_to = min(still_open) - 1 if still_open else max(shown, default=0)
        shown = {number for number in shown if number >= done_up_to}
        sleep(_EVERY)


def _counts(zone: str | None, texts: Sequence[str]) -> dict[str, int]:
    if zone is not None and not texts:
        raise CommandError(f"which instances of {zone}? Name a type and its total, such as gb200-4x=16")
    counts: dict[str, int] = {}
    for text in texts:
        name, _, count = text.partition("=")
        if not name or not re.fullmatch("[0-9]{1,9}", count):
            raise CommandError(f"{text!r} is not a type and its total: write it as gb200-4x=16")
        if name in counts:
            raise CommandError(f"{name} is given twice")
        counts[name] = int(count)
    return counts


def _profile(file: Path) -> FaultProfile:
    try:
        return FaultProfile.load(file)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _forward(text: str) -> float:
    if not text.startswith("+"):
        raise CommandError(f"the clock only moves forward: write +30m, not {text!r}")
    try:
        return parse_duration(text[1:])
    except ValueError as error:
        raise CommandError(str(error)) from None


def _show_stock(stock: Mapping[str, Mapping[str, Stock]]) -> None:
    rows = [
        (zone, name, str(count.available), str(count.total))
        for zone, types in stock.items()
        for name, count in types.items()
    ]
    write_table(("ZONE", "TYPE", "AVAILABLE", "TOTAL"), rows)


def _show_request(record: RequestRecord) -> None:
    # the record's own text is harmless in a terminal
    sys.stdout.write(f"{datetime.fromtimestamp(record.at):%H:%M:%S}  {record}\n")  # noqa: DTZ006  # for people here
    sys.stdout.flush()
