"""A short soak; `make soak MINUTES=20` is a long one."""

from __future__ import annotations

import pytest
from soak.soak import soak


@pytest.mark.thorough
def test_random_work_with_random_deaths_keeps_one_claim_per_declaration() -> None:
    log: list[str] = []
    try:
        counts = soak(seed=404, say=log.append, maximum=4)
    finally:
        print("\n".join(log))  # shown when it fails: the steps to replay
    assert counts["deaths"] >= 1
    assert counts["clean ups"] >= 2
