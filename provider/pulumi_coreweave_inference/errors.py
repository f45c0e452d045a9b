"""The errors a person sees: what failed on which claim, what is still held, what to do next.

    ClaimError                  a text for people; shown without a traceback
    ├── InvalidSetting          a variable or config key that cannot be understood
    └── InvalidReadiness        a `Readiness` that can never be met

A text has up to four parts: one sentence that says what failed, on which claim (Pulumi name and id);
what the API said; what is still held; what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pulumi

from coreweave_inference.errors import (
    ApiError,
    ConnectionFailed,
    CoreweaveError,
    FailedPrecondition,
    InvalidArgument,
    MissingToken,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    WrongEndpoint,
)

from .inputs import program_spelling

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources

MISSING_TOKEN = (
    "no API token: set COREWEAVE_API_TOKEN (or CW_API_TOKEN) in the environment, "
    "or run `pulumi config set --secret coreweave:token`"
)


class ClaimError(pulumi.RunError):
    """Something a user or the API caused, told in full by its text.

    As a `RunError` it ends a program that does not catch it with its text alone.
    """


class InvalidSetting(ClaimError):
    """A variable or config key that cannot be understood."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[InvalidSetting], tuple[str, str]]:
        return InvalidSetting, (self.source, self.reason)


class InvalidReadiness(ClaimError, ValueError):
    """A `Readiness` that can never be met."""


def labelled(resource_name: str, claim_id: str | None) -> str:
    """A claim as the texts name it: the Pulumi resource's name, and the id where there is one."""
    return f"capacity claim '{resource_name}'" + (f" (id {claim_id})" if claim_id else "")


def text(headline: str, *, said: Iterable[str] = (), held: str = "", then: Iterable[str] = ()) -> str:
    """The parts of an error, one below the other."""
    lines = [headline, *(f"  {line}" for line in said)]
    if held:
        lines.append(f"  Held: {held}")
    lines += [f"  {'Next: ' if first else '      '}{line}" for first, line in _firsts(then)]
    return "\n".join(lines)


def _firsts(lines: Iterable[str]) -> Iterator[tuple[bool, str]]:
    return ((index == 0, line) for index, line in enumerate(lines))


def api_failure(
    doing: str, resource_name: str, claim_id: str | None, error: CoreweaveError, *, held: str
) -> ClaimError:
    """An API error, told for the claim it happened to. `doing` reads "creating", "scaling" and so on."""
    headline = f"{doing} {labelled(resource_name, claim_id)} failed: {_in_short(error)}."
    return ClaimError(text(headline, said=_said(error), held=held, then=_next(error)))


def held_resources(claim: CapacityClaim) -> str:
    """What a claim reserves, in a few words."""
    resources = claim.resources
    return (
        f"{claim.status.allocated_instances} of {resources.instance_count} {resources.instance_id} "
        f"instances, {claim.state}"
    )


def lookup_failure(doing: str, error: CoreweaveError) -> ClaimError:
    """An API error of a call that only reads. `doing` names what was looked for."""
    return ClaimError(text(f"{doing} failed: {_in_short(error)}.", said=_said(error), then=_next(error)))


def described(resources: CapacityClaimResources) -> str:
    """What is reserved and where, in a few words."""
    zones = ", ".join(resources.zones)
    return f"{resources.instance_count} {resources.instance_id} in {zones} ({resources.capacity_type})"


def _in_short(error: CoreweaveError) -> str:
    if isinstance(error, MissingToken):
        return "there is no API token"
    if isinstance(error, WrongEndpoint):
        return "the endpoint does not serve the API"
    if isinstance(error, ConnectionFailed):
        return "the API cannot be reached"
    if isinstance(error, Unauthenticated):
        return "the API does not accept the token"
    if isinstance(error, PermissionDenied):
        return "the token may not do this"
    if isinstance(error, InvalidArgument):
        return "the API refused the request as invalid"
    if isinstance(error, FailedPrecondition):
        return "the API refused it in the claim's present state"
    if isinstance(error, ResourceExhausted):
        return "a quota or rate limit of the API is exhausted"
    if isinstance(error, NotFound):
        return "the API does not know the claim"
    if isinstance(error, Unavailable):
        return "the API is not available"
    return "the API answered with an error"


def _said(error: CoreweaveError) -> list[str]:
    if not isinstance(error, ApiError):
        return [str(error)]
    lines = [f"{error.code}: {error.message}" if error.message else error.code]
    lines += [f"{program_spelling(v.field)}: {v.description}" for v in error.violations]
    lines.append(
        f"({', '.join(part for part in (_attempts(error), _request(error)) if part)})",
    )
    return lines


def _attempts(error: ApiError) -> str:
    return f"{error.attempts} attempt{'s' if error.attempts != 1 else ''}"


def _request(error: ApiError) -> str:
    return f"request id {error.request_id}" if error.request_id else ""


def _next(error: CoreweaveError) -> list[str]:
    if isinstance(error, MissingToken):
        return [MISSING_TOKEN.partition(": ")[2]]
    if isinstance(error, WrongEndpoint):
        return ["check COREWEAVE_API_ENDPOINT or coreweave:endpoint; without them it is the real API's"]
    if isinstance(error, Unauthenticated):
        return ["check that COREWEAVE_API_TOKEN or coreweave:token holds a token that is still valid"]
    if isinstance(error, PermissionDenied):
        return ["use a token with the role Inference Admin, which may write; Inference Viewer only reads"]
    if isinstance(error, InvalidArgument):
        return ["change the declaration as said above and run `pulumi up` again"]
    if isinstance(error, FailedPrecondition):
        return ["the claim may be in use: end what runs on it, then run the same command again"]
    if isinstance(error, ResourceExhausted) and error.retry_after:
        return [f"wait {error.retry_after:.0f} seconds and run `pulumi up` again"]
    if isinstance(error, Unavailable | ResourceExhausted):
        return ["run `pulumi up` again when the API answers; nothing is done twice"]
    return ["run `pulumi refresh` to see what the API holds, then `pulumi up`"]
