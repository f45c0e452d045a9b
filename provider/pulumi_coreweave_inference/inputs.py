"""The inputs of a claim: their shape, their rules, their keys in the state, and how two sets differ.

Pure functions over the plain values that the engine sends. A value that is not known yet is a
`pulumi.output.Unknown`, at any depth, and is kept unchanged. Numbers arrive as floats.

The rules are those of the published schema of 2026-06-29, as changed on 2026-07-21. Which zones and instance
types exist is for the API to decide (catalogue.py).
"""

from __future__ import annotations

import decimal
import numbers
import re
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final

from pulumi.output import Output, Unknown

MANAGED: Final = "CAPACITY_TYPE_MANAGED"
RESOURCE_FIELDS: Final = ("instanceId", "instanceCount", "zones", "capacityType")
PATCHABLE_BY_DEFAULT: Final = ("instanceCount",)
MAXIMUM_COUNT: Final = 2**32 - 1  # the schema's type is uint32

IDENTITY: Final = "identity"
"""The property of a claim that holds the six below, the first two and `secret` as inputs too.

None of the names begins with "__": SDKs before 3.235 do not pass such inputs to a provider.
"""
NAMESPACE: Final = "namespace"  # of the stack
DECLARATION: Final = "declaration"  # its key, which identifies it within the stack
INCARNATION: Final = "incarnation"  # of the entry in the state
EXPLICIT_NAME: Final = "explicitName"  # whether the program declares the claim's name
SECRET: Final = "secret"  # the inputs that the program marks as secret, if any (secrecy.py)
REWRITTEN: Final = "rewritten"  # the fields of `resources` that the API did not return as declared, if any
RUN: Final = "run"
"""A key of the identity in what a program sends, never in the state: see participation.py."""
DELETE_FIRST: Final = "deleteFirst"
"""The same: whether the program's options delete the claim before its replacement is created."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ZONE = re.compile(r"[A-Z]{2}-[A-Z]+-[0-9]+[A-Z]+|RNO2A")
_SNAKE: Final = {
    "instance_id": "instanceId",
    "instance_count": "instanceCount",
    "capacity_type": "capacityType",
}
_CAMEL: Final = {camel: snake for snake, camel in _SNAKE.items()}


@dataclass(frozen=True)
class Problem:
    """An error in a declaration: the property in the program's spelling, and the reason."""

    property: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """What changes between a claim as the state holds it and as the program declares it.

    `changed` and `replaces` hold property paths in the API's spelling, such as `resources.zones`.
    """

    changed: tuple[str, ...] = ()
    replaces: tuple[str, ...] = field(default=())


def identity_of(props: Mapping[str, Any]) -> dict[str, Any]:
    """The identity in a claim's inputs or outputs; empty for a claim that is only looked up."""
    identity = props.get(IDENTITY)
    return dict(identity) if isinstance(identity, Mapping) else {}


def is_unknown(value: object) -> bool:
    """Whether the engine does not know the value yet."""
    return isinstance(value, Unknown)


