"""Responses are read whatever they contain; requests are strict."""

import copy
import json
import pickle
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from coreweave_inference import (
    CapacityClaim,
    CapacityClaimParameters,
    CapacityClaimResources,
    CapacityClaimStatus,
    CapacityType,
    ClaimState,
    Condition,
    ConditionStatus,
    CreateCapacityClaimRequest,
    UpdateCapacityClaimRequest,
    parse_timestamp,
)

WHOLE: dict[str, Any] = {
    "spec": {
        "id": "9f0c8a52-0000-4000-8000-000000000001",
        "name": "train",
        "organizationId": "cw1234",
        "resources": {
            "instanceId": "gb200-4x",
            "instanceCount": 4,
            "zones": ["US-WEST-04A", "US-EAST-04A"],
            "capacityType": "CAPACITY_TYPE_MANAGED",
        },
    },
    "status": {
        "createdAt": "2026-05-14T05:31:56Z",
        "updatedAt": "2026-05-14T05:31:56.123456789Z",
        "status": "STATUS_CREATING",
        "allocatedInstances": 1,
        "pendingInstances": 3,
        "conditions": [
            {
                "type": "Ready",
                "status": "STATUS_FALSE",
                "reason": "Waiting",
                "message": "no room",
                "zone": "US-WEST-04A",
                "lastUpdateTime": "2026-05-14T05:31:56Z",
            }
        ],
    },
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_every_field_of_a_claim_is_read() -> None:
    claim = CapacityClaim.model_validate(WHOLE)
    assert claim.id == WHOLE["spec"]["id"]
    assert claim.name == "train"
    assert claim.spec.organization_id == "cw1234"
    assert claim.resources.zones == ("US-WEST-04A", "US-EAST-04A")
    assert claim.resources.to_wire() == WHOLE["spec"]["resources"]
    assert claim.state is ClaimState.CREATING
    assert (claim.status.allocated_instances, claim.status.pending_instances) == (1, 3)
    assert claim.status.updated_at == "2026-05-14T05:31:56.123456789Z"
    assert claim.status.conditions[0].status is ConditionStatus.FALSE
    assert claim.status.conditions[0].last_update_time == "2026-05-14T05:31:56Z"


def test_a_field_that_protobuf_json_omits_is_zero() -> None:
    claim = CapacityClaim.model_validate_json('{"spec": {"id": "a"}}')
    assert claim.resources == CapacityClaimResources()
    assert claim.resources.to_wire() == {
        "instanceId": "",
        "instanceCount": 0,
        "zones": [],
        "capacityType": "CAPACITY_TYPE_UNSPECIFIED",
    }
    assert claim.status == CapacityClaimStatus()
    assert claim.state is ClaimState.UNSPECIFIED


@pytest.mark.parametrize("count", ["4", 4.0, "4.0", 4])
def test_counts_are_read_in_every_form_protobuf_json_allows(count: object) -> None:
    assert CapacityClaimResources.model_validate({"instanceCount": count}).instance_count == 4


def test_names_are_accepted_in_either_spelling() -> None:
    assert CapacityClaimResources(instance_id="a") == CapacityClaimResources.model_validate(
        {"instanceId": "a"}
    )


@pytest.mark.parametrize("spec", [{}, {"id": ""}, {"id": None}, None, [], "a"])
def test_a_claim_without_an_id_is_rejected(spec: object) -> None:
    with pytest.raises(ValidationError):
        CapacityClaim.model_validate({"spec": spec})


@st.composite
def responses(draw: st.DrawFn) -> dict[str, Any]:
    """A complete claim with fields omitted, nulled or added at any level, and any enum value."""

    def spoil(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [spoil(item, path) if isinstance(item, dict) else item for item in value]
        if not isinstance(value, dict):
            return value
        spoilt = draw(st.dictionaries(st.text(min_size=1).map("x-".__add__), json_values, max_size=2))
        for name, item in value.items():
            needed = (*path, name) in ((), ("spec",), ("spec", "id"))
            fate = "kept" if needed else draw(st.sampled_from(["kept", "kept", "absent", "null"]))
            if fate == "null":
                spoilt[name] = None
            elif fate == "kept" and (name == "capacityType" or item in ENUM_TEXTS):
                spoilt[name] = draw(json_values)
            elif fate == "kept":
                spoilt[name] = spoil(item, (*path, name))
        return spoilt

    spoilt: dict[str, Any] = spoil(WHOLE, ())
    return spoilt


ENUM_TEXTS = ("STATUS_CREATING", "STATUS_FALSE")


@given(responses())
def test_unknown_fields_enum_values_omissions_and_nulls_are_read(
    response: dict[str, Any],
) -> None:
    from_json = CapacityClaim.model_validate_json(json.dumps(response))
    assert from_json.id == WHOLE["spec"]["id"]
    assert CapacityClaim.model_validate(response) == from_json
    assert pickle.loads(pickle.dumps(from_json)) == from_json
    assert CapacityClaim.model_validate_json(from_json.model_dump_json()) == from_json


@given(json_values)
@pytest.mark.parametrize("enum", [ClaimState, CapacityType, ConditionStatus])
def test_an_enum_accepts_any_value_and_returns_it_as_text(enum: type[StrEnum], value: Any) -> None:
    read = TypeAdapter(enum).validate_json(json.dumps(value))
    assert isinstance(read, enum)
    assert enum(str(read)) == read
    assert TypeAdapter(enum).validate_json(json.dumps(read)) == read


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (6, ClaimState.READY),
        ("6", ClaimState.READY),
        (6.0, ClaimState.READY),
        (0, ClaimState.UNSPECIFIED),
        (None, ClaimState.UNSPECIFIED),
        ("", ClaimState.UNSPECIFIED),
        ("STATUS_READY", ClaimState.READY),
    ],
)
def test_a_state_is_read_by_name_or_number(value: object, state: ClaimState) -> None:
    assert ClaimState(value) is state
    assert state.is_known


