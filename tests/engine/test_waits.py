"""Which claims a program waits for on the real engine, and what waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.stack import Stack, claim

from coreweave_inference.emulator.request_log import RequestRecord

Start = Callable[..., Stack]

EMPTY = {"US-WEST-04A": {"gb200-4x": 0}, "US-EAST-04A": {"gb200-4x": 0}}


def test_one_setting_switches_all_waits_of_a_run_off(start: Start) -> None:
    stack = start(inventory=EMPTY, environment={"COREWEAVE_WAIT": "false"})
    stack.declare(first=claim(readiness={"timeout": "10m"}), second=claim(readiness={"timeout": "10m"}))
    stack.up()
    assert stack.outputs()["status"] == dict.fromkeys(("first", "second"), "STATUS_CREATING")
    assert stack.outputs()["allocated"] == {"first": 0, "second": 0}


def test_a_wait_goes_on_with_the_next_token_of_a_file(start: Start, tmp_path: Path) -> None:
    stack = start(inventory=EMPTY, environment={"COREWEAVE_API_TOKEN": ""})
    file = tmp_path / "token"
    file.write_text(stack.emulator.token)
    stack.environment["COREWEAVE_API_TOKEN_FILE"] = str(file)
    stack.declare(first=claim(readiness={"timeout": "60s"}), second=claim(readiness={"timeout": "60s"}))

    def exchange() -> None:
        while not any(each.method == "GET" for each in requests() if each.operation == "list"):
            time.sleep(0.05)
        file.write_text(stack.emulator.exchange_token())
        while requests()[-1].status == 401:
            time.sleep(0.05)
        stack.emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 8}})

    def requests() -> list[RequestRecord]:
        posted = [each.sequence for each in stack.emulator.requests() if each.method == "POST"]
        return [] if len(posted) < 2 else stack.emulator.requests(posted[-1])

    with ThreadPoolExecutor() as beside:
        exchanged = beside.submit(exchange)
        stack.up()
        exchanged.result()
    assert 401 in [each.status for each in requests()]
    assert stack.outputs()["allocated"] == {"first": 4, "second": 4}


PROGRAM = """
import pulumi

import pulumi_coreweave_inference as inference


