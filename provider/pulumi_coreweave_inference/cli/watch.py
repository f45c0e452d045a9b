"""`capacity-claims watch`: all claims on one screen, kept up to date."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from coreweave_inference import CapacityClaim, Client, CoreweaveError, parse_timestamp
from pulumi_coreweave_inference.foreign_text import Lines, in_lines
from pulumi_coreweave_inference.readiness import FATAL

from .console import CommandError, by_name, connected, plural, report_errors
from .list import select
from .pulumi_state import AllStacks, StackNames, StateFiles, read_stacks
from .table import age, allocation, failing_conditions, fitted
from .wait import ONE_LOOK

TITLES: Final = ("NAME", "ALLOCATED", "TIMELINE", "STATE", "SINCE", "TYPE", "CONDITIONS")
DROPPED: Final = ("CONDITIONS", "TYPE", "SINCE", "TIMELINE")  # in a narrow terminal, in this order
NO_TERMINAL: Final = (
    "watch needs a terminal that can move its cursor; `capacity-claims wait` and `list` work without"
)
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_LOOKS: Final = 20  # that a timeline shows


def watch(
    name: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Show only claims with these names; * and ? are wildcards."),
    ] = None,
    state: StateFiles = None,
    stack: StackNames = None,
    all_stacks: AllStacks = False,
    every: Annotated[
        float, typer.Option(min=1, max=86_400, metavar="SECONDS", help="Time between two looks.")
    ] = 5,
) -> None:
    """Watch claims on one screen, until Ctrl-C.

    TIMELINE shows the allocated share of the last looks, SINCE for how long nothing has changed. With a
    stack, only the claims that it manages are shown.

    Exit codes: 0 after Ctrl-C; 2 if there is no terminal, or the API refuses the request.

    Example: capacity-claims watch --stack prod
    """
    with report_errors():
        if not sys.stdout.isatty():
            raise CommandError(NO_TERMINAL)
        stacks = read_stacks(state or (), stack or (), all_stacks)
        ids = {entry.claim_id for one in stacks for entry in one.entries} if stacks else None
        with connected() as (client, _):
            try:
                show_forever(looks(client, name or (), ids), every)
            except KeyboardInterrupt:
                return


@dataclass
class History:
    """What has been seen of the claims: shares of the instances, and when something last changed."""

    shares: dict[str, deque[float]] = field(default_factory=dict)
    seen: dict[str, tuple[object, datetime]] = field(default_factory=dict)

    def add(self, claim: CapacityClaim, now: datetime) -> None:
        """Note what a look has shown of a claim."""
        wanted, allocated = claim.resources.instance_count, claim.status.allocated_instances
        share = min(1.0, allocated / wanted) if wanted else 1.0
        self.shares.setdefault(claim.id, deque(maxlen=_LOOKS)).append(share)
        state = (claim.status.status, allocated, wanted)
        if claim.id not in self.seen:
            self.seen[claim.id] = state, _moment(claim) or now
        elif self.seen[claim.id][0] != state:
            self.seen[claim.id] = state, now

    def timeline(self, claim_id: str) -> str:
        """The shares as a row of bars, the last look at the end."""
        top = len(_LEVELS) - 1
        return "".join(_LEVELS[int(share * top)] for share in self.shares.get(claim_id, ()))

    def since(self, claim_id: str, now: datetime) -> str:
        """For how long nothing has changed, as an age."""
        return age(self.seen[claim_id][1].isoformat(), now)


@dataclass(frozen=True)
class Look:
    """What one look has shown. After an outage: the claims of the last look, and what is wrong."""

    claims: Sequence[CapacityClaim]
    outage: str = ""


def looks(client: Client, names: Sequence[str], ids: Collection[str] | None) -> Iterator[Look]:
    """A look at the chosen claims each time. Raises the errors that looking again does not help against."""
    chosen: list[CapacityClaim] = []
    while True:
        try:
            listed = client.capacity_claims.list(retry=ONE_LOOK)
        except FATAL:
            raise
        except CoreweaveError as error:
            yield Look(chosen, f"the API does not respond at the moment: {error}")
            continue
        claims = [claim for claim in listed if ids is None or claim.id in ids]
        claims.sort(key=by_name)
        chosen = select(claims, states=(), types=(), zones=(), names=names)
        yield Look(chosen)


def show_forever(
    all_looks: Iterator[Look], every: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Show each look in place of the one before, on a screen of its own."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    history = History()
    console = Console()
    if console.is_dumb_terminal:
        raise CommandError(NO_TERMINAL)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for look in all_looks:
            now = datetime.now(UTC)
            for claim in look.claims:
                history.add(claim, now)
            size = shutil.get_terminal_size()
            text = screen(look, history, now, every, size.columns, size.lines)
            live.update(Text(text, no_wrap=True, overflow="crop"), refresh=True)
            sleep(every)


def screen(look: Look, history: History, now: datetime, every: float, columns: int, lines: int) -> Lines:
    """The screen for one look, at most so large."""
    allocated = sum(claim.status.allocated_instances for claim in look.claims)
    wanted = sum(claim.resources.instance_count for claim in look.claims)
    head = f"{plural(len(look.claims), 'claim')}, {allocated}/{wanted} instances allocated"
    head += f"   {now:%H:%M:%S} UTC, every {every:g} s, Ctrl-C ends"
    rows = [
        (
            claim.name,
            allocation(claim),
            history.timeline(claim.id),
            claim.state.short,
            history.since(claim.id, now),
            claim.resources.instance_id,
            failing_conditions(claim),
        )
        for claim in look.claims
    ]
    table, _ = fitted(TITLES, rows, DROPPED, columns)
    shown = [head, *([look.outage] if look.outage else []), "", *table.splitlines()]
    if len(shown) > lines:
        more = len(shown) - lines + 1
        shown = [*shown[: lines - 1], f"… and {more} more lines: name claims, or enlarge the terminal"]
    return in_lines(*(line[:columns] for line in shown))


def _moment(claim: CapacityClaim) -> datetime | None:
    return parse_timestamp(claim.status.updated_at or claim.status.created_at)
