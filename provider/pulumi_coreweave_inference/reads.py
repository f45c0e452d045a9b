"""Reads shared by the calls of one operation: few requests for many claims.

The engine reads one claim per call, and runs several calls at once. A refresh of 400 claims would take 400
GETs. Instead, only the first read is a GET. The second one lists the claims, and later reads use that list.
Each list is limited to recent changes, because the organization may hold many other claims.

Reads may be stale. Therefore:

- A claim that is missing from a list is read with GET before it counts as gone.
- A list is not used for a claim that this process has written to since.
- A response that is older than the state is read again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import coreweave_inference as api
from coreweave_inference.errors import CoreweaveError, NotFound

from .rounds import Clock, Rounds

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim

T = TypeVar("T")

MARGINS: Final = (timedelta(minutes=5), timedelta(hours=6), None)
"""How much further than the claim in question the first, second and third list reach back."""
CLOCK_SKEW: Final = timedelta(seconds=10)  # how far a list reaches back beyond its oldest claim
FEW: Final = 20  # claims that are read one by one before all are listed
MAXIMUM_AGE: Final = 30.0  # seconds for which a list answers
SHORTEST_PAUSE: Final = 0.01  # seconds

Get = Callable[[str], "CapacityClaim"]
List = Callable[[datetime | None], Sequence["CapacityClaim"]]


class SingleFlight:
    """A lock for a request whose result serves all waiting callers.

    When the API does not respond, the caller that holds the lock retries until its deadline. The callers that
    waited for it then get the same error, instead of retrying one after the other.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failure: Exception | None = None  # of the last caller
        self._failed_at = float("-inf")

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock. Raises the previous holder's error if it failed while this caller waited."""
        began = self._clock.now()
        with self._lock:
            if self._failure is not None and self._failed_at > began:
                raise self._failure
            try:
                yield
            except Exception as error:  # also that the operation ends
                self._failure, self._failed_at = error, self._clock.now()
                raise
            self._failure = None


class Once(Generic[T]):
    """A value that is requested from the API once and shared by all callers."""

    def __init__(self, ask: Callable[[], T], clock: Clock) -> None:
        self._ask = ask
        self._flight = SingleFlight(clock)
        self._answers: list[T] = []

    def __call__(self) -> T:
        """The value. If the request fails, raises its error, and the next caller requests it again."""
        if not self._answers:
            with self._flight.hold():
                if not self._answers:
                    self._answers.append(self._ask())
        return self._answers[0]


class BulkReader:
    """Reads claims for many callers with few lists. Safe between threads.

    `grace`: for how many seconds to repeat a read whose response is older than the state.
    """

    def __init__(self, get: Get, list_: List, clock: Clock, grace: float) -> None:
        self._get = get
        self._list = list_
        self._clock = clock
        self._grace = grace
        self._flight = SingleFlight(clock)
        self._asked = False
        self._claims: dict[str, CapacityClaim] = {}
        self._written_at: dict[str, float] = {}
        self._lists = 0  # made so far, up to the one that shows all claims
        self._reaches_to: datetime | None = None  # the list shows every change since then; None: all claims
        self._listed_at = float("-inf")  # when the list was asked for

    def read(self, claim_id: str, updated_at: str | None) -> CapacityClaim:
        """The claim, from a list of the last half minute or by GET.

        `updated_at` is its last change according to the state. An older response is returned only after
        the grace period. Raises `NotFound` if GET does not find the claim, and any other error of the API.
        """
        changed = api.parse_timestamp(updated_at)
        with self._flight.hold():
            first, self._asked = not self._asked, True  # one claim alone is not worth a list
            claim = None if first else self._look_up(claim_id, changed)
        return claim or self._get_fresh(claim_id, changed)

    def shows(self, claim_id: str, updated_at: str | None) -> bool:
        """Whether a list shows the claim; requests a list if there is none yet."""
        with self._flight.hold():
            self._asked = True
            return self._look_up(claim_id, api.parse_timestamp(updated_at)) is not None

    def any_claim(self) -> CapacityClaim | None:
        """Some claim of the organization, if the last list showed one."""
        return next(iter(self._claims.values()), None)

    def invalidate(self, claim_id: str) -> None:
        """Ignore lists asked for before now for a claim that this process has written to."""
        self._written_at[claim_id] = self._clock.now()  # takes no lock: a list may be under way

    def _get_fresh(self, claim_id: str, changed: datetime | None) -> CapacityClaim:
        for _ in self._clock.poll_until(self._clock.now() + self._grace):
            claim = self._get(claim_id)
            if not is_stale(claim, changed):
                break
        return claim

    def _look_up(self, claim_id: str, changed: datetime | None) -> CapacityClaim | None:
        if self._clock.now() - self._listed_at > MAXIMUM_AGE:
            self._claims, self._lists = {}, 0
        if self._listed(claim_id) is None:
            self._list_back_to(changed)
        claim = self._listed(claim_id)
        # A list older than the state would show the last update as drift.
        return claim if claim is not None and not _is_before(claim, changed) else None

    def _listed(self, claim_id: str) -> CapacityClaim | None:
        written_at = self._written_at.get(claim_id)
        return self._claims.get(claim_id) if written_at is None or written_at < self._listed_at else None

    def _list_back_to(self, changed: datetime | None) -> None:
        if self._lists == len(MARGINS) or (self._lists and _reaches(self._reaches_to, changed)):
            return
        margin = MARGINS[self._lists]
        since = earlier(changed, margin) if changed is not None and margin is not None else None
        asked_at = self._clock.now()
        self._claims = {claim.id: claim for claim in self._list(since)}
        self._reaches_to = since
        self._listed_at = asked_at
        self._lists = self._lists + 1 if since is not None else len(MARGINS)


