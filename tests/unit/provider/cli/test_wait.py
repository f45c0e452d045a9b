"""`capacity-claims get`, `wait` and `doctor`, against an emulator."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference import Readiness
from pulumi_coreweave_inference.cli import doctor
from pulumi_coreweave_inference.cli import wait as wait_command
from pulumi_coreweave_inference.cli.app import app

RESOURCES = {
    "instanceId": "gb200-4x",
    "instanceCount": 2,
    "zones": ["US-WEST-04A"],
    "capacityType": "CAPACITY_TYPE_MANAGED",
}
NONE = {"US-WEST-04A": {"gb200-4x": 0}}


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COREWEAVE_RETRY_DEADLINE", "0")
    monkeypatch.setattr(wait_command, "PAUSES", (0.02,))
    with Emulator(EmulatorSettings(inventory=NONE)) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    with Client() as connected:
        yield connected


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_a_claim_is_shown_with_its_conditions_by_id_and_by_name(client: Client) -> None:
    claim_id = client.capacity_claims.create("training", RESOURCES).id
    shown = run("get", "training")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"Id:            {claim_id}\n" in shown.stdout
    assert "Allocated:     0/2 gb200-4x\n" in shown.stdout
    assert re.search(r"US-WEST-04A +Ready +STATUS_FALSE", shown.stdout)
    assert json.loads(run("get", claim_id, "--format", "json").stdout)["name"] == "training"


def test_a_claim_that_does_not_exist_gets_a_suggestion(client: Client) -> None:
    for name in ("training", "twin", "twin"):
        client.capacity_claims.create(name, RESOURCES)
    for command in (("get", "trainig"), ("wait", "trainig")):
        missing = run(*command)
        assert (missing.exit_code, missing.stdout) == (1, "")
        assert "there is no claim with the id or name 'trainig'; did you mean \"training\"?" in missing.stderr
        assert "Next: run `capacity-claims list`" in missing.stderr
    twice = run("get", "twin")
    assert (twice.exit_code, "2 claims are named 'twin'; specify one of the ids: " in twice.stderr) == (
        2,
        True,
    )


def test_a_wait_ends_when_all_claims_are_ready(emulator: Emulator, client: Client) -> None:
    for name in ("one", "two"):
        client.capacity_claims.create(name, RESOURCES)
    emulator.set_faults(
        [
            {"path": "get", "nth": 2, "fail": {"code": "unavailable"}},
            {"path": "get", "nth": 4, "foreign_edit": {"spec": {}}},
        ]
    )
    emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 2}})
    late = run("wait", "one", "two", "--timeout", "0.5s")
    assert late.exit_code == 1
    assert "two (" in late.stderr
    assert "is not ready in time: CREATING, 0/2 instances" in late.stderr
    assert "one (" not in late.stderr
    emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 4}})
    ready = run("wait", "one", "two", "--timeout", "10s")
    assert (ready.exit_code, ready.stdout) == (0, "")
    emulator.set_inventory(NONE)
    client.capacity_claims.create("three", RESOURCES)
    assert run("wait", "three", "--min-instances", "0", "--timeout", "0.2s").exit_code == 1  # not READY


def test_a_wait_says_what_it_waits_for(
    client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_command, "PAUSES", (0.02, 5.0))  # of a clock that passes only in pauses
    claim = client.capacity_claims.create("training", RESOURCES)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    late = wait_command.wait_for(client, [claim], Readiness(timeout="10m"), lambda: now[0], sleep)
    assert late == [f"training ({claim.id}) is not ready in time: CREATING, 0/2 instances"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training: 0/2, 10m left, CREATING; US-WEST-04A: ")
    assert 4 <= len(lines) <= 6


def test_a_claim_that_is_gone_or_failed_ends_the_wait_with_1(emulator: Emulator, client: Client) -> None:
    ids = {name: client.capacity_claims.create(name, RESOURCES).id for name in ("gone", "failed")}
    emulator.edit_claim(ids["failed"], status={"status": "STATUS_FAILED"})
    emulator.set_faults([{"path": "get", "claim": ids["gone"], "nth": 2, "foreign_delete": True}])
    ended = run("wait", "gone", "failed", "--timeout", "30s")
    assert ended.exit_code == 1
    assert f"gone ({ids['gone']}) is gone" in ended.stderr
    assert f"failed ({ids['failed']}) has ended: FAILED, 0/2 instances" in ended.stderr


def test_an_outage_neither_ends_nor_prolongs_a_wait_and_is_told(
    emulator: Emulator, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREWEAVE_RETRY_DEADLINE", "5m")
    client.capacity_claims.create("training", RESOURCES)
    emulator.set_faults([{"path": "get", "fail": {"code": "unavailable", "message": "down"}}])
    late = run("wait", "training", "--timeout", "0.3s")
    assert late.exit_code == 1
    assert "is not ready in time: CREATING, 0/2 instances: the API does not respond" in late.stderr


def test_a_failure_is_told_even_if_a_refused_token_ends_the_wait(emulator: Emulator, client: Client) -> None:
    for name in ("failed", "waiting"):
        client.capacity_claims.create(name, RESOURCES)
    (failed, _) = emulator.claims()
    emulator.edit_claim(failed.id, status={"status": "STATUS_FAILED"})
    emulator.set_faults([{"path": "get", "nth": 2, "fail": {"code": "unauthenticated"}}])
    ended = run("wait", "failed", "waiting", "--timeout", "30s")
    assert (ended.exit_code, f"failed ({failed.id}) has ended: FAILED" in ended.stderr) == (2, True)


def test_a_refused_token_ends_the_wait_with_2(emulator: Emulator, client: Client) -> None:
    client.capacity_claims.create("training", RESOURCES)
    emulator.set_faults([{"path": "get", "fail": {"code": "unauthenticated"}}])
    assert run("wait", "training").exit_code == 2
    assert run("wait", "training", "--timeout", "soon").exit_code == 2


def checks(**environment: Any) -> dict[str, doctor.Check]:
    return {check.subject: check for check in doctor.api_checks()}


def test_the_doctor_sees_what_the_token_may_do(
    emulator: Emulator, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.capacity_claims.create("training", RESOURCES)
    found = checks()
    assert all(check.is_good for check in found.values())
    assert found["token"].found == "may read 1 claims; organization: cw0a1b"
    assert "may write" in found["role"].found
    assert len(emulator.live_claims()) == 1
    monkeypatch.setenv("COREWEAVE_API_TOKEN", emulator.viewer_token)
    assert "Inference Admin" in checks()["role"].advice
    monkeypatch.setenv("COREWEAVE_API_TOKEN", "expired")
    assert "set COREWEAVE_API_TOKEN to a valid token" in checks()["API"].advice
    monkeypatch.setenv("COREWEAVE_API_TOKEN", "")
    monkeypatch.delenv("CW_API_TOKEN", raising=False)
    assert "COREWEAVE_API_TOKEN" in checks()["token"].advice
    monkeypatch.setenv("COREWEAVE_HTTP_TIMEOUT", "soon")
    assert "COREWEAVE_HTTP_TIMEOUT" in checks()["settings"].found


@pytest.mark.parametrize(
    ("printed", "is_good"),
    [("v3.259.0", True), ("v3.254.0-alpha.1", True), ("v3.253.9", False), ("", False), ("\x1b[2Jv3", False)],
)
def test_the_doctor_knows_which_engines_work(printed: str, is_good: bool) -> None:
    *_, engine = doctor.local_checks(lambda command: printed)
    assert engine.is_good == is_good
    assert engine.found.isprintable()


def test_the_doctor_survives_a_program_that_prints_no_text(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "pulumi"
    odd.write_text("#!/bin/sh\nprintf 'v3.\\377'\n")
    odd.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    *_, engine = doctor.local_checks()
    assert not engine.is_good


def test_the_doctor_says_what_to_do_and_exits_with_1(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = run("doctor")
    assert result.exit_code == 1
    assert "✗ Pulumi engine: " in result.stdout
    assert "\n  Next: install the Pulumi CLI" in result.stdout
    assert "✓ role: " in result.stdout


def test_every_help_has_an_example_and_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    top = run("-h").stdout
    assert top == run("--help").stdout
    listed = top.partition("Commands:\n")[2].splitlines()
    assert len(listed) >= 10
    for line in listed:
        assert not line.endswith("..."), line
        shown = run(line.split()[0], "-h").stdout
        assert "Example: " in shown, line
        assert max(map(len, shown.splitlines())) <= 80


def test_the_doctor_says_that_there_is_no_engine() -> None:
    def missing(command: list[str]) -> str:
        raise FileNotFoundError(2, "No such file or directory", command[0])

    engine = list(doctor.local_checks(missing))[-1]
    assert engine.found == "`pulumi` is not on PATH"
    assert engine.advice.startswith("install the Pulumi CLI")
