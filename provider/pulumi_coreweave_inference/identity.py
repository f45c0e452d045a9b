"""How a claim gets its id, and how a create finds out whether the claim exists already.

The id is computed, not drawn. Its first half is that of `uuid5(namespace, key | immutable inputs |
attempt)`, its second half that of the namespace:

    6f1c2b7e-93d0-5a41-b2c8-9e0d4f61a7c3
    └ the declaration┘ └ the stack ────┘

The namespace is a random UUID that the stack's state holds before any claim is posted; the key names the
declaration. So a create whose answer was lost, or whose process died, computes the same id again, is told
`already_exists`, and takes the claim over instead of making a twin. And a claim tells the stack it was
made by, though the stack's state may never have heard of it.

    POST id(attempt 0)
      ├─ created ─────────────────────────────────────────────► done
      └─ already_exists → GET id
           ├─ alive, same content ────────────────────────────► adopt: PATCH the declared resources
           │    └─ PATCH refused: look again for a grace period
           │         ├─ being deleted, or gone ───────────────► POST the same id again
           │         └─ still alive, same count ──────────────► adopt
           ├─ being deleted: wait until it is gone ───────────► POST the same id again
           ├─ failed for good, nothing allocated: delete it ──► POST the same id again
           ├─ other content
           │    ├─ the claim this operation is replacing ─────► next attempt, a new id
           │    └─ else ──────────────────────────────────────► HeldByOther
           └─ not found: look again for a grace period
                ├─ it shows ──────────────────────────────────► as above
                ├─ LIST has it, GET never answers for it ─────► Unreadable
                ├─ another claim has the name ────────────────► NameTaken
                └─ nobody has the id, nobody has the name ────► the id cannot be used again: next attempt

An attempt is left only for a reason that lasts. Were a claim being deleted passed over, a create that
dies after the POST of the next id would, once repeated, find the first id free and make a twin.

A claim that is taken over is always written to, be it without a change: reads may show it alive though
it is being deleted, and LIST may show one that is gone; a write meets the truth.

An id that this operation has seen in the hands of another declaration is passed over: after a rename
by an alias, a new declaration with the old name computes the id of the renamed claim.

The derivation is a promise to every state file: `claim_id` must never answer differently.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import coreweave_inference as api
from coreweave_inference.errors import AlreadyExists, FailedPrecondition, NotFound

from .inputs import claim_name_from

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources

MAXIMUM_ATTEMPTS: Final = 64
_LIKELY_ATTEMPTS: Final = 8  # more of them are possible and hardly ever needed
_LOOK_AGAIN_EVERY: Final = 1.0  # seconds
_STACK: Final = 2**64 - 1  # the bits of a claim's id that tell the stack
_DECLARATION: Final = _STACK << 64  # and those that tell the declaration


class CapacityClaims(Protocol):
    """The calls that a create needs; `Client.capacity_claims` has them."""

    def create(
        self, name: str, resources: CapacityClaimResources, *, id: str | None = None
    ) -> CapacityClaim: ...
    def get(self, id: str) -> CapacityClaim: ...
    def list(self) -> Sequence[CapacityClaim]: ...
    def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim: ...
    def delete(self, id: str) -> CapacityClaim | None: ...


@dataclass(frozen=True)
class Declaration:
    """One declared claim, with everything its id depends on.

    `name` is the explicit name, or None for one made of the resource's name and the id.
    """

    namespace: str
    key: str
    resources: CapacityClaimResources
    name: str | None = None

    @property
    def resource_name(self) -> str:
        """The name of the Pulumi resource."""
        return resource_name_of(self.key)

    def claim_id(self, attempt: int) -> str:
        """The claim's id in the given attempt, counted from 0."""
        resources = self.resources
        namespace = uuid.UUID(self.namespace)
        content = json.dumps(
            [
                self.key,
                resources.instance_id,
                list(resources.zones),
                str(resources.capacity_type),
                self.name,
                attempt,
            ],
            ensure_ascii=True,
            separators=(",", ":"),
        )
        declaration = uuid.uuid5(namespace, content)
        return str(uuid.UUID(int=declaration.int & _DECLARATION | namespace.int & _STACK))

    def claim_name(self, claim_id: str) -> str:
        """The claim's name: the explicit one, or the resource's name and seven digits of the id."""
        return self.name or f"{claim_name_from(self.resource_name) or 'claim'}-{claim_id[:7]}"

    def has_made(self, claim: CapacityClaim) -> bool:
        """Whether a claim was made for this declaration, whatever it declared then."""
        if not is_made_by(self.namespace, claim.id):
            return False
        made = Declaration(self.namespace, self.key, claim.resources, claim.name)
        if claim.name.endswith(f"-{claim.id[:7]}"):  # nobody chooses such a name
            made = replace(made, name=None)
            if claim.name != made.claim_name(claim.id):
                return False
        return any(made.claim_id(attempt) == claim.id for attempt in range(_LIKELY_ATTEMPTS))

    def is_content_of(self, claim: CapacityClaim) -> bool:
        """Whether a claim has this declaration's name and immutable content; the count may differ."""
        mine, theirs = self.resources, claim.resources
        return (
            claim.name == self.claim_name(claim.id)
            and theirs.instance_id == mine.instance_id
            and tuple(theirs.zones) == tuple(mine.zones)
            and theirs.capacity_type == mine.capacity_type
        )


