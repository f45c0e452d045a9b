"""Which claims count as recently created."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pulumi_coreweave_inference.orphans import RECENT, recently_listed
from pulumi_coreweave_inference.rounds import Clock

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ahead", [timedelta(days=-30), timedelta(0), timedelta(days=10)])
def test_recent_is_told_by_the_clock_of_the_api(known: bool, ahead: timedelta) -> None:
    """`ahead`: this machine's clock, `known`: whether an earlier response has shown it."""

    class Claims:
        clock_skew = -ahead if known else timedelta()

        def list(self, *, updated_after: datetime, retry: object) -> list[str]:
            self.clock_skew = -ahead
            return ["new"] if updated_after <= NOW - RECENT else []

    op: Any = SimpleNamespace(claims=Claims(), clock=Clock(today=lambda: NOW + ahead), brief=None)
    assert recently_listed(op) == ["new"]
