"""How ids, names and keys are derived."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import CapacityClaim, CapacityClaimResources
from pulumi_coreweave_inference.identity import Declaration, is_made_by, key_of

NAMESPACE = "6f9f9c3e-1f0a-4f0e-9d3f-3f1d1c1b1a10"
KEY = "pulumi-python:dynamic/capacityClaim:CapacityClaim::training"


def resources(**changes: Any) -> CapacityClaimResources:
    return CapacityClaimResources.model_validate(
        {
            "instanceId": "gb200-4x",
            "instanceCount": 4,
            "zones": ["US-WEST-04A", "US-EAST-04A"],
            "capacityType": "CAPACITY_TYPE_MANAGED",
        }
        | changes
    )


def declare(key: str = KEY, name: str | None = None, **changes: Any) -> Declaration:
    return Declaration(NAMESPACE, key, resources(**changes), name)


def claim_of(declaration: Declaration, attempt: int = 0, name: str | None = None) -> CapacityClaim:
    claim_id = declaration.claim_id(attempt)
    name = name or declaration.claim_name(claim_id)
    spec = {"id": claim_id, "name": name, "resources": declaration.resources.to_wire()}
    return CapacityClaim.model_validate({"spec": spec})


def test_the_derivation_of_ids_is_a_promise_to_every_state_file() -> None:
    assert declare().claim_id(0) == "fecf4d12-8aeb-53a9-9d3f-3f1d1c1b1a10"
    assert declare().claim_id(1) == "8850516e-41c3-579d-9d3f-3f1d1c1b1a10"
    assert declare(name="training").claim_id(0) == "2a9d5955-1699-52d5-9d3f-3f1d1c1b1a10"


URN = "urn:pulumi:test::claims::coreweave-inference:index:CapacityClaim::training"
ELSEWHERE = "d2719f0e-57c4-4e0b-8f5d-0a1b2c3d4e5f"


def test_the_ids_of_the_native_resource_are_the_same_promise() -> None:
    assert declare(URN).claim_id(0) == "702d0e5f-20c3-5e5c-9d3f-3f1d1c1b1a10"
    assert declare(URN).claim_id(1) == "4e79d620-c6da-5bd4-9d3f-3f1d1c1b1a10"
    assert declare(URN).resource_name == "training"


def test_with_a_urn_the_first_half_does_not_depend_on_the_namespace() -> None:
    here, there = declare(URN), replace(declare(URN), namespace=ELSEWHERE)
    assert here.claim_id(0)[:18] == there.claim_id(0)[:18]
    assert here.claim_id(0)[18:] != there.claim_id(0)[18:]
    assert here.as_made(claim_of(there, attempt=1), anywhere=True) is not None
    assert here.as_made(claim_of(there)) is None
    assert here.as_made(claim_of(here), anywhere=True) is not None
    other = declare(URN.replace("::training", "::serving"))
    assert other.as_made(claim_of(there), anywhere=True) is None
    stranger = claim_of(replace(declare(), namespace=ELSEWHERE))
    assert declare().as_made(stranger, anywhere=True) is None


def test_the_id_is_a_uuid_that_shows_its_stack_and_its_declaration() -> None:
    claim_id = uuid.UUID(declare().claim_id(0))
    assert (claim_id.version, claim_id.variant) == (5, uuid.RFC_4122)
    other = NAMESPACE[:-1] + ("0" if NAMESPACE[-1] != "0" else "1")
    assert is_made_by(NAMESPACE, str(claim_id))
    assert not is_made_by(other, str(claim_id))
    assert not is_made_by(NAMESPACE, "no uuid")

    for made in (declare(), declare(zones=["US-EAST-04A"]), declare(name="training")):
        claim = claim_of(made, attempt=1)
        assert declare().has_made(claim)
        assert not declare(key=KEY + "2").has_made(claim)
        assert not Declaration(other, KEY, resources()).has_made(claim)
    renamed = claim_of(declare(), name="somebody-else-s")
    assert not Declaration(NAMESPACE, KEY, resources(instanceId="other")).is_content_of(renamed)


@pytest.mark.parametrize("shown", [None, "CAPACITY_TYPE_UNSPECIFIED", "CAPACITY_TYPE_CUSTOMER"])
def test_a_claim_is_recognized_where_the_api_shows_other_forms(shown: str | None) -> None:
    for zones in permutations(["RNO2A", "US-EAST-04A", "US-WEST-04A"]):
        made = declare(zones=list(zones))
        wire = made.resources.to_wire() | {"zones": sorted(zones), "capacityType": shown}
        if shown is None:
            del wire["capacityType"]
        spec = {"id": made.claim_id(1), "name": made.claim_name(made.claim_id(1)), "resources": wire}
        claim = CapacityClaim.model_validate({"spec": spec})
        assert declare().has_made(claim)
        assert not declare(key=KEY + "2").has_made(claim)


def test_many_zones_are_recognized_in_the_order_in_which_they_were_sent() -> None:
    assert declare().has_made(claim_of(declare(zones=[f"US-WEST-0{number}A" for number in range(9)])))


def test_the_id_depends_on_everything_immutable_and_on_nothing_else() -> None:
    other = [
        declare(key=KEY + "2"),
        declare(name="training"),
        declare(instanceId="h100-80gb-sxm5"),
        declare(zones=["US-EAST-04A", "US-WEST-04A"]),
        declare(zones=["US-WEST-04A"]),
        declare(capacityType="CAPACITY_TYPE_CUSTOMER"),
        Declaration(NAMESPACE.replace("6", "7"), KEY, resources()),
    ]
    ids = {declaration.claim_id(0) for declaration in [declare(), *other]}
    assert len(ids) == len(other) + 1
    assert declare(instanceCount=99).claim_id(0) == declare().claim_id(0)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.text(max_size=5), st.text(max_size=5))
def test_no_two_contents_share_an_id_by_the_way_they_are_joined(
    zones: list[str], instance: str, name: str
) -> None:
    one = declare(zones=zones, instanceId=instance, name=name)
    joined = declare(zones=[",".join(zones)], instanceId=instance, name=name)
    assert len(zones) == 1 or one.claim_id(0) != joined.claim_id(0)
    assert (
        declare(key=KEY + instance, instanceId="").claim_id(0)
        != declare(key=KEY, instanceId=instance).claim_id(0)
        or not instance
    )


def test_the_default_name_is_the_resources_name_and_part_of_the_id() -> None:
    declaration = declare(key="x::My Training!")
    assert declaration.claim_name("0123456789") == "my-training-0123456"
    assert declare(key="x::日本").claim_name("0123456789") == "claim-0123456"
    assert declare(name="given").claim_name("0123456789") == "given"


@given(st.text(max_size=400), st.uuids())
def test_every_made_name_obeys_the_apis_rule(resource_name: str, claim_id: Any) -> None:
    name = declare(key=f"x::{resource_name}").claim_name(str(claim_id))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 100


def test_the_key_is_the_urn_without_stack_and_project() -> None:
    urn = "urn:pulumi:dev::shop::my:comp:Team$pulumi-python:dynamic/capacityClaim:CapacityClaim::a::b"
    assert key_of(urn) == "my:comp:Team$pulumi-python:dynamic/capacityClaim:CapacityClaim::a::b"
