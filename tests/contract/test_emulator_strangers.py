"""What may reach an emulator uninvited: other programs, web pages, and files of another shape."""

from __future__ import annotations

import http.client
import json
import logging
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from coreweave_inference.emulator import Emulator, EmulatorSettings
from coreweave_inference.emulator.claims import Claims
from coreweave_inference.emulator.faults import FaultProfile
from coreweave_inference.emulator.request_log import RequestLog
from pulumi_coreweave_inference.cli.app import app

CLAIMS = "/v1alpha1/inference/capacityclaims"
BODY = {
    "name": "train",
    "resources": {
        "instanceId": "gb200-4x",
        "instanceCount": 1,
        "zones": ["US-WEST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    },
}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def post(emulator: Emulator, token: str | None = None, **headers: str) -> httpx.Response:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.post(emulator.url + CLAIMS, json=BODY, headers=headers)


# Tokens


def test_a_request_without_a_token_meets_no_rule_and_its_body_is_not_kept(emulator: Emulator) -> None:
    emulator.set_faults([{"name": "first", "nth": 1, "fail": {"code": "unavailable"}}])
    for token in (None, "nonsense"):
        assert post(emulator, token).json()["code"] == "unauthenticated"
    assert emulator.faults()["counts"] == {"first": {"met": 0, "hit": 0}}
    assert [(each.status, each.body, each.bytes_in) for each in emulator.requests()] == [(401, None, 0)] * 2
    assert post(emulator, emulator.token).status_code == 503


def test_a_large_body_without_a_token_is_answered(emulator: Emulator) -> None:
    answer = httpx.post(emulator.url + CLAIMS, content=b"x" * 5_000_000)
    assert (answer.status_code, emulator.requests()[0].bytes_in) == (401, 0)


# Host header


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1", True),
        ("localhost:1234", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("[::1]:80", True),
        ("127.1.2.3:8080", True),
        ("evil.example", False),
        ("evil.example:80", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("192.168.0.1", False),
        ("", False),
        ("127.0.0.1@evil.example", False),
    ],
)
@pytest.mark.parametrize("path", [CLAIMS, "/_emulator/requests"])
def test_a_host_that_is_not_the_emulators_own_is_refused(
    emulator: Emulator, host: str, is_own: bool, path: str
) -> None:
    token = emulator.token if path == CLAIMS else emulator.admin_token
    headers = {"Host": host, "Authorization": f"Bearer {token}"}
    answer = httpx.get(emulator.url + path, headers=headers)
    assert answer.status_code == (200 if is_own else 421)
    assert len(emulator.requests()) == (is_own and path == CLAIMS)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("emulator", True),
        ("Emulator:8080", True),
        ("capacity.test.", True),
        ("10.0.0.7:8080", True),
        ("localhost", True),
        ("emulator.evil.example", False),
        ("10.0.0.8", False),
    ],
)
def test_names_that_are_allowed_are_the_emulators_own(host: str, is_own: bool) -> None:
    allowed = frozenset({"emulator", "Capacity.test", "10.0.0.7"})
    with Emulator(EmulatorSettings(allowed_hosts=allowed)) as emulator:
        status = httpx.get(f"{emulator.url}/healthz", headers={"Host": host}).status_code
    assert status == (200 if is_own else 421)


@pytest.mark.parametrize("name", ["", "*", "http://emulator", "emulator:8080", "a b", "-a"])
def test_an_allowed_name_that_no_host_has_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a host, such as emulator"):
        EmulatorSettings(allowed_hosts=frozenset({name}))


