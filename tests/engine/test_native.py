"""The native plugin on the real engine, with the declarations of the dynamic resource."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from support.crash import Operation, assert_settled, entries, pending, until
from support.native import PROVIDER, TYPE, NativeStack
from support.stack import BACKWARD, FORWARD, CommandFailed, Stack, claim
from support.stack import PROGRAM as DYNAMIC_PROGRAM

import coreweave_inference as api
from coreweave_inference.emulator import Emulator, EmulatorSettings

Start = Callable[..., NativeStack]

UP: Final = ("up", "--yes", "--skip-preview")
SCARCE: Final = {"US-WEST-04A": {"gb200-4x": 2}, "US-EAST-04A": {"gb200-4x": 0}}
PLENTY: Final = {"US-WEST-04A": {"gb200-4x": 64}, "US-EAST-04A": {"gb200-4x": 64}}
SHORT: Final = {"timeout": "1s"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an emulator with the given settings, and a stack with native claims against it."""
    with ExitStack() as running:

        def start(environment: dict[str, str] | None = None, **settings: object) -> NativeStack:
            emulator = running.enter_context(Emulator(EmulatorSettings(**settings)))  # type: ignore[arg-type]
            return NativeStack(tmp_path / "program", emulator, environment or {})

        yield start


def calls(stack: Stack) -> list[str]:
    return [f"{each.method} {each.status}" for each in stack.emulator.requests() if each.method != "GET"]


def unready(stack: Stack) -> Mapping[str, Any]:
    """The claims in the state that are not ready, by resource name."""
    return {name: entry["initErrors"] for name, entry in stack.resources().items() if "initErrors" in entry}


def test_a_native_claim_lives_as_a_dynamic_one(start: Start) -> None:
    stack = start(allocation_delay=0.3)
    stack.declare(training=claim(4))
    assert stack.preview()["training"]["op"] == "create"
    assert stack.emulator.claims() == [], "a preview has created a claim"
    stack.up()
    (made,) = stack.emulator.live_claims()
    assert made.allocation, "up has not waited"
    assert stack.resources()["training"]["outputs"]["status"] == "STATUS_READY"

    stack.emulator.clear_requests()
    assert set(stack.up()) == {"same"}
    assert set(stack.refresh()) == {"same"}
    assert calls(stack) == []

    stack.declare(training=claim(6))
    assert stack.preview()["training"]["op"] == "update"
    assert stack.up()["update"] == 1
    assert stack.resources()["training"]["outputs"]["allocatedInstances"] == 6

    stack.emulator.clear_requests()
    stack.declare(training=claim(6, BACKWARD))
    assert stack.preview()["training"]["op"] == "replace"
    stack.up()
    log = stack.emulator.requests()
    (new,) = (each for each in stack.emulator.live_claims() if list(each.zones) == BACKWARD)
    deleted = next(index for index, each in enumerate(log) if each.method == "DELETE")
    seen = [each for each in log[:deleted] if each.method == "GET" and new.id in str(each.path)]
    assert seen, "the old claim was released before the new one had been seen"
    assert [each.id for each in stack.emulator.live_claims()] == [new.id]
    assert_settled(stack, {"training": claim(6, BACKWARD)})

    stack.destroy()
    assert stack.emulator.live_claims() == []


def test_a_claim_that_is_not_ready_stays_in_the_state_and_hinders_nothing_else(start: Start) -> None:
    stack = start(inventory=SCARCE)
    wanted = {"training": claim(4, readiness=SHORT), "other": claim(0, readiness=SHORT)}
    stack.declare(**wanted)
    with pytest.raises(CommandFailed, match="is not ready after 1s: 2 of 4 gb200-4x instances"):
        stack.up()
    assert "coreweave:" not in stack.output
    assert "instance_count" not in stack.output
    assert list(unready(stack)) == ["training"]

    urn = stack.resources()["other"]["urn"]
    stack.emulator.clear_requests()
    stack.up("--target", urn)
    assert set(stack.refresh()) == {"same"}, "a wait is no drift"
    assert list(unready(stack)) == ["training"], "a refresh has forgotten that the claim is not ready"
    stack.pulumi("destroy", "--yes", "--skip-preview", "--target", urn)
    assert len(stack.emulator.live_claims()) == 1

    stack.declare(training=claim(4))
    stack.emulator.set_inventory(PLENTY)
    stack.up()
    assert unready(stack) == {}
    assert calls(stack).count("POST 200") == 0, "it was created again"
    assert stack.preview() == {}


