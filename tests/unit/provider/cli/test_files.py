"""Files and arguments as strange machines write them: read, or refused in one plain line."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from coreweave_inference import Client
from coreweave_inference._text_files import UnreadableText, decode_text
from coreweave_inference.emulator import Emulator
from pulumi_coreweave_inference.cli import console
from pulumi_coreweave_inference.cli.app import app

TYPE = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
RECORDED = Path(__file__).parents[1] / "review" / "data" / "create.json"
RULES = 'instance_types = ["gb200-4x", "größer"]\nmin_zones = 1\n'
PRICES = 'currency = "USD"\n[per_hour]\n"gb200-4x" = 40.5\n'


@pytest.fixture
def claim_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COREWEAVE_RETRY_DEADLINE", "0")
    with Emulator() as emulator, Client(emulator.token, endpoint=emulator.url) as client:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        resources = {
            "instanceId": "gb200-4x",
            "instanceCount": 1,
            "zones": ["US-WEST-04A"],
            "capacityType": "CAPACITY_TYPE_MANAGED",
        }
        yield client.capacity_claims.create("training", resources).id


def run(*arguments: str, given: bytes | None = None) -> Result:
    result = CliRunner().invoke(app, arguments, input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def export(claim_id: str) -> str:
    urn = f"urn:pulumi:größe::p::{TYPE}::training"
    resources = [{"urn": urn, "type": TYPE, "id": claim_id, "outputs": {"name": "名前"}}]
    return json.dumps(
        {"version": 3, "deployment": {"manifest": {}, "resources": resources}}, indent=4, ensure_ascii=False
    )


def terraform(claim_id: str) -> str:
    instances = [{"attributes": {"id": claim_id, "name": "training"}, "index_key": "größe"}]
    claims = {"mode": "managed", "type": "coreweave_inference_capacity_claim", "name": "a"}
    state = {"version": 4, "resources": [claims | {"instances": instances}]}
    return json.dumps(state, indent=2, ensure_ascii=False)


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with BOM": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16 as PowerShell writes it": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16, big end first": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-16 without BOM": lambda text: text.encode("utf-16-le"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "PowerShell, CRLF": lambda text: codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_reads_every_usual_encoding(claim_id: str, encoding: str) -> None:
    write = ENCODINGS[encoding]
    for name, text in (
        ("prod.json", export(claim_id)),
        ("terraform.tfstate", terraform(claim_id)),
        ("preview.json", RECORDED.read_text(encoding="utf-8")),
        ("rules.toml", RULES),
        ("prices.toml", PRICES),
    ):
        Path(name).write_bytes(write(text))
    assert run("orphans", "--state", "prod.json").exit_code == 0
    assert run("release", claim_id, "--state", "prod.json", "--yes").exit_code == 1  # managed
    assert run("import", "--terraform-state", "terraform.tfstate").exit_code == 0
    piped = run("import", "--terraform-state", "-", "--force", given=write(terraform(claim_id)))
    assert piped.exit_code == 0
    reviewed = run("review", "preview.json", "--rules", "rules.toml", "--prices", "prices.toml")
    assert (reviewed.exit_code, reviewed.stderr) == (0, "")
    assert run("review", given=write(RECORDED.read_text(encoding="utf-8"))).exit_code == 0


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\xff", "größer".encode("latin-1"), b"\x80{}", b"\xfe\xff\xd8\x00"]
)
def test_a_file_in_another_encoding_is_refused_in_one_plain_line(claim_id: str, data: bytes) -> None:
    Path("file").write_bytes(data)
    for command in (
        ["orphans", "--state", "file"],
        ["release", claim_id, "--state", "file", "--yes"],
        ["import", "--terraform-state", "file"],
        ["review", "file"],
        ["review", str(RECORDED), "--rules", "file"],
        ["review", str(RECORDED), "--prices", "file"],
        ["emulator", "--inventory", "file"],
        ["emulator", "--faults", "file"],
    ):
        result = run(*command)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
        assert "it is not text in UTF-8 or UTF-16; save it as UTF-8" in result.stderr


ENGINE_LINES = "Installing policy pack acme v1.2.3...\n[warn] {unfinished\n{ not JSON\n\n"


def test_what_the_engine_prints_around_a_preview_is_passed_over(claim_id: str) -> None:
    preview = RECORDED.read_text(encoding="utf-8")
    plain = run("review", given=preview.encode()).stdout
    around = f"{ENGINE_LINES}{preview}\nDone.\n[info] finished\n"
    for text in (around, around.replace("\n", "\r\n"), f"\ufeff{around}", f" \n {preview}"):
        result = run("review", given=text.encode())
        assert (result.exit_code, result.stdout) == (0, plain), result.stderr
    two = run("review", given=f"{preview}\nDone.\n{preview}".encode())
    assert (two.exit_code, "more than one JSON document" in two.stderr) == (2, True)
    for text in (ENGINE_LINES, f"{ENGINE_LINES}{preview[:-9]}", "[", "{", "[]"):
        result = run("review", given=text.encode())
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output


DEEP = 100_000
HARD: dict[str, tuple[str, str]] = {
    "deep export": ("--state", '{"version":3,"deployment":{"resources":' + "[" * DEEP),
    "deep value in an export": (
        "--state",
        '{"version":3,"deployment":{"resources":[{"outputs":' + "[" * 900 + "]" * 900 + "}]}}",
    ),
    "deep outputs": (
        "--state",
        f'{{"version":3,"deployment":{{"resources":[{{"urn":"u::p::{TYPE}::n","type":"{TYPE}","id":"i",'
        '"outputs":{"x":' + "[" * 900 + "]" * 900 + "}}]}}",
    ),
    "deep version": ("--state", '{"version":' + "[" * 960 + "]" * 960 + "}"),
    "many digits in an export": ("--state", '{"version":' + "9" * 5_000 + "}"),
    "surrogates": ("--state", '{"version":"\\ud800"}'),
    "no values": ("--state", '{"version":NaN,"deployment":Infinity}'),
    "deep Terraform state": ("--terraform-state", '{"version":4,"resources":' + '{"a":' * DEEP),
    "deep attributes": (
        "--terraform-state",
        '{"version":4,"resources":[{"mode":"managed","type":"coreweave_inference_capacity_claim","name":"n",'
        '"instances":[{"attributes":{"id":' + "[" * 900 + "]" * 900 + "}}]}]}",
    ),
    "deep Terraform version": ("--terraform-state", '{"version":' + "[" * 900 + "]" * 900 + "}"),
    "many digits in a Terraform state": ("--terraform-state", '{"version":' + "4" * 5_000 + "}"),
    "deep preview": ("review", '{"steps":' + "[" * DEEP),
    "deep step": ("review", '{"steps":[' + "[" * 900 + "]" * 900 + "]}"),
    "many digits in a preview": ("review", '{"steps":[],"changeSummary":{"same":' + "9" * 5_000 + "}}"),
    "deep rules": ("--rules", "zones = " + "[" * DEEP),
    "deeper rules": ("--rules", "a" + ".a" * 3_000 + " = 1"),
    "many digits in rules": ("--rules", "min_zones = " + "9" * 5_000),
    "many digits in a date": ("--rules", "min_zones = 99999-99-99"),
    "a price beyond numbers": ("--prices", '[per_hour]\n"gb200-4x" = 1e999999'),
    "a price beyond exponents": ("--prices", '[per_hour]\n"gb200-4x" = 1e9999999999999999999'),
    "a huge whole price": ("--prices", '[per_hour]\n"gb200-4x" = ' + "9" * 4_000),
    "a price that is none": ("--prices", '[per_hour]\n"gb200-4x" = nan'),
    "an infinite price": ("--prices", '[per_hour]\n"gb200-4x" = inf'),
    "many digits in GPUs": ("--prices", '[gpus]\n"gb200-4x" = ' + "9" * 5_000),
    "huge GPUs": ("--prices", '[gpus]\n"gb200-4x" = ' + "9" * 4_000),
    "deep inventory": ("--inventory", "[" * DEEP),
    "many digits in an inventory": ("--inventory", '{"Z":{"t":' + "9" * 5_000 + "}}"),
    "deep faults": ("--faults", "[" * DEEP),
    "many digits in faults": ("--faults", '[{"nth":' + "9" * 5_000 + "}]"),
}


@pytest.mark.parametrize("case", HARD)
def test_a_file_that_no_program_writes_ends_in_one_plain_line(claim_id: str, case: str) -> None:
    option, text = HARD[case]
    Path("file").write_text(text, encoding="utf-8")
    command = {
        "--state": ["orphans"],
        "--terraform-state": ["import"],
        "review": [],
        "--rules": ["review", str(RECORDED)],
        "--prices": ["review", str(RECORDED)],
        "--inventory": ["emulator"],
        "--faults": ["emulator"],
    }[option]
    result = run(*command, option, "file")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output[:2_000]
    assert len(result.stderr) < 1_000
    assert "sys." not in result.stderr


def test_a_tiny_price_and_a_huge_count_are_computed(claim_id: str) -> None:
    Path("prices.toml").write_text('[per_hour]\n"gb200-4x" = 1e-999999\n', encoding="utf-8")
    text = RECORDED.read_text(encoding="utf-8").replace('"instanceCount": 2', '"instanceCount": 1e308')
    for format_ in ("markdown", "table", "json"):
        result = run("review", "--prices", "prices.toml", "--format", format_, given=text.encode())
        assert result.exit_code == 0, result.output[:2_000]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
@example(data=b"\x00\x00\xfe\xff")
@example(data=b"a\x00")
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    with contextlib.suppress(UnreadableText):
        assert isinstance(decode_text(data), str)


def command(*arguments: bytes | str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A process of its own, in a locale without UTF-8 unless said."""
    program = "import sys; from pulumi_coreweave_inference.cli import main; sys.argv[0] = 'x'; main()"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | ascii_only | environment,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