def test_its_health_is_told_without_a_token_and_not_logged(emulator: Emulator) -> None:
    answer = httpx.get(f"{emulator.url}/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert emulator.requests() == []
    assert httpx.get(f"{emulator.url}/healthz", headers={"Host": "evil.example"}).status_code == 421


def test_a_request_without_a_host_is_answered(emulator: Emulator) -> None:
    connection = http.client.HTTPConnection(*emulator.url[7:].split(":"))
    connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"
    connection.putrequest("GET", CLAIMS, skip_host=True)
    connection.putheader("Authorization", f"Bearer {emulator.token}")
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()


# The log


def test_the_log_is_bounded_in_bytes() -> None:
    with Emulator(EmulatorSettings(log_bytes=100_000)) as emulator:
        for number in range(40):
            body = json.dumps({"name": f"n{number}", "pad": "x" * 1_000})
            httpx.post(
                emulator.url + CLAIMS, content=body, headers={"Authorization": f"Bearer {emulator.token}"}
            )
        kept = [each.sequence for each in emulator.requests()]
        assert kept == list(range(41 - len(kept), 41))
        assert 2 <= len(kept) <= 10
        emulator.clear_requests()
        assert emulator.requests() == []
        post(emulator, emulator.token)
        assert [each.sequence for each in emulator.requests()] == [41]


@given(st.lists(st.tuples(st.integers(0, 3_000), st.booleans()), max_size=60))
def test_the_log_keeps_its_limits_whatever_the_order(requests: list[tuple[int, bool]]) -> None:
    log, late = RequestLog(10, 50_000), []
    for size, is_late in requests:
        record = log.open("POST", CLAIMS, "")
        record.bytes_in = size
        if is_late:
            late.append(record)
        else:
            log.measure(record)
    for record in reversed(late):
        log.measure(record)
        log.measure(record)
    records = log.since()
    assert sum(record.size for record in records) <= 50_000
    assert not late or len(records) <= 10
    assert [record.sequence for record in records] == sorted(record.sequence for record in records)


def test_what_a_client_sends_does_not_control_the_terminal(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coreweave_inference.emulator")
    emulator.set_faults([{"name": "\x1b[2J\n", "path": "create", "fail": {}}])
    sent = BODY | {"id": "\x1b]0;title\x07\x9b2J\u202e\nGET /forged: 200"}
    headers = {"Authorization": f"Bearer {emulator.token}"}
    httpx.post(f"{emulator.url}{CLAIMS}?x=%1b", json=sent, headers=headers)
    httpx.get(f"{emulator.url}/%1b%5b2J%0a", headers=headers)
    deadline = time.monotonic() + 10  # a line may follow the response
    while len(lines := [record.getMessage() for record in caplog.records]) < 2:
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
    assert len(lines) == 2
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_a_token_in_a_query_is_not_logged(emulator: Emulator) -> None:
    httpx.get(f"{emulator.url}{CLAIMS}?access_token={emulator.token}")
    assert [each.query for each in emulator.requests()] == ["access_token=[token]"]


# Files and options


def refused(*options: str) -> str:
    logger = logging.getLogger("coreweave_inference.emulator")
    before = (logger.level, logger.handlers[:])
    result = CliRunner().invoke(app, ["emulator", *options])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    assert (logger.level, logger.handlers) == before, "the command leaves the log of its process as it was"
    return result.stderr


@pytest.mark.parametrize("option", ["--allocation-delay", "--allocation-spread", "--delete-delay"])
@pytest.mark.parametrize("value", ["inf", "1e300", "1e10"])
def test_a_delay_that_is_no_time_is_refused_in_one_line(option: str, value: str) -> None:
    assert "must be a number of seconds up to 1000000000, not" in refused(option, value)


def test_a_token_that_no_header_carries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("two words", "größe", "a\nb"):
        monkeypatch.setenv("COREWEAVE_EMULATOR_TOKEN", token)
        assert "token: must be visible ASCII characters" in refused()


def test_printed_values_are_quoted_for_a_shell() -> None:
    token = "a;touch$(x)'`\"&"
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("capacity-claims")), "emulator"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COREWEAVE_EMULATOR_TOKEN": token, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    exports = ""
    for line in process.stdout:
        exports += line if line.startswith("export ") else ""
        if "Ctrl-C" in line:
            break
    process.terminate()
    process.communicate(timeout=10)
    assert f"export COREWEAVE_API_TOKEN={shlex.quote(token)}\n" in exports
    shell = subprocess.run(
        ["sh", "-c", f'{exports}printf %s "$COREWEAVE_API_TOKEN"'], capture_output=True, text=True, check=True
    )
    assert shell.stdout == token


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"path": "creat"}, "path: must be one of create, get, list, update, delete, parameters, or"),
        ({"path": "/v1/other"}, "path: must be one of"),
        ({"path": "/v1alpha1/inference/capacityclaims/x/y"}, "path: must be one of"),
        ({"path": ""}, "path: must be one of"),
        ({"method": "GTE"}, "method: must be one of DELETE, GET, PATCH, POST, not 'GTE'"),
        ({"method": "POST", "path": "get"}, "method: get is a GET, not a POST"),
        ({"delay": 1e300}, "delay: "),
    ],
)
def test_a_rule_that_no_request_can_meet_is_refused_at_the_start(
    tmp_path: Path, rule: dict[str, object], reason: str
) -> None:
    file = tmp_path / "faults.json"
    file.write_text(json.dumps([{"delay": 0}, {"fail": {}} | rule]), encoding="utf-8")
    assert f"{file}: rule 2: {reason}" in refused("--faults", str(file))


@pytest.mark.parametrize(
    "path",
    [
        "create",
        "*",
        "/*",
        "*/capacityclaims",
        "*claims/*",
        f"{CLAIMS}/some-id",
        "*/parameters",
        f"{CLAIMS}/?*",
    ],
)
def test_a_rule_with_the_path_of_an_operation_is_accepted(path: str) -> None:
    assert FaultProfile.from_json([{"path": path, "method": None, "delay": 0}]).rules[0].path == path


