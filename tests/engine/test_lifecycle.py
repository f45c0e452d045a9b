"""A claim's life on the real engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stack import BACKWARD, FORWARD, CommandFailed, Stack, claim

from coreweave_inference.emulator import Emulator

Start = Callable[..., Stack]


@pytest.mark.thorough
def test_twelve_claims_live_from_up_to_destroy(start: Start) -> None:
    stack = start(allocation_delay=0.5)
    names = [f"team-{index}" for index in range(12)]
    stack.declare(**{name: claim(1) for name in names})
    assert stack.up() == {"create": 14}
    assert {(c.status, c.zones) for c in stack.emulator.claims()} == {("STATUS_READY", tuple(FORWARD))}

    stack.emulator.clear_requests()
    assert stack.up() == {"same": 14}
    assert set(stack.outputs()["status"].values()) == {"STATUS_READY"}
    assert stack.writes() == []

    assert stack.refresh() == {"same": 14}
    assert stack.preview() == {}
    assert stack.writes() == []

    providers = {resource["inputs"]["__provider"] for resource in stack.resources().values()}
    assert len(providers) == 1

    assert stack.destroy() == {"delete": 14}
    assert stack.emulator.claims() == []
    assert stack.writes() == ["DELETE"] * 12


def test_zones_keep_their_order_from_program_to_api_to_state_and_back(start: Start) -> None:
    stack = start()
    declared = {"forward": FORWARD, "backward": BACKWARD}
    stack.declare(**{name: claim(zones=zones) for name, zones in declared.items()})
    stack.up()
    held = {each.id: each for each in stack.emulator.claims()}
    states = stack.resources()
    assert states.keys() == declared.keys()
    for name, zones in declared.items():
        state = states[name]
        assert list(held[state["id"]].zones) == zones
        assert state["inputs"]["resources"]["zones"] == state["outputs"]["resources"]["zones"] == zones
        # The innermost two: what lies below the program depends on the Python and the SDK.
        positions = [frame["sourcePosition"].rpartition("/")[2] for frame in state["stackTrace"][:2]]
        assert [position.partition("#")[0] for position in positions] == ["capacity_claim.py", "__main__.py"]
    assert stack.preview() == {}


def test_a_count_scales_in_place_and_reordered_zones_replace_the_claim(start: Start) -> None:
    stack = start(allocation_delay=0.3)
    stack.declare(training=claim(4))
    stack.up()
    first = stack.resources()["training"]["id"]

    stack.declare(training=claim(6))
    step = stack.preview()["training"]
    assert step["op"] == "update"
    assert list(step["detailedDiff"]) == ["resources.instanceCount"]
    stack.emulator.clear_requests()
    stack.up()
    assert stack.outputs()["allocated"] == {"training": 6}
    assert stack.writes() == ["PATCH"]

    stack.declare(training=claim(6, BACKWARD))
    step = stack.preview()["training"]
    assert step["op"] == "replace"
    assert step["replaceReasons"] == ["resources.zones"]
    assert list(step["detailedDiff"]) == ["resources.zones[0]", "resources.zones[1]"]
    stack.emulator.clear_requests()
    stack.up()
    (held,) = stack.emulator.claims()
    assert held.id != first
    assert list(held.zones) == BACKWARD
    assert stack.writes() == ["POST", "DELETE"]
    stack.destroy()
    assert stack.emulator.claims() == []


def test_drift_shows_as_the_drifted_property_and_is_undone_in_place(start: Start) -> None:
    stack = start()
    stack.declare(training=claim(4))
    stack.up()
    (held,) = stack.emulator.claims()
    stack.emulator.edit_claim(held.id, spec={"resources": {"instanceCount": 9}})
    assert stack.refresh() == {"same": 2, "update": 1}
    step = stack.preview()["training"]
    assert (step["op"], list(step["detailedDiff"])) == ("update", ["resources.instanceCount"])
    stack.up()
    assert stack.emulator.claims()[0].instance_count == 4


@pytest.mark.thorough
def test_a_claim_released_outside_of_pulumi_is_created_again(start: Start) -> None:
    stack = start()
    stack.declare(training=claim(4))
    stack.up()
    stack.emulator.edit_claim(stack.emulator.claims()[0].id, delete=True)
    stack.refresh()
    assert stack.resources() == {}
    stack.up()
    assert stack.outputs()["status"] == {"training": "STATUS_READY"}
    assert len(stack.emulator.claims()) == 1


@pytest.mark.thorough
def test_a_claim_without_capacity_fails_once_and_the_next_up_continues(start: Start) -> None:
    stack = start(inventory={"US-WEST-04A": {"gb200-4x": 1}, "US-EAST-04A": {"gb200-4x": 0}})
    stack.declare(training=claim(4, readiness={"timeout": "3s"}))
    with pytest.raises(CommandFailed):
        stack.up()
    (held,) = stack.emulator.claims()
    assert "Traceback" not in stack.output
    assert stack.output.partition("Diagnostics:")[2].count("is not ready after") == 1
    for part in ("'training'", held.id, "1 of 4 gb200-4x", "US-WEST-04A:", "US-EAST-04A:", "pulumi up"):
        assert part in stack.output
    assert stack.resources()["training"]["id"] == held.id

    stack.emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 4}, "US-EAST-04A": {"gb200-4x": 0}})
    stack.emulator.clear_requests()
    stack.up()
    assert stack.outputs()["allocated"] == {"training": 4}
    assert stack.writes() == []


@pytest.mark.thorough
def test_a_partial_claim_is_enough_where_the_program_says_so(start: Start) -> None:
    stack = start(inventory={"US-WEST-04A": {"gb200-4x": 3}}, ready_when="any")
    stack.declare(training=claim(1, ["US-WEST-04A"], readiness={"min_instances": 2}))
    refused = stack.pulumi("preview", check=False)
    assert refused.returncode != 0
    assert "can never be ready: min_instances is 2, and instance_count is 1" in stack.output
    stack.declare(training=claim(4, ["US-WEST-04A"], readiness={"min_instances": 2, "timeout": "20s"}))
    stack.up()
    assert stack.outputs()["allocated"] == {"training": 3}


@pytest.fixture(scope="module")
def empty_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack for tests that only preview, which changes nothing in it."""
    with Emulator() as emulator:
        yield Stack(tmp_path_factory.mktemp("empty") / "program", emulator)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            {
                "name": "Train_1",
                "resources": {"instance_count": -1, "zones": [], "capacity_type": "CAPACITY_TYPE_SERVERLESS"},
            },
            [
                'did you mean "train-1"?',
                "resources.instance_count: must be between 0",
                "resources.zones: needs at least one zone",
                "must be CAPACITY_TYPE_MANAGED",
            ],
        ),
        (
            {"resources": {"instance_count": 2.5, "zones": ["RNO2A", "RNO2A"]}},
            [
                "resources.instance_count: must be a whole number, not 2.5",
                'resources.zones[1]: repeats "RNO2A"',
            ],
        ),
        (
            {"resources": {"zones": ["us-west-04a"], "instance_id": "gb200-4"}},
            ['did you mean "US-WEST-04A"?', 'did you mean "gb200-4x"?'],
        ),
    ],
    ids=["below a limit", "of another kind", "misspelt"],
)
def test_bad_input_fails_the_preview_with_the_property_and_a_way_out(
    empty_stack: Stack, arguments: dict[str, Any], named: list[str]
) -> None:
    empty_stack.declare(training=claim(**arguments))
    assert empty_stack.pulumi("preview", check=False).returncode != 0
    for text in named:
        assert text in empty_stack.output
    assert "Traceback" not in empty_stack.output


