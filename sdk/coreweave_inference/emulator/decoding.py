"""Decodes requests as strictly as a server of the published schema does.

Written by hand on purpose, and sharing no code with the client: if both used the same models, a
mistake in them would stay invisible. As in a protobuf server there are two steps: protobuf JSON
decoding (unknown fields, types), which stops at the first mistake, then the rules of the schema of
2026-06-29, where all violations are listed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from coreweave_inference.emulator.errors import ApiError, Violation, invalid_argument

CAPACITY_TYPES: Mapping[str, int] = {
    "CAPACITY_TYPE_UNSPECIFIED": 0,
    "CAPACITY_TYPE_SERVERLESS": 1,
    "CAPACITY_TYPE_CUSTOMER": 2,
    "CAPACITY_TYPE_MANAGED": 3,
}
MANAGED = 3
ZONE_PATTERN = r"^([A-Z]{2}-[A-Z]+-[0-9]+[A-Z]+|RNO2A)$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

_ZONE = re.compile(ZONE_PATTERN[:-1] + r"\Z")
_NAME = re.compile(NAME_PATTERN[:-1] + r"\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?\Z")
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|([-+])(\d\d):(\d\d))\Z", re.ASCII
)
_UINT32_MAX = 0xFFFF_FFFF
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Resources:
    """The `resources` block of a request that passed every check except the catalogue's."""

    instance_id: str
    instance_count: int
    zones: tuple[str, ...]
    capacity_type: int = MANAGED


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """The body of a create; `id` is None if the server has to make one."""

    id: str | None
    name: str
    resources: Resources


def decode_create(body: bytes, *, max_zones: int | None = None) -> CreateRequest:
    """Decode the body of a create. Raises ApiError `invalid_argument` with the violations."""
    fields = _fields(_object(body), "", ("id", "name", "resources"))
    claim_id = _string(fields, "id", "")
    name = _string(fields, "name", "")
    resources = _resources(fields)
    violations: list[Violation] = []
    if claim_id and not is_uuid(claim_id):
        violations.append(Violation("id", "value must be a valid UUID"))
    if not name:
        violations.append(Violation("name", "value is required"))
    elif len(name) > 100:
        violations.append(Violation("name", "value length must be at most 100 characters"))
    elif not _NAME.match(name):
        violations.append(Violation("name", f"value does not match regex pattern `{NAME_PATTERN}`"))
    violations += _resource_violations(resources, max_zones)
    if violations or resources is None:
        raise invalid_argument(violations)
    return CreateRequest(claim_id.lower() or None, name, resources)


def decode_update(body: bytes, claim_id: str, *, max_zones: int | None = None) -> Resources:
    """Decode the body of a PATCH. Its `id` is optional, but must match the path."""
    fields = _fields(_object(body), "", ("id", "resources"))
    named = _string(fields, "id", "")
    resources = _resources(fields)
    violations: list[Violation] = []
    if named and not is_uuid(named):
        violations.append(Violation("id", "value must be a valid UUID"))
    elif named and named.lower() != claim_id:
        violations.append(Violation("id", f"must be the id in the path, {claim_id}"))
    violations += _resource_violations(resources, max_zones)
    if violations or resources is None:
        raise invalid_argument(violations)
    return resources


def decode_list_query(query: bytes) -> int | None:
    """`updatedAfter` of a list, in nanoseconds since 1970, or None."""
    fields = _query(query)
    text = fields.pop("updatedAfter", None)
    if text is None:
        text = fields.pop("updated_after", None)
    if fields:
        raise invalid_argument([_unknown(next(iter(fields)), "")])
    if text is None:
        return None
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise invalid_argument([Violation("updated_after", str(error))]) from error


def refuse_query(query: bytes) -> None:
    """Refuse all query parameters: only LIST has one."""
    if query and (fields := _query(query)):
        raise invalid_argument([_unknown(next(iter(fields)), "")])


def is_uuid(text: str) -> bool:
    return _UUID.match(text) is not None


def parse_timestamp(text: str) -> int:
    """An RFC 3339 timestamp in nanoseconds since 1970; ValueError if it is not one."""
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 timestamp")
    seconds, fraction, zone, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
        if zone != "Z":
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            moment = moment - offset if sign == "+" else moment + offset
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not an RFC 3339 timestamp: {error}") from error
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return whole * _NANOSECONDS + int((fraction or "0").ljust(9, "0"))


def format_timestamp(nanoseconds: int) -> str:
    """The timestamp as protobuf JSON writes it: UTC with 0, 3, 6 or 9 fractional digits."""
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if not rest:
        return f"{text}Z"
    digits = f"{rest:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z"