@pytest.mark.thorough
def test_a_scaled_claim_that_is_not_ready_shows_no_drift(start: Start) -> None:
    stack = start(inventory=SCARCE)
    stack.declare(training=claim(2))
    stack.up()
    stack.declare(training=claim(4, readiness=SHORT))
    with pytest.raises(CommandFailed, match="is not ready after"):
        stack.up()
    stack.refresh()
    assert list(unready(stack)) == ["training"]
    stack.emulator.set_inventory(PLENTY)
    stack.declare(training=claim(4))
    stack.up()
    assert stack.preview() == {}
    assert_settled(stack, {"training": claim(4)})


@pytest.mark.thorough
def test_a_wait_that_is_switched_on_later_waits(start: Start) -> None:
    stack = start(inventory=SCARCE)
    stack.declare(training=claim(4, readiness={"wait": False}))
    stack.up()
    assert stack.preview() == {}
    stack.declare(training=claim(4, readiness=SHORT))
    assert stack.preview()["training"]["op"] == "update"
    with pytest.raises(CommandFailed, match="is not ready after 1s: 2 of 4"):
        stack.up()
    assert list(unready(stack)) == ["training"]
    stack.declare(training=claim(4, readiness={"wait": False}))
    stack.up()
    assert unready(stack) == {}
    assert stack.preview() == {}
    assert calls(stack) == ["POST 200"]


def test_the_old_claim_stays_while_its_successor_is_not_ready(start: Start) -> None:
    stack = start(inventory=SCARCE)
    stack.declare(training=claim(2))
    stack.up()
    stack.declare(training=claim(2, BACKWARD, readiness=SHORT))
    with pytest.raises(CommandFailed, match="is kept: the claim that replaces it is not ready"):
        stack.up("--continue-on-error")
    assert len(stack.emulator.live_claims()) == 2
    stack.emulator.set_inventory(PLENTY)
    stack.declare(training=claim(2, BACKWARD))
    stack.up()
    assert_settled(stack, {"training": claim(2, BACKWARD)})


def die_in_the_create(stack: Stack) -> None:
    """An `up` that is killed when its claim exists and is not in the state yet."""
    stack.emulator.set_faults([{"path": "create", "hold": "after"}])
    with Operation(stack, *UP) as operation:
        stack.emulator.wait_for_hold(60)
        operation.kill()
    stack.emulator.clear_faults()
    stack.emulator.release()
    until(lambda: len(stack.emulator.live_claims()) == 1)
    stack.pulumi("cancel", "--yes", check=False)


def test_a_claim_of_an_earlier_provider_is_refused_not_doubled(start: Start) -> None:
    stack = start()
    stack.declare(training=claim(1))
    die_in_the_create(stack)
    forget_provider(stack)
    with pytest.raises(CommandFailed, match="this declaration has made a claim before"):
        stack.up()
    (left,) = stack.emulator.live_claims()
    assert f"pulumi import {TYPE} training {left.id}" in stack.output
    forget_provider(stack)
    stack.pulumi(
        "import",
        TYPE,
        "training",
        left.id,
        "--yes",
        "--protect=false",
        "--skip-preview",
        "--generate-code=false",
    )
    stack.up()
    assert_settled(stack, {"training": claim(1)})


