"""Orphans: claims that a stack created, but that are not in its state.

An interrupted create leaves one behind. If the program still declares it, the next `pulumi up` adopts it.
Otherwise no state will ever contain it, but its id still shows which stack created it.

The provider reports orphans when it creates a claim for a declaration that already has one, and when a
stack's namespace is deleted. It never releases them. A claim that is retained on purpose, or that was moved
to another stack or to the native resource, looks the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import coreweave_inference as api
from coreweave_inference.errors import CoreweaveError, NotFound

from .errors import ClaimError, labelled, lookup_failure, text
from .identity import Declaration, has_default_name, is_made_by
from .reads import earlier
from .secrecy import held_resources, unless_secret

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaims

    from .operation import Operation

RECENT: Final = timedelta(days=7)
_CLOCKS_DIFFER: Final = timedelta(hours=1)
LIST_LAG: Final = 5.0  # seconds after which a list shows a new claim; assumed
_CLEAR_FIRST: Final = (
    "if Pulumi warns of pending operations, run `pulumi refresh --clear-pending-creates` first"
)
_NAMED: Final = 10  # claims that a text names; it counts the others


class OrphansRemain(ClaimError):
    """A namespace cannot be deleted, because the stack has claims outside of its state."""


class OrphanCheckFailed(ClaimError):
    """A namespace cannot be deleted, because the claims of the stack cannot be listed."""


def claims_of_stack(namespace: str, claims: Iterable[CapacityClaim]) -> list[CapacityClaim]:
    """The claims that a stack created and that are not being deleted."""
    return [
        claim
        for claim in claims
        if is_made_by(namespace, claim.id) and claim.state != api.ClaimState.DELETING
    ]


def refuse_to_leave_orphans(op: Operation, namespace: str) -> None:
    """Raise `OrphansRemain` if the stack has claims that are not in its state."""
    grace = op.settings.read_grace
    # Lists soon show what was created before this operation. If the state held no claim, wait longer: the
    # stack's only create may have been interrupted just before this operation began.
    lag = min(LIST_LAG, grace) if op.guard.released else grace
    try:
        orphans = find_orphans(op, namespace, op.began + lag)
    except CoreweaveError as error:
        failure = lookup_failure(
            "looking for claims of this stack that its state does not hold",
            error,
            "or set COREWEAVE_ORPHANS=leave to skip this check",
        )
        raise OrphanCheckFailed(str(failure)) from None
    if orphans:
        raise OrphansRemain(_orphans_remain(orphans))


def find_orphans(op: Operation, namespace: str, lists_complete_at: float) -> list[CapacityClaim]:
    """The remaining claims of a stack, once every claim in its state has been released or retained.

    This lists all claims of the organization, because the stack's first create may be any time ago.

    Lists may lag behind a create. A list is recent enough if it was requested after `lists_complete_at`, or
    if it lacks a claim that an earlier list showed and that this operation released. Reads may lag behind a
    deletion, so a claim that seems to exist is read again for the grace period.
    """
    listed = op.claims.list()
    wait = lists_complete_at - op.clock.now()
    if wait > 0 and not _reflects_a_release(listed, op.guard.released):
        if wait > LIST_LAG:
            op.say(
                f"waiting {wait:.0f} s before looking for claims that an interrupted create may have left "
                "behind: lists may not show them yet"
            )
        op.clock.sleep(wait)
        listed = op.claims.list()
    orphans = [
        claim
        for claim in claims_of_stack(namespace, listed)
        if not (op.guard.has_released(claim.id) or op.guard.is_declared(claim.id))
    ]
    for _ in op.clock.poll_until(op.clock.now() + op.settings.read_grace):
        orphans = [claim for each in orphans if (claim := _alive(op.claims, each.id)) is not None]
        if not orphans:
            break
    return orphans


def recently_listed(op: Operation) -> list[CapacityClaim]:
    """The claims of the organization that changed in the last days, by the clock of the API.

    Listing all of them would cost too much for a warning.
    """

    def listed(skew: timedelta) -> list[CapacityClaim]:
        return op.claims.list(updated_after=earlier(op.clock.today(), RECENT - skew), retry=op.brief)

    skew = op.claims.clock_skew
    claims = listed(skew)
    # The first response may be the first to show that the clock of this machine is ahead.
    return listed(op.claims.clock_skew) if skew - op.claims.clock_skew > _CLOCKS_DIFFER else claims


def orphan_warning(declaration: Declaration, claim: CapacityClaim) -> str:
    """The warning that another claim exists for the declaration of a new one."""
    return text(
        f"another claim created for {labelled(declaration.resource_name, None)} still exists.",
        said=[
            f"{unless_secret(claim.name, 'name', declaration.secrets)} (id {claim.id}): "
            f"{held_resources(claim, declaration.secrets)}"
        ],
        held="that claim as well. If it is the one being replaced, this update releases it at the end; "
        "otherwise an interrupted create left it behind.",
        then=[
            f"after this update, run `capacity-claims release --all-stacks {claim.id}`, which refuses if a "
            f"stack manages the claim; {_CLEAR_FIRST}",
            "or, if it is still needed (retained, or moved to another stack), set COREWEAVE_ORPHANS=leave",
        ],
    )


def _orphans_remain(claims: Sequence[CapacityClaim]) -> str:
    one = len(claims) == 1
    ids = " ".join(claim.id for claim in claims[:_NAMED])
    more = [f"and {len(claims) - _NAMED} more"] if len(claims) > _NAMED else []
    return text(
        f"the claim namespace is kept: {len(claims)} capacity claim{'s' * (not one)} of this stack "
        f"{'exists' if one else 'exist'}, but its state does not hold {'it' if one else 'them'} as "
        f"{'a dynamic resource' if one else 'dynamic resources'}.",
        said=[
            *(f"{_name_or_id(claim)}: {held_resources(claim)}" for claim in claims[:_NAMED]),
            *more,
        ],
        held="that claim, now declared with the native resource or left behind by an interrupted create."
        if one
        else "all of them, now declared with the native resource or left behind by interrupted creates.",
        then=[
            f"if the program now declares {'it' if one else 'them'} with the native resource, run the same "
            "command once with COREWEAVE_ORPHANS=leave, which leaves "
            f"{'it as it is' if one else 'them as they are'}",
            f"or, if {'it is' if one else 'they are'} still needed elsewhere (retained, or moved to another "
            "stack), do the same",
            f"or release {'it' if one else 'them'} with `capacity-claims release --all-stacks {ids}`, which "
            "refuses if a stack manages a claim with either resource, then run the same command again; "
            f"{_CLEAR_FIRST}",
        ],
    )


def _name_or_id(claim: CapacityClaim) -> str:
    """What the text calls a claim: a name that a program declared may be a secret, and no state says so."""
    return f"{claim.name} (id {claim.id})" if has_default_name(claim) else f"id {claim.id}"


def _reflects_a_release(listed: Sequence[CapacityClaim], released: Mapping[str, bool]) -> bool:
    """Whether a list lacks a claim that was released and that an earlier list showed."""
    alive = {claim.id for claim in listed if claim.state != api.ClaimState.DELETING}
    return any(listed_before and claim_id not in alive for claim_id, listed_before in released.items())


def _alive(claims: CapacityClaims, claim_id: str) -> CapacityClaim | None:
    try:
        claim = claims.get(claim_id)
    except NotFound:
        return None
    return None if claim.state == api.ClaimState.DELETING else claim
