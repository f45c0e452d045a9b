"""Which exception an answer stands for, what it tells, and that it keeps no secret."""

import base64
import json
import pickle
import re
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

import coreweave_inference
from coreweave_inference import (
    ApiError,
    BrokenAnswer,
    ConnectionFailed,
    CoreweaveError,
    FieldViolation,
    InvalidArgument,
    MissingToken,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UnknownCode,
    errors,
)
from coreweave_inference.errors import decode_error, error_class

# google.rpc.Code, by number
CODES = [
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def decode(status: int, body: object, operation: str = "get") -> ApiError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_error(status, data, operation=operation)


@pytest.mark.parametrize(("number", "code"), list(enumerate(CODES, start=1)))
def test_every_code_has_one_class_in_both_forms(number: int, code: str) -> None:
    spellings = (code, number, str(number), float(number), code.upper())
    found = {type(decode(400, {"code": spelling, "message": "m"})) for spelling in spellings}
    assert found == {error_class(code)}
    assert decode(400, {"code": number}).code == code


def test_the_code_in_the_body_wins_over_the_http_status() -> None:
    assert type(decode(404, {"code": "unavailable"})) is Unavailable
    assert type(decode(500, {"code": 5})) is NotFound
    assert decode(412, {"code": 9}).code == decode(400, {"code": 9}).code == "failed_precondition"


@pytest.mark.parametrize(
    ("status", "operation", "code"),
    [
        (400, "get", "invalid_argument"),
        (401, "get", "unauthenticated"),
        (403, "get", "permission_denied"),
        (409, "create", "already_exists"),
        (409, "update", "aborted"),
        (412, "get", "failed_precondition"),
        (418, "get", "unknown"),
        (429, "get", "resource_exhausted"),
        (499, "get", "canceled"),
        (500, "get", "internal"),
        (501, "get", "unimplemented"),
        (503, "get", "unavailable"),
        (504, "get", "deadline_exceeded"),
        (599, "get", "internal"),
    ],
)
def test_without_a_code_the_http_status_decides(status: int, operation: str, code: str) -> None:
    for body in ({"message": "m"}, {"code": 0}, {"code": "ok"}, {"code": status}, {"code": True}):
        assert decode(status, body, operation).code == code


@pytest.mark.parametrize("code", ["frobnicated", 17, -1])
def test_an_unknown_code_is_kept(code: str | int) -> None:
    error = decode(418, {"code": code, "message": "tea"})
    assert type(error) is UnknownCode
    assert error.code == str(code)


def test_a_nested_error_object_is_read() -> None:
    body = {"error": {"code": 404, "status": "NOT_FOUND", "message": "no such claim"}}
    assert type(decode(404, body)) is NotFound


@pytest.mark.parametrize(
    "body",
    [
        b"<html>not found</html>",
        b"",
        b"404 page not found",
        b'{"code": "not_found", "mess',
        b"null",
        b"[]",
        b'"not_found"',
        b'{"message": "no Route matched with those values"}',
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=repr,
)
def test_a_404_without_the_apis_code_is_an_outage_and_never_gone(body: bytes) -> None:
    error = decode(404, body)
    assert type(error) is BrokenAnswer
    assert error.code == "unavailable"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 409, 418, 500, 502, 503])
def test_html_is_an_outage_with_any_status_and_is_quoted(status: int) -> None:
    error = decode(status, b"<html>\n<h1>Bad  Gateway</h1>" + b"x" * 1000)
    assert type(error) is BrokenAnswer
    assert "<html> <h1>Bad Gateway</h1>x" in str(error)
    assert f"HTTP {status}" in str(error)
    assert len(str(error)) < 300


def test_a_bare_401_or_429_is_what_its_status_says() -> None:
    assert type(decode(401, b"")) is Unauthenticated
    assert type(decode(429, b"")) is ResourceExhausted


def test_a_redirect_is_an_outage_that_says_why() -> None:
    error = decode(302, b"")
    assert type(error) is BrokenAnswer
    assert "redirects are not followed" in str(error)


VIOLATION = {"field": "resources.zones", "description": "must not be empty"}


@pytest.mark.parametrize(
    "detail",
    [
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [VIOLATION]},
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": [VIOLATION]},
        {"type": "google.rpc.BadRequest", "value": "", "debug": {"fieldViolations": [VIOLATION]}},
        {
            "type": "buf.validate.Violations",
            "debug": {
                "violations": [
                    {
                        "field": {"elements": [{"fieldName": "resources"}, {"fieldName": "zones"}]},
                        "message": "must not be empty",
                    }
                ]
            },
        },
        {
            "type": "buf.validate.Violations",
            "debug": {"violations": [{"fieldPath": "resources.zones", "message": "must not be empty"}]},
        },
    ],
)
def test_field_violations_are_read_in_both_forms(detail: dict[str, object]) -> None:
    error = decode(400, {"code": "invalid_argument", "message": "bad", "details": [detail]})
    assert error.violations == (FieldViolation("resources.zones", "must not be empty"),)
    assert "resources.zones: must not be empty" in str(error)