ODD = b"gr\xf6\xdfe-\xff"  # Latin-1, and so no UTF-8


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are text on Windows")
@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        ([b"list", b"--name", ODD], {0}),
        ([b"list", b"--zone", ODD], {0}),
        ([b"list", b"--state", ODD], {2}),
        ([b"zones", b"--type", ODD], {1}),
        ([b"import", ODD], {1}),
        ([b"release", ODD, b"--unchecked", b"--yes"], {0, 2}),
        ([b"orphans", b"--stack", ODD], {2}),
        ([b"orphans", b"--stack", "größe".encode()], {0}),
        ([b"orphans", b"--all-stacks"], {0}),
        ([b"orphans", b"--state", ODD], {2}),
        ([b"review", ODD], {2}),
        ([b"review", b"--expect-fingerprint", ODD], {2}),
        ([ODD], {2}),
    ],
)
def test_arguments_and_locales_without_utf_8_end_in_no_traceback(
    claim_id: str, tmp_path: Path, arguments: list[bytes], codes: set[int]
) -> None:
    Path("state.json").write_text(export(claim_id), encoding="utf-8")
    folder = tmp_path / "bin"
    folder.mkdir()
    pulumi = folder / "pulumi"
    script = f"""#!/bin/sh
    case "$*" in
      "stack ls --all --json --non-interactive") echo '[{{"name": "größe"}}]';;
      "stack export --stack=größe --non-interactive") cat '{tmp_path}/state.json';;
      *) echo "error: no stack gr\\303\\266\\337e" >&2; exit 255;;
    esac
    """
    pulumi.write_text(script, encoding="utf-8")
    pulumi.chmod(0o755)
    done = command(*arguments, PATH=f"{folder}:/usr/bin:/bin")
    assert done.returncode in codes, done.stderr.decode("utf-8", "replace")
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr


