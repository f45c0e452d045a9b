"""Compare the claims at the API with the states of the stacks that manage them.

Pure functions. A claim is unmanaged if no state has it, managed twice if two entries have it, and gone if a
state relies on it and the API does not have it or is deleting it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coreweave_inference import CapacityClaim, ClaimState
from pulumi_coreweave_inference.identity import Declaration, is_made_by, is_urn, resource_name_of
from pulumi_coreweave_inference.inputs import claim_name_from

from .import_file import generated_from
from .pulumi_state import Entry, StackState
from .tokens import DYNAMIC, NATIVE


@dataclass(frozen=True)
class Origin:
    """The stack that created a claim, and the resource if it is known.

    `interrupted` means that the state still lists the create as pending.
    """

    stack: str
    resource_name: str | None
    interrupted: bool = False


@dataclass(frozen=True)
class Unmanaged:
    """A claim that no state has, with its origin if one of the stacks created it."""

    claim: CapacityClaim
    origin: Origin | None = None


@dataclass(frozen=True)
class ManagedTwice:
    """A claim id that several entries have. `claim` is None if it is gone as well."""

    claim_id: str
    claim: CapacityClaim | None
    entries: tuple[Entry, ...]

    @property
    def resolves_itself(self) -> bool:
        """Whether the next `pulumi up` keeps the claim and removes the other entries.

        It does after an unfinished replacement: all entries are of one resource type in one stack, and all
        but one wait for their deletion. The provider of one type does not know the entries of the other.
        """
        active = [entry for entry in self.entries if not entry.pending_deletion]
        return len({(entry.stack, entry.native) for entry in self.entries}) == 1 and len(active) <= 1


@dataclass(frozen=True)
class Gone:
    """An entry whose claim the API does not have, or is deleting: then `claim` is that claim."""

    entry: Entry
    claim: CapacityClaim | None = None


@dataclass(frozen=True)
class Mismatches:
    """Every difference between the API and the states; false if there is none."""

    unmanaged: tuple[Unmanaged, ...] = ()
    managed_twice: tuple[ManagedTwice, ...] = ()
    gone: tuple[Gone, ...] = ()
    unseen: tuple[Entry, ...] = ()
    """Entries whose claims belong to another organization, which the token does not show; no difference."""

    def __bool__(self) -> bool:
        return bool(self.unmanaged or self.managed_twice or self.gone)


def reconcile(claims: Iterable[CapacityClaim], stacks: Sequence[StackState]) -> Mismatches:
    """Compare the claims at the API with the states of the stacks."""
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
    organizations = {claim.spec.organization_id for claim in known.values()} - {""}
    unseen: list[Entry] = []
    shown: list[Entry] = []
    for entry in itertools.chain.from_iterable(held.values()):
        is_unseen = organizations and entry.organization and entry.organization not in organizations
        (unseen if is_unseen else shown).append(entry)
    gone = (
        Gone(entry, known.get(entry.claim_id))
        for entry in shown
        if not entry.pending_deletion and _is_gone(known.get(entry.claim_id))
    )
    return Mismatches(tuple(unmanaged), tuple(twice), tuple(gone), tuple(unseen))


class Origins:
    """Finds the stack and the resource that a claim's id was computed from."""

    def __init__(self, stacks: Iterable[StackState]) -> None:
        self._stacks = [(stack, _keys_by_name(stack)) for stack in stacks]

    def of(self, claim: CapacityClaim) -> Origin | None:
        """The origin of a claim; None if none of the stacks created it."""
        in_stack = None
        for stack, keys in self._stacks:
            namespaces = [each for each in stack.namespaces if is_made_by(each, claim.id)]
            for key in _keys_of(claim, stack, keys):
                # The first half of a native claim's id does not depend on the namespace, which may be that of
                # a provider that has been replaced. The second half of the id stands for it.
                for namespace in [claim.id] if is_urn(key) else namespaces:
                    if Declaration(namespace, key, claim.resources).has_made(claim):
                        return Origin(stack.stack, resource_name_of(key), key in stack.interrupted)
            if namespaces and in_stack is None:
                in_stack = Origin(stack.stack, None)
        return in_stack


def _keys_of(claim: CapacityClaim, stack: StackState, keys: Mapping[str | None, set[str]]) -> list[str]:
    """The keys that a claim may have been created for, as far as its name and the state tell."""
    name = generated_from(claim) or claim.name
    guessed = {f"{DYNAMIC}::{name}"}
    if stack.native_prefix:
        guessed.add(f"{stack.native_prefix}::{NATIVE}::{name}")
    return sorted(guessed | keys[name] | keys[None])


def _keys_by_name(stack: StackState) -> Mapping[str | None, set[str]]:
    """The keys of a stack's declarations by the names that their claims may have; None is any name.

    A name that is a secret may be any name.
    """
    keys: dict[str | None, set[str]] = defaultdict(set)
    keys[None].update(stack.interrupted)
    for entry in stack.entries:
        keys[claim_name_from(resource_name_of(entry.key)) or "claim"].add(entry.key)
        keys[entry.name].add(entry.key)
    return keys


def _is_gone(claim: CapacityClaim | None) -> bool:
    return claim is None or claim.state == ClaimState.DELETING