@pytest.mark.thorough
def test_a_copied_state_gets_claims_of_its_own_under_another_name(start: Start, tmp_path: Path) -> None:
    stack = start()
    stack.declare(training=claim(2))
    stack.up()
    (original,) = stack.emulator.live_claims()
    state = tmp_path / "state.json"
    stack.pulumi("stack", "export", "--file", str(state))

    copy = NativeStack(tmp_path / "copy" / "program", stack.emulator)
    copy.pulumi("stack", "import", "--file", str(state))
    copy.pulumi("state", "delete", copy.resources()["training"]["urn"], "--yes")
    copy.declare(training=claim(3))
    with pytest.raises(
        CommandFailed, match="a claim with this id exists with 2 instances, and 3 are declared"
    ):
        copy.up()
    assert "`pulumi state delete URN`" in copy.output
    assert "`pulumi stack rename NAME`" in copy.output
    copy.pulumi("stack", "rename", "other")
    copy.name = "other"
    copy.up()
    assert {each.id: each.instance_count for each in stack.emulator.live_claims()} == {
        original.id: 2,
        copy.resources()["training"]["id"]: 3,
    }
    assert stack.preview() == {}


@pytest.mark.thorough
def test_a_replacement_is_given_up_with_another_count_by_what_the_text_says(start: Start) -> None:
    stack = start(inventory=SCARCE)
    stack.declare(training=claim(2))
    stack.up()
    stack.declare(training=claim(2, BACKWARD, readiness=SHORT))
    with pytest.raises(CommandFailed, match="is not ready after"):
        stack.up()
    stack.declare(training=claim(1))
    with pytest.raises(CommandFailed, match="or a replacement that was given up"):
        stack.up()
    assert "first declare instanceCount=2, which takes the claim over as it is" in stack.output
    stack.declare(training=claim(2))
    stack.up()
    stack.declare(training=claim(1))
    stack.up()
    assert_settled(stack, {"training": claim(1)})


@pytest.mark.thorough
def test_a_forced_replacement_after_an_upgrade_is_refused_and_the_text_leads_on(start: Start) -> None:
    stack = start()
    stack.declare(training=claim(1))
    stack.up()
    (made,) = stack.emulator.live_claims()
    upgraded = claim(1, opts={"version": "9.9.9"})  # of the SDK: it gets a default provider of its own
    stack.declare(training=upgraded)
    stack.up()
    urn = stack.resources()["training"]["urn"]
    stack.pulumi("state", "taint", urn, "--yes")
    with pytest.raises(CommandFailed, match="this declaration has made a claim before"):
        stack.up()
    assert f"first run `pulumi state untaint {urn}`" in stack.output
    with pytest.raises(CommandFailed, match="if the state holds it"):
        stack.up("--replace", urn)
    stack.pulumi("state", "untaint", urn, "--yes")
    stack.up()
    assert [each.id for each in stack.emulator.live_claims()] == [made.id]
    assert_settled(stack, {"training": upgraded})


@pytest.mark.thorough
def test_the_review_foresees_that_a_claim_is_taken_over(start: Start) -> None:
    stack = start()
    stack.declare(training=claim(1))
    die_in_the_create(stack)
    (made,) = stack.emulator.live_claims()
    preview = stack.folder / "preview.json"
    preview.write_text(stack.pulumi("preview", "--json").stdout, encoding="utf-8")
    review = stack.command(f"capacity-claims review {preview} --format markdown")
    assert "**take over** an existing claim" in review.stdout, stack.output
    assert made.id in review.stdout
    assert "Native resource: all claims." in review.stdout


