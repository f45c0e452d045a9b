from __future__ import annotations

import ast
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from coreweave_inference import CapacityClaim
from pulumi_coreweave_inference import CapacityClaimProvider
from pulumi_coreweave_inference.cli.import_file import (
    ZONE_ORDER,
    Candidate,
    assign_names,
    candidate,
    generated_from,
    import_file,
    import_problems,
    program,
)
from pulumi_coreweave_inference.inputs import compare, normalize

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
ZONES = st.permutations(["US-WEST-04A", "US-EAST-04A", "RNO2A"]).flatmap(
    lambda zones: st.integers(1, 3).map(lambda count: zones[:count])
)


def claim(
    name: str = "training", claim_id: str = "6ffb9fce-42ae-4638-add8-09ea8e43ce50", **more: Any
) -> CapacityClaim:
    resources = {
        "instanceId": "gb200-4x",
        "instanceCount": 4,
        "zones": ["US-WEST-04A", "US-EAST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
    resources |= more.pop("resources", {})
    return CapacityClaim.model_validate(
        {
            "spec": {"id": claim_id, "name": name, "resources": resources},
            "status": {"status": "STATUS_READY"} | more,
        }
    )


claims = st.lists(
    st.builds(
        lambda name, id, instance, count, zones: claim(
            name, str(id), resources={"instanceId": instance, "instanceCount": count, "zones": zones}
        ),
        NAMES,
        st.uuids(),
        st.text(min_size=1, max_size=8),
        st.integers(0, 2**32 - 1),
        ZONES,
    ),
    max_size=8,
    unique_by=lambda claim: claim.id,
)


def test_the_program_declares_what_the_api_holds() -> None:
    entries = assign_names(
        [candidate(claim()), candidate(claim("evaluation-0846110", "0846110d-e68c-408c-98a2-047316536c04"))]
    )
    assert program(entries) == snapshot(
        """\
import pulumi
import pulumi_coreweave_inference as inference

training = inference.CapacityClaim(
    "training",
    opts=pulumi.ResourceOptions(protect=True),
    resources=inference.CapacityClaimResourcesArgs(
        instance_id="gb200-4x",
        instance_count=4,
        zones=["US-WEST-04A", "US-EAST-04A"],
    ),
    name="training",
)

evaluation = inference.CapacityClaim(
    "evaluation",
    opts=pulumi.ResourceOptions(protect=True),
    resources=inference.CapacityClaimResourcesArgs(
        instance_id="gb200-4x",
        instance_count=4,
        zones=["US-WEST-04A", "US-EAST-04A"],
    ),
)
"""
    )


def declared(text: str) -> dict[str, dict[str, Any]]:
    """What a printed program declares, by resource name; each variable is assigned once."""
    found: dict[str, dict[str, Any]] = {}
    variables = set()
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign):
            continue
        (target,) = statement.targets
        assert isinstance(target, ast.Name)
        variables.add(target.id)
        call = statement.value
        assert isinstance(call, ast.Call)
        given = {word.arg: word.value for word in call.keywords}
        resources = given["resources"]
        assert isinstance(resources, ast.Call)
        found[ast.literal_eval(call.args[0])] = {
            "name": ast.literal_eval(given["name"]) if "name" in given else None,
            "resources": {word.arg: ast.literal_eval(word.value) for word in resources.keywords},
        }
    assert len(variables) == len(found)
    return found


@given(claims, st.sets(NAMES, max_size=3))
def test_every_claim_is_declared_once_as_the_provider_would_keep_it(
    held: list[CapacityClaim], taken: set[str]
) -> None:
    entries = assign_names([candidate(each) for each in held], taken)
    written = import_file(entries)["resources"]
    programmed = declared(program(entries))
    assert json.loads(json.dumps(written)) == written
    assert len(programmed) == len(written) == len(held)
    assert taken.isdisjoint(programmed)
    for entry, each in zip(written, held, strict=True):
        assert entry["id"] == each.id
        declaration = programmed[entry["name"]]
        inputs, problems = normalize(declaration)
        assert not problems
        assert not compare(entry["outputs"], inputs, ()).changed
        assert {name: entry["inputs"].get(name) for name in ("resources", "name")} == {
            name: inputs.get(name) for name in ("resources", "name")
        }
        assert entry["inputs"]["resources"]["zones"] == list(each.resources.zones)


def test_names_of_several_claims_get_digits_of_the_id() -> None:
    twins = [claim("a", f"{digit}ffb9fce-42ae-4638-add8-09ea8e43ce50") for digit in "123"]
    assert [each.resource_name for each in assign_names(map(candidate, twins), {"a-2ffb9fc"})] == snapshot(
        ["a", "a-2ffb9fce", "a-3ffb9fc"]
    )


def test_a_claim_with_a_generated_name_is_declared_without_a_name() -> None:
    own = claim("training-6ffb9fc")
    assert generated_from(own) == "training"
    (entry,) = assign_names([candidate(own)])
    assert (entry.resource_name, entry.declared_name) == ("training", None)
    (entry,) = assign_names([Candidate(own, "training", "coreweave_inference_capacity_claim.training")])
    assert entry.declared_name == "training-6ffb9fc"


def test_variables_are_identifiers_that_shadow_nothing() -> None:
    names = ["class", "list", "4x", "a.b", "a-b", "inference", "match", "-"]
    entries = assign_names(
        [Candidate(claim(claim_id=f"{index}ffb9fce"), name) for index, name in enumerate(names)]
    )
    assigned = [line.partition(" = ")[0] for line in program(entries).splitlines() if " = inf" in line]
    assert assigned == snapshot(
        ["class_claim", "list_claim", "claim_4x", "a_b", "a_b_2", "inference_2", "match_claim", "claim"]
    )


def test_zones_from_terraform_are_marked_if_their_order_is_uncertain() -> None:
    several = Candidate(claim(), "several", "x.several")
    one = Candidate(claim(resources={"zones": ["RNO2A"]}), "one", "x.one")
    assert program(assign_names([several])).count(ZONE_ORDER) == 1
    assert ZONE_ORDER not in program(assign_names([one]))
    assert ZONE_ORDER not in program(assign_names([candidate(claim())]))


def test_a_claim_that_no_program_can_declare_has_a_reason() -> None:
    assert import_problems(claim()) == []
    assert import_problems(claim(status="STATUS_DELETING")) == ["it is being deleted"]
    assert import_problems(claim(resources={"capacityType": "CAPACITY_TYPE_CUSTOMER"})) == snapshot(
        [
            "resources.capacity_type: must be CAPACITY_TYPE_MANAGED, not 'CAPACITY_TYPE_CUSTOMER'; since 2026-07-21 the API accepts no other type"
        ]
    )
    assert import_problems(claim(resources={"capacityType": None})) != []


def test_the_import_file_names_the_provider_as_the_sdk_does() -> None:
    from pulumi.dynamic.dynamic import serialize_provider

    (entry,) = import_file(assign_names([candidate(claim())]))["resources"]
    constant = serialize_provider(CapacityClaimProvider())
    assert entry["inputs"]["__provider"] == entry["outputs"]["__provider"] == constant
    assert "namespace" not in entry["inputs"]["identity"]
    assert entry["type"] == "pulumi-python:dynamic/capacityClaim:CapacityClaim"
