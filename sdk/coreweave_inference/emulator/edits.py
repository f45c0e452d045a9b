"""Changes by somebody else, as tests and fault rules ask for them: what they may hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecEdit:
    """A change of a claim's spec; None leaves a field as it is."""

    name: str | None = None
    organization_id: str | None = None
    instance_id: str | None = None
    count: int | None = None
    zones: tuple[str, ...] | None = None
    capacity_type: int | str | None = None
    extra: Mapping[str, object]
    """Fields that the API does not have; they are answered as they are."""


def check_edit(edit: Mapping[str, object], where: str) -> None:
    """ValueError names the field of `{"spec": …, "status": …, "seconds": …}` that cannot be kept."""
    _known(edit, ("spec", "status", "seconds"), where)
    try:
        json.dumps(edit, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: cannot be written as JSON: {error}") from None
    if edit.get("spec") is not None:
        spec_edit(edit["spec"], f"{where}.spec")
    if edit.get("status") is not None:
        _object(edit["status"], f"{where}.status")
    seconds = edit.get("seconds")
    if seconds is not None and not (
        isinstance(seconds, (int, float))
        and not isinstance(seconds, bool)
        and math.isfinite(seconds)
        and seconds >= 0
    ):
        raise ValueError(f"{where}.seconds: must be a number, and not negative")


def spec_edit(spec: object, where: str) -> SpecEdit:
    """Read a change of a spec, with its fields named as the API does; ValueError names a wrong one."""
    given = _object(spec, where)
    held = f"{where}.resources"
    resources = _object(given.get("resources", {}), held)
    _known(resources, ("instanceId", "instanceCount", "zones", "capacityType"), held)
    count, zones = resources.get("instanceCount"), resources.get("zones")
    capacity_type = resources.get("capacityType")
    if "instanceCount" in resources and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise ValueError(f"{held}.instanceCount: must be a whole number from 0")
    if "zones" in resources and not (
        isinstance(zones, list) and all(isinstance(zone, str) for zone in zones)
    ):
        raise ValueError(f"{held}.zones: must be a list of zones")
    if "capacityType" in resources and (
        not isinstance(capacity_type, (int, str)) or isinstance(capacity_type, bool)
    ):
        raise ValueError(f"{held}.capacityType: must be an enum's name or number")
    return SpecEdit(
        name=_text(given, "name", where),
        organization_id=_text(given, "organizationId", where),
        instance_id=_text(resources, "instanceId", held),
        count=cast("int | None", count),
        zones=None if zones is None else tuple(cast("list[str]", zones)),
        capacity_type=cast("int | str | None", capacity_type),
        extra={
            key: value for key, value in given.items() if key not in ("name", "organizationId", "resources")
        },
    )


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: must be an object")
    return cast("Mapping[str, object]", value)


def _known(value: Mapping[str, object], names: tuple[str, ...], where: str) -> None:
    for name in value:
        if name not in names:
            raise ValueError(f"{where}: no such field: {name}; it has {', '.join(names)}")


def _text(value: Mapping[str, object], name: str, where: str) -> str | None:
    text = value.get(name)
    if name in value and not isinstance(text, str):
        raise ValueError(f"{where}.{name}: must be a string")
    return cast("str | None", text)
