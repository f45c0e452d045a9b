"""`capacity-claims orphans`: claims that cost money and that no stack, or more than one, manages."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from coreweave_inference import CapacityClaim, Client, NotFound

from .console import (
    EXIT_FINDINGS,
    Format,
    FormatOption,
    all_claims,
    connected,
    note,
    report_errors,
    write_json,
)
from .import_file import reported
from .list import age, instances
from .pulumi_state import AllStacks, Entry, StackNames, StackState, StateFiles, read_stacks, want_stacks
from .reconcile import Findings, Gone, ManagedTwice, Unmanaged, compare
from .table import show


def orphans(
    state: StateFiles = None,
    stack: StackNames = None,
    all_stacks: AllStacks = False,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Find claims that no stack manages, or two.

    Compares the claims at the API with the states of stacks, and only reads. Shown are claims that none
    of the given stacks manages, claims that are managed twice, and claims that a state counts on and the
    API does not have or is deleting. Give all stacks of the organization: without a stack's state its
    claims look unmanaged. For an unmanaged claim whose id was computed in one of the given stacks, the
    declaration is named: the next `pulumi up` of that stack takes it over if the program still declares
    it so. What an operation does that is running now may show up.

    JSON: {"claims", "stacks": [NAME], "unmanaged": [a claim as in `list`, and "origin": {stack,
    resourceName or null, cutOff} or null], "managedTwice": [{id, name, settlesItself, entries: [{stack, urn,
    waitsForDeletion}]}], "gone": [{id, name, stack, urn, status}]}.

    Exit code: 0 nothing found; 1 found something; 2 could not compare.
    """
    with report_errors():
        want_stacks(state, stack, all_stacks)
        with connected() as (client, _):
            # The claims first: a claim that is posted now is in no state yet.
            before = all_claims(client)
            stacks = read_stacks(state or (), stack or (), all_stacks)
            found = confirmed(before, stacks, client)
        if format_ is Format.JSON:
            write_json(_as_json(found, len(before), stacks))
        else:
            _show(found)
        note(f"{summary(found)} in {len(before)} claims and {len(stacks)} stack{'s' * (len(stacks) != 1)}")
        if found:
            raise typer.Exit(EXIT_FINDINGS)


def confirmed(before: Sequence[CapacityClaim], stacks: Sequence[StackState], client: Client) -> Findings:
    """What does not match, and still does not at a second look at the API."""
    claims = {claim.id: claim for claim in before}
    first = compare(before, stacks)
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
    return compare(claims.values(), stacks)


def summary(found: Findings) -> str:
    """How much was found."""
    if not found:
        return "nothing found"
    counts = (
        (len(found.unmanaged), "unmanaged"),
        (len(found.managed_twice), "managed twice"),
        (len(found.gone), "gone"),
    )
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _show(found: Findings) -> None:
    for index, (heading, titles, rows) in enumerate(_sections(found, datetime.now(UTC))):
        sys.stdout.write(f"{chr(10) * bool(index)}{heading}\n\n")
        show(titles, rows, right=frozenset({"ALLOCATED", "AGE"}))


def _sections(found: Findings, now: datetime) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    titles: tuple[str, ...]
    if found.unmanaged:
        titles = ("NAME", "ID", "TYPE", "ALLOCATED", "STATE", "AGE", "ORIGIN")
        rows = [_unmanaged(each, now) for each in found.unmanaged]
        yield "Claims that none of the stacks manages:", titles, rows
    if found.managed_twice:
        rows = [
            (_name(twice), twice.claim_id, entry.stack, entry.resource_name, _standing(twice, entry))
            for twice in found.managed_twice
            for entry in twice.entries
        ]
        yield "Claims that are managed twice:", ("NAME", "ID", "STACK", "RESOURCE", "ENTRY"), rows
    if found.gone:
        rows = [_gone(each) for each in found.gone]
        titles = ("NAME", "ID", "STACK", "RESOURCE", "AT THE API")
        yield "Claims that a state counts on and the API does not have:", titles, rows


def _unmanaged(each: Unmanaged, now: datetime) -> tuple[str, ...]:
    claim, resources, origin = each.claim, each.claim.resources, ""
    if each.origin is not None:
        what = f"'{each.origin.resource_name}'" if each.origin.resource_name else "a declaration"
        origin = f"{what} of {each.origin.stack}"
        if each.origin.cut_off:
            origin += ", whose creation was cut off"
    created = age(claim.status.created_at, now)
    return (
        claim.name, claim.id, resources.instance_id, instances(claim), claim.state.short, created, origin
    )  # fmt: skip


def _name(twice: ManagedTwice) -> str:
    return twice.claim.name if twice.claim is not None else twice.entries[0].name or ""


def _standing(twice: ManagedTwice, entry: Entry) -> str:
    if not entry.waits_for_deletion:
        return "in use"
    if twice.settles_itself:
        return "old one of a replacement; the next `pulumi up` removes the entry and keeps the claim"
    return "waits for its deletion"


def _gone(each: Gone) -> tuple[str, ...]:
    entry = each.entry
    at_the_api = each.claim.state.short if each.claim is not None else "gone"
    return (entry.name or "", entry.claim_id, entry.stack, entry.resource_name, at_the_api)


def _as_json(found: Findings, claims: int, stacks: Sequence[StackState]) -> dict[str, Any]:
    return {
        "claims": claims,
        "stacks": [stack.stack for stack in stacks],
        "unmanaged": [
            reported(each.claim)
            | {
                "origin": {
                    "stack": each.origin.stack,
                    "resourceName": each.origin.resource_name,
                    "cutOff": each.origin.cut_off,
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
                "settlesItself": twice.settles_itself,
                "entries": [
                    {"stack": e.stack, "urn": e.urn, "waitsForDeletion": e.waits_for_deletion}
                    for e in twice.entries
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
