"""Ten instances for one training run, two thirds of them in the west."""

import pulumi

from fleet import Fleet, Share

run = Fleet(
    "run",
    total=10,
    shares={
        "west": Share(2, "gb200-4x", ["US-WEST-04A"]),
        "east": Share(1, "gb200-4x", ["US-EAST-04A"]),
    },
)

pulumi.export("allocated", run.allocated)
pulumi.export("claims", {name: claim.id for name, claim in run.claims.items()})
