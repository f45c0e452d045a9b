"""Look up claims that this program does not manage, by id or name, and what the API offers.

Each function has an `_output` form that takes and returns outputs. Lookups only read, in previews too. Under
`pulumi.runtime.set_mocks` they ask the mocks (`Mocks.call`) instead of the API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

import pulumi

import coreweave_inference as api
from coreweave_inference.errors import CoreweaveError, NotFound

from . import mocks
from .capacity_claim import CapacityClaimCondition, CapacityClaimResources
from .errors import ClaimError, lookup_failure, text
from .secrecy import Secrets, are_secret, unless_secret, without_values
from .settings import program_settings

T = TypeVar("T")

GET_CLAIM: Final = "coreweave:index:getCapacityClaim"
GET_CLAIMS: Final = "coreweave:index:getCapacityClaims"
GET_PARAMETERS: Final = "coreweave:index:getCapacityClaimParameters"


@pulumi.output_type
class GetCapacityClaimResult(dict[str, Any]):
    """A claim as the API held it at the time of the lookup."""

    id: str = pulumi.property("id")
    """The claim's id, a UUID."""
    name: str = pulumi.property("name")
    """The claim's name at the API."""
    organization_id: str = pulumi.property("organizationId")
    """The organization that holds it."""
    resources: CapacityClaimResources = pulumi.property("resources")
    """What is reserved, and where."""
    status: str = pulumi.property("status")
    """Its state, such as `STATUS_READY`."""
    allocated_instances: int = pulumi.property("allocatedInstances")
    """How many instances are allocated."""
    pending_instances: int = pulumi.property("pendingInstances")
    """How many instances are still pending."""
    conditions: Sequence[CapacityClaimCondition] = pulumi.property("conditions")
    """The claim's conditions, zone by zone."""
    created_at: str | None = pulumi.property("createdAt")
    """When it was created, in RFC 3339."""
    updated_at: str | None = pulumi.property("updatedAt")
    """When it was last changed, in RFC 3339."""


def get_capacity_claim(*, id: str | None = None, name: str | None = None) -> GetCapacityClaimResult:
    """Look up a claim by its id or by its name; pass exactly one of them.

    Raises `ClaimError` if the claim does not exist, if several have the name (it lists them), and if the API
    does not respond.
    """
    return _claim(id, name, ())


def get_capacity_claim_output(
    *, id: pulumi.Input[str] | None = None, name: pulumi.Input[str] | None = None
) -> pulumi.Output[GetCapacityClaimResult]:
    """`get_capacity_claim` with inputs that may be outputs of other resources.

    If they are secret, no error shows them.
    """
    return pulumi.Output.all(id=id, name=name, secrets=are_secret(id=id, name=name)).apply(
        lambda given: _later(lambda: _claim(given["id"], given["name"], given["secrets"]))
    )


def get_capacity_claims(*, updated_after: str | None = None) -> list[GetCapacityClaimResult]:
    """Look up all claims of the organization.

    `updated_after`: only claims that changed after this time, in RFC 3339. Raises `ClaimError` if the
    API does not respond.
    """
    mocked = mocks.call(GET_CLAIMS, {"updatedAfter": updated_after})
    if mocked is not None:
        return [_result(mocks.looked_up(claim)) for claim in mocked.get("claims", [])]
    claims = _ask("looking up capacity claims", lambda c: c.capacity_claims.list(updated_after=updated_after))
    return [_result(claim) for claim in claims]


def get_capacity_claims_output(
    *, updated_after: pulumi.Input[str] | None = None
) -> pulumi.Output[list[GetCapacityClaimResult]]:
    """`get_capacity_claims` with an input that may be an output of another resource."""
    return pulumi.Output.all(after=updated_after).apply(
        lambda given: _later(lambda: get_capacity_claims(updated_after=given["after"]))
    )


