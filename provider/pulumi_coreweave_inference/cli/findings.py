"""What does not match between the claims at the API and the stacks that manage them.

Pure functions. A claim is unmanaged when no state has it, managed twice when two entries have it, and gone
when a state counts on it and the API no longer has it, or is deleting it.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coreweave_inference import CapacityClaim, ClaimState
from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.declaration import claim_name_from
from pulumi_coreweave_inference.identity import Declaration, resource_name_of

from .adoption import own_name
from .stacks import Entry, StackState

_ATTEMPTS: Final = 8  # more of them are possible and hardly ever needed


@dataclass(frozen=True)
class Origin:
    """The declaration a claim's id was computed from, and the stack whose namespace it was computed with."""

    stack: str
    resource_name: str
    cut_off: bool = False


@dataclass(frozen=True)
class Unmanaged:
    """A living claim that no state has, with its origin where one of the states still tells it."""

    claim: CapacityClaim
    origin: Origin | None = None


@dataclass(frozen=True)
class ManagedTwice:
    """A claim id that several entries have; None for `claim` when it is gone as well."""

    claim_id: str
    claim: CapacityClaim | None
    entries: tuple[Entry, ...]

    @property
    def settles_itself(self) -> bool:
        """Whether all entries but one wait for their deletion in one stack, as an unfinished replacement
        leaves them: the next `pulumi up` of the stack keeps the claim and removes the old entry."""
        living = [entry for entry in self.entries if not entry.waits_for_deletion]
        return len({entry.stack for entry in self.entries}) == 1 and len(living) <= 1


@dataclass(frozen=True)
class Gone:
    """An entry whose claim the API no longer has; or has, as one that is being deleted."""

    entry: Entry
    claim: CapacityClaim | None = None


@dataclass(frozen=True)
class Findings:
    """All that does not match."""

    unmanaged: tuple[Unmanaged, ...] = ()
    managed_twice: tuple[ManagedTwice, ...] = ()
    gone: tuple[Gone, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.unmanaged or self.managed_twice or self.gone)


def compare(claims: Iterable[CapacityClaim], stacks: Sequence[StackState]) -> Findings:
    """Compare the claims at the API with the states of stacks."""
    known = {claim.id: claim for claim in claims}
    held: dict[str, list[Entry]] = defaultdict(list)
    for stack in stacks:
        for entry in stack.entries:
            held[entry.claim_id].append(entry)
    origins = Origins(stacks)
    unmanaged = (
        Unmanaged(claim, origins.of(claim))
        for claim in known.values()
        if claim.id not in held and claim.state != ClaimState.DELETING
    )
    twice = (
        ManagedTwice(claim_id, known.get(claim_id), tuple(entries))
        for claim_id, entries in held.items()
        if len(entries) > 1
    )
    gone = (
        Gone(entry, known.get(entry.claim_id))
        for entries in held.values()
        for entry in entries
        if not entry.waits_for_deletion and _is_gone(known.get(entry.claim_id))
    )
    return Findings(tuple(unmanaged), tuple(twice), tuple(gone))


class Origins:
    """Finds the declaration that a claim's id comes from, where a stack has the namespace and the key."""

    def __init__(self, stacks: Iterable[StackState]) -> None:
        self._stacks = [(stack, stack.namespace, _keys(stack)) for stack in stacks]

    def of(self, claim: CapacityClaim) -> Origin | None:
        """The origin of a claim; None where none of the stacks tells it."""
        if not _is_computed(claim.id):
            return None
        name = own_name(claim)
        declared_name = claim.name if name is None else None
        for stack, namespace, keys in self._stacks:
            if namespace is None:
                continue
            likely = {f"{TYPE}::{name or claim.name}"} | keys[name or claim.name] | keys[None]
            for key in sorted(likely):
                declaration = Declaration(namespace, key, claim.resources, declared_name)
                if any(declaration.claim_id(attempt) == claim.id for attempt in range(_ATTEMPTS)):
                    return Origin(stack.stack, declaration.resource_name, key in stack.cut_off)
        return None


def _keys(stack: StackState) -> Mapping[str | None, set[str]]:
    """The declarations of a stack by the names that their claims may have; None: any name."""
    keys: dict[str | None, set[str]] = defaultdict(set)
    keys[None].update(stack.cut_off)
    for entry in stack.entries:
        keys[claim_name_from(resource_name_of(entry.key)) or "claim"].add(entry.key)
        keys[entry.name or ""].add(entry.key)
    return keys


def _is_computed(claim_id: str) -> bool:
    try:
        return uuid.UUID(claim_id).version == 5
    except ValueError:
        return False


def _is_gone(claim: CapacityClaim | None) -> bool:
    return claim is None or claim.state == ClaimState.DELETING
