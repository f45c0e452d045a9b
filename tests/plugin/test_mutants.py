"""The random histories find deliberate bugs in the provider."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.machine import Histories
from support.mutants import MUTANTS
from support.people import People

OF_PEOPLE = ("greedy", "persevering")
"""What the histories with acts of people find."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_deliberate_bug_is_found(mutant: str) -> None:
    before = Histories.steps
    with MUTANTS[mutant](), pytest.raises(AssertionError) as found:
        run_state_machine_as_test(
            People if mutant in OF_PEOPLE else Histories,
            settings=settings(
                max_examples=300,
                stateful_step_count=50,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    sys.stdout.write(f"{mutant}: {Histories.steps - before} steps: {str(found.value).splitlines()[0]}\n")
