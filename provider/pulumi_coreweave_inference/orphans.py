"""Orphans: claims that a stack has made and that its state does not hold.

A create that was cut off leaves one. If the program still declares it, the next `pulumi up` adopts it;
otherwise no state ever mentions it again, and it is found by its id, which shows the stack. Whether somebody
needs it cannot be seen from that: a claim that the program retains, or that was moved to another stack,
looks the same. So an orphan is named and never released from here: when a claim is created for a
declaration that has another living one, and when the stack ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import coreweave_inference as api
from coreweave_inference.errors import CoreweaveError, NotFound

from .errors import ClaimError, held_resources, labelled, lookup_failure, text
from .identity import Declaration, is_made_by

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaims

    from .operation import Operation

RECENT: Final = timedelta(days=7)
LIST_LAG: Final = 5.0  # seconds after which a list shows a new claim; assumed
_NAMED: Final = 10  # claims that a text names; it counts the others


class OrphansRemain(ClaimError):
    """A stack is about to end, and claims that it has made are alive outside of its state."""


class OrphanCheckFailed(ClaimError):
    """A stack is about to end, and the API does not say which of its claims are alive."""


def claims_of_stack(namespace: str, claims: Iterable[CapacityClaim]) -> list[CapacityClaim]:
    """The claims that a stack has made and that are not being deleted."""
    return [
        claim
        for claim in claims
        if is_made_by(namespace, claim.id) and claim.state != api.ClaimState.DELETING
    ]


def refuse_to_leave_orphans(op: Operation, namespace: str) -> None:
    """Raise `OrphansRemain` if the stack has living claims that its state does not hold."""
    grace = op.settings.read_grace
    # What was created before this operation is soon in every list. A stack whose state held no claim gets
    # more time: its only create may have been cut off just before this operation began.
    lag = min(LIST_LAG, grace) if op.guard.released else grace
    try:
        orphans = find_orphans(op, namespace, op.began + lag)
    except CoreweaveError as error:
        failure = lookup_failure(
            "looking for claims of this stack that its state does not hold",
            error,
            "or set COREWEAVE_ORPHANS=leave to let the stack end without this check",
        )
        raise OrphanCheckFailed(str(failure)) from None
    if orphans:
        raise OrphansRemain(_orphans_remain(orphans))


def find_orphans(op: Operation, namespace: str, lists_complete_at: float) -> list[CapacityClaim]:
    """The living claims of a stack, once every claim in its state has been released.

    All claims of the organization are listed, since no clock says when the stack made its first one.

    Lists may lag behind a create. A list counts if it was asked for after `lists_complete_at`, or if it no
    longer shows a claim that this operation released and that an earlier list had shown. Reads may lag behind
    a deletion: a claim that looks alive is read again for the grace period.
    """
    listed = op.claims.list()
    wait = lists_complete_at - op.clock.now()
    if wait > 0 and not _reflects_a_release(listed, op.guard.released):
        if wait > LIST_LAG:
            op.say(
                f"waiting {wait:.0f} s before looking for claims that a cut-off create may have left: "
                "lists may not show them yet"
            )
        op.clock.sleep(wait)
        listed = op.claims.list()
    orphans = [
        claim for claim in claims_of_stack(namespace, listed) if not op.guard.is_accounted_for(claim.id)
    ]
    for _ in op.clock.poll_until(op.clock.now() + op.settings.read_grace):
        orphans = [claim for each in orphans if (claim := _alive(op.claims, each.id)) is not None]
        if not orphans:
            break
    return orphans


def recently_listed(op: Operation) -> list[CapacityClaim]:
    """The claims of the organization that changed in the last days.

    A list of all of them would be more than a warning is worth.
    """
    return op.claims.list(updated_after=op.clock.today() - RECENT, retry=op.brief)


def orphan_warning(declaration: Declaration, claim: CapacityClaim) -> str:
    """The warning that a claim made for this declaration is alive next to the one just created."""
    return text(
        f"another claim that was made for {labelled(declaration.resource_name, None)} is alive.",
        said=[f"{claim.name} (id {claim.id}): {held_resources(claim)}"],
        held="that claim, too. If it is the one being replaced, this update releases it at its end; "
        "otherwise a create that was cut off has left it.",
        then=[
            f"after this update, run `capacity-claims release --all-stacks {claim.id}`, which refuses if a "
            "stack holds the claim",
            "or, if somebody needs it (retained, moved to another stack): COREWEAVE_ORPHANS=leave",
        ],
    )


def _orphans_remain(claims: Sequence[CapacityClaim]) -> str:
    one = len(claims) == 1
    ids = " ".join(claim.id for claim in claims[:_NAMED])
    more = [f"and {len(claims) - _NAMED} more"] if len(claims) > _NAMED else []
    return text(
        f"the claim namespace is kept: {len(claims)} capacity claim{'s' * (not one)} of this stack "
        f"{'is' if one else 'are'} alive and not in its state.",
        said=[
            *(f"{claim.name} (id {claim.id}): {held_resources(claim)}" for claim in claims[:_NAMED]),
            *more,
        ],
        held=f"{'that claim' if one else 'all of them'}; a create that was cut off leaves one.",
        then=[
            f"release {'it' if one else 'them'} with `capacity-claims release --all-stacks {ids}`, then run "
            "the same command again",
            "or, if somebody needs them (retained, moved to another stack), leave them alive: "
            "COREWEAVE_ORPHANS=leave",
        ],
    )


def _reflects_a_release(listed: Sequence[CapacityClaim], released: Mapping[str, bool]) -> bool:
    """Whether a list lacks a claim that was released, and that an earlier list had shown."""
    alive = {claim.id for claim in listed if claim.state != api.ClaimState.DELETING}
    return any(listed_before and claim_id not in alive for claim_id, listed_before in released.items())


def _alive(claims: CapacityClaims, claim_id: str) -> CapacityClaim | None:
    try:
        claim = claims.get(claim_id)
    except NotFound:
        return None
    return None if claim.state == api.ClaimState.DELETING else claim
