"""Waiting for claims in the program: one poller for all claims, progress on each claim's own row.

The wait begins after the claim is in the state, so whatever happens to the wait, the claim is not lost: the
next `pulumi up` keeps waiting. Waiting only reads.

    goal ─► Poller.wait ─► look (one LIST for all, GET for what LIST lacks) ─► judge ─► ready
                             ▲                                                  │
                             └────────────── pause, progress ◄──── waiting ◄────┤
                                                                                └─► failed, timed out

`judge` and the texts are pure. The poller gets its reader, its clock and its progress callbacks as arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
import shlex
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Final, Literal, Protocol

import pulumi

import coreweave_inference as api
from coreweave_inference.errors import (
    ApiError,
    CoreweaveError,
    InvalidArgument,
    InvalidSetting,
    MissingToken,
    NotFound,
    PermissionDenied,
    RequestTimedOut,
    Unauthenticated,
    UntrustedCertificate,
)
from coreweave_inference.settings import format_duration, parse_duration

from .errors import SLOW_API, ClaimError, InvalidReadiness, api_failure, labelled, lookup_failure, text
from .foreign_text import Lines, paragraphs, shown
from .identity import Declaration, has_default_name, is_made_by, key_of
from .inputs import differing
from .progress import Display, Progress, Rows, Waiting, counts_of, instances_of, named, report, zone_reasons
from .reads import MAXIMUM_AGE, reaching_back_to
from .rounds import FIRST_LOOK, SETTLED, Rounds
from .secrecy import allocation_of, described, held_resources, unless_secret, without_words
from .settings import Settings

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources

_INSTANT: Final = 0.001  # seconds; shorter pauses are skipped
_NAMED: Final = 10  # claims that a text names; it counts the others
_ROWS: Final = 40  # claims that the table of such a text has
_APART: Final = 3  # claims that are not ready in time and have a text each; more share one
OUTPUTS_LOST: Final = (
    'If Pulumi lists outputs as removed ("- name"), nothing was released: the program ended before they were '
    "known."
)
FATAL: Final = (
    MissingToken,
    Unauthenticated,
    PermissionDenied,
    InvalidArgument,
    InvalidSetting,
    UntrustedCertificate,
)
"""Errors that end a wait at once: looking again would not help."""


@dataclass(frozen=True)
class Readiness:
    """When a claim counts as ready, and what happens if it does not become ready in time.

    `timeout`: how long to wait, as a number of seconds, a `timedelta`, or a text such as "45m" or "1h30m".
    The default is 45 minutes, as long as CoreWeave's own provider waits. It starts again in each `pulumi up`.
    `min_instances`: how many instances must be allocated once the API says READY; by default all that are
    declared. `on_timeout`: after the timeout, "fail" (default) ends the update with an error and keeps the
    claim in the state, "warn" continues with what is allocated. `on_progress`: a function of the program that
    is called in its event loop when something about the wait changes, other than the time, and when it ends.
    Raises `InvalidReadiness`.
    """

    timeout: float | str | timedelta = "45m"
    min_instances: int | None = None
    on_timeout: Literal["fail", "warn"] = "fail"
    on_progress: Callable[[Progress], object] | None = None

    def __post_init__(self) -> None:
        _ = self.seconds
        minimum = self.min_instances
        if minimum is not None and (isinstance(minimum, bool) or not isinstance(minimum, int)):
            raise InvalidReadiness(f"min_instances must be a whole number, not {minimum!r}")
        if minimum is not None and minimum < 0:
            raise InvalidReadiness(f"min_instances must not be negative, but is {minimum}")
        if self.on_timeout not in ("fail", "warn"):
            raise InvalidReadiness(f'on_timeout must be "fail" or "warn", not {self.on_timeout!r}')
        called: object = self.on_progress
        if called is not None and (not callable(called) or inspect.iscoroutinefunction(called)):
            raise InvalidReadiness(f"on_progress must be a plain function of one argument, not {called!r}")

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
    """One claim to wait for. Without `readiness`, a single read is enough.

    `ignored`: the fields of `resources` that the program's `ignore_changes` leaves to somebody else, as
    `CapacityClaimResources` spells them. They may have any value. `takes_part`: whether the current run of
    the engine includes the claim; if not, the claim need not exist. `secrets`: the inputs that no text shows.
    `key`: of the declaration, if it is not that of the URN.
    """

    resource_name: str
    claim_id: str
    resources: CapacityClaimResources
    readiness: Readiness | None
    updated_at: str | None = None
    urn: str | None = None
    key: str | None = None
    namespace: str | None = None
    ignored: frozenset[str] = frozenset()
    takes_part: bool = True
    secrets: frozenset[str] = frozenset()

    @property
    def target(self) -> str:
        """The resource's URN, quoted for a POSIX shell."""
        return shlex.quote(self.urn or "URN")

    def matches(self, claim: CapacityClaim) -> bool:
        """Whether a claim has the declared resources."""
        theirs = {name: getattr(claim.resources, name) for name in self.ignored}
        return _same_resources(claim.resources, self.resources.model_copy(update=theirs))

    def minimum(self, claim: CapacityClaim) -> int:
        """How many instances must be allocated."""
        minimum = self.readiness.min_instances if self.readiness else None
        return claim.resources.instance_count if minimum is None else minimum

    def declaration_of(self, claim: CapacityClaim) -> Declaration | None:
        """What this claim's resource declared when it made another claim; None if it did not make it."""
        if not self.namespace or not self.urn:
            return None
        declaration = Declaration(self.namespace, self.key or key_of(self.urn), self.resources)
        return declaration.as_made(claim, anywhere=True)


