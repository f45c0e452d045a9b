"""Claims on an emulator, made by the client."""

from __future__ import annotations

from collections.abc import Sequence

from coreweave_inference import CapacityClaimResources, Client
from coreweave_inference.emulator import Emulator


def create(
    emulator: Emulator,
    name: str = "training",
    count: int = 3,
    *,
    instance_id: str = "a",
    zones: Sequence[str] = ("US-WEST-01A", "US-EAST-01A"),
) -> str:
    """Create a claim, and return its id."""
    resources = CapacityClaimResources(
        instance_id=instance_id,
        instance_count=count,
        zones=list(zones),
        capacity_type="CAPACITY_TYPE_MANAGED",
    )
    with Client(emulator.token, endpoint=emulator.url) as client:
        return client.capacity_claims.create(name, resources).id