@dataclass(frozen=True)
class Obtained:
    """A claim that a create got hold of, and how: `posted`, `adopted` or `adopted and scaled`."""

    claim: CapacityClaim
    how: str
    attempt: int


class NameTaken(Exception):
    """Another claim has the explicit name that a new claim should get."""

    def __init__(self, name: str, holder: CapacityClaim) -> None:
        super().__init__(name, holder)
        self.name = name
        self.holder = holder


class HeldByOther(Exception):
    """A claim with the computed id exists and is not what is declared."""

    def __init__(self, claim: CapacityClaim) -> None:
        super().__init__(claim)
        self.claim = claim


class Unreadable(Exception):
    """A claim with the computed id exists, and the API does not answer for it."""

    def __init__(self, claim: CapacityClaim) -> None:
        super().__init__(claim)
        self.claim = claim


class StillLeaving(Exception):
    """A claim with the computed id is being deleted, and that takes longer than may be waited."""

    def __init__(self, claim: CapacityClaim) -> None:
        super().__init__(claim)
        self.claim = claim


class OutOfAttempts(Exception):
    """No id could be used, in as many attempts as there may be."""

    def __init__(self, attempts: int, last: AlreadyExists | None) -> None:
        super().__init__(attempts, last)
        self.attempts = attempts
        self.last = last


def is_made_by(namespace: str, claim_id: str) -> bool:
    """Whether a claim's id was computed in the stack with this namespace."""
    try:
        return uuid.UUID(claim_id).int & _STACK == uuid.UUID(namespace).int & _STACK
    except ValueError:
        return False


def resource_name_of(key: str) -> str:
    """The name of the Pulumi resource a key belongs to."""
    return key.rpartition("::")[2]


def key_of(urn: str) -> str:
    """What distinguishes a declaration within its stack: the URN without stack and project.

    A URN reads `urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME`; the engine refuses two equal ones.
    """
    return "::".join(urn.split("::", 3)[2:])


