"""A fleet: one total, spread over several claims by weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

import pulumi_coreweave_inference as inference


@dataclass(frozen=True)
class Share:
    """One claim's part of a fleet: its weight, instance type and zones."""

    weight: int
    instance_id: str
    zones: Sequence[str]


def split(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split `total` into whole numbers in proportion to the weights.

    Rounding down leaves a rest, which goes to the largest remainders, in the order of the weights.

    >>> split(10, {"west": 2, "east": 1})
    {'west': 7, 'east': 3}
    """
    whole = sum(weights.values())
    if total < 0 or whole <= 0 or min(weights.values()) < 0:
        raise ValueError("a fleet needs a total of at least 0 and weights that are not all 0")
    parts = {name: total * weight // whole for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: -(total * weights[name] % whole))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


class Fleet(pulumi.ComponentResource):
    """Several claims that are declared together. `allocated` and `ready` cover all of them.

    A share of 0 instances declares no claim. The fleet is the parent of its claims, so two fleets
    in one stack can use the same names for their shares.
    """

    def __init__(
        self,
        name: str,
        *,
        total: int,
        shares: Mapping[str, Share],
        readiness: inference.Readiness | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("examples:index:Fleet", name, None, opts)
        counts = split(total, {share: wanted.weight for share, wanted in shares.items()})
        self.claims = {
            share: inference.CapacityClaim(
                f"{name}-{share}",
                pulumi.ResourceOptions(parent=self),
                resources=inference.CapacityClaimResourcesArgs(
                    instance_id=shares[share].instance_id,
                    instance_count=count,
                    zones=list(shares[share].zones),
                ),
                readiness=readiness or inference.Readiness(),
            )
            for share, count in counts.items()
            if count
        }
        each = self.claims.values()
        self.allocated = pulumi.Output.all(*(claim.allocated_instances for claim in each)).apply(
            sum
        )
        self.ready = pulumi.Output.all(*(claim.ready for claim in each)).apply(lambda _: self)
        self.register_outputs({"allocated": self.allocated})
