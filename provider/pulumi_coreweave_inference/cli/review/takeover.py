"""Which existing claim a create takes over, because it computes that claim's id.

A claim's id follows from the stack's namespace and the declaration (identity.py). The inputs in a preview
hold both, or for the native resource its provider and its URN do. So the review computes the id that the
update will use, and looks for a claim that has it:

- in the state, where an unfinished replacement leaves the claim of an earlier declaration
- in the provider's messages: while previewing, it asks the API whether a living claim has the id
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from coreweave_inference import CapacityClaimResources
from pulumi_coreweave_inference.identity import LIKELY_ATTEMPTS, Declaration, resource_name_of
from pulumi_coreweave_inference.inputs import DECLARATION, IDENTITY, NAMESPACE, identity_of

from .plan import Evidence, Existing, Spec, Unknown

_FAILED: Final = "FAILED"
_REPORT: Final = re.compile(
    r"capacity claim '(?P<name>.*)' \(id (?P<id>[0-9a-fA-F-]{36})\) already exists "
    r"\((?P<allocated>\d{1,10}|\[secret\]) of (?P<count>\d{1,10}|\[secret\]) .* instances, "
    r"(?:STATUS_)?(?P<state>\w+)\); "
    r"it is taken over(?: and scaled to (?:\d{1,10}|\[secret\]))?, not created\."
)


@dataclass(frozen=True, slots=True)
class Report:
    """What the provider has found out about a claim that will be taken over; None is secret."""

    allocated: int | None
    count: int | None
    state: str


Reports = Mapping[tuple[str, str], Report]
"""By the claim's id and the resource's name."""


def reports(messages: Iterable[str]) -> Reports:
    """What the provider says in a preview. The same text from a program counts only with the right id."""
    return {
        (found["id"].lower(), found["name"]): Report(
            _number(found["allocated"]), _number(found["count"]), found["state"]
        )
        for message in messages
        if (found := _REPORT.fullmatch(message.strip()))
    }


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Entries:
    """The claims that the state holds before a create."""

    own: Mapping[str, Spec]  # of the same declaration, by id
    released: Collection[str]  # the ids of those that are, or may be, released before the create
    is_held_elsewhere: Callable[[str], bool]  # by another declaration: a create skips such an id


def native_identity(urn: str, namespace: str | None, reported: Reports) -> dict[str, Any]:
    """The inputs of a native claim as far as its id depends on them, in the form of those of a dynamic one.

    A preview may not show the namespace. A claim that the provider has found has that of the provider.
    """
    found = (claim_id for claim_id, name in reported if name == resource_name_of(urn))
    return {IDENTITY: {NAMESPACE: next(found, namespace), DECLARATION: urn}}


def taken_over(
    inputs: Mapping[str, Any], declared: Spec, entries: Entries, reported: Reports
) -> Existing | None:
    """The claim that a create with these inputs takes over; None if it creates a new one."""
    declaration = _declaration(inputs, declared)
    if declaration is None:
        return None
    for claim_id in _candidates(declaration, reported):
        if claim_id in entries.released:
            return None
        found = replace(declared, name=declaration.claim_name(claim_id))
        report = reported.get((claim_id, declaration.resource_name))
        held = entries.own.get(claim_id)
        if report is not None:
            if _FAILED in report.state:
                return None
            evidence = Evidence.LEFT if held else Evidence.REPORTED
            if report.count is not None:
                found = replace(found, count=report.count)
            return Existing(claim_id, found, evidence, report.allocated, report.state)
        if held is not None:
            if replace(found, count=held.count) == held:
                return Existing(claim_id, held, Evidence.LEFT)
        elif not entries.is_held_elsewhere(claim_id):
            return None
    return None


def _candidates(declaration: Declaration, reported: Reports) -> Iterable[str]:
    """The ids of a declaration in the order in which a create tries them, or the one that is reported."""
    name = declaration.resource_name
    ids = (declaration.claim_id(attempt) for attempt in range(LIKELY_ATTEMPTS))
    if all(resource_name != name for _, resource_name in reported):
        return ids
    listed = list(ids)
    return next(([claim_id] for claim_id in listed if (claim_id, name) in reported), listed)


def _declaration(inputs: Mapping[str, Any], declared: Spec) -> Declaration | None:
    """The declaration, if the preview shows everything that its id depends on."""
    identity = identity_of(inputs)
    namespace, key, name = identity.get(NAMESPACE), identity.get(DECLARATION), declared.name
    zones = declared.zones
    if not isinstance(namespace, str) or not isinstance(key, str) or isinstance(name, Unknown):
        return None
    if isinstance(zones, Unknown) or any(
        isinstance(part, Unknown) for part in (declared.instance_type, declared.capacity_type, *zones)
    ):
        return None
    resources = {
        "instanceId": declared.instance_type, "zones": zones, "capacityType": declared.capacity_type
    }  # fmt: skip
    try:
        declaration = Declaration(namespace, key, CapacityClaimResources.model_validate(resources), name)
        declaration.claim_id(0)
    except ValueError:  # not a namespace, or text that no claim can have
        return None
    return declaration
