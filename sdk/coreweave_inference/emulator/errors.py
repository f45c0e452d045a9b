"""Errors of the API, and their JSON in either error form."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coreweave_inference.emulator.settings import ErrorForm

Detail = tuple[str, Mapping[str, object]]
"""A detail of an error: the name of its protobuf type, and its fields as protobuf JSON."""

CODES: Mapping[str, tuple[int, int]] = {
    "canceled": (1, 499),
    "unknown": (2, 500),
    "invalid_argument": (3, 400),
    "deadline_exceeded": (4, 504),
    "not_found": (5, 404),
    "already_exists": (6, 409),
    "permission_denied": (7, 403),
    "resource_exhausted": (8, 429),
    "failed_precondition": (9, 412),
    "aborted": (10, 409),
    "out_of_range": (11, 400),
    "unimplemented": (12, 501),
    "internal": (13, 500),
    "unavailable": (14, 503),
    "data_loss": (15, 500),
    "unauthenticated": (16, 401),
}
"""By name: the number in google.rpc.Code, and the HTTP status."""


@dataclass(slots=True)
class ApiError(Exception):
    """A refused request: the name of a code, a message, and details."""

    code: str
    message: str
    details: Sequence[Detail] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def status(self) -> int:
        return CODES[self.code][1]


@dataclass(frozen=True, slots=True)
class Violation:
    """A schema rule that a field violates; `field` is a snake_case path."""

    field: str
    description: str


def invalid_argument(violations: Sequence[Violation]) -> ApiError:
    """The error for a request whose fields violate the schema."""
    listed = [{"field": each.field, "description": each.description} for each in violations]
    text = "; ".join(
        f"{each.field}: {each.description}" if each.field else each.description for each in violations
    )
    detail: Detail = ("google.rpc.BadRequest", {"fieldViolations": listed})
    return ApiError("invalid_argument", f"validation error: {text}", (detail,))


def failed_precondition(kind: str, subject: str, description: str) -> ApiError:
    """The error for a request that the current state of the claim does not allow."""
    violation = {"type": kind, "subject": subject, "description": description}
    detail: Detail = ("google.rpc.PreconditionFailure", {"violations": [violation]})
    return ApiError("failed_precondition", description, (detail,))


def resource_error(code: str, claim: str, description: str) -> ApiError:
    """An error about one claim: `not_found` or `already_exists`."""
    info = {
        "resourceType": "coreweave.inference.v1alpha1.CapacityClaim",
        "resourceName": claim,
        "description": description,
    }
    return ApiError(code, description, (("google.rpc.ResourceInfo", info),))


def error_body(form: ErrorForm, code: str, message: str, details: Sequence[Detail] = ()) -> bytes:
    """The JSON body of an error, in the Connect form or as a google.rpc.Status."""
    written: list[dict[str, object]]
    if form == "connect":
        written = [
            {"type": name, "value": _base64(name, fields), "debug": dict(fields)} for name, fields in details
        ]
        return json.dumps({"code": code, "message": message, "details": written}).encode()
    written = [{"@type": f"type.googleapis.com/{name}", **fields} for name, fields in details]
    return json.dumps({"code": CODES[code][0], "message": message, "details": written}).encode()


_STRING = "string"
_DURATION = "duration"
_STRING_MAP = "map"
_Shape = Mapping[str, "tuple[int, str | _Shape]"]
_FIELD_VIOLATION: _Shape = {"field": (1, _STRING), "description": (2, _STRING)}
_SHAPES: Mapping[str, _Shape] = {
    "google.rpc.BadRequest": {"fieldViolations": (1, _FIELD_VIOLATION)},
    "google.rpc.ResourceInfo": {
        "resourceType": (1, _STRING),
        "resourceName": (2, _STRING),
        "owner": (3, _STRING),
        "description": (4, _STRING),
    },
    "google.rpc.PreconditionFailure": {
        "violations": (
            1,
            {"type": (1, _STRING), "subject": (2, _STRING), "description": (3, _STRING)},
        )
    },
    "google.rpc.QuotaFailure": {"violations": (1, {"subject": (1, _STRING), "description": (2, _STRING)})},
    "google.rpc.ErrorInfo": {
        "reason": (1, _STRING),
        "domain": (2, _STRING),
        "metadata": (3, _STRING_MAP),
    },
    "google.rpc.RetryInfo": {"retryDelay": (1, _DURATION)},
}
"""Field numbers from google/rpc/error_details.proto: the Connect form encodes details in binary."""


def _base64(name: str, fields: Mapping[str, object]) -> str:
    """The detail in binary protobuf; empty for a type that is not in `_SHAPES`."""
    binary = _message(fields, _SHAPES.get(name, {}))
    return base64.b64encode(binary).decode().rstrip("=")


def _message(fields: Mapping[str, object], shape: _Shape) -> bytes:
    out = b""
    for key, value in fields.items():
        if key not in shape:
            continue
        number, kind = shape[key]
        if not isinstance(kind, str):
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(item, Mapping):
                    out += _delimited(number, _message(item, kind))
        elif kind == _DURATION:
            seconds = int(float(str(value).rstrip("s")))
            out += _delimited(number, b"\x08" + _varint(seconds) if seconds else b"")
        elif kind == _STRING_MAP and isinstance(value, Mapping):
            for name, text in value.items():
                entry = _delimited(1, str(name).encode()) + _delimited(2, str(text).encode())
                out += _delimited(number, entry)
        else:
            out += _delimited(number, str(value).encode(errors="replace"))
    return out


def _delimited(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
