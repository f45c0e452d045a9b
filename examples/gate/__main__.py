"""A workload that is deployed only when its capacity is there."""

import pulumi
from deployment import Deployment

import pulumi_coreweave_inference as inference

serving = inference.CapacityClaim(
    "serving",
    resources=inference.CapacityClaimResourcesArgs(
        instance_id="h100-80gb-sxm5",
        instance_count=4,
        zones=["US-EAST-04A", "US-WEST-04A"],
    ),
    # Two of four are enough once the API says READY; after an hour the stack goes on with what there is.
    readiness=inference.Readiness(timeout="1h", min_instances=2, on_timeout="warn"),
)

# As many replicas as there are instances. Its creation waits for the claim to be ready.
model = Deployment(
    "model",
    replicas=serving.allocated_instances,
    opts=pulumi.ResourceOptions(depends_on=[serving.ready]),
)

pulumi.export("allocated", serving.allocated_instances)
pulumi.export("replicas", model.replicas)
