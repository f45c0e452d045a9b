"""Waiting for claims, in the program: one poller for all claims, progress on each claim's own row.

The wait runs after a claim's state has been written, so whatever happens to it, the claim is not lost:
the next `pulumi up` goes on waiting. It only reads.

    goal ─► Poller.wait ─► look (one LIST for all, GET for what LIST lacks) ─► judge ─► ready
                             ▲                                                  │
                             └────────────── pause, progress ◄──── waiting ◄────┤
                                                                                └─► failed, timed out

`judge` and the texts are pure. The poller is handed its reader, its clock and the place for progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import shlex
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, Protocol

import pulumi

import coreweave_inference as api
from coreweave_inference.errors import (
    ApiError,
    CoreweaveError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from coreweave_inference.settings import format_duration, parse_duration

from .errors import InvalidReadiness, described, labelled, text

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources

PROGRESS_EVERY: Final = 15.0  # seconds without a change after which progress is shown all the same
_GATHER: Final = 0.05  # seconds to let claims come together before the first look
_LULL: Final = (0.4, 1.0)  # seconds in which no claim joins, after which who has joined is looked at
_WHILE_JOINING: Final = (1.0, 8.0)  # seconds between looks as long as claims keep joining
_INSTANT: Final = 0.001  # seconds: no pause is shorter
_PAUSES: Final = (0.5, 1.0, 2.0, 3.0, 5.0)  # seconds between looks; the last one goes on
_NAMED: Final = 10  # claims that the text of an interrupt names, of more it says how many
_REACH_BACK: Final = timedelta(seconds=10)  # how much further a list goes, for claims that join later
_SETTLE: Final = 60.0  # seconds an answer may lag behind what has just been written
_FATAL: Final = (Unauthenticated, PermissionDenied, InvalidArgument)


@dataclass(frozen=True)
class Readiness:
    """When a claim counts as ready, and what to do when it does not become so.

    `timeout`: how long to wait, as a number of seconds, a `timedelta`, or a text such as "45m" or
    "1h30m"; 45 minutes by default, as long as CoreWeave's own provider waits. It counts anew in each
    `pulumi up`. `min_instances`: how many instances must be allocated once the API says READY; by default
    all that are declared. `on_timeout`: when the time is over, "fail" (default) ends the update with an error
    and keeps the claim in the state, "warn" goes on with what is allocated. Raises `InvalidReadiness`.
    """

    timeout: float | str | timedelta = "45m"
    min_instances: int | None = None
    on_timeout: Literal["fail", "warn"] = "fail"

    def __post_init__(self) -> None:
        _ = self.seconds
        minimum = self.min_instances
        if minimum is not None and (isinstance(minimum, bool) or not isinstance(minimum, int)):
            raise InvalidReadiness(f"min_instances must be a whole number, not {minimum!r}")
        if minimum is not None and minimum < 0:
            raise InvalidReadiness(f"min_instances must not be negative, and is {minimum}")
        if self.on_timeout not in ("fail", "warn"):
            raise InvalidReadiness(f'on_timeout must be "fail" or "warn", not {self.on_timeout!r}')

    @property
    def seconds(self) -> float:
        """The timeout in seconds."""
        given = self.timeout
        try:
            return parse_duration(given.total_seconds() if isinstance(given, timedelta) else given)
        except ValueError as error:
            raise InvalidReadiness(f"timeout: {error}") from None


@dataclass(frozen=True)
class Goal:
    """What one claim is waited for. Without `readiness` one look at it is enough."""

    resource_name: str
    claim_id: str
    resources: CapacityClaimResources
    readiness: Readiness | None
    updated_at: str | None = None
    urn: str | None = None

    @property
    def target(self) -> str:
        """The resource's URN, as a POSIX shell takes it."""
        return shlex.quote(self.urn or "URN")

    @property
    def minimum(self) -> int:
        """How many instances must be allocated."""
        minimum = self.readiness.min_instances if self.readiness else None
        return self.resources.instance_count if minimum is None else minimum


