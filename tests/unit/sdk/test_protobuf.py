"""Error details that arrive as base64 protobuf, checked against the protobuf library."""

import base64
import json
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import ApiError, FieldViolation
from coreweave_inference.decoding import decode_error


def decode(details: list[object]) -> ApiError:
    body = {"code": "invalid_argument", "message": "bad", "details": details}
    return decode_error(400, json.dumps(body).encode(), operation="get")


def error_details() -> dict[str, type[Message]]:
    """The messages of google/rpc/error_details.proto that the client decodes."""
    string, message = 9, 11
    file = descriptor_pb2.FileDescriptorProto(
        name="t.proto", package="google.rpc", syntax="proto3", dependency=["google/protobuf/duration.proto"]
    )

    def fields(of: Any, *names: str) -> None:
        for number, name in enumerate(names, start=1):
            of.field.add(name=name, number=number, label=1, type=string)

    def violations(name: str, inner: str, field: str, *names: str) -> None:
        of = file.message_type.add(name=name)
        fields(of.nested_type.add(name=inner), *names)
        of.field.add(name=field, number=1, label=3, type=message, type_name=f".google.rpc.{name}.{inner}")

    violations("BadRequest", "FieldViolation", "field_violations", "field", "description", "reason")
    violations("PreconditionFailure", "Violation", "violations", "type", "subject", "description")
    violations("QuotaFailure", "Violation", "violations", "subject", "description")
    fields(file.message_type.add(name="ErrorInfo"), "reason", "domain")
    fields(file.message_type.add(name="RequestInfo"), "request_id", "serving_data")
    fields(
        file.message_type.add(name="ResourceInfo"), "resource_type", "resource_name", "owner", "description"
    )
    file.message_type.add(name="RetryInfo").field.add(
        name="retry_delay", number=1, label=1, type=message, type_name=".google.protobuf.Duration"
    )
    pool = descriptor_pool.DescriptorPool()
    duration = descriptor_pb2.FileDescriptorProto()
    duration_pb2.DESCRIPTOR.CopyToProto(duration)
    pool.Add(duration)
    pool.Add(file)
    return {
        one.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{one.name}"))
        for one in file.message_type
    }


MESSAGES = error_details()


def connect_detail(name: str, message: Any) -> dict[str, object]:
    value = base64.b64encode(message.SerializeToString()).decode().rstrip("=")
    return {"type": f"google.rpc.{name}", "value": value}


def test_a_connect_detail_without_debug_is_decoded_from_protobuf() -> None:
    bad: Any = MESSAGES["BadRequest"]()
    bad.field_violations.add(field="resources.zones", description="höher, " * 40, reason="R")
    bad.field_violations.add(field="name")
    retry: Any = MESSAGES["RetryInfo"]()
    retry.retry_delay.FromMilliseconds(1500)
    info: Any = MESSAGES["RequestInfo"](request_id="r-1")
    resource: Any = MESSAGES["ResourceInfo"](resource_type="claim", description="d")
    quota: Any = MESSAGES["QuotaFailure"]()
    quota.violations.add(subject="org", description="full")
    precondition: Any = MESSAGES["PreconditionFailure"]()
    precondition.violations.add(type="STATE", subject="claim", description="deleting")
    details = [
        connect_detail("BadRequest", bad),
        connect_detail("RetryInfo", retry),
        connect_detail("RequestInfo", info),
        connect_detail("ResourceInfo", resource),
        connect_detail("QuotaFailure", quota),
        connect_detail("PreconditionFailure", precondition),
        connect_detail("ErrorInfo", MESSAGES["ErrorInfo"](reason="R", domain="coreweave.com")),
    ]
    error = decode(details)
    assert error.violations == (
        FieldViolation("resources.zones", "höher, " * 40),
        FieldViolation("name", ""),
    )
    assert error.details[1:] == (
        {"@type": "google.rpc.RetryInfo", "retryDelay": "1.5s"},
        {"@type": "google.rpc.RequestInfo", "requestId": "r-1"},
        {"@type": "google.rpc.ResourceInfo", "resourceType": "claim", "description": "d"},
        {"@type": "google.rpc.QuotaFailure", "violations": [{"subject": "org", "description": "full"}]},
        {
            "@type": "google.rpc.PreconditionFailure",
            "violations": [{"type": "STATE", "subject": "claim", "description": "deleting"}],
        },
        {"@type": "google.rpc.ErrorInfo", "reason": "R", "domain": "coreweave.com"},
    )
    assert error.request_id == "r-1"


@given(st.binary(max_size=40), st.sampled_from(sorted(MESSAGES)))
def test_any_bytes_in_a_detail_are_handled(data: bytes, name: str) -> None:
    value = base64.b64encode(data).decode()
    error = decode([{"type": f"google.rpc.{name}", "value": value}])
    assert error.code == "invalid_argument"
    assert error.details[0]["@type"] == f"google.rpc.{name}"
    assert str(error)


def test_an_undecodable_detail_is_kept_raw() -> None:
    for value in ("!", "/w", "CP8"):
        detail = {"type": "google.rpc.BadRequest", "value": value}
        error = decode([detail])
        assert error.details == ({"@type": "google.rpc.BadRequest", "value": value},)
    unknown = {"type": "acme.Thing", "value": "AAAA"}
    assert decode([unknown, 5, {"x": 1}]).details == (
        {"@type": "acme.Thing", "value": "AAAA"},
        {"x": 1},
    )
