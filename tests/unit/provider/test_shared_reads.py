"""Claims that are deleted at the same time by several threads of the provider."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from coreweave_inference import CapacityClaim, NotFound, Unavailable
from pulumi_coreweave_inference.reads import BulkReader, DeletionWaiter, Once
from pulumi_coreweave_inference.rounds import Clock


class Counted:
    """A lock that counts who asks for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.came = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.came.release()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@pytest.mark.parametrize("at_once", [True, False])
def test_claims_deleted_together_wait_for_one_get(at_once: bool) -> None:
    asked: list[str] = []
    may_answer = threading.Event()

    def get(claim_id: str) -> CapacityClaim:
        asked.append(claim_id)
        may_answer.wait(30)
        if at_once:
            raise NotFound("gone")
        return CapacityClaim.model_validate({"spec": {"id": claim_id}})

    def list_(_since: Any) -> list[CapacityClaim]:
        return []  # all are gone by the time the first list is made

    now = iter(range(10_000))
    deletions = DeletionWaiter(get, list_, Clock(now=lambda: float(next(now)), sleep=lambda _: None))
    scout = Counted()
    deletions._flight._lock = scout  # type: ignore[assignment]
    with ThreadPoolExecutor(3) as threads:
        waits = [
            threads.submit(deletions.wait, f"c{number}", None, listed_before=True, timeout=600)
            for number in range(3)
        ]
        assert all(scout.came.acquire(timeout=30) for _ in waits)
        assert len(asked) == 1  # two have come, and have not asked
        may_answer.set()
        assert [wait.result(30) for wait in waits] == [None] * 3
    assert len(asked) == (3 if at_once else 1)


def test_a_list_proves_nothing_about_a_claim_that_joins_meanwhile() -> None:
    """It reaches back no further than to the claims that were leaving when it was asked for."""
    began = time.monotonic()
    asked, may_answer = threading.Event(), threading.Event()

    def claim(claim_id: str, minute: int) -> CapacityClaim:
        changed = f"2026-05-14T05:{minute:02}:00Z"
        return CapacityClaim.model_validate({"spec": {"id": claim_id}, "status": {"updatedAt": changed}})

    def there() -> bool:
        return time.monotonic() - began < 1.5

    def get(claim_id: str) -> CapacityClaim:
        asked.set()
        assert may_answer.wait(30)
        return claim(claim_id, 0)

    def list_(since: datetime | None) -> list[CapacityClaim]:
        claims = [claim("early", 0), claim("late", 30)] if there() else []
        return [one for one in claims if since is None or str(one.status.updated_at) >= since.isoformat()]

    deletions = DeletionWaiter(get, list_, Clock())
    scout = Counted()
    deletions._flight._lock = scout  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(deletions.wait, "late", "2026-05-14T05:30:00Z", listed_before=True, timeout=60)
        assert asked.wait(30)
        early = threads.submit(
            deletions.wait, "early", "2026-05-14T05:00:00Z", listed_before=True, timeout=60
        )
        assert all(scout.came.acquire(timeout=30) for _ in range(2))
        may_answer.set()
        assert early.result(30) is None
        assert not there()
        assert late.result(30) is None


def test_callers_that_wait_for_a_failing_call_share_its_error() -> None:
    calls: list[str] = []
    may_answer = threading.Event()

    def list_(_since: Any) -> list[CapacityClaim]:
        calls.append("LIST")
        assert may_answer.wait(30)
        raise Unavailable("down")

    def get(claim_id: str) -> CapacityClaim:
        return CapacityClaim.model_validate({"spec": {"id": claim_id}})

    reads = BulkReader(get, list_, Clock(), 0.0)
    reads.read("c0", None)
    gate = Counted()
    reads._flight._lock = gate  # type: ignore[assignment]
    with ThreadPoolExecutor(4) as threads:
        waits = [threads.submit(reads.read, f"c{number}", None) for number in range(4)]
        assert all(gate.came.acquire(timeout=30) for _ in waits)
        may_answer.set()
        assert [str(wait.exception(30)) for wait in waits] == [str(Unavailable("down"))] * 4
    assert calls == ["LIST"]
    with pytest.raises(Unavailable):
        reads.read("c5", None)  # who comes later asks anew
    assert calls == ["LIST", "LIST"]


def test_two_callers_that_need_a_value_at_once_ask_for_it_once() -> None:
    asked, may_answer = threading.Event(), threading.Event()
    answers = iter(["first", "second"])

    def ask() -> str:
        asked.set()
        assert may_answer.wait(30)
        return next(answers)

    once = Once(ask, Clock())
    gate = Counted()
    once._flight._lock = gate  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as threads:
        values = [threads.submit(once) for _ in range(2)]
        assert all(gate.came.acquire(timeout=30) for _ in values)
        assert asked.wait(30)
        may_answer.set()
        assert [value.result(30) for value in values] == ["first", "first"]
    assert once() == "first"


def test_a_question_that_failed_is_asked_again_and_does_not_fail_others() -> None:
    answers: list[Exception | str] = [Unavailable("down"), "up"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    once, other = Once(ask, Clock()), Once(lambda: "known", Clock())
    with pytest.raises(Unavailable):
        once()
    assert (other(), once(), once()) == ("known", "up", "up")


def test_one_claim_that_still_exists_ends_the_gets_of_the_others() -> None:
    calls: list[str] = []

    def get(claim_id: str) -> CapacityClaim:
        calls.append(claim_id)
        if claim_id == "quick":
            raise NotFound("gone")
        return CapacityClaim.model_validate({"spec": {"id": claim_id}})

    now = iter(range(10_000))
    clock = Clock(now=lambda: float(next(now)), sleep=lambda _: None)
    deletions = DeletionWaiter(get, lambda _: [], clock)
    for claim_id in ("quick", "slow", "later"):
        assert deletions.wait(claim_id, None, listed_before=True, timeout=600) is None
    assert calls == ["quick", "slow"]