class Verdict(enum.Enum):
    """What a look at a claim says."""

    READY = enum.auto()
    WAITING = enum.auto()
    FAILED = enum.auto()


def judge(claim: CapacityClaim, goal: Goal) -> Verdict:
    """Whether a claim is what its goal asks for.

    ERROR is waited through, as the API calls it recoverable, and so is every state not known here.
    """
    if goal.readiness is None:
        return Verdict.READY
    if claim.state == api.ClaimState.FAILED or claim.state == api.ClaimState.DELETING:
        return Verdict.FAILED
    if (
        claim.state == api.ClaimState.READY
        and _same_resources(claim.resources, goal.resources)
        and claim.status.allocated_instances >= goal.minimum
    ):
        return Verdict.READY
    return Verdict.WAITING


def progress(claim: CapacityClaim | None, goal: Goal, left: float | None, trouble: str = "") -> str:
    """One line for the claim's row: state, allocated of requested, time left, zones' reasons.

    A terminal cuts the line off at its right, so that the reasons come last.
    """
    parts = [f"{claim.state.short}, {_allocated(claim)}" if claim is not None else "not readable yet"]
    if left is not None:
        parts[0] += f", {format_duration(max(0, round(left)))} left"
    if trouble:
        parts.append(trouble)
    if claim is not None:
        parts += _zone_reasons(claim)
    return "; ".join(parts)


def not_ready(claim: CapacityClaim | None, goal: Goal, waited: float, trouble: str = "") -> str:
    """The text for a claim that did not become ready: what is there, what is held, what to do."""
    label = labelled(goal.resource_name, goal.claim_id)
    if claim is None:
        return text(
            f"{label} could not be read for {format_duration(round(waited))}.",
            said=[trouble] if trouble else ["the API says that there is no such claim"],
            held="the claim stays in the state, as it was.",
            then=["`pulumi refresh` shows whether it is still there; `pulumi up` goes on waiting"],
        )
    said = [*_zone_reasons(claim), *([trouble] if trouble else [])]
    held = f"the claim stays reserved and in the state: {_allocated(claim)} instances."
    if claim.state == api.ClaimState.DELETING:
        return text(
            f"{label} is being deleted by somebody else.",
            said=said,
            held="it stays in the state until the next refresh.",
            then=["`pulumi refresh` takes note of it, then `pulumi up` makes a new claim"],
        )
    if claim.state == api.ClaimState.FAILED:
        return text(
            f"{label} failed for good: the API reports {claim.state} with "
            f"{_allocated(claim)} instances allocated.",
            said=said,
            held=held,
            then=[
                "change what is declared (instance type or zones), or have it made anew with "
                f"`pulumi up --replace {goal.target}`",
                f"release it with `pulumi destroy --target {goal.target}`",
            ],
        )
    if not _same_resources(claim.resources, goal.resources):
        return text(
            f"{label} is not what is declared: somebody has changed it.",
            said=[
                f"declared: {described(goal.resources)}",
                f"the API holds: {described(claim.resources)}",
            ],
            held=held,
            then=["`pulumi refresh` takes note of the change; then `pulumi up` shows what it would undo"],
        )
    fewer = ", or Readiness(min_instances=…)" if claim.state == api.ClaimState.READY else ""
    enough = f", {goal.minimum} of them asked for" if goal.minimum != goal.resources.instance_count else ""
    return text(
        f"{label} is not ready after {format_duration(round(waited))}: {_allocated(claim)} instances "
        f"allocated{enough} ({claim.state}).",
        said=said,
        held=held,
        then=[
            "run `pulumi up` again to go on waiting, nothing is created twice",
            f"or ask for less: a smaller instance_count{fewer}",
            "or ask elsewhere: in other zones, with a claim that replaces this one",
            f"or give it up: `pulumi destroy --target {goal.target}` releases the claim",
        ],
    )


