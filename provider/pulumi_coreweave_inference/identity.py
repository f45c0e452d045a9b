"""How a claim's id, name and key are computed. Pure functions; every state file relies on their results.

The id is computed, not random. Its first half is that of `uuid5(namespace, key | immutable inputs |
attempt)`, its second half that of the namespace:

    6f1c2b7e-93d0-5a41-b2c8-9e0d4f61a7c3
    └ the declaration┘ └ the stack ────┘

The namespace is a random UUID that the stack's state holds before any claim is posted; the key identifies
the declaration within the stack. A create whose response was lost, or whose process died, computes the same
id again, gets `already_exists`, and adopts the claim instead of creating a second one (create.py). The id
also shows which stack created a claim, even if that stack's state does not contain it (orphans.py).

For the native resource, the namespace is the id of its provider, which may change in the life of a stack. So
its key is the whole URN, and the first half does not depend on the namespace: a claim that the same
declaration has made under another namespace can be found.

For the same declaration, `claim_id` must return the same id in every version.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING, Final

from .inputs import MANAGED, claim_name_from, differing

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources

LIKELY_ATTEMPTS: Final = 8  # more are possible, but rare
_SORTED_ZONES: Final = 5  # with more zones there are too many orders to try
_STACK: Final = 2**64 - 1  # the bits of a claim's id that identify the stack
_DECLARATION: Final = _STACK << 64  # and those that identify the declaration
_HALF: Final = len("xxxxxxxx-xxxx-xxxx")  # of the id's text
_URNS: Final = uuid.UUID("5c0f3a5e-3f4b-5d0e-9a64-7f6f0d6f2a11")
"""What the first half is derived from with a URN, instead of the namespace."""


@dataclass(frozen=True)
class Declaration:
    """One declared claim, with everything its id depends on.

    `name` is the explicit name; None stands for the resource's name plus seven digits of the id.
    """

    namespace: str
    key: str
    resources: CapacityClaimResources
    name: str | None = None
    secrets: frozenset[str] = frozenset()  # the inputs that no text shows; no part of the id

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
        declaration = uuid.uuid5(_URNS if is_urn(self.key) else namespace, content)
        return str(uuid.UUID(int=declaration.int & _DECLARATION | namespace.int & _STACK))

    def claim_name(self, claim_id: str) -> str:
        """The claim's name: the explicit one, or the resource's name and seven digits of the id."""
        return self.name or f"{claim_name_from(self.resource_name) or 'claim'}-{claim_id[:7]}"

    def made_elsewhere(self, claims: Iterable[CapacityClaim]) -> Iterator[CapacityClaim]:
        """The claims with the content of this declaration, a URN, that another namespace has made."""
        halves = {self.claim_id(attempt)[:_HALF] for attempt in range(LIKELY_ATTEMPTS)}
        for claim in claims:
            if claim.id[:_HALF] in halves and not is_made_by(self.namespace, claim.id):
                yield claim

    def has_made(self, claim: CapacityClaim) -> bool:
        """Whether a claim was created for this declaration, even if its content has changed since."""
        return self.as_made(claim) is not None

    def as_made(self, claim: CapacityClaim, *, anywhere: bool = False) -> Declaration | None:
        """This declaration with the content that it had when it made a claim; None if it did not.

        `anywhere`: if the key is a URN, also under another namespace.
        """
        namespace = _namespace_in(claim.id) if anywhere and is_urn(self.key) else self.namespace
        if namespace is None or not is_made_by(namespace, claim.id):
            return None
        made = Declaration(namespace, self.key, claim.resources, claim.name)
        if has_default_name(claim):
            made = replace(made, name=None)
            if claim.name != made.claim_name(claim.id):
                return None
        for resources in _declared_as(claim.resources):
            declared = replace(made, resources=resources)
            if any(declared.claim_id(attempt) == claim.id for attempt in range(LIKELY_ATTEMPTS)):
                return declared
        return None

    def is_content_of(self, claim: CapacityClaim) -> bool:
        """Whether a claim has this declaration's name and immutable content, perhaps as the API rewrites it.

        The count may differ.
        """
        mine, theirs = self.resources.to_wire(), claim.resources.to_wire()
        return claim.name == self.claim_name(claim.id) and differing(theirs, mine) <= {"instanceCount"}


def _declared_as(shown: CapacityClaimResources) -> Iterator[CapacityClaimResources]:
    """What a claim may have been declared as: an API may sort the zones and replace the capacity type."""
    orders = permutations(shown.zones) if len(shown.zones) <= _SORTED_ZONES else [shown.zones]
    for zones in orders:
        for capacity_type in dict.fromkeys((str(shown.capacity_type), MANAGED)):
            yield shown.model_copy(update={"zones": list(zones), "capacity_type": capacity_type})


def has_default_name(claim: CapacityClaim) -> bool:
    """Whether a claim's name ends like one that no program has declared."""
    return claim.name.endswith(f"-{claim.id[:7]}")


def _namespace_in(claim_id: str) -> str | None:
    """A namespace whose claims have ids like this one; None if it is no UUID."""
    try:
        return str(uuid.UUID(int=uuid.UUID(claim_id).int & _STACK))
    except ValueError:
        return None


def is_made_by(namespace: str, claim_id: str) -> bool:
    """Whether a claim's id was computed in the stack with this namespace."""
    try:
        return uuid.UUID(claim_id).int & _STACK == uuid.UUID(namespace).int & _STACK
    except ValueError:
        return False


def is_urn(key: str) -> bool:
    """Whether a key is a whole URN, as for the native resource."""
    return key.startswith("urn:")


def resource_name_of(key: str) -> str:
    """The name of the Pulumi resource a key belongs to."""
    return key.rpartition("::")[2]


def key_of(urn: str) -> str:
    """What identifies a declaration within its stack: the URN without stack and project.

    A URN reads `urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME`; the engine rejects duplicates.
    """
    return "::".join(urn.split("::", 3)[2:])
