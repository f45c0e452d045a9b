"""Random histories of a stack against random APIs: whatever dies when, one claim per declaration."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.machine import Histories


def test_every_history_keeps_one_claim_per_declaration() -> None:
    Histories.steps = 0
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=150,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    sys.stdout.write(
        f"{Histories.steps} steps, {Histories.operations} operations, {Histories.died} deaths, "
        f"{Histories.lost} of them with a claim the state did not know\n"
    )
    assert Histories.steps >= 5_000
