"""`capacity-claims list`: the organization's claims, and why some of them are not ready."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer

from coreweave_inference import CapacityClaim, ClaimState
from pulumi_coreweave_inference.catalogue import instead

from .console import (
    CommandError,
    all_claims,
    claim_json,
    connected,
    note,
    plural,
    report_errors,
    write_json,
)
from .plot import svg
from .table import WideOption, age, allocation, failing_conditions, write_table

TITLES: Final = ("NAME", "ID", "TYPE", "ZONES", "ALLOCATED", "STATE", "AGE", "CONDITIONS")
DROPPED: Final = ("ID", "CONDITIONS", "ZONES", "AGE")  # in a narrow terminal, in this order


class ListFormat(StrEnum):
    """How the claims are written."""

    TABLE = "table"
    JSON = "json"
    SVG = "svg"


def list_(
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Show only claims in this state, such as READY. Repeatable."),
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Show only claims of this instance type. Repeatable."),
    ] = None,
    zone: Annotated[
        list[str] | None,
        typer.Option(metavar="ZONE", help="Show only claims that list this zone. Repeatable."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Show only claims with this name; * and ? are wildcards. Repeatable."
        ),
    ] = None,
    wide: WideOption = False,
    format_: Annotated[
        ListFormat, typer.Option("--format", help="Output format; svg draws a bar for each claim.")
    ] = ListFormat.TABLE,
) -> None:
    """List the capacity claims of the organization.

    ALLOCATED shows allocated/requested instances. ZONES are in order of preference. CONDITIONS shows the
    reason of each condition that is not true, with its zone.

    JSON output: {"claims": [{id, name, organizationId, resources: {instanceId, instanceCount, zones,
    capacityType}, status, allocatedInstances, pendingInstances, conditions: [{type, status, reason,
    message, zone, lastUpdateTime}], createdAt, updatedAt}]}.

    SVG output: a picture for a page or an issue, with the allocated part of each claim as a filled bar. Shows
    the claims that are not ready first, and at most 100.

    Exit codes: 0 on success, even if no claim matches; 2 if the API request fails.

    Example: capacity-claims list --state CREATING --zone US-WEST-04A

    Example: capacity-claims list --format svg > claims.svg
    """
    with report_errors(), connected() as (client, _):
        found = all_claims(client)
        refuse_unknown_states(state or (), found)
        chosen = select(found, states=state or (), types=type_ or (), zones=zone or (), names=name or ())
        for line in unmatched(found, types=type_ or (), zones=zone or ()):
            note(line)
        if format_ is ListFormat.JSON:
            write_json({"claims": [claim_json(claim) for claim in chosen]})
            return
        if format_ is ListFormat.SVG:
            sys.stdout.buffer.write(svg(chosen).encode())  # UTF-8 whatever the locale
            sys.stdout.buffer.flush()
            return
        now = datetime.now(UTC)
        write_table(TITLES, [row(claim, now) for claim in chosen], dropped=DROPPED, wide=wide)
        note(summary(chosen, of=len(found)))


def select(
    claims: Sequence[CapacityClaim],
    *,
    states: Collection[str] = (),
    types: Collection[str] = (),
    zones: Collection[str] = (),
    names: Collection[str] = (),
) -> list[CapacityClaim]:
    """The claims that match every filter. A filter matches on any of its values, or if it has none."""
    wanted = {ClaimState(_state(state)) for state in states}
    return [
        claim
        for claim in claims
        if (not wanted or claim.state in wanted)
        and (not types or claim.resources.instance_id in types)
        and (not zones or not set(zones).isdisjoint(claim.resources.zones))
        and (not names or any(fnmatch.fnmatchcase(claim.name, pattern) for pattern in names))
    ]


def unmatched(
    claims: Sequence[CapacityClaim], *, types: Collection[str] = (), zones: Collection[str] = ()
) -> list[str]:
    """A line for each given type and zone that no claim has, with the closest one that exists."""
    held_types = {claim.resources.instance_id for claim in claims}
    held_zones = {zone for claim in claims for zone in claim.resources.zones}
    return [
        f'no claim {what} "{each}"{instead(each, held)}'
        for what, given, held in (
            ("has the instance type", types, held_types),
            ("lists the zone", zones, held_zones),
        )
        for each in given
        if each not in held
    ]


def refuse_unknown_states(states: Collection[str], claims: Sequence[CapacityClaim]) -> None:
    """Raise `CommandError` for a state that is neither in the published schema nor held by a claim."""
    present = {claim.state for claim in claims}
    for given in states:
        state = ClaimState(_state(given))
        if not state.is_known and state not in present:
            known = ", ".join(state.short for state in ClaimState)
            raise CommandError(f"unknown state {given!r}; valid states: {known}")


def row(claim: CapacityClaim, now: datetime) -> tuple[str, ...]:
    """A claim in the table."""
    return (
        claim.name,
        claim.id,
        claim.resources.instance_id,
        ", ".join(claim.resources.zones),
        allocation(claim),
        claim.state.short,
        age(claim.status.created_at, now),
        failing_conditions(claim),
    )


def summary(claims: Sequence[CapacityClaim], of: int) -> str:
    """The last line: the number of claims and instances."""
    allocated = sum(claim.status.allocated_instances for claim in claims)
    requested = sum(claim.resources.instance_count for claim in claims)
    count = f"{len(claims)} of {of} claims" if len(claims) != of else plural(of, "claim")
    return f"{count}, {allocated} of {requested} instances allocated"


def _state(given: str) -> str:
    name = given.strip().upper()
    return name if name.startswith("STATUS_") else f"STATUS_{name}"
