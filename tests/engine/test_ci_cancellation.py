"""What a CI system does to a `pulumi up` when its job is cancelled: signals to the CLI alone, then a kill."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest
from support.crash import Operation, assert_settled, entries, locked, pending, until
from support.stack import Stack, claim

Start = Callable[..., Stack]

UP = ("up", "--yes", "--skip-preview")
# GitHub Actions: SIGINT, SIGTERM after 7.5 s, SIGKILL of the process tree after another 2.5 s.
BEFORE_SIGTERM, BEFORE_SIGKILL = 7.5, 2.5


def ends_within(operation: Operation, seconds: float) -> bool:
    """Whether the CLI ends in time."""
    try:
        operation.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_of_a_ci_system_ends_a_wait_in_time(start: Start, first: signal.Signals) -> None:
    stack = start(inventory={"US-WEST-04A": {"gb200-4x": 1}, "US-EAST-04A": {}})
    declared = {"a": claim(2)}
    stack.declare(**declared)
    with Operation(stack, *UP) as operation:
        until(lambda: "a: 1/2" in operation.output)
        operation.send(first)
        assert ends_within(operation, BEFORE_SIGTERM), operation.output
        assert "interrupted" in operation.output
    assert (locked(stack), pending(stack), len(entries(stack))) == (False, [], 1)
    (held,) = stack.emulator.claims()
    stack.emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 2}, "US-EAST-04A": {}})
    stack.pulumi(*UP)
    assert [each.id for each in stack.emulator.claims()] == [held.id]
    assert_settled(stack, declared)


@pytest.mark.thorough
def test_a_job_killed_in_a_create_is_repaired_by_the_next_up(start: Start) -> None:
    stack = start(environment={"COREWEAVE_HTTP_TIMEOUT": "120s"})
    declared = {"a": claim(1)}
    stack.declare(**declared)
    stack.emulator.set_faults([{"path": "create", "hold": "after"}])
    with Operation(stack, *UP) as operation:
        stack.emulator.wait_for_hold(60)
        operation.send(signal.SIGINT)
        assert not ends_within(operation, BEFORE_SIGTERM)
        operation.send(signal.SIGTERM)
        ends_within(operation, BEFORE_SIGKILL)
        operation.kill()
    assert (entries(stack), pending(stack)) == ([], ["creating"])
    (held,) = stack.emulator.claims()
    stack.emulator.clear_faults()
    if locked(stack):
        stack.pulumi("cancel", "--yes")
    stack.pulumi(*UP)
    assert [each.id for each in stack.emulator.claims()] == [held.id]
    assert_settled(stack, declared)