def test_a_fault_of_this_program_has_an_exit_code_of_its_own(
    claim_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise LookupError("one\nNext: two\x1b[2J")

    Path("prod.json").write_text(export(claim_id), encoding="utf-8")
    monkeypatch.setattr("pulumi_coreweave_inference.cli.orphans.confirmed", broken)
    result = run("orphans", "--state", "prod.json")
    assert (result.exit_code, result.stdout) == (console.EXIT_INTERNAL, "")
    first, second = result.stderr.splitlines()
    assert first.startswith("capacity-claims: internal error: LookupError: one Next: two\ufffd[2J (")
    assert "test_files.py:" in first
    assert second.startswith("  Next: ")


def test_a_closed_pipe_is_no_finding(claim_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*arguments: Any, **options: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("pulumi_coreweave_inference.cli.list.write_table", closed)
    assert run("list").exit_code == console.EXIT_ERROR


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/full")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("--version > /dev/full", 2, "capacity-claims: No space left on device"),
        ("list > /dev/full", 2, "capacity-claims: No space left on device"),
        ("list >&-", 0, "1 claim"),
        ("review <&-", 2, "capacity-claims review: the input is empty"),
        (f"import --all --out {'x' * 300}", 2, "File name too long"),
        ("list 2>&-", 0, ""),
    ],
)
def test_what_the_machine_prevents_is_one_line(claim_id: str, line: str, code: int, said: str) -> None:
    program = "import sys; from pulumi_coreweave_inference.cli import main; main()"
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "{program}" {line}', sys.executable],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert "Exception ignored" not in done.stderr