def saved(path: Path) -> None:
    with Emulator(EmulatorSettings(state=path, delete_delay=5)) as emulator:
        for name in ("a", "b"):
            headers = {"Authorization": f"Bearer {emulator.token}"}
            made = httpx.post(emulator.url + CLAIMS, json=BODY | {"name": name}, headers=headers).json()
            httpx.get(emulator.url + CLAIMS, headers=headers)
        httpx.delete(f"{emulator.url}{CLAIMS}/{made['capacityClaim']['spec']['id']}", headers=headers)
        emulator.advance_clock(10)
        httpx.get(emulator.url + CLAIMS, headers=headers)
        emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 9}})


def change(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    with database:
        for statement in statements:
            database.execute(statement)
    database.close()


SHAPES = (
    "UPDATE claims SET claim = NULL",
    "UPDATE claims SET claim = x'ff'",
    "UPDATE claims SET claim = 7",
    "UPDATE claims SET claim = 'null'",
    "UPDATE claims SET claim = '[' || replace(hex(zeroblob(50000)), '0', '[')",
    "UPDATE claims SET claim = json_set(claim, '$.created', 1e30)",
    "UPDATE claims SET claim = json_set(claim, '$.updated', 9223372036854775807000)",
    "UPDATE claims SET claim = json_set(claim, '$.created', 999999999999999999), id = id",
    "UPDATE claims SET claim = json_set(claim, '$.status_override', json('[]'))",
    "UPDATE claims SET claim = json_set(claim, '$.holding.held', json('[1]'))",
    "UPDATE claims SET claim = json_set(claim, '$.holding.asks', json('[7]'))",
    "UPDATE removed SET body = NULL",
    "UPDATE removed SET body = x'00ff'",
    "UPDATE meta SET value = NULL",
    "UPDATE meta SET value = '7' WHERE key = 'inventory'",
    "UPDATE meta SET value = '1e400' WHERE key = 'clock_offset'",
    "UPDATE meta SET value = '9' || hex(zeroblob(200)) WHERE key = 'clock_offset'",
    "UPDATE meta SET key = NULL",
    "PRAGMA user_version = 2",
    "ALTER TABLE claims DROP COLUMN sequence",
    "ALTER TABLE removed RENAME COLUMN body TO other",
    "CREATE TABLE users (id)",
)


@pytest.mark.parametrize("statement", SHAPES)
def test_a_state_file_of_another_shape_is_refused_or_read(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "state.db"
    saved(path)
    change(path, statement)
    try:
        Claims(EmulatorSettings(state=path)).close()
    except ValueError:
        assert str(path) in refused("--state", str(path))


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + b"\xff" * 500])
def test_a_state_file_that_is_no_database_is_refused_or_made(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    if content:
        assert f"{path}: " in refused("--state", str(path))
    else:
        Claims(EmulatorSettings(state=path)).close()


def test_the_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    change(path, "CREATE TABLE users (id)", "INSERT INTO users VALUES (1)")
    before = path.read_bytes()
    assert "is a database of another program" in refused("--state", str(path))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["other.db"]


def test_a_state_file_of_a_later_version_is_refused_and_an_earlier_one_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    saved(path)
    change(path, "PRAGMA user_version = 0")
    claims = Claims(EmulatorSettings(state=path))
    assert len(claims.records()) == 1
    claims.close()
    change(path, "PRAGMA user_version = 2")
    assert "was written by a later version of the emulator" in refused("--state", str(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["id", "name", "holding", "created", "updated", "sequence", "phase", "removed_at", "failed", "extra_spec",
     "status_override", "override_until", "stale_status", "stale_until", "short_since", "capacity_type"]
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(FIELDS, JSON, min_size=1, max_size=3))
@example(fields={"created": 2**62})
@example(fields={"updated": -(2**62)})
@example(fields={"id": ""})
@example(fields={"status_override": {"status": {"x": [float("nan")]}}})
def test_any_claim_in_a_state_file_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.db"
    with Emulator(EmulatorSettings(state=path)) as emulator:
        assert post(emulator, emulator.token).status_code == 200
    database = sqlite3.connect(path)
    with database:
        (text,) = database.execute("SELECT claim FROM claims").fetchone()
        changed = json.loads(text) | fields
        database.execute("UPDATE claims SET claim = ?", (json.dumps(changed),))
    database.close()
    refusal = ""
    try:
        claims = Claims(EmulatorSettings(state=path))
    except ValueError as error:
        refusal = str(error)
    else:
        claims.list_claims(None)
        claims.close()
    assert not refusal or refusal.startswith(str(path))
    assert "\n" not in refusal
