"""The output of `capacity-claims orphans`, and tables on a terminal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from inline_snapshot import snapshot
from typer.testing import CliRunner

from coreweave_inference import CapacityClaimResources, Client
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.identity import Declaration

CLAIM = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
NATIVE = "coreweave-inference:index:CapacityClaim"
NATIVE_PROVIDER = "pulumi:providers:coreweave-inference"
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "x"}
NAMESPACES = {
    "prod": "6ffb9fce-42ae-4638-add8-09ea8e43ce50",
    "dev": "9a1c6b1e-9d0c-4a57-8f7e-51c2b6f0a3d4",
}
RESOURCES = CapacityClaimResources.model_validate(
    {
        "instanceId": "gb200-4x",
        "instanceCount": 2,
        "zones": ["US-WEST-04A", "US-EAST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
)


def lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Claims at an emulator, by name. The names say what the states below do with them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COREWEAVE_RETRY_DEADLINE", "0")
    posted: dict[str, str | None] = dict.fromkeys(("two-stacks", "replaced", "waiting", "stranger"))
    for stack, name in (("prod", "batch"), ("dev", "eval")):
        declared = Declaration(NAMESPACES[stack], f"{CLAIM}::{name}", RESOURCES)
        claim_id = declared.claim_id(0)
        posted[declared.claim_name(claim_id)] = claim_id
    with Emulator(EmulatorSettings(allocation_delay=0)) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        with Client(emulator.token, endpoint=emulator.url) as client:
            yield {
                name: client.capacity_claims.create(name, RESOURCES.to_wire(), id=claim_id).id
                for name, claim_id in posted.items()
            }


def entry(stack: str, name: str, claim_id: str, **more: Any) -> dict[str, Any]:
    return {"urn": f"urn:pulumi:{stack}::p::{CLAIM}::{name}", "type": CLAIM, "id": claim_id} | more


def export(stack: str, *entries: dict[str, Any], interrupted: str = "") -> str:
    kind = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
    urn = f"urn:pulumi:{stack}::p::{kind}::claims"
    namespace = {"urn": urn, "type": kind, "id": NAMESPACES[stack]}
    pending = [{"type": "creating", "resource": entry(stack, interrupted, "")}] if interrupted else []
    deployment = {"resources": [namespace, *entries], "pending_operations": pending}
    path = Path(f"{stack}.json")
    path.write_text(json.dumps({"version": 3, "deployment": deployment}), encoding="utf-8")
    return str(path)


def orphans(ids: dict[str, str], *arguments: str) -> Result:
    gone = "00000000-0000-4000-8000-00000000000a"
    prod = export(
        "prod",
        entry("prod", "two", ids["two-stacks"]),
        entry("prod", "replaced", ids["replaced"]),
        entry("prod", "replaced", ids["replaced"], delete=True),
        entry("prod", "waiting", ids["waiting"], delete=True),
        entry("prod", "gone", gone, outputs={"name": "gone-1"}),
        interrupted="batch",
    )
    dev = export(
        "dev",
        entry("dev", "twin", ids["two-stacks"]),
        entry("dev", "waiting", ids["waiting"], delete=True),
        entry("dev", "eval", "00000000-0000-4000-8000-00000000000b"),
    )
    return CliRunner().invoke(app, ["orphans", "--state", prod, "--state", dev, *arguments])


def test_claims_of_another_organization_are_not_called_gone(ids: dict[str, str]) -> None:
    other = {"name": "serving-1", "organizationId": "other1"}
    prod = export(
        "prod",
        *(entry("prod", f"r{number}", claim_id) for number, claim_id in enumerate(ids.values())),
        entry("prod", "serving", "00000000-0000-4000-8000-00000000000c", outputs=other),
    )
    result = CliRunner().invoke(app, ["orphans", "--state", prod])
    assert result.exit_code == 0, result.output
    assert "not compared: 1 claim of the organization other1, not the token's" in result.stderr
    assert "nothing found in" in result.stderr


def normalized(text: str, ids: dict[str, str]) -> str:
    for number, claim_id in enumerate(ids.values()):
        text = text.replace(claim_id, f"(id {number})").replace(claim_id[:7], "1234567")
    text = text.replace(f"{Path.cwd()}/", "")
    return lines(re.sub(r"  +", "  ", re.sub(r"\b\d+s\b", "0s", text)))


def test_orphans_show_their_origin_and_what_resolves_itself(ids: dict[str, str]) -> None:
    result = orphans(ids)
    assert result.exit_code == 1
    assert normalized(result.stdout, ids) == snapshot("""\
Claims that none of the given stacks manages:

NAME  ID  TYPE  ALLOCATED  STATE  AGE  ORIGIN
batch-1234567  (id 4)  gb200-4x  2/2  READY  0s  'batch' of prod.json (create interrupted)
eval-1234567  (id 5)  gb200-4x  2/2  READY  0s  'eval' of dev.json
stranger  (id 3)  gb200-4x  2/2  READY  0s  -

