"""Requests are decoded as strictly as the published schema."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference.emulator.decoding import (
    decode_create,
    decode_list_query,
    decode_update,
    format_timestamp,
    parse_timestamp,
)
from coreweave_inference.emulator.errors import ApiError, Violation, error_body, invalid_argument

ID = "79504dc3-e7f7-47f6-bbe2-519ea1fd9e5d"
RESOURCES = {
    "instanceId": "gb200-4x",
    "instanceCount": 4,
    "zones": ["US-WEST-04A", "RNO2A"],
    "capacityType": "CAPACITY_TYPE_MANAGED",
}


def create(**changes: object) -> bytes:
    return json.dumps({"id": ID, "name": "train", "resources": RESOURCES, **changes}).encode()


def with_resources(**changes: object) -> bytes:
    return create(resources={**RESOURCES, **changes})


def violations(body: bytes, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(ApiError) as refused:
        decode_create(body, **options)
    assert refused.value.code == "invalid_argument"
    return [
        (each["field"], each["description"])
        for _, fields in refused.value.details
        for each in fields["fieldViolations"]  # type: ignore[attr-defined]
    ]


def test_a_good_request_keeps_the_order_of_zones() -> None:
    request = decode_create(create())
    assert request.id == ID
    assert request.resources.zones == ("US-WEST-04A", "RNO2A")


def test_snake_case_and_null_are_decoded_as_in_protobuf_json() -> None:
    snake = {
        "instance_id": "gb200-4x",
        "instance_count": None,
        "zones": ["RNO2A"],
        "capacity_type": 3,
    }
    request = decode_create(create(id=None, resources=snake))
    assert (request.id, request.resources.instance_count) == (None, 0)


@pytest.mark.parametrize("count", [4, 4.0, "4", "4.0", "4e0"])
def test_a_count_may_be_written_in_any_uint32_form(count: object) -> None:
    assert decode_create(with_resources(instanceCount=count)).resources.instance_count == 4


@pytest.mark.parametrize("count", [2.5, -1, True, "four", " 4", 2**32, [], {}, "-1"])
def test_a_count_that_is_not_a_uint32_is_refused(count: object) -> None:
    (violation,) = violations(with_resources(instanceCount=count))
    assert violation[0] == "resources.instance_count"


@pytest.mark.parametrize(
    ("body", "field", "description"),
    [
        (create(labels={}), "labels", 'unknown field "labels"'),
        (with_resources(region="x"), "resources.region", 'unknown field "region"'),
        (create(name=7), "name", "must be a string, not a number"),
        (create(resources=[]), "resources", "must be an object, not an array"),
        (with_resources(zones="RNO2A"), "resources.zones", "must be an array, not a string"),
        (with_resources(zones=[None]), "resources.zones[0]", "must be a string, not null"),
        (with_resources(instance_id="x"), "resources.instance_id", "duplicate field"),
        (
            with_resources(capacityType="MANAGED"),
            "resources.capacity_type",
            'invalid value for enum type: "MANAGED"',
        ),
        (create(id="train"), "id", "value must be a valid UUID"),
        (create(name=""), "name", "value is required"),
        (create(name="x" * 101), "name", "value length must be at most 100 characters"),
        (create(resources=None), "resources", "value is required"),
        (with_resources(instanceId=""), "resources.instance_id", "value is required"),
        (with_resources(zones=[]), "resources.zones", "value must contain at least 1 item(s)"),
        (
            with_resources(zones=["RNO2A", "RNO2A"]),
            "resources.zones",
            "repeated value must contain unique items",
        ),
    ],
)
def test_a_violation_names_the_snake_case_path_of_the_field(
    body: bytes, field: str, description: str
) -> None:
    assert violations(body) == [(field, description)]


@pytest.mark.parametrize("name", ["Train", "-train", "train-", "tr ain", "train\n", "träin"])
def test_a_name_has_lower_case_letters_digits_and_inner_dashes(name: str) -> None:
    assert [field for field, _ in violations(create(name=name))] == ["name"]


@pytest.mark.parametrize("zone", ["us-west-04a", "US-WEST", "RNO2B", "US-WEST-04A\n", ""])
def test_a_zone_must_match_the_pattern(zone: str) -> None:
    fields = [field for field, _ in violations(with_resources(zones=["RNO2A", zone]))]
    assert fields == ["resources.zones[1]"]


@pytest.mark.parametrize("kind", [0, 1, 2, "CAPACITY_TYPE_SERVERLESS", "CAPACITY_TYPE_CUSTOMER", None])
def test_only_managed_capacity_can_be_claimed(kind: object) -> None:
    assert violations(with_resources(capacityType=kind)) == [
        ("resources.capacity_type", "must not be in list [0, 1, 2]")
    ]


def test_an_unknown_capacity_type_is_refused() -> None:
    ((field, _),) = violations(with_resources(capacityType=9))
    assert field == "resources.capacity_type"


def test_all_violations_are_listed() -> None:
    assert [field for field, _ in violations(b'{"resources": {}}')] == [
        "name",
        "resources.instance_id",
        "resources.zones",
        "resources.capacity_type",
    ]


def test_the_number_of_zones_can_be_limited() -> None:
    assert violations(create(), max_zones=1) == [
        ("resources.zones", "value must contain no more than 1 item(s)")
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a": NaN}',
        b'{"name": "a", "name": "b"}',
        b"\xff\xfe{\x00}\x00",
        b'{"name": ' + b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="invalid_argument: request body"):
        decode_create(body)


def test_the_id_in_a_patch_is_optional_but_must_match_the_path() -> None:
    resources = json.dumps(RESOURCES)
    assert decode_update(f'{{"resources": {resources}}}'.encode(), ID).instance_count == 4
    assert decode_update(f'{{"id": "{ID.upper()}", "resources": {resources}}}'.encode(), ID)
    other = ID.replace("7", "8")
    with pytest.raises(ApiError, match="id: must be the id in the path"):
        decode_update(f'{{"id": "{other}", "resources": {resources}}}'.encode(), ID)


def test_a_patch_cannot_change_the_name() -> None:
    with pytest.raises(ApiError, match='unknown field "name"'):
        decode_update(create(), ID)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "name", "resources", "zones", "instanceId", "x"]), inner)
        ),
    )
)
def test_any_body_is_either_decoded_or_refused(value: object) -> None:
    for decode in (decode_create, lambda body: decode_update(body, ID)):
        try:
            decode(json.dumps(value).encode())
        except ApiError as error:
            refusal = error
        else:
            continue
        assert refusal.code == "invalid_argument"
        for form in ("connect", "status"):
            assert json.loads(error_body(form, refusal.code, refusal.message, refusal.details))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("1969-12-31T23:59:59.25Z", -750_000_000),
    ],
)
def test_timestamps_are_parsed_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert parse_timestamp(text) == nanoseconds


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_a_timestamp_is_parsed_as_it_was_formatted(nanoseconds: int) -> None:
    assert parse_timestamp(format_timestamp(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    "query",
    [
        b"updatedAfter=",
        b"updatedAfter=yesterday",
        b"updatedAfter=2026-05-14",
        b"updatedAfter=2026-05-14T05:31:56",
        b"updatedAfter=2026-05-14T05:31:56+01:00",
        b"updatedAfter=2026-13-14T05:31:56Z",
        b"updatedAfter=0001-01-01T00:00:00%2B23:59",
        b"since=2026-05-14T05:31:56Z",
    ],
)
def test_a_bad_list_query_is_refused(query: bytes) -> None:
    with pytest.raises(ApiError, match="invalid_argument"):
        decode_list_query(query)


def test_a_plus_in_a_query_must_be_escaped() -> None:
    assert decode_list_query(b"updatedAfter=1970-01-01T01:00:00%2B01:00") == 0


def test_the_connect_form_encodes_details_in_binary() -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="bad.proto", package="google.rpc")
    bad = file.message_type.add(name="BadRequest")
    inner = bad.nested_type.add(name="FieldViolation")
    for number, name in enumerate(("field", "description"), 1):
        inner.field.add(name=name, number=number, type=9, label=1)
    bad.field.add(
        name="field_violations",
        number=1,
        type=11,
        label=3,
        type_name=".google.rpc.BadRequest.FieldViolation",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.BadRequest"))

    error = invalid_argument([Violation("name", "x" * 200), Violation("id", "no")])
    body = json.loads(error_body("connect", error.code, error.message, error.details))
    value = body["details"][0]["value"]
    decoded = kind.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
    assert [(each.field, each.description) for each in decoded.field_violations] == [
        ("name", "x" * 200),
        ("id", "no"),
    ]


def test_the_status_form_has_a_numeric_code() -> None:
    error = invalid_argument([Violation("name", "no")])
    body = json.loads(error_body("status", error.code, error.message, error.details))
    assert body["code"] == 3
    assert body["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "name", "description": "no"}],
        }
    ]
