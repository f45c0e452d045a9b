"""What people do to stacks, on the real engine: no act of theirs releases or doubles capacity unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.stack import Stack, claim

Start = Callable[..., Stack]


def up(stack: Stack, *arguments: str, check: bool = True, **claims: dict[str, Any]) -> int:
    """`pulumi up` of these claims; answers the exit status."""
    stack.declare(**claims)
    return stack.pulumi("up", "--yes", "--skip-preview", *arguments, check=check).returncode


def urn(stack: Stack, name: str) -> str:
    return str(stack.resources()[name]["urn"])


def held(stack: Stack) -> dict[str, int]:
    """What the API holds: the count of each claim by its id."""
    return {each.id: each.instance_count for each in stack.emulator.claims()}


def copy_of(stack: Stack, name: str) -> Stack:
    """Another stack with a copy of the state, as `pulumi stack export` and `import` make it."""
    exported = stack.pulumi("stack", "export").stdout.replace(
        f"urn:pulumi:{stack.name}::", f"urn:pulumi:{name}::"
    )
    copy = Stack(stack.folder, stack.emulator, {}, name)
    file = stack.folder / "copy.json"
    file.write_text(exported, encoding="utf-8")
    copy.pulumi("stack", "import", "--file", str(file))
    return copy


def test_a_freed_name_does_not_take_the_renamed_claim_and_scale_it(start: Start) -> None:
    stack = start()
    up(stack, old=claim(4))
    up(stack, new=claim(4, opts={"aliases": ["old"]}))
    before = held(stack)
    both = {"new": claim(4, opts={"aliases": ["old"]}), "old": claim(2)}
    target = urn(stack, "new").replace("::new", "::old")
    for command in (("preview",), ("up", "--yes", "--skip-preview")):
        stack.declare(**both)
        assert stack.pulumi(*command, "--target", target, check=False).returncode != 0
        assert "a claim with this id exists with 4 instances, and 2 are declared" in stack.output
        assert "Traceback" not in stack.output
    assert held(stack) == before

    # With the same count nothing changes, so a preview only says what it takes over.
    stack.declare(new=claim(4, opts={"aliases": ["old"]}), old=claim(4))
    assert "it is taken over, not created" in stack.pulumi("preview", "--target", target).stdout

    # The way out that the error names.
    both["another"] = both.pop("old")
    up(stack, **both)
    assert sorted(held(stack).values()) == [2, 4]
    assert before.items() <= held(stack).items()


@pytest.mark.thorough
def test_a_claim_that_was_moved_to_another_stack_is_not_scaled_by_the_first(start: Start) -> None:
    stack = start()
    up(stack, training=claim(4))
    other = Stack(stack.folder, stack.emulator, {}, "other")
    up(other, evaluation=claim(1))
    before = held(stack)
    stack.pulumi("state", "move", "--source", stack.name, "--dest", "other", "--yes", urn(stack, "training"))
    assert stack.resources() == {}
    assert up(stack, check=False, training=claim(2)) != 0
    assert "exists with 4 instances, and 2 are declared" in stack.output
    assert held(stack) == before


def test_a_copied_stack_gets_claims_of_its_own_as_the_error_advises(start: Start) -> None:
    stack = start()
    up(stack, training=claim(4))
    before = held(stack)
    copy = copy_of(stack, "copy")
    copy.pulumi("state", "delete", "--yes", urn(copy, "training"))
    assert up(copy, check=False, training=claim(2)) != 0
    assert held(stack) == before
    assert "pulumi state delete --target-dependents URN" in copy.output

    (namespace,) = (
        each["urn"] for each in copy.export()["resources"] if each["type"].endswith("ClaimNamespace")
    )
    copy.pulumi("state", "delete", "--yes", "--target-dependents", namespace)
    up(copy, training=claim(2))
    assert before.items() <= held(stack).items()
    assert sorted(held(stack).values()) == [2, 4]
    copy.destroy()
    assert held(stack) == before


def test_one_wrong_not_found_does_not_end_a_stack(start: Start) -> None:
    stack = start()
    up(stack, training=claim(4))
    stack.emulator.set_faults([{"path": "delete", "nth": 1, "fail": {"code": "not_found"}}])
    stack.destroy()
    assert held(stack) == {}


@pytest.mark.thorough
def test_an_api_that_sorts_zones_shows_no_change_and_is_scaled_in_place(start: Start) -> None:
    stack = start(zones_shown="sorted", capacity_type_shown="unspecified")
    up(stack, training=claim(4))
    assert "the API shows resources.zones as US-EAST-04A, US-WEST-04A instead of" in stack.output
    (claim_id,) = held(stack)
    assert stack.preview() == {}
    assert stack.refresh() == {"same": 3}
    up(stack, training=claim(6))
    assert held(stack) == {claim_id: 6}
    assert "instead of" not in stack.output

    # A create whose response was lost is taken over, though the API shows it in another form.
    stack.pulumi("state", "delete", "--yes", urn(stack, "training"))
    up(stack, training=claim(6))
    assert held(stack) == {claim_id: 6}


def test_a_forced_replacement_of_a_failed_claim_creates_a_new_one(start: Start) -> None:
    scarce = {"US-WEST-04A": {"gb200-4x": 2}, "US-EAST-04A": {"gb200-4x": 0}}
    stack = start(inventory=scarce, shortage="failed", shortage_failed_after=0.5)
    assert up(stack, check=False, training=claim(4)) != 0
    (failed,) = held(stack)
    stack.emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 8}, "US-EAST-04A": {"gb200-4x": 0}})
    up(stack, "--replace", urn(stack, "training"), training=claim(4))
    (replaced,) = held(stack)
    assert replaced != failed
    assert len(json.loads(json.dumps(stack.resources()))) == 1


@pytest.mark.thorough
def test_a_saved_plan_is_carried_out_and_refuses_more(start: Start) -> None:
    stack = start()
    up(stack, training=claim(4))
    stack.declare(training=claim(6))
    plan = str(stack.folder / "plan.json")
    stack.pulumi("preview", "--save-plan", plan)
    up(stack, "--plan", plan, training=claim(6))
    assert list(held(stack).values()) == [6]

    stack.declare(training=claim(6))
    stack.pulumi("preview", "--save-plan", plan)
    assert up(stack, "--plan", plan, check=False, training=claim(2)) != 0
    assert list(held(stack).values()) == [6]


@pytest.mark.thorough
def test_a_protected_claim_is_not_released(start: Start) -> None:
    stack = start()
    up(stack, training=claim(4, opts={"protect": True}))
    before = held(stack)
    assert stack.pulumi("destroy", "--yes", "--skip-preview", check=False).returncode != 0
    assert up(stack, check=False, training=claim(4, ["US-EAST-04A"], opts={"protect": True})) != 0
    assert up(stack, check=False) != 0
    assert held(stack) == before


@pytest.mark.thorough
def test_a_claim_that_the_engine_does_not_delete_keeps_the_namespace(start: Start) -> None:
    stack = start()
    up(
        stack,
        host=claim(1),
        guest=claim(2, opts={"deleted_with": "host"}),
        retained=claim(3, opts={"retain_on_delete": True}),
    )
    ids = {name: entry["id"] for name, entry in stack.resources().items()}
    assert stack.pulumi("destroy", "--yes", "--skip-preview", check=False).returncode != 0
    assert held(stack) == {ids["guest"]: 2, ids["retained"]: 3}
    assert "2 capacity claims of this stack exist, but its state does not hold them" in stack.output

    # Both are found again by their declarations.
    up(stack, guest=claim(2), retained=claim(3))
    assert {name: entry["id"] for name, entry in stack.resources().items()} == {
        name: ids[name] for name in ("guest", "retained")
    }
    stack.destroy()
    assert held(stack) == {}


@pytest.mark.thorough
def test_renaming_excluding_and_tainting_do_not_touch_other_claims(start: Start) -> None:
    stack = start()
    up(stack, old=claim(4), other=claim(1))
    before = held(stack)
    stack.pulumi("state", "rename", urn(stack, "old"), "new", "--yes")
    # The program does not know yet: the claim changes its entry, and lives on.
    up(stack, old=claim(4), other=claim(1))
    assert held(stack) == before
    stack.pulumi("state", "rename", urn(stack, "old"), "new", "--yes")
    assert up(stack, check=False, old=claim(2), other=claim(1)) != 0
    assert "exists with 4 instances, and 2 are declared" in stack.output
    stack.pulumi("stack", "rename", "renamed")
    stack.name = "renamed"
    up(stack, new=claim(4), other=claim(1))
    assert stack.writes().count("DELETE") == 0
    up(stack, "--exclude", urn(stack, "new"), new=claim(4, ["US-EAST-04A"]), other=claim(2))
    stack.pulumi("state", "taint", urn(stack, "other"), "--yes")
    up(stack, new=claim(4), other=claim(2))
    assert held(stack) == {each: 4 if count == 4 else 2 for each, count in before.items()}


HOOKED = """
import pulumi

