"""Find the claims that people name, by id or by name."""

from __future__ import annotations

from collections.abc import Sequence

from coreweave_inference import CapacityClaim, Client, InvalidArgument, NotFound
from pulumi_coreweave_inference.catalogue import instead

from .console import EXIT_FINDINGS, CommandError


def find_claim(text: str, known: Sequence[CapacityClaim], client: Client) -> CapacityClaim:
    """The claim with this id or name. `known` are all claims that a list has shown.

    Raises `CommandError` if there is none, or if several have the name.
    """
    if found := claim_named(text, known, client):
        return found
    suggestion = instead(text, [claim.name for claim in known])
    raise CommandError(
        f"there is no claim with the id or name '{text}'{suggestion}",
        "  Next: run `capacity-claims list` to see the claims that exist",
        code=EXIT_FINDINGS,
    )


def claim_named(text: str, known: Sequence[CapacityClaim], client: Client) -> CapacityClaim | None:
    """As `find_claim`, but None if there is no such claim."""
    for claim in known:
        if claim.id == text:
            return claim
    named = [claim for claim in known if claim.name == text]
    if len(named) > 1:
        ids = ", ".join(claim.id for claim in named)
        raise CommandError(f"{len(named)} claims are named '{text}'; specify one of the ids: {ids}")
    return named[0] if named else get_claim(client, text)


def get_claim(client: Client, claim_id: str) -> CapacityClaim | None:
    """A claim by id, in case it is newer than the list."""
    try:
        return client.capacity_claims.get(claim_id)
    except (NotFound, InvalidArgument, UnicodeError):  # an argument need not be text
        return None