class ExistingClaims:
    """Finds out which of the claims that an operation would create exist already. Safe between threads.

    The engine asks for one claim after the other. A few are read by GET, as the organization may hold many
    other claims. The others are looked up in one list. If it lags behind, a preview says less than it could.
    """

    def __init__(
        self,
        get: Callable[[str], CapacityClaim],
        list_: Callable[[], Sequence[CapacityClaim]],
        few: int = FEW,
    ) -> None:
        self._get = get
        self._list = list_
        self._few = few
        self._lock = threading.Lock()
        self._asked = 0
        self._listed: frozenset[str] | None = None
        self._failure: CoreweaveError | None = None

    def find(self, claim_id: str) -> CapacityClaim | None:
        """The claim, or None if it does not exist. Raises errors of the API, the first one every time."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                return self._look_up(claim_id)
            except CoreweaveError as error:
                self._failure = error
                raise

    def _look_up(self, claim_id: str) -> CapacityClaim | None:
        self._asked += 1
        if self._asked > self._few and self._listed is None:
            self._listed = frozenset(claim.id for claim in self._list())
        if self._listed is not None and claim_id not in self._listed:
            return None
        try:
            return self._get(claim_id)
        except NotFound:
            return None


class DeletionWaiter:
    """Waits for claims that are being deleted, all of them together. Safe between threads.

    Where the API deletes at once, one GET for each claim is cheapest. As soon as one claim still exists
    after its DELETE, all waits share lists.
    """

    def __init__(self, get: Get, list_: List, clock: Clock) -> None:
        self._get = get
        self._list = list_
        self._clock = clock
        self._flight = SingleFlight(clock)
        self._deletes_at_once: bool | None = None  # None: not known yet; once False, it stays so
        # Joining takes no lock: a claim that joins during a list is covered by the next one.
        self._deleting: dict[str, datetime | None] = {}  # by id: the last change according to the state
        self._rounds = Rounds()
        self._listed: frozenset[str] = frozenset()
        self._listed_at = float("-inf")

    def wait(
        self, claim_id: str, updated_at: str | None, *, listed_before: bool, timeout: float
    ) -> CapacityClaim | None:
        """None once the claim is gone, or the claim as it is after `timeout` seconds.

        `updated_at`: its last change according to the state; a stale list may show it as of then.
        `listed_before`: whether a list of this operation has shown the claim: only then does a later list
        without it prove that it is gone.
        """
        until = self._clock.now() + timeout
        if self._gone_at_once(claim_id):
            return None
        if not listed_before:
            return self._wait_by_get(claim_id, until)
        # From now on lists reach back to the claim. An earlier list may not show it.
        self._deleting[claim_id] = api.parse_timestamp(updated_at)
        joined = self._clock.now()
        self._rounds.join(joined)
        try:
            while not self._is_gone(claim_id, joined):
                pause = self._pause()
                if self._clock.now() + pause > until:
                    return self._wait_by_get(claim_id, until)
                self._clock.sleep(pause)
            return None
        finally:
            self._deleting.pop(claim_id, None)

    def _gone_at_once(self, claim_id: str) -> bool:
        if self._deletes_at_once is None:
            with self._flight.hold():  # one GET decides for all that are deleted at the same time
                if self._deletes_at_once is None:
                    is_gone = self._deletes_at_once = self._is_unknown(claim_id)
                    return is_gone
        if not self._deletes_at_once:
            return False
        is_gone = self._is_unknown(claim_id)
        if not is_gone:
            self._deletes_at_once = False
        return is_gone

    def _is_unknown(self, claim_id: str) -> bool:
        try:
            self._get(claim_id)
        except NotFound:
            return True
        return False

    def _is_gone(self, claim_id: str, joined: float) -> bool:
        """Whether a list that was requested after the claim joined lacks it."""
        with self._flight.hold():
            asked_at = self._clock.now()
            if self._rounds.due() <= asked_at:
                self._rounds.look(asked_at)
                since = reaching_back_to(self._deleting.copy().values())
                self._listed = frozenset(claim.id for claim in self._list(since))
                self._listed_at = asked_at
            return self._listed_at > joined and claim_id not in self._listed

    def _pause(self) -> float:
        return max(self._rounds.due() - self._clock.now(), SHORTEST_PAUSE)

    def _wait_by_get(self, claim_id: str, until: float) -> CapacityClaim | None:
        claim = None
        for _ in self._clock.poll_until(until):
            try:
                claim = self._get(claim_id)
            except NotFound:
                return None
        return claim


def reaching_back_to(changes: Collection[datetime | None]) -> datetime | None:
    """The `updated_after` of a list that includes claims with these last changes; None for all claims."""
    known = [changed for changed in changes if changed is not None]
    return earlier(min(known), CLOCK_SKEW) if len(known) == len(changes) else None


def earlier(moment: datetime, by: timedelta) -> datetime | None:
    """A time before another one, for `updated_after`; None, which means all, if no date is that early.

    The API may send any date, such as Go's zero time, which is the first there is.
    """
    try:
        return moment - by
    except OverflowError:
        return None


def is_stale(claim: CapacityClaim, changed: datetime | None) -> bool:
    """Whether a response is older than the state; `changed` is its last change according to the state.

    Compared by the second, because the response to a write may have a more precise time than a read.
    """
    return _is_before(claim, changed and changed.replace(microsecond=0))


def _is_before(claim: CapacityClaim, changed: datetime | None) -> bool:
    seen = api.parse_timestamp(claim.status.updated_at)
    return seen is not None and changed is not None and seen < changed


def _reaches(oldest: datetime | None, changed: datetime | None) -> bool:
    return oldest is None or (changed is not None and changed >= oldest)
