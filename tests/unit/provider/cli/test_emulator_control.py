"""The commands that control an emulator that runs, and how they find it."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from pydantic import TypeAdapter
from typer.testing import CliRunner

from coreweave_inference import CapacityClaimResources, Client
from coreweave_inference.emulator import Emulator, EmulatorSettings, RequestRecord
from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.cli.console import CommandError
from pulumi_coreweave_inference.cli.emulator.control import followed
from pulumi_coreweave_inference.cli.emulator.remote import RunningEmulator

CONTROL_TOKEN = "c0ntr0l-t0ken"
COMMANDS = (["stock"], ["faults"], ["clock"], ["reset"], ["requests"], ["requests", "--follow"])


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.chdir(tmp_path)
    inventory = {"US-WEST-04A": {"gb200-4x": 2}, "RNO2A": {"l40s-8x": 8}}
    with Emulator(EmulatorSettings(control_token=CONTROL_TOKEN, inventory=inventory)) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COREWEAVE_EMULATOR_CONTROL_TOKEN", CONTROL_TOKEN)
        yield running


def create(emulator: Emulator, count: int = 3) -> None:
    resources = CapacityClaimResources(
        instance_id="gb200-4x", instance_count=count, zones=["US-WEST-04A"],
        capacity_type="CAPACITY_TYPE_MANAGED",
    )  # fmt: skip
    with Client(emulator.token, endpoint=emulator.url) as client:
        client.capacity_claims.create("training", resources)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["emulator", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert CONTROL_TOKEN not in result.output
    return result


def shown(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    return result.stderr.removesuffix("\n")


def test_the_stock_is_shown_with_what_is_available(emulator: Emulator) -> None:
    create(emulator, 1)
    lines = [line.split() for line in shown("stock").splitlines()]
    assert lines == [
        ["ZONE", "TYPE", "AVAILABLE", "TOTAL"],
        ["US-WEST-04A", "gb200-4x", "1", "2"],
        ["RNO2A", "l40s-8x", "8", "8"],
    ]


def test_a_count_sets_the_total_and_serves_who_waits(emulator: Emulator) -> None:
    create(emulator, 3)
    assert [claim.waiting for claim in emulator.claims()] == [1]
    lines = shown("stock", "US-WEST-04A", "gb200-4x=4", "h100=0").splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["US-WEST-04A", "gb200-4x", "1", "4"], ["US-WEST-04A", "h100", "0", "0"],
    ]  # fmt: skip
    assert [claim.waiting for claim in emulator.claims()] == [0]
    assert emulator.inventory()["RNO2A"] == {"l40s-8x": 8}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([], "which instances of Z? Name a type and its total, such as gb200-4x=16"),
        (["gb200-4x"], "'gb200-4x' is not a type and its total: write it as gb200-4x=16"),
        (["=4"], "'=4' is not a type and its total"),
        (["a=-1"], "'a=-1' is not a type and its total"),
        (["a=1", "a=2"], "a is given twice"),
        (["\x1b[2J\n=x"], "'\\x1b[2J\\n=x' is not a type"),
    ],
)
def test_a_count_that_is_none_is_refused(emulator: Emulator, counts: list[str], message: str) -> None:
    assert refused("stock", "Z", *counts).startswith(f"capacity-claims: {message}")
    assert "Z" not in emulator.inventory()


def test_fault_rules_are_shown_replaced_and_cleared(emulator: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "outage.toml"
    file.write_text('[[rules]]\npath = "create"\nname = "first"\nfail = {}\n', encoding="utf-8")
    assert json.loads(shown("faults")) == {"rules": [], "calls": 0, "counts": {}}
    assert json.loads(shown("faults", str(file)))["counts"] == {"first": {"met": 0, "hit": 0}}
    assert emulator.faults()["counts"] == {"first": {"met": 0, "hit": 0}}
    assert json.loads(shown("faults", "--clear"))["rules"] == []
    assert emulator.faults()["rules"] == []


def test_fault_rules_with_a_mistake_are_refused_with_their_place(emulator: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "outage.json"
    file.write_text('[{"path": "create"}, {"wait": 1}]', encoding="utf-8")
    assert refused("faults", str(file)).startswith(f"capacity-claims: {file}: rule 2: no such field: wait")
    assert "mutually exclusive" in refused("faults", str(file), "--clear")


def test_the_clock_is_shown_and_moved(emulator: Emulator) -> None:
    before = emulator.now() // 10**9
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", shown("clock"))
    shown("clock", "+1h30m")
    assert 5_400 <= emulator.now() // 10**9 - before < 5_460
    assert "moves forward: write +30m, not '30m'" in refused("clock", "30m")
    assert "'soon' is not a duration" in refused("clock", "+soon")
    assert f"the emulator at {emulator.url}: advance: must be at most" in refused("clock", "+999999h")


def test_a_reset_removes_the_claims(emulator: Emulator) -> None:
    create(emulator)
    assert shown("reset") == ""
    assert (emulator.claims(), emulator.requests()) == ([], [])


def test_requests_are_shown_as_the_emulator_logs_them(emulator: Emulator) -> None:
    emulator.set_faults([{"name": "\x1b[2J", "path": "list", "fail": {"code": "internal"}}])
    create(emulator)
    path = "/v1alpha1/inference/capacityclaims"
    httpx.get(emulator.url + path, headers={"Authorization": f"Bearer {emulator.token}"})
    lines = [line.partition("  ")[2] for line in shown("requests").splitlines()]
    assert lines == [f"POST {path}: 200", rf"GET {path}: 500 by \x1b[2J"]


def record(number: int, *, done: bool = True) -> RequestRecord:
    seconds = 0.1 if done else None
    return RequestRecord(number, 0, "GET", "/", "", "", seconds=seconds)


def test_following_shows_each_request_once_when_it_is_done() -> None:
    looks = iter([
        [record(1), record(2, done=False), record(3)],
        [record(2, done=False), record(3), record(4)],
        [record(2), record(3), record(4)],
        [],
        [record(6)],
    ])  # fmt: skip
    asked: list[int] = []

    def read(since: int) -> list[RequestRecord]:
        asked.append(since)
        return next(looks)

    seen = followed(read, sleep=lambda seconds: None)
    assert [next(seen).sequence for _ in range(5)] == [1, 3, 4, 2, 6]
    assert asked == [0, 1, 1, 4, 4]


# Which server is asked


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("COREWEAVE_API_ENDPOINT", "", "COREWEAVE_API_ENDPOINT is not set; run the export lines"),
        ("COREWEAVE_API_ENDPOINT", "http://10.0.0.1:8080", "the endpoint on 10.0.0.1 uses plain http"),
        ("COREWEAVE_API_ENDPOINT", "localhost", "the endpoint must start with https://"),
        ("COREWEAVE_API_ENDPOINT", "http://127.0.0.1:1", "no emulator responds at http://127.0.0.1:1: Conn"),
        ("COREWEAVE_EMULATOR_CONTROL_TOKEN", " ", "COREWEAVE_EMULATOR_CONTROL_TOKEN is not set; run"),
        ("COREWEAVE_EMULATOR_CONTROL_TOKEN", "a\nb", "must be visible ASCII characters"),
        ("COREWEAVE_EMULATOR_CONTROL_TOKEN", "x", "does not accept COREWEAVE_EMULATOR_CONTROL_TOKEN"),
    ],
)
def test_each_way_to_miss_the_emulator_is_one_line(
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert message in refused(*command)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_no_emulator_gets_no_token(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    seen: list[tuple[str, str | None]] = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("COREWEAVE_API_ENDPOINT", url)
        try:
            error = refused(*command)
        finally:
            server.shutdown()
            thread.join()
    assert error == (
        f"capacity-claims: {url} is not an emulator; run the export lines that `capacity-claims emulator` printed"
    )
    assert seen == [("/healthz", None)]


# The group


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("stok")
    assert (result.exit_code, "No such command 'stok'" in result.stderr) == (2, True)


def test_options_of_the_start_are_not_ignored_by_a_command(emulator: Emulator) -> None:
    error = "capacity-claims: --port is for starting an emulator, not for `stock`"
    assert refused("--port", "1", "stock") == error


def test_variants_are_listed_with_answers_and_defaults() -> None:
    listed = shown("variants")
    assert "shortage=creating    [creating or error or failed]\n  How does a shortage show? " in listed
    assert "max_zones=none    [a number from 1 or none]\n" in listed


@pytest.mark.parametrize("problem", [lambda _: TypeAdapter(int).validate_python("x"), lambda _: len(None)])
def test_an_emulator_that_answers_differently_is_one_line(
    emulator: Emulator, problem: Callable[..., object]
) -> None:
    with pytest.raises(CommandError) as refused:
        RunningEmulator().ask(problem)
    assert str(refused.value).endswith("answers differently; is it of another version?")
