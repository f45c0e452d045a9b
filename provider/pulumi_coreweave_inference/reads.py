"""Many reads of one operation, answered from few lists.

The engine asks a provider for one claim at a time, some at once. A refresh of 400 claims would be 400 GETs.
Here the first question is a GET; with the second one the claims are listed, and that list answers what comes
after it. A list is bounded by when the claims asked for were last changed, as the state knows it, by the
server's own clock: an organization may hold many other claims.

A list may lag behind. What it does not show is asked for by GET before anybody calls it gone, and what this
process writes itself is never answered from a list made before.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import coreweave_inference as api
from coreweave_inference.errors import NotFound

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
_AT_ONCE: Final = 1.0  # seconds anybody sleeps at a time: a list that others ask for is for all

Get = Callable[[str], "CapacityClaim"]
List = Callable[[datetime | None], Sequence["CapacityClaim"]]
Clock = Callable[[], float]


class SharedReads:
    """The claims as one operation sees them. Any thread may ask."""

    def __init__(self, get: Get, list_: List, clock: Clock) -> None:
        self._get = get
        self._list = list_
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = False
        self._claims: dict[str, CapacityClaim] = {}
        self._lists = 0  # how many there have been, up to the one that shows all
        self._reaches_to: datetime | None = None  # the list shows all changes since then; None: all of them
        self._listed_at = float("-inf")

    def read(self, claim_id: str, updated_at: str | None) -> CapacityClaim:
        """The claim, at most half a minute old. `updated_at`: when the state last saw it changed.

        Raises `NotFound` when GET says that it is gone, and whatever else the API answers.
        """
        with self._lock:
            first, self._asked = not self._asked, True  # for the first claim of all a list is not worth it
            claim = None if first else self._look_up(claim_id, updated_at)
        return claim or self._get(claim_id)

    def shows(self, claim_id: str, updated_at: str | None) -> bool:
        """Whether a list shows the claim, be it the first one asked for."""
        with self._lock:
            self._asked = True
            return self._look_up(claim_id, updated_at) is not None

    def _look_up(self, claim_id: str, updated_at: str | None) -> CapacityClaim | None:
        if self._clock() - self._listed_at > MAXIMUM_AGE:
            self._claims, self._lists = {}, 0
        changed = api.parse_timestamp(updated_at)
        if claim_id not in self._claims:
            self._list_back_to(changed)
        claim = self._claims.get(claim_id)
        # A list that lags behind the state would turn the last update into drift.
        return claim if claim is not None and not _is_before(claim, changed) else None

    def wrote(self, claim_id: str) -> None:
        """Forget what a list said of a claim that this process changes."""
        with self._lock:
            self._claims.pop(claim_id, None)

    def _list_back_to(self, changed: datetime | None) -> None:
        if self._lists == len(MARGINS) or (self._lists and _reaches(self._reaches_to, changed)):
            return
        margin = MARGINS[self._lists]
        since = changed - margin if changed is not None and margin is not None else None
        self._claims = {claim.id: claim for claim in self._list(since)}
        self._reaches_to = since
        self._listed_at = self._clock()
        self._lists = self._lists + 1 if since is not None else len(MARGINS)


class Departures:
    """Claims that are being deleted, waited for together.

    Where the API deletes at once, a GET for each is cheapest. As soon as one claim is still there after its
    DELETE, all that wait share lists instead, the more seldom the longer nothing happens.
    """

    def __init__(self, get: Get, list_: List, clock: Clock, sleep: Callable[[float], None]) -> None:
        self._get = get
        self._list = list_
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._scout = threading.Lock()
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
            self._leaving[claim_id] = api.parse_timestamp(updated_at)
            if began - self._joined_at > PAUSES[-1]:
                self._joining_since = began
            self._joined_at = began
        try:
            if self._usual < timeout:
                self._sleep(0.9 * self._usual)
            while not self._is_gone(claim_id, began):
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
            with self._scout:  # one GET tells for all that are deleted at the same time
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

    def _is_gone(self, claim_id: str, began: float) -> bool:
        """Whether a list that was made after `began` lacks the claim."""
        with self._lock:
            now = self._clock()
            if now - self._listed_at >= 0.9 * self._pause():
                since = list(self._leaving.values())
                known = [time for time in since if time is not None]
                bound = min(known) - _REACH_BACK if len(known) == len(since) else None
                self._listed, before = frozenset(claim.id for claim in self._list(bound)), self._listed
                self._listed_at = now
                departed = self._leaving.keys() & (before - self._listed)
                self._quiet = 0 if departed else self._quiet + 1
            return self._listed_at > began and claim_id not in self._listed


def wait_until_gone(
    get: Get, claim_id: str, until: float, clock: Clock, sleep: Callable[[float], None]
) -> CapacityClaim | None:
    """None once GET no longer finds the claim, or the claim as it is when the clock shows `until`."""
    for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
        try:
            claim = get(claim_id)
        except NotFound:
            return None
        if clock() + pause > until:
            return claim
        sleep(pause)
    raise AssertionError("unreachable: the pauses never end")


def _is_before(claim: CapacityClaim, changed: datetime | None) -> bool:
    seen = api.parse_timestamp(claim.status.updated_at)
    return seen is not None and changed is not None and seen < changed


def _reaches(oldest: datetime | None, changed: datetime | None) -> bool:
    return oldest is None or (changed is not None and changed >= oldest)
