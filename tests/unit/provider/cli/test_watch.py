"""`capacity-claims watch`: what the screen shows."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coreweave_inference import CapacityClaim, Client, RetryPolicy, Unauthenticated
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.cli.console import by_name
from pulumi_coreweave_inference.cli.watch import History, Look, looks, screen

NOW = datetime(2026, 11, 27, 22, 0, 0, tzinfo=UTC)


def claim(name: str, allocated: int, count: int = 4, state: str = "STATUS_CREATING") -> CapacityClaim:
    resources = {"instanceId": "gb200-4x", "instanceCount": count, "zones": ["US-WEST-04A"]}
    reason = {"type": "Ready", "status": "STATUS_FALSE", "reason": "Allocating", "zone": "US-WEST-04A"}
    status = {"status": state, "allocatedInstances": allocated, "updatedAt": "2026-11-27T21:00:00Z"}
    if state != "STATUS_READY":
        status["conditions"] = [reason]
    return CapacityClaim.model_validate(
        {"spec": {"id": f"id-{name}", "name": name, "resources": resources}, "status": status}
    )


def watched(*allocated: int) -> tuple[Look, History, datetime]:
    """The last of several looks at one claim, a minute apart."""
    history, now = History(), NOW
    for index, each in enumerate(allocated):
        now = NOW + timedelta(minutes=index)
        history.add(claim("training", each), now)
    return Look([claim("training", allocated[-1])]), history, now


def test_a_screen_shows_the_share_over_time_and_since_when() -> None:
    look, history, now = watched(0, 0, 1, 2, 2, 4, 4, 4)
    lines = screen(look, history, now, 5, 120, 40).splitlines()
    assert lines[0] == "1 claim, 4/4 instances allocated   22:07:00 UTC, every 5 s, Ctrl-C ends"
    assert lines[2].split() == ["NAME", "ALLOCATED", "TIMELINE", "STATE", "SINCE", "TYPE", "CONDITIONS"]
    assert lines[3].split() == [
        *("training", "4/4", "▁▁▂▄▄███", "CREATING", "2m", "gb200-4x", "US-WEST-04A:", "Allocating")
    ]
    look, history, now = watched(0)
    assert screen(look, history, now, 5, 120, 40).splitlines()[3].split()[4] == "60m"


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_screen_is_never_larger_than_the_terminal(columns: int) -> None:
    history = History()
    claims = [claim(f"training-{index:03}", 0) for index in range(200)]
    for each in claims:
        history.add(each, NOW)
    shown = screen(Look(claims, "the API does not respond\x1b[2J"), history, NOW, 5, columns, 24).splitlines()
    assert len(shown) == 24
    assert max(map(len, shown)) <= columns
    assert all(line.isprintable() for line in shown)
    assert shown[-1].startswith("… and ")


@pytest.fixture
def client() -> Iterator[tuple[Client, Emulator]]:
    with Emulator() as emulator, Client(emulator.token, endpoint=emulator.url) as client:
        for name in ("one", "two"):
            client.capacity_claims.create(
                name,
                {
                    "instanceId": "gb200-4x",
                    "instanceCount": 1,
                    "zones": ["US-WEST-04A"],
                    "capacityType": "CAPACITY_TYPE_MANAGED",
                },
            )
        yield client, emulator


def test_an_outage_keeps_the_last_look_on_the_screen(client: tuple[Client, Emulator]) -> None:
    _, emulator = client
    with Client(emulator.token, endpoint=emulator.url, retry=RetryPolicy(deadline=0)) as api:
        all_looks = looks(api, ["t*"], None)
        assert [each.name for each in next(all_looks).claims] == ["two"]
        emulator.set_faults(
            [{"path": "list", "fail": {"code": "unavailable", "message": "down"}, "times": 1}]
        )
        during, after = islice(all_looks, 2)
        assert [each.name for each in during.claims] == ["two"]
        assert "the API does not respond at the moment: list: unavailable: down" in during.outage
        assert (len(after.claims), after.outage) == (1, "")
        assert [len(each.claims) for each in islice(looks(api, [], {"no such id"}), 2)] == [0, 0]


def test_a_refused_token_ends_it(client: tuple[Client, Emulator]) -> None:
    _, emulator = client
    with Client("expired", endpoint=emulator.url) as stranger, pytest.raises(Unauthenticated):
        next(looks(stranger, [], None))


def test_a_time_between_looks_that_is_no_time_is_refused() -> None:
    for value in ("inf", "1e12", "0", "nan"):
        assert CliRunner().invoke(app, ["watch", "--every", value]).exit_code == 2


def test_it_needs_a_terminal(client: tuple[Client, Emulator]) -> None:
    result = CliRunner().invoke(app, ["watch"])
    assert (result.exit_code, "watch needs a terminal" in result.stderr) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was() -> None:
    with Emulator(EmulatorSettings()) as emulator:
        child, terminal = pty.fork()
        if not child:
            os.environ.update(emulator.environment() | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"})
            command = str(Path(sys.executable).with_name("capacity-claims"))
            os.execv(command, [command, "watch"])
        said, until = b"", time.monotonic() + 60
        while b"Ctrl-C ends" not in said and time.monotonic() < until:
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 65_536)
        os.kill(child, signal.SIGINT)
        while True:
            try:
                piece = os.read(terminal, 65_536)
            except OSError:
                break
            if not piece:
                break
            said += piece
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"0 claims, 0/0 instances allocated" in said
    assert said.rstrip().endswith(b"\x1b[?25h") or b"\x1b[?1049l" in said, "the screen before is back"
    assert b"Traceback" not in said


def test_claims_are_in_the_order_that_people_number_them_in() -> None:
    names = ["training", "training-2", "training-010", "training-10", "training-1000", "training-x", "9", "b"]
    ordered = sorted([claim(name, 0) for name in names[::-1]], key=by_name)
    assert [found.name for found in ordered] == [
        *("9", "b", "training", "training-2", "training-010", "training-10", "training-1000", "training-x")
    ]
