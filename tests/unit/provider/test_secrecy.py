"""What a program marks as secret stays unsaid in every text about its claim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from coreweave_inference import AlreadyExists, CapacityClaim, FieldViolation, InvalidArgument, Unauthenticated
from pulumi_coreweave_inference import CapacityClaimResourcesArgs, Readiness, create, orphans
from pulumi_coreweave_inference.identity import Declaration
from pulumi_coreweave_inference.inputs import RESOURCE_FIELDS, Problem
from pulumi_coreweave_inference.progress import progress
from pulumi_coreweave_inference.provider import _adopted, _foreseen
from pulumi_coreweave_inference.readiness import Goal, interrupted, not_ready
from pulumi_coreweave_inference.secrecy import (
    allocation_of,
    may_hold_secrets,
    secrets_among,
    unsaid,
    without_secrets,
)

ALL = frozenset({"name", *RESOURCE_FIELDS})
VALUES = ("covert-name", "covert-8x", "8642", "1357", "US-COVERT-04A", "CAPACITY_TYPE_COVERT")


def claim(state: str = "STATUS_CREATING", count: int = 8642) -> CapacityClaim:
    zones = [{"type": "Ready", "status": "STATUS_FALSE", "zone": "US-COVERT-04A", "message": "0 of 8642"}]
    return CapacityClaim.model_validate(
        {
            "spec": {
                "id": "fe7b505e-01bc-52ce-9a6f-1d2e3f405162",
                "name": "covert-name",
                "resources": {
                    "instanceId": "covert-8x",
                    "instanceCount": count,
                    "zones": ["US-COVERT-04A"],
                    "capacityType": "CAPACITY_TYPE_COVERT",
                },
            },
            "status": {"status": state, "allocatedInstances": 1357, "conditions": zones},
        }
    )


DECLARATION = Declaration(
    "8d0c4c0a-5b5e-4c6b-9a6f-1d2e3f405162", "t::training", claim().resources, "covert-name", ALL
)
GOAL = Goal("training", "id", claim().resources, Readiness(), urn="urn:pulumi:s::p::t::training", secrets=ALL)
NEVER = "the name covert-name is taken: 8642 covert-8x in US-COVERT-04A (CAPACITY_TYPE_COVERT)"
REFUSED = InvalidArgument(NEVER, violations=(FieldViolation("resources.instanceCount", "8642 is too many"),))


@pytest.mark.parametrize(
    "text",
    [
        lambda: progress(claim(), GOAL, 60.0),
        lambda: not_ready(claim(), GOAL, 60.0, "", [claim()]),
        lambda: not_ready(claim("STATUS_FAILED"), GOAL, 60.0, "", None),
        lambda: not_ready(claim("STATUS_READY", 7531), GOAL, 60.0),
        lambda: interrupted([(claim(), GOAL)]),
        lambda: str(create._id_conflict(DECLARATION, claim())),
        lambda: str(create._takeover_refused(DECLARATION, claim())),
        lambda: str(create._name_taken(DECLARATION, "covert-name", "x", "y")),
        lambda: str(create._create_failed(DECLARATION, REFUSED)),
        lambda: orphans.orphan_warning(DECLARATION, claim()),
        lambda: _foreseen(DECLARATION, claim()),
        lambda: _adopted(DECLARATION, create.Created(claim(), adopted=True, scaled=True)),
    ],
)
def test_no_text_about_a_claim_says_its_secrets(text: Callable[[], str]) -> None:
    assert [value for value in (*VALUES, "7531") if value in text()] == []


def test_what_is_no_secret_is_said() -> None:
    assert allocation_of(claim()) == "1357 of 8642 covert-8x"
    assert allocation_of(claim(), {"instanceCount"}) == "[secret] of [secret] covert-8x"
    assert allocation_of(claim(), {"instanceId"}) == "1357 of 8642 [secret]"


def test_an_error_of_the_api_is_said_without_the_secrets_it_quotes() -> None:
    told = unsaid(REFUSED, ALL, claim().resources, "covert-name")
    assert told.message == "the name [secret] is taken: [secret] [secret] in [secret] ([secret])"
    assert told.violations == (FieldViolation("resources.instanceCount", "[secret] is too many"),)
    assert type(told) is InvalidArgument
    assert REFUSED.message == NEVER
    number = AlreadyExists("1 of 86420 is 8642")
    assert unsaid(number, {"instanceCount"}, claim().resources, None).message == "1 of 86420 is [secret]"
    plain = Unauthenticated("covert-name")
    assert unsaid(plain, (), claim().resources, "covert-name") is plain


@pytest.mark.parametrize(
    ("property_", "secrets", "is_told"),
    [
        ("name", {"name"}, False),
        ("name", {"zones"}, True),
        ("resources", {"instanceCount"}, False),
        ("resources.instance_count", {"instanceCount"}, False),
        ("resources.zones[1]", {"zones"}, False),
        ("resources.zones[1]", {"instanceId"}, False),  # names both
        ("resources.instance_id", {"zones"}, False),
        ("resources.capacity_type", {"capacityType"}, False),
        ("resources.colour", {"zones"}, True),
    ],
)
def test_a_problem_with_a_secret_names_the_rule_only(
    property_: str, secrets: set[str], is_told: bool
) -> None:
    told = without_secrets(Problem(property_, '"covert" is wrong'), secrets)
    assert ("covert" in told.reason) == is_told
    assert is_told or told.reason.startswith("is secret and not valid: it must be ")


def test_the_secret_inputs_of_a_declaration_are_found_field_by_field() -> None:
    async def found(resources: Any, name: Any = None) -> list[str] | None:
        assert may_hold_secrets(resources, name)
        return await secrets_among(resources, name)

    async def check() -> None:
        secret, plain = pulumi.Output.secret, pulumi.Output.from_input
        fields: dict[str, Any] = {
            "instance_id": "a",
            "instance_count": secret(4),
            "zones": ["b", secret("c")],
        }
        assert await found(fields, secret("n")) == ["name", "instanceCount", "zones"]
        assert await found(CapacityClaimResourcesArgs(**fields)) == ["instanceCount", "zones"]
        assert await found({"instanceId": secret("a")}) == ["instanceId"]
        assert await found(secret(fields)) == list(RESOURCE_FIELDS)
        assert await found({"instanceId": plain("a")}, plain("n")) is None
        assert not may_hold_secrets({"instanceId": "a", "zones": ["b"]}, "n")

    asyncio.run(check())
