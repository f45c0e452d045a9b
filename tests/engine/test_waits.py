"""Which claims a program waits for on the real engine, and what waits for them."""

from __future__ import annotations

from collections.abc import Callable

from support.stack import Stack, claim

Start = Callable[..., Stack]

EMPTY = {"US-WEST-04A": {"gb200-4x": 0}, "US-EAST-04A": {"gb200-4x": 0}}


def test_one_setting_switches_all_waits_of_a_run_off(start: Start) -> None:
    stack = start(inventory=EMPTY, environment={"COREWEAVE_WAIT": "false"})
    stack.declare(first=claim(readiness={"timeout": "10m"}), second=claim(readiness={"timeout": "10m"}))
    stack.up()
    assert stack.outputs()["status"] == dict.fromkeys(("first", "second"), "STATUS_CREATING")
    assert stack.outputs()["allocated"] == {"first": 0, "second": 0}
