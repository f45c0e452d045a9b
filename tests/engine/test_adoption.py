"""Claims that exist already, on the real engine: imported, looked up, and found if no stack manages them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.stack import BACKWARD, FORWARD, ROOT, Stack, claim
from typer.testing import CliRunner

from coreweave_inference import Client
from pulumi_coreweave_inference.cli.app import app

Start = Callable[..., Stack]
DATA = ROOT / "tests" / "data"


def run(stack: Stack, *arguments: str) -> Result:
    """`capacity-claims` with the environment of a stack."""
    return CliRunner().invoke(app, arguments, env=stack.environment)


def post(
    stack: Stack, name: str, zones: list[str], count: int = 1, id: str | None = None, **more: Any
) -> str:
    """Create a claim without Pulumi; its id."""
    resources = {
        "instanceId": "gb200-4x",
        "instanceCount": count,
        "zones": zones,
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
    with Client(stack.emulator.token, endpoint=stack.emulator.url) as client:
        return client.capacity_claims.create(name, resources | more, id=id).id


def import_claims(stack: Stack, *arguments: str) -> str:
    """Import claims into a stack as the command line explains; the program that it printed."""
    written = stack.folder / "claims.import.json"
    result = run(stack, "import", *arguments, "--out", str(written))
    assert result.exit_code == 0, result.stderr
    stack.pulumi("import", "--file", str(written), "--generate-code=false", "--yes", "--skip-preview")
    (stack.folder / "__main__.py").write_text(result.stdout, encoding="utf-8")
    return result.stdout


@pytest.mark.thorough
def test_ten_claims_are_imported_unchanged_and_then_scaled_in_place(start: Start) -> None:
    stack = start()
    ids = {post(stack, f"team-{index}", FORWARD if index % 2 else BACKWARD) for index in range(8)}
    ids |= {post(stack, "twin", FORWARD), post(stack, "twin", FORWARD)}
    stack.emulator.clear_requests()
    program = import_claims(stack, "--all")
    assert {state["id"] for state in stack.resources().values()} == ids
    assert list(stack.preview()) == ["claims"]  # the namespace, which only the state has
    stack.pulumi("up", "--yes", "--skip-preview")
    stack.pulumi("refresh", "--yes", "--skip-preview")
    assert stack.preview() == {}
    assert stack.writes() == []

    text = program.replace("instance_count=1,", "instance_count=2,")
    (stack.folder / "__main__.py").write_text(text, encoding="utf-8")
    stack.pulumi("up", "--yes", "--skip-preview")
    assert stack.writes() == ["PATCH"] * 10
    assert {(held.id, held.instance_count) for held in stack.emulator.claims()} == {(id, 2) for id in ids}
    assert {state["id"] for state in stack.resources().values() if state["protect"]} == ids


def test_the_claims_of_a_terraform_state_are_imported_unchanged(start: Start) -> None:
    stack = start()
    for held in json.loads((DATA / "terraform-claims.json").read_text(encoding="utf-8"))["capacityClaims"]:
        spec = held["spec"]
        with Client(stack.emulator.token, endpoint=stack.emulator.url) as client:
            client.capacity_claims.create(spec["name"], spec["resources"], id=spec["id"])
    stack.emulator.clear_requests()
    import_claims(stack, "--terraform-state", str(DATA / "terraform.tfstate"))
    assert list(stack.preview()) == ["claims"]
    assert sorted(stack.resources()) == ["evaluation-this", "serving-eu", "serving-us", "training"]
    assert stack.resources()["training"]["inputs"]["resources"]["zones"] == BACKWARD
    assert stack.writes() == []


def test_orphans_claims_managed_twice_and_missing_claims_are_found(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = start("kept")
    monkeypatch.chdir(kept.folder)
    kept.declare(training=claim(1), serving=claim(1), lost=claim(2))
    kept.pulumi("up", "--yes", "--skip-preview")
    ids = {name: state["id"] for name, state in kept.resources().items()}
    assert run(kept, "orphans", "--all-stacks").exit_code == 0

    state = json.loads(kept.pulumi("stack", "export").stdout)
    known = [each for each in state["deployment"]["resources"] if each.get("id") != ids["lost"]]
    state["deployment"]["resources"] = known
    exported = tmp_path / "kept.json"
    exported.write_text(json.dumps(state), encoding="utf-8")
    kept.pulumi("stack", "import", "--file", str(exported))
    Stack(tmp_path / "copy", kept.emulator, name="copy").pulumi(
        "stack", "import", "--force", "--file", str(exported)
    )
    kept.emulator.edit_claim(ids["serving"], delete=True)

    kept.emulator.clear_requests()
    result = run(kept, "orphans", "--all-stacks", "--format", "json")
    assert result.exit_code == 1, result.stderr
    found = json.loads(result.stdout)
    (unmanaged,) = found["unmanaged"]
    assert unmanaged["id"] == ids["lost"]
    assert unmanaged["origin"]["resourceName"] == "lost"
    assert {twice["id"] for twice in found["managedTwice"]} == {ids["training"], ids["serving"]}
    assert all(len({entry["stack"] for entry in each["entries"]}) == 2 for each in found["managedTwice"])
    assert {(gone["id"], gone["status"]) for gone in found["gone"]} == {(ids["serving"], None)}
    assert kept.writes() == []

    refused = run(kept, "release", ids["lost"], ids["training"], "--state", str(exported), "--yes")
    assert refused.exit_code == 1
    assert kept.writes() == []
    assert run(kept, "release", ids["lost"], "--state", str(exported), "--yes").exit_code == 0
    assert [held.id for held in kept.emulator.claims()] == [ids["training"]]


LOOKING = """
import os