def test_an_unknown_state_is_kept_and_marked_as_unknown() -> None:
    paused, seventeen = ClaimState("STATUS_PAUSED"), ClaimState(17)
    assert (str(paused), paused.short, paused.is_known) == ("STATUS_PAUSED", "PAUSED", False)
    assert (str(seventeen), seventeen.short, seventeen.is_known) == ("17", "17", False)
    assert paused == ClaimState("STATUS_PAUSED") != ClaimState.READY
    assert ClaimState.READY.short == "READY"
    assert {"STATUS_READY": 1}[ClaimState.READY] == 1


@pytest.mark.parametrize("enum", [ClaimState, CapacityType, ConditionStatus])
@pytest.mark.parametrize("value", [1, 2, 17, "STATUS_PAUSED", "[]", "name"])
def test_enum_values_survive_pickle_and_copy_known_or_not(enum: type[StrEnum], value: object) -> None:
    member = enum(value)
    copies = [copy.copy(member), copy.deepcopy(member)]
    copies += [
        pickle.loads(pickle.dumps(member, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ]
    for one in copies:
        assert (type(one), one, one.name, one.value) == (enum, member, member.name, member.value)
        assert (one is member) or member.name not in enum.__members__


@pytest.mark.parametrize("value", ["STATUS_TRUE", "True", "true", "TRUE", True, 2])
def test_every_spelling_of_a_true_condition_is_read(value: object) -> None:
    assert Condition.model_validate({"status": value}).status is ConditionStatus.TRUE
    assert Condition.model_validate_json(json.dumps({"status": value})).status is ConditionStatus.TRUE


@pytest.mark.parametrize("value", ["STATUS_FALSE", "False", False, 1])
def test_every_spelling_of_a_false_condition_is_read(value: object) -> None:
    assert Condition.model_validate({"status": value}).status is ConditionStatus.FALSE


def test_parameters_are_read_with_parts_missing() -> None:
    parameters = CapacityClaimParameters.from_wire(
        '{"zoneInstanceTypes": {"A": {"instanceIds": ["x", "y"]}, "B": {}, "C": null,'
        ' "D": {"instanceIds": null}, "E": {"instanceIds": ["x"], "new": 1}}, "new": 1}'
    )
    assert parameters.zone_instance_types == {
        "A": ("x", "y"),
        "B": (),
        "C": (),
        "D": (),
        "E": ("x",),
    }
    assert parameters.zones_offering("x") == ("A", "E")
    assert parameters.zones_offering("X") == ()
    assert CapacityClaimParameters.from_wire("{}").zone_instance_types == {}


def test_a_create_request_writes_every_field_of_the_resources() -> None:
    request = CreateCapacityClaimRequest.model_validate(
        {
            "name": "train",
            "resources": CapacityClaimResources(instance_id="a", zones=("B", "A")),
        }
    )
    assert json.loads(request.to_wire()) == {
        "name": "train",
        "resources": {
            "instanceId": "a",
            "instanceCount": 0,
            "zones": ["B", "A"],
            "capacityType": "CAPACITY_TYPE_UNSPECIFIED",
        },
    }


RESOURCES = {
    "instance_id": "a",
    "instanceCount": 1,
    "zones": ["A"],
    "capacity_type": "CAPACITY_TYPE_MANAGED",
}


@pytest.mark.parametrize(
    "change",
    [
        {"instanceCount": "1"},
        {"instanceCount": 1.5},
        {"instanceCount": True},
        {"instance_id": 5},
        {"zones": {"A"}},
        {"zones": "A"},
        {"zones": [1]},
        {"instanceCnt": 1},
    ],
)
def test_a_request_rejects_wrong_types_and_unknown_fields(change: dict[str, object]) -> None:
    assert UpdateCapacityClaimRequest.model_validate({"id": "i", "resources": RESOURCES})
    with pytest.raises(ValidationError):
        UpdateCapacityClaimRequest.model_validate({"id": "i", "resources": {**RESOURCES, **change}})


def test_an_update_sends_back_fields_that_this_version_does_not_know() -> None:
    unknown = {"reservationId": "r-7", "limits": [1, 2.5, None, {"snake_case": 10**18}], "gone": None}
    read = CapacityClaimResources.model_validate_json(json.dumps(RESOURCES | unknown))
    changed = read.model_copy(update={"instance_count": 7})
    sent = json.loads(UpdateCapacityClaimRequest.model_validate({"id": "i", "resources": changed}).to_wire())
    known = {"instanceId": "a", "instanceCount": 7, "zones": ["A"], "capacityType": "CAPACITY_TYPE_MANAGED"}
    assert sent == {"id": "i", "resources": known | unknown}
    assert changed.to_wire() == known
    assert pickle.loads(pickle.dumps(changed)) == changed


def test_an_unknown_field_never_replaces_a_known_one() -> None:
    body = json.dumps(RESOURCES | {"instanceId": "a", "instance_id": "b", "instance_count": 9})
    read = CapacityClaimResources.model_validate_json(body)
    assert read.unknown_fields() == {}
    assert (read.instance_id, read.instance_count) == ("a", 1)


def test_declared_resources_take_over_unknown_fields_only() -> None:
    live = CapacityClaimResources.model_validate(RESOURCES | {"reservationId": "r-7"})
    declared = CapacityClaimResources.model_validate(RESOURCES | {"zones": ["B"]})
    assert live.changed_to(declared).to_wire() == declared.to_wire()
    assert live.changed_to(declared).unknown_fields() == {"reservationId": "r-7"}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-14T05:31:56Z", datetime(2026, 5, 14, 5, 31, 56, tzinfo=UTC)),
        ("2026-05-14t05:31:56z", datetime(2026, 5, 14, 5, 31, 56, tzinfo=UTC)),
        ("2026-05-14T05:31:56.5Z", datetime(2026, 5, 14, 5, 31, 56, 500000, tzinfo=UTC)),
        ("2026-05-14T05:31:56.999999999Z", datetime(2026, 5, 14, 5, 31, 56, 999999, tzinfo=UTC)),
        ("2026-05-14T05:31:56+02:00", datetime(2026, 5, 14, 3, 31, 56, tzinfo=UTC)),
        ("2026-05-14T05:31:56-02:30", datetime(2026, 5, 14, 8, 1, 56, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+02:00", None),
        ("2026-05-14T05:31:56+99:00", None),
        ("2026-05-14T05:31:60Z", None),
        ("2026-13-14T05:31:56Z", None),
        ("2026-05-14T05:31:56", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_timestamps_are_parsed_to_utc_or_none(text: str | None, moment: datetime | None) -> None:
    assert parse_timestamp(text) == moment


@given(st.text())
def test_parsing_any_text_as_a_timestamp_never_raises(text: str) -> None:
    parse_timestamp(text)


def test_a_thousand_claims_are_read_quickly() -> None:
    body = json.dumps([WHOLE] * 1000)
    reader = TypeAdapter(list[CapacityClaim])
    reader.validate_json(body)
    started = time.perf_counter()
    assert len(reader.validate_json(body)) == 1000
    # about 15 ms; the bound leaves room for a slow machine
    assert time.perf_counter() - started < 0.5
