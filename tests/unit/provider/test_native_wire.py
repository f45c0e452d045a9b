"""Properties on their way between the engine and the native plugin."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st
from pulumi.output import UNKNOWN, Unknown
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2
from support.native_plugin import secret, sent

from pulumi_coreweave_inference.native.wire import plain, status_with, struct

RESOURCES = {"instanceId": "gb200-4x", "instanceCount": 4, "zones": ["US-WEST-04A"]}


@pytest.mark.parametrize(
    ("values", "secrets"),
    [
        ({"resources": RESOURCES}, set()),
        ({"resources": RESOURCES, "name": secret("n")}, {"name"}),
        ({"resources": RESOURCES | {"instanceCount": secret(4)}}, {"instanceCount"}),
        ({"resources": RESOURCES | {"zones": [secret("US-WEST-04A")]}}, {"zones"}),
        ({"resources": secret(RESOURCES)}, {"instanceId", "instanceCount", "zones", "capacityType"}),
    ],
    ids=["none", "name", "count", "one zone", "all resources"],
)
def test_secrets_arrive_in_clear_and_leave_wrapped(values: dict[str, Any], secrets: set[str]) -> None:
    given, found = plain(sent(values))
    assert found == secrets
    assert given["resources"] == RESOURCES
    again, kept = plain(struct(given, found))
    assert (again, kept) == (given, secrets & {"name", *RESOURCES})
    assert rpc._special_secret_sig in str(struct(given, found)) or not secrets


def test_what_is_not_known_stays_unknown_at_any_depth() -> None:
    given, _ = plain(sent({"resources": RESOURCES | {"zones": [rpc.UNKNOWN]}, "name": rpc.UNKNOWN}))
    assert isinstance(given["name"], Unknown)
    assert isinstance(given["resources"]["zones"][0], Unknown)
    assert struct({"name": UNKNOWN}) == sent({"name": rpc.UNKNOWN})


@given(st.text(max_size=400), st.text(max_size=400))
def test_the_status_is_what_protobuf_writes(message: str, claim_id: str) -> None:
    detail = provider_pb2.ErrorResourceInitFailed(id=claim_id, reasons=[message])
    written = status_with(detail, message)
    read = _read(written)
    packed = any_pb2.Any.FromString(read[3])
    unpacked = provider_pb2.ErrorResourceInitFailed()
    assert packed.Unpack(unpacked)
    assert (read[1], read[2].decode(), unpacked) == (2, message, detail)


def _read(data: bytes) -> dict[int, Any]:
    """The fields of a message of protobuf, by number."""
    fields: dict[int, Any] = {}
    while data:
        tag, data = _number(data)
        value, data = _number(data)
        if tag & 7 == 2:
            fields[tag >> 3], data = data[:value], data[value:]
        else:
            fields[tag >> 3] = value
    return fields


def _number(data: bytes) -> tuple[int, bytes]:
    number = shift = 0
    for index, byte in enumerate(data):
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, data[index + 1 :]
    raise ValueError("cut off")
