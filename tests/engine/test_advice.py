"""The commands that a failed wait prints, each run as printed, in the state in which it is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, Final

import pytest
from support.crash import assert_settled
from support.stack import BACKWARD, FORWARD, Stack, claim

from coreweave_inference.emulator import ClaimRecord

Start = Callable[..., Stack]

SCARCE: Final = {"US-WEST-04A": {"gb200-4x": 6}, "US-EAST-04A": {"gb200-4x": 0}}
IMPATIENT: Final = {"timeout": "2s"}
OTHER: Final = claim(1, FORWARD, readiness=None)
UNATTENDED: Final = {"up": ["--yes", "--skip-preview"], "refresh": ["--yes", "--skip-preview"]}


def printed(stack: Stack, of: str = "") -> list[str]:
    """The commands in the errors of the last run, in order; with `of` only those of this resource.

    The engine interrupts the program when a resource fails, so a wait may say that it was interrupted.
    """
    error = stack.output.partition("Diagnostics:")[2]
    error = error.partition(f"({of}):")[2] if of else error
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


def up_beside_another(stack: Stack) -> tuple[dict[str, Any], dict[str, Any], dict[str, ClaimRecord]]:
    """Bring up `training` beside `other`: the program, the entry of `training`, and the claims besides it."""
    wanted = {"training": claim(4, readiness=IMPATIENT), "other": OTHER}
    up(stack, **wanted)
    entry = stack.resources()["training"]
    return wanted, entry, {id: each for id, each in held(stack).items() if id != entry["id"]}


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


@pytest.mark.thorough
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
    wanted, entry, kept = up_beside_another(stack)
    failed = entry["id"]
    stack.emulator.edit_claim(failed, status={"status": "STATUS_FAILED"})
    up(stack, **wanted)
    replace, preview = printed(stack)
    assert replace.startswith("pulumi up --replace ")
    assert preview == "pulumi preview"

    run(stack, replace)
    assert kept.items() < held(stack).items()
    assert {each.status for each in held(stack).values()} == {"STATUS_READY"}
    assert_settled(stack, wanted)


@pytest.mark.thorough
def test_the_ways_out_of_a_claim_that_is_not_what_the_state_says(start: Start) -> None:
    stack = start()
    wanted, entry, kept = up_beside_another(stack)
    changed = entry["id"]
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


@pytest.mark.thorough
def test_the_ways_out_of_a_create_that_finds_a_claim(start: Start) -> None:
    stack = start()
    wanted, training, kept = up_beside_another(stack)

    # Another count than the claim of a forced replacement has.
    more = wanted | {"training": claim(6, readiness=IMPATIENT)}
    stack.declare(**more)
    replace = f"pulumi up --replace {shlex.quote(training['urn'])}"
    run(stack, replace, check=False)
    assert "run `pulumi up` without `--replace`" in stack.output
    run(stack, "pulumi up")
    assert_settled(stack, more)

    # A claim that nothing needs any more.
    left = stack.resources()["training"]
    stack.pulumi("state", "delete", "--yes", left["urn"])
    up(stack, **wanted)
    (release,) = set(re.findall(r"`(capacity-claims release [^`]*)`", stack.output))
    assert release == f"capacity-claims release --all-stacks {left['id']}"
    assert stack.command(f"{release} --yes").returncode == 0
    assert held(stack) == kept
    up(stack, **wanted)
    assert_settled(stack, wanted)
    assert stack.command(f"{release} --yes").returncode != 0  # managed again, under the same id

    # Another content, as it was changed outside of Pulumi.
    stack.emulator.edit_claim(training["id"], spec={"resources": {"zones": ["US-EAST-04A"]}})
    run(stack, replace, check=False)
    assert "exists, but differs from the declaration" in stack.output
    assert "pulumi up --refresh" in printed(stack)
    run(stack, "pulumi up --refresh")
    assert training["id"] not in held(stack)
    assert kept.items() < held(stack).items()
    assert_settled(stack, wanted)


@pytest.mark.thorough
def test_the_ways_out_of_an_update_that_finds_a_change(start: Start) -> None:
    stack = start()
    up(stack, training=claim(4), other=OTHER)
    changed = stack.resources()["training"]["id"]
    kept = {id: each for id, each in held(stack).items() if id != changed}
    stack.emulator.edit_claim(changed, spec={"resources": {"instanceCount": 8}})
    wanted = {"training": claim(6, readiness=IMPATIENT), "other": OTHER}
    up(stack, **wanted)
    assert printed(stack, "training") == ["pulumi refresh", "pulumi up"]
    assert held(stack)[changed].instance_count == 8
    for command in printed(stack, "training"):
        run(stack, command)
    assert held(stack)[changed].instance_count == 6

    stack.emulator.edit_claim(changed, delete=True)
    up(stack, **wanted | {"training": claim(7, readiness=IMPATIENT)})
    commands = printed(stack, "training")
    assert commands == ["pulumi refresh", "pulumi up"]
    for command in commands:
        run(stack, command)
    assert kept.items() < held(stack).items()


@pytest.mark.thorough
def test_the_way_out_of_a_claim_that_two_resources_hold(start: Start) -> None:
    stack = start()
    up(stack, old=claim(4))
    up(stack, new=claim(4, opts={"aliases": ["old"]}))
    renamed = claim(4, opts={"aliases": ["old"]})
    entry = stack.resources()["new"]
    target = shlex.quote(entry["urn"].replace("::new", "::old"))
    stack.declare(new=renamed, old=claim(4))
    run(stack, f"pulumi up --target {target}")  # a preview says that it takes over the claim
    before = held(stack)
    up(stack, new=renamed, old=claim(4))
    assert "is already held by the resource" in stack.output
    assert "`pulumi state delete URN`" in stack.output
    run(stack, f"pulumi state delete {target} --yes")
    assert held(stack) == before
    up(stack, new=renamed, old=claim(4, opts={"depends_on": ["new"]}))
    assert before.items() < held(stack).items()
    assert len(held(stack)) == 2
