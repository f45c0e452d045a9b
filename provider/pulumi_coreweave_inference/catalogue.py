"""Whether the API offers what a program declares: zones, instance types, and which zone offers which type.

Pure functions over the response of `GET /parameters`. Values that are not known yet are skipped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .foreign_text import Lines, in_lines
from .inputs import Problem, is_unknown

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaimParameters


@dataclass(frozen=True)
class Mismatches:
    """The differences: the API would refuse `problems`, while `warnings` only reduce the usable zones."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def check(resources: Mapping[str, object], offered: CapacityClaimParameters) -> Mismatches:
    """Compare declared resources, in the API's spelling, with what the API offers."""
    found = Mismatches()
    by_zone = offered.zone_instance_types
    declared = resources.get("zones")
    zones = list(declared) if isinstance(declared, (list, tuple)) else []
    for index, zone in enumerate(zones):
        if isinstance(zone, str) and zone not in by_zone:
            reason = f'"{zone}" is not a zone that the API offers{instead(zone, by_zone)}'
            found.problems.append(Problem(f"resources.zones[{index}]", reason))
    instance = resources.get("instanceId")
    if not isinstance(instance, str):
        return found
    path = "resources.instance_id"
    offering = offered.zones_offering(instance)
    if not offering:
        types = sorted({instance_id for ids in by_zone.values() for instance_id in ids})
        reason = f'"{instance}" is not an instance type that the API offers{instead(instance, types)}'
        found.problems.append(Problem(path, _with_table(reason, by_zone)))
        return found
    known = [zone for zone in zones if isinstance(zone, str) and zone in by_zone]
    without = [zone for zone in known if zone not in offering]
    undecided = isinstance(declared, (list, tuple)) is False or any(map(is_unknown, zones))
    if known and without == known and not undecided:
        reason = f'"{instance}" is not offered in {_list(known)}; it is offered in {_list(offering)}'
        found.problems.append(Problem(path, reason))
    elif without:
        reason = f'"{instance}" is not offered in {_list(without)}; only the other zones can provide it'
        found.warnings.append(Problem("resources.zones", reason))
    return found


def instead(given: str, options: Iterable[str]) -> str:
    """The end of a message about an unknown name: the option that was probably meant, if any."""
    folded = {option.casefold(): option for option in options}
    matches = difflib.get_close_matches(given.casefold(), folded, n=1, cutoff=0.6)
    return f'; did you mean "{folded[matches[0]]}"?' if matches else ""


def _with_table(reason: str, by_zone: Mapping[str, Iterable[str]]) -> Lines:
    """The reason, and what each zone offers, one line each."""
    if not by_zone:
        return in_lines(f"{reason}; it currently offers none")
    width = max(map(len, by_zone))
    rows = (f"  {zone:<{width}}  {_list(sorted(ids))}" for zone, ids in sorted(by_zone.items()))
    return in_lines(reason, "The API offers:", *rows)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
