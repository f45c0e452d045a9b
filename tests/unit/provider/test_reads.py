from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import CapacityClaim, NotFound, Unavailable
from pulumi_coreweave_inference.reads import FEW, MAXIMUM_AGE, BulkReader, DeletionWaiter, ExistingClaims
from pulumi_coreweave_inference.rounds import Clock

START = datetime(2026, 5, 14, 5, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class Api:
    """Claims by id with the moment of their last change; time passes only in `sleep`."""

    def __init__(self, changed: dict[str, float]) -> None:
        self.changed = changed
        self.hidden: set[str] = set()  # from lists
        self.gone_at: dict[str, float] = {}
        self.now = 0.0
        self.calls: list[str] = []

    @property
    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.now += seconds

        return Clock(now=lambda: self.now, sleep=sleep)

    def claim(self, claim_id: str) -> CapacityClaim:
        return CapacityClaim.model_validate(
            {"spec": {"id": claim_id}, "status": {"updatedAt": at(self.changed[claim_id])}}
        )

    def there(self, claim_id: str) -> bool:
        return claim_id in self.changed and self.now < self.gone_at.get(claim_id, float("inf"))

    def get(self, claim_id: str) -> CapacityClaim:
        self.calls.append("GET")
        if not self.there(claim_id):
            raise NotFound("gone")
        return self.claim(claim_id)

    def list(self, since: datetime | None) -> list[CapacityClaim]:
        self.calls.append("LIST")
        shown = [
            claim_id for claim_id in self.changed if self.there(claim_id) and claim_id not in self.hidden
        ]
        claims = [self.claim(claim_id) for claim_id in shown]
        return [
            claim
            for claim in claims
            if since is None or datetime.fromisoformat(str(claim.status.updated_at)) >= since
        ]

    def reads(self, grace: float = 0.0) -> BulkReader:
        return BulkReader(self.get, self.list, self.clock, grace)

    def deletions(self) -> DeletionWaiter:
        return DeletionWaiter(self.get, self.list, self.clock)


def many(count: int, apart: float = 0.01) -> Api:
    return Api({f"c{index}": index * apart for index in range(count)})


def test_one_claim_is_one_get() -> None:
    api = many(1)
    assert api.reads().read("c0", at(0)).id == "c0"
    assert api.calls == ["GET"]


def test_four_hundred_claims_are_a_get_and_a_list() -> None:
    api = many(400)
    reads = api.reads()
    for index in range(400):
        assert reads.read(f"c{index}", at(index * 0.01)).id == f"c{index}"
    assert api.calls == ["GET", "LIST"]


def test_claims_that_one_update_has_made_over_minutes_are_one_list() -> None:
    api = many(400, apart=0.5)
    reads = api.reads()
    for index in reversed(range(400)):
        assert reads.read(f"c{index}", at(index * 0.5)).id == f"c{index}"
    assert api.calls == ["GET", "LIST"]


def test_claims_of_several_years_are_three_lists_at_most() -> None:
    api = many(100, apart=86_400 * 10)
    reads = api.reads()
    for index in reversed(range(100)):
        reads.read(f"c{index}", at(index * 86_400 * 10))
    assert api.calls.count("LIST") == 3
    assert api.calls.count("GET") == 1


def test_a_claim_whose_last_change_is_not_known_makes_the_list_unbounded() -> None:
    api = many(3)
    reads = api.reads()
    for index in range(3):
        reads.read(f"c{index}", None)
    assert api.calls == ["GET", "LIST"]


def test_what_a_list_does_not_show_is_read_before_it_counts_as_gone() -> None:
    api = many(4)
    api.hidden = {"c2"}
    del api.changed["c3"]
    reads = api.reads()
    assert [reads.read(f"c{index}", at(0)).id for index in range(3)] == ["c0", "c1", "c2"]
    with pytest.raises(NotFound):
        reads.read("c3", at(0))
    assert api.calls[-1] == "GET"


def test_a_list_that_is_older_than_the_state_is_not_believed() -> None:
    api = many(3)
    reads = api.reads()
    for index in range(3):
        reads.read(f"c{index}", at(100))
    assert api.calls.count("GET") == 3


def test_what_the_process_has_written_is_not_answered_from_an_earlier_list() -> None:
    api = many(3)
    reads = api.reads()
    for index in range(3):
        reads.read(f"c{index}", at(0))
    api.changed["c1"] = 50
    reads.invalidate("c1")
    assert reads.read("c1", at(50)).status.updated_at == at(50)


def test_an_answer_that_is_older_than_the_state_is_looked_at_again() -> None:
    api = many(1)

    def sleep(seconds: float) -> None:
        api.now += seconds
        if api.now > 3:
            api.changed["c0"] = 100

    reads = BulkReader(api.get, api.list, Clock(now=lambda: api.now, sleep=sleep), grace=20)
    assert reads.read("c0", at(100)).status.updated_at == at(100)
    assert api.now > 3


def test_an_answer_with_a_less_precise_time_than_the_state_is_not_stale() -> None:
    api = many(1)
    assert api.reads(grace=20).read("c0", at(0.75)).status.updated_at == at(0)
    assert api.now == 0


def test_a_stale_answer_is_returned_after_the_grace_period() -> None:
    api = many(1)
    assert api.reads(grace=20).read("c0", at(100)).status.updated_at == at(0)
    assert 10 < api.now <= 20


def test_a_write_neither_waits_for_a_list_nor_is_answered_by_it() -> None:
    api = many(3)
    listing, may_answer = threading.Event(), threading.Event()

    def list_(since: datetime | None) -> list[CapacityClaim]:
        claims = api.list(since)
        listing.set()
        assert may_answer.wait(30)
        return claims

    reads = BulkReader(api.get, list_, Clock(), 0.0)
    reads.read("c0", at(0))
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(reads.read, "c2", at(0))
        assert listing.wait(30)
        api.changed["c1"] = 50
        reads.invalidate("c1")  # would wait for ever
        may_answer.set()
        assert reading.result(30).id == "c2"
    assert reads.read("c1", at(0)).status.updated_at == at(50)


def test_a_list_is_good_for_half_a_minute() -> None:
    api = many(3)
    reads = api.reads()
    reads.read("c0", at(0))
    reads.read("c1", at(0))
    api.now += MAXIMUM_AGE + 1
    reads.read("c2", at(0))
    assert api.calls.count("LIST") == 2


def test_many_threads_share_one_list() -> None:
    api = many(50)
    reads = api.reads()
    threads = [threading.Thread(target=reads.read, args=(f"c{i}", at(i * 0.01))) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert api.calls.count("LIST") <= 2
    assert api.calls.count("GET") <= 2


@given(
    st.dictionaries(st.sampled_from([f"c{i}" for i in range(8)]), st.floats(0, 1e8), max_size=8),
    st.lists(
        st.tuples(st.sampled_from([f"c{i}" for i in range(8)]), st.none() | st.floats(0, 1e8)), max_size=20
    ),
    st.sets(st.sampled_from([f"c{i}" for i in range(8)])),
)
def test_a_shared_read_answers_as_a_get_would(
    changed: dict[str, float], asked: list[tuple[str, float | None]], hidden: set[str]
) -> None:
    api = Api(changed)
    api.hidden = hidden
    reads = api.reads()
    for claim_id, seen in asked:
        known = None if seen is None else at(seen)
        if claim_id in changed:
            assert reads.read(claim_id, known) == api.claim(claim_id)
        else:
            with pytest.raises(NotFound):
                reads.read(claim_id, known)


def leave(api: Api, ids: list[str], known: bool = True, timeout: float = 60.0) -> list[CapacityClaim | None]:
    deletions = api.deletions()
    return [deletions.wait(claim_id, at(0), listed_before=known, timeout=timeout) for claim_id in ids]


def test_a_claim_that_lists_have_shown_is_gone_when_they_lack_it() -> None:
    api = many(2)
    api.gone_at = {"c0": 5.0}
    assert leave(api, ["c0"]) == [None]
    assert api.calls == ["GET"] + ["LIST"] * 5
    assert 5 <= api.now < 7


def test_claims_that_are_gone_at_once_are_a_get_each() -> None:
    api = many(9)
    api.gone_at = dict.fromkeys(api.changed, 0.0)
    assert leave(api, list(api.changed)) == [None] * 9
    assert api.calls == ["GET"] * 9
    assert api.now == 0


def test_a_slow_deletion_does_not_slow_down_the_next_one() -> None:
    api = many(2)
    deletions = api.deletions()
    api.gone_at = {"c0": 900.0}
    assert deletions.wait("c0", at(0), listed_before=True, timeout=1200) is None
    began = api.now
    api.gone_at["c1"] = began + 5
    assert deletions.wait("c1", at(0), listed_before=True, timeout=1200) is None
    assert api.now < began + 15


def test_a_claim_that_no_list_has_shown_is_asked_for_by_get() -> None:
    api = many(2)
    api.hidden = {"c0"}
    api.gone_at = {"c0": 5.0}
    assert leave(api, ["c0"], known=False) == [None]
    assert set(api.calls) == {"GET"}
    assert api.now >= 5


def test_a_departure_that_takes_too_long_answers_with_the_claim_as_it_is() -> None:
    for known in (True, False):
        api = many(1)
        (last,) = leave(api, ["c0"], known=known, timeout=30)
        assert last is not None
        assert api.now <= 30


def test_a_claim_that_is_gone_at_the_last_moment_counts_as_gone() -> None:
    api = many(1)
    api.gone_at = {"c0": 29.0}
    assert leave(api, ["c0"], known=False, timeout=29.5) == [None]


def test_many_deletions_share_their_lists() -> None:
    api = many(200)
    began = time.monotonic()
    clock = Clock(now=lambda: time.monotonic() - began)
    api.gone_at = dict.fromkeys(api.changed, 0.5)

    def get(claim_id: str) -> CapacityClaim:
        api.now = clock.now()
        return api.get(claim_id)

    def list_(since: datetime | None) -> list[CapacityClaim]:
        api.now = clock.now()
        return api.list(since)

    deletions = DeletionWaiter(get, list_, clock)
    with ThreadPoolExecutor(len(api.changed)) as waiting:
        ends = waiting.map(
            lambda claim_id: deletions.wait(claim_id, at(0), listed_before=True, timeout=60), api.changed
        )
        assert list(ends) == [None] * len(api.changed)
    assert len(api.calls) < len(api.changed) / 4  # by itself each would look several times


def test_deletions_that_begin_one_by_one_share_ever_fewer_lists() -> None:
    api = many(200)
    began = time.monotonic()
    clock = Clock(now=lambda: 10 * (time.monotonic() - began), sleep=lambda s: time.sleep(s / 10))
    looking = threading.Lock()

    def now(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*arguments: object) -> Any:
            with looking:
                api.now = clock.now()
                return read(*arguments)

        return reading

    deletions = DeletionWaiter(now(api.get), now(api.list), clock)
    with ThreadPoolExecutor(len(api.changed)) as waiting:
        ends = []
        for claim_id in api.changed:  # twenty a second, and each is there for five seconds more
            api.gone_at[claim_id] = clock.now() + 5
            ends.append(waiting.submit(deletions.wait, claim_id, at(0), listed_before=True, timeout=60))
            clock.sleep(0.05)
        assert [end.result() for end in ends] == [None] * len(api.changed)
    assert api.calls.count("GET") == 1
    assert api.calls.count("LIST") <= 25


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 400])
def test_a_few_claims_are_looked_up_by_get_and_more_by_one_list(count: int) -> None:
    asked: list[str] = []

    def get(claim_id: str) -> CapacityClaim:
        asked.append("GET")
        if claim_id != "7":
            raise NotFound("it is not there")
        return CapacityClaim.model_validate({"spec": {"id": claim_id, "name": "seven"}})

    def list_() -> list[CapacityClaim]:
        asked.append("LIST")
        return [CapacityClaim.model_validate({"spec": {"id": "7", "name": "seven"}})]

    existing = ExistingClaims(get, list_)
    found = [existing.find(str(number)) for number in reversed(range(count))]
    assert [claim.id for claim in found if claim is not None] == ["7"] * (count > 7)
    assert asked.count("LIST") == (count > FEW)
    assert asked.count("GET") <= FEW + 1


def test_an_outage_is_met_once_however_many_claims_are_looked_up() -> None:
    asked: list[str] = []

    def get(claim_id: str) -> CapacityClaim:
        asked.append(claim_id)
        raise Unavailable("down")

    existing = ExistingClaims(get, list)
    for number in range(5):
        with pytest.raises(Unavailable):
            existing.find(str(number))
    assert asked == ["0"]
