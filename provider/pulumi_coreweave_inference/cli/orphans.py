"""`capacity-claims orphans`: claims that no stack manages, or more than one."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import typer

from coreweave_inference import CapacityClaim, Client, NotFound

from .console import (
    EXIT_FINDINGS,
    FormatOption,
    OutputFormat,
    all_claims,
    claim_json,
    connected,
    note,
    plural,
    report_errors,
    write_json,
)
from .pulumi_state import AllStacks, Entry, StackNames, StackState, StateFiles, read_stacks, require_stacks
from .reconcile import Gone, ManagedTwice, Mismatches, Unmanaged, reconcile
from .table import WideOption, age, allocation, write_table

_DROPPED: Final = ("AGE", "TYPE", "ALLOCATED")  # in a narrow terminal, in this order; an id is for copying


def orphans(
    state: StateFiles = None,
    stack: StackNames = None,
    all_stacks: AllStacks = False,
    wide: WideOption = False,
    format_: FormatOption = OutputFormat.TABLE,
) -> None:
    """Find claims that no stack manages, or more than one.

    Compares the claims at the API with the states of stacks, and changes nothing. Shows claims that none of
    the given stacks manages, claims that are managed twice, and claims that a state relies on but the API
    does not have or is deleting. Specify all stacks of the organization: the claims of a stack that is left
    out look unmanaged. Claims of an operation that is still running may show up as well.

    ORIGIN is the resource that created an unmanaged claim. If the program still declares it unchanged, the
    next `pulumi up` of that stack adopts the claim.

    Claims of another organization than the token's are not compared; a line on stderr counts them.

    JSON output: {"claims", "stacks": [NAME], "unmanaged": [a claim as in `list`, and "origin": {stack,
    resourceName or null, cutOff} or null], "managedTwice": [{id, name, settlesItself, entries: [{stack, urn,
    waitsForDeletion}]}], "gone": [{id, name, stack, urn, status}]}.

    Exit codes: 0 if nothing was found; 1 if something was found; 2 if the comparison failed.

    Example: capacity-claims orphans --all-stacks
    """
    with report_errors():
        require_stacks(state, stack, all_stacks)
        with connected() as (client, _):
            # The claims first: a claim created from now on is not in a state yet.
            before = all_claims(client)
            stacks = read_stacks(state or (), stack or (), all_stacks)
            found = confirmed(before, stacks, client)
        if format_ is OutputFormat.JSON:
            write_json(_as_json(found, len(before), stacks))
        else:
            _show(found, wide=wide)
        for organization, count in sorted(Counter(entry.organization for entry in found.unseen).items()):
            note(
                f"not compared: {plural(count, 'claim')} of the organization {organization}, not the token's"
            )
        note(f"{summary(found)} in {plural(len(before), 'claim')} and {plural(len(stacks), 'stack')}")
        if found:
            raise typer.Exit(EXIT_FINDINGS)


def confirmed(before: Sequence[CapacityClaim], stacks: Sequence[StackState], client: Client) -> Mismatches:
    """The mismatches that a second look at the API confirms."""
    claims = {claim.id: claim for claim in before}
    first = reconcile(before, stacks)
    if first.unmanaged:
        now = {claim.id: claim for claim in all_claims(client)}
        for each in first.unmanaged:
            claims.pop(each.claim.id)
            if each.claim.id in now:
                claims[each.claim.id] = now[each.claim.id]
    for gone in first.gone:
        claims.pop(gone.entry.claim_id, None)
        try:
            claims[gone.entry.claim_id] = client.capacity_claims.get(gone.entry.claim_id)
        except NotFound:
            continue
    return reconcile(claims.values(), stacks)


def summary(found: Mismatches) -> str:
    """The number of mismatches of each kind."""
    counts = (
        (len(found.unmanaged), "unmanaged"),
        (len(found.managed_twice), "managed twice"),
        (len(found.gone), "gone"),
    )
    return ", ".join(f"{count} {what}" for count, what in counts if count) or "nothing found"


def _show(found: Mismatches, *, wide: bool) -> None:
    for index, (heading, titles, rows) in enumerate(_sections(found, datetime.now(UTC))):
        sys.stdout.write(f"{chr(10) * bool(index)}{heading}\n\n")
        write_table(titles, rows, dropped=_DROPPED, wide=wide)


def _sections(
    found: Mismatches, now: datetime
) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    titles: tuple[str, ...]
    if found.unmanaged:
        titles = ("NAME", "ID", "TYPE", "ALLOCATED", "STATE", "AGE", "ORIGIN")
        rows = [_unmanaged(each, now) for each in found.unmanaged]
        yield "Claims that none of the given stacks manages:", titles, rows
    if found.managed_twice:
        titles = ("NAME", "ID", "STACK", "RESOURCE", "ENTRY")
        rows = [
            (_name(twice), twice.claim_id, entry.stack, entry.resource_name, _status(twice, entry))
            for twice in found.managed_twice
            for entry in twice.entries
        ]
        yield "Claims that are managed twice:", titles, rows
    if found.gone:
        titles = ("NAME", "ID", "STACK", "RESOURCE", "AT THE API")
        rows = [_gone(each) for each in found.gone]
        yield "Claims that a state relies on but the API does not have:", titles, rows


def _unmanaged(each: Unmanaged, now: datetime) -> tuple[str, ...]:
    claim, origin = each.claim, ""
    if each.origin is not None:
        resource = f"'{each.origin.resource_name}'" if each.origin.resource_name else "unknown resource"
        origin = f"{resource} of {each.origin.stack}"
        if each.origin.interrupted:
            origin += " (create interrupted)"
    return (
        claim.name,
        claim.id,
        claim.resources.instance_id,
        allocation(claim),
        claim.state.short,
        age(claim.status.created_at, now),
        origin,
    )


def _name(twice: ManagedTwice) -> str:
    return twice.claim.name if twice.claim is not None else twice.entries[0].name or ""


def _status(twice: ManagedTwice, entry: Entry) -> str:
    if not entry.pending_deletion:
        return "in use"
    if twice.resolves_itself:
        return "left by a replacement; the next `pulumi up` removes this entry and keeps the claim"
    return "pending deletion"


def _gone(each: Gone) -> tuple[str, ...]:
    entry = each.entry
    at_the_api = each.claim.state.short if each.claim is not None else "gone"
    return (entry.name or "", entry.claim_id, entry.stack, entry.resource_name, at_the_api)


def _as_json(found: Mismatches, claims: int, stacks: Sequence[StackState]) -> dict[str, Any]:
    return {
        "claims": claims,
        "stacks": [stack.stack for stack in stacks],
        "unmanaged": [
            claim_json(each.claim)
            | {
                "origin": {
                    "stack": each.origin.stack,
                    "resourceName": each.origin.resource_name,
                    "cutOff": each.origin.interrupted,
                }
                if each.origin is not None
                else None
            }
            for each in found.unmanaged
        ],
        "managedTwice": [
            {
                "id": twice.claim_id,
                "name": _name(twice),
                "settlesItself": twice.resolves_itself,
                "entries": [
                    {"stack": entry.stack, "urn": entry.urn, "waitsForDeletion": entry.pending_deletion}
                    for entry in twice.entries
                ],
            }
            for twice in found.managed_twice
        ],
        "gone": [
            {
                "id": each.entry.claim_id,
                "name": each.entry.name,
                "stack": each.entry.stack,
                "urn": each.entry.urn,
                "status": str(each.claim.state) if each.claim is not None else None,
            }
            for each in found.gone
        ],
    }
