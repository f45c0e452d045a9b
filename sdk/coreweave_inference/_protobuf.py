"""Decodes the google.rpc error details that the Connect protocol sends as base64 protobuf.

They contain only strings, repeated messages of strings, and one duration: too little to depend on the
protobuf library. Connect may also send a readable copy (``debug``), which is preferred.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import TypeAlias

from .errors import JSON

__all__ = ["decode_detail"]


def decode_detail(name: str, value: str) -> dict[str, JSON]:
    """Decodes the message ``name`` (such as "google.rpc.BadRequest") from base64, with JSON field names.

    Unknown fields are dropped. Raises ValueError if the message is unknown or the bytes are not one.
    """
    if name not in _MESSAGES:
        raise ValueError("unknown message")
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    return _message(data, _MESSAGES[name])


# field number -> JSON name, and the fields of the repeated message that it holds
_Fields: TypeAlias = "dict[int, tuple[str, _Fields | None]]"

# google/rpc/error_details.proto
_MESSAGES: dict[str, _Fields] = {
    "google.rpc.BadRequest": {1: ("fieldViolations", {1: ("field", None), 2: ("description", None)})},
    "google.rpc.ErrorInfo": {1: ("reason", None), 2: ("domain", None)},
    "google.rpc.PreconditionFailure": {
        1: ("violations", {1: ("type", None), 2: ("subject", None), 3: ("description", None)})
    },
    "google.rpc.QuotaFailure": {1: ("violations", {1: ("subject", None), 2: ("description", None)})},
    "google.rpc.RequestInfo": {1: ("requestId", None), 2: ("servingData", None)},
    "google.rpc.ResourceInfo": {
        1: ("resourceType", None),
        2: ("resourceName", None),
        3: ("owner", None),
        4: ("description", None),
    },
    "google.rpc.RetryInfo": {1: ("retryDelay", {})},
}


def _message(data: bytes, fields: _Fields) -> dict[str, JSON]:
    message: dict[str, JSON] = {}
    for number, value in _wire_fields(data):
        if number not in fields or not isinstance(value, bytes):
            continue
        name, inner = fields[number]
        if inner is None:
            message[name] = value.decode()
        elif name == "retryDelay":
            message[name] = _duration(value)
        else:
            items = message.setdefault(name, [])
            if isinstance(items, list):
                items.append(_message(value, inner))
    return message


def _duration(data: bytes) -> str:
    parts = {number: value for number, value in _wire_fields(data) if isinstance(value, int)}
    return f"{parts.get(1, 0) + parts.get(2, 0) / 1_000_000_000:.9f}".rstrip("0").rstrip(".") + "s"


def _wire_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of an encoded message, as number and raw value."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = _varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                length, at = _varint(data, at)
                value, at = data[at : at + length], at + length
            case 5:
                value, at = data[at : at + 4], at + 4
            case _:
                raise ValueError("unknown protobuf wire type")
        if at > len(data):
            raise ValueError("truncated protobuf message")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("truncated protobuf message")