import pulumi_coreweave_inference as inference


def scale(args):
    if args.type_.endswith(":CapacityClaim"):
        resources = {**args.props["resources"], "instanceCount": 3}
        return pulumi.ResourceTransformResult({**args.props, "resources": resources}, args.opts)


def say(args):
    print("the hook sees", args.name)


pulumi.runtime.register_stack_transform(scale)
hooks = pulumi.ResourceHookBinding(before_delete=[pulumi.ResourceHook("say", say)])
inference.CapacityClaim(
    "training",
    pulumi.ResourceOptions(hooks=hooks),
    resources={"instance_id": "gb200-4x", "instance_count": 40, "zones": ["US-WEST-04A"]},
)
"""


def test_a_claim_with_a_transform_and_a_delete_hook_lives_and_is_released(start: Start) -> None:
    stack = start()
    (stack.folder / "__main__.py").write_text(HOOKED, encoding="utf-8")
    stack.up()
    assert list(held(stack).values()) == [3]
    assert stack.preview() == {}
    assert stack.pulumi("destroy", "--yes", "--skip-preview", check=False).returncode != 0
    assert list(held(stack).values()) == [3]  # the engine wants the program, which has the hook

    (claim_id,) = held(stack)
    stack.emulator.edit_claim(claim_id, status={"status": "STATUS_ERROR", "allocatedInstances": 0})
    stack.pulumi("destroy", "--yes", "--skip-preview", "--run-program")
    assert "the hook sees training" in stack.output
    assert held(stack) == {}