def _object(body: bytes) -> dict[str, object]:
    try:
        value: object = json.loads(
            body.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise ApiError("invalid_argument", f"request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError("invalid_argument", "request body must be a JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate field")
    return fields


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not valid JSON")


def _query(query: bytes) -> dict[str, str]:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ApiError("invalid_argument", "duplicate query parameter")
    return fields


def _fields(value: object, path: str, names: Sequence[str]) -> dict[str, object]:
    """Check an object's fields and return them by snake_case name. Null counts as absent."""
    if not isinstance(value, dict):
        raise invalid_argument([Violation(path, f"must be an object, not {_kind(value)}")])
    known = {_camel(name): name for name in names} | {name: name for name in names}
    found: dict[str, object] = {}
    for key, item in value.items():
        name = known.get(key)
        if name is None:
            raise invalid_argument([_unknown(key, path)])
        if name in found:
            raise invalid_argument([Violation(_join(path, name), "duplicate field")])
        found[name] = item
    return {name: item for name, item in found.items() if item is not None}


def _resources(request: Mapping[str, object]) -> Resources | None:
    if "resources" not in request:
        return None
    at = "resources"
    names = ("instance_id", "instance_count", "zones", "capacity_type")
    fields = _fields(request[at], at, names)
    return Resources(
        instance_id=_string(fields, "instance_id", at),
        instance_count=_uint32(fields.get("instance_count", 0), f"{at}.instance_count"),
        zones=_strings(fields.get("zones", []), f"{at}.zones"),
        capacity_type=_capacity_type(fields.get("capacity_type", 0), f"{at}.capacity_type"),
    )


def _resource_violations(resources: Resources | None, max_zones: int | None) -> list[Violation]:
    if resources is None:
        return [Violation("resources", "value is required")]
    violations: list[Violation] = []
    if not resources.instance_id:
        violations.append(Violation("resources.instance_id", "value is required"))
    zones = resources.zones
    if not zones:
        violations.append(Violation("resources.zones", "value must contain at least 1 item(s)"))
    if max_zones is not None and len(zones) > max_zones:
        text = f"value must contain no more than {max_zones} item(s)"
        violations.append(Violation("resources.zones", text))
    if len(set(zones)) != len(zones):
        violations.append(Violation("resources.zones", "repeated value must contain unique items"))
    violations += [
        Violation(f"resources.zones[{index}]", f"value does not match regex pattern `{ZONE_PATTERN}`")
        for index, zone in enumerate(zones)
        if not _ZONE.match(zone)
    ]
    if resources.capacity_type in (0, 1, 2):
        violations.append(Violation("resources.capacity_type", "must not be in list [0, 1, 2]"))
    elif resources.capacity_type != MANAGED:
        violations.append(Violation("resources.capacity_type", "must be one of the defined enum values"))
    return violations


def _string(fields: Mapping[str, object], name: str, path: str) -> str:
    return _text(fields.get(name, ""), _join(path, name))


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise invalid_argument([Violation(path, f"must be a string, not {_kind(value)}")])
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise invalid_argument([Violation(path, "contains invalid UTF-8")]) from error
    return value


def _strings(value: object, path: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise invalid_argument([Violation(path, f"must be an array, not {_kind(value)}")])
    return tuple(_text(item, f"{path}[{index}]") for index, item in enumerate(value))


def _uint32(value: object, path: str) -> int:
    """A uint32 in any form that protobuf JSON accepts: 4, 4.0 or "4"."""
    number = value
    if isinstance(value, str) and _NUMBER.match(value):
        number = float(value) if any(sign in value for sign in ".eE") else int(value)
    if isinstance(number, float) and math.isfinite(number) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _UINT32_MAX:
        shown = json.dumps(value)[:40]
        raise invalid_argument([Violation(path, f"invalid value for uint32 type: {shown}")])
    return number


def _capacity_type(value: object, path: str) -> int:
    if isinstance(value, str) and value in CAPACITY_TYPES:
        return CAPACITY_TYPES[value]
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, int) and not isinstance(number, bool) and abs(number) < 2**31:
        return number
    shown = json.dumps(value)[:60]
    raise invalid_argument([Violation(path, f"invalid value for enum type: {shown}")])


def _unknown(key: str, path: str) -> Violation:
    return Violation(_join(path, key), f'unknown field "{key}"')


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "a string", int: "a number", float: "a number", list: "an array"}
    return kinds.get(type(value), "an object")
