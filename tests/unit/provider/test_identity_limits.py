"""Where a create ends that never gets hold of its claim: the error, the time it takes, the calls it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from coreweave_inference import (
    AlreadyExists,
    CapacityClaim,
    CapacityClaimResources,
    FailedPrecondition,
    NotFound,
)
from pulumi_coreweave_inference.identity import (
    MAXIMUM_ATTEMPTS,
    Declaration,
    Obtained,
    OutOfAttempts,
    StillLeaving,
    obtain,
)

GRACE, PATIENCE = 20, 60
KEY = "pulumi-python:dynamic/capacityClaim:CapacityClaim::training"
RESOURCES = CapacityClaimResources.model_validate(
    {
        "instanceId": "gb200-4x",
        "instanceCount": 4,
        "zones": ["US-WEST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
)
DECLARED = Declaration("6f9f9c3e-1f0a-4f0e-9d3f-3f1d1c1b1a10", KEY, RESOURCES)


class Api:
    """One claim that exists; what a write answers, and what a read shows afterwards, is set by the test."""

    def __init__(self, refusal: Exception, ends: bool = False, leaves: float = 0) -> None:
        self.refusal = refusal
        self.ends = ends  # the claim, `leaves` seconds after the write that it refuses
        self.leaves = leaves
        self.refused_at: float | None = None
        self.now = 0.0
        self.calls: list[str] = []
        self.posted: list[str] = []

    def create(self, name: str, resources: CapacityClaimResources, *, id: str | None = None) -> CapacityClaim:
        assert id
        self.calls.append("POST")
        self.posted.append(id)
        if self._is_gone():
            return CapacityClaim.model_validate({"spec": {"id": id, "name": name}})
        raise AlreadyExists("it exists")

    def get(self, id: str) -> CapacityClaim:
        self.calls.append("GET")
        if self._is_gone():
            raise NotFound("it is not there")
        return CapacityClaim.model_validate(
            {
                "spec": {"id": id, "name": DECLARED.claim_name(id), "resources": RESOURCES.to_wire()},
                "status": {"status": self._status(), "allocatedInstances": 4},
            }
        )

    def list(self) -> Sequence[CapacityClaim]:
        raise AssertionError("a claim that can be read is not looked for")

    def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
        self.calls.append("PATCH")
        self.refused_at = self.now
        raise self.refusal

    def delete(self, id: str) -> CapacityClaim | None:
        raise AssertionError("nothing here may be deleted")

    def _is_gone(self) -> bool:
        return self.ends and self.refused_at is not None and self.now >= self.refused_at + self.leaves

    def _status(self) -> str:
        return "STATUS_DELETING" if self.ends and self.refused_at is not None else "STATUS_READY"


def run(api: Api, **more: Any) -> Obtained:
    def sleep(seconds: float) -> None:
        api.now += seconds

    given: dict[str, Any] = {"owner": lambda _: None, "grace": GRACE, "patience": PATIENCE} | more
    return obtain(api, DECLARED, clock=lambda: api.now, sleep=sleep, **given)


def test_a_claim_that_reads_alive_and_takes_no_write_is_waited_for_and_then_told_of() -> None:
    api = Api(NotFound("it is gone"))
    with pytest.raises(StillLeaving) as error:
        run(api)
    assert error.value.claim.id == DECLARED.claim_id(0)
    assert PATIENCE <= api.now <= PATIENCE + 1
    assert set(api.posted) == {DECLARED.claim_id(0)}


@pytest.mark.parametrize("leaves", [0, 5, 40])
def test_a_claim_that_refuses_a_write_because_it_goes_is_posted_again_under_its_id(leaves: float) -> None:
    api = Api(FailedPrecondition("it is being deleted"), ends=True, leaves=leaves)
    assert run(api).how == "posted"
    assert set(api.posted) == {DECLARED.claim_id(0)}
    assert leaves <= api.now <= leaves + GRACE + 1
    assert api.calls.count("PATCH") == 1


def test_ids_that_are_all_in_other_hands_end_in_an_error_without_a_call() -> None:
    api = Api(NotFound("never asked"))
    with pytest.raises(OutOfAttempts) as error:
        run(api, owner=lambda _: "x::other")
    assert (error.value.attempts, error.value.last) == (MAXIMUM_ATTEMPTS, None)
    assert api.calls == []
