"""Claims that a stack has made and that its state does not hold.

A create that was cut off leaves one. The next `pulumi up` takes it over, if the program still declares it
so; else no state will ever tell of it, and it is found by its id, which tells the stack. Whether nobody
needs it cannot be told from that alone: a claim that the program retains, or that another stack has taken
over, looks the same. So it is named, and never released from here: when a claim is created for a declaration
that has a living one already, and when the stack ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import coreweave_inference as api
from coreweave_inference.errors import NotFound

from .identity import is_made_by
from .reads import Clock, Get, List, endless_pauses

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim


def claims_of_stack(namespace: str, claims: Iterable[CapacityClaim]) -> list[CapacityClaim]:
    """The claims that a stack has made and that are not on their way out."""
    return [
        claim
        for claim in claims
        if is_made_by(namespace, claim.id) and claim.state != api.ClaimState.DELETING
    ]


def find_orphans(
    namespace: str,
    settled: Callable[[str], bool],
    get: Get,
    list_: List,
    shown: Collection[str],
    not_before: float,
    until: float,
    clock: Clock,
    sleep: Callable[[float], None],
) -> list[CapacityClaim]:
    """The living claims of a stack that is done with all of its claims.

    All claims of the organization are listed, since no clock tells when the first of them was made.
    `settled` tells whether this operation has met a claim in the state, or has released it.

    Lists may lag behind a create. One is believed when it knows that a claim has been released which an
    earlier list of this operation has `shown`, or when the clock shows `not_before`. Reads may lag behind a
    deletion: what lives is looked at again until the clock shows `until`.
    """
    listed = list_(None)
    if (wait := not_before - clock()) > 0 and not _knows_of_a_release(listed, shown):
        sleep(wait)
        listed = list_(None)
    left = [claim for claim in claims_of_stack(namespace, listed) if not settled(claim.id)]
    pauses = endless_pauses()
    while True:
        left = [claim for each in left if (claim := _alive(get, each.id)) is not None]
        pause = next(pauses)
        if not left or clock() + pause > until:
            return left
        sleep(pause)


def _knows_of_a_release(listed: Sequence[CapacityClaim], shown: Collection[str]) -> bool:
    alive = {claim.id for claim in listed if claim.state != api.ClaimState.DELETING}
    return any(claim_id not in alive for claim_id in shown)


def _alive(get: Get, claim_id: str) -> CapacityClaim | None:
    try:
        claim = get(claim_id)
    except NotFound:
        return None
    return None if claim.state == api.ClaimState.DELETING else claim
