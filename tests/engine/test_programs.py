"""Programs of unusual shape on the real engine: served components, claims inside an apply."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from support.stack import CommandFailed, Stack

Start = Callable[..., Stack]

PLUGIN = """
from typing import Optional, TypedDict

import pulumi
from pulumi.provider.experimental import component_provider_host

import pulumi_coreweave_inference as inference


class TeamArgs(TypedDict):
    count: pulumi.Input[int]


class Team(pulumi.ComponentResource):
    claim_id: pulumi.Output[str]

    def __init__(self, name: str, args: TeamArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("teams:index:Team", name, {}, opts)
        below = pulumi.ResourceOptions(parent=self)
        resources = {"instance_id": "gb200-4x", "instance_count": args["count"], "zones": ["US-WEST-04A"]}
        training = inference.CapacityClaim(f"{name}-training", below, resources=resources)
        inference.CapacityClaim(f"{name}-serving", below, resources=resources)
        self.claim_id = training.id
        self.register_outputs({"claim_id": training.id})


component_provider_host(name="teams", components=[Team])
"""

TEAMS = """
import pulumi

import pulumi_coreweave_inference as inference


class Team(pulumi.ComponentResource):
    def __init__(self, name: str, count: int) -> None:
        super().__init__("teams:index:Team", name, {"count": count}, remote=True)


Team("red", 1)
Team("blue", 2)
resources = {"instance_id": "gb200-4x", "instance_count": 3, "zones": ["US-WEST-04A"]}
inference.CapacityClaim("own", resources=resources, readiness=None)
"""


@pytest.mark.thorough
def test_components_of_a_package_have_claims_of_their_own(start: Start) -> None:
    stack = start(allocation_delay=1.5)
    plugin = stack.folder.parent / "plugin"
    plugin.mkdir()
    (plugin / "teams.py").write_text(PLUGIN, encoding="utf-8")
    executable = plugin / "pulumi-resource-teams"
    executable.write_text(f'#!/bin/sh\nexec {sys.executable} {plugin}/teams.py "$@"\n', encoding="utf-8")
    executable.chmod(0o755)
    project = stack.folder / "Pulumi.yaml"
    served = f"plugins: {{providers: [{{name: teams, path: {plugin}}}]}}\n"
    project.write_text(project.read_text(encoding="utf-8") + served, encoding="utf-8")
    (stack.folder / "__main__.py").write_text(TEAMS, encoding="utf-8")

    created = stack.up()
    ready = {claim.name[:-8]: claim.status for claim in stack.emulator.claims() if "own" not in claim.name}
    assert ready == dict.fromkeys(
        ["red-training", "red-serving", "blue-training", "blue-serving"], "STATUS_READY"
    )
    namespaces = [
        resource["urn"].split("::", 2)[2]
        for resource in stack.export()["resources"]
        if resource["type"].endswith(":ClaimNamespace")
    ]
    kind = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
    assert sorted(namespaces) == [
        f"{kind}::claims",
        f"teams:index:Team${kind}::blue-claims",
        f"teams:index:Team${kind}::red-claims",
    ]
    ids = {claim.id for claim in stack.emulator.claims()}
    assert len(ids) == 5

    assert stack.up() == {"same": created["create"]}
    assert {claim.id for claim in stack.emulator.claims()} == ids
    stack.destroy()
    assert stack.emulator.claims() == []


IN_APPLY = """
import json

import pulumi

import pulumi_coreweave_inference as inference


def claim(name: str, count: int, **options: object) -> inference.CapacityClaim:
    resources = {"instance_id": "gb200-4x", "instance_count": count, "zones": ["US-WEST-04A"]}
    return inference.CapacityClaim(name, pulumi.ResourceOptions(**options), resources=resources)


with open("claims.json", encoding="utf-8") as file:
    first = claim("first", json.load(file)["count"])
first.status.apply(lambda _: claim("inside", 1) and None)
claim("after", 1, depends_on=[first.ready])
"""


def test_a_claim_inside_an_apply_is_warned_of_and_depends_on_is_safe(start: Start) -> None:
    stack = start(environment={"COREWEAVE_RETRY_DEADLINE": "0"})
    (stack.folder / "__main__.py").write_text(IN_APPLY, encoding="utf-8")
    (stack.folder / "claims.json").write_text('{"count": 1}', encoding="utf-8")
    stack.up()
    warned = stack.output.partition("Diagnostics:")[2]
    assert warned.count("this claim is declared inside an apply") == 1
    assert "CapacityClaim (inside)" in warned

    (stack.folder / "claims.json").write_text('{"count": 2}', encoding="utf-8")
    stack.emulator.set_faults([{"method": "PATCH", "fail": {"code": "failed_precondition"}}])
    with pytest.raises(CommandFailed, match="changing capacity claim 'first'"):
        stack.up("--continue-on-error")
    # The engine releases what the program did not declare in this run, as the warning says.
    assert sorted(claim.name[:-8] for claim in stack.emulator.claims()) == ["after", "first"]
