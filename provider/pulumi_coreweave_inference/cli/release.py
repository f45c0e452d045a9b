"""`capacity-claims release`: give back claims that no stack manages."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from coreweave_inference import CapacityClaim, Client, InvalidArgument, NotFound
from pulumi_coreweave_inference.reads import wait_until_gone

from .console import (
    EXIT_FINDINGS,
    Failure,
    connected,
    note,
    printable,
    report_errors,
    waiting_for,
)
from .list import age, instances
from .pulumi_state import AllStacks, StackNames, StackState, StateFiles, read_stacks, want_stacks


def release(
    claim_id: Annotated[list[str], typer.Argument(metavar="ID", help="The ids of the claims.")],
    state: StateFiles = None,
    stack: StackNames = None,
    all_stacks: AllStacks = False,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Do without a stack's state: nothing says who needs them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Release claims that no stack manages.

    It waits until they are gone; their GPUs may not come back. For each claim its name has to be typed,
    unless --yes is given. A claim that one of the given stacks manages is refused: take it out of the
    program, and `pulumi up` releases it. When one of the claims is refused, none is released.

    Exit code: 1 when a claim was refused or a name not typed; 2 when a claim could not be released, or
    the stacks or the API not be asked.
    """
    with report_errors():
        if not unchecked:
            want_stacks(state, stack, all_stacks, " (or --unchecked)")
        stacks = read_stacks(state or (), stack or (), all_stacks)
        with connected() as (client, settings):
            claims = [claim for one in dict.fromkeys(claim_id) if (claim := _alive(client, one))]
            _refuse_managed(claims, stacks)
            if not yes:
                for claim in claims:
                    _ask(claim)
            for claim in claims:
                _release(client, claim, settings.delete_timeout)


def _alive(client: Client, claim_id: str) -> CapacityClaim | None:
    try:
        return client.capacity_claims.get(claim_id)
    except InvalidArgument as error:
        raise Failure(f"{claim_id!r} is no claim's id: {printable(error.message)}") from None
    except NotFound:
        note(f"{printable(claim_id)}: the API has no such claim; it was released already, or the id is wrong")
        return None


def _refuse_managed(claims: Sequence[CapacityClaim], stacks: Sequence[StackState]) -> None:
    held = {entry.claim_id: entry for stack in stacks for entry in stack.entries}
    lines = [
        f"\n  {claim.name} ({claim.id}): {entry.stack} manages it as '{entry.resource_name}'"
        for claim in claims
        if (entry := held.get(claim.id)) is not None
    ]
    if lines:
        raise Failure(f"nothing is released, because of{''.join(lines)}", EXIT_FINDINGS)


def _ask(claim: CapacityClaim) -> None:
    if not _is_a_person():
        raise Failure("nobody is there to ask; with --yes nobody is asked", EXIT_FINDINGS)
    resources = claim.resources
    note(
        f"{printable(claim.name)} ({claim.id}): {instances(claim)} {printable(resources.instance_id)} in "
        f"{', '.join(resources.zones)}, {claim.state.short}, "
        f"{age(claim.status.created_at, datetime.now(UTC)) or 'of unknown age'}"
    )
    if typer.prompt("Type its name to release it", err=True).strip() != claim.name:
        raise Failure("that is not its name; nothing is released", EXIT_FINDINGS)


def _is_a_person() -> bool:
    return sys.stdin.isatty()


def _release(client: Client, claim: CapacityClaim, timeout: float) -> None:
    what = f"{printable(claim.name)} ({claim.id})"
    with contextlib.suppress(NotFound):
        client.capacity_claims.delete(claim.id)
    with waiting_for(f"{what} to be gone"):
        last = wait_until_gone(
            client.capacity_claims.get, claim.id, time.monotonic() + timeout, time.monotonic, time.sleep
        )
    if last is not None:
        raise Failure(f"{what} is {last.state.short}, and not gone after {timeout:g} s")
    note(f"{what} is released")
