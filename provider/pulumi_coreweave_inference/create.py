"""Create a claim, or adopt the one that an interrupted create left behind.

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

An attempt is abandoned only for a permanent reason. Suppose a create skipped an id because its claim is
still being deleted, posted the next id, and died. The next run would find the first id free again and create
a second claim.

A claim is always written to before it is adopted, even if nothing changes. Reads may be stale: GET may show a
claim that is being deleted as alive, and LIST may show one that is gone. A write acts on the actual state.

An id that another declaration holds in this operation is not posted at all. This happens after a rename by
alias: a new declaration with the old name computes the id of the renamed claim.

A failed claim that still has instances counts as alive.
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
    """The outcome of a create: the claim, and whether it was adopted and scaled instead of created."""

    claim: CapacityClaim
    adopted: bool = False
    scaled: bool = False


class NameTaken(ClaimError):
    """Another claim already has the explicit name of the new claim."""


class IdConflict(ClaimError):
    """A claim with the computed id exists, but differs from the declaration."""


class ListedButNotReadable(ClaimError):
    """LIST shows a claim with the computed id, but GET does not find it."""


class DeletionPending(ClaimError):
    """The claim with the computed id is still being deleted after the delete timeout."""


class AttemptsExhausted(ClaimError):
    """None of the ids computed for the declaration can be used."""


def create_or_adopt(op: Operation, declaration: Declaration) -> Created:
    """Create the declared claim, or adopt the one that an interrupted create left behind.

    Raises one of the errors above, or a `ClaimError` that describes an error of the API.
    """
    try:
        return Creation(op, declaration).run()
    except CoreweaveError as error:
        raise _create_failed(declaration, error) from None


class _Then(enum.Enum):
    """What to try next after an attempt that did not produce the claim."""

    SAME_ID = 0
    NEXT_ID = 1


class Creation:
    """One create, with a method for each branch of the drawing above."""

    def __init__(self, op: Operation, declaration: Declaration) -> None:
        self._claims = op.claims
        self._owner = op.guard.owner
        self._clock = op.clock
        self._grace = op.settings.read_grace
        self._until = op.clock.now() + op.settings.delete_timeout  # when to stop waiting for deletions
        self._declaration = declaration
        self._refusal: AlreadyExists | None = None

    def run(self) -> Created:
        """Try ids until one yields the claim. Raises `ClaimError`, or an error of the API."""
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
                then=["rename the resource, which changes the ids computed for it"],
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
                "exists, but differs from the declaration.",
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
        """The claim with this id, which may take a while to show up; None if the id cannot be reused."""
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
                    f"creating {labelled(resource_name, claim.id)} failed: a claim with this id exists, but "
                    "cannot be read.",
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
                        "omit `name`, so that each claim gets a unique name, or choose another name",
                        "or, if that claim is the one being replaced, release it first with "
                        "ResourceOptions(delete_before_replace=True)",
                    ],
                )
            )
        return None

    def _delete_failed(self, claim: CapacityClaim) -> _Then:
        # It will never get instances. It may be in no state, and then nothing else would ever delete it.
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
                f"creating {labelled(self._declaration.resource_name, claim.id)} failed: the previous claim "
                "with this id is still being deleted.",
                said=[f"the API shows it as {held_resources(claim)}"],
                held="nothing new.",
                then=["run `pulumi up` again to keep waiting (coreweave:deleteTimeout sets how long)"],
            )
        )


def _create_failed(declaration: Declaration, error: CoreweaveError) -> ClaimError:
    claim_id = error.claim_id if isinstance(error, ApiError) else None
    held = "nothing new."
    if isinstance(error, ApiError) and error.operation != "create":
        # All other calls come after the API has refused the id as taken.
        held = (
            "the claim that already has this id, which is not in the state; the next `pulumi up` adopts it "
            "once the API allows that, and `capacity-claims release` releases it."
        )
    elif isinstance(error, Unavailable):
        held = (
            "nothing, as far as we know. If only the response was lost, the claim exists; the next `pulumi "
            "up` adopts it, unless the declaration changes."
        )
    return api_failure("creating", declaration.resource_name, claim_id, error, held=held)
