"""Every public name, used as a program uses it. It is type-checked, and never run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pulumi

import coreweave_inference as api
import pulumi_coreweave_inference as inference

# -- a Pulumi program ----------------------------------------------------------------------------


def on_progress(progress: inference.Progress) -> None:
    known: tuple[int | None, bool] = (
        progress.allocated,
        progress.outcome in ("ready", "timed_out", "failed"),
    )
    assert known


count: pulumi.Output[int] = pulumi.Output.from_input(4)
arguments = inference.CapacityClaimResourcesArgs(
    instance_id="gb200-4x", instance_count=count, zones=["RNO2A"], capacity_type="CAPACITY_TYPE_MANAGED"
)
claim = inference.CapacityClaim(
    "training",
    pulumi.ResourceOptions(protect=True),
    resources=arguments,
    name="training",
    readiness=inference.Readiness(
        timeout=timedelta(minutes=5), min_instances=1, on_timeout="warn", on_progress=on_progress
    ),
)
as_dict: inference.CapacityClaimResourcesArgsDict = {
    "instance_id": "gb200-4x",
    "instance_count": pulumi.Output.from_input(4),
    "zones": ["US-WEST-04A"],
}
inference.CapacityClaim("dict", resources=as_dict, readiness=None)
inference.CapacityClaim("bogus", resources={"bogus": 1})  # type: ignore[arg-type]
inference.CapacityClaim("part", resources={"instance_id": "x"})  # type: ignore[arg-type]
found: inference.CapacityClaim = inference.CapacityClaim.get("found", "0f0e0d0c-0000-4000-8000-000000000000")
id_: pulumi.Output[str] = claim.id
name: pulumi.Output[str] = claim.name
resources: pulumi.Output[inference.CapacityClaimResources] = claim.resources
organization: pulumi.Output[str] = claim.organization_id
created: pulumi.Output[str] = claim.created_at
status: pulumi.Output[str] = claim.status
allocated: pulumi.Output[int] = claim.allocated_instances
pending: pulumi.Output[int] = claim.pending_instances
conditions: pulumi.Output[Sequence[inference.CapacityClaimCondition]] = claim.conditions
updated: pulumi.Output[str] = claim.updated_at
ready: pulumi.Output[inference.CapacityClaim] = claim.ready
zones: pulumi.Output[Sequence[str]] = claim.resources.apply(lambda held: held.zones)

one: inference.GetCapacityClaimResult = inference.get_capacity_claim(name="training")
later: pulumi.Output[inference.GetCapacityClaimResult] = inference.get_capacity_claim_output(id=claim.id)
every: list[inference.GetCapacityClaimResult] = inference.get_capacity_claims(
    updated_after="2026-01-01T00:00:00Z"
)
every_later: pulumi.Output[list[inference.GetCapacityClaimResult]] = inference.get_capacity_claims_output()
offered: dict[str, list[str]] = inference.get_capacity_claim_parameters()
offered_later: pulumi.Output[dict[str, list[str]]] = inference.get_capacity_claim_parameters_output()

namespace: type[inference.ClaimNamespace] = inference.ClaimNamespace
providers = (inference.CapacityClaimProvider, inference.ClaimNamespaceProvider)
version: str = inference.__version__ + api.__version__
try:
    inference.Readiness(timeout="soon")
except inference.InvalidReadiness as error:
    problem: inference.ClaimError = error
except inference.InvalidSetting as error:
    source: str = error.source

# -- the client ----------------------------------------------------------------------------------

policy = api.RetryPolicy(deadline=30)
wanted = api.CapacityClaimResources(
    instance_id="gb200-4x", instance_count=4, zones=("RNO2A",), capacity_type=api.CapacityType.MANAGED
)
with api.Client(api.TokenFile("token"), retry=policy, timeout=5) as client:
    operations: api.CapacityClaims = client.capacity_claims
    held: api.CapacityClaim = operations.create("training", wanted, id="0f0e0d0c-0000-4000-8000-000000000000")
    held = operations.update(held.id, {"instance_count": 5}, retry=policy)
    last: api.CapacityClaim | None = operations.delete(held.id)
    listed: list[api.CapacityClaim] = operations.list()
    parameters: api.CapacityClaimParameters = operations.parameters()
    spec: api.CapacityClaimSpec = held.spec
    live: api.CapacityClaimStatus = held.status
    state: api.ClaimState = held.state
    condition: api.Condition = live.conditions[0]
    truth: api.ConditionStatus = condition.status
    moment: datetime | None = api.parse_timestamp(live.created_at)


async def awaited() -> api.CapacityClaim:
    async with api.AsyncClient() as client:
        operations: api.AsyncCapacityClaims = client.capacity_claims
        return await operations.get("0f0e0d0c-0000-4000-8000-000000000000")


requests: tuple[type[api.CreateCapacityClaimRequest], type[api.UpdateCapacityClaimRequest]] = (
    api.CreateCapacityClaimRequest,
    api.UpdateCapacityClaimRequest,
)
exceptions: list[type[api.CoreweaveError]] = [
    api.Aborted,
    api.AlreadyExists,
    api.ApiError,
    api.BrokenAnswer,
    api.Canceled,
    api.ConnectionFailed,
    api.DataLoss,
    api.DeadlineExceeded,
    api.FailedPrecondition,
    api.Internal,
    api.InvalidArgument,
    api.InvalidEndpoint,
    api.InvalidSetting,
    api.InvalidToken,
    api.MissingToken,
    api.NotFound,
    api.OutOfRange,
    api.PermissionDenied,
    api.ProxyFailed,
    api.RequestTimedOut,
    api.ResourceExhausted,
    api.Unauthenticated,
    api.Unavailable,
    api.Unimplemented,
    api.UnknownCode,
    api.UntrustedCertificate,
    api.WrongEndpoint,
]


def details(error: api.ApiError) -> tuple[str, tuple[api.FieldViolation, ...], int, float | None]:
    return error.code, error.violations, error.attempts, error.retry_after
