"""Programs of unusual shape on the real engine: served components, claims inside an apply."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest
from support.stack import ROOT, CommandFailed, Stack, claim

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


def test_main_with_a_relative_environment_says_what_to_change(start: Start) -> None:
    stack = start()
    program = stack.folder / "app"
    program.mkdir()
    for name in ("__main__.py", "claims.json"):
        (stack.folder / name).rename(program / name)
    (program / "claims.json").write_text(json.dumps({"training": claim()}), encoding="utf-8")
    (stack.folder / ".venv").symlink_to(ROOT / ".venv")
    project = stack.folder / "Pulumi.yaml"
    runtime = "runtime: {name: python, options: {virtualenv: .venv}}\n"
    project.write_text(f"name: claims\n{runtime}main: app\n", encoding="utf-8")
    with pytest.raises(CommandFailed):
        stack.up()
    assert (
        f"the engine starts the provider with {program}/.venv/bin/python, which does not exist"
        in stack.output
    )
    assert "Put Pulumi.yaml into the program's folder instead, and omit `main`." in stack.output
    assert stack.emulator.claims() == []

    project.unlink()
    runtime = runtime.replace(".venv", "../.venv")
    (program / "Pulumi.yaml").write_text(f"name: claims\n{runtime}", encoding="utf-8")
    stack.folder = program
    assert stack.up()["create"] == 2  # the stack itself exists
    assert "the engine starts" not in stack.output
