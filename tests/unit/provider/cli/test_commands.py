"""The commands against an emulator, in a pipe and with answers to their questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.cli.console import connected
from pulumi_coreweave_inference.cli.orphans import confirmed
from pulumi_coreweave_inference.cli.pulumi_state import read_export

TYPE = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
TOKEN = "s3cr3t-t0ken-n0b0dy-may-see"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COREWEAVE_RETRY_DEADLINE", "0")
    with Emulator(EmulatorSettings(token=TOKEN)) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def ids(emulator: Emulator) -> dict[str, str]:
    """Three claims, by name."""
    return {name: post(emulator, name) for name in ("training", "serving", "evaluation")}


def post(emulator: Emulator, name: str, **more: Any) -> str:
    resources = {
        "instanceId": "gb200-4x",
        "instanceCount": 2,
        "zones": ["US-WEST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
    with Client(emulator.token, endpoint=emulator.url) as client:
        return client.capacity_claims.create(name, resources | more).id


def run(*arguments: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(app, arguments, input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    assert TOKEN not in result.output
    return result


def export(path: Path, **claims: str) -> str:
    resources = [
        {"urn": f"urn:pulumi:prod::p::{TYPE}::{name}", "type": TYPE, "id": id} for name, id in claims.items()
    ]
    path.write_text(json.dumps({"version": 3, "deployment": {"resources": resources}}), encoding="utf-8")
    return str(path)


def writes(emulator: Emulator) -> list[str]:
    return [record.method for record in emulator.requests() if record.method != "GET"]


def test_list_draws_the_chosen_claims(emulator: Emulator, ids: dict[str, str]) -> None:
    shown = run("list", "--name", "train*", "--format", "svg")
    assert shown.stdout.startswith("<svg ")
    assert "training" in shown.stdout
    assert "serving" not in shown.stdout
    assert shown.stderr == ""


def test_list_shows_all_claims_and_its_json_is_stable(emulator: Emulator, ids: dict[str, str]) -> None:
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "evaluation", "serving", "training"]
    (only,) = json.loads(run("list", "--name", "train*", "--format", "json").stdout)["claims"]
    assert sorted(only) == [
        "allocatedInstances",
        "conditions",
        "createdAt",
        "id",
        "name",
        "organizationId",
        "pendingInstances",
        "resources",
        "status",
        "updatedAt",
    ]
    assert only["id"] == ids["training"]
    assert run("list", "--state", "redy").exit_code == 2


def test_zones_show_their_types_and_an_unknown_type_exits_with_1(emulator: Emulator) -> None:
    assert "US-WEST-04A" in run("zones", "--type", "gb200-4x").stdout
    assert json.loads(run("zones", "--format", "json").stdout)["zones"]["RNO2A"]
    result = run("zones", "--type", "gb200-4z")
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'did you mean "gb200-4x"?' in result.stderr


@pytest.mark.parametrize("command", [("list",), ("zones",), ("import", "--all")])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("COREWEAVE_API_TOKEN", "", "COREWEAVE_API_TOKEN (or CW_API_TOKEN)"),
        ("COREWEAVE_API_TOKEN", "wrong", "Next: set COREWEAVE_API_TOKEN to a valid token"),
        ("COREWEAVE_API_ENDPOINT", "http://example.com", "https"),
        ("COREWEAVE_API_ENDPOINT", "http://127.0.0.1:1", "Next: check COREWEAVE_API_ENDPOINT"),
        ("COREWEAVE_HTTP_TIMEOUT", "soon", "soon"),
    ],
)
def test_a_wrong_environment_exits_with_2_and_says_what_to_do(
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)
    result = run(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    first, *more = result.stderr.splitlines()
    assert first.startswith("capacity-claims: ")
    assert first.partition(": ")[2].split(":")[0] not in ("list", "parameters")
    assert all(line.startswith("  Next: ") for line in more)
    assert len(more) <= 1


def test_a_base_url_that_is_not_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COREWEAVE_API_ENDPOINT", raising=False)
    monkeypatch.setenv("CW_BASE_URL", "https://staging.example")
    with connected() as (client, _):
        assert client.endpoint == "https://api.coreweave.com"
    assert capsys.readouterr().err == (
        "capacity-claims: CW_BASE_URL is not read: calls go to https://api.coreweave.com. "
        "Set COREWEAVE_API_ENDPOINT to choose the endpoint\n"
    )


def test_the_reason_for_a_retry_is_shown_once(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREWEAVE_RETRY_DEADLINE", "30s")
    fault = {"fail": {"code": "unavailable", "message": "down for a moment"}, "times": 2}
    emulator.set_faults([fault])
    result = run("list")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "down for a moment; retrying for up to 30s (COREWEAVE_RETRY_DEADLINE) …",
        "0 claims, 0 of 0 instances allocated",
    ]


def test_a_type_or_zone_that_no_claim_has_gets_a_suggestion(emulator: Emulator, ids: dict[str, str]) -> None:
    result = run("list", "--type", "gb200-4", "--zone", "us-west-04a", "--zone", "nowhere-at-all")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[:3] == [
        'no claim has the instance type "gb200-4"; did you mean "gb200-4x"?',
        'no claim lists the zone "us-west-04a"; did you mean "US-WEST-04A"?',
        'no claim lists the zone "nowhere-at-all"',
    ]
    assert "no claim" not in run("list", "--type", "gb200-4x", "--zone", "US-WEST-04A").stderr


def test_an_import_needs_one_source_and_overwrites_no_file(emulator: Emulator, ids: dict[str, str]) -> None:
    assert run("import").exit_code == 2
    both = run("import", "training", "--all")
    assert (both.exit_code, "CLAIM and --all are mutually exclusive" in both.stderr) == (2, True)
    first = run("import", "training", ids["serving"])
    assert first.exit_code == 0
    assert "pulumi import --file claims.import.json --generate-code=false" in first.stderr
    again = run("import", "training")
    assert again.exit_code == 2
    assert "exists" in again.stderr
    assert run("import", "training", "--force").exit_code == 0
    written = json.loads(Path("claims.import.json").read_text(encoding="utf-8"))
    assert [each["id"] for each in written["resources"]] == [ids["training"]]
    assert writes(emulator) == ["POST"] * 3


def test_an_import_refuses_missing_ambiguous_managed_and_deleting_claims(
    emulator: Emulator, ids: dict[str, str]
) -> None:
    state = export(Path("prod.json"), training=ids["training"])
    post(emulator, "serving")
    emulator.edit_claim(ids["evaluation"], status={"status": "STATUS_DELETING"})
    for arguments, code, message in (
        (["nobody"], 1, "nobody"),
        (["serving"], 2, "2 claims are named 'serving'"),
        (["training", "--state", state], 1, "manages it as 'training'"),
        (["evaluation"], 1, "it is being deleted"),
    ):
        result = run("import", *arguments)
        assert (result.exit_code, result.stdout) == (code, ""), result.stderr
        assert message in result.stderr
        assert not Path("claims.import.json").exists()
    left = run("import", "--all", "--state", state)
    assert left.exit_code == 0
    assert left.stdout.count("inference.CapacityClaim(") == 2
    assert left.stderr.count("skipped ") == 2


def test_names_in_the_stack_are_not_used_again(emulator: Emulator, ids: dict[str, str]) -> None:
    state = export(Path("prod.json"), training="00000000-0000-4000-8000-000000000000")
    result = run("import", "training", "--state", state, "--format", "json")
    (only,) = json.loads(result.stdout)["claims"]
    assert only["resourceName"] == f"training-{ids['training'][:7]}"


def terraform(path: Path, *instances: tuple[str, dict[str, Any]]) -> str:
    resources = [
        {
            "mode": "managed",
            "type": "coreweave_inference_capacity_claim",
            "name": name,
            "instances": [{"attributes": {"id": more.pop("id"), "name": name}} | more],
        }
        for name, more in instances
    ]
    path.write_text(json.dumps({"version": 4, "resources": resources}), encoding="utf-8")
    return str(path)


def test_terraform_claims_missing_at_the_api_stop_an_import_if_not_skipped(
    emulator: Emulator, ids: dict[str, str]
) -> None:
    gone = "00000000-0000-4000-8000-000000000000"
    state = terraform(
        Path("terraform.tfstate"),
        ("here", {"id": ids["training"], "index_key": "eu"}),
        ("gone", {"id": gone}),
        ("old", {"id": ids["serving"], "deposed": "byebye01"}),
        ("older", {"id": gone, "deposed": "byebye02"}),
    )
    result = run("import", "--terraform-state", state)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"coreweave_inference_capacity_claim.gone ({gone}, named 'gone')" in result.stderr
    result = run("import", "--terraform-state", state, "--skip-missing", "--format", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [(each["resourceName"], each["id"]) for each in found["claims"]] == [("here-eu", ids["training"])]
    assert len(found["skipped"]) == 2
    assert found["terraform"] == [
        "terraform state rm 'coreweave_inference_capacity_claim.here[\"eu\"]'",
    ]


def test_a_terraform_state_is_read_from_a_pipe_and_each_claim_taken_once(
    emulator: Emulator, ids: dict[str, str]
) -> None:
    state = terraform(Path("s"), ("a", {"id": ids["training"]}), ("b", {"id": ids["training"]}))
    result = run("import", "--terraform-state", "-", answer=Path(state).read_text(encoding="utf-8"))
    assert result.exit_code == 2
    assert "are the same claim" in result.stderr
    assert run("import", "--terraform-state", "-", answer="{}").exit_code == 2
    nowhere = run("import", "--terraform-state", "nowhere.tfstate")
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)


def test_orphans_exits_with_0_1_or_2(emulator: Emulator, ids: dict[str, str]) -> None:
    emulator.clear_requests()
    assert run("orphans").exit_code == 2
    Path("broken.json").write_text("{}", encoding="utf-8")
    assert run("orphans", "--state", "broken.json").exit_code == 2
    everything = export(Path("all.json"), **ids)
    result = run("orphans", "--state", everything)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing found in 3 claims and 1 stack" in result.stderr
    some = export(Path("some.json"), training=ids["training"], lost="00000000-0000-4000-8000-000000000000")
    result = run("orphans", "--state", everything, "--state", some)
    assert result.exit_code == 1
    assert "1 managed twice, 1 gone in 3 claims and 2 stacks" in result.stderr
    assert writes(emulator) == []


def test_the_same_file_given_twice_is_one_stack(emulator: Emulator, ids: dict[str, str]) -> None:
    everything = export(Path("all.json"), **ids)
    assert run("orphans", "--state", everything, "--state", f"./{everything}").exit_code == 0


def test_only_what_a_second_look_confirms_is_reported(emulator: Emulator, ids: dict[str, str]) -> None:
    stacks = [read_export(Path(export(Path("s.json"), **ids)).read_text(encoding="utf-8"), "s")]
    stranger = post(emulator, "stranger")
    released = post(emulator, "released")
    with Client(emulator.token, endpoint=emulator.url) as client:
        # The first list was too early for `training` and `serving`, and for the end of two claims.
        before = [each for each in client.capacity_claims.list() if each.name not in ("training", "serving")]
        emulator.edit_claim(released, delete=True)
        emulator.edit_claim(ids["serving"], delete=True)
        found = confirmed(before, stacks, client)
    assert [each.claim.id for each in found.unmanaged] == [stranger]
    assert [each.entry.claim_id for each in found.gone] == [ids["serving"]]


def test_a_release_asks_for_the_name_and_is_refused_in_a_pipe(
    emulator: Emulator, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = ids["evaluation"]
    emulator.clear_requests()
    assert run("release", claim, "--yes").exit_code == 2  # no stack was given
    assert run("release", claim, "--unchecked", answer="evaluation\n").exit_code == 1
    assert run("release", "x", "--unchecked", "--yes").exit_code == 2
    assert writes(emulator) == []

    monkeypatch.setattr("pulumi_coreweave_inference.cli.release._is_interactive", lambda: True)
    assert run("release", claim, ids["serving"], "--unchecked", answer="evaluation\nno\n").exit_code == 1
    assert writes(emulator) == []
    assert run("release", claim, "--unchecked", answer="evaluation\n").exit_code == 0
    assert writes(emulator) == ["DELETE"]
    assert claim not in {held.id for held in emulator.claims()}
    again = run("release", claim, "--unchecked", "--yes")
    assert again.exit_code == 0
    assert "already released, or the id is wrong" in again.stderr


HOSTILE = "US\x1b]8;;https://evil.example\x07\x9b2J\u202e<{%reset%}>\n  Next: run `evil`"


@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["list", "--zone", HOSTILE[:-1]],
        ["list", "--format", "json"],
        ["zones"],
        ["zones", "--type", f"{HOSTILE}2"],
        ["zones", "--format", "json"],
        ["orphans", "--state", "other.json"],
        ["orphans", "--state", "other.json", "--format", "json"],
        ["release", "ID", "--unchecked"],
        ["release", "ID", "--state", "prod.json", "--yes"],
        ["release", HOSTILE, "--unchecked", "--yes"],
        ["import", "ID", "--force"],
        ["import", "ID", "--force", "--format", "json"],
        ["import", "ID", HOSTILE],
        ["import", HOSTILE[:-1]],
        ["import", "ID", "--state", "prod.json"],
        ["import", "--all", "--force", "--state", "other.json"],
        ["import", "--terraform-state", "terraform.tfstate"],
        ["import", "--terraform-state", "gone.tfstate"],
        ["orphans", "--state", "broken.json"],
        ["orphans", "--state", f"{HOSTILE}.json"],
        ["orphans", "--stack", HOSTILE],
        ["orphans", "--all-stacks"],
        ["review", "broken.json"],
        ["review", "failed.json", "--format", "markdown"],
        ["review", "failed.json", "--format", "table"],
        ["review", "failed.json", "--format", "json"],
        ["review", "failed.json", "--rules", "rules.toml"],
    ],
)
def test_no_command_shows_foreign_text_raw(
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: list[str],
    confirmed: bool,
) -> None:
    claim = post(emulator, "training")
    post(emulator, "plain")
    export(Path("prod.json"), **{f"t{HOSTILE}": claim})
    export(Path("other.json"), **{f"t{HOSTILE}": "00000000-0000-4000-8000-000000000000"})
    terraform(Path("terraform.tfstate"), (HOSTILE, {"id": claim, "index_key": HOSTILE}))
    terraform(Path("gone.tfstate"), (HOSTILE, {"id": f"x{HOSTILE}", "index_key": HOSTILE}))
    Path("broken.json").write_text(json.dumps({"version": HOSTILE, "steps": HOSTILE}), encoding="utf-8")
    Path("rules.toml").write_text(f"{json.dumps(HOSTILE)} = 1", encoding="utf-8")
    diagnostics = [{"severity": "error", "message": HOSTILE}, {"severity": "info", "message": HOSTILE}]
    preview = {"steps": [{"op": "create", "urn": f"urn:pulumi:s::p::{TYPE}::{HOSTILE}"}]}
    Path("failed.json").write_text(json.dumps(preview | {"diagnostics": diagnostics}), encoding="utf-8")
    fake_pulumi(tmp_path / "bin", monkeypatch, "printf 'error: \\033[2J\\302\\2332J\\n' >&2; exit 255")
    condition = {"type": HOSTILE, "status": HOSTILE, "reason": HOSTILE, "message": HOSTILE, "zone": HOSTILE}
    spec = {"name": HOSTILE, "resources": {"instanceId": HOSTILE, "instanceCount": 2, "zones": [HOSTILE]}}
    emulator.edit_claim(claim, spec=spec, status={"conditions": [condition]})
    emulator.set_inventory({HOSTILE: {HOSTILE: 3}})
    if confirmed:
        monkeypatch.setattr("pulumi_coreweave_inference.cli.release._is_interactive", lambda: True)
    result = run(*(claim if part == "ID" else part for part in command), answer="no\n")
    shown = result.output.split("\n")
    assert [line for line in shown if not line.isprintable()] == []
    assert "markdown" in command or "  Next: run `evil`" not in shown  # Markdown has a fence around it
    assert result.exit_code in (0, 1, 2)


def test_one_managed_claim_stops_the_release_of_all(emulator: Emulator, ids: dict[str, str]) -> None:
    state = export(Path("prod.json"), training=ids["training"])
    emulator.clear_requests()
    result = run("release", ids["serving"], ids["training"], "--state", state, "--yes")
    assert result.exit_code == 1
    assert "manages it as 'training'" in result.stderr
    assert writes(emulator) == []


@pytest.mark.parametrize("command", [["release", "ID", "--yes"], ["orphans"], ["import", "--all"]])
@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"version": 3, "deployment": null}',
        '{"version": 3, "deployment": "x"}',
        '{"version": 3, "deployment": []}',
        '{"version": 3, "deployment": {"manifest": {}, "resources": {}}}',
        '{"version": 3, "checkpoint": {"stack": "prod", "latest": {"resources": []}}}',
        '{"version": 3, "deployment": {"manifest": {}, "resources": [',
        b"\xff\xfe",
    ],
)
def test_what_is_no_export_proves_nothing_about_a_claim(
    emulator: Emulator, ids: dict[str, str], command: list[str], text: str | bytes
) -> None:
    path = Path("prod.json")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    emulator.clear_requests()
    arguments = [ids["training"] if part == "ID" else part for part in command]
    result = run(*arguments, "--state", "prod.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"capacity-claims: {path.resolve()} is not a stack export: ")
    assert result.stderr.count("\n") == 1
    assert writes(emulator) == []


def test_a_release_waits_until_the_claim_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(EmulatorSettings(delete_delay=0.2)) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        result = run("release", post(emulator, "slow"), "--unchecked", "--yes")
        assert emulator.claims() == []
    assert (result.exit_code, "is released" in result.stderr) == (0, True)


def test_a_release_that_takes_too_long_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Emulator(EmulatorSettings(delete_delay=60)) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COREWEAVE_DELETE_TIMEOUT", "0.2")
        result = run("release", post(emulator, "slow"), "--unchecked", "--yes")
    assert result.exit_code == 2
    assert "DELETING" in result.stderr


@pytest.mark.parametrize("command", ["list", "zones", "import", "orphans", "release"])
def test_help_lists_the_exit_codes(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Exit code" in result.stdout


def fake_pulumi(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    directory.mkdir()
    program = directory / "pulumi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_a_stack_that_cannot_be_read_stops_the_comparison_with_all_stacks(
    emulator: Emulator, ids: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Path(export(Path("prod.json"), **ids)).resolve()
    script = f"""case "$*" in
      "stack ls --all --json --non-interactive") echo '[{{"name": "prod"}}, {{"name": "org/p/broken"}}]';;
      "stack export --stack=prod --non-interactive") cat {state};;
      *) echo "some warning" >&2; echo "error: no stack named 'broken' found" >&2; exit 255;;
    esac"""
    fake_pulumi(tmp_path / "bin", monkeypatch, script)
    assert run("orphans", "--stack", "prod").exit_code == 0
    result = run("orphans", "--all-stacks")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no stack named 'broken' found" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "listed", ['{"name": "prod"}', '[{"name": null}]', '[{"name": ""}]', "[{}]", "[1]", "null"]
)
def test_a_list_of_stacks_that_cannot_be_read_is_refused(
    emulator: Emulator, ids: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    fake_pulumi(tmp_path / "bin", monkeypatch, f"echo '{listed}'")
    result = run("release", ids["training"], "--yes", "--all-stacks")
    assert result.exit_code == 2
    assert "`pulumi stack ls --all --json` did not print a list of stacks: " in result.stderr


@pytest.mark.parametrize("command", [["orphans"], ["release", "ID", "--yes"]])
def test_a_backend_without_stacks_proves_nothing_about_a_claim(
    command: list[str],
    emulator: Emulator,
    ids: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_pulumi(tmp_path / "bin", monkeypatch, "echo '[]'")
    emulator.clear_requests()
    result = run(*(ids["training"] if part == "ID" else part for part in command), "--all-stacks")
    assert result.exit_code == 2
    assert "has no stacks" in result.stderr
    assert writes(emulator) == []


def test_without_pulumi_a_state_file_is_suggested(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("orphans", "--all-stacks")
    assert result.exit_code == 2
    assert "pulumi stack export > FILE" in result.stderr


def test_a_native_import_leaves_the_program_to_pulumi(emulator: Emulator, ids: dict[str, str]) -> None:
    result = run("import", "training", "--native")
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(Path("claims.import.json").read_text(encoding="utf-8")) == {
        "resources": [
            {
                "type": "coreweave-inference:index:CapacityClaim",
                "name": "training",
                "id": ids["training"],
                "version": __version__,
            }
        ]
    }
    assert "`pulumi import --file claims.import.json`, and add what it prints" in result.stderr
    assert "ClaimNamespace" not in result.stderr
    as_json = json.loads(run("import", "training", "--native", "--force", "--format", "json").stdout)
    assert (as_json["program"], as_json["claims"][0]["id"]) == (None, ids["training"])
    assert writes(emulator) == ["POST"] * 3


def test_a_claim_of_the_native_resource_is_not_imported_again(
    emulator: Emulator, ids: dict[str, str]
) -> None:
    native = "coreweave-inference:index:CapacityClaim"
    urn = f"urn:pulumi:prod::p::{native}::training"
    held = [{"urn": urn, "type": native, "id": ids["training"], "initErrors": ["not ready"]}]
    Path("prod.json").write_text(json.dumps({"version": 3, "deployment": {"resources": held}}))
    for options in ((), ("--native",)):
        result = run("import", "training", *options, "--state", "prod.json")
        assert (result.exit_code, "manages it as 'training'" in result.stderr) == (1, True)
    left = run("import", "--all", "--native", "--state", "prod.json", "--format", "json")
    assert {each["id"] for each in json.loads(left.stdout)["claims"]} == {ids["serving"], ids["evaluation"]}
