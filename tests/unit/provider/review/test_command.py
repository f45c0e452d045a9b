"""`capacity-claims review` as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pulumi_coreweave_inference.cli.app import app

DATA = Path(__file__).parent / "data"
runner = CliRunner()


def test_review_reads_stdin_or_a_file_and_writes_markdown_in_a_pipe() -> None:
    text = (DATA / "reorder-zones.json").read_text(encoding="utf-8")
    piped = runner.invoke(app, ["review"], input=text)
    given = runner.invoke(app, ["review", str(DATA / "reorder-zones.json")])
    dashed = runner.invoke(app, ["review", "-"], input=text)
    assert (piped.exit_code, given.exit_code, dashed.exit_code) == (0, 0, 0)
    assert piped.stdout == given.stdout == dashed.stdout
    assert "`US-WEST-04A, US-EAST-04A` → `US-EAST-04A, US-WEST-04A`" in piped.stdout


def test_formats_can_be_chosen() -> None:
    table = runner.invoke(app, ["review", str(DATA / "create.json"), "--format", "table"])
    assert "Instance type" in table.stdout
    assert "|---" not in table.stdout
    report = runner.invoke(app, ["review", str(DATA / "create.json"), "--format", "json"])
    assert json.loads(report.stdout)["version"] == 1


def test_only_the_approved_plan_passes() -> None:
    mark = json.loads(runner.invoke(app, ["review", str(DATA / "create.json"), "--format", "json"]).stdout)
    args = ["--expect-fingerprint", mark["fingerprint"].upper()]
    assert runner.invoke(app, ["review", str(DATA / "create.json"), *args]).exit_code == 0
    other = runner.invoke(app, ["review", str(DATA / "scale-up.json"), *args])
    assert other.exit_code == 1
    assert "expect-fingerprint" in other.stdout
    assert (
        runner.invoke(app, ["review", str(DATA / "create.json"), "--expect-fingerprint", "12"]).exit_code == 2
    )


def test_a_plan_with_a_secret_count_is_never_approved() -> None:
    mixed = str(DATA / "mixed.json")
    mark = json.loads(runner.invoke(app, ["review", mixed, "--format", "json"]).stdout)["fingerprint"]
    done = runner.invoke(app, ["review", mixed, "--expect-fingerprint", mark])
    assert done.exit_code == 1
    assert "| expect-fingerprint | `sized-secretly` | `instance count is secret` |" in done.stdout


def test_a_failed_preview_is_shown_and_exits_with_2() -> None:
    failed = runner.invoke(app, ["review", str(DATA / "protect.json")])
    assert failed.exit_code == 2
    assert "cannot be deleted" in failed.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"error: no stack selected", "is not JSON"),
        (b'{"steps": [', "is not JSON"),
        (b"[]", "not a preview"),
        (b"{}", "not a preview"),
        (b"3", "not a preview"),
        (b'{"version": 3, "deployment": {}}', "not a preview"),
        (b'{"steps": 3}', "not a preview"),
        (b'{"steps": [3]}', "step 0 has no op"),
        (b'{"steps": [{"op": "create"}]}', "step 0 has no op"),
        (b'{"type": "a"}\n{"type": "b"}', "more than one JSON document"),
        (b"\xff\xfe\xff", "is not"),
        (b"[" * 100_000, "not JSON"),
        (b'{"steps": [' + b"9" * 5000 + b"]}", "not JSON"),
    ],
)
def test_other_input_is_refused_in_one_line(given: bytes, message: str) -> None:
    done = runner.invoke(app, ["review"], input=given)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("capacity-claims review: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_step_of_a_claim_is_refused() -> None:
    urn = "urn:pulumi:prod::claims::pulumi-python:dynamic/capacityClaim:CapacityClaim::training"
    done = runner.invoke(app, ["review"], input=json.dumps({"steps": [{"op": "melt", "urn": urn}]}))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'melt'" in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = runner.invoke(app, ["review", str(tmp_path / "absent.json")])
    assert done.exit_code == 2
    assert done.stderr == f"capacity-claims review: {tmp_path}/absent.json: No such file or directory\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_preview_in_another_encoding_is_read(encoding: str) -> None:
    text = (DATA / "create.json").read_text(encoding="utf-8").encode(encoding)
    assert runner.invoke(app, ["review"], input=text).exit_code == 0


@pytest.mark.parametrize("option", ["--rules", "--prices"])
def test_a_file_with_a_mistake_is_named(option: str, tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text("colour = 1", encoding="utf-8")
    done = runner.invoke(app, ["review", str(DATA / "create.json"), option, str(file)])
    assert done.exit_code == 2
    assert f"{file}: unknown key colour" in done.stderr


@pytest.mark.parametrize("option", ["--rules", "--prices"])
def test_a_file_that_cannot_be_read_is_named(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "locked.toml"
    file.touch()
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    result = runner.invoke(app, ["review", str(DATA / "create.json"), option, str(file)])
    assert result.exit_code == 2
    assert f"{file}: Permission denied" in result.stderr


def test_rules_and_prices_are_applied(tmp_path: Path) -> None:
    rules, prices = tmp_path / "rules.toml", tmp_path / "prices.toml"
    rules.write_text('replace = "forbid"', encoding="utf-8")
    prices.write_text('currency = "USD"\n[per_hour]\n"gb200-4x" = 10\n', encoding="utf-8")
    done = runner.invoke(
        app,
        ["review", str(DATA / "reorder-zones.json"), "--rules", str(rules), "--prices", str(prices)],
    )
    assert done.exit_code == 1
    assert "| replace | `training` |" in done.stdout
    assert "60.00 → 60.00 `USD` per hour, at most 100.00 during the update" in done.stdout


def test_help_explains_the_pipe_and_the_exit_codes() -> None:
    shown = " ".join(runner.invoke(app, ["review", "--help"]).stdout.split())
    for part in (
        "pulumi preview --json",
        "--rules",
        "--prices",
        "--expect-fingerprint",
        "Exit codes: 0",
        "1 if a rule",
    ):
        assert part in shown


def test_the_modules_of_a_review_are_imported_when_it_runs() -> None:
    code = "import sys, pulumi_coreweave_inference.cli.app as a; print(*[m for m in sys.modules if '.review.' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package = "pulumi_coreweave_inference.cli.review"
    assert sorted(done.stdout.split()) == [f"{package}.command", f"{package}.outputs"]
