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

import pytest

from coreweave_inference import CapacityClaimResources, Client

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


def test_options_say_which_forms_claims_show() -> None:
    options = ("--zones-shown", "sorted", "--capacity-type-shown", "customer", "--quiet")
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
