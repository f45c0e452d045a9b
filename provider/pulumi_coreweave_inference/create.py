"""Create a claim, or adopt the one that an earlier, unfinished create has made.

    id(attempt 0) held by another declaration ────────────────► next attempt, a new id
    POST id(attempt 0)
      ├─ created ─────────────────────────────────────────────► done
      └─ already_exists → GET id
           ├─ alive, same content ────────────────────────────► adopt: PATCH the declared resources
           │    └─ PATCH refused: look again for a grace period
           │         ├─ being deleted, or gone ───────────────► POST the same id again
           │         ├─ still alive, same count ──────────────► adopt
           │         └─ still alive, another count ───────────► the refusal
           ├─ being deleted: wait until it is gone ───────────► POST the same id again
           ├─ failed, nothing allocated: delete it ───────────► POST the same id again
           ├─ other content
           │    ├─ the claim that this operation replaces ────► next attempt, a new id
           │    └─ else ──────────────────────────────────────► IdConflict
           └─ not found: look again for a grace period
                ├─ it shows up ───────────────────────────────► as above
                ├─ LIST has it, GET never finds it ───────────► ListedButNotReadable
                ├─ another claim has the name ────────────────► NameTaken
                └─ neither id nor name is in use ─────────────► the id cannot be reused: next attempt

An attempt is given up only for a reason that lasts. If a claim that is being deleted were passed over, a
create that dies after posting the next id would, when repeated, find the first id free and make a twin.

A claim is always written to before it is adopted, even without a change: reads may show a claim that is
being deleted as alive, and lists may show one that is gone; a write meets the truth.

An id that another declaration holds in this operation is not even posted: after a rename by alias, a new
declaration with the old name computes the id of the renamed claim. A failed claim that still has instances
counts as alive.
"""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import coreweave_inference as api
from coreweave_inference.errors import (
    AlreadyExists,
    ApiError,
    CoreweaveError,
    FailedPrecondition,
    NotFound,
    Unavailable,
)

from .errors import ClaimError, api_failure, held_resources, labelled, text

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim

    from .identity import Declaration
    from .operation import Operation

MAXIMUM_ATTEMPTS: Final = 64
LOOK_EVERY: Final = (1.0,)  # seconds


@dataclass(frozen=True)
class Created:
    """A claim that is now the declared one: posted, or `adopted` and possibly `scaled`."""

    claim: CapacityClaim
    adopted: bool = False
    scaled: bool = False


class NameTaken(ClaimError):
    """Another claim has the explicit name that a new claim should get."""


class IdConflict(ClaimError):
    """A claim with the computed id exists and is not what is declared."""


class ListedButNotReadable(ClaimError):
    """A list shows a claim with the computed id, and GET does not find it."""


class DeletionPending(ClaimError):
    """A claim with the computed id is being deleted, and that takes longer than the delete timeout."""


class AttemptsExhausted(ClaimError):
    """None of the ids that the declaration may use can be used."""


def create_or_adopt(op: Operation, declaration: Declaration) -> Created:
    """Post the declared claim, or adopt the one that an earlier, unfinished create has made.

    Raises `ClaimError`: a class of this module, or the API's error as text.
    """
    try:
        return Creation(op, declaration).run()
    except CoreweaveError as error:
        raise _create_failed(declaration, error) from None


class _Then(enum.Enum):
    """How a create goes on when an attempt did not produce the claim."""

    SAME_ID = 0
    NEXT_ID = 1


