"""GPU capacity claims on CoreWeave, as Pulumi resources.

    import pulumi_coreweave_inference as inference

    training = inference.CapacityClaim(
        "training",
        resources=inference.CapacityClaimResourcesArgs(
            instance_id="gb200-4x", instance_count=4, zones=["US-WEST-04A", "US-EAST-04A"]
        ),
    )

Not affiliated with CoreWeave.
"""

from ._version import __version__
from .capacity_claim import (
    CapacityClaim,
    CapacityClaimCondition,
    CapacityClaimResources,
    CapacityClaimResourcesArgs,
    CapacityClaimResourcesArgsDict,
    ClaimNamespace,
)
from .errors import ClaimError, InvalidReadiness, InvalidSetting
from .lookups import (
    GetCapacityClaimResult,
    get_capacity_claim,
    get_capacity_claim_output,
    get_capacity_claim_parameters,
    get_capacity_claim_parameters_output,
    get_capacity_claims,
    get_capacity_claims_output,
)
from .progress import Progress
from .provider import CapacityClaimProvider, ClaimNamespaceProvider
from .readiness import Readiness

__all__ = [
    "CapacityClaim",
    "CapacityClaimCondition",
    "CapacityClaimProvider",
    "CapacityClaimResources",
    "CapacityClaimResourcesArgs",
    "CapacityClaimResourcesArgsDict",
    "ClaimError",
    "ClaimNamespace",
    "ClaimNamespaceProvider",
    "GetCapacityClaimResult",
    "InvalidReadiness",
    "InvalidSetting",
    "Progress",
    "Readiness",
    "__version__",
    "get_capacity_claim",
    "get_capacity_claim_output",
    "get_capacity_claim_parameters",
    "get_capacity_claim_parameters_output",
    "get_capacity_claims",
    "get_capacity_claims_output",
]
