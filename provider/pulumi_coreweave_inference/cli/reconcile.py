"""What does not match between the claims at the API and the stacks that manage them.

Pure functions. A claim is unmanaged when no state has it, managed twice when two entries have it, and gone
when a state counts on it and the API no longer has it, or is deleting it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coreweave_inference import CapacityClaim, ClaimState
from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.identity import Declaration, is_made_by, resource_name_of
from pulumi_coreweave_inference.inputs import claim_name_from

from .import_file import own_name
from .pulumi_state import Entry, StackState


@dataclass(frozen=True)
class Origin:
    """The stack whose namespace a claim's id was computed with, and the declaration it was computed from,
    where its key is known."""

    stack: str
    resource_name: str | None
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
    """Finds the stack that a claim's id comes from, and the declaration where the stack has its key."""

    def __init__(self, stacks: Iterable[StackState]) -> None:
        self._stacks = [(stack, stack.namespace, _keys(stack)) for stack in stacks]

    def of(self, claim: CapacityClaim) -> Origin | None:
        """The origin of a claim; None where none of the stacks has made it."""
        name = own_name(claim)
        for stack, namespace, keys in self._stacks:
            if namespace is None or not is_made_by(namespace, claim.id):
                continue
            likely = {f"{TYPE}::{name or claim.name}"} | keys[name or claim.name] | keys[None]
            for key in sorted(likely):
                declaration = Declaration(namespace, key, claim.resources)
                if declaration.has_made(claim):
                    return Origin(stack.stack, declaration.resource_name, key in stack.cut_off)
            return Origin(stack.stack, None)
        return None


def _keys(stack: StackState) -> Mapping[str | None, set[str]]:
    """The declarations of a stack by the names that their claims may have; None: any name."""
    keys: dict[str | None, set[str]] = defaultdict(set)
    keys[None].update(stack.cut_off)
    for entry in stack.entries:
        keys[claim_name_from(resource_name_of(entry.key)) or "claim"].add(entry.key)
        keys[entry.name or ""].add(entry.key)
    return keys


def _is_gone(claim: CapacityClaim | None) -> bool:
    return claim is None or claim.state == ClaimState.DELETING
