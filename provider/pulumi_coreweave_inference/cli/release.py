"""`capacity-claims release`: release claims that no stack manages."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from coreweave_inference import CapacityClaim, Client, InvalidArgument, NotFound
from pulumi_coreweave_inference.rounds import Clock

from .console import (
    EXIT_FINDINGS,
    CommandError,
    connected,
    note,
    report_errors,
    waiting_for,
)
from .pulumi_state import (
    AllStacks,
    StackNames,
    StackState,
    StateFiles,
    managed_by,
    read_stacks,
    require_stacks,
)
from .reconcile import Origins
from .table import age, allocation


def release(
    claim_id: Annotated[list[str], typer.Argument(metavar="ID", help="The ids of the claims.")],
    state: StateFiles = None,
    stack: StackNames = None,
    all_stacks: AllStacks = False,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="Release without comparing with any stack."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
) -> None:
    """Release claims that no stack manages.

    Deletes the claims and waits until they are gone. The capacity may not be available again. You confirm
    each claim by typing its name; --yes skips the confirmation. If one of the given stacks manages any of
    the claims, or may still be creating it, none is released. To release a managed claim, remove it from the
    program and run `pulumi up`.

    Exit codes: 1 if a claim is managed or not confirmed; 2 if a claim cannot be released, the API request
    fails, or a stack cannot be read.

    Example: capacity-claims release 4a975a7b-c6c3-5f7b-9a6f-1d2e3f405162 --all-stacks
    """
    with report_errors():
        if not unchecked:
            require_stacks(state, stack, all_stacks, " (or --unchecked)")
        stacks = read_stacks(state or (), stack or (), all_stacks)
        with connected() as (client, settings):
            claims = [claim for one in dict.fromkeys(claim_id) if (claim := _find(client, one))]
            _refuse_managed(claims, stacks)
            if not yes:
                for claim in claims:
                    _confirm(claim)
            for claim in claims:
                _release(client, claim, settings.delete_timeout)


def _find(client: Client, claim_id: str) -> CapacityClaim | None:
    try:
        return client.capacity_claims.get(claim_id)
    except InvalidArgument as error:
        raise CommandError(f"{claim_id!r} is not a claim id: {error.message}") from None
    except UnicodeError:
        raise CommandError(f"{claim_id!r} is not a claim id: it is not text") from None
    except NotFound:
        note(f"{claim_id}: not found; the claim is already released, or the id is wrong")
        return None


def _refuse_managed(claims: Sequence[CapacityClaim], stacks: Sequence[StackState]) -> None:
    managed = managed_by(stacks)
    lines = [
        f"  {claim.name} ({claim.id}): {entry.stack} manages it as '{entry.resource_name}'"
        for claim in claims
        if (entry := managed.get(claim.id)) is not None
    ]
    if lines:
        headline = "no claim is released, because stacks manage these:"
        raise CommandError(headline, *lines, code=EXIT_FINDINGS)
    origins = Origins(stacks)
    lines = [
        f"  {claim.name} ({claim.id}): '{origin.resource_name}' of {origin.stack}"
        for claim in claims
        if (origin := origins.of(claim)) is not None and origin.interrupted
    ]
    if lines:
        raise CommandError(
            "no claim is released, because stacks were creating these, or still are:",
            *lines,
            "  Next: run `pulumi up` in the stack, which adopts the claim",
            "        or run `pulumi refresh --clear-pending-creates` there, then this command again",
            code=EXIT_FINDINGS,
        )


def _confirm(claim: CapacityClaim) -> None:
    if not _is_interactive():
        raise CommandError("not a terminal; pass --yes to skip the confirmation", code=EXIT_FINDINGS)
    resources = claim.resources
    note(
        f"{claim.name} ({claim.id}): {allocation(claim)} {resources.instance_id} in "
        f"{', '.join(resources.zones)}, {claim.state.short}, "
        f"age {age(claim.status.created_at, datetime.now(UTC)) or 'unknown'}"
    )
    if typer.prompt("Type the name of the claim to release it", err=True).strip() != claim.name:
        raise CommandError("that is not the name of the claim; no claim is released", code=EXIT_FINDINGS)


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _release(client: Client, claim: CapacityClaim, timeout: float) -> None:
    what = f"{claim.name} ({claim.id})"
    with contextlib.suppress(NotFound):
        client.capacity_claims.delete(claim.id)
    with waiting_for(f"{what} to be gone"):
        left = _wait_until_gone(client, claim.id, timeout)
    if left is not None:
        raise CommandError(f"{what} is still {left.state.short} after {timeout:g} s")
    note(f"{what} is released")


def _wait_until_gone(client: Client, claim_id: str, timeout: float) -> CapacityClaim | None:
    """None once the claim is gone, or the claim as it is after `timeout` seconds."""
    claim = None
    for _ in Clock().poll_until(time.monotonic() + timeout):
        try:
            claim = client.capacity_claims.get(claim_id)
        except NotFound:
            return None
    return claim
