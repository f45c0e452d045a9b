"""What the stack reserves, as a function that a test can call."""

import pulumi

import pulumi_coreweave_inference as inference


def reserve(instances: int, zones: list[str]) -> inference.CapacityClaim:
    """Declare the training claim. With 8 or more instances it is protected."""
    return inference.CapacityClaim(
        "training",
        pulumi.ResourceOptions(protect=instances >= 8),
        resources=inference.CapacityClaimResourcesArgs(
            instance_id="gb200-4x", instance_count=instances, zones=zones
        ),
    )
