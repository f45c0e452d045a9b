"""When to look: the one rule of both waiters, and the loop of those that wait alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_coreweave_inference.rounds import FIRST_LOOK, LONGEST, PAUSES, SETTLED, Clock, Rounds


def looks(joins: list[float], until: float) -> list[float]:
    """When looks happen if claims join at these times, and all wait until `until`."""
    rounds = Rounds()
    waiting, times = sorted(joins), list[float]()
    rounds.join(waiting.pop(0))
    while True:
        due = rounds.due()
        if waiting and waiting[0] <= due:
            rounds.join(waiting.pop(0))
        elif due > until:
            return times
        else:
            rounds.look(due)
            times.append(due)


def test_a_claim_alone_is_looked_at_at_once_and_then_ever_more_rarely() -> None:
    assert looks([0.0], 20.0) == pytest.approx([0.05, 0.55, 1.55, 3.55, 6.55, 11.55, 16.55])


def test_claims_that_join_one_by_one_are_looked_at_when_they_have_settled() -> None:
    joins = [index / 10 for index in range(21)]
    assert looks(joins, 3.0) == pytest.approx([0.05, 2.0 + SETTLED, 2.0 + SETTLED + PAUSES[0]])


def test_where_few_claims_join_at_a_time_they_are_looked_at_at_once() -> None:
    rounds = Rounds(FIRST_LOOK)
    rounds.join(0.0)
    rounds.look(rounds.due())
    rounds.join(1.0)
    rounds.join(1.02)
    assert rounds.due() == pytest.approx(1.02 + FIRST_LOOK)


def test_a_claim_that_joins_long_after_the_last_look_is_looked_at_at_once() -> None:
    rounds = Rounds()
    rounds.join(0.0)
    rounds.look(1.0)
    rounds.join(1.0 + LONGEST + 0.1)
    assert rounds.due() == 1.0 + LONGEST + 0.1 + FIRST_LOOK


@pytest.mark.parametrize(("claims", "seconds", "most"), [(400, 12.0, 4), (1000, 66.0, 15)])
def test_hundreds_of_claims_share_a_few_looks(claims: int, seconds: float, most: int) -> None:
    joins = [index * seconds / claims for index in range(claims)]
    assert len(looks(joins, seconds + SETTLED)) <= most


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_nobody_waits_longer_than_the_longest_pause_for_a_look(joins: list[float]) -> None:
    times = looks(joins, 120.0)
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    for joined in joins:
        assert min(time for time in times if time > joined) - joined <= LONGEST + FIRST_LOOK


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_two_looks_are_at_least_half_a_second_apart(joins: list[float]) -> None:
    times = looks(joins, 120.0)
    assert all(later - earlier > SETTLED - 1e-6 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("until", "expected"), [(0.0, [0.0]), (1.0, [0.0, 0.5, 1.0]), (8.0, [0.0, 0.5, 1.5, 3.5, 6.5, 8.0])]
)
def test_the_last_of_several_looks_is_at_the_very_end(until: float, expected: list[float]) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    assert [now for _ in Clock(now=lambda: now, sleep=sleep).poll_until(until)] == expected
