"""`capacity-claims zones`: which zone offers which instance type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import typer

from pulumi_coreweave_inference.catalogue import instead

from .console import (
    EXIT_FINDINGS,
    Failure,
    Format,
    FormatOption,
    connected,
    report_errors,
    waiting_for,
    write_json,
)
from .table import show

Offered = Mapping[str, Collection[str]]


def zones(
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="TYPE", help="Only zones that offer this instance type; may be repeated."
        ),
    ] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show which zone offers which instance type now.

    What is offered is not what is in stock: a claim of an offered type may still wait.

    JSON: {"zones": {ZONE: [INSTANCE TYPE]}}.

    Exit code: 1 when no zone offers what --type names; 2 when the API could not be asked.
    """
    with report_errors(), connected() as (client, _):
        with waiting_for(f"what {client.endpoint} offers"):
            offered = client.capacity_claims.parameters().zone_instance_types
        found = offering(offered, type_ or ())
        if type_ and not found:
            raise Failure(not_offered(offered, type_), EXIT_FINDINGS)
        if format_ is Format.JSON:
            write_json({"zones": found})
        else:
            show(("ZONE", "INSTANCE TYPES"), [(zone, ", ".join(types)) for zone, types in found.items()])


def offering(offered: Offered, types: Collection[str]) -> dict[str, list[str]]:
    """The zones that offer one of the types, or all zones; each with all of what it offers, sorted."""
    return {
        zone: sorted(there)
        for zone, there in sorted(offered.items())
        if not types or not set(types).isdisjoint(there)
    }


def not_offered(offered: Offered, types: Collection[str]) -> str:
    """What to say when no zone offers any of the types, with what was probably meant."""
    known = {name for there in offered.values() for name in there}
    names = " or ".join(f'"{name}"' for name in types)
    meant = next((text for given in types if (text := instead(given, known))), "")
    return f"no zone offers {names}{meant}"
