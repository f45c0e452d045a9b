"""Claims that are deleted at the same time by several threads of the provider."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coreweave_inference import CapacityClaim, NotFound
from pulumi_coreweave_inference.reads import Departures


@pytest.mark.parametrize("at_once", [True, False])
def test_claims_deleted_together_wait_for_the_one_get_that_tells_how_the_api_deletes(at_once: bool) -> None:
    asked: list[str] = []
    may_answer = threading.Event()

    def get(claim_id: str) -> CapacityClaim:
        asked.append(claim_id)
        may_answer.wait(30)
        if at_once:
            raise NotFound("gone")
        return CapacityClaim.model_validate({"spec": {"id": claim_id}})

    class Scout:
        """A lock that tells how many have come for it."""

        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.came = threading.Semaphore(0)

        def __enter__(self) -> None:
            self.came.release()
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    def list_(_since: Any) -> list[CapacityClaim]:
        return []  # all are gone by the time the first list is made

    now = iter(range(10_000))
    departures = Departures(get, list_, lambda: float(next(now)), lambda _: None)
    scout = Scout()
    departures._scout = scout  # type: ignore[assignment]
    with ThreadPoolExecutor(3) as threads:
        waits = [threads.submit(departures.wait, f"c{number}", None, True, 600) for number in range(3)]
        assert all(scout.came.acquire(timeout=30) for _ in waits)
        assert len(asked) == 1  # two have come, and have not asked
        may_answer.set()
        assert [wait.result(30) for wait in waits] == [None] * 3
    assert len(asked) == (3 if at_once else 1)