def interrupted(waits: Iterable[tuple[CapacityClaim | None, Goal]]) -> str:
    """The text for a wait that Ctrl-C has ended: which claims are still held."""
    held = [
        f"{labelled(goal.resource_name, goal.claim_id)}: "
        + (f"{claim.state.short}, {_allocated(claim)}" if claim is not None else "not seen yet")
        for claim, goal in waits
    ]
    more = [f"and {len(held) - _NAMED} more"] if len(held) > _NAMED else []
    return text(
        f"interrupted while waiting for {len(held)} capacity claim{'s' if len(held) != 1 else ''}.",
        said=[*held[:_NAMED], *more],
        held="all of them; they stay reserved and in the state.",
        then=["`pulumi up` goes on waiting; `pulumi destroy` releases them"],
    )


class Reader(Protocol):
    """The calls the poller makes; `AsyncClient.capacity_claims` has them."""

    async def get(self, id: str) -> CapacityClaim: ...
    async def list(self, *, updated_after: str | datetime | None = None) -> list[CapacityClaim]: ...


@dataclass(eq=False)
class _Wait:
    goal: Goal
    show: Callable[[str], None]
    warn: Callable[[str], None]
    started: float
    result: asyncio.Future[CapacityClaim]
    looked_at: bool = False
    seen: CapacityClaim | None = None
    shown: str = ""
    shown_at: float = 0.0
    failure: str = ""
    strange_since: float | None = field(default=None)

    @property
    def timeout(self) -> float:
        return self.goal.readiness.seconds if self.goal.readiness else _SETTLE

    def left(self, now: float) -> float:
        return self.started + self.timeout - now


