"""Unit tests under `set_mocks`: no engine, no API, no token.

Under mocks a claim is ready at once, with all of its instances, unless the mock returns something
else.
"""

from typing import Any

import pulumi
import pytest
from capacity import reserve


class Mocks(pulumi.runtime.Mocks):
    """Returns the inputs of each resource, and for a claim also what a test sets."""

    def __init__(self) -> None:
        self.about_claims: dict[str, Any] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        known = self.about_claims if args.typ.endswith(":CapacityClaim") else {}
        return f"{args.name}-id", dict(args.inputs) | known

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}


@pytest.fixture
def mocks() -> Mocks:
    answering = Mocks()
    pulumi.runtime.set_mocks(answering, preview=False)
    return answering


def known(output: pulumi.Output[Any]) -> Any:
    """The value of an output."""

    @pulumi.runtime.test
    def look() -> pulumi.Output[None]:
        return output.apply(seen.append)

    seen: list[Any] = []
    look()
    return seen[0]


def test_zones_are_declared_in_order_of_preference(mocks: Mocks) -> None:
    claim = reserve(4, ["US-WEST-04A", "US-EAST-04A"])
    assert known(claim.resources.zones) == ["US-WEST-04A", "US-EAST-04A"]


def test_a_claim_is_ready_with_all_instances(mocks: Mocks) -> None:
    assert known(reserve(4, ["US-WEST-04A"]).allocated_instances) == 4


def test_a_claim_may_have_fewer_instances(mocks: Mocks) -> None:
    mocks.about_claims = {"allocatedInstances": 3, "pendingInstances": 1}
    claim = reserve(4, ["US-WEST-04A"])
    assert known(claim.allocated_instances) == 3
    assert known(claim.pending_instances) == 1
