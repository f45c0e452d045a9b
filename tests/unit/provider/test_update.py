"""What an update of a claim sends."""

from types import SimpleNamespace
from typing import Any

import pytest

from coreweave_inference import CapacityClaim, CapacityClaimResources
from pulumi_coreweave_inference import operation
from pulumi_coreweave_inference.operation import Operation
from pulumi_coreweave_inference.provider import CapacityClaimProvider
from pulumi_coreweave_inference.settings import Settings

DECLARED = {
    "instanceId": "gb200-4x",
    "instanceCount": 4,
    "zones": ["US-WEST-04A"],
    "capacityType": "CAPACITY_TYPE_MANAGED",
}
UNKNOWN = {"reservationId": "r-7", "limits": {"perZone": [1, 2]}}
ID = "9f0c8a52-0000-4000-8000-000000000001"


class Api:
    """One claim with fields of a later version of the API."""

    def __init__(self) -> None:
        self.claim = self._with(CapacityClaimResources.model_validate(DECLARED | UNKNOWN))
        self.sent: list[CapacityClaimResources] = []

    def get(self, id: str) -> CapacityClaim:
        return self.claim

    def list(self, *, updated_after: object = None) -> list[CapacityClaim]:
        return [self.claim]

    def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
        self.sent.append(resources)
        self.claim = self._with(resources)
        return self.claim

    def _with(self, resources: CapacityClaimResources) -> CapacityClaim:
        spec = {"id": ID, "name": "training", "resources": resources}
        return CapacityClaim.model_validate({"spec": spec, "status": {"status": "STATUS_READY"}})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()
    connect: Any = lambda _: SimpleNamespace(capacity_claims=api, close=lambda: None)  # noqa: E731
    monkeypatch.setattr(operation, "_current", Operation(Settings(), connect=connect))
    return api


def test_an_update_sends_back_fields_that_the_provider_does_not_know(api: Api) -> None:
    olds = {"name": "training", "resources": DECLARED}
    outputs = CapacityClaimProvider().update(ID, olds, {"resources": DECLARED | {"instanceCount": 6}}).outs
    (sent,) = api.sent
    assert sent.to_wire() == DECLARED | {"instanceCount": 6}
    assert sent.unknown_fields() == UNKNOWN
    assert outputs["resources"] == DECLARED | {"instanceCount": 6}


def test_unknown_fields_are_no_drift_and_no_change(api: Api) -> None:
    state = {"name": "training", "resources": DECLARED}
    assert CapacityClaimProvider().update(ID, state, {"resources": DECLARED}).outs["resources"] == DECLARED
    assert CapacityClaimProvider().read(ID, state).outs["resources"] == DECLARED
    assert api.sent == []
