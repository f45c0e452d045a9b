"""A workload that is deployed only when its capacity is ready."""

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
    # Two of four are enough once the API reports READY. After an hour the stack continues with
    # what it has.
    readiness=inference.Readiness(timeout="1h", min_instances=2, on_timeout="warn"),
)

# One replica per allocated instance. The deployment is created once the claim is ready.
model = Deployment(
    "model",
    replicas=serving.allocated_instances,
    opts=pulumi.ResourceOptions(depends_on=[serving]),
)

pulumi.export("allocated", serving.allocated_instances)
pulumi.export("replicas", model.replicas)
