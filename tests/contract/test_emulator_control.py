"""Control of a running emulator: stock, faults, reset, and whom the control token is sent to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.claims import create

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorControl, EmulatorSettings, Stock
from coreweave_inference.emulator.control import ControlTokenRefused

INVENTORY = {"US-WEST-01A": {"a": 4, "b": 1}, "US-EAST-01A": {"a": 2}}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    rules = [{"name": "first", "path": "get", "delay": 0}]
    with Emulator(EmulatorSettings(inventory=INVENTORY), faults=rules) as running:
        yield running


@pytest.fixture
def control(emulator: Emulator) -> EmulatorControl:
    return EmulatorControl(emulator.url, emulator.admin_token)


def test_the_stock_says_what_is_available(emulator: Emulator, control: EmulatorControl) -> None:
    create(emulator)
    expected = {"US-WEST-01A": {"a": Stock(4, 1), "b": Stock(1, 1)}, "US-EAST-01A": {"a": Stock(2, 2)}}
    assert control.stock() == emulator.stock() == expected
    control.set_inventory({"US-WEST-01A": {"a": 1}}, merge=True)
    assert control.stock()["US-WEST-01A"]["a"] == Stock(1, 0)


def test_a_reset_restores_the_start(emulator: Emulator, control: EmulatorControl) -> None:
    create(emulator, count=6)
    control.set_inventory({"RNO2A": {"c": 1}})
    control.set_faults([{"path": "list", "fail": {}}])
    before = control.now()
    control.advance_clock(1_000)
    control.reset()
    assert (control.claims(), control.requests(), control.inventory()) == ([], [], INVENTORY)
    assert control.faults()["counts"] == {"first": {"met": 0, "hit": 0}}
    assert control.now() >= before + 1_000 * 10**9, "the clock only moves forward"
    create(emulator, count=6)
    assert [claim.waiting for claim in control.claims()] == [0], "the stock is free again"
    assert [request.sequence for request in control.requests()] == [2], "the numbering continues"


def test_a_reset_empties_the_state_file(tmp_path: Path) -> None:
    settings = EmulatorSettings(state=tmp_path / "state.db", repeated_delete="last_state")
    headers = {"Authorization": f"Bearer {settings.token}"}
    with Emulator(settings) as emulator:
        emulator.set_inventory(INVENTORY)
        gone, _ = create(emulator, "gone", 1), create(emulator, "training", 1)
        path = f"/v1alpha1/inference/capacityclaims/{gone}"
        httpx.delete(emulator.url + path, headers=headers)
        assert httpx.delete(emulator.url + path, headers=headers).status_code == 200
        emulator.reset()
        assert httpx.delete(emulator.url + path, headers=headers).status_code == 404
    with Emulator(settings) as emulator:
        assert emulator.claims() == []
        assert "US-WEST-04A" in emulator.inventory()
        assert httpx.delete(emulator.url + path, headers=headers).status_code == 404


def test_a_reset_closes_the_connections_of_held_requests(emulator: Emulator) -> None:
    emulator.set_faults([{"path": "create", "hold": "before"}])
    failures: list[Exception] = []

    def post() -> None:
        try:
            httpx.post(
                f"{emulator.url}/v1alpha1/inference/capacityclaims",
                headers={"Authorization": f"Bearer {emulator.token}"},
            )
        except httpx.TransportError as error:
            failures.append(error)

    caller = threading.Thread(target=post)
    caller.start()
    emulator.wait_for_hold()
    emulator.reset()
    caller.join(10)
    assert (len(failures), emulator.holds(), emulator.claims()) == (1, [], [])


def test_rules_are_added_without_resetting_the_others(emulator: Emulator, control: EmulatorControl) -> None:
    claim = create(emulator)
    with Client(emulator.token, endpoint=emulator.url) as client:
        client.capacity_claims.get(claim)
    control.add_faults([{"path": "list", "delay": 0}, {"name": "third", "delay": 0}])
    assert control.faults()["counts"] == {
        "first": {"met": 1, "hit": 1}, "rule-2": {"met": 0, "hit": 0}, "third": {"met": 0, "hit": 0},
    }  # fmt: skip
    control.add_faults([{"name": "first", "path": "create", "delay": 0}])
    assert control.faults()["counts"] == {
        "rule-2": {"met": 0, "hit": 0}, "third": {"met": 0, "hit": 0}, "first": {"met": 0, "hit": 0},
    }  # fmt: skip
    with pytest.raises(ValueError, match="rule 1: no such field: wait"):
        control.add_faults([{"wait": 1}])


def test_random_faults_are_added_and_stay(emulator: Emulator) -> None:
    emulator._call("PATCH", "/faults", {"random": {"seed": 1, "rate": 0.5}})
    emulator.add_faults([{"name": "more", "delay": 0}])
    faults = emulator.faults()
    assert faults["random"] == {"seed": 1, "rate": 0.5}
    assert [rule["name"] for rule in faults["rules"]] == ["first", "more"]  # type: ignore[attr-defined]


def test_a_wrong_control_token_is_an_error_of_its_own(emulator: Emulator) -> None:
    with pytest.raises(ControlTokenRefused, match="missing or invalid control token"):
        EmulatorControl(emulator.url, "wrong").reset()


# Who is asked


@contextmanager
def server(status: int, body: bytes) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that is no emulator; it notes paths and Authorization headers."""
    seen: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", seen
        finally:
            running.shutdown()
            thread.join()


def test_an_emulator_says_what_it_is(emulator: Emulator) -> None:
    assert EmulatorControl(emulator.url, "any").is_emulator()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"ok"),
        (200, b"[" * 999),
        (200, json.dumps({"status": "ok"}).encode()),
        (200, json.dumps(["emulator"]).encode()),
        (200, json.dumps({"emulator": "other"}).encode()),
        (404, json.dumps({"emulator": "coreweave-inference"}).encode()),
        (200, b'{"emulator": "coreweave-inference", "pad": "' + b"x" * 100_000 + b'"}'),
        (200, b"\xff\xfe"),
    ],
)
def test_another_server_is_no_emulator_and_gets_no_token(status: int, body: bytes) -> None:
    with server(status, body) as (url, seen):
        assert not EmulatorControl(f"{url}/base", "secret").is_emulator()
    assert seen == [("/base/healthz", None)]
