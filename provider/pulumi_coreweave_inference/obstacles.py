"""The texts for what keeps a claim from being created or changed: who is in the way, and what to do.

create_failed       the API refused a create, or did not answer it
obstructed          the id or the name is in other hands
changed_elsewhere   somebody else has changed the claim
held_twice          two declarations hold one claim
foreign_token       the token is of another organization than the stack's claims
left_behind         a claim was created for a declaration that has another living one, it seems
left_alive          a stack is to end, and a claim that it has made lives
not_looked_through  a stack is to end, and the API does not tell which claims live
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import coreweave_inference as api
from coreweave_inference.errors import ApiError, CoreweaveError, Unavailable

from .errors import (
    ClaimError,
    api_failure,
    described,
    held_resources,
    labelled,
    lookup_failure,
    text,
)
from .identity import (
    Declaration,
    HeldByOther,
    NameTaken,
    OutOfAttempts,
    StillLeaving,
    Unreadable,
    resource_name_of,
)

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources


_NAMED: Final = 10  # claims that a text names, of more it says how many


def create_failed(declaration: Declaration, error: CoreweaveError) -> ClaimError:
    """The API refused a create, or did not answer it."""
    held = "nothing new"
    claim_id = error.claim_id if isinstance(error, ApiError) else None
    if isinstance(error, ApiError) and error.operation != "create":
        # Whatever else is asked comes after the API has said that the id is taken.
        held = (
            "the claim that has this id already, and that the state does not hold; the next `pulumi up` "
            "takes it over once the API lets it, `capacity-claims release` gives it back"
        )
    elif isinstance(error, Unavailable):
        held = (
            "nothing that is known of; if only the answer was lost, the next `pulumi up` takes that "
            "claim over and makes no second one, as long as the declaration stays as it is"
        )
    return api_failure("creating", declaration.resource_name, claim_id, error, held=f"{held}.")


def obstructed(
    declaration: Declaration,
    obstacle: NameTaken | HeldByOther | Unreadable | StillLeaving | OutOfAttempts,
) -> ClaimError:
    """The id or the name that a create needs is in other hands, or not free yet."""
    resource_name = declaration.resource_name
    if isinstance(obstacle, NameTaken):
        holder = obstacle.holder
        return ClaimError(
            text(
                f"creating {labelled(resource_name, None)} failed: the name '{obstacle.name}' is taken.",
                said=[f"it belongs to the claim {holder.id} ({held_resources(holder)})"],
                held="nothing new.",
                then=[
                    "leave `name` out, then each claim gets a name of its own, or choose another one",
                    "where that claim is the one being replaced: "
                    "ResourceOptions(delete_before_replace=True) releases it first",
                ],
            )
        )
    if isinstance(obstacle, HeldByOther):
        claim = obstacle.claim
        zones = ", ".join(claim.resources.zones)
        return ClaimError(
            text(
                f"creating {labelled(resource_name, claim.id)} failed: a claim with this id exists and is "
                "not what is declared.",
                said=[f"it is named '{claim.name}': {held_resources(claim)}, zones {zones}"],
                held="that claim, untouched.",
                then=[
                    "if it belongs to this stack and was changed by somebody, run `pulumi up --refresh`, "
                    "which makes a new claim and then releases this one",
                    "if the stack's state was copied into another stack, both now compute the same ids: "
                    "remove the claims from one of them with `pulumi state delete`",
                ],
            )
        )
    if isinstance(obstacle, Unreadable):
        claim = obstacle.claim
        return ClaimError(
            text(
                f"creating {labelled(resource_name, claim.id)} failed: a claim with this id exists, and the "
                "API does not answer for it.",
                said=[f"the list of claims has it as '{claim.name}': {held_resources(claim)}"],
                held="that claim, if the list is right; nothing new.",
                then=["wait a minute and run `pulumi up` again: it takes the claim over, or makes a new one "
                      "once the list no longer has it"],
            )
        )  # fmt: skip
    if isinstance(obstacle, StillLeaving):
        claim = obstacle.claim
        return ClaimError(
            text(
                f"creating {labelled(resource_name, claim.id)} has to wait: the claim that had this id is "
                "still being deleted.",
                said=[f"the API holds it as {held_resources(claim)}"],
                held="nothing new.",
                then=["run `pulumi up` again to go on waiting (coreweave:deleteTimeout is for how long)"],
            )
        )
    return ClaimError(
        text(
            f"creating {labelled(resource_name, None)} failed: the API refused {obstacle.attempts} ids.",
            said=[str(obstacle.last)] if obstacle.last else [],
            held="nothing new.",
            then=["rename the resource: a declaration with another name gets other ids"],
        )
    )


def changed_elsewhere(
    resource_name: str, claim: CapacityClaim, last_seen: Mapping[str, Any], declared: CapacityClaimResources
) -> ClaimError:
    """The claim is neither what the state last saw nor what is declared, and is left as it is."""
    before = api.CapacityClaimResources.model_validate(last_seen)
    return ClaimError(
        text(
            f"{labelled(resource_name, claim.id)} was changed by somebody else, or by an update that was cut "
            "off, since the state was written, and "
            "is left as it is.",
            said=[
                f"the state last saw: {described(before)}",
                f"the API holds now:  {described(claim.resources)}",
                f"declared is:        {described(declared)}",
            ],
            held=f"{held_resources(claim)}.",
            then=[
                "run `pulumi refresh` to take note of the change, then `pulumi up` to decide about it",
                "or set coreweave:overwrite to true to have what is declared written over it",
            ],
        )
    )


def without_effect(resource_name: str, claim: CapacityClaim, declared: CapacityClaimResources) -> ClaimError:
    """The API has answered a change as if it were made, and shows the claim without it."""
    return ClaimError(
        text(
            f"changing {labelled(resource_name, claim.id)} had no effect, though the API did not refuse it.",
            said=[f"the API holds: {described(claim.resources)}", f"declared is:   {described(declared)}"],
            held=f"{held_resources(claim)}.",
            then=[
                "if coreweave:patchableFields names the field, take it out, so that a change of it replaces "
                "the claim",
                "or run `pulumi refresh`, then `pulumi up` to try the change again",
            ],
        )
    )


def foreign_token(
    doing: str, resource_name: str, claim_id: str | None, made_in: str, shown: str
) -> ClaimError:
    """The token is of another organization than a claim of the stack.

    `claim_id`: the claim that the API therefore does not know; None where a claim would be created.
    """
    of_the_claim = (
        f"the claim was made in the organization {made_in}; this token shows claims of {shown}, and that it "
        "does not know this one says nothing"
    )
    of_the_stack = f"the stack's claims are of the organization {made_in}; this token shows claims of {shown}"
    return ClaimError(
        text(
            f"{doing} {labelled(resource_name, claim_id)} failed: the token is of another organization.",
            said=[of_the_claim if claim_id else of_the_stack],
            held="the claim, as far as is known; it stays in the state." if claim_id else "nothing new.",
            then=[
                f"use a token of the organization {made_in} (COREWEAVE_API_TOKEN comes before the stack's "
                "coreweave:token)"
            ],
        )
    )


def held_twice(claim_id: str, one: str | None, other: str | None) -> ClaimError:
    """The state names one claim for two declarations, given by their keys."""
    first, second = resource_name_of(one or "unnamed"), resource_name_of(other or "unnamed")
    return ClaimError(
        text(
            f"{labelled(first, claim_id)} is held by the resource '{second}', too.",
            said=["this happens when a resource was renamed and a new claim is declared with the old name"],
            held=f"the claim, untouched; the state names it for '{first}' and for '{second}'.",
            then=[
                "remove the new one of the two from the state only, with `pulumi state delete URN`, and "
                "declare it with depends_on the renamed one, or with a name that no claim has had",
            ],
        )
    )


def left_behind(declaration: Declaration, claim: CapacityClaim) -> str:
    """A claim that was made for a declaration lives, beside the one that the declaration has just got."""
    return text(
        f"another claim that was made for {labelled(declaration.resource_name, None)} is alive.",
        said=[f"{claim.name} (id {claim.id}): {held_resources(claim)}"],
        held="that claim, too. If it is the one being replaced, this update releases it at its end; else a "
        "creation that was cut off has left it.",
        then=[
            f"after this update run `capacity-claims release --all-stacks {claim.id}`, which refuses "
            "where a stack holds the claim",
            "or, where somebody needs it (retained, moved to another stack): COREWEAVE_ORPHANS=leave",
        ],
    )


def left_alive(claims: Sequence[CapacityClaim]) -> ClaimError:
    """A stack is to end, and claims that it has made live, which its state does not hold."""
    one = len(claims) == 1
    ids = " ".join(claim.id for claim in claims[:_NAMED])
    more = [f"and {len(claims) - _NAMED} more"] if len(claims) > _NAMED else []
    return ClaimError(
        text(
            f"the claim namespace is kept: {len(claims)} capacity claim{'s' * (not one)} of this stack "
            f"{'is' if one else 'are'} alive that {'its' if one else 'the'} state does not hold.",
            said=[
                *(f"{claim.name} (id {claim.id}): {held_resources(claim)}" for claim in claims[:_NAMED]),
                *more,
            ],
            held=f"{'that claim' if one else 'all of them'}; a creation that was cut off leaves one.",
            then=[
                f"release {'it' if one else 'them'} with `capacity-claims release --all-stacks {ids}`, and "
                "run the same command again",
                "or, where somebody needs them (retained, moved to another stack), leave them alive: "
                "COREWEAVE_ORPHANS=leave",
            ],
        )
    )


def not_looked_through(error: CoreweaveError) -> ClaimError:
    """A stack is to end, and the API does not tell whether claims that it has made live."""
    failure = lookup_failure("looking for claims of this stack that its state does not hold", error)
    return ClaimError(
        f"{failure}\n        or set COREWEAVE_ORPHANS=leave to let the stack end without having looked"
    )
