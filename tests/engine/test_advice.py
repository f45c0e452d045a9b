"""The commands that a failed wait prints, each run as printed, in the state in which it is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, Final

from support.crash import assert_settled
from support.stack import BACKWARD, FORWARD, Stack, claim

from coreweave_inference.emulator import ClaimRecord

Start = Callable[..., Stack]

SCARCE: Final = {"US-WEST-04A": {"gb200-4x": 6}, "US-EAST-04A": {"gb200-4x": 0}}
IMPATIENT: Final = {"timeout": "2s"}
OTHER: Final = claim(1, FORWARD, readiness=None)
UNATTENDED: Final = {"up": ["--yes", "--skip-preview"], "refresh": ["--yes", "--skip-preview"]}


def printed(stack: Stack) -> list[str]:
    """The commands in the error of the last run, in order."""
    error = stack.output.partition("Diagnostics:")[2]
    assert "Traceback" not in error
    return list(dict.fromkeys(re.findall(r"`(pulumi [^`]*)`", error)))


def run(stack: Stack, command: str, check: bool = True) -> None:
    """Run a command exactly as printed, except that nobody is there to confirm it."""
    _, *arguments = shlex.split(command)
    stack.pulumi(*arguments, *UNATTENDED.get(arguments[0], []), check=check)


def up(stack: Stack, **claims: dict[str, Any]) -> None:
    stack.declare(**claims)
    run(stack, "pulumi up", check=False)


def held(stack: Stack) -> dict[str, ClaimRecord]:
    return {each.id: each for each in stack.emulator.claims()}


def test_the_ways_out_of_a_replacement_that_is_not_ready(start: Start) -> None:
    stack = start(inventory=SCARCE)
    before = {"training": claim(4, FORWARD, readiness=IMPATIENT), "other": OTHER}
    up(stack, **before)
    kept = held(stack)
    old = stack.resources()["training"]["id"]
    up(stack, **before | {"training": claim(4, BACKWARD, readiness=IMPATIENT)})
    assert printed(stack) == ["pulumi up"]
    name = kept[old].name
    assert f"'{name}' (id {old}), which it may replace: 4 of 4 gb200-4x instances" in stack.output
    assert f"or give up: declare what '{name}' has (4 gb200-4x in US-WEST-04A, US-EAST-04A" in stack.output

    both = held(stack)
    assert kept.items() < both.items()
    run(stack, "pulumi up", check=False)  # "to keep waiting"
    assert held(stack) == both
    assert printed(stack) == ["pulumi up"]

    stack.declare(**before)
    run(stack, "pulumi up")  # "which keeps that claim and releases this one"
    assert held(stack) == kept
    assert_settled(stack, before)


def test_the_ways_out_of_a_first_claim_that_is_not_ready(start: Start) -> None:
    stack = start(inventory=SCARCE)
    up(stack, other=OTHER)
    kept = held(stack)
    wanted = {"training": claim(40, FORWARD, readiness=IMPATIENT), "other": OTHER}
    up(stack, **wanted)
    assert printed(stack) == ["pulumi up", "pulumi preview"]
    both = held(stack)
    run(stack, "pulumi up", check=False)
    assert held(stack).keys() == both.keys()

    stack.declare(other=OTHER)  # "remove the claim from the program"
    run(stack, "pulumi preview")  # "shows what that releases"
    assert "1 to delete" in stack.output
    assert held(stack).keys() == both.keys()
    run(stack, "pulumi up")
    assert held(stack) == kept


def test_the_ways_out_of_a_claim_that_has_failed(start: Start) -> None:
    stack = start()
    wanted = {"training": claim(4, readiness=IMPATIENT), "other": OTHER}
    up(stack, **wanted)
    failed = stack.resources()["training"]["id"]
    kept = {id: each for id, each in held(stack).items() if id != failed}
    stack.emulator.edit_claim(failed, status={"status": "STATUS_FAILED", "allocatedInstances": 0})
    up(stack, **wanted)
    replace, preview = printed(stack)
    assert replace.startswith("pulumi up --replace ")
    assert preview == "pulumi preview"

    run(stack, replace)
    assert kept.items() < held(stack).items()
    assert {each.status for each in held(stack).values()} == {"STATUS_READY"}
    assert_settled(stack, wanted)


def test_the_ways_out_of_a_claim_that_is_not_what_the_state_says(start: Start) -> None:
    stack = start()
    wanted = {"training": claim(4, readiness=IMPATIENT), "other": OTHER}
    up(stack, **wanted)
    changed = stack.resources()["training"]["id"]
    kept = {id: each for id, each in held(stack).items() if id != changed}
    stack.emulator.edit_claim(changed, delete=True)
    up(stack, **wanted)
    assert "no longer exists" in stack.output
    commands = printed(stack)
    assert commands == ["pulumi refresh", "pulumi up"]
    for command in commands:
        run(stack, command)
    assert kept.items() < held(stack).items()
    assert_settled(stack, wanted)

    changed = stack.resources()["training"]["id"]
    stack.emulator.edit_claim(changed, spec={"resources": {"instanceCount": 6}})
    up(stack, **wanted)
    assert "it was changed outside of Pulumi" in stack.output
    commands = printed(stack)
    assert commands == ["pulumi refresh", "pulumi preview"]
    for command in commands:
        run(stack, command)
    assert "1 to update" in stack.output
    assert held(stack)[changed].instance_count == 6
    assert kept.items() < held(stack).items()