Claims that are managed twice:

NAME  ID  STACK  RESOURCE  ENTRY
two-stacks  (id 0)  prod.json  two  in use
two-stacks  (id 0)  dev.json  twin  in use
replaced  (id 1)  prod.json  replaced  in use
replaced  (id 1)  prod.json  replaced  left by a replacement; the next `pulumi up` removes this entry and keeps the claim
waiting  (id 2)  prod.json  waiting  pending deletion
waiting  (id 2)  dev.json  waiting  pending deletion

Claims that a state relies on but the API does not have:

NAME  ID  STACK  RESOURCE  AT THE API
gone-1  00000000-0000-4000-8000-00000000000a  prod.json  gone  gone
-  00000000-0000-4000-8000-00000000000b  dev.json  eval  gone\
""")
    assert lines(result.stderr) == snapshot("3 unmanaged, 3 managed twice, 2 gone in 6 claims and 2 stacks")


def test_orphans_as_json_hold_the_same_claims(ids: dict[str, str]) -> None:
    result = orphans(ids, "--format", "json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    names = {claim_id: name for name, claim_id in ids.items()}
    assert {
        names[each["id"]].removesuffix(each["id"][:7]): each["origin"] and tuple(each["origin"].values())
        for each in found["unmanaged"]
    } == {
        "stranger": None,
        "batch-": (f"{Path.cwd()}/prod.json", "batch", True),
        "eval-": (f"{Path.cwd()}/dev.json", "eval", False),
    }
    twice = {each["name"]: (each["settlesItself"], len(each["entries"])) for each in found["managedTwice"]}
    assert twice == {"two-stacks": (False, 2), "replaced": (True, 2), "waiting": (False, 2)}
    assert [(each["name"], each["status"]) for each in found["gone"]] == [("gone-1", None), (None, None)]
    assert (found["claims"], len(found["stacks"])) == (6, 2)


def test_a_claim_that_a_stack_may_still_be_creating_is_not_released(ids: dict[str, str]) -> None:
    name, claim_id = next((name, one) for name, one in ids.items() if name.startswith("batch"))
    arguments = ["release", claim_id, "--yes", "--state"]
    refused = CliRunner().invoke(app, [*arguments, export("prod", interrupted="batch")])
    assert refused.exit_code == 1
    assert refused.stderr == (
        "capacity-claims: no claim is released, because stacks were creating these, or still are:\n"
        f"  {name} ({claim_id}): 'batch' of {Path('prod.json').resolve()}\n"
        "  Next: run `pulumi up` in the stack, which adopts the claim\n"
        "        or run `pulumi refresh --clear-pending-creates` there, then this command again\n"
    )
    released = CliRunner().invoke(app, [*arguments, export("prod")])
    assert (released.exit_code, "is released" in released.stderr) == (0, True)


def native_claim(name: str, claim_id: str, **more: Any) -> dict[str, Any]:
    """A claim of the native resource in a state, not ready and with a secret in it."""
    return {
        "urn": f"urn:pulumi:yaml::p::{NATIVE}::{name}",
        "custom": True,
        "id": claim_id,
        "type": NATIVE,
        "inputs": {"resources": {"instanceId": SECRET, "instanceCount": 2, "zones": RESOURCES.zones}},
        "outputs": {
            "name": f"{name}-{claim_id[:7]}",
            "resources": RESOURCES.to_wire() | {"instanceId": SECRET},
            "organizationId": "org",
            "status": "STATUS_CREATING",
            "allocatedInstances": 0,
            "identity": {"incarnation": "5f0a9d38"},
        },
        "initErrors": ["claim is not ready"],
        "provider": f"urn:pulumi:yaml::p::{NATIVE_PROVIDER}::capacity::{NAMESPACES['dev']}",
    } | more


def native_export(*resources: dict[str, Any], provider: str, interrupted: str = "", **inputs: Any) -> str:
    """The state of a stack with the native resource and a provider with the given id."""
    held = {
        "urn": f"urn:pulumi:yaml::p::{NATIVE_PROVIDER}::capacity",
        "custom": True,
        "id": provider,
        "type": NATIVE_PROVIDER,
        "inputs": inputs,
        "outputs": inputs,
    }
    pending = [{"type": "creating", "resource": native_claim(interrupted, "")}] if interrupted else []
    deployment = {"resources": [held, *resources], "pending_operations": pending}
    path = Path("yaml.json")
    path.write_text(json.dumps({"version": 3, "deployment": deployment}), encoding="utf-8")
    return str(path)


@pytest.fixture
def lost(ids: dict[str, str]) -> str:
    """A claim that the native resource `lost` created, and that is in no state."""
    declared = Declaration(NAMESPACES["dev"], f"urn:pulumi:yaml::p::{NATIVE}::lost", RESOURCES)
    claim_id = declared.claim_id(0)
    with Client(os.environ["COREWEAVE_API_TOKEN"], endpoint=os.environ["COREWEAVE_API_ENDPOINT"]) as client:
        return client.capacity_claims.create(
            declared.claim_name(claim_id), RESOURCES.to_wire(), id=claim_id
        ).id


NOBODY = "0e4cf0f2-7c5e-4f0e-8f2b-2b4a9f0c1d22"  # the id of a provider that has made no claim


def origin_of(claim_id: str, state: str) -> dict[str, Any] | None:
    result = CliRunner().invoke(app, ["orphans", "--format", "json", "--state", state])
    assert result.exit_code == 1
    (found,) = [each for each in json.loads(result.stdout)["unmanaged"] if each["id"] == claim_id]
    origin: dict[str, Any] | None = found["origin"]
    return origin and origin | {"stack": Path(origin["stack"]).name}


def test_an_orphan_of_the_native_resource_is_found_by_the_id_of_the_provider(lost: str) -> None:
    expected = {"stack": "yaml.json", "resourceName": "lost", "cutOff": False}
    assert origin_of(lost, native_export(provider=NAMESPACES["dev"])) == expected
    assert origin_of(lost, native_export(provider=NOBODY, namespace=NAMESPACES["dev"])) == expected
    cut_off = native_export(provider=NAMESPACES["dev"], interrupted="lost")
    assert origin_of(lost, cut_off) == expected | {"cutOff": True}


def test_an_orphan_of_the_native_resource_is_found_after_its_provider_was_replaced(lost: str) -> None:
    """The declaration has another claim in the state, or a second one under construction."""
    expected = {"stack": "yaml.json", "resourceName": "lost", "cutOff": False}
    twin = native_claim("lost", "00000000-0000-4000-8000-00000000000c")
    assert origin_of(lost, native_export(twin, provider=NOBODY)) == expected
    assert origin_of(lost, native_export(provider=NOBODY)) == expected  # its name tells the declaration
    cut_off = native_export(provider=NOBODY, interrupted="lost")
    assert origin_of(lost, cut_off) == expected | {"cutOff": True}
    assert origin_of(lost, export("prod")) is None


@pytest.mark.parametrize("provider", [NAMESPACES["dev"], NOBODY])
def test_a_claim_that_a_stack_may_still_be_creating_natively_is_not_released(
    lost: str, provider: str
) -> None:
    arguments = ["release", lost, "--yes", "--state"]
    refused = CliRunner().invoke(app, [*arguments, native_export(provider=provider, interrupted="lost")])
    assert (refused.exit_code, "stacks were creating these" in refused.stderr) == (1, True)
    released = CliRunner().invoke(app, [*arguments, native_export(provider=provider)])
    assert (released.exit_code, "is released" in released.stderr) == (0, True)


def test_a_claim_that_moved_to_the_native_resource_is_managed(ids: dict[str, str]) -> None:
    """Its id is still that of the namespace of the dynamic resource, which the stack deletes last."""
    name, claim_id = next((name, one) for name, one in ids.items() if name.startswith("batch"))
    kind = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
    namespace = {"urn": f"urn:pulumi:yaml::p::{kind}::claims", "type": kind, "id": NAMESPACES["prod"]}
    moved = native_export(namespace, native_claim("batch", claim_id), provider=NOBODY)
    refused = CliRunner().invoke(app, ["release", claim_id, "--yes", "--state", moved])
    assert refused.exit_code == 1
    assert refused.stderr == (
        "capacity-claims: no claim is released, because stacks manage these:\n"
        f"  {name} ({claim_id}): {Path(moved).resolve()} manages it as 'batch'\n"
    )
    found = CliRunner().invoke(app, ["orphans", "--format", "json", "--state", moved])
    assert claim_id not in found.stdout
    imported = CliRunner().invoke(app, ["import", claim_id, "--state", moved])
    assert (imported.exit_code, "manages it as 'batch'" in imported.stderr) == (1, True)


def test_two_entries_of_one_claim_settle_only_within_one_resource(ids: dict[str, str]) -> None:
    """The dynamic provider would release the claim of its entry: it knows nothing of the native one."""
    claim_id = ids["replaced"]
    dynamic = entry("yaml", "replaced", claim_id, delete=True)
    for other, settles in ((native_claim("replaced", claim_id), False), (dynamic | {"delete": False}, True)):
        state = native_export(other, dynamic, provider=NOBODY)
        result = CliRunner().invoke(app, ["orphans", "--format", "json", "--state", state])
        (twice,) = json.loads(result.stdout)["managedTwice"]
        assert (twice["id"], twice["settlesItself"]) == (claim_id, settles)
