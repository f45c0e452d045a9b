"""Shows what a program waits for: on each claim's row in a terminal, and in few lines without one.

A terminal cuts off the end of a row, so the numbers come first. A log keeps every line, so it gets one line
for all claims, when something changes or, ever more rarely, to say that nothing has.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

import coreweave_inference as api
from coreweave_inference.settings import format_duration

from .foreign_text import Lines, in_lines
from .secrecy import allocation_of, unless_secret

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim

    from .readiness import Goal

Outcome = Literal["waiting", "ready", "timed_out", "failed"]

EVERY: Final = 15.0  # seconds after which a row is shown again even if nothing changed
FEW: Final = 10  # claims that have a line each at the end, or are named in one line
REASONS: Final = 3  # reasons that one line for all claims names
REPEATS: Final = (60.0, 120.0, 300.0, 600.0)  # seconds after which a log says that nothing has changed
_COARSE: Final = 120.0  # seconds from which a time left is shown in minutes
_SOONEST: Final = 15.0  # seconds between two lines of a log, at first
_LATEST: Final = 120.0  # and in the end
SETTING: Final = "(coreweave:wait)"
"""Only named, and not recommended: without a wait, a pending replacement releases the old claim."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a claim is, for `Readiness(on_progress=…)`. Two are equal if only the times differ."""

    outcome: Outcome
    """"waiting" until the wait ends; then "ready", "failed", or "timed_out"."""
    resource_name: str
    """The name of the resource in the stack."""
    urn: str
    """The resource's URN, which also names the stack."""
    claim_id: str
    """The claim's id at the API."""
    state: str
    """The claim's state, such as `STATUS_CREATING`; empty while the claim is not readable."""
    allocated: int | None
    """Allocated instances; None while the claim is not readable, and if the program declares it secret."""
    requested: int | None
    """Requested instances; None as above."""
    reasons: tuple[str, ...] = ()
    """What the API says about zones with a problem; empty if the claim has a secret. May have control
    characters, as any text of the API."""
    outage: str = ""
    """Why the API cannot be read at the moment."""
    waited: float = field(compare=False)
    """Seconds since the wait began."""
    left: float = field(compare=False)
    """Seconds until it is given up."""


@dataclass(eq=False, kw_only=True)
class Waiting:
    """One claim that the program waits for."""

    goal: Goal
    show: Callable[[Lines], None]
    """Shows a line on the claim's row until the next one."""
    say: Callable[[Lines], None]
    """Shows a line that stays."""
    started: float
    timeout: float
    seen: CapacityClaim | None = None
    warn: Callable[[Lines], None] = lambda _: None
    """Shows a warning."""
    reported: Progress | None = None
    """What the program's own callback has seen last."""
    callback_failed: bool = False

    def left(self, now: float) -> float:
        """The seconds until the wait is given up."""
        return self.started + self.timeout - now


def report(wait: Waiting, outcome: Outcome, now: float, outage: str = "") -> None:
    """Call the program's own callback if there is news; an error of its ends the calls, not the wait."""
    goal, claim = wait.goal, wait.seen
    callback = goal.readiness.on_progress if goal.readiness else None
    if callback is None or wait.callback_failed:
        return
    shows_counts = claim is not None and "instanceCount" not in goal.secrets
    news = Progress(
        outcome=outcome,
        resource_name=goal.resource_name,
        urn=goal.urn or "",
        claim_id=goal.claim_id,
        state=str(claim.state) if claim else "",
        allocated=claim.status.allocated_instances if claim and shows_counts else None,
        requested=claim.resources.instance_count if claim and shows_counts else None,
        reasons=tuple(zone_reasons(claim, goal)) if claim else (),
        outage=outage,
        waited=now - wait.started,
        left=wait.left(now),
    )
    if news == wait.reported:
        return
    wait.reported = news
    try:
        callback(news)
    except Exception as error:  # noqa: BLE001  # whatever it is, the claims must be waited for
        wait.callback_failed = True
        wait.warn(in_lines(f"on_progress failed and is not called again: {type(error).__name__}: {error}"))


class Display(Protocol):
    """Shows waits while they last."""

    def waiting(self, waits: Sequence[Waiting], outage: str, now: float) -> None:
        """After each look: the claims that are not ready yet."""

    def ready(self, wait: Waiting, claim: CapacityClaim, now: float) -> None:
        """A claim is ready."""

    def failed(self, wait: Waiting, headline: str) -> None:
        """A claim cannot become ready. The error follows when no other wait is left."""

    def ended(self, now: float) -> None:
        """No wait is left."""