class Verdict(enum.Enum):
    """What a claim is, compared with its goal."""

    READY = enum.auto()
    WAITING = enum.auto()
    FAILED = enum.auto()


def judge(claim: CapacityClaim, goal: Goal) -> Verdict:
    """Compare a claim with its goal.

    The wait continues in ERROR, which the API calls recoverable, and in states unknown to this version.
    """
    if goal.readiness is None:
        return Verdict.READY
    if claim.state == api.ClaimState.FAILED or claim.state == api.ClaimState.DELETING:
        return Verdict.FAILED
    if (
        claim.state == api.ClaimState.READY
        and goal.matches(claim)
        and claim.status.allocated_instances >= goal.minimum(claim)
    ):
        return Verdict.READY
    return Verdict.WAITING


def not_ready(
    claim: CapacityClaim | None,
    goal: Goal,
    waited: float,
    outage: str = "",
    others: Sequence[CapacityClaim] | None = (),
) -> Lines:
    """The text for a claim that did not become ready: what exists, what is still reserved, what to do.

    `others`: the other claims of the stack that this run has not looked at, among them those that are kept
    until this one is ready; None if they cannot be read. A replaced claim that the stack has imported is
    never among them. No text here names a command that would release it: `pulumi destroy --target` would.
    """
    label = labelled(goal.resource_name, goal.claim_id)
    if claim is None and outage:
        return text(
            f"{label} could not be read for {format_duration(round(waited))}.",
            said=[outage],
            held="the claim, as far as we know; it stays in the state.",
            then=["run `pulumi up` again when the API responds; nothing is created twice"],
        )
    if claim is None:
        return text(
            f"{label} is in the state, but no longer exists: the API does not find it.",
            held="nothing of it, according to the API.",
            then=["run `pulumi refresh` to remove it from the state, then `pulumi up` to create a new claim"],
        )
    said = [*zone_reasons(claim, goal), *([outage] if outage else [])]
    allocated = allocation_of(claim, goal.secrets)
    earlier = [other for other in others or () if goal.declaration_of(other) is not None]
    back = _way_back(claim, goal, earlier, others)
    held = [f"{allocated} instances; the claim stays in the state.", *_held_besides(goal, earlier, others)]
    if claim.state == api.ClaimState.DELETING:
        return text(
            f"{label} is being deleted outside of Pulumi.",
            said=said,
            held="its instances, until the deletion completes; the claim stays in the state.",
            then=["run `pulumi refresh` to record it, then `pulumi up` to create a new claim"],
        )
    if claim.state == api.ClaimState.FAILED:
        return text(
            f"{label} failed: the API reports {claim.state}, which is final, with {allocated} "
            "instances allocated.",
            said=said,
            held=held,
            then=[
                "change the declaration (instance type or zones), or create the claim again with "
                f"`pulumi up --replace {goal.target}`",
                back,
            ],
        )
    if not goal.matches(claim):
        only_count = replace(goal, ignored=goal.ignored | {"instance_count"}).matches(claim)
        ignoring = 'ResourceOptions(ignore_changes=["resources.instanceCount"])'
        return text(
            f"{label} differs from the declaration: it was changed outside of Pulumi.",
            said=[
                f"declared:      {described(goal.resources, goal.secrets)}",
                f"the API holds: {described(claim.resources, goal.secrets)}",
            ],
            held=held,
            then=[
                "run `pulumi refresh` to record the change, then `pulumi preview` to see how to undo it",
                *([f"or leave the count to whatever has changed it: {ignoring}"] if only_count else []),
            ],
        )
    fewer = ", or Readiness(min_instances=…)" if claim.state == api.ClaimState.READY else ""
    ends = [
        back,
        *([_without_wait(goal, earlier, others)] if goal.urn else []),
    ]  # a lookup has no such setting
    minimum = goal.minimum(claim)
    is_said = minimum != claim.resources.instance_count and not goal.secrets & {"instanceCount", "readiness"}
    enough = f", {minimum} of them required" if is_said else ""
    return text(
        f"{label} is not ready after {format_duration(round(waited))}: {allocated} instances "
        f"allocated{enough} ({claim.state}).",
        said=said,
        held=held,
        then=[
            "run `pulumi up` again to keep waiting; nothing is created twice",
            f"or accept fewer instances: lower instance_count{fewer}",
            "or change the zones, which replaces the claim",
            *([] if goal.readiness and goal.readiness.on_timeout == "warn" else ends),
        ],
    )


