"""`capacity-claims get`: what it shows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from coreweave_inference import CapacityClaim
from pulumi_coreweave_inference.cli.get import describe

NOW = datetime(2026, 11, 27, 22, 0, 0, tzinfo=UTC)
MESSAGE = "0 of 2 gb200-4x instances free, and none are expected before the end of the month in this zone"


@pytest.mark.parametrize("width", [None, 80, 120])
def test_a_long_message_is_cut_to_the_terminal_and_to_nothing_else(width: int | None) -> None:
    condition = {"type": "Ready", "status": "STATUS_FALSE", "message": MESSAGE, "zone": "US-WEST-04A"}
    resources = {"instanceId": "gb200-4x", "instanceCount": 2, "zones": ["US-WEST-04A"]}
    claim = CapacityClaim.model_validate(
        {
            "spec": {"id": "0f0e0d0c-0000-4000-8000-000000000000", "name": "a", "resources": resources},
            "status": {"status": "STATUS_CREATING", "conditions": [condition]},
        }
    )
    lines = describe(claim, NOW, width).splitlines()
    assert any(MESSAGE in line for line in lines) == (width is None)
    assert max(map(len, lines)) <= (width or 200)
    assert " ".join(lines[-3:]).count("US-WEST-04A") == 1
