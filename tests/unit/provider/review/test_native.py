"""Previews of claims that are declared with the native resource."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest

import pulumi_coreweave_inference
from coreweave_inference import CapacityClaimResources
from pulumi_coreweave_inference.cli import tokens
from pulumi_coreweave_inference.cli.review.document import document
from pulumi_coreweave_inference.cli.review.json_report import json_report
from pulumi_coreweave_inference.cli.review.markdown import markdown
from pulumi_coreweave_inference.cli.review.plan import Evidence, Kind, Plan, Unknown, totals
from pulumi_coreweave_inference.cli.review.preview import parse
from pulumi_coreweave_inference.cli.review.review import review
from pulumi_coreweave_inference.identity import Declaration

Step = dict[str, Any]
URN: Final = f"urn:pulumi:prod::claims::{tokens.NATIVE}::training"
DYNAMIC_URN: Final = f"urn:pulumi:prod::claims::{tokens.DYNAMIC}::training"
PROVIDER: Final = f"urn:pulumi:prod::claims::{tokens.NATIVE_PROVIDER}::capacity"
PROVIDER_ID: Final = "1d5f1c35-2b1c-4f43-9a34-2a0c8c1f7e10"
NAMESPACE: Final = "0b7c2a9e-5d1f-4c3b-8e6a-1f2d3c4b5a69"
UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SECRET: Final = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "x"}
HERE, THERE = "US-WEST-04A", "US-EAST-04A"
REPORT: Final = Path(__file__).parents[4] / "docs" / "schemas" / "report.json"


def resources(count: Any = 4, zones: Any = (HERE, THERE), kind: Any = "gb200-4x") -> Step:
    zones = list(zones) if isinstance(zones, tuple) else zones
    return {"instanceId": kind, "instanceCount": count, "zones": zones}


def declaration(namespace: str = PROVIDER_ID, zones: Any = (HERE, THERE)) -> Declaration:
    declared = resources(zones=zones) | {"capacityType": "CAPACITY_TYPE_MANAGED"}
    return Declaration(namespace, URN, CapacityClaimResources.model_validate(declared))


CLAIM_ID: Final = declaration().claim_id(0)


def new(held: Any = None, provider: str = PROVIDER_ID, **more: Any) -> Step:
    """What the program declares: without an identity."""
    inputs = {"resources": resources() if held is None else held, "readiness": {"timeout": "45m"}}
    return {"type": tokens.NATIVE, "inputs": inputs, "provider": f"{PROVIDER}::{provider}"} | more


def old(held: Any = None, claim_id: str = CLAIM_ID, **more: Any) -> Step:
    """What the state holds."""
    held = resources() if held is None else held
    outputs = {
        "name": f"training-{claim_id[:7]}",
        "resources": held | {"capacityType": "CAPACITY_TYPE_MANAGED"},
        "organizationId": "org",
        "status": "STATUS_READY",
        "allocatedInstances": 4,
        "createdAt": "2026-11-27T15:37:29Z",
        "updatedAt": "2026-11-27T15:37:29Z",
        "identity": {"incarnation": "605434b1927947d487a270267be374e8"},
    }
    return new(held) | {"id": claim_id, "outputs": outputs} | more


def dynamic(**more: Any) -> Step:
    """The same claim as the dynamic resource has left it in the state."""
    identity = {"namespace": NAMESPACE, "declaration": f"{tokens.DYNAMIC}::training"}
    held = old() | {"type": tokens.DYNAMIC, "provider": "urn:pulumi:prod::claims::pulumi:providers:x::d::e"}
    return held | {"inputs": held["inputs"] | {"identity": identity}} | more


def step(op: str, before: Any = None, after: Any = None, urn: str = URN, **more: Any) -> Step:
    states = {"oldState": before, "newState": after}
    return {"op": op, "urn": urn} | {key: value for key, value in states.items() if value} | more


def replaced(before: Step, after: Step, **more: Any) -> list[Step]:
    return [
        step("create-replacement", before, after, **more),
        step("replace", before, after, **more),
        step("delete-replaced", before | {"delete": True}),
    ]


def plan(*steps: Step, said: str = "") -> Plan:
    diagnostics = [{"severity": "info", "message": said}] if said else []
    return parse(json.dumps({"steps": list(steps), "diagnostics": diagnostics}))


def shown(found: Plan) -> str:
    """The comment. The report must have the form that its schema says."""
    reviewed = review(found)
    report = json.loads(json_report(reviewed))
    jsonschema_rs.validator_for(json.loads(REPORT.read_text(encoding="utf-8"))).validate(report)
    assert report.get("native", []) == [change.urn for change in found.changes if change.native]
    assert report.get("moved", []) == [change.urn for change in found.moved]
    return markdown(document(reviewed))


def test_the_type_tokens_are_those_of_the_schema() -> None:
    folder = Path(pulumi_coreweave_inference.__file__).parent
    schema = json.loads((folder / "native" / "schema.json").read_text(encoding="utf-8"))
    assert tokens.NATIVE in schema["resources"]
    assert f"pulumi:providers:{schema['name']}" == tokens.NATIVE_PROVIDER
    assert {"type": tokens.DYNAMIC} in schema["resources"][tokens.NATIVE]["aliases"]


@pytest.mark.parametrize(
    ("steps", "kind", "sums", "text"),
    [
        ([step("create", None, new())], Kind.CREATE, (0, 4, 4), "| create | 0 → 4 × `gb200-4x` |"),
        ([step("update", old(), new(resources(6)))], Kind.SCALE, (4, 6, 6), "| scale up | 4 → 6 ×"),
        ([step("update", old(), new(resources(1)))], Kind.SCALE, (4, 1, 4), "| **scale down** | 4 → 1 ×"),
        ([step("delete", old())], Kind.RELEASE, (4, 0, 4), "| **release** | 4 → 0 ×"),
        ([step("delete", old(retainOnDelete=True))], Kind.FORGET, (4, 4, 4), "| **remove from the stack**"),
        ([step("import", None, new(importID="x"))], Kind.IMPORT, (4, 4, 4), "| import, no change"),
        ([step("same", old(), new())], Kind.SAME, (4, 4, 4), "No claim changes; 1 unchanged."),
        (
            replaced(old(), new(resources(zones=(THERE, HERE)))),
            Kind.REPLACE,
            (4, 4, 8),
            "| **replace**, new claim created first | 4 ×",
        ),
    ],
)
def test_each_step_of_a_native_claim_is_understood(
    steps: list[Step], kind: Kind, sums: tuple[int, ...], text: str
) -> None:
    found = plan(*steps)
    (change,) = found.changes
    assert (change.kind, change.native, change.moved) == (kind, True, False)
    assert tuple(amount.known for amount in totals(found)["gb200-4x"][:3]) == sums
    comment = shown(found)
    assert text in comment
    assert "Native resource: all claims." in comment


def test_the_reasons_of_a_replacement_are_those_of_the_detailed_difference() -> None:
    """The native resource names only the top level as the reason."""
    paths = {
        "resources.zones[0]": {"kind": "update-replace", "inputDiff": True},
        "resources.zones[1]": {"kind": "update-replace"},
        "resources.instanceCount": {"kind": "update"},
    }
    changed = new(resources(5, (THERE, HERE)))
    steps = replaced(old(), changed, replaceReasons=["resources"], detailedDiff=paths)
    (change,) = plan(*steps).changes
    assert (change.reasons, change.diff) == (("resources.zones",), ("~resources",))
    comment = shown(plan(*steps))
    assert "new claim created first: zone order" in comment
    assert f"replace [`diff: ~resources`]: instance_count `4` → `5`, zones `{HERE}, {THERE}`" in comment
    (change,) = plan(*replaced(old(), changed, replaceReasons=["resources", "provider"])).changes
    assert change.reasons == ("resources", "provider")


def test_a_claim_that_is_not_ready_yet_is_updated_only_to_wait() -> None:
    unready = old(initErrors=["claim is not ready"])
    assert "| wait until it is ready |" in shown(plan(step("update", unready, new())))
    switched_on = {"detailedDiff": {"status": {"kind": "update"}}}
    assert "| wait until it is ready |" in shown(plan(step("update", old(), new(), **switched_on)))
    assert "| change only the state |" in shown(plan(step("update", old(), new())))
    assert "| scale up |" in shown(plan(step("update", unready, new(resources(6)))))


def test_notes_are_in_the_words_of_the_native_resource() -> None:
    comment = shown(plan(*replaced(old(), new(resources(zones=(THERE, HERE))))))
    assert "the new claim is ready, unless its readiness has wait: false." in comment
    assert "readiness=None" not in comment
    assert "(retainOnDelete, deletedWith) stays reserved" in shown(
        plan(step("delete", old(retainOnDelete=True)))
    )


def test_drift_of_a_refresh_is_shown() -> None:
    steps = [step("refresh", old(), old()), step("update", old(resources(3)), new())]
    (drift,) = plan(*steps).drift
    assert (drift.state.count, drift.live and drift.live.count) == (4, 3)
    assert f"| `training` | 4 × `gb200-4x` in `{HERE}, {THERE}` | 3 × `gb200-4x`" in shown(plan(*steps))


@pytest.mark.parametrize("hidden", ["[secret]", SECRET])
def test_secrets_within_a_claim_are_not_taken_for_values(hidden: Any) -> None:
    for held in (resources(hidden), resources(zones=hidden), resources(kind=hidden)):
        found = plan(step("update", old(held), new(held)))
        (change,) = found.changes
        assert change.after is not None
        assert [value for _, value in change.after.unknowns()] == [Unknown.SECRET]
        assert "ciphertext" not in shown(found)


def test_a_preview_with_both_resources_names_the_native_claims() -> None:
    batch = f"urn:pulumi:prod::claims::{tokens.DYNAMIC}::batch"
    comment = shown(plan(step("create", None, new()), step("same", dynamic(), dynamic(), batch)))
    assert "Native resource: `training`." in comment
    alone = shown(plan(step("same", dynamic(), dynamic(), batch)))
    assert "ative resource" not in alone


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize(("op", "kind"), [("same", Kind.SAME), ("update", Kind.CHANGE)])
def test_a_move_by_an_alias_neither_releases_nor_creates(op: str, kind: Kind, refresh: bool) -> None:
    steps = [step(op, dynamic(), new())]
    namespace = f"urn:pulumi:prod::claims::{tokens.DYNAMIC_NAMESPACE}::claims"
    steps.append(step("delete", {"id": NAMESPACE}, urn=namespace))
    if refresh:
        steps.insert(0, step("refresh", dynamic(), dynamic(), DYNAMIC_URN))
    found = plan(*steps)
    (change,) = found.changes
    assert (change.kind, change.moved, change.claim_id) == (kind, True, CLAIM_ID)
    assert tuple(amount.known for amount in totals(found)["gb200-4x"]) == (4, 4, 4, 4)
    assert (found.drift, found.others, found.needs_capacity) == ((), 0, False)
    assert "**Moved to the native resource**, in the state only: `training`." in shown(found)


def test_a_move_by_an_alias_may_scale_and_may_go_back() -> None:
    (change,) = plan(step("update", dynamic(), new(resources(6)))).changes
    assert (change.kind, change.moved) == (Kind.SCALE, True)
    replacing = plan(*replaced(dynamic(), new(resources(zones=(THERE,)))))
    assert "**replace**, new claim created first" in shown(replacing)
    assert "Moved to" not in shown(replacing)
    back = plan(step("same", old(), dynamic(), DYNAMIC_URN))
    assert "**Moved to the dynamic resource**, in the state only: `training`." in shown(back)
    paths = {"identity": {"kind": "delete"}}
    comment = shown(plan(step("update", dynamic(), new(), detailedDiff=paths)))
    assert "the claim's move to the other resource, in the state only" in comment


def test_a_move_by_an_import_is_one_change_if_the_old_entry_keeps_the_claim() -> None:
    imported = step("import", None, new(importID=CLAIM_ID))
    found = plan(imported, step("delete", dynamic(retainOnDelete=True), urn=DYNAMIC_URN))
    (change,) = found.changes
    assert (change.kind, change.moved, change.claim_id) == (Kind.IMPORT, True, CLAIM_ID)
    assert tuple(amount.known for amount in totals(found)["gb200-4x"]) == (4, 4, 4, 4)
    comment = shown(found)
    assert "**Moved to the native resource**" in comment
    assert "no state" not in comment


def test_a_move_by_an_import_that_releases_the_claim_is_not_shown_as_harmless() -> None:
    """The provider of the old entry does not know that the new one has the same claim."""
    imported = step("import", None, new(importID=CLAIM_ID))
    found = plan(imported, step("delete", dynamic(), urn=DYNAMIC_URN))
    assert [change.kind for change in found.changes] == [Kind.RELEASE, Kind.IMPORT]
    assert "**Imported with one resource and released with the other:** `training`" in shown(found)
    renamed = plan(
        step("import", None, new(importID=CLAIM_ID)),
        step("delete", old(), urn=URN.replace("training", "trainer")),
    )
    assert "Imported with one" not in shown(renamed)  # the native provider knows both entries


def provider(**inputs: Any) -> Step:
    return step("same", None, {"inputs": inputs}, PROVIDER)


def test_a_replacement_that_goes_back_takes_over_the_claim_that_is_left() -> None:
    """The state holds the claim of the first zones, whose release has not happened yet."""
    moved = old(resources(zones=(THERE,)), declaration(zones=(THERE,)).claim_id(0))
    first = step("delete-replaced", old(delete=True))
    steps = [*replaced(moved, new()), first]
    change = next(each for each in plan(*steps).changes if each.takes_over)
    assert change.takes_over is not None
    assert (change.takes_over.claim_id, change.takes_over.evidence) == (CLAIM_ID, Evidence.LEFT)
    other = [provider(namespace=NAMESPACE), *steps]
    assert not any(each.takes_over for each in plan(*other).changes)


@pytest.mark.parametrize("namespace", [PROVIDER_ID, NAMESPACE])
@pytest.mark.parametrize("known", [PROVIDER_ID, UNKNOWN])
def test_a_create_takes_over_the_claim_that_the_provider_has_found(namespace: str, known: str) -> None:
    """Whether or not the preview shows the namespace."""
    claim_id = declaration(namespace).claim_id(0)
    said = (
        f"capacity claim 'training' (id {claim_id}) already exists (3 of 4 gb200-4x instances, CREATING); "
        "it is taken over, not created."
    )
    (change,) = plan(step("create", None, new(provider=known)), said=said).changes
    assert change.kind is Kind.TAKEOVER
    assert change.takes_over is not None
    assert (change.takes_over.claim_id, change.takes_over.allocated) == (claim_id, 3)
    stranger = said.replace(claim_id, "6ffb9fce-42ae-4638-add8-09ea8e43ce50")
    (change,) = plan(step("create", None, new(provider=known)), said=stranger).changes
    assert change.kind is Kind.CREATE