def obtain(
    claims: CapacityClaims,
    declaration: Declaration,
    *,
    owner: Callable[[str], str | None],
    grace: float,
    patience: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Obtained:
    """Post the declared claim, or take over the one an earlier, unfinished create has made.

    `owner` tells the key of the declaration that this operation has seen holding a claim, if any. A claim
    held by this very declaration whose content is no longer the declared one is the one being replaced.
    `grace` is for how many seconds a claim that exists and cannot be read is looked for, `patience` for how
    many the end of a deletion is awaited. Raises `NameTaken`, `HeldByOther`, `Unreadable`, `StillLeaving`,
    `OutOfAttempts`, and whatever the API answers.
    """
    refusal: AlreadyExists | None = None
    until = clock() + patience
    attempt = 0
    while attempt < MAXIMUM_ATTEMPTS:
        claim_id = declaration.claim_id(attempt)
        name = declaration.claim_name(claim_id)
        holder = owner(claim_id)
        if holder is not None and holder != declaration.key:
            attempt += 1
            continue
        try:
            claim = claims.create(name, declaration.resources, id=claim_id)
            return Obtained(claim, "posted", attempt)
        except AlreadyExists as error:
            refusal = error
        existing = _find(claims, declaration, claim_id, grace, clock, sleep)
        if existing is None:
            attempt += 1
            continue
        if existing.state == api.ClaimState.FAILED and not existing.status.allocated_instances:
            # It never comes to anything, and no state may know it: left alone it would stay for ever.
            with contextlib.suppress(NotFound):
                claims.delete(claim_id)
            _wait_until_gone(claims, existing, until, clock, sleep)
            continue
        if existing.state == api.ClaimState.DELETING:
            _wait_until_gone(claims, existing, until, clock, sleep)
            continue
        if not declaration.is_content_of(existing):
            if holder == declaration.key:
                attempt += 1
                continue
            raise HeldByOther(existing)
        taken = _take_over(claims, declaration, claim_id, grace, clock, sleep)
        if taken is not None:
            same = existing.resources.instance_count == declaration.resources.instance_count
            return Obtained(taken, "adopted" if same else "adopted and scaled", attempt)
        if clock() >= until:
            raise StillLeaving(existing)
        sleep(_LOOK_AGAIN_EVERY)
    raise OutOfAttempts(MAXIMUM_ATTEMPTS, refusal)


def _find(
    claims: CapacityClaims,
    declaration: Declaration,
    claim_id: str,
    grace: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> CapacityClaim | None:
    """The claim of that id, however late it becomes readable; None when the id cannot be used again."""
    until = clock() + grace
    while True:
        try:
            return claims.get(claim_id)
        except NotFound:
            listed = {claim.id: claim for claim in claims.list()}
        left = until - clock()
        if left <= 0:
            break
        sleep(min(_LOOK_AGAIN_EVERY, left))
    if claim_id in listed:
        raise Unreadable(listed[claim_id])
    name = declaration.claim_name(claim_id)
    holders = _with_name(listed, name)
    holder = next(holders, None)
    if holder is not None:
        raise NameTaken(name, holder)
    return None


def _take_over(
    claims: CapacityClaims,
    declaration: Declaration,
    claim_id: str,
    grace: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> CapacityClaim | None:
    """The claim with what is declared written to it; None when it turns out to be on its way out."""
    try:
        return claims.update(claim_id, declaration.resources)
    except NotFound:
        return None
    except FailedPrecondition as error:
        refusal = error
    until = clock() + grace
    while True:
        try:
            claim = claims.get(claim_id)
        except NotFound:
            claim = None
        if claim is not None and claim.state == api.ClaimState.DELETING:
            return None
        left = until - clock()
        if left <= 0:
            break
        sleep(min(_LOOK_AGAIN_EVERY, left))
    if claim is not None and claim.resources.instance_count != declaration.resources.instance_count:
        raise refusal
    return claim


def _wait_until_gone(
    claims: CapacityClaims,
    claim: CapacityClaim,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Wait until the API no longer knows a claim that is being deleted."""
    while True:
        try:
            claim = claims.get(claim.id)
        except NotFound:
            return
        left = until - clock()
        if left <= 0:
            raise StillLeaving(claim)
        sleep(min(_LOOK_AGAIN_EVERY, left))


def _with_name(listed: Mapping[str, CapacityClaim], name: str) -> Iterator[CapacityClaim]:
    return (claim for claim in listed.values() if claim.name == name)
