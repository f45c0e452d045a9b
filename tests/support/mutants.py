"""Deliberate bugs in the provider: a test suite that does not find them proves nothing."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final
from unittest import mock

from coreweave_inference import CapacityClaim, FailedPrecondition, NotFound
from pulumi_coreweave_inference import create, delete_guard, identity, operation, orphans, provider
from pulumi_coreweave_inference.create import Found

Mutant = Callable[[], AbstractContextManager[object]]


@contextmanager
def random_ids() -> Iterator[None]:
    """A claim's id is drawn, not derived."""
    drawn = random.Random(7)

    def claim_id(self: identity.Declaration, attempt: int) -> str:
        return str(uuid.UUID(int=drawn.getrandbits(128), version=4))

    with mock.patch.object(identity.Declaration, "claim_id", claim_id):
        yield


@contextmanager
def one_id_only() -> Iterator[None]:
    """The attempt does not enter the derivation."""
    derived = identity.Declaration.claim_id
    with mock.patch.object(identity.Declaration, "claim_id", lambda self, attempt: derived(self, 0)):
        yield


@contextmanager
def no_delete_guard() -> Iterator[None]:
    """Every delete releases the claim, whoever holds it now."""
    with mock.patch.object(delete_guard.DeleteGuard, "is_superseded", return_value=False):
        yield


@contextmanager
def no_adoption() -> Iterator[None]:
    """`already_exists` leads to the next attempt."""
    with mock.patch.object(create.Creation, "_find", return_value=None):
        yield


@contextmanager
def hasty_404() -> Iterator[None]:
    """A claim that exists and is not found counts as an id that cannot be reused, at once."""

    def find(creation: create.Creation, claim_id: str) -> CapacityClaim | None:
        try:
            return creation._claims.get(claim_id)
        except NotFound:
            return None

    with mock.patch.object(create.Creation, "_find", find):
        yield


@contextmanager
def trusting_reads() -> Iterator[None]:
    """A claim that reads alive is adopted without a write that confirms it."""

    def adopt(creation: create.Creation, claim: CapacityClaim) -> create.Created:
        return create.Created(creation._claims.get(claim.id), adopted=True)

    with mock.patch.object(create.Creation, "_adopt", adopt):
        yield


@contextmanager
def forgetful() -> Iterator[None]:
    """A stack ends without a look for orphans."""
    with mock.patch.object(orphans, "find_orphans", return_value=[]):
        yield


@contextmanager
def secretive() -> Iterator[None]:
    """No warning names a living claim next to the one just created."""
    with mock.patch.object(operation, "claims_of_stack", return_value=[]):
        yield


@contextmanager
def greedy() -> Iterator[None]:
    """A claim that exists is taken over and scaled, whoever holds it."""
    guard = delete_guard.DeleteGuard
    with (
        mock.patch.object(guard, "is_declared_by", return_value=True),
        mock.patch.object(guard, "refuse_held"),
    ):
        yield


@contextmanager
def persevering() -> Iterator[None]:
    """A claim that has failed is taken over again while it holds instances."""
    judged = create.judge

    def judge(claim: CapacityClaim, declaration: identity.Declaration, *, is_replaced: bool) -> Found:
        existing = judged(claim, declaration, is_replaced=is_replaced)
        return Found.SAME if existing is Found.FAILED_WITH_INSTANCES else existing

    with mock.patch.object(create, "judge", judge):
        yield


@contextmanager
def credulous() -> Iterator[None]:
    """A 404 to DELETE counts: the claim is gone."""
    with mock.patch.object(provider, "_found_within", return_value=None):
        yield


@contextmanager
def obedient() -> Iterator[None]:
    """A PATCH that is refused as invalid ends a create, whatever the claim is."""
    with mock.patch.object(create, "InvalidArgument", FailedPrecondition):
        yield


@contextmanager
def unsure() -> Iterator[None]:
    """The state keeps what the API returned, not what was declared."""
    with mock.patch.object(provider, "as_declared", lambda returned, declared, rewritten: dict(returned)):
        yield


@contextmanager
def literal() -> Iterator[None]:
    """A claim in another form than was declared is somebody else's."""

    def differing(returned: Mapping[str, object], declared: Mapping[str, object]) -> set[str]:
        return {name for name in declared if returned.get(name) != declared[name]}

    with mock.patch.object(identity, "differing", differing):
        yield


MUTANTS: Final[dict[str, Mutant]] = {
    mutant.__name__: mutant
    for mutant in (
        random_ids,
        one_id_only,
        no_delete_guard,
        no_adoption,
        hasty_404,
        trusting_reads,
        forgetful,
        secretive,
        greedy,
        persevering,
        credulous,
        obedient,
        unsure,
        literal,
    )
}
