"""`capacity-claims get`: one claim, with all that the API says about it."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from coreweave_inference import CapacityClaim
from pulumi_coreweave_inference.foreign_text import one_line

from .claims import find_claim
from .console import FormatOption, OutputFormat, all_claims, claim_json, connected, report_errors, write_json
from .table import age, allocation, plain_table


def get(
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="The id or the name of a claim.")],
    format_: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show one claim, with the conditions of its zones.

    JSON output: a claim as in `list`.

    Exit codes: 1 if there is no such claim; 2 if the API request fails, or if several claims have the name.

    Example: capacity-claims get training-4a975a7
    """
    with report_errors(), connected() as (client, _):
        found = find_claim(claim, all_claims(client), client)
        if format_ is OutputFormat.JSON:
            write_json(claim_json(found))
        else:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            sys.stdout.write(describe(found, datetime.now(UTC), width))


def describe(claim: CapacityClaim, now: datetime, width: int | None = None) -> str:
    """The claim as lines of names and values, then a table of its conditions, for a terminal so wide."""
    resources, status = claim.resources, claim.status
    values = {
        "Name": claim.name,
        "Id": claim.id,
        "Organization": claim.spec.organization_id,
        "State": claim.state.short,
        "Allocated": f"{allocation(claim)} {resources.instance_id}",
        "Zones": ", ".join(resources.zones),
        "Capacity type": str(resources.capacity_type),
        "Created": _when(status.created_at, now),
        "Updated": _when(status.updated_at, now),
    }
    names = max(map(len, values)) + 1
    lines = [f"{name + ':':<{names}} {one_line(value) or '-'}\n" for name, value in values.items()]
    if status.conditions:
        titles = ("ZONE", "CONDITION", "STATUS", "REASON", "MESSAGE")
        rows = [
            (each.zone or "", each.type or "", str(each.status), each.reason or "", each.message or "")
            for each in status.conditions
        ]
        lines += ["\n", plain_table(titles, rows, width)]
    return "".join(lines)


def _when(timestamp: str | None, now: datetime) -> str:
    since = age(timestamp, now)
    return f"{timestamp} ({since} ago)" if since else timestamp or ""