class Poller:
    """Waits for all claims of a program with one LIST per round.

    A claim that joins does not bring a read with it: an update makes claims one by one for minutes. While
    they keep joining, looks become rarer; once none has joined for a moment, those that have are looked
    at. A claim that joins alone is looked at right away.

    The claims that do not become ready are gathered, and reported in one `pulumi.RunError` when nothing
    is waited for any more: the first error of a program ends it, and with it every other wait.
    """

    def __init__(
        self,
        reader: Callable[[], Reader],
        clock: Callable[[], float],
        pause: Callable[[asyncio.Event, float], Awaitable[None]] | None = None,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._pause = pause or _pause
        self._waits: list[_Wait] = []  # a claim may be waited for by several
        self._joined = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._round = 0  # since a claim has joined
        self._joining_since = self._joined_at = float("-inf")
        self._looked_at = float("-inf")
        self._listed: dict[str, CapacityClaim] = {}  # what the last list of this run has shown
        self._listed_at = 0.0
        self._glances: dict[str, Goal] = {}
        self._glance: asyncio.Task[Mapping[str, CapacityClaim]] | None = None

    async def wait(
        self, goal: Goal, show: Callable[[str], None], warn: Callable[[str], None]
    ) -> CapacityClaim:
        """The claim once it is ready, or once its time is over where that is only a warning."""
        known = self._from_list(goal)
        if known is not None and judge(known, goal) is Verdict.READY:
            return known
        loop = asyncio.get_running_loop()
        wait = _Wait(goal, show, warn, self._clock(), loop.create_future())
        self._waits.append(wait)
        if wait.started - self._joined_at > _PAUSES[-1]:
            self._joining_since = wait.started
        self._joined_at = wait.started
        self._joined.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        return await wait.result

    def _from_list(self, goal: Goal) -> CapacityClaim | None:
        """The claim as an earlier list of this run has shown it, if that is no older than the state."""
        claim = self._listed.get(goal.claim_id)
        if claim is None or self._clock() - self._listed_at > _SETTLE:
            return None
        listed, known = api.parse_timestamp(claim.status.updated_at), api.parse_timestamp(goal.updated_at)
        is_current = listed is not None and known is not None and listed >= known
        return claim if is_current and _same_resources(claim.resources, goal.resources) else None

    async def glance(self, goal: Goal) -> CapacityClaim | None:
        """The claim as it is now, for a preview; None where that cannot be told.

        Claims that ask at the same time share one read. A preview does not fail because of it.
        """
        known = self._from_list(goal)
        if known is not None:
            return known
        self._glances[goal.claim_id] = goal
        while goal.claim_id in self._glances:
            if self._glance is None:
                self._glance = asyncio.get_running_loop().create_task(self._glance_at_all())
            found = await asyncio.shield(self._glance)
            if goal.claim_id in found:
                return found[goal.claim_id]
        return None

    async def _glance_at_all(self) -> Mapping[str, CapacityClaim]:
        await self._pause(asyncio.Event(), _GATHER)
        goals, self._glances, self._glance = list(self._glances.values()), {}, None
        try:
            return await self._read(self._reader(), goals)
        except CoreweaveError as error:
            pulumi.log.debug(f"capacity claims cannot be read in this preview: {error}")
            return {}

    async def _run(self) -> None:
        # Not in a task of its own: between the end of that one and of this one, a claim that joins would
        # not be looked at.
        with _interrupt(self._interrupted):
            await self._rounds()

    async def _rounds(self) -> None:
        try:
            reader = self._reader()
            while self._open():
                await self._until_the_next_look()
                active = self._open()
                self._looked_at = self._clock()
                trouble, fatal = await self._look(reader, active)
                self._round += 1
                for wait in active:
                    wait.looked_at = True
                    self._step(wait, trouble, fatal)
        except Exception as error:  # noqa: BLE001  # every wait must end, whatever happens here
            self._end(error)
        else:
            failures = [wait.failure for wait in self._waits]
            if failures:
                self._end(pulumi.RunError("\n\n".join(failures)))

    def _open(self) -> list[_Wait]:
        return [wait for wait in self._waits if not wait.failure]

    async def _until_the_next_look(self) -> None:
        while True:
            self._joined.clear()
            waits = self._open()
            joined = [wait.started for wait in waits if not wait.looked_at]
            if joined:
                self._round = 0
                since = self._joined_at - self._joining_since
                pause = _within(_WHILE_JOINING, since / 2)
                lull = self._joined_at + _within(_LULL, since / 25)
                due = max(self._looked_at + pause, min(joined) + _GATHER)
                due = min(due, max(self._looked_at + _PAUSES[0], lull))
            else:
                due = self._looked_at + _PAUSES[min(self._round, len(_PAUSES)) - 1]
            end = min(wait.started + wait.timeout for wait in waits)
            seconds = min(due, max(end, self._looked_at + _GATHER)) - self._clock()
            if seconds < _INSTANT:
                return
            await self._pause(self._joined, seconds)

    def _interrupted(self) -> None:
        self._end(pulumi.RunError(interrupted((wait.seen, wait.goal) for wait in self._waits)))
        if self._task is not None:
            self._task.cancel()

    def _end(self, error: Exception) -> None:
        waits, self._waits = self._waits, []
        for wait in waits:
            if not wait.result.done():
                wait.result.set_exception(error)

    async def _look(self, reader: Reader, waits: list[_Wait]) -> tuple[str, str]:
        """Read all claims once; answers a passing trouble, or one that ends every wait."""
        now = self._clock()
        try:
            found = await self._read(reader, [wait.goal for wait in waits])
        except _FATAL as error:
            return "", str(error)
        except CoreweaveError as error:
            for wait in waits:
                wait.strange_since = None  # only what is read twice has been strange for long
            return _trouble(error), ""
        for wait in waits:
            claim = found.get(wait.goal.claim_id)
            wait.seen = claim
            strange = claim is None or (
                claim.state not in (api.ClaimState.FAILED, api.ClaimState.DELETING)
                and not _same_resources(claim.resources, wait.goal.resources)
            )
            if not strange:
                wait.strange_since = None
            elif wait.strange_since is None:
                wait.strange_since = now
        return "", ""

    async def _read(self, reader: Reader, goals: list[Goal]) -> Mapping[str, CapacityClaim]:
        wanted = {goal.claim_id for goal in goals}
        if len(wanted) == 1:
            return await _get(reader, wanted)
        self._listed_at = self._clock()
        listed = await reader.list(updated_after=_since(goals))
        self._listed = {claim.id: claim for claim in listed}
        found = {claim_id: self._listed[claim_id] for claim_id in wanted & self._listed.keys()}
        return found | await _get(reader, sorted(wanted - found.keys()))

    def _step(self, wait: _Wait, trouble: str, fatal: str) -> None:
        now = self._clock()
        goal, claim = wait.goal, wait.seen
        waited = now - wait.started
        if fatal:
            self._fail(wait, not_ready(None, goal, waited, fatal))
            return
        verdict = judge(claim, goal) if claim is not None and not trouble else Verdict.WAITING
        if verdict is Verdict.READY and claim is not None:
            self._done(wait, claim)
        elif verdict is Verdict.FAILED or _strange_for_long(wait, now):
            self._fail(wait, not_ready(claim, goal, waited, trouble))
        elif wait.left(now) <= 0:
            failure = not_ready(claim, goal, waited, trouble)
            lenient = goal.readiness is None or goal.readiness.on_timeout == "warn"
            if lenient and claim is not None:
                wait.warn(failure)
                self._done(wait, claim)
            else:
                self._fail(wait, failure)
        else:
            self._show(wait, trouble, now)

    def _done(self, wait: _Wait, claim: CapacityClaim) -> None:
        if wait.shown:
            wait.show(f"{claim.state.short}, {_allocated(claim)}")
        self._waits.remove(wait)
        wait.result.set_result(claim)

    def _fail(self, wait: _Wait, failure: str) -> None:
        wait.failure = failure
        wait.show(failure.partition("\n")[0])

    def _show(self, wait: _Wait, trouble: str, now: float) -> None:
        news = progress(wait.seen, wait.goal, None, trouble)  # the time left is always another
        if news != wait.shown or now - wait.shown_at >= PROGRESS_EVERY:
            wait.show(progress(wait.seen, wait.goal, wait.left(now), trouble))
            wait.shown, wait.shown_at = news, now


@contextlib.contextmanager
def _interrupt(handler: Callable[[], None]) -> Iterator[None]:
    """Call the handler on SIGINT, as long as this lasts; outside of the main thread there is none."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, handler)
    except (NotImplementedError, RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _within(bounds: tuple[float, float], value: float) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _strange_for_long(wait: _Wait, now: float) -> bool:
    return wait.strange_since is not None and now - wait.strange_since >= _SETTLE


async def _get(reader: Reader, ids: Iterable[str]) -> dict[str, CapacityClaim]:
    found = {}
    for claim_id in ids:
        try:
            found[claim_id] = await reader.get(claim_id)
        except NotFound:
            continue
    return found


async def _pause(joined: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(joined.wait(), seconds)


def _since(goals: Iterable[Goal]) -> datetime | None:
    """What LIST may leave out: claims last changed before all of these, by the server's own clock."""
    times = [api.parse_timestamp(goal.updated_at) for goal in goals]
    known = [time for time in times if time is not None]
    return min(known).astimezone(UTC) - _REACH_BACK if len(known) == len(times) else None


def _same_resources(ours: CapacityClaimResources, theirs: CapacityClaimResources) -> bool:
    return ours.to_wire() == theirs.to_wire()


def _allocated(claim: CapacityClaim) -> str:
    resources = claim.resources
    return f"{claim.status.allocated_instances} of {resources.instance_count} {resources.instance_id}"


def _zone_reasons(claim: CapacityClaim) -> list[str]:
    """What the API says of each zone that is not fine, in the order of preference."""
    order = {zone: index for index, zone in enumerate(claim.resources.zones)}
    pending = [c for c in claim.status.conditions if c.status != api.ConditionStatus.TRUE]
    pending.sort(key=lambda condition: order.get(condition.zone or "", len(order)))
    return [
        f"{condition.zone or condition.type}: {condition.message or condition.reason}"
        for condition in pending
    ]


def _trouble(error: CoreweaveError) -> str:
    if isinstance(error, ApiError):
        return f"the API cannot be asked at present ({error.code}: {error.message})"
    return f"the API cannot be asked at present ({error})"