def attended(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody may watch the display of the engine.

    The engine does not tell a program. Both belong to one session, which has a terminal or has none.
    """
    if environment.get("CI", "").lower() not in ("", "0", "false"):
        return False
    if sys.platform == "win32":
        return True
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def display(
    say: Callable[[Lines], None],
    show: Callable[[Lines], None],
    environment: Mapping[str, str] = os.environ,
) -> Display:
    """How to show waits in this run. Both show a line about all claims; the engine repeats that of `say`."""
    return Rows(say) if attended(environment) else Log(say, SETTING, show)


class Rows:
    """Shows each claim on its own row."""

    def __init__(self, say: Callable[[Lines], None]) -> None:
        self._say = say
        self._shown: dict[Waiting, tuple[str, float]] = {}
        self._ready: list[tuple[Waiting, CapacityClaim, float]] = []

    def waiting(self, waits: Sequence[Waiting], outage: str, now: float) -> None:
        for wait in waits:
            news = progress(wait.seen, wait.goal, None, outage)  # the time left always changes
            before, at = self._shown.get(wait, ("", 0.0))
            if news != before or now - at >= EVERY:
                line = progress(wait.seen, wait.goal, wait.left(now), outage)
                wait.show(in_lines(f"{line} {SETTING}"))
                self._shown[wait] = news, now

    def ready(self, wait: Waiting, claim: CapacityClaim, now: float) -> None:
        if wait in self._shown:
            self._ready.append((wait, claim, now - wait.started))
            wait.show(_ready_line(wait, claim, now - wait.started))

    def failed(self, wait: Waiting, headline: str) -> None:
        wait.show(in_lines(headline))

    def ended(self, now: float) -> None:
        if len(self._ready) <= FEW:
            for wait, claim, seconds in self._ready:
                wait.say(_ready_line(wait, claim, seconds))
        else:
            self._say(in_lines(_all_ready([(wait, claim) for wait, claim, _ in self._ready], now)))
        self._shown, self._ready = {}, []


class Log:
    """Shows all claims in one line, seldom. Each line ends with `setting`, which switches the wait off."""

    def __init__(
        self, say: Callable[[Lines], None], setting: str = "", show: Callable[[Lines], None] | None = None
    ) -> None:
        self._say = say
        self._show = show or say
        self._setting = setting
        self._reset()

    def _reset(self) -> None:
        self._began = 0.0
        self._said_at: float | None = None
        self._said: object = None
        self._repeats = 0
        self._ready: list[tuple[Waiting, CapacityClaim]] = []
        self._told = 0  # of those that are ready
        self._failed: list[str] = []
        self._failures_told = 0

    def waiting(self, waits: Sequence[Waiting], outage: str, now: float) -> None:
        if not waits:
            return
        states = [progress(wait.seen, wait.goal, None) for wait in waits]
        news = (states, outage, len(self._ready), len(self._failed))
        if self._said_at is None:
            self._began, due = now, 0.0
        elif news != self._said:
            due = self._said_at + min(max(_SOONEST, (now - self._began) / 3), _LATEST)
        else:
            due = self._said_at + REPEATS[min(self._repeats, len(REPEATS) - 1)]
        if now < due:
            return
        self._repeats = self._repeats + 1 if news == self._said else 0
        self._said, self._said_at = news, now
        self._show(in_lines(f"{self._line(waits, outage, now)} {self._setting}".rstrip()))
        self._told, self._failures_told = len(self._ready), len(self._failed)

    def ready(self, wait: Waiting, claim: CapacityClaim, now: float) -> None:
        self._ready.append((wait, claim))

    def failed(self, wait: Waiting, headline: str) -> None:
        self._failed.append(wait.goal.resource_name)  # for the next line; in the end, the error names it

    def ended(self, now: float) -> None:
        if self._said_at is not None and self._ready:
            new = [wait.goal.resource_name for wait, _ in self._ready[self._told :]]
            last = f"; the last: {named(new)}" if 0 < len(new) < len(self._ready) else ""
            self._say(in_lines(_all_ready(self._ready, now) + last))
        self._reset()

    def _line(self, waits: Sequence[Waiting], outage: str, now: float) -> str:
        if len(waits) == 1 and not self._ready and not self._failed:
            (wait,) = waits
            return f"{wait.goal.resource_name}: {progress(wait.seen, wait.goal, wait.left(now), outage)}"
        left = max(wait.left(now) for wait in waits)
        instances = _instances([*((wait, wait.seen) for wait in waits), *self._ready])
        parts = [", ".join([f"{len(waits)} waiting", *instances, _left(left)])]
        if failed := self._failed[self._failures_told :]:
            parts.insert(0, f"failed: {named(failed)}")
        if new := self._ready[self._told :]:
            parts.insert(0, f"ready: {named([wait.goal.resource_name for wait, _ in new])}")
        if outage:
            parts.append(outage)
        reasons = Counter(
            reason for wait in waits if wait.seen is not None for reason in zone_reasons(wait.seen, wait.goal)
        )
        parts += [
            f"{reason} ({count} claim{'s' * (count != 1)})" for reason, count in reasons.most_common(REASONS)
        ]
        if len(reasons) > REASONS:
            parts.append(f"and {len(reasons) - REASONS} more reasons")
        return "; ".join(parts)


def progress(claim: CapacityClaim | None, goal: Goal, left: float | None, outage: str = "") -> Lines:
    """One line for a claim: allocated of requested, time left, state, the zones' reasons."""
    time_left = [_left(left)] if left is not None else []
    if claim is None:
        parts = [", ".join(["not readable yet", *time_left])]
    else:
        parts = [", ".join([counts_of(claim, goal), *time_left, claim.state.short])]
    if outage:
        parts.append(outage)
    if claim is not None:
        parts += zone_reasons(claim, goal)
    return in_lines("; ".join(parts))


def zone_reasons(claim: CapacityClaim, goal: Goal) -> list[str]:
    """What the API says about each zone that has a problem, in order of preference.

    Nothing if the claim has a secret: the API's sentences are free text and may say it.
    """
    if goal.secrets:
        return []
    order = {zone: index for index, zone in enumerate(claim.resources.zones)}
    pending = [c for c in claim.status.conditions if c.status != api.ConditionStatus.TRUE]
    pending.sort(key=lambda condition: order.get(condition.zone or "", len(order)))
    return [
        f"{condition.zone or condition.type}: {condition.message or condition.reason}"
        for condition in pending
    ]


def counts_of(claim: CapacityClaim, goal: Goal) -> str:
    """Allocated of requested instances, such as "2/4"."""
    counts = (claim.status.allocated_instances, claim.resources.instance_count)
    return "/".join(unless_secret(count, "instanceCount", goal.secrets) for count in counts)


def instances_of(claims: Sequence[tuple[Goal, CapacityClaim | None]]) -> str:
    """Allocated of requested instances of all claims, such as "50/80"; empty if a count is secret."""
    if any("instanceCount" in goal.secrets for goal, _ in claims):
        return ""
    allocated = sum(claim.status.allocated_instances for _, claim in claims if claim is not None)
    return f"{allocated}/{sum((claim or goal).resources.instance_count for goal, claim in claims)}"


def _instances(claims: Sequence[tuple[Waiting, CapacityClaim | None]]) -> list[str]:
    total = instances_of([(wait.goal, claim) for wait, claim in claims])
    return [f"{total} instances"] if total else []


def _ready_line(wait: Waiting, claim: CapacityClaim, seconds: float) -> Lines:
    allocated = allocation_of(claim, wait.goal.secrets)
    return in_lines(f"{claim.state.short} after {_duration(seconds)}, {allocated} instances")


def _all_ready(ready: Sequence[tuple[Waiting, CapacityClaim]], now: float) -> str:
    seconds = now - min(wait.started for wait, _ in ready)
    who = f"{len(ready)} claims are" if len(ready) != 1 else f"{ready[0][0].goal.resource_name} is"
    return ", ".join([f"{who} ready after {_duration(seconds)}", *_instances(ready)])


def named(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def _duration(seconds: float) -> str:
    return format_duration(max(0, round(seconds)))


def _left(seconds: float) -> str:
    """A time left: in minutes as long as seconds say nothing."""
    whole = round(seconds)
    return f"{_duration(whole - whole % 60 if whole >= _COARSE else whole)} left"
