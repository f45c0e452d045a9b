"""Which exception an error response becomes."""

import json
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import (
    ApiError,
    BrokenAnswer,
    FieldViolation,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UnknownCode,
)
from coreweave_inference.decoding import decode_error, error_class, redact

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


def test_the_code_in_the_body_overrides_the_http_status() -> None:
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
def test_a_404_without_the_apis_code_is_an_outage_not_gone(body: bytes) -> None:
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


def test_an_empty_401_or_429_is_read_from_its_status() -> None:
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


def test_the_path_of_a_violation_includes_the_index() -> None:
    elements = [{"fieldName": "resources"}, {"fieldName": "zones", "index": "1"}]
    violation = {"field": {"elements": elements}, "message": "no"}
    detail = {"type": "buf.validate.Violations", "debug": {"violations": [violation]}}
    error = decode(400, {"code": 3, "details": [detail]})
    assert error.violations == (FieldViolation("resources.zones[1]", "no"),)


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


def nested(levels: int) -> bytes:
    inner = b"[" * levels + b"]" * levels
    return b'{"code": "not_found", "message": "gone", "details": [{"a": %s}]}' % inner


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"code": "%s"}' % (b"9" * 5000), "invalid_argument"),
        (b'{"code": %s}' % (b"9" * 5000), "invalid_argument"),
        (b'{"code": 5, "details": [{"a": %s}]}' % (b"9" * 5000), "not_found"),
        (b'{"code": 5, "details": [{"@type": "google.rpc.BadRequest", "value": 1e999}]}', "not_found"),
        (nested(900), "not_found"),
        (nested(100_000), "unavailable"),
        (b'{"code": "\\ud800", "message": "\\udfff"}', "\ufffd"),
    ],
    ids=["text", "number", "detail", "infinite", "deep", "deeper", "surrogate"],
)
def test_a_hostile_error_body_becomes_an_error_like_any_other(body: bytes, code: str) -> None:
    error = decode_error(400, body, operation="get")
    redact(error, "CW-SECRET-0123456789")
    assert error.code == code
    str(error).encode()
    repr(error.details).encode()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_surrogate_pair_in_a_message_is_kept() -> None:
    assert decode(400, b'{"code": 3, "message": "\\ud83d\\ude00 \\ud83d"}').message == "\U0001f600 \ufffd"


def test_the_pattern_of_the_token_is_made_once_for_all_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ApiError("x", details=tuple({"@type": "x", "a": ["", "y"] * 100} for _ in range(100)))
    made: list[str] = []
    compiled = re.compile
    monkeypatch.setattr(re, "compile", lambda *given: made.append(given[0]) or compiled(*given))
    redact(error, "t" * 1_500)
    assert len(made) == 1
