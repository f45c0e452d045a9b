"""Several teams reserve capacity in one organization, from one table in the stack's config."""

import pulumi

import pulumi_coreweave_inference as inference


class Team(pulumi.ComponentResource):
    """The claims of one team. The API has no labels, so a claim's name shows its team."""

    def __init__(self, team: str, workloads: dict[str, int]) -> None:
        super().__init__("examples:index:Team", team)
        below = pulumi.ResourceOptions(parent=self)
        self.claims = {
            workload: inference.CapacityClaim(
                f"{team}-{workload}",
                below,
                resources=inference.CapacityClaimResourcesArgs(
                    instance_id="gb200-4x",
                    instance_count=instances,
                    zones=["US-WEST-04A", "US-EAST-04A"],
                ),
            )
            for workload, instances in workloads.items()
        }
        self.allocated = pulumi.Output.all(
            *(claim.allocated_instances for claim in self.claims.values())
        ).apply(sum)
        self.register_outputs({"allocated": self.allocated})


needs: dict[str, dict[str, int]] = pulumi.Config().require_object("teams")
teams = {name: Team(name, workloads) for name, workloads in needs.items()}

pulumi.export("allocated", {name: team.allocated for name, team in teams.items()})
pulumi.export(
    "claims",
    {
        name: {workload: claim.id for workload, claim in team.claims.items()}
        for name, team in teams.items()
    },
)
