"""`capacity-claims list`: the organization's claims, and what keeps those that are not ready."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from coreweave_inference import CapacityClaim, ClaimState, ConditionStatus, parse_timestamp
from pulumi_coreweave_inference.catalogue import instead

from .console import (
    Failure,
    Format,
    FormatOption,
    all_claims,
    connected,
    note,
    printable,
    report_errors,
    write_json,
)
from .import_file import reported
from .table import show

TITLES: Final = ("NAME", "ID", "TYPE", "ZONES", "ALLOCATED", "STATE", "AGE", "CONDITIONS")


def list_(
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only claims in this state, such as READY; may be repeated."),
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only claims of this instance type; may be repeated."),
    ] = None,
    zone: Annotated[
        list[str] | None,
        typer.Option(metavar="ZONE", help="Only claims that name this zone; may be repeated."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only claims of this name; * and ? stand for other text; may be repeated."
        ),
    ] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """List the organization's capacity claims.

    ALLOCATED reads "allocated/requested", ZONES are in order of preference, and CONDITIONS are the reasons
    of what is not as it should be, zone by zone.

    JSON: {"claims": [{id, name, organizationId, resources: {instanceId, instanceCount, zones,
    capacityType}, status, allocatedInstances, pendingInstances, conditions: [{type, status, reason,
    message, zone, lastUpdateTime}], createdAt, updatedAt}]}.

    Exit code: 0, also when no claim fits; 2 when the API could not be asked.
    """
    with report_errors(), connected() as (client, _):
        found = all_claims(client)
        refuse_unknown(state or (), found)
        chosen = select(found, states=state or (), types=type_ or (), zones=zone or (), names=name or ())
        for line in strangers(found, types=type_ or (), zones=zone or ()):
            note(line)
        if format_ is Format.JSON:
            write_json({"claims": [reported(claim) for claim in chosen]})
            return
        now = datetime.now(UTC)
        show(TITLES, [row(claim, now) for claim in chosen], right=frozenset({"ALLOCATED", "AGE"}))
        note(summary(chosen, of=len(found)))


def select(
    claims: Sequence[CapacityClaim],
    *,
    states: Collection[str] = (),
    types: Collection[str] = (),
    zones: Collection[str] = (),
    names: Collection[str] = (),
) -> list[CapacityClaim]:
    """The claims that fit all filters; of each, one of its values must fit. No value: all fit."""
    wanted = {ClaimState(_state(state)) for state in states}
    return [
        claim
        for claim in claims
        if (not wanted or claim.state in wanted)
        and (not types or claim.resources.instance_id in types)
        and (not zones or not set(zones).isdisjoint(claim.resources.zones))
        and (not names or any(fnmatch.fnmatchcase(claim.name, pattern) for pattern in names))
    ]


def strangers(
    claims: Sequence[CapacityClaim], *, types: Collection[str] = (), zones: Collection[str] = ()
) -> list[str]:
    """A line for each type and zone that no claim has, with what was probably meant."""
    types_held = {claim.resources.instance_id for claim in claims}
    zones_held = {zone for claim in claims for zone in claim.resources.zones}
    return [
        printable(f'no claim {what} "{each}"{instead(each, held)}')
        for what, given, held in (
            ("is of the type", types, types_held),
            ("names the zone", zones, zones_held),
        )
        for each in given
        if each not in held
    ]


def refuse_unknown(states: Collection[str], claims: Sequence[CapacityClaim]) -> None:
    """Raise `Failure` for a state that neither the published schema nor any of the claims has."""
    present = {claim.state for claim in claims}
    for given in states:
        state = ClaimState(_state(given))
        if not state.is_known and state not in present:
            known = ", ".join(state.short for state in ClaimState)
            raise Failure(f"there is no state {given!r}; the states are {known}")


def row(claim: CapacityClaim, now: datetime) -> tuple[str, ...]:
    """A claim in the table."""
    return (
        claim.name,
        claim.id,
        claim.resources.instance_id,
        ", ".join(claim.resources.zones),
        instances(claim),
        claim.state.short,
        age(claim.status.created_at, now),
        troubles(claim),
    )


def instances(claim: CapacityClaim) -> str:
    """Allocated of requested instances, as "3/4"."""
    return f"{claim.status.allocated_instances}/{claim.resources.instance_count}"


def age(created: str | None, now: datetime) -> str:
    """How long ago something was, to two digits or so: "42s", "12m", "7h", "3d"; empty when unknown."""
    moment = parse_timestamp(created)
    if moment is None:
        return ""
    seconds = max(0, int((now - moment).total_seconds()))
    for limit, unit, size in ((120, "s", 1), (7_200, "m", 60), (172_800, "h", 3_600)):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def troubles(claim: CapacityClaim) -> str:
    """The reasons of the conditions that do not hold, each with its zone."""
    return ", ".join(
        f"{condition.zone}: {reason}" if condition.zone else reason
        for condition in claim.status.conditions
        if condition.status != ConditionStatus.TRUE
        and (reason := condition.reason or condition.type or str(condition.status))
    )


def summary(claims: Sequence[CapacityClaim], of: int) -> str:
    """The last line: how many claims, how many instances."""
    allocated = sum(claim.status.allocated_instances for claim in claims)
    requested = sum(claim.resources.instance_count for claim in claims)
    count = f"{len(claims)} of {of} claims" if len(claims) != of else f"{of} claim{'s' * (of != 1)}"
    return f"{count}, {allocated} of {requested} instances allocated"


def _state(given: str) -> str:
    name = given.strip().upper()
    return name if name.startswith("STATUS_") else f"STATUS_{name}"
