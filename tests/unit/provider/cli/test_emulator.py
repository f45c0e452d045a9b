"""`capacity-claims emulator` in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from coreweave_inference import CapacityClaimResources, Client
from coreweave_inference.emulator import Emulator, EmulatorControl, EmulatorSettings
from pulumi_coreweave_inference.cli.emulator.command import _announce

COMMAND = (str(Path(sys.executable).with_name("capacity-claims")), "emulator")


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    process = subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        exported = dict[str, str]()
        for line in process.stdout:
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                exported[name] = value
            if "Ctrl-C" in line:
                break
        yield process, exported
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)


def refused(*options: str) -> str:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.parametrize("quiet", [False, True])
def test_each_request_is_logged_unless_quiet(quiet: bool) -> None:
    with running(*(["--quiet"] if quiet else [])) as (process, exported):
        with Client(exported["COREWEAVE_API_TOKEN"], endpoint=exported["COREWEAVE_API_ENDPOINT"]) as client:
            client.capacity_claims.list()
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=10)
    lines = [line.partition("  ")[2] for line in shown.splitlines()]
    request = "GET /v1alpha1/inference/capacityclaims: 200"
    assert lines == ([] if quiet else [request, "The emulator has stopped."])


def test_a_variant_answers_an_open_question() -> None:
    options = ("--variant", "zones-shown=sorted", "--variant", "capacity_type_shown=customer", "--quiet")
    wanted = CapacityClaimResources(
        instance_id="gb200-4x",
        instance_count=1,
        zones=["US-WEST-04A", "US-EAST-04A"],
        capacity_type="CAPACITY_TYPE_MANAGED",
    )
    with running(*options) as (_, exported):
        with Client(exported["COREWEAVE_API_TOKEN"], endpoint=exported["COREWEAVE_API_ENDPOINT"]) as client:
            shown = client.capacity_claims.create("train", wanted).resources.to_wire()
    assert shown["zones"] == ["US-EAST-04A", "US-WEST-04A"]
    assert shown["capacityType"] == "CAPACITY_TYPE_CUSTOMER"


def test_it_prints_its_page_and_how_to_control_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("--quiet") as (process, exported):
        assert list(exported) == [
            "COREWEAVE_API_ENDPOINT", "COREWEAVE_API_TOKEN", "COREWEAVE_EMULATOR_CONTROL_TOKEN"
        ]  # fmt: skip
        assert exported["COREWEAVE_EMULATOR_CONTROL_TOKEN"] != exported["COREWEAVE_API_TOKEN"]
        done = subprocess.run(
            [*COMMAND, "stock", "RNO2A", "l40s-8x=7"],
            env=os.environ | exported, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=10)
    assert error == "", "a loopback address needs no warning"


def test_the_control_token_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREWEAVE_EMULATOR_CONTROL_TOKEN", "c0ntr0l")
    with running("--quiet") as (_, exported):
        assert exported["COREWEAVE_EMULATOR_CONTROL_TOKEN"] == "c0ntr0l"
        assert EmulatorControl(exported["COREWEAVE_API_ENDPOINT"], "c0ntr0l").claims() == []


def test_an_address_of_the_network_is_warned_of_and_names_are_allowed() -> None:
    with running("--quiet", "--host", "0.0.0.0", "--allowed-host", "emulator") as (process, exported):
        endpoint = exported["COREWEAVE_API_ENDPOINT"]
        assert endpoint.startswith("http://127.0.0.1:")
        statuses = [
            httpx.get(f"{endpoint}/healthz", headers={"Host": host}).status_code
            for host in ("127.0.0.1", "emulator:8080", "evil.example", "0.0.0.0")
        ]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=10)
    assert statuses == [200, 200, 421, 421]
    assert error.startswith("WARNING: this emulator listens on 0.0.0.0. It can be reached from the network")
    assert error.count("\n") == 1


def test_an_address_that_clients_refuse_is_said_to_be_refused(capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://192.0.2.2:8080"
    started = SimpleNamespace(
        settings=EmulatorSettings(host="192.0.2.2"), url=url, admin_token="x", environment=dict
    )
    _announce(cast("Emulator", started))
    assert f"\nWARNING: clients refuse {url}: they send no token over http" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "not.a.host.invalid"), "host: 'not.a.host.invalid' is not an address of this machine"),
        (("--host", "203.0.113.7"), "203.0.113.7, port 0: Cannot assign requested address"),
        (("--host", ""), "host: must not be empty"),
        (("--allowed-host", "http://x"), "allowed_hosts: 'http://x' is not the name of a host"),
        (("--variant", "shortage"), "variant 'shortage': write it as name=answer"),
        (("--variant", "x=y"), "there is no variant 'x'; the variants are error_form,"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(options: tuple[str, ...], message: str) -> None:
    error = refused(*options)
    assert error.startswith(f"capacity-claims emulator: {message}")
    assert error.count("\n") == 1


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert (
            refused("--port", str(port)) == f"capacity-claims emulator: port {port}: Address already in use\n"
        )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('[{"fail": {"code": "gone"}}]', "rule 1: fail.code"),
        ('[{"delay": 1}, {"nth": 0}]', "rule 2: nth: must be at least 1"),
        ('{"rule": []}', "no such field: rule"),
        ("[", "Expecting value"),
    ],
)
def test_invalid_fault_rules_are_refused_with_file_rule_and_field(
    tmp_path: Path, rules: str, message: str
) -> None:
    file = tmp_path / "faults.json"
    file.write_text(rules, encoding="utf-8")
    error = refused("--faults", str(file))
    assert error.startswith(f"capacity-claims emulator: {file}: ")
    assert message in error
    assert error.count("\n") == 1
