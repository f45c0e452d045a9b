"""A bad network and an API that is down, on the real engine: slower, never doubled."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import pytest
from support.crash import Operation, assert_settled, until
from support.stack import Stack, claim

from coreweave_inference.emulator import FaultProfile

Start = Callable[..., Stack]

UP = ("up", "--yes", "--skip-preview")
LONG: Final = float(os.environ.get("OUTAGE_SECONDS", "6"))
"""How long an outage in the middle of an `up` lasts."""
DOWN = [{"name": "down", "fail": {"code": "unavailable", "form": "html"}}]


def test_fifty_claims_become_fifty_when_every_third_call_fails(start: Start) -> None:
    stack = start(allocation_delay=1.0)
    wanted = {f"team-{index}": claim(1) for index in range(50)}
    stack.declare(**wanted)
    stack.emulator.set_faults(FaultProfile.random(seed=7, rate=0.3))
    stack.pulumi(*UP)
    requests = stack.emulator.requests()
    assert sum(1 for each in requests if each.fault) > 0.2 * len(requests)
    stack.emulator.clear_faults()
    assert len(stack.emulator.claims()) == 50
    assert_settled(stack, wanted)


def test_an_outage_in_the_middle_of_an_up_is_waited_out(start: Start) -> None:
    stack = start(environment={"COREWEAVE_RETRY_DEADLINE": f"{5 * LONG}s"})
    patience = {"timeout": f"{60 + 5 * LONG}s"}
    wanted = {f"team-{index}": claim(1, readiness=patience) for index in range(8)}
    stack.declare(**wanted)
    # Four creates at a time: the first are answered, the rest meets the outage.
    stack.emulator.set_faults([{"path": "create", "nth": 4, "hold": "after"}])
    with Operation(stack, *UP) as operation:
        stack.emulator.wait_for_hold(60)
        stack.emulator.set_faults(DOWN)
        stack.emulator.release()
        end = stack.emulator.requests()[-1].time + LONG
        until(lambda: any(each.time > end for each in stack.emulator.requests()), timeout=3 * LONG)
        stack.emulator.clear_faults()
        assert operation.wait() == 0, operation.output
    assert_settled(stack, wanted)


@pytest.mark.thorough
def test_an_outage_beyond_the_deadline_fails_and_the_next_up_continues(start: Start) -> None:
    stack = start(environment={"COREWEAVE_RETRY_DEADLINE": f"{LONG / 3}s"})
    wanted = {f"team-{index}": claim(1) for index in range(8)}
    stack.declare(**wanted)
    # The answers of the first creates are lost in the outage; they were committed. One claim may lose two.
    stack.emulator.set_faults([{"path": "create", "times": 2, "drop": "after"}, *DOWN])
    assert stack.pulumi(*UP, check=False).returncode != 0
    assert "Traceback" not in stack.output
    assert "unavailable" in stack.output
    committed = {each.id for each in stack.emulator.claims()}
    assert 1 <= len(committed) <= 2

    stack.emulator.clear_faults()
    stack.pulumi(*UP)
    assert committed <= {each.id for each in stack.emulator.claims()}
    assert_settled(stack, wanted)


def test_an_outage_while_the_program_waits_is_waited_through(start: Start) -> None:
    stack = start(environment={"COREWEAVE_RETRY_DEADLINE": "1s"})
    wanted = {"training": claim(2)}
    stack.declare(**wanted)
    stack.emulator.set_faults([{"method": "GET", "fail": {"code": "unavailable"}, "times": 3}])
    stack.pulumi(*UP)
    assert sum(1 for each in stack.emulator.requests() if each.fault) == 3
    assert_settled(stack, wanted)


def test_a_lost_response_to_the_post_creates_one_claim(start: Start) -> None:
    stack = start()
    wanted = {"training": claim(4)}
    stack.declare(**wanted)
    stack.emulator.set_faults([{"path": "create", "nth": 1, "drop": "after"}])
    stack.pulumi(*UP)
    posts = [each for each in stack.emulator.requests() if each.method == "POST"]
    assert [each.committed for each in posts] == [True, False]
    assert_settled(stack, wanted)
