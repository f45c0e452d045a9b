"""The quickstart stack: one claim, and everything that is known about it."""

import pulumi

import pulumi_coreweave_inference as inference

config = pulumi.Config()

training = inference.CapacityClaim(
    "training",
    resources=inference.CapacityClaimResourcesArgs(
        instance_id="gb200-4x",
        instance_count=config.require_int("instances"),
        zones=config.require_object("zones"),  # in order of preference
    ),
)

pulumi.export("claim_id", training.id)
pulumi.export("name", training.name)
pulumi.export("zones", training.resources.zones)
pulumi.export("status", training.status)
pulumi.export("allocated", training.allocated_instances)