class Team(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("test:index:Team", name)
        inside = pulumi.ResourceOptions(parent=self)
        self.claim = claim("inner", inside)


def claim(resource_name, opts=None, readiness=inference.Readiness(timeout="TIMEOUT"), **more):
    resources = inference.CapacityClaimResourcesArgs(
        instance_id="gb200-4x", instance_count=1, zones=["US-WEST-04A"]
    )
    return inference.CapacityClaim(resource_name, opts, resources=resources, readiness=readiness, **more)


"""


def program(stack: Stack, code: str, timeout: str = "60s") -> None:
    """Make the program of the stack the helpers above and this code."""
    text = PROGRAM.replace("TIMEOUT", timeout) + code
    (stack.folder / "__main__.py").write_text(text, encoding="utf-8")


GATES = """
first = claim("first")
team = Team("team")
claim("after-first", pulumi.ResourceOptions(depends_on=[first]))
claim("after-team", pulumi.ResourceOptions(depends_on=[team]))
claim("child", pulumi.ResourceOptions(parent=first))
claim("user", name=first.id.apply(lambda id: "user-" + id[:7]))
pulumi.export("urn", first.urn)
pulumi.export("same", first.urn.apply(lambda urn: urn.endswith("::first")))
"""


def test_dependents_of_a_claim_wait_and_users_of_its_id_do_not(start: Start) -> None:
    delay = 2.0
    stack = start(allocation_delay=delay)
    program(stack, GATES)
    stack.pulumi("preview")
    stack.up()
    ids = {name: each["id"] for name, each in stack.resources().items()}
    posts = {each.claim: each.time for each in stack.emulator.requests() if each.method == "POST"}
    posted = {name: posts[claim_id] for name, claim_id in ids.items()}
    assert min(posted["after-first"], posted["child"]) > posted["first"] + delay
    assert posted["after-team"] > posted["inner"] + delay
    assert posted["user"] < posted["first"] + delay
    assert stack.outputs()["same"] is True
    dependencies = {
        name: {urn.rpartition("::")[2] for urn in stack.resources()[name]["dependencies"]} for name in ids
    }
    assert dependencies["after-first"] == dependencies["user"] == {"claims", "first"}
    assert dependencies["after-team"] == {"claims", "inner"}

    stack.emulator.clear_requests()
    assert set(stack.up()) == {"same"}
    assert stack.writes() == []
    stack.destroy()
    assert stack.emulator.claims() == []


FAILING = """
first = claim("first")
claim("after", pulumi.ResourceOptions(depends_on=[first]))
claim("after-that", pulumi.ResourceOptions(parent=first))
pulumi.export("urn", first.urn)
pulumi.export("status", first.status)
"""


@pytest.mark.thorough
def test_dependents_of_a_claim_that_is_not_ready_are_not_created(start: Start) -> None:
    stack = start(inventory=EMPTY)
    program(stack, FAILING, timeout="2s")
    assert stack.pulumi("up", "--yes", "--skip-preview", check=False).returncode != 0
    assert list(stack.resources()) == ["first"]
    assert "Traceback" not in stack.output
    assert "never awaited" not in stack.output
    assert stack.output.partition("Diagnostics:")[2].count("is not ready after") == 1

    stack.emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 3}})
    stack.up()
    assert set(stack.resources()) == {"first", "after", "after-that"}
    assert stack.preview() == {}


LENIENT = """
first = claim("first", readiness=inference.Readiness(timeout="1s", on_timeout="warn"))
claim("after", pulumi.ResourceOptions(depends_on=[first]), readiness=None)
second = claim("second", readiness=None)
claim("after-second", pulumi.ResourceOptions(depends_on=[second, first.ready]), readiness=None)
"""


def test_a_lenient_claim_holds_its_dependents_until_its_timeout(start: Start) -> None:
    stack = start(inventory=EMPTY)
    program(stack, LENIENT)
    stack.up()
    assert set(stack.resources()) == {"first", "after", "second", "after-second"}
    posts = [each.time for each in stack.emulator.requests() if each.method == "POST"]
    assert posts[2] - posts[1] > 0.9


@pytest.mark.thorough
def test_a_count_that_is_ignored_is_not_waited_for(start: Start) -> None:
    stack = start()
    declared = claim(4, opts={"ignore_changes": ["resources.instanceCount"]})
    stack.declare(training=declared)
    stack.up()
    (held,) = stack.emulator.claims()
    stack.emulator.edit_claim(held.id, spec={"resources": {"instanceCount": 6}})  # an autoscaler
    for prepare in (lambda: None, stack.refresh):
        prepare()
        stack.emulator.clear_requests()
        assert stack.up() == {"same": 3}
        assert stack.writes() == []
        assert stack.outputs()["allocated"] == {"training": 6}


PARTLY = """
first = claim("first")
second = claim("second", pulumi.ResourceOptions(depends_on=[first]), readiness=None)
pulumi.export("status", first.status)
"""


def test_only_claims_that_take_part_in_a_run_are_waited_for(start: Start) -> None:
    stack = start(inventory=EMPTY)
    program(stack, PARTLY.replace("depends_on=[first]", ""), timeout="3s")
    stack.pulumi("up", "--yes", "--skip-preview", check=False)
    assert "is not ready after 3s" in stack.output
    first, second = (stack.resources()[name]["urn"] for name in ("first", "second"))

    program(stack, PARTLY, timeout="3s")
    stack.up("--target", second)
    assert stack.outputs()["status"] == "STATUS_CREATING"
    stack.up("--exclude", first)
    stack.pulumi("refresh", "--yes", "--skip-preview", "--run-program")
    for includes_first in (["--target", first], ["--plan", "plan.json"]):
        if "--plan" in includes_first:
            stack.pulumi("preview", "--save-plan", "plan.json")
        stack.pulumi("up", "--yes", "--skip-preview", *includes_first, check=False)
        assert "is not ready after 3s" in stack.output, includes_first
    assert all("run" not in each["inputs"]["identity"] for each in stack.resources().values())

    stack.emulator.edit_claim(stack.resources()["first"]["id"], delete=True)  # it is gone before the destroy
    stack.pulumi("destroy", "--yes", "--skip-preview", "--run-program")
    assert stack.emulator.claims() == []
    assert stack.resources() == {}
