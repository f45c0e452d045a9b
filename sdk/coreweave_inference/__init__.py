"""A client for capacity claims of CoreWeave's inference API.

    from coreweave_inference import CapacityClaimResources, CapacityType, Client

    with Client() as client:  # COREWEAVE_API_TOKEN
        for claim in client.capacity_claims.list():
            print(claim.name, claim.state.short, claim.status.allocated_instances)

Names are imported on first use, so importing the package is cheap.
"""

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .client import AsyncCapacityClaims, AsyncClient, CapacityClaims, Client
    from .errors import (
        Aborted,
        AlreadyExists,
        ApiError,
        BrokenAnswer,
        Canceled,
        ConnectionFailed,
        CoreweaveError,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        FieldViolation,
        Internal,
        InvalidArgument,
        InvalidEndpoint,
        InvalidSetting,
        InvalidToken,
        MissingToken,
        NotFound,
        OutOfRange,
        PermissionDenied,
        ProxyFailed,
        RequestTimedOut,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Unimplemented,
        UnknownCode,
        UntrustedCertificate,
        WrongEndpoint,
    )
    from .models import (
        CapacityClaim,
        CapacityClaimParameters,
        CapacityClaimResources,
        CapacityClaimSpec,
        CapacityClaimStatus,
        CapacityType,
        ClaimState,
        Condition,
        ConditionStatus,
        CreateCapacityClaimRequest,
        UpdateCapacityClaimRequest,
        parse_timestamp,
    )
    from .retry import RetryPolicy
    from .tokens import TokenFile

__all__ = [
    "Aborted",
    "AlreadyExists",
    "ApiError",
    "AsyncCapacityClaims",
    "AsyncClient",
    "BrokenAnswer",
    "Canceled",
    "CapacityClaim",
    "CapacityClaimParameters",
    "CapacityClaimResources",
    "CapacityClaimSpec",
    "CapacityClaimStatus",
    "CapacityClaims",
    "CapacityType",
    "ClaimState",
    "Client",
    "Condition",
    "ConditionStatus",
    "ConnectionFailed",
    "CoreweaveError",
    "CreateCapacityClaimRequest",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "Internal",
    "InvalidArgument",
    "InvalidEndpoint",
    "InvalidSetting",
    "InvalidToken",
    "MissingToken",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ProxyFailed",
    "RequestTimedOut",
    "ResourceExhausted",
    "RetryPolicy",
    "TokenFile",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownCode",
    "UntrustedCertificate",
    "UpdateCapacityClaimRequest",
    "WrongEndpoint",
    "__version__",
    "parse_timestamp",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        for module in ("errors", "retry", "models", "tokens", "client"):
            found = import_module(f".{module}", __name__)
            if name in found.__all__:
                value: object = getattr(found, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