@pytest.mark.thorough
def test_claims_are_imported_by_a_file_and_need_no_change(start: Start) -> None:
    stack = start()
    with api.Client(stack.emulator.token, endpoint=stack.emulator.url) as client:
        for name, zones in (("training", FORWARD), ("serving", BACKWARD)):
            resources = api.CapacityClaimResources(
                instance_id="gb200-4x",
                instance_count=2,
                zones=zones,
                capacity_type=api.CapacityType.MANAGED,
            )
            client.capacity_claims.create(name, resources)
    written = stack.command("capacity-claims import --all --native --stack test --format json")
    assert written.returncode == 0, stack.output
    stack.emulator.clear_requests()
    stack.pulumi(
        *("import", "--file", "claims.import.json", "--yes", "--skip-preview", "--generate-code=false")
    )
    imported = {each["name"]: each["resourceName"] for each in json.loads(written.stdout)["claims"]}
    protected = {"opts": {"protect": True}}
    stack.declare(
        **{
            imported["training"]: claim(2, FORWARD, name="training", **protected),
            imported["serving"]: claim(2, BACKWARD, name="serving", **protected),
        }
    )
    assert stack.preview() == {}
    assert set(stack.up()) == {"same"}
    assert calls(stack) == []


TWO_ORGANIZATIONS: Final = """
import json

import pulumi

outputs = dict.fromkeys(("name", "organizationId", "status", "allocatedInstances", "createdAt", "updatedAt"))
with open("claims.json", encoding="utf-8") as file:
    settings = json.load(file)


class Settings(pulumi.ProviderResource):
    def __init__(self, name, props):
        super().__init__("coreweave-inference", name, props)


for name, given in settings.items():
    provider = Settings(name, given | {"token": pulumi.Output.secret(given["token"])})
    resources = {"instanceId": "gb200-4x", "instanceCount": 2, "zones": ["US-WEST-04A"]}
    pulumi.CustomResource(
        "coreweave-inference:index:CapacityClaim",
        f"training-{name}",
        {**outputs, "resources": resources},
        pulumi.ResourceOptions(provider=provider),
    )
"""


@pytest.mark.thorough
def test_each_provider_of_a_program_has_a_token_of_its_own(start: Start) -> None:
    west = start()
    with Emulator(EmulatorSettings()) as other:
        emulators = {"west": west.emulator, "east": other}
        west.environment = {
            name: value for name, value in west.environment.items() if name not in other.environment()
        }
        west.use(TWO_ORGANIZATIONS)
        west.declare(
            **{name: {"token": each.token, "endpoint": each.url} for name, each in emulators.items()}
        )
        west.up()
        held = {name: [claim.id for claim in each.live_claims()] for name, each in emulators.items()}
        state = {name.removeprefix("training-"): [entry["id"]] for name, entry in west.resources().items()}
        assert held == state
        assert set(west.up()) == set(west.refresh()) == {"same"}
        shown = west.output + west.state_file.read_text(encoding="utf-8")
        assert not [name for name, each in emulators.items() if each.token in shown]
        west.destroy()
        assert [each.live_claims() for each in emulators.values()] == [[], []]


def forget_provider(stack: Stack) -> None:
    """Remove the default provider from the state, as a change of the SDK's version does in effect."""
    state = json.loads(stack.pulumi("stack", "export").stdout)
    kept = [each for each in state["deployment"].get("resources", []) if each["type"] != PROVIDER]
    state["deployment"]["resources"] = kept
    state["deployment"].pop("pending_operations", None)
    file = stack.folder / "state.json"
    file.write_text(json.dumps(state), encoding="utf-8")
    stack.pulumi("stack", "import", "--file", str(file))


@pytest.mark.thorough
def test_an_interrupted_wait_leaves_the_claim_in_the_state(start: Start) -> None:
    stack = start(inventory=SCARCE)
    stack.declare(training=claim(4, readiness={"timeout": "60s"}))
    with Operation(stack, *UP) as operation:
        until(lambda: len(stack.emulator.requests()) > 4)
        operation.interrupt()
        assert operation.wait(20) != 0
    assert list(unready(stack)) == ["training"]
    stack.emulator.set_inventory(PLENTY)
    stack.up()
    assert pending(stack) == []
    assert_settled(stack, {"training": claim(4)})


