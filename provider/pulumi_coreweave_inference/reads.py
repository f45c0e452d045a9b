"""Many reads of one operation, answered from few lists.

The engine asks a provider for one claim at a time, some at once. A refresh of 400 claims would be 400 GETs.
Here the first question is a GET; with the second one the claims are listed, and that list answers what comes
after it. A list is bounded by when the claims asked for were last changed, as the state knows it, by the
server's own clock: an organization may hold many other claims.

A read may lag behind. What a list does not show is asked for by GET before anybody calls it gone, what this
process writes itself is never answered from a list asked for before, and what is older than the state is
looked at again.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import coreweave_inference as api
from coreweave_inference.errors import CoreweaveError, NotFound

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim

_REACH_BACK: Final = timedelta(seconds=10)
# How far lists reach back, one after the other. The first one holds all that one update has made.
MARGINS: Final = (timedelta(minutes=5), timedelta(hours=6), None)
MAXIMUM_AGE: Final = 30.0  # seconds a list is good for
PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 2.0, 5.0)  # seconds between looks at what is being deleted
_LONGEST_LEAST: Final = 2.0  # seconds: a pause is at least a fifth of what deletions take, up to this
_LULL: Final = 0.5  # seconds without another deletion, after which no more are expected
_WHILE_JOINING: Final = 8.0  # seconds between looks, at most, as long as more deletions begin
_AT_ONCE: Final = 1.0  # seconds between looks at what others have listed: it is for all

Get = Callable[[str], "CapacityClaim"]
List = Callable[[datetime | None], Sequence["CapacityClaim"]]
Clock = Callable[[], float]


class SingleFlight:
    """A lock for asking the API on behalf of all who wait for it.

    Where the API does not answer, the one who asks repeats the call for as long as it may. Those who have
    waited for that long hear of the same failure, instead of asking as long, one after the other.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failure: CoreweaveError | None = None
        self._failed_at = float("-inf")

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Hold the lock. Raises what the one before has failed with while this one waited for it."""
        began = self._clock()
        with self._lock:
            if self._failure is not None and self._failed_at > began:
                raise self._failure
            try:
                yield
            except CoreweaveError as error:
                self._failure, self._failed_at = error, self._clock()
                raise


class BulkReader:
    """The claims as one operation sees them. Any thread may ask.

    `grace`: for how many seconds an answer that is older than the state is not believed.
    """

    def __init__(
        self, get: Get, list_: List, clock: Clock, sleep: Callable[[float], None], grace: float
    ) -> None:
        self._get = get
        self._list = list_
        self._clock = clock
        self._sleep = sleep
        self._grace = grace
        self._together = SingleFlight(clock)
        self._asked = False
        self._claims: dict[str, CapacityClaim] = {}
        self._written_at: dict[str, float] = {}
        self._lists = 0  # how many there have been, up to the one that shows all
        self._reaches_to: datetime | None = None  # the list shows all changes since then; None: all of them
        self._listed_at = float("-inf")  # when the list was asked for

    def read(self, claim_id: str, updated_at: str | None) -> CapacityClaim:
        """The claim, at most half a minute old. `updated_at`: when the state last saw it changed.

        An answer that is older than that is given only once the grace is over. Raises `NotFound` when GET
        says that the claim is gone, and whatever else the API answers.
        """
        changed = api.parse_timestamp(updated_at)
        with self._together.asking():
            first, self._asked = not self._asked, True  # for the first claim of all a list is not worth it
            claim = None if first else self._look_up(claim_id, changed)
        return claim or self._get_of_now(claim_id, changed)

    def _get_of_now(self, claim_id: str, changed: datetime | None) -> CapacityClaim:
        until = self._clock() + self._grace
        pauses = endless_pauses()
        while is_late(claim := self._get(claim_id), changed):
            pause = next(pauses)
            if self._clock() + pause > until:
                break
            self._sleep(pause)
        return claim

    def shows(self, claim_id: str, updated_at: str | None) -> bool:
        """Whether a list shows the claim, be it the first one asked for."""
        with self._together.asking():
            self._asked = True
            return self._look_up(claim_id, api.parse_timestamp(updated_at)) is not None

    def _look_up(self, claim_id: str, changed: datetime | None) -> CapacityClaim | None:
        if self._clock() - self._listed_at > MAXIMUM_AGE:
            self._claims, self._lists = {}, 0
        if self._shown(claim_id) is None:
            self._list_back_to(changed)
        claim = self._shown(claim_id)
        # A list that lags behind the state would turn the last update into drift.
        return claim if claim is not None and not _is_before(claim, changed) else None

    def _shown(self, claim_id: str) -> CapacityClaim | None:
        written_at = self._written_at.get(claim_id)
        return self._claims.get(claim_id) if written_at is None or written_at < self._listed_at else None

    def any_claim(self) -> CapacityClaim | None:
        """Some claim of the organization, if the last list has shown one."""
        return next(iter(self._claims.values()), None)

    def wrote(self, claim_id: str) -> None:
        """Believe no list about a claim that this process changes, unless it is asked for later."""
        self._written_at[claim_id] = self._clock()  # and waits for no list: what was written is to be told

    def _list_back_to(self, changed: datetime | None) -> None:
        if self._lists == len(MARGINS) or (self._lists and _reaches(self._reaches_to, changed)):
            return
        margin = MARGINS[self._lists]
        since = changed - margin if changed is not None and margin is not None else None
        asked_at = self._clock()
        self._claims = {claim.id: claim for claim in self._list(since)}
        self._reaches_to = since
        self._listed_at = asked_at
        self._lists = self._lists + 1 if since is not None else len(MARGINS)


class DeletionWaiter:
    """Claims that are being deleted, waited for together.

    Where the API deletes at once, a GET for each is cheapest. As soon as one claim is still there after its
    DELETE, all that wait share lists instead, the more seldom the longer nothing happens.
    """

    def __init__(self, get: Get, list_: List, clock: Clock, sleep: Callable[[float], None]) -> None:
        self._get = get
        self._list = list_
        self._clock = clock
        self._sleep = sleep
        self._together = SingleFlight(clock)
        self._lock = threading.Lock()  # for who is leaving
        self._scout = SingleFlight(clock)
        self._at_once: bool | None = None  # whether claims are gone right after their DELETE
        self._usual = float("inf")  # seconds the quickest departure took that was waited for
        self._leaving: dict[str, datetime | None] = {}
        self._joining_since = self._joined_at = float("-inf")
        self._listed: frozenset[str] = frozenset()
        self._listed_at = float("-inf")
        self._quiet = 0  # lists since one of the claims was seen to be gone

    def wait(
        self, claim_id: str, updated_at: str | None, known: bool, timeout: float
    ) -> CapacityClaim | None:
        """None once the claim is gone, or the claim as it is when the time is over.

        `updated_at`: when the state last saw the claim changed: as of then a list that lags may show it.
        `known`: whether a list of this operation has shown the claim before; only then does a list without
        it say that it is gone.
        """
        began = self._clock()
        if self._gone_at_once(claim_id):
            return None
        if not known:
            return wait_until_gone(self._get, claim_id, began + timeout, self._clock, self._sleep)
        with self._lock:
            # From here on lists reach back to the claim. One that was asked for before may not show it.
            joined = self._clock()
            self._leaving[claim_id] = api.parse_timestamp(updated_at)
            if joined - self._joined_at > PAUSES[-1]:
                self._joining_since = joined
            self._joined_at = joined
        try:
            if self._usual < timeout:
                self._sleep(min(0.9 * self._usual, _WHILE_JOINING))
            while not self._is_gone(claim_id, joined):
                pause = min(self._pause(), _AT_ONCE)
                if self._clock() + pause > began + timeout:
                    return wait_until_gone(self._get, claim_id, began + timeout, self._clock, self._sleep)
                self._sleep(pause)
            self._usual = min(self._usual, self._clock() - began)
            return None
        finally:
            with self._lock:
                self._leaving.pop(claim_id, None)

    def _gone_at_once(self, claim_id: str) -> bool:
        if self._at_once is None:
            with self._scout.asking():  # one GET tells for all that are deleted at the same time
                if self._at_once is None:
                    self._at_once = self._is_unknown(claim_id)
                    return self._at_once
        if not self._at_once:
            return False
        self._at_once = self._is_unknown(claim_id)
        return self._at_once

    def _is_unknown(self, claim_id: str) -> bool:
        try:
            self._get(claim_id)
        except NotFound:
            return True
        return False

    def _pause(self) -> float:
        pause = PAUSES[min(self._quiet, len(PAUSES) - 1)]
        if self._usual < float("inf"):
            pause = max(pause, min(self._usual / 5, _LONGEST_LEAST))
        if self._clock() - self._joined_at < _LULL:
            pause = max(pause, min((self._joined_at - self._joining_since) / 2.5, _WHILE_JOINING))
        return pause

    def _is_gone(self, claim_id: str, joined: float) -> bool:
        """Whether a list that was asked for after the claim has `joined` lacks it."""
        with self._together.asking():
            if self._clock() - self._listed_at >= 0.9 * self._pause():
                with self._lock:
                    asked_at, leaving = self._clock(), dict(self._leaving)
                listed = frozenset(claim.id for claim in self._list(_reaching_back_to(leaving.values())))
                departed = leaving.keys() & (self._listed - listed)
                self._quiet = 0 if departed else self._quiet + 1
                self._listed, self._listed_at = listed, asked_at
            return self._listed_at > joined and claim_id not in self._listed


def _reaching_back_to(changes: Collection[datetime | None]) -> datetime | None:
    known = [changed for changed in changes if changed is not None]
    return min(known) - _REACH_BACK if len(known) == len(changes) else None


def wait_until_gone(
    get: Get, claim_id: str, until: float, clock: Clock, sleep: Callable[[float], None]
) -> CapacityClaim | None:
    """None once GET no longer finds the claim, or the claim as it is when the clock shows `until`."""
    pauses = endless_pauses()
    while True:
        try:
            claim = get(claim_id)
        except NotFound:
            return None
        pause = next(pauses)
        if clock() + pause > until:
            return claim
        sleep(pause)


def endless_pauses() -> Iterator[float]:
    """The pauses between looks, the last one for ever."""
    return itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))


def is_late(claim: CapacityClaim, changed: datetime | None) -> bool:
    """Whether an answer is older than what the state has seen, which was last `changed` at that time.

    To the second: the answer to a write may tell its time more finely than a read does.
    """
    return _is_before(claim, changed and changed.replace(microsecond=0))


def _is_before(claim: CapacityClaim, changed: datetime | None) -> bool:
    seen = api.parse_timestamp(claim.status.updated_at)
    return seen is not None and changed is not None and seen < changed


def _reaches(oldest: datetime | None, changed: datetime | None) -> bool:
    return oldest is None or (changed is not None and changed >= oldest)
