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
    ClaimNamespace,
)
from .errors import ClaimError, InvalidReadiness, InvalidSetting
from .provider import CapacityClaimProvider, ClaimNamespaceProvider
from .readiness import Readiness

__all__ = [
    "CapacityClaim",
    "CapacityClaimCondition",
    "CapacityClaimProvider",
    "CapacityClaimResources",
    "CapacityClaimResourcesArgs",
    "ClaimError",
    "ClaimNamespace",
    "ClaimNamespaceProvider",
    "InvalidReadiness",
    "InvalidSetting",
    "Readiness",
    "__version__",
]