def test_a_missing_token_fails_the_preview_and_names_the_variables(
    empty_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(empty_stack.environment, "COREWEAVE_API_TOKEN", "")
    empty_stack.declare(training=claim())
    assert empty_stack.pulumi("preview", check=False).returncode != 0
    for name in ("COREWEAVE_API_TOKEN", "CW_API_TOKEN", "coreweave:token"):
        assert name in empty_stack.output
    assert "Traceback" not in empty_stack.output


# The engine itself writes a stack's secret config into its log at -v=9.
@pytest.mark.parametrize(
    ("source", "verbosity"), [("environment", "9"), pytest.param("config", "8", marks=pytest.mark.thorough)]
)
def test_the_token_appears_nowhere(start: Start, tmp_path: Path, source: str, verbosity: str) -> None:
    token = "s3cr3t-t0ken-n0b0dy-may-see"
    stack = start(token=token)
    logging = ("--logtostderr", "--logflow", f"-v={verbosity}")
    if source == "config":
        stack.environment["COREWEAVE_API_TOKEN"] = ""
        stack.pulumi("config", "set", "--secret", "coreweave:token", token)
    stack.declare(training=claim())
    stack.pulumi("up", "--yes", *logging)
    shown = stack.output
    stack.declare(training=claim(zones=["US-WEST-04A"]))
    stack.emulator.set_faults([{"path": "create", "fail": {"code": "invalid_argument", "message": token}}])
    stack.pulumi("up", "--yes", *logging, check=False)
    shown += stack.output
    assert "refused the request as invalid" in shown
    assert token not in shown
    assert token not in json.dumps(stack.export())
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file


@pytest.mark.thorough
def test_six_hundred_claims_preview(empty_stack: Stack) -> None:
    empty_stack.declare(**{f"claim-{index}": claim(1) for index in range(600)})
    assert len(empty_stack.preview()) == 602


def test_claims_gate_what_depends_on_their_readiness(start: Start) -> None:
    stack = start(allocation_delay=1.0)
    stack.declare(first=claim(1), second=claim(1, opts={"depends_on": ["first"]}))
    stack.up()
    calls = [(record.method, record.claim) for record in stack.emulator.requests()]
    first, second = (stack.resources()[name]["id"] for name in ("first", "second"))
    assert calls.index(("POST", first)) < calls.index(("GET", first)) < calls.index(("POST", second))
    assert (
        stack.resources()["second"]["outputs"]["createdAt"]
        > stack.resources()["first"]["outputs"]["createdAt"]
    )
