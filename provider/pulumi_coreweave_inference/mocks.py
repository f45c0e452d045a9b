"""What unit tests with `pulumi.runtime.set_mocks` see: no network, and a claim that is ready.

`Mocks.new_resource` may return any property of a claim in the API's spelling, such as `status` or
`allocatedInstances`. `Mocks.call` answers the `get_*` functions. By default a claim has all its
instances, and no output is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pulumi
from pulumi.runtime.mocks import MockCallArgs, MockMonitor

import coreweave_inference as api

from .inputs import MANAGED, claim_name_from

REPORTED: Final = ("status", "allocatedInstances", "pendingInstances", "conditions")
"""Properties that are outputs under mocks only; otherwise they are read from the API."""
TIME: Final = "2026-01-01T00:00:00Z"
"""When a claim was created and changed, unless the mock says so."""


def are_active() -> bool:
    """Whether this process runs a unit test with `set_mocks`."""
    return monitor() is not None


def monitor() -> MockMonitor | None:
    """The monitor of the last `set_mocks`, which is one program; None without mocks."""
    active = pulumi.runtime.settings.get_monitor()
    return active if isinstance(active, MockMonitor) else None


def stand_in(output: str, resource_name: str) -> str:
    """The value of an output for which the mock returns none."""
    if output == "name":
        return f"{claim_name_from(resource_name) or 'claim'}-0000000"
    return {"id": "mocked", "organizationId": "mocked", "createdAt": TIME}[output]


def whole(resources: Mapping[str, Any] | None) -> dict[str, Any]:
    """All of what a claim reserves, by its names in Python, also where the mock returns less."""
    given = {name: value for name, value in (resources or {}).items() if value is not None}
    nothing = {"instance_id": "mocked", "instance_count": 0, "zones": [], "capacity_type": MANAGED}
    return {name: given.get(name, default) for name, default in nothing.items()}


def claim_from(state: Mapping[str, Any]) -> api.CapacityClaim:
    """The claim that the outputs of a mocked resource describe."""
    resources = dict(state.get("resources") or {})
    count = int(resources.get("instanceCount") or resources.get("instance_count") or 0)
    allocated = state.get("allocatedInstances")
    return api.CapacityClaim.model_validate(
        {
            "spec": {"id": state["id"], "name": "", "resources": resources},
            "status": {
                "status": state.get("status") or "STATUS_READY",
                "allocatedInstances": count if allocated is None else allocated,
                "pendingInstances": state.get("pendingInstances") or 0,
                "conditions": state.get("conditions") or [],
                "updatedAt": state.get("updatedAt") or TIME,
            },
        }
    )


def call(token: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The mocks' response to a lookup; None without mocks."""
    active = monitor()
    if active is None:
        return None
    given = {name: value for name, value in arguments.items() if value is not None}
    answer: Any = active.mocks.call(MockCallArgs(token=token, args=given, provider=""))
    return dict(answer[0] if isinstance(answer, tuple) else answer)


def looked_up(answer: Mapping[str, Any]) -> api.CapacityClaim:
    """The claim in a mock's response to a lookup, a flat dict in the API's spelling."""
    spec = {name: answer[name] for name in ("id", "name", "organizationId", "resources") if name in answer}
    times = {"createdAt": TIME, "updatedAt": TIME}
    status = times | {name: value for name, value in answer.items() if name not in spec}
    return api.CapacityClaim.model_validate({"spec": {"id": "mocked", **spec}, "status": status})
