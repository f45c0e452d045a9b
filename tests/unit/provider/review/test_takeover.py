"""Which claims the review shows as taken over instead of created."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from coreweave_inference import CapacityClaimResources
from pulumi_coreweave_inference.cli.review.document import document
from pulumi_coreweave_inference.cli.review.fingerprint import fingerprint
from pulumi_coreweave_inference.cli.review.json_report import json_report
from pulumi_coreweave_inference.cli.review.markdown import markdown
from pulumi_coreweave_inference.cli.review.plan import Change, Evidence, Kind, Plan, totals
from pulumi_coreweave_inference.cli.review.preview import parse
from pulumi_coreweave_inference.cli.review.review import review
from pulumi_coreweave_inference.cli.review.rules import Rules
from pulumi_coreweave_inference.cli.review.toml_model import load_toml
from pulumi_coreweave_inference.cli.tokens import DYNAMIC as CLAIM_TYPE
from pulumi_coreweave_inference.identity import Declaration

Step = dict[str, Any]
URN: Final = f"urn:pulumi:prod::claims::{CLAIM_TYPE}::training"
OTHER: Final = f"urn:pulumi:prod::claims::{CLAIM_TYPE}::other"
NAMESPACE: Final = "0b7c2a9e-5d1f-4c3b-8e6a-1f2d3c4b5a69"
HERE, THERE = ["US-WEST-04A"], ["US-EAST-04A"]
FAILED_NAMESPACE: Final = "not a namespace"


def resources(count: Any = 4, zones: Any = None, kind: Any = "gb200-4x") -> dict[str, Any]:
    return {"instanceId": kind, "instanceCount": count, "zones": zones or HERE}


def declaration(zones: list[str] | None = None, name: str | None = None, key: str = "") -> Declaration:
    declared = resources(zones=zones) | {"capacityType": "CAPACITY_TYPE_MANAGED"}
    key = key or f"{CLAIM_TYPE}::training"
    return Declaration(NAMESPACE, key, CapacityClaimResources.model_validate(declared), name)


def new(count: Any = 4, zones: Any = None, **more: Any) -> dict[str, Any]:
    identity = {"namespace": NAMESPACE, "declaration": f"{CLAIM_TYPE}::training"}
    return {"inputs": {"resources": resources(count, zones), "identity": identity} | more}


def old(zones: list[str] | None = None, count: int = 4, attempt: int = 0, **more: Any) -> dict[str, Any]:
    """What the state holds of the claim that was created for a declaration."""
    made = declaration(zones)
    claim_id = made.claim_id(attempt)
    outputs = {"resources": resources(count, zones), "name": made.claim_name(claim_id)}
    return {"id": claim_id, "inputs": {"resources": outputs["resources"]}, "outputs": outputs} | more


def step(op: str, before: Any = None, after: Any = None, urn: str = URN) -> Step:
    states = {"oldState": before, "newState": after}
    return {"op": op, "urn": urn} | {key: value for key, value in states.items() if value}


def replaced(before: dict[str, Any], after: dict[str, Any], first: str = "create") -> list[Step]:
    halves = [step("create-replacement", before, after), step("replace", before, after)]
    deleted = step("delete-replaced", before | {"delete": first == "create"})
    return [*halves, deleted] if first == "create" else [deleted, *halves[::-1]]


def left(zones: list[str] | None = None, **more: Any) -> Step:
    return step("delete-replaced", old(zones, delete=True, **more))


def says(
    claim_id: str, allocated: int = 4, count: int = 4, state: str = "READY", name: str = "training"
) -> Step:
    return {
        "severity": "info",
        "message": f"capacity claim '{name}' (id {claim_id}) already exists ({allocated} of {count} gb200-4x "
        f"instances, {state}); it is taken over, not created.\n\n",
    }


def plan(*steps: Step, said: tuple[Step, ...] = ()) -> Plan:
    return parse(json.dumps({"steps": list(steps), "diagnostics": list(said)}))


def only(found: Plan) -> Change:
    (change,) = found.altered
    return change


def amounts(found: Plan) -> list[int]:
    return [amount.known for amount in totals(found)["gb200-4x"]]


def comment(found: Plan) -> str:
    return markdown(document(review(found)))


@pytest.mark.parametrize("state", ["READY", "STATUS_READY"])
def test_a_create_that_the_provider_reports_as_taken_over_adds_nothing(state: str) -> None:
    claim_id = declaration().claim_id(0)
    found = plan(step("create", None, new()), said=(says(claim_id, state=state),))
    change = only(found)
    assert (change.kind, change.claim_id, amounts(found)) == (Kind.TAKEOVER, claim_id, [4, 4, 4, 4])
    assert f"takes over the claim `{claim_id}`: 4 of 4 × `gb200-4x`, `READY`" in comment(found)
    (shown,) = json.loads(json_report(review(found)))["claims"]
    assert (shown["kind"], shown["takesOver"]["allocated"], shown["takesOver"]["state"]) == (
        "takeover", 4, "READY",
    )  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        says("11111111-2222-5333-8444-555555555555"),
        says(declaration().claim_id(0), name="other"),
        says(declaration().claim_id(0), state="FAILED"),
        says(declaration().claim_id(0), state="STATUS_FAILED"),
        says("not an id"),
        says(declaration().claim_id(0)) | {"message": "capacity claim 'training' already exists"},
        says(declaration().claim_id(0)) | {"severity": "debug"},
    ],
)
def test_a_create_stays_one_without_a_report_of_its_id_and_name(said: Step) -> None:
    found = plan(step("create", None, new()), said=(said,))
    assert (only(found).kind, amounts(found)) == (Kind.CREATE, [0, 4, 4, 0])


def test_a_report_is_found_for_the_id_of_a_later_attempt() -> None:
    claim_id = declaration().claim_id(2)
    assert only(plan(step("create", None, new()), said=(says(claim_id),))).claim_id == claim_id


def test_a_claim_that_is_taken_over_and_grown_needs_only_the_rest() -> None:
    found = plan(step("create", None, new(6)), said=(says(declaration().claim_id(0)),))
    assert amounts(found) == [4, 6, 6, 4]
    assert "**Requested first in:** `US-WEST-04A` 2 × `gb200-4x`" in comment(found)
    unknown = plan(step("create", None, new("[secret]")), said=(says(declaration().claim_id(0)),))
    assert only(unknown).requested.at_least


def test_a_claim_that_is_taken_over_and_shrunk_counts_as_released() -> None:
    another = {"inputs": {"resources": resources()}}
    shrunk = step("create", None, new(1))
    found = plan(shrunk, step("create", None, another, urn=OTHER), said=(says(declaration().claim_id(0)),))
    assert [change.name for change in found.released_first()[0]] == ["training"]
    rules = load_toml(Rules, "max_scale_down = 2")
    assert [each.value for each in review(found, rules).violations] == ["3 fewer"]


def test_a_claim_taken_over_before_it_is_ready_needs_what_it_waits_for() -> None:
    found = plan(step("create", None, new()), said=(says(declaration().claim_id(0), 1, state="CREATING"),))
    assert (only(found).requested.known, amounts(found)) == (3, [4, 4, 4, 1])
    assert "1 of 4 × `gb200-4x`, `CREATING`" in comment(found)


def test_a_fingerprint_tells_taking_over_from_creating() -> None:
    claim_id = declaration().claim_id(0)
    create = step("create", None, new())
    marks = [
        fingerprint(plan(create, said=said))
        for said in ((), (says(claim_id),), (says(claim_id, count=9),), (says(declaration().claim_id(1)),))
    ]
    assert len(set(marks)) == 4
    assert fingerprint(plan(create, said=(says(claim_id, 1, state="CREATING"),))) == marks[1]


def test_going_back_takes_over_what_waits_for_its_deletion() -> None:
    steps = [*replaced(old(THERE), new(zones=HERE)), left(HERE)]
    found = plan(*steps)
    change = only(found)
    assert change.takes_over is not None
    assert (change.kind, change.takes_over.claim_id, change.takes_over.evidence) == (
        Kind.REPLACE, declaration(HERE).claim_id(0), Evidence.LEFT,
    )  # fmt: skip
    assert amounts(found) == [8, 4, 8, 4]
    assert not found.needs_capacity
    assert "left by an unfinished replacement: 4 × `gb200-4x`, unless it has failed" in comment(found)
    reported = plan(*steps, said=(says(declaration(HERE).claim_id(0)),))
    assert "left by an unfinished replacement: 4 of 4 × `gb200-4x`, `READY`" in comment(reported)
    assert fingerprint(reported) == fingerprint(found) != fingerprint(plan(*steps[:-1]))
    assert review(found, load_toml(Rules, 'replace = "create-first"\n[max_peak]\nstack = 8')).exit_code == 0


def test_going_back_to_another_count_changes_the_claim_that_is_taken_over() -> None:
    assert amounts(plan(*replaced(old(THERE), new(3, HERE)), left(HERE))) == [8, 3, 8, 3]
    grown = plan(*replaced(old(THERE), new(6, HERE)), left(HERE))
    assert (amounts(grown), only(grown).requested.known) == ([8, 6, 10, 8], 2)
    assert "keeps 4 × `gb200-4x`, 4 × `gb200-4x`" in comment(grown)


def test_a_replacement_may_take_over_what_no_state_holds() -> None:
    """An update was cut off after it had asked for the new claim."""
    found = plan(
        *replaced(old(THERE), new(zones=HERE)),
        said=(says(declaration(HERE).claim_id(0), 0, state="CREATING"),),
    )
    assert (only(found).kind, amounts(found)) == (Kind.REPLACE, [8, 4, 8, 4])
    assert "4 + 4 → 4 × `gb200-4x`" in comment(found)


def test_a_replacement_by_another_type_shows_both_types() -> None:
    before = old(THERE)
    before["outputs"]["resources"] = resources(2, THERE, "h100")
    found = plan(*replaced(before, new(zones=HERE)), left(HERE))
    assert "2 × `h100` + 4 × `gb200-4x` → 4 × `gb200-4x`" in comment(found)


def test_a_claim_released_before_the_create_is_not_taken_over() -> None:
    gone = old(HERE)
    again = plan(*replaced(gone, new(zones=HERE), first="delete"), said=(says(gone["id"]),))
    assert (only(again).kind, only(again).takes_over, amounts(again)) == (Kind.REPLACE, None, [4, 4, 4, 0])
    first = plan(left(HERE), *replaced(old(THERE), new(zones=HERE)))
    assert [change.kind for change in first.altered] == [Kind.REPLACE, Kind.RELEASE]


def test_a_forced_replacement_in_an_unknown_order_is_not_taken_for_a_keep() -> None:
    before = old(HERE)
    found = plan(step("replace", before, new(zones=HERE)), said=(says(before["id"]),))
    assert (only(found).kind, only(found).takes_over) == (Kind.REPLACE, None)


@pytest.mark.parametrize(
    ("said", "certain", "possible"),
    [
        ((), [], ["training"]),
        ((says(declaration(HERE).claim_id(0)),), [], []),
        ((says(declaration(HERE).claim_id(0), 0, state="CREATING"),), ["training"], []),
    ],
)
def test_an_old_claim_released_first_matters_unless_the_other_is_ready(
    said: tuple[Step, ...], certain: list[str], possible: list[str]
) -> None:
    found = plan(*replaced(old(THERE), new(zones=HERE), first="delete"), left(HERE), said=said)
    assert amounts(found)[:3] == [8, 4, 8]
    assert tuple([change.name for change in each] for each in found.released_first()) == (certain, possible)
    assert "old claim released first, existing claim taken over" in comment(found)


def test_a_retained_claim_and_the_one_taken_over_are_held_forever() -> None:
    found = plan(*replaced(old(THERE, retainOnDelete=True), new(zones=HERE)), left(HERE))
    assert amounts(found) == [8, 8, 8, 8]
    assert "existing claim taken over, old claim stays at CoreWeave, in no state" in comment(found)


def test_a_forced_replacement_keeps_the_claim_with_the_same_id() -> None:
    found = plan(*replaced(old(HERE), new(zones=HERE)))
    assert (only(found).kind, amounts(found)) == (Kind.TAKEOVER, [4, 4, 4, 4])
    assert "**replace in the state only**, claim is kept" in comment(found)
    assert review(found, load_toml(Rules, 'replace = "forbid"')).exit_code == 0


def test_a_forced_replacement_of_a_claim_that_has_drifted_makes_a_new_one() -> None:
    drifted = old(HERE)
    drifted["outputs"]["resources"] = resources(4, THERE)
    found = plan(*replaced(drifted, new(zones=HERE)))
    assert (only(found).kind, amounts(found)) == (Kind.REPLACE, [4, 4, 8, 4])
    # Unless the second id of the declaration is held, too.
    again = plan(*replaced(drifted, new(zones=HERE)), left(HERE, attempt=1))
    assert only(again).takes_over is not None
    others = [left(HERE, attempt=attempt) for attempt in range(1, 8)]
    for each in others:
        each["oldState"]["outputs"]["resources"] = resources(4, THERE)
    assert plan(*replaced(drifted, new(zones=HERE)), *others).altered[0].takes_over is None


def test_an_id_that_another_declaration_holds_is_skipped() -> None:
    """A claim was renamed by an alias, and the old name is declared again."""
    renamed = step("same", old(HERE), new(zones=HERE), urn=OTHER)
    found = plan(renamed, step("create", None, new(zones=HERE)))
    assert (only(found).kind, amounts(found)) == (Kind.CREATE, [4, 8, 8, 4])


def test_an_outdated_entry_of_a_claim_that_lives_on_releases_nothing() -> None:
    """An update took a claim over, and was killed before the state was rid of its old entry."""
    found = plan(step("same", old(HERE), new(zones=HERE)), left(HERE))
    assert (found.altered, amounts(found)) == ((), [4, 4, 4, 4])
    refreshed = [step("refresh", each, each) for each in (old(HERE), old(HERE, delete=True))]
    assert amounts(plan(*refreshed, step("same", old(HERE), new(zones=HERE)))) == [4, 4, 4, 4]
    both = plan(step("delete", old(HERE)), step("delete", old(HERE, delete=True)))
    assert (only(both).kind, amounts(both)) == (Kind.RELEASE, [4, 0, 4, 0])


@pytest.mark.parametrize(
    "inputs",
    [
        {"identity": None},
        {"identity": {"namespace": NAMESPACE}},
        {"identity": {"namespace": FAILED_NAMESPACE, "declaration": "x"}},
        {"name": "[secret]"},
        {"resources": resources(zones=["04da6b54-80e4-46f7-96ec-b56ff0331ba9"])},
        {"resources": resources(zones="[secret]")},
        {"resources": resources(kind="[secret]")},
        {"resources": "[secret]"},
    ],
)
def test_what_an_id_depends_on_must_be_shown(inputs: dict[str, Any]) -> None:
    after = new()
    after["inputs"] |= inputs
    change = only(plan(step("create", None, after), said=(says(declaration().claim_id(0)),)))
    assert (change.kind, change.takes_over) == (Kind.CREATE, None)


def test_an_explicit_name_is_part_of_the_id() -> None:
    claim_id = declaration(name="mine").claim_id(0)
    found = plan(step("create", None, new(name="mine")), said=(says(claim_id),))
    assert only(found).claim_id == claim_id
