"""Create a claim, or adopt the one that an interrupted create left behind.

    id(attempt 0) held by another declaration ────────────────► next attempt, a new id
    POST id(attempt 0)
      ├─ created ─────────────────────────────────────────────► done
      └─ already_exists → GET id
           ├─ being deleted: wait until it is gone ───────────► POST the same id again
           ├─ failed, nothing allocated: delete it ───────────► POST the same id again
           ├─ failed, but it holds instances ─────────────────► next attempt, a new id
           ├─ other content
           │    ├─ the claim that this operation replaces ────► next attempt, a new id
           │    └─ else ──────────────────────────────────────► IdConflict
           ├─ same content, another count, and neither is this
           │  the claim being replaced nor overwriting allowed ► TakeoverRefused
           ├─ same content ───────────────────────────────────► adopt: PATCH the declared resources
           │    └─ PATCH refused: look again for a grace period
           │         ├─ being deleted, or gone ───────────────► POST the same id again
           │         ├─ still alive, same count ──────────────► adopt
           │         └─ still alive, another count ───────────► the refusal
           └─ not found: look again for a grace period
                ├─ it shows up ───────────────────────────────► as above
                ├─ LIST has it, GET never finds it ───────────► ListedButNotReadable
                ├─ another claim has the name ────────────────► NameTaken
                ├─ an explicit name, for the second time ─────► NameTaken, by a claim that no list shows
                └─ neither id nor name is in use ─────────────► the id cannot be reused: next attempt

An attempt is abandoned only for a permanent reason. Suppose a create skipped an id because its claim is
still being deleted, posted the next id, and died. The next run would find the first id free again and create
a second claim. A failed claim that is passed over may be gone later, too, so a create begins with the attempt
whose claim lives (`first_attempt`), if there is one.

A claim may be in another state: after a rename, a move or a copy of a state. So it is adopted unseen only if
nothing about it changes. `takeover` follows the same drawing with reads alone, for the preview.

A claim is always written to before it is adopted, even if nothing changes. Reads may be stale: GET may show a
claim that is being deleted as alive, and LIST may show one that is gone. A write acts on the actual state.

An id that another declaration holds in this operation is not posted at all. This happens after a rename by
alias: a new declaration with the old name computes the id of the renamed claim.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import coreweave_inference as api
from coreweave_inference.errors import (
    AlreadyExists,
    ApiError,
    CoreweaveError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from coreweave_inference.settings import format_duration

from .errors import ClaimError, api_failure, labelled, text
from .identity import LIKELY_ATTEMPTS, Declaration, is_urn
from .secrecy import held_resources, unless_secret, unsaid

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim

    from .operation import Operation

MAXIMUM_ATTEMPTS: Final = 64
ATTEMPTS_WITH_A_NAME: Final = 2  # of which nothing is to be seen, neither the id nor the name
LOOK_EVERY: Final = (1.0,)  # seconds
PROGRESS_EVERY: Final = 30.0  # seconds


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


class TakeoverRefused(ClaimError):
    """A claim with the computed id exists with another count, and may be in another state."""


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


def takeover(op: Operation, declaration: Declaration) -> CapacityClaim | None:
    """The existing claim that a create of this declaration would adopt now, if any. Only reads.

    Also a claim that makes room first: one that is being deleted, or has failed and holds nothing. Raises
    `IdConflict` or `TakeoverRefused` where the create would, and errors of the API.
    """
    for attempt in range(first_attempt(op, declaration), MAXIMUM_ATTEMPTS):
        claim_id = declaration.claim_id(attempt)
        owner = op.guard.owner(claim_id)
        if owner not in (None, declaration.key):
            continue
        claim = op.existing.find(claim_id)
        if claim is None:
            return None
        found = judge(claim, declaration, is_replaced=owner == declaration.key)
        if found not in _PASSED_OVER:
            _refuse(op, declaration, claim, found)
            return claim
    return None


def first_attempt(op: Operation, declaration: Declaration) -> int:
    """The attempt to begin with: that of a living claim that an earlier create of this declaration made.

    An earlier attempt may have been passed over for a claim that is gone by now. To begin with it again would
    make a second claim.
    """
    made = {
        claim.id
        for claim in op.recently_created(declaration.namespace)
        if claim.state != api.ClaimState.FAILED
        and declaration.is_content_of(claim)
        and not op.guard.has_released(claim.id)
        and op.guard.owner(claim.id) in (None, declaration.key)
    }
    ids = map(declaration.claim_id, range(LIKELY_ATTEMPTS))
    return next((attempt for attempt, claim_id in enumerate(ids) if claim_id in made), 0)


class Found(enum.Enum):
    """What a claim that already has the computed id is to a new declaration."""

    DELETING = enum.auto()
    FAILED = enum.auto()  # and holds nothing
    FAILED_WITH_INSTANCES = enum.auto()
    SAME = enum.auto()
    SAME_BUT_COUNT = enum.auto()
    REPLACED = enum.auto()  # by this declaration, whose content differs
    OTHER = enum.auto()


_PASSED_OVER: Final = (Found.FAILED_WITH_INSTANCES, Found.REPLACED)
"""What lives on beside the new claim, which gets the next id."""


def judge(claim: CapacityClaim, declaration: Declaration, *, is_replaced: bool) -> Found:
    """Compare a claim with a declaration that computes the same id.

    `is_replaced`: whether this operation has seen the claim in the state, as this very declaration's.
    """
    if claim.state == api.ClaimState.DELETING:
        return Found.DELETING
    if claim.state == api.ClaimState.FAILED:
        return Found.FAILED_WITH_INSTANCES if claim.status.allocated_instances else Found.FAILED
    if not declaration.is_content_of(claim):
        return Found.REPLACED if is_replaced else Found.OTHER
    same_count = claim.resources.instance_count == declaration.resources.instance_count
    return Found.SAME if same_count else Found.SAME_BUT_COUNT


def _refuse(op: Operation, declaration: Declaration, claim: CapacityClaim, found: Found) -> None:
    """Raise the error for a claim that must not be touched, if it is one.

    Another count needs evidence: this operation has compared the claim with this declaration, as it does
    before a replacement, or `coreweave:overwrite` is set.
    """
    if found is Found.OTHER:
        raise _id_conflict(declaration, claim)
    is_evident = op.guard.is_declared_by(claim.id, declaration.key) or op.settings.overwrite
    if found is Found.SAME_BUT_COUNT and not is_evident:
        raise _takeover_refused(declaration, claim)
    op.guard.refuse_held(claim.id, declaration.key)  # it may have been compared since


class _Then(enum.Enum):
    """What to try next after an attempt that did not produce the claim."""

    SAME_ID = 0
    NEXT_ID = 1


class Creation:
    """One create, with a method for each branch of the drawing above."""

    def __init__(self, op: Operation, declaration: Declaration) -> None:
        self._op = op
        self._claims = op.claims
        self._clock = op.clock
        self._grace = op.settings.read_grace
        self._until = op.clock.now() + op.settings.delete_timeout  # when to stop waiting for deletions
        self._declaration = declaration
        self._refusal: AlreadyExists | None = None
        self._unseen = 0  # attempts refused though neither their id nor their name is in use
        self._said_at = float("-inf")  # the last progress

    def run(self) -> Created:
        """Try ids until one yields the claim. Raises `ClaimError`, or an error of the API."""
        attempt = first_attempt(self._op, self._declaration)
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
                said=[str(self._unsaid(self._refusal))] if self._refusal else [],
                held="nothing new.",
                then=["rename the resource, which changes the ids computed for it"],
            )
        )

    def _unsaid(self, error: AlreadyExists) -> AlreadyExists:
        return unsaid(error, self._declaration.secrets, self._declaration.resources, self._declaration.name)

    def _attempt(self, claim_id: str) -> Created | _Then:
        declaration = self._declaration
        owner = self._op.guard.owner(claim_id)
        if owner not in (None, declaration.key):
            return _Then.NEXT_ID
        name = declaration.claim_name(claim_id)
        try:
            return Created(self._claims.create(name, declaration.resources, id=claim_id))
        except AlreadyExists as error:
            self._refusal = error
        claim = self._find(claim_id)
        if claim is None:
            return self._next_after_unseen()
        found = judge(claim, declaration, is_replaced=owner == declaration.key)
        if found in _PASSED_OVER:
            return _Then.NEXT_ID
        _refuse(self._op, declaration, claim, found)
        if found is Found.DELETING:
            return self._wait_until_gone(claim)
        if found is Found.FAILED:
            return self._delete_failed(claim)
        return self._adopt(claim)

    def _find(self, claim_id: str) -> CapacityClaim | None:
        """The claim with this id, which may take a while to show up; None if the id cannot be reused."""
        for _ in self._looks(self._clock.now() + self._grace):
            try:
                return self._claims.get(claim_id)
            except NotFound:
                self._progress(f"the API says that {claim_id} exists, but does not show it yet")
                listed = {claim.id: claim for claim in self._claims.list()}
        resource_name = self._declaration.resource_name
        if claim_id in listed:
            claim = listed[claim_id]
            raise ListedButNotReadable(
                text(
                    f"creating {labelled(resource_name, claim.id)} failed: a claim with this id exists, but "
                    "cannot be read.",
                    said=[f"the list of claims shows it as {_named(claim, self._declaration)}"],
                    held="that claim, if the list is right; nothing new.",
                    then=["wait a minute and run `pulumi up` again: it adopts the claim, or creates a new "
                          "one once the list no longer shows it"],
                )
            )  # fmt: skip
        name = self._declaration.claim_name(claim_id)
        holder = next((claim for claim in listed.values() if claim.name == name), None)
        if holder is not None:
            raise _name_taken(
                self._declaration,
                name,
                f"it belongs to the claim {holder.id} ({held_resources(holder, self._declaration.secrets)})",
                "or, if that claim is the one being replaced, release it first with "
                "ResourceOptions(delete_before_replace=True)",
            )
        return None

    def _next_after_unseen(self) -> _Then:
        """The id cannot be reused, or the name belongs to a claim that this token cannot see."""
        self._unseen += 1
        name = self._declaration.name
        if name is not None and self._unseen == ATTEMPTS_WITH_A_NAME:
            raise _name_taken(
                self._declaration,
                name,
                f"the API refuses {self._unseen} new ids with it, and shows no claim with such an id or "
                "the name: it hides the claim, or it accepts no id a second time",
                "or rename the resource, which changes the ids computed for it",
            )
        return _Then.NEXT_ID

    def _delete_failed(self, claim: CapacityClaim) -> _Then:
        # It will never get instances. It may be in no state, and then nothing else would ever delete it.
        try:
            self._claims.delete(claim.id)
        except NotFound:
            return self._post_again(claim)
        return self._wait_until_gone(claim)

    def _wait_until_gone(self, claim: CapacityClaim) -> _Then:
        for _ in self._looks(self._until):
            held = held_resources(claim, self._declaration.secrets)
            self._progress(f"waiting until the previous claim {claim.id} is gone ({held})")
            try:
                claim = self._claims.get(claim.id)
            except NotFound:
                return self._post_again(claim)
        raise self._deletion_pending(claim)

    def _adopt(self, claim: CapacityClaim) -> Created | _Then:
        declared = claim.resources.changed_to(self._declaration.resources)
        scaled = claim.resources.instance_count != declared.instance_count
        try:
            return Created(self._claims.update(claim.id, declared), adopted=True, scaled=scaled)
        except NotFound:
            return self._post_again(claim)
        except (FailedPrecondition, InvalidArgument) as error:
            refusal = error  # of the claim's state, or of a write that changes nothing
        seen: CapacityClaim | None = None
        for _ in self._looks(self._clock.now() + self._grace):
            try:
                seen = self._claims.get(claim.id)
            except NotFound:
                seen = None
            if seen is not None and seen.state == api.ClaimState.DELETING:
                return self._post_again(seen)
            self._progress(f"the API refuses to write to {claim.id}; reading whether it is being deleted")
        if seen is None:
            return self._post_again(claim)
        if seen.resources.instance_count != declared.instance_count:
            raise refusal
        return Created(seen, adopted=True)

    def _post_again(self, claim: CapacityClaim) -> _Then:
        """The claim goes or is gone, so its id becomes free; until then the API refuses it."""
        if self._clock.now() >= self._until:
            raise self._deletion_pending(claim)
        self._clock.sleep(LOOK_EVERY[0])
        return _Then.SAME_ID

    def _looks(self, until: float) -> Iterator[None]:
        return self._clock.poll_until(until, LOOK_EVERY)

    def _progress(self, doing: str) -> None:
        """Show what a long create waits for: soon after it begins to wait, then every half minute."""
        if self._said_at == float("-inf"):
            self._said_at = self._clock.now() - PROGRESS_EVERY + 2 * LOOK_EVERY[0]  # most waits are shorter
        if self._clock.now() - self._said_at >= PROGRESS_EVERY:
            self._said_at = self._clock.now()
            left = format_duration(max(0, round(self._until - self._clock.now())))
            name = labelled(self._declaration.resource_name, None)
            self._op.say(f"creating {name}: {doing}; at most {left} more")

    def _deletion_pending(self, claim: CapacityClaim) -> DeletionPending:
        return DeletionPending(
            text(
                f"creating {labelled(self._declaration.resource_name, claim.id)} failed: the previous claim "
                "with this id is still being deleted.",
                said=[f"the API shows it as {held_resources(claim, self._declaration.secrets)}"],
                held="nothing new.",
                then=["run `pulumi up` again to keep waiting (coreweave:deleteTimeout sets how long)"],
            )
        )


def _id_conflict(declaration: Declaration, claim: CapacityClaim) -> IdConflict:
    zones = unless_secret(", ".join(claim.resources.zones), "zones", declaration.secrets)
    return IdConflict(
        text(
            f"creating {labelled(declaration.resource_name, claim.id)} failed: a claim with this id "
            "exists, but differs from the declaration.",
            said=[f"it is named {_named(claim, declaration)}, zones {zones}"],
            held="that claim, unchanged.",
            then=[
                "if it belongs to this stack and was changed outside of Pulumi, run `pulumi up "
                "--refresh`, which creates a new claim and then releases this one",
                _if_unneeded(claim),
                _if_copied(declaration),
            ],
        )
    )


def _takeover_refused(declaration: Declaration, claim: CapacityClaim) -> TakeoverRefused:
    there, declared = (
        unless_secret(each.instance_count, "instanceCount", declaration.secrets)
        for each in (claim.resources, declaration.resources)
    )
    return TakeoverRefused(
        text(
            f"creating {labelled(declaration.resource_name, claim.id)} failed: a claim with this id exists "
            f"with {there} instances, and {declared} are declared.",
            said=[
                f"it is named {_named(claim, declaration)}",
                "an interrupted create may have left it behind, or a replacement that was given up; or "
                "another resource or stack holds it",
            ],
            held="that claim, unchanged.",
            then=[
                "if it is this resource's own, run `pulumi up` without `--replace`, or first declare "
                f"instance_count={there}, which takes the claim over as it is, and then change the count",
                "if another resource or stack holds it, give this resource a name that was never used",
                _if_unneeded(claim),
                _if_copied(declaration),
            ],
        )
    )


def _named(claim: CapacityClaim, declaration: Declaration) -> str:
    name = unless_secret(claim.name, "name", declaration.secrets)
    return f"'{name}': {held_resources(claim, declaration.secrets)}"


def _if_unneeded(claim: CapacityClaim) -> str:
    return (
        f"if nothing needs it, release it with `capacity-claims release --all-stacks {claim.id}`, which "
        "refuses if a stack manages it"
    )


def _if_copied(declaration: Declaration) -> str:
    if is_urn(declaration.key):
        return (
            "if this stack's state is a copy of another stack's, remove the copied claims from it with "
            "`pulumi state delete URN`, and give the stack another name with `pulumi stack rename NAME`; it "
            "then creates claims of its own"
        )
    return (
        "if this stack's state is a copy of another stack's, remove the copied ClaimNamespace, and all that "
        "depends on it, from the state with `pulumi state delete --target-dependents URN`; the stack then "
        "creates claims of its own"
    )


def _name_taken(declaration: Declaration, name: str, said: str, way_out: str) -> NameTaken:
    shown = unless_secret(name, "name", declaration.secrets)
    return NameTaken(
        text(
            f"creating {labelled(declaration.resource_name, None)} failed: the name '{shown}' is taken.",
            said=[said],
            held="nothing new.",
            then=["omit `name`, so that each claim gets a unique name, or choose another name", way_out],
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
    elif isinstance(error, ApiError) and error.in_doubt:
        held = (
            "nothing, as far as we know. If only the response was lost, the claim exists; the next `pulumi "
            "up` adopts it, unless the declaration changes."
        )
    redacted = unsaid(error, declaration.secrets, declaration.resources, declaration.name)
    return api_failure("creating", declaration.resource_name, claim_id, redacted, held=held)
