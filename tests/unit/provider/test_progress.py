"""What is shown of a wait: on rows in a terminal, and in few lines without one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from coreweave_inference import CapacityClaim
from pulumi_coreweave_inference import Readiness
from pulumi_coreweave_inference.foreign_text import Lines
from pulumi_coreweave_inference.progress import (
    EVERY,
    SETTING,
    Log,
    Rows,
    Waiting,
    attended,
    display,
    progress,
)
from pulumi_coreweave_inference.readiness import OUTPUTS_LOST, Goal, not_ready_together

SHORTAGE = "no free instances"


def claim(name: str, allocated: int = 0, count: int = 4, state: str = "STATUS_CREATING") -> CapacityClaim:
    reason = {"type": "Ready", "status": "STATUS_FALSE", "message": SHORTAGE, "zone": "US-WEST-04A"}
    resources = {
        "instanceId": "gb200-4x",
        "instanceCount": count,
        "zones": ["US-WEST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
    return CapacityClaim.model_validate(
        {
            "spec": {"id": f"id-{name}", "name": name, "resources": resources},
            "status": {
                "status": state,
                "allocatedInstances": allocated,
                "conditions": [reason] if allocated < count else [],
            },
        }
    )


class Told:
    """The lines of each row, and those that stay."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}
        self.said: list[str] = []

    def say(self, line: Lines) -> None:
        self.said.append(line)

    def wait(self, name: str, started: float = 0.0, timeout: float = 2700.0, **more: Any) -> Waiting:
        rows = self.rows.setdefault(name, [])
        found = claim(name)
        goal = Goal(name, found.id, found.resources, Readiness(), **more)
        return Waiting(
            goal=goal, show=rows.append, say=lambda line: self.said.append(f"{name}: {line}"),
            started=started, timeout=timeout, seen=found,
        )  # fmt: skip


def test_the_numbers_come_first_and_the_setting_last() -> None:
    told = Told()
    wait = told.wait("training")
    Rows(told.say).waiting([wait], "", 55.0)
    assert told.rows["training"] == [
        "0/4, 44m left, CREATING; US-WEST-04A: no free instances (coreweave:wait)"
    ]
    assert progress(claim("a", 2), wait.goal, 2699.9).startswith("2/4, 45m left, CREATING; ")
    assert progress(claim("a", 2), wait.goal, 61.4).startswith("2/4, 1m1s left, CREATING; ")
    assert progress(None, wait.goal, 61.4, "no answer") == "not readable yet, 1m1s left; no answer"
    secret = told.wait("b", secrets=frozenset({"instanceCount"}))
    assert progress(claim("b", 2), secret.goal, 60.0) == "[secret]/[secret], 1m left, CREATING"


def test_a_row_is_shown_again_when_it_changes_and_now_and_then() -> None:
    told = Told()
    rows, wait = Rows(told.say), told.wait("training")
    for now in range(40):
        wait.seen = claim("training", 1 if now >= 7 else 0)
        rows.waiting([wait], "", now)
    assert [line[:3] for line in told.rows["training"]] == ["0/4", "1/4", "1/4", "1/4"]
    assert EVERY == 15.0


def test_at_the_end_it_is_plain_what_is_ready_and_after_how_long() -> None:
    told = Told()
    rows = Rows(told.say)
    waits = [told.wait(name) for name in ("a", "b")]
    rows.waiting(waits, "", 1.0)
    for wait, now in zip(waits, (60.0, 192.0), strict=True):
        rows.ready(wait, claim(wait.goal.resource_name, 4, state="STATUS_READY"), now)
    rows.ready(told.wait("at once"), claim("at once", 4, state="STATUS_READY"), 192.0)
    assert told.said == []
    assert told.rows["a"][-1] == "READY after 1m, 4 of 4 gb200-4x instances"
    rows.ended(192.0)
    assert told.said == [
        "a: READY after 1m, 4 of 4 gb200-4x instances",
        "b: READY after 3m12s, 4 of 4 gb200-4x instances",
    ]


def test_many_claims_share_the_line_at_the_end() -> None:
    told = Told()
    rows = Rows(told.say)
    waits = [told.wait(f"claim-{index}") for index in range(50)]
    rows.waiting(waits, "", 1.0)
    for wait in waits:
        rows.ready(wait, claim(wait.goal.resource_name, 4, state="STATUS_READY"), 60.0)
    rows.ended(60.0)
    assert told.said == ["50 claims are ready after 1m, 200/200 instances"]


def run_in_a_log(told: Told, seconds: int, ready_at: dict[str, float], allocated: Any = None) -> None:
    log = Log(told.say, SETTING)
    waits = {name: told.wait(name) for name in ready_at}
    for now in range(0, seconds, 5):
        for name in [name for name in waits if now >= ready_at[name]]:
            log.ready(waits.pop(name), claim(name, 4, state="STATUS_READY"), now)
        for name, wait in waits.items():
            wait.seen = claim(name, allocated(name, now) if allocated else 0)
        log.waiting(list(waits.values()), "", now)
        if not waits:
            log.ended(now)
            return