class Creation:
    """One create: the drawing above, a method for each branch."""

    def __init__(self, op: Operation, declaration: Declaration) -> None:
        self._claims = op.claims
        self._owner = op.guard.owner
        self._clock = op.clock
        self._grace = op.settings.read_grace
        self._until = op.clock.now() + op.settings.delete_timeout  # for deletions in the way
        self._declaration = declaration
        self._refusal: AlreadyExists | None = None

    def run(self) -> Created:
        """The claim. Raises `ClaimError`, and whatever the API answers."""
        attempt = 0
        while attempt < MAXIMUM_ATTEMPTS:
            outcome = self._attempt(self._declaration.claim_id(attempt))
            if isinstance(outcome, Created):
                return outcome
            if outcome is _Then.NEXT_ID:
                attempt += 1
        raise AttemptsExhausted(
            text(
                f"creating {labelled(self._declaration.resource_name, None)} failed: none of the "
                f"{MAXIMUM_ATTEMPTS} ids for this declaration can be used.",
                said=[str(self._refusal)] if self._refusal else [],
                held="nothing new.",
                then=["rename the resource: a declaration with another name gets other ids"],
            )
        )

    def _attempt(self, claim_id: str) -> Created | _Then:
        declaration = self._declaration
        owner = self._owner(claim_id)
        if owner not in (None, declaration.key):
            return _Then.NEXT_ID
        name = declaration.claim_name(claim_id)
        try:
            return Created(self._claims.create(name, declaration.resources, id=claim_id))
        except AlreadyExists as error:
            self._refusal = error
        claim = self._find(claim_id)
        if claim is None:
            return _Then.NEXT_ID  # the id cannot be reused
        if claim.state == api.ClaimState.FAILED and not claim.status.allocated_instances:
            return self._delete_failed(claim)
        if claim.state == api.ClaimState.DELETING:
            return self._wait_until_gone(claim)
        if declaration.is_content_of(claim):
            return self._adopt(claim)
        if owner == declaration.key:
            return _Then.NEXT_ID  # this is the claim that the new one replaces
        zones = ", ".join(claim.resources.zones)
        raise IdConflict(
            text(
                f"creating {labelled(declaration.resource_name, claim.id)} failed: a claim with this id "
                "exists and is not what is declared.",
                said=[f"it is named '{claim.name}': {held_resources(claim)}, zones {zones}"],
                held="that claim, unchanged.",
                then=[
                    "if it belongs to this stack and was changed outside of Pulumi, run `pulumi up "
                    "--refresh`, which creates a new claim and then releases this one",
                    "if the stack's state was copied into another stack, both compute the same ids: remove "
                    "the claims from one of them with `pulumi state delete`",
                ],
            )
        )

    def _find(self, claim_id: str) -> CapacityClaim | None:
        """The claim with this id, even if it becomes readable late; None when the id cannot be reused."""
        for _ in self._clock.poll_until(self._clock.now() + self._grace, LOOK_EVERY):
            try:
                return self._claims.get(claim_id)
            except NotFound:
                listed = {claim.id: claim for claim in self._claims.list()}
        resource_name = self._declaration.resource_name
        if claim_id in listed:
            claim = listed[claim_id]
            raise ListedButNotReadable(
                text(
                    f"creating {labelled(resource_name, claim.id)} failed: a claim with this id exists, and "
                    "the API does not return it.",
                    said=[f"the list of claims shows it as '{claim.name}': {held_resources(claim)}"],
                    held="that claim, if the list is right; nothing new.",
                    then=["wait a minute and run `pulumi up` again: it adopts the claim, or creates a new "
                          "one once the list no longer shows it"],
                )
            )  # fmt: skip
        name = self._declaration.claim_name(claim_id)
        holder = next((claim for claim in listed.values() if claim.name == name), None)
        if holder is not None:
            raise NameTaken(
                text(
                    f"creating {labelled(resource_name, None)} failed: the name '{name}' is taken.",
                    said=[f"it belongs to the claim {holder.id} ({held_resources(holder)})"],
                    held="nothing new.",
                    then=[
                        "leave out `name`, so that each claim gets a name of its own, or choose another one",
                        "if that claim is the one being replaced: "
                        "ResourceOptions(delete_before_replace=True) releases it first",
                    ],
                )
            )
        return None

    def _delete_failed(self, claim: CapacityClaim) -> _Then:
        # It will never hold anything, and perhaps no state knows it: left alone it would stay for ever.
        with contextlib.suppress(NotFound):
            self._claims.delete(claim.id)
        return self._wait_until_gone(claim)

    def _wait_until_gone(self, claim: CapacityClaim) -> _Then:
        for _ in self._clock.poll_until(self._until, LOOK_EVERY):
            try:
                claim = self._claims.get(claim.id)
            except NotFound:
                return _Then.SAME_ID
        raise self._deletion_pending(claim)

    def _adopt(self, claim: CapacityClaim) -> Created | _Then:
        declared = self._declaration.resources
        scaled = claim.resources.instance_count != declared.instance_count
        try:
            return Created(self._claims.update(claim.id, declared), adopted=True, scaled=scaled)
        except NotFound:
            return self._on_its_way_out(claim)
        except FailedPrecondition as error:
            refusal = error
        seen: CapacityClaim | None = None
        for _ in self._clock.poll_until(self._clock.now() + self._grace, LOOK_EVERY):
            try:
                seen = self._claims.get(claim.id)
            except NotFound:
                seen = None
            if seen is not None and seen.state == api.ClaimState.DELETING:
                return self._on_its_way_out(claim)
        if seen is None:
            return self._on_its_way_out(claim)
        if seen.resources.instance_count != declared.instance_count:
            raise refusal
        return Created(seen, adopted=True)

    def _on_its_way_out(self, claim: CapacityClaim) -> _Then:
        if self._clock.now() >= self._until:
            raise self._deletion_pending(claim)
        self._clock.sleep(LOOK_EVERY[0])
        return _Then.SAME_ID

    def _deletion_pending(self, claim: CapacityClaim) -> DeletionPending:
        return DeletionPending(
            text(
                f"creating {labelled(self._declaration.resource_name, claim.id)} has to wait: the claim that "
                "had this id is still being deleted.",
                said=[f"the API shows it as {held_resources(claim)}"],
                held="nothing new.",
                then=["run `pulumi up` again to keep waiting (coreweave:deleteTimeout sets how long)"],
            )
        )


def _create_failed(declaration: Declaration, error: CoreweaveError) -> ClaimError:
    claim_id = error.claim_id if isinstance(error, ApiError) else None
    held = "nothing new."
    if isinstance(error, ApiError) and error.operation != "create":
        # Every other call comes after the API has said that the id is taken.
        held = (
            "the claim that already has this id, and that is not in the state; the next `pulumi up` adopts "
            "it once the API allows that, `capacity-claims release` releases it."
        )
    elif isinstance(error, Unavailable):
        held = (
            "nothing that we know of; if only the response was lost, the next `pulumi up` adopts that claim "
            "and creates no second one, as long as the declaration stays the same."
        )
    return api_failure("creating", declaration.resource_name, claim_id, error, held=held)