import pulumi

import pulumi_coreweave_inference as inference

looked_up = inference.CapacityClaim.get("looked-up", os.environ["CLAIM"])
by_id = inference.get_capacity_claim(id=os.environ["CLAIM"])
by_name = inference.get_capacity_claim(name="training")
pulumi.export("names", [looked_up.name, by_id.name, by_name.name])
pulumi.export("zones", [looked_up.resources.zones, by_id.resources.zones, by_name.resources.zones])
pulumi.export("allocated", looked_up.allocated_instances)
"""


def test_a_claim_that_is_only_read_is_never_released(start: Start) -> None:
    stack = start()
    held = post(stack, "training", BACKWARD, 3)
    stack.environment["CLAIM"] = held
    (stack.folder / "__main__.py").write_text(LOOKING, encoding="utf-8")
    stack.emulator.clear_requests()
    assert stack.preview()["looked-up"]["op"] == "read"
    stack.pulumi("up", "--yes", "--skip-preview")
    outputs = json.loads(stack.pulumi("stack", "output", "--json").stdout)
    assert outputs == {"names": ["training"] * 3, "zones": [BACKWARD] * 3, "allocated": 3}
    assert [state.get("external") for state in stack.resources().values()] == [True]
    stack.pulumi("destroy", "--yes", "--skip-preview")
    assert [each.id for each in stack.emulator.claims()] == [held]
    assert stack.writes() == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("id", "reason"),
    [
        (" ", "needs the id of a claim"),
        ("00000000-0000-4000-8000-000000000000", "there is no capacity claim with the id"),
    ],
)
def test_a_lookup_that_finds_nothing_fails_the_preview_with_a_reason(
    start: Start, id: str, reason: str
) -> None:
    stack = start()
    (stack.folder / "__main__.py").write_text(
        f"import pulumi_coreweave_inference as inference\ninference.CapacityClaim.get('looked-up', {id!r})\n",
        encoding="utf-8",
    )
    assert stack.pulumi("preview", check=False).returncode != 0
    assert reason in stack.output
    assert "Traceback" not in stack.output
