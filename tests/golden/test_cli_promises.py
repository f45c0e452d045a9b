"""The promises of the command line: a failure here means that a change breaks one of them.

The recorded previews contain the ids of their claims. A new recording changes those, and with them the
fingerprints and `review-report.json`; nothing else may change them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from coreweave_inference.emulator import Emulator
from pulumi_coreweave_inference.cli import console
from pulumi_coreweave_inference.cli.app import app

RECORDED: Final = Path(__file__).parents[1] / "unit" / "provider" / "review" / "data"
REPORT: Final = Path(__file__).parent / "review-report.json"


def run(*arguments: str) -> int:
    return CliRunner().invoke(app, arguments).exit_code


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COREWEAVE_RETRY_DEADLINE", "0")
    rules, state = tmp_path / "rules.toml", tmp_path / "state.json"
    rules.write_text('replace = "forbid"', encoding="utf-8")
    deployment = {"resources": [{
        "type": "pulumi-python:dynamic/capacityClaim:CapacityClaim",
        "urn": "urn:pulumi:prod::p::pulumi-python:dynamic/capacityClaim:CapacityClaim::training",
        "id": "00000000-0000-4000-8000-000000000000",
    }]}  # fmt: skip
    state.write_text(json.dumps({"version": 3, "deployment": deployment}), encoding="utf-8")
    create, replace, failed = (
        str(RECORDED / f"{name}.json") for name in ("create", "reorder-zones", "protect")
    )
    with Emulator() as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        codes = {
            "list": run("list"),
            "list, unknown state": run("list", "--state", "x"),
            "get, not found": run("get", "x"),
            "wait, not found": run("wait", "x"),
            "zones": run("zones"),
            "zones, no zone offers the type": run("zones", "--type", "x"),
            "import, not found": run("import", "x"),
            "import, no claims given": run("import"),
            "orphans, claim gone": run("orphans", "--state", str(state)),
            "orphans, no stacks given": run("orphans"),
            "release, not found": run("release", "--unchecked", "--yes", "1" * 8 + "-0000-4000-8000-" + "1" * 12),
            "release, not a claim id": run("release", "--unchecked", "--yes", "x"),
            "review": run("review", create),
            "review, rule violated": run("review", replace, "--rules", str(rules)),
            "review, other fingerprint": run("review", create, "--expect-fingerprint", "0" * 64),
            "review, failed preview": run("review", failed),
            "review, no preview": run("review", str(rules)),
        }  # fmt: skip
    assert (console.EXIT_FINDINGS, console.EXIT_ERROR, console.EXIT_INTERNAL) == (1, 2, 70)
    assert codes == {
        "list": 0,
        "list, unknown state": 2,
        "get, not found": 1,
        "wait, not found": 1,
        "zones": 0,
        "zones, no zone offers the type": 1,
        "import, not found": 1,
        "import, no claims given": 2,
        "orphans, claim gone": 1,
        "orphans, no stacks given": 2,
        "release, not found": 0,
        "release, not a claim id": 2,
        "review": 0,
        "review, rule violated": 1,
        "review, other fingerprint": 1,
        "review, failed preview": 2,
        "review, no preview": 2,
    }


def report(name: str, *options: str) -> str:
    return (
        CliRunner()
        .invoke(app, ["review", str(RECORDED / f"{name}.json"), "--format", "json", *options])
        .stdout
    )


def test_fingerprint_of_a_recorded_preview() -> None:
    found = {
        name: json.loads(report(name))["fingerprint"]
        for name in ("create", "reorder-zones", "mixed", "retain")
    }
    assert found == {
        "create": "6500f10ccda1f8e96291be3cabda841b26c4ce9e686d31d359d16ed2f50eca6b",
        "reorder-zones": "7d37332f5b11d5400023e4bd3d104d8dbd560e042cc1a20bcaded962cbea7aa6",
        "mixed": "2e6fe180dd98021fef87354e3e18a5ad966012ee61d48a4fdc8aaa1b3ddd472a",
        "retain": "29c0c6ae5f48254d679704714377ed45afe0526298afcb8bdfdcb9224174a9eb",
    }


def test_json_report_of_a_recorded_preview(tmp_path: Path) -> None:
    """`mixed` has a replacement, unknown and secret values, a rule violation and a cost."""
    rules, prices = tmp_path / "rules.toml", tmp_path / "prices.toml"
    rules.write_text('replace = "create-first"\nmin_zones = 2\n[max_peak]\nstack = 9\n', encoding="utf-8")
    prices.write_text(
        'currency = "USD"\n[per_hour]\n"gb200-4x" = 40.5\n[gpus]\n"gb200-4x" = 4\n', encoding="utf-8"
    )
    shown = report("mixed", "--rules", str(rules), "--prices", str(prices))
    assert shown == REPORT.read_text(encoding="utf-8")
