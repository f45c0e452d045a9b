"""What unit tests with `pulumi.runtime.set_mocks` see: no network, and a claim that is ready.

`Mocks.new_resource` may return any property of a claim in the API's spelling, such as `status` or
`allocatedInstances`. `Mocks.call` answers the `get_*` functions. By default a claim has all its
instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pulumi
from pulumi.runtime.mocks import MockCallArgs, MockMonitor

import coreweave_inference as api

REPORTED: Final = ("status", "allocatedInstances", "pendingInstances", "conditions")
"""Properties that are outputs under mocks only; otherwise they are read from the API."""


def are_active() -> bool:
    """Whether this process runs a unit test with `set_mocks`."""
    return isinstance(pulumi.runtime.settings.get_monitor(), MockMonitor)


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
                "updatedAt": state.get("updatedAt"),
            },
        }
    )


def call(token: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The mocks' response to a lookup; None without mocks."""
    monitor = pulumi.runtime.settings.get_monitor()
    if not isinstance(monitor, MockMonitor):
        return None
    given = {name: value for name, value in arguments.items() if value is not None}
    answer: Any = monitor.mocks.call(MockCallArgs(token=token, args=given, provider=""))
    return dict(answer[0] if isinstance(answer, tuple) else answer)


def looked_up(answer: Mapping[str, Any]) -> api.CapacityClaim:
    """The claim in a mock's response to a lookup, a flat dict in the API's spelling."""
    spec = {name: answer[name] for name in ("id", "name", "organizationId", "resources") if name in answer}
    status = {name: value for name, value in answer.items() if name not in spec}
    return api.CapacityClaim.model_validate({"spec": {"id": "mocked", **spec}, "status": status})