def not_ready_together(
    failed: Sequence[tuple[CapacityClaim, Goal, float]],
    others: Sequence[CapacityClaim] | None = (),
    outage: str = "",
) -> Lines:
    """The text for many claims that did not become ready in time: what they have in common is said once."""
    times = [seconds for _, _, seconds in failed]
    after = f"after {format_duration(round(max(times)))}"
    if round(min(times)) != round(max(times)):
        after = f"after {format_duration(round(min(times)))} to {format_duration(round(max(times)))}"
    total = instances_of([(goal, claim) for claim, goal, _ in failed])
    rows = [
        [goal.resource_name, counts_of(claim, goal), claim.state.short, f"id {claim.id}"]
        for claim, goal, _ in failed
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    reasons = Counter(reason for claim, goal, _ in failed for reason in zone_reasons(claim, goal))
    held, keeps = ["all of them; they stay in the state."], others is None or bool(others)
    for other in others or ():
        makers = [goal for _, goal, _ in failed if goal.declaration_of(other) is not None]
        why = "which one of them may replace" if makers else "which this run has not looked at"
        secrets = frozenset[str]().union(*(goal.secrets for _, goal, _ in failed))
        name = unless_secret(other.name, "name", secrets)
        held.append(f"'{name}' (id {other.id}), {why}: {held_resources(other, secrets)}.")
    if len(held) > _NAMED + 1:
        held = [*held[: _NAMED + 1], f"{len(held) - _NAMED - 1} more claims of this stack."]
    if others is None:
        held.append("The claims that they replace, if any, too: the list of claims cannot be read.")
    return text(
        f"{len(failed)} capacity claims are not ready {after}: {total or 'not all'} instances allocated.",
        said=[
            *("  ".join([*map(str.ljust, row, widths), row[3]]) for row in rows[:_ROWS]),
            *([f"and {len(rows) - _ROWS} more"] if len(rows) > _ROWS else []),
            *(f"{reason} ({count} of them)" for reason, count in reasons.most_common(_NAMED)),
            *([outage] if outage else []),
        ],
        held=held,
        then=[
            "run `pulumi up` again to keep waiting; nothing is created twice",
            "or accept fewer instances: lower instance_count, or Readiness(min_instances=…)",
            "or change the zones, which replaces the claims",
            "or give up: return to the earlier declaration, or remove the claims from the program; `pulumi "
            "preview` shows what that keeps and releases",
            "but keep coreweave:wait at true: without the wait, `pulumi up` releases the claims that these "
            "replace"
            if keeps
            else "or set coreweave:wait to false, which does not wait and releases the claims that these "
            "replace, if any",
        ],
    )


def _held_besides(
    goal: Goal, earlier: Sequence[CapacityClaim], others: Sequence[CapacityClaim] | None
) -> list[str]:
    if others is None:
        return ["The claim that it replaces, if any, is reserved too: the list of claims cannot be read."]
    named = earlier or others
    why = "which it may replace" if earlier else "which this run has not looked at"
    lines = [
        f"{_name_of(other, goal)} (id {other.id}), {why}: {held_resources(other, goal.secrets)}."
        for other in named[:_NAMED]
    ]
    return [*lines, *([f"{len(named) - _NAMED} more claims of this stack."] if len(named) > _NAMED else [])]


def _without_wait(
    goal: Goal, earlier: Sequence[CapacityClaim], others: Sequence[CapacityClaim] | None
) -> str:
    """What the setting that switches waits off would do; advice only where nothing may be pending."""
    released = _name_of(earlier[0], goal) if earlier else "the claim that this one replaces, if any"
    if others or others is None:
        return f"but keep coreweave:wait at true: without the wait, `pulumi up` releases {released}"
    return f"or set coreweave:wait to false, which does not wait and releases {released}"


def _name_of(claim: CapacityClaim, goal: Goal) -> str:
    return f"'{unless_secret(claim.name, 'name', goal.secrets)}'"


def _way_back(
    claim: CapacityClaim,
    goal: Goal,
    earlier: Sequence[CapacityClaim],
    others: Sequence[CapacityClaim] | None,
) -> str:
    """How to give up without losing the claim that is being replaced."""
    made = goal.declaration_of(earlier[0]) if earlier else None
    if made is not None:
        name = ", no name" if claim.name and not has_default_name(claim) else ""
        if made.name:
            name = f", name {_name_of(earlier[0], goal)}"
        return (
            f"or give up: declare what {_name_of(earlier[0], goal)} has "
            f"({described(made.resources, goal.secrets)}{name}) and run `pulumi up`, which keeps that claim "
            "and releases this one"
        )
    if others or others is None:
        return (
            "or give up: return to the earlier declaration, or remove the claim from the program if there is "
            "none; `pulumi preview` shows what that keeps and releases"
        )
    return "or give up: remove the claim from the program; `pulumi preview` shows what that releases"


def interrupted(waits: Iterable[tuple[CapacityClaim | None, Goal]], lost: str = OUTPUTS_LOST) -> Lines:
    """The text for a wait that Ctrl-C has ended: which claims are still reserved."""
    held = [
        f"{labelled(goal.resource_name, goal.claim_id)}: "
        + (f"{claim.state.short}, {allocation_of(claim, goal.secrets)}" if claim else "not readable yet")
        for claim, goal in waits
    ]
    more = [f"and {len(held) - _NAMED} more"] if len(held) > _NAMED else []
    return text(
        "interrupted (by Ctrl-C, or as another resource failed) while waiting for "
        f"{len(held)} capacity claim{'s' if len(held) != 1 else ''}.",
        said=[*held[:_NAMED], *more],
        held=f"all of them, and the claims that they replace; they stay in the state. {lost}".strip(),
        then=["run `pulumi up` to keep waiting; nothing is created twice"],
    )


class Reader(Protocol):
    """The calls that the poller makes; `AsyncClient.capacity_claims` has them."""

    async def get(self, id: str) -> CapacityClaim: ...
    async def list(self, *, updated_after: str | datetime | None = None) -> list[CapacityClaim]: ...


@dataclass(eq=False, kw_only=True)
class _Wait(Waiting):
    result: asyncio.Future[CapacityClaim]
    timed_out: float = 0.0  # the seconds after which it was given up, if that is what ended it
    outage: str = ""  # at that time
    fatal: CoreweaveError | None = None
    failure: Callable[[Sequence[CapacityClaim] | None], Lines] | None = None
    unexpected_since: float | None = None


class Poller:
    """Waits for all claims of a program with one LIST per round (rounds.py).

    Claims that do not become ready are reported together in one `pulumi.RunError` when no other wait is left,
    because the first error ends the program and all its waits. With `one_by_one`, each is reported at once.
    """

    def __init__(
        self,
        reader: Callable[[], Reader],
        clock: Callable[[], float],
        pause: Callable[[asyncio.Event, float], Awaitable[None]] | None = None,
        settings: Settings = Settings(),  # noqa: B008 - frozen
        close: Callable[[], Awaitable[None]] | None = None,
        display: Display | None = None,
        *,
        one_by_one: bool = False,
    ) -> None:
        self._one_by_one = one_by_one
        self._display = display or Rows(lambda _: None)
        self._reader = reader
        self._close = close
        self._reading = 0  # tasks that use what `reader` returns; `close` is called when there is none
        self._clock = clock
        self._pause = pause or _pause
        self._settings = settings
        self._waits: list[_Wait] = []  # several may wait for one claim
        self._ids: set[str] = set()  # of all claims that the program has registered
        self._joined = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # one by one, more claims join only when some are ready: the engine has as many slots as wait
        self._rounds = Rounds(FIRST_LOOK if one_by_one else SETTLED)
        self._is_ended = False
        self._listed: dict[str, CapacityClaim] = {}  # what the last list of this run has shown
        self._listed_at = 0.0
        self._seen: dict[str, CapacityClaim] = {}  # by a wait, in its last look
        self._to_peek_at: dict[str, Goal] = {}  # requested for the next task
        self._peek_task: asyncio.Task[Mapping[str, CapacityClaim]] | None = None

    async def wait(
        self,
        goal: Goal,
        show: Callable[[Lines], None],
        warn: Callable[[Lines], None],
        say: Callable[[Lines], None] = lambda _: None,
    ) -> CapacityClaim:
        """The claim once it is ready, or after its timeout if `on_timeout` is "warn".

        `show` shows a line on the claim's row until the next one; what `say` and `warn` show stays.
        """
        if self._is_ended:
            raise ClaimError(interrupted([(None, goal)], lost=""))
        self._ids.add(goal.claim_id)
        loop = asyncio.get_running_loop()
        timeout = goal.readiness.seconds if goal.readiness else self._settings.retry_deadline
        wait = _Wait(
            goal=goal,
            show=show,
            say=say,
            warn=warn,
            started=self._clock(),
            timeout=timeout,
            result=loop.create_future(),
        )
        known = self._from_list(goal)
        if known is not None and judge(known, goal) is Verdict.READY:
            wait.seen = known
            report(wait, "ready", wait.started)
            return known
        self._waits.append(wait)
        self._rounds.join(wait.started)
        self._joined.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        return await wait.result

    def last_seen(self, claim_id: str) -> CapacityClaim | None:
        """The claim as a wait has seen it last."""
        return self._seen.get(claim_id)

    def _from_list(self, goal: Goal) -> CapacityClaim | None:
        """The claim from an earlier list of this run, unless that is older than the state."""
        claim = self._listed.get(goal.claim_id)
        if claim is None or self._clock() - self._listed_at > MAXIMUM_AGE:
            return None
        listed, known = api.parse_timestamp(claim.status.updated_at), api.parse_timestamp(goal.updated_at)
        is_current = listed is not None and known is not None and listed >= known
        return claim if is_current and goal.matches(claim) else None

    async def peek(self, goal: Goal) -> CapacityClaim | None:
        """The current claim, for a preview; None if it cannot be read.

        Calls at the same time share one read. A failed read does not fail the preview.
        """
        known = self._from_list(goal)
        if known is not None:
            return known
        self._to_peek_at[goal.claim_id] = goal
        while goal.claim_id in self._to_peek_at:
            if self._peek_task is None:
                self._peek_task = asyncio.get_running_loop().create_task(self._peek_at_all())
            found = await asyncio.shield(self._peek_task)
            if goal.claim_id in found:
                return found[goal.claim_id]
        return None

    async def _peek_at_all(self) -> Mapping[str, CapacityClaim]:
        await self._pause(asyncio.Event(), FIRST_LOOK)
        goals, self._to_peek_at, self._peek_task = list(self._to_peek_at.values()), {}, None
        async with self._open():
            try:
                return await self._read(self._reader(), goals)
            except CoreweaveError as error:
                pulumi.log.debug(shown(f"capacity claims cannot be read in this preview: {error}"))
                return {}

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        """Close the client when nothing reads any more: at the end of the program nothing else can."""
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1
            if not self._reading and self._close is not None:
                await self._close()

    async def _run(self) -> None:
        # One task for all: a claim that joins between the ends of two tasks would not be looked at. One may
        # join while the client is being closed.
        while self._waits:
            async with self._open():
                with _interrupt(self._interrupted):
                    await self._look_until_all_are_ready()

    async def _look_until_all_are_ready(self) -> None:
        try:
            reader = self._reader()
            fatal: CoreweaveError | None = None
            while self._waits:
                while self._pending():
                    await self._until_the_next_look()
                    active = self._pending()
                    self._rounds.look(self._clock())
                    outage, fatal = await self._look(reader, active)
                    for wait in active:
                        self._step(wait, outage, fatal)
                    if self._one_by_one:
                        await self._report_failures(reader, fatal)
                    self._display.waiting(self._pending(), outage, self._clock())
                if self._waits:
                    others = None if fatal else await self._others(reader)
                    if not self._pending():  # none has joined in the meantime
                        self._display.ended(self._clock())
                        self._end(ClaimError(self._failures(others)))
            self._display.ended(self._clock())
        except Exception as error:  # noqa: BLE001  # every wait must end, whatever happens here
            self._end(error)

    async def _report_failures(self, reader: Reader, fatal: CoreweaveError | None) -> None:
        failed = [wait for wait in self._waits if wait.failure is not None]
        others = await self._others(reader) if failed and not fatal else None
        for wait in failed:
            self._waits.remove(wait)
            # a replaced claim is the only other one that concerns this wait
            earlier = [claim for claim in others or () if wait.goal.declaration_of(claim) is not None]
            if wait.failure is not None and not wait.result.done():
                wait.result.set_exception(ClaimError(wait.failure(earlier)))

    def _failures(self, others: list[CapacityClaim] | None) -> Lines:
        """What the failures of many claims have in common is said once."""
        late = [wait for wait in self._waits if wait.timed_out and wait.seen is not None]
        fatal = [wait for wait in self._waits if wait.fatal is not None]
        texts = []
        if len(late) > _APART:
            found = [(wait.seen, wait.goal, wait.timed_out) for wait in late if wait.seen is not None]
            texts.append(not_ready_together(found, others, late[0].outage))
        else:
            late = []
        if len(fatal) > _APART and fatal[0].fatal is not None:
            held = "all of them, as far as we know; they stay in the state."
            names = named([wait.goal.resource_name for wait in fatal])
            doing = f"reading {len(fatal)} capacity claims ({names})"
            are_secret = any(wait.goal.secrets for wait in fatal)
            redacted = without_words(fatal[0].fatal) if are_secret else fatal[0].fatal
            texts.append(lookup_failure(doing, redacted, held=held).text)
        else:
            fatal = []
        apart = [wait for wait in self._waits if wait not in late and wait not in fatal]
        texts += [wait.failure(others) for wait in apart if wait.failure is not None]
        return paragraphs([*texts, OUTPUTS_LOST])

    async def _others(self, reader: Reader) -> list[CapacityClaim] | None:
        """The stack's other claims, by their ids, and those of earlier providers; None if unreadable."""
        try:
            listed = await reader.list()
        except CoreweaveError:
            return None
        goals = [wait.goal for wait in self._waits]
        namespaces = {goal.namespace for goal in goals if goal.namespace}
        return [
            claim
            for claim in listed
            if claim.id not in self._ids
            and claim.state != api.ClaimState.DELETING
            and (
                any(is_made_by(namespace, claim.id) for namespace in namespaces)
                or any(goal.key and goal.declaration_of(claim) is not None for goal in goals)
            )
        ]

    def _pending(self) -> list[_Wait]:
        return [wait for wait in self._waits if wait.failure is None]

    async def _until_the_next_look(self) -> None:
        while True:
            self._joined.clear()
            end = min(wait.started + wait.timeout for wait in self._pending())
            last_look = max(end, self._rounds.looked_at + FIRST_LOOK)
            seconds = min(self._rounds.due(), last_look) - self._clock()
            if seconds < _INSTANT:
                return
            await self._pause(self._joined, seconds)

    def _interrupted(self) -> None:
        if self._one_by_one:
            self.end_all()
            return
        failures = [wait.failure(None) for wait in self._waits if wait.failure is not None]
        waiting = interrupted((wait.seen, wait.goal) for wait in self._pending())
        self._end(ClaimError(paragraphs([*failures, waiting])))
        if self._task is not None:
            self._task.cancel()

    def end_all(self) -> None:
        """End each wait, and each that is to begin, with an error of its own that says what is reserved."""
        self._is_ended = True
        waits, self._waits = self._waits, []
        for wait in waits:
            report(wait, "failed", self._clock())
            if not wait.result.done():
                wait.result.set_exception(ClaimError(interrupted([(wait.seen, wait.goal)], lost="")))
        if self._task is not None:
            self._task.cancel()

    def _end(self, error: Exception) -> None:
        waits, self._waits = self._waits, []
        for wait in waits:
            if wait.failure is None:
                report(wait, "failed", self._clock())
            if not wait.result.done():
                wait.result.set_exception(error)

    async def _look(self, reader: Reader, waits: list[_Wait]) -> tuple[str, CoreweaveError | None]:
        """Read all claims once; returns an outage, or a failure that ends every wait."""
        now = self._clock()
        try:
            found = await self._read(reader, [wait.goal for wait in waits])
        except FATAL as error:
            return "", error
        except CoreweaveError as error:
            for wait in waits:
                wait.unexpected_since = None  # unknown for how long, until the next read
            return _outage(error, quoted=not any(wait.goal.secrets for wait in waits)), None
        self._seen.update(found)
        for wait in waits:
            claim = found.get(wait.goal.claim_id)
            wait.seen = claim
            unexpected = claim is None or (
                claim.state not in (api.ClaimState.FAILED, api.ClaimState.DELETING)
                and not wait.goal.matches(claim)
            )
            if not unexpected:
                wait.unexpected_since = None
            elif wait.unexpected_since is None:
                wait.unexpected_since = now
        return "", None

    async def _read(self, reader: Reader, goals: list[Goal]) -> Mapping[str, CapacityClaim]:
        wanted = {goal.claim_id for goal in goals}
        if len(wanted) == 1:
            return await _get(reader, wanted)
        asked_at = self._clock()
        since = reaching_back_to([api.parse_timestamp(goal.updated_at) for goal in goals])
        listed = await reader.list(updated_after=since)
        self._listed, self._listed_at = {claim.id: claim for claim in listed}, asked_at
        found = {claim_id: self._listed[claim_id] for claim_id in wanted & self._listed.keys()}
        return found | await _get(reader, sorted(wanted - found.keys()))

    def _step(self, wait: _Wait, outage: str, fatal: CoreweaveError | None) -> None:
        now = self._clock()
        goal, claim = wait.goal, wait.seen
        failure = partial(not_ready, wait.seen, wait.goal, now - wait.started, outage)
        if fatal:
            held = "the claim, as far as we know; it stays in the state."
            redacted = without_words(fatal) if goal.secrets else fatal
            wait.fatal = redacted
            failed = api_failure("reading", goal.resource_name, goal.claim_id, redacted, held=held).text
            self._keep_failure(wait, lambda _: failed)
            report(wait, "failed", now)
            return
        verdict = judge(claim, goal) if claim is not None and not outage else Verdict.WAITING
        if verdict is Verdict.READY and claim is not None:
            self._display.ready(wait, claim, now)
            self._done(wait, claim)
            report(wait, "ready", now)
        elif claim is None and not goal.takes_part and self._is_unexpected_for_long(wait, now):
            self._done(wait, _gone(goal))
        elif verdict is Verdict.FAILED or self._is_unexpected_for_long(wait, now):
            self._keep_failure(wait, failure)
            report(wait, "failed", now)
        elif wait.left(now) <= 0:
            lenient = goal.readiness is None or goal.readiness.on_timeout == "warn"
            if lenient and claim is not None:
                wait.warn(failure())
                self._done(wait, claim)
            else:
                wait.timed_out, wait.outage = now - wait.started, outage
                self._keep_failure(wait, failure)
            report(wait, "timed_out", now, outage)
        else:
            report(wait, "waiting", now, outage)

    def _is_unexpected_for_long(self, wait: _Wait, now: float) -> bool:
        since = wait.unexpected_since
        return since is not None and now - since >= self._settings.read_grace

    def _done(self, wait: _Wait, claim: CapacityClaim) -> None:
        self._waits.remove(wait)
        if not wait.result.done():
            wait.result.set_result(claim)

    def _keep_failure(self, wait: _Wait, failure: Callable[[Sequence[CapacityClaim] | None], Lines]) -> None:
        """Show the failure at once; it is raised when no other wait is left."""
        wait.failure = failure
        self._display.failed(wait, failure(()).partition("\n")[0])


@contextlib.contextmanager
def _interrupt(handler: Callable[[], None]) -> Iterator[None]:
    """Call the handler on SIGINT while this lasts; signals reach the main thread only.

    Not with `loop.add_signal_handler`: its counterpart does not restore the handler that was there before.
    """
    loop = asyncio.get_running_loop()

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(handler)

    before = signal.getsignal(signal.SIGINT)
    try:
        if before is not None:  # a handler that was not set by Python cannot be restored
            signal.signal(signal.SIGINT, interrupted)
    except ValueError:  # not the main thread
        before = None
    try:
        yield
    finally:
        if before is not None and signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, before)


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


def _gone(goal: Goal) -> CapacityClaim:
    """What the live outputs describe if a claim that takes no part in the run no longer exists."""
    return api.CapacityClaim.model_validate(
        {
            "spec": {"id": goal.claim_id, "name": "", "resources": goal.resources.to_wire()},
            "status": {"status": str(api.ClaimState.UNSPECIFIED)},
        }
    )


def _same_resources(returned: CapacityClaimResources, declared: CapacityClaimResources) -> bool:
    return not differing(returned.to_wire(), declared.to_wire())


def _outage(error: CoreweaveError, *, quoted: bool) -> str:
    """An outage in words; without those of the API, which may say a secret, unless it may be quoted."""
    if isinstance(error, RequestTimedOut):
        return f"the API does not respond at the moment ({error.message}; {SLOW_API} to allow more)"
    if isinstance(error, ApiError):
        reason = f"{error.code}: {error.message}" if quoted else error.code
        return f"the API does not respond at the moment ({reason})"
    return f"the API does not respond at the moment ({error})"