def test_an_index_stands_in_a_violations_path() -> None:
    elements = [{"fieldName": "resources"}, {"fieldName": "zones", "index": "1"}]
    violation = {"field": {"elements": elements}, "message": "no"}
    detail = {"type": "buf.validate.Violations", "debug": {"violations": [violation]}}
    error = decode(400, {"code": 3, "details": [detail]})
    assert error.violations == (FieldViolation("resources.zones[1]", "no"),)


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
    details = [
        connect_detail("BadRequest", bad),
        connect_detail("RetryInfo", retry),
        connect_detail("RequestInfo", info),
        connect_detail("ResourceInfo", resource),
        connect_detail("QuotaFailure", quota),
    ]
    error = decode(400, {"code": "invalid_argument", "message": "bad", "details": details})
    assert error.violations == (
        FieldViolation("resources.zones", "höher, " * 40),
        FieldViolation("name", ""),
    )
    assert error.details[1:] == (
        {"@type": "google.rpc.RetryInfo", "retryDelay": "1.5s"},
        {"@type": "google.rpc.RequestInfo", "requestId": "r-1"},
        {"@type": "google.rpc.ResourceInfo", "resourceType": "claim", "description": "d"},
        {"@type": "google.rpc.QuotaFailure", "violations": [{"subject": "org", "description": "full"}]},
    )
    assert error.request_id == "r-1"


@given(st.binary(max_size=40), st.sampled_from(sorted(MESSAGES)))
def test_any_bytes_of_a_detail_are_survived(data: bytes, name: str) -> None:
    value = base64.b64encode(data).decode()
    error = decode(400, {"code": 3, "details": [{"type": f"google.rpc.{name}", "value": value}]})
    assert error.code == "invalid_argument"
    assert error.details[0]["@type"] == f"google.rpc.{name}"
    assert str(error)


def test_an_undecodable_detail_is_kept_raw() -> None:
    for value in ("!", "/w", "CP8"):
        detail = {"type": "google.rpc.BadRequest", "value": value}
        error = decode(400, {"code": 3, "details": [detail]})
        assert error.details == ({"@type": "google.rpc.BadRequest", "value": value},)
    unknown = {"type": "acme.Thing", "value": "AAAA"}
    assert decode(400, {"code": 3, "details": [unknown, 5, {"x": 1}]}).details == (
        {"@type": "acme.Thing", "value": "AAAA"},
        {"x": 1},
    )


@given(
    st.integers(300, 599),
    st.fixed_dictionaries(
        {},
        optional={
            "code": json_values,
            "message": json_values,
            "details": st.lists(
                st.fixed_dictionaries(
                    {"@type": st.sampled_from(["google.rpc.BadRequest", "buf.validate.Violations"])},
                    optional={"fieldViolations": json_values, "violations": json_values},
                )
                | json_values
            ),
            "error": json_values,
        },
    )
    | json_values,
)
def test_any_error_body_becomes_a_readable_error(status: int, body: object) -> None:
    error = decode(status, body)
    assert isinstance(error, ApiError)
    assert "\n" not in str(error)
    assert error.http_status == status
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_text_is_one_line_with_all_that_helps() -> None:
    error = InvalidArgument(
        "bad\nrequest",
        http_status=400,
        violations=(FieldViolation("resources.zones", "must not be empty"),),
        request_id="r-1",
        attempts=3,
        operation="create",
        claim_id="9f0c",
        retry_after=12.4,
    )
    assert str(error) == (
        "create of claim 9f0c: invalid_argument: bad request (resources.zones: must not be empty;"
        " HTTP 400; the API asks to wait 12 s; request id r-1; 3 attempts)"
    )
    assert repr(error) == f"<InvalidArgument {error}>"


def test_an_error_survives_pickling_with_all_it_tells() -> None:
    error = ConnectionFailed("x", attempts=2, operation="get", claim_id="9f0c")
    error.sent = False
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ConnectionFailed
    assert vars(copy) == vars(error)


def test_a_missing_token_names_every_way_to_give_one() -> None:
    for name in ("COREWEAVE_API_TOKEN", "CW_API_TOKEN", "pulumi config set --secret coreweave:token"):
        assert name in str(MissingToken())
    assert str(pickle.loads(pickle.dumps(MissingToken()))) == str(MissingToken())


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    codes: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r" {4}([ │├└─]*)([A-Z]\w+)(?: +(.*))?", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        del path[depth:]
        drawn[match[2]] = path[-1] if path else None
        path.append(match[2])
        if (code := (match[3] or "").split(" ")[0]) in CODES:
            codes[match[2]] = code
    real = {
        one.__name__: one.__mro__[1].__name__
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, CoreweaveError) and one is not CoreweaveError
    }
    assert drawn == {"CoreweaveError": None, **real}
    assert codes.items() <= {name: getattr(errors, name).CODE for name in drawn if name in codes}.items()
    assert set(CODES) - set(codes.values()) == {"unknown"}


def test_every_exception_is_exported_from_module_and_package() -> None:
    classes = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, CoreweaveError)
    }
    assert classes <= set(errors.__all__)
    assert classes <= set(coreweave_inference.__all__)
