"""`capacity-claims zones`: which zones offer which instance types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import typer

from pulumi_coreweave_inference.catalogue import instead

from .console import (
    EXIT_FINDINGS,
    CommandError,
    FormatOption,
    OutputFormat,
    connected,
    report_errors,
    waiting_for,
    write_json,
)
from .table import write_table

Offered = Mapping[str, Collection[str]]


def zones(
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="TYPE", help="Show only zones that offer this instance type. Repeatable."
        ),
    ] = None,
    format_: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show which zones offer which instance types.

    A type that is offered is not always in stock: a claim for it may still have to wait.

    JSON output: {"zones": {ZONE: [INSTANCE TYPE]}}.

    Exit codes: 1 if no zone offers the given --type; 2 if the API request fails.

    Example: capacity-claims zones --type gb200-4x
    """
    with report_errors(), connected() as (client, _):
        with waiting_for(f"the zones and instance types of {client.endpoint}"):
            offered = client.capacity_claims.parameters().zone_instance_types
        found = offering(offered, type_ or ())
        if type_ and not found:
            raise CommandError(not_offered(offered, type_), code=EXIT_FINDINGS)
        if format_ is OutputFormat.JSON:
            write_json({"zones": found})
        else:
            write_table(
                ("ZONE", "INSTANCE TYPES"), [(zone, ", ".join(types)) for zone, types in found.items()]
            )


def offering(offered: Offered, types: Collection[str]) -> dict[str, list[str]]:
    """The zones that offer any of the types, or all zones; each with everything it offers, sorted."""
    return {
        zone: sorted(there)
        for zone, there in sorted(offered.items())
        if not types or not set(types).isdisjoint(there)
    }


def not_offered(offered: Offered, types: Collection[str]) -> str:
    """The message for types that no zone offers, with the closest type that exists."""
    known = {name for there in offered.values() for name in there}
    names = " or ".join(f'"{name}"' for name in types)
    suggestion = next((text for given in types if (text := instead(given, known))), "")
    return f"no zone offers {names}{suggestion}"