def get_capacity_claim_parameters() -> dict[str, list[str]]:
    """Look up which instance types each zone offers now: `{"US-WEST-04A": ["gb200-4x"]}`.

    Raises `ClaimError` if the API does not respond.
    """
    mocked = mocks.call(GET_PARAMETERS, {})
    if mocked is not None:
        return {str(zone): list(ids) for zone, ids in mocked.items()}
    offered: api.CapacityClaimParameters = _ask(
        "looking up what the API offers", lambda c: c.capacity_claims.parameters()
    )
    return {zone: list(ids) for zone, ids in offered.zone_instance_types.items()}


def get_capacity_claim_parameters_output() -> pulumi.Output[dict[str, list[str]]]:
    """`get_capacity_claim_parameters` as an output."""
    return pulumi.Output.from_input(_later(get_capacity_claim_parameters))


def _claim(id: str | None, name: str | None, secrets: Secrets) -> GetCapacityClaimResult:
    if (id is None) == (name is None):
        raise ClaimError("get_capacity_claim takes either id= or name=")
    mocked = mocks.call(GET_CLAIM, {"id": id, "name": name})
    if mocked is not None:
        return _result(mocks.looked_up(mocked))
    given, by = (id, "id") if id is not None else (str(name), "name")
    shown = unless_secret(given, by, secrets)
    hidden = [given] if by in secrets else []
    if by == "id":
        return _result(
            _ask(
                f"looking up the capacity claim {shown}",
                lambda c: by_id(c.capacity_claims, given, shown),
                hidden,
            )
        )
    doing = f"looking up the capacity claim named '{shown}'"
    named = _ask(doing, lambda c: c.capacity_claims.list(), hidden)
    return _result(only([claim for claim in named if claim.name == given], shown))


def by_id(claims: api.CapacityClaims, claim_id: str, shown: str) -> api.CapacityClaim:
    """The claim with an id. Raises `ClaimError` if there is none, with the id as it may be shown."""
    try:
        return claims.get(claim_id)
    except NotFound:
        raise ClaimError(
            text(
                f"there is no capacity claim with the id {shown}.",
                then=["run `capacity-claims list` to see the claims that exist"],
            )
        ) from None


def only(found: list[api.CapacityClaim], name: str) -> api.CapacityClaim:
    """The only claim with a name. Raises `ClaimError` if there is none, or more than one."""
    if len(found) == 1:
        return found[0]
    if not found:
        raise ClaimError(
            text(
                f"there is no capacity claim named '{name}'.",
                then=["run `capacity-claims list` to see the claims that exist"],
            )
        )
    raise ClaimError(
        text(
            f"there are {len(found)} capacity claims named '{name}'.",
            said=[
                f"{claim.id}, created {claim.status.created_at or 'at an unknown time'}" for claim in found
            ],
            then=["look up the claim by its id"],
        )
    )


def _ask(doing: str, call: Callable[[api.Client], T], hidden: Collection[str] = ()) -> T:
    try:
        with program_settings().client() as client:
            return call(client)
    except CoreweaveError as error:
        raise lookup_failure(doing, without_values(error, hidden)) from None


def _result(claim: api.CapacityClaim) -> GetCapacityClaimResult:
    resources, status = claim.resources, claim.status
    return GetCapacityClaimResult(
        id=claim.id,
        name=claim.name,
        organization_id=claim.spec.organization_id,
        resources=CapacityClaimResources(
            instance_id=resources.instance_id,
            instance_count=resources.instance_count,
            zones=list(resources.zones),
            capacity_type=str(resources.capacity_type),
        ),
        status=str(status.status),
        allocated_instances=status.allocated_instances,
        pending_instances=status.pending_instances,
        conditions=CapacityClaimCondition.of(claim),
        created_at=status.created_at,
        updated_at=status.updated_at,
    )


async def _later(call: Callable[[], T]) -> T:
    """Run a blocking lookup without blocking the program's event loop."""
    return await asyncio.to_thread(call)