@pytest.mark.thorough
def test_a_secret_name_is_nowhere_in_clear(start: Start) -> None:
    stack = start(inventory=SCARCE)
    stack.declare(training=claim(4, readiness=SHORT, secret_name="classified-1"))
    with pytest.raises(CommandFailed, match="is not ready after"):
        stack.up()
    shown = stack.output
    stack.refresh()
    shown += stack.output
    shown += stack.pulumi("preview", "--diff").stdout
    assert "classified-1" not in shown
    assert "classified-1" not in stack.state_file.read_text(encoding="utf-8")
    assert [each.name for each in stack.emulator.live_claims()] == ["classified-1"]


@pytest.mark.thorough
def test_when_all_slots_wait_the_engine_is_named(start: Start) -> None:
    stack = start({"PULUMI_PARALLEL": "3"}, allocation_delay=4.0)
    stack.declare(**{f"team-{index}": claim(1) for index in range(5)})
    stack.up()
    assert "3 claims are waited for" in stack.output
    assert "PULUMI_PARALLEL=12" in stack.output
    assert len(stack.emulator.live_claims()) == 5


@pytest.mark.thorough
def test_many_claims_become_ready_on_few_slots(start: Start) -> None:
    stack = start({"PULUMI_PARALLEL": "8"}, allocation_delay=4.0)
    wanted = {f"team-{index}": claim(1) for index in range(40)}
    stack.declare(**wanted)
    with Operation(stack, *UP) as operation:
        assert operation.wait(180) == 0
        shown, _, summary = operation.output.partition("Diagnostics:")
    # each line is shown as it comes, and again at the end
    assert (shown.count("8 claims are waited for"), summary.count("8 claims are waited for")) == (1, 1)
    assert unready(stack) == {}
    assert_settled(stack, wanted)


def test_claims_move_between_the_dynamic_and_the_native_resource(start: Start) -> None:
    stack = start()
    wanted = {"training": claim(2), "serving": claim(1, name="serving")}
    stack.use(DYNAMIC_PROGRAM)
    stack.declare(**wanted)
    stack.up()
    ids = {each.id for each in stack.emulator.live_claims()}
    stack.emulator.clear_requests()
    stack.become_native()
    dynamic = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
    aliased = {name: each | {"opts": {"aliases": [{"type_": dynamic}]}} for name, each in wanted.items()}
    stack.environment["COREWEAVE_ORPHANS"] = "leave"
    stack.declare(**aliased | {"training": aliased["training"] | claim(2, BACKWARD)})
    with pytest.raises(CommandFailed, match="would move from the dynamic resource and be replaced at once"):
        stack.up("--continue-on-error")
    stack.declare(**aliased)
    stack.up()
    stack.environment.pop("COREWEAVE_ORPHANS")
    assert {entry["type"] for entry in entries(stack)} == {TYPE}
    assert set(stack.refresh()) == {"same"}
    assert stack.preview() == {}
    assert calls(stack) == []
    assert {each.id for each in stack.emulator.live_claims()} == ids

    stack.use(DYNAMIC_PROGRAM.replace("pulumi.Alias(name=alias)", "pulumi.Alias(**alias)"))
    stack.declare(**{name: each | {"opts": {"aliases": [{"type_": TYPE}]}} for name, each in wanted.items()})
    stack.up()
    assert dynamic in {entry["type"] for entry in entries(stack)}
    stack.declare(**wanted)
    assert set(stack.refresh()) == {"same"}
    assert stack.preview() == {}
    assert calls(stack) == []
    assert {each.id for each in stack.emulator.live_claims()} == ids


@pytest.mark.thorough
def test_imported_claims_need_no_change(start: Start) -> None:
    stack = start()
    stack.declare(training=claim(2, FORWARD))
    stack.up()
    (made,) = stack.emulator.live_claims()
    stack.pulumi("state", "delete", stack.resources()["training"]["urn"], "--yes")
    stack.emulator.clear_requests()
    stack.declare(training=claim(2, FORWARD, opts={"import_": made.id}))
    assert stack.up()["import"] == 1
    stack.declare(training=claim(2, FORWARD))
    assert stack.preview() == {}
    assert calls(stack) == []
