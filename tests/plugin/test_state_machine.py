"""Random histories of a stack against random APIs: whatever dies when, one claim per declaration."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.machine import Histories, ProcessHistories
from support.people import People


@pytest.mark.parametrize(
    ("histories", "examples", "length", "steps"),
    [(Histories, 60, 50, 1_900), (People, 30, 50, 850), (ProcessHistories, 3, 8, 12)],
    ids=["in this process", "with acts of people", "in a process of its own"],
)
def test_every_history_keeps_one_claim_per_declaration(
    histories: type[Histories], examples: int, length: int, steps: int
) -> None:
    before = Histories.steps
    run_state_machine_as_test(
        histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=length,
            deadline=None,
            derandomize=True,  # the same histories in every run
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    made = Histories.steps - before
    sys.stdout.write(
        f"{made} steps, {Histories.operations} operations, {Histories.died} deaths, "
        f"{Histories.lost} of them with a claim the state did not know, {Histories.refused} refusals to end "
        "a stack with such a claim\n"
    )
    assert made >= steps
    assert histories is not Histories or Histories.refused