def is_unknown_within(value: object) -> bool:
    """Whether the engine does not know the value, or a part of it, yet."""
    if isinstance(value, Mapping):
        return any(map(is_unknown_within, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(is_unknown_within, value))
    return is_unknown(value)


def program_spelling(path: str) -> str:
    """`resources.instanceId` as a Python program writes it: `resources.instance_id`."""
    return ".".join(_CAMEL.get(part, part) for part in path.split("."))


def api_spelling(resources: Mapping[str, object]) -> dict[str, object]:
    """A `resources` block in the API's spelling, given either spelling."""
    return {_SNAKE.get(name, name): value for name, value in resources.items()}


def spelled_twice(resources: Mapping[str, object]) -> list[Problem]:
    """The fields of a `resources` block that are given in both spellings."""
    return [
        Problem(f"resources.{snake}", f"is the same field as resources.{camel}; set only one of them")
        for snake, camel in _SNAKE.items()
        if snake in resources and camel in resources
    ]


def unsendable(resources: object, name: object) -> list[Problem]:
    """The plain values of a declaration that Pulumi cannot send, or would send as something else.

    Outputs and awaitables are not looked into.
    """
    fields: Mapping[str, object] = (
        api_spelling(resources)
        if isinstance(resources, Mapping)
        else {field: getattr(resources, _CAMEL.get(field, field), None) for field in RESOURCE_FIELDS}
    )
    problems: list[Problem] = []
    for path, value in (
        ("name", name),
        *((f"resources.{each}", fields.get(each)) for each in RESOURCE_FIELDS),
    ):
        known = program_spelling(path)
        if path == "resources.zones":
            problems += _unsendable_zones(known, value)
        elif path == "resources.instanceCount":
            if isinstance(value, int) and abs(value) > MAXIMUM_COUNT:
                digits = _show(value) if abs(value) < 10**20 else "a number of more than 20 digits"
                problems.append(Problem(known, f"must be between 0 and {MAXIMUM_COUNT}, not {digits}"))
            elif isinstance(value, (numbers.Number, decimal.Decimal)) and not isinstance(value, (int, float)):
                problems.append(Problem(known, f"must be an int, not {value!r}; write int(…) around it"))
            elif not _is_plain(value):
                problems.append(Problem(known, f"must be a whole number, not {value!r}"))
        elif not _is_plain(value):
            problems.append(Problem(known, f"must be a string, not {value!r}; write str(…) around it"))
    return problems


def _unsendable_zones(path: str, zones: object) -> list[Problem]:
    example = 'write a list, such as ["US-WEST-04A", "US-EAST-04A"]'
    if isinstance(zones, Set):
        return [
            Problem(
                path, f"must be in order of preference, and a {type(zones).__name__} has no order; {example}"
            )
        ]
    if isinstance(zones, (list, tuple)):
        return [
            Problem(f"{path}[{index}]", f"must be a zone name, not {zone!r}")
            for index, zone in enumerate(zones)
            if not _is_plain(zone)
        ]
    if _is_plain(zones):
        return []
    return [
        Problem(
            path, f"must be a list of zones in order of preference, not a {type(zones).__name__}; {example}"
        )
    ]


def _is_plain(value: object) -> bool:
    """Whether the SDK sends a value, or waits for it."""
    plain = (bool, int, float, str, list, tuple, dict, Output, Awaitable)
    return value is None or isinstance(value, plain)


def normalize(news: Mapping[str, object]) -> tuple[dict[str, object], list[Problem]]:
    """The inputs as the state keeps them, and all problems with them.

    Counts become ints, keys get the API's spelling, and the capacity type defaults to the only one accepted.
    """
    inputs = {name: value for name, value in news.items() if value is not None}
    problems: list[Problem] = []
    name = inputs.get("name")
    if name is not None and not is_unknown(name):
        problems += _name_problems(name)
    resources = inputs.get("resources")
    if resources is None:
        problems.append(Problem("resources", "is required: what to reserve, and where"))
    elif isinstance(resources, Mapping):
        inputs["resources"], found = _normalize_resources(resources)
        problems += found
    elif not is_unknown(resources):
        problems.append(
            Problem("resources", f"must be a CapacityClaimResourcesArgs or a dict, not {resources!r}")
        )
    return inputs, problems


def compare(olds: Mapping[str, object], news: Mapping[str, object], patchable: Iterable[str]) -> Difference:
    """How the declared inputs `news` differ from the outputs `olds` in the state.

    Only what a program declares is compared, never what the API reports. A value that is not known yet counts
    as changed, and as a replacement if a change of it would be one.
    """
    in_place = set(patchable)
    changed: list[str] = []
    replaces: list[str] = []
    declared = news.get("resources")
    if is_unknown(declared):
        changed.append("resources")
        replaces.append("resources")
    elif isinstance(declared, Mapping):
        held = olds.get("resources")
        held = held if isinstance(held, Mapping) else {}
        for name in RESOURCE_FIELDS:
            if not _same(held.get(name), declared.get(name)):
                changed.append(f"resources.{name}")
                if name not in in_place:
                    replaces.append(f"resources.{name}")
    declared_name = news.get("name")
    if declared_name is not None and not _same(olds.get("name"), declared_name):
        changed.append("name")
        replaces.append("name")
    elif (declared_name is not None) != bool(identity_of(olds).get(EXPLICIT_NAME)):
        # The claim keeps its name; only whether the program sets it changes. Nothing is sent.
        changed.append("name")
    return Difference(tuple(changed), tuple(replaces))


def rewritten_fields(returned: Mapping[str, object], declared: Mapping[str, object]) -> list[str]:
    """The fields of `resources` that the API returned in another form than declared.

    An API may sort the zones, and leave out or replace the capacity type; both are assumed.
    """
    return [
        name
        for name in ("zones", "capacityType")
        if returned.get(name) != declared.get(name) and _is_form_of(name, returned, declared)
    ]


def as_declared(
    returned: Mapping[str, object], declared: Mapping[str, object], rewritten: Iterable[str]
) -> dict[str, object]:
    """What the API returned, with the fields that it is known to rewrite as they were declared."""
    return dict(returned) | {
        name: declared[name]
        for name in rewritten
        if name in declared and _is_form_of(name, returned, declared)
    }


def differing(returned: Mapping[str, object], declared: Mapping[str, object]) -> set[str]:
    """The fields of `resources` that differ by more than a form that the API may give them."""
    seen = as_declared(returned, declared, rewritten_fields(returned, declared))
    return {name for name in RESOURCE_FIELDS if seen.get(name) != declared.get(name)}


def _is_form_of(name: str, returned: Mapping[str, object], declared: Mapping[str, object]) -> bool:
    if name == "capacityType":
        return True
    theirs, mine = returned.get(name), declared.get(name)
    return isinstance(theirs, list) and isinstance(mine, list) and Counter(theirs) == Counter(mine)


def _same(held: object, declared: object) -> bool:
    if isinstance(held, (list, tuple)) and isinstance(declared, (list, tuple)):
        return len(held) == len(declared) and all(map(_same, held, declared))
    return not is_unknown(declared) and held == declared


def _normalize_resources(given: Mapping[str, object]) -> tuple[dict[str, object], list[Problem]]:
    resources = {k: v for k, v in api_spelling(given).items() if v is not None}
    problems = spelled_twice(given)
    problems += [
        Problem(f"resources.{name}", f"is not a field of resources; the fields are {_known_fields()}")
        for name in resources
        if name not in RESOURCE_FIELDS
    ]
    resources.setdefault("capacityType", MANAGED)
    instance = resources.get("instanceId")
    if instance is None or instance == "":
        problems.append(Problem("resources.instance_id", 'is required, such as "gb200-4x"'))
    elif not is_unknown(instance) and not isinstance(instance, str):
        problems.append(Problem("resources.instance_id", f"must be a string, not {instance!r}"))
    count = resources.get("instanceCount")
    if not is_unknown(count):
        resources["instanceCount"], found = _normalize_count(count)
        problems += found
    problems += _zones_problems(resources.get("zones"))
    capacity = resources["capacityType"]
    if not is_unknown(capacity) and capacity != MANAGED:
        problems.append(
            Problem("resources.capacity_type", f"must be {MANAGED}, not {_show(capacity)}; "
                    "since 2026-07-21 the API accepts no other type")
        )  # fmt: skip
    return resources, problems


def _normalize_count(count: object) -> tuple[object, list[Problem]]:
    path = "resources.instance_count"
    if count is None:
        return count, [Problem(path, "is required: the number of instances to reserve")]
    if isinstance(count, bool) or not isinstance(count, (int, float)):
        return count, [Problem(path, f"must be a whole number, not {_show(count)}")]
    if count != count or count in (float("inf"), float("-inf")) or count != int(count):
        return count, [Problem(path, f"must be a whole number, not {_show(count)}")]
    if not 0 <= count <= MAXIMUM_COUNT:
        return int(count), [Problem(path, f"must be between 0 and {MAXIMUM_COUNT}, not {int(count)}")]
    return int(count), []


def _zones_problems(zones: object) -> list[Problem]:
    path = "resources.zones"
    if is_unknown(zones):
        return []
    if zones is None or zones == []:
        return [Problem(path, 'needs at least one zone, such as ["US-WEST-04A"]')]
    if not isinstance(zones, (list, tuple)):
        return [Problem(path, f"must be a list of zones in order of preference, not {_show(zones)}")]
    problems = []
    seen: set[str] = set()
    for index, zone in enumerate(zones):
        at = f"{path}[{index}]"
        if is_unknown(zone):
            continue
        if not isinstance(zone, str):
            problems.append(Problem(at, f"must be a zone name, not {_show(zone)}"))
        elif not _ZONE.fullmatch(zone):
            meant = _ZONE.fullmatch(zone.upper())
            hint = f'; did you mean "{zone.upper()}"?' if meant else '; zone names look like "US-WEST-04A"'
            problems.append(Problem(at, f'"{zone}" is not a zone name{hint}'))
        elif zone in seen:
            problems.append(Problem(at, f'repeats "{zone}"'))
        else:
            seen.add(zone)
    return problems


def _name_problems(name: object) -> list[Problem]:
    if not isinstance(name, str):
        return [Problem("name", f"must be a string, not {_show(name)}")]
    if not 1 <= len(name) <= 100 or not _NAME.fullmatch(name):
        suggestion = claim_name_from(name)
        hint = f'; did you mean "{suggestion}"?' if suggestion else ""
        return [
            Problem(
                "name",
                f'"{name}" must be 1 to 100 lower-case letters, digits and dashes, '
                f"and begin and end with a letter or digit{hint}",
            )
        ]
    return []


def claim_name_from(text: str) -> str:
    """The closest text that the API's rule for names allows; empty if there is none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:92].strip("-")


def _known_fields() -> str:
    return ", ".join(_CAMEL.get(name, name) for name in RESOURCE_FIELDS)


def _show(value: object) -> str:
    """A value as the program wrote it: numbers arrive as floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)