def test_twenty_claims_in_ten_minutes_are_a_few_lines_that_miss_nothing() -> None:
    told = Told()
    ready_at = {f"claim-{index:02}": 60.0 + 27 * index for index in range(20)}
    run_in_a_log(told, 700, ready_at, lambda name, now: int(now >= ready_at[name] - 30) * 2)
    assert told.said[0] == (
        "20 waiting, 0/80 instances, 45m left; US-WEST-04A: no free instances (20 claims) (coreweave:wait)"
    )
    assert told.said[-1].startswith("20 claims are ready after 9m35s, 80/80 instances; the last: claim-")
    for name in ready_at:
        assert sum(f" {name}" in line for line in told.said) == 1
    assert any(line.startswith("ready: claim-00; 19 waiting, ") for line in told.said)
    assert len(told.said) <= 16


def test_where_nothing_changes_a_log_says_so_ever_more_rarely() -> None:
    told = Told()
    run_in_a_log(told, 45 * 60, {"a": 1e9, "b": 1e9})
    left = [line.split(", ")[2].partition(" left")[0] for line in told.said]
    assert left == ["45m", "44m", "42m", "37m", "27m", "17m", "7m"]


def test_one_claim_is_named_in_a_log_and_its_reasons_are_told() -> None:
    told = Told()
    run_in_a_log(told, 30, {"training": 20.0})
    assert told.said == [
        "training: 0/4, 45m left, CREATING; US-WEST-04A: no free instances (coreweave:wait)",
        "training is ready after 20s, 4/4 instances",
    ]


def test_what_is_ready_at_once_and_secret_counts_are_not_told() -> None:
    told = Told()
    run_in_a_log(told, 30, {"training": 0.0})
    assert told.said == []
    log = Log(told.say, SETTING)
    log.waiting([told.wait(name, secrets=frozenset({"instanceCount"})) for name in ("a", "b")], "down", 0.0)
    assert told.said == ["2 waiting, 45m left; down (coreweave:wait)"]


def test_a_claim_that_fails_is_told_beside_the_others_and_else_by_the_error() -> None:
    told = Told()
    a, b = told.wait("a"), told.wait("b")
    rows, log = Rows(told.say), Log(told.say)
    rows.failed(a, "it failed")
    assert told.rows["a"] == ["it failed"]
    log.waiting([a, b], "", 0.0)
    log.failed(a, "it failed")
    log.waiting([b], "", 60.0)
    assert told.said[1:] == [
        "failed: a; 1 waiting, 0/4 instances, 44m left; US-WEST-04A: no free instances (1 claim)"
    ]
    log.failed(b, "it failed")
    log.ended(70.0)
    assert len(told.said) == 2


def test_many_claims_that_are_not_ready_in_time_share_one_text() -> None:
    told = Told()
    failed = [
        (claim(f"claim-{index}", index % 3), told.wait(f"claim-{index}").goal, 2700.0) for index in range(20)
    ]
    text = not_ready_together(failed, [])
    lines = text.splitlines()
    assert lines[0] == "20 capacity claims are not ready after 45m: 19/80 instances allocated."
    assert lines[2] == "  claim-1   1/4  CREATING  id id-claim-1"
    assert "  US-WEST-04A: no free instances (20 of them)" in lines
    assert len(lines) <= 30
    assert text.count("Next: ") == text.count("Still reserved: ") == 1
    assert "or set coreweave:wait to false" in text
    for others in (None, [claim("other", 4)]):
        kept = not_ready_together(failed, others)
        assert "or set coreweave:wait to false" not in kept
        assert "but keep coreweave:wait at true" in kept
    assert "'other' (id id-other), which this run has not looked at: 4 of 4 gb200-4x" in kept
    many = not_ready_together(failed * 25, [])
    assert len(many.splitlines()) <= 60
    assert "  and 460 more" in many.splitlines()
    assert "nothing was released" in OUTPUTS_LOST


@pytest.mark.parametrize(("value", "expected"), [("true", False), ("1", False), ("false", None), ("", None)])
def test_nobody_watches_in_ci(value: str, expected: bool | None) -> None:
    known = attended({})
    assert attended({"CI": value}) == (known if expected is None else expected)


def test_a_log_repeats_only_its_last_line_at_the_end() -> None:
    shown, said = [], []
    log = display(said.append, shown.append, {"CI": "true"})
    assert isinstance(log, Log)
    waiting = Told().wait("a")
    log.waiting([waiting], "", 0.0)
    log.ready(waiting, claim("a", 4, state="STATUS_READY"), 20.0)
    log.ended(20.0)
    assert (len(shown), said) == (1, ["a is ready after 20s, 4/4 instances"])


@pytest.mark.skipif(sys.platform == "win32", reason="no sessions")
def test_a_terminal_of_the_session_is_found() -> None:
    program = "from pulumi_coreweave_inference.progress import attended; print(attended({}))"
    without = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert without.stdout == "False\n"
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-c", program])
    said = b""
    while b"\n" not in said:
        said += os.read(terminal, 100)
    os.close(terminal)
    os.waitpid(child, 0)
    assert said.strip() == b"True"
