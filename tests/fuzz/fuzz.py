"""Random answers, files, settings and arguments: each ends in a result or in one plain error.

    python tests/fuzz/fuzz.py --minutes 60 --seed 1
    python tests/fuzz/fuzz.py --case answers:123

A case is a surface and a number, from which all of it is drawn, so it can be run again. A case fails if it
ends in a traceback, in an exit code that stands for an internal error, after more than `LIMIT` seconds, or
with a control character or the token in what it prints. The whole run may not need more memory than `MEMORY`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import pickle
import random as random_module
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from support.damage import UNKNOWN, damaged_bytes, damaged_json, dumped, odd_text
from support.model import InProcess, Time
from support.plugin import PluginError, claim_inputs
from typer.testing import CliRunner

from coreweave_inference import AsyncClient, Client, CoreweaveError, RetryPolicy
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference import ClaimError
from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.settings import SETTINGS, settings_from

LIMIT: Final = 20
"""Seconds that a case may take."""
MEMORY: Final = 512 * 1024 * 1024
"""Bytes that the whole run may need, whatever comes in."""

_ROOT: Final = Path(__file__).resolve().parents[1]
_PREVIEWS: Final = sorted((_ROOT / "unit" / "provider" / "review" / "data").glob("*.json"))
_TYPE: Final = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
_NAMESPACE_TYPE: Final = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
_ID: Final = "9f0c8a52-0000-5000-8000-000000000001"
_NO_RETRY: Final = RetryPolicy(deadline=0)
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_RESOURCES: Final = {
    "instanceId": "gb200-4x",
    "instanceCount": 4,
    "zones": ["US-WEST-04A", "US-EAST-04A"],
    "capacityType": "CAPACITY_TYPE_MANAGED",
}
_CLAIM: Final = {
    "spec": {"id": _ID, "name": "training-9f0c8a5", "organizationId": "org", "resources": _RESOURCES},
    "status": {
        "createdAt": "2026-11-27T10:00:00Z",
        "updatedAt": "2026-11-27T10:00:01Z",
        "status": "STATUS_READY",
        "allocatedInstances": 4,
        "pendingInstances": 0,
        "conditions": [
            {
                "type": "Ready",
                "status": "STATUS_TRUE",
                "lastUpdateTime": "2026-11-27T10:00:01Z",
                "reason": "AllAllocated",
                "message": "instances: AllAllocated",
                "zone": "US-WEST-04A",
            }
        ],
    },
}
ANSWERS: Final[dict[str, Any]] = {
    "get": {"capacityClaim": _CLAIM},
    "create": {"capacityClaim": _CLAIM},
    "update": {"capacityClaim": _CLAIM},
    "delete": {"capacityClaim": _CLAIM},
    "list": {"capacityClaims": [_CLAIM, _CLAIM]},
    "parameters": {"zoneInstanceTypes": {"US-WEST-04A": {"instanceIds": ["gb200-4x"]}}},
}
_ERRORS: Final[tuple[Any, ...]] = (
    {"code": "not_found", "message": "no such claim"},
    {"code": 16, "message": "token expired", "details": []},
    {
        "code": "invalid_argument",
        "message": "bad",
        "details": [
            {
                "type": "google.rpc.BadRequest",
                "value": "Cg0KBXpvbmVzEgRuYW1l",
                "debug": {"fieldViolations": [{}]},
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
        ],
    },
)


class Fault(AssertionError):
    """What a case did that it may not do."""


class _Hangs(BaseException):
    """A case took longer than `LIMIT`; no code catches this."""


# Answers of the API


def _answer(operation: str, random: Random) -> tuple[int, list[tuple[str, str]], bytes]:
    """A status, headers and a body: a valid answer or error with something wrong."""
    status = random.choice((200, 200, 200, 204, 301, 400, 401, 403, 404, 409, 429, 500, 503, 600))
    value = ANSWERS[operation] if status < 300 else random.choice(_ERRORS)
    body = damaged_bytes(dumped(damaged_json(value, random)), random)
    headers = [("Content-Type", random.choice(("application/json", "text/html", "")))]
    match random.randrange(12):
        case 0:
            body = gzip.compress(body)
            headers.append(("Content-Encoding", random.choice(("gzip", "x-gzip", "GZIP"))))
        case 1:
            body = gzip.compress(bytes(random.choice((10, 100)) * 1024 * 1024))
            headers.append(("Content-Encoding", "gzip"))
        case 2:
            headers.append(
                ("Content-Encoding", random.choice(("gzip", "br", "gzip, gzip", "\x1b", "deflate")))
            )
        case 3:
            headers.append(("Retry-After", odd_text(random)))
        case 4:
            headers.append(("Date", random.choice((odd_text(random), "Mon, 01 Jan 0001 00:00:00 GMT"))))
        case 5:
            headers.append(("Location", odd_text(random)))
        case 6:
            headers.append(("X-Request-Id", odd_text(random)))
    return status, headers, body


def _wire(operation: str, random: Random) -> bytes:
    """An HTTP response as bytes, which may be no HTTP."""
    status, headers, body = _answer(operation, random)
    length = len(body) + random.choice((0, 0, 0, 0, 5, -1))
    framing = random.choice((f"Content-Length: {length}", "Connection: close", "Transfer-Encoding: chunked"))
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers), framing]
    head = "\r\n".join(lines).encode("utf-8", "replace")
    if framing.startswith("Transfer") and random.random() < 0.8:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return damaged_bytes(head, random) + b"\r\n\r\n" + body


class _Server:
    """Answers each connection with the same bytes, and closes it."""

    def __init__(self, data: bytes, *, slowly: bool) -> None:
        self._data = data
        self._slowly = slowly
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> _Server:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                if self._slowly:
                    for start in range(min(len(self._data), 40)):
                        connection.sendall(self._data[start : start + 1])
                        time.sleep(0.02)
                else:
                    connection.sendall(self._data)


def _answers(random: Random) -> None:
    operation = random.choice(list(ANSWERS))
    arguments: tuple[Any, ...] = {
        "create": ("training", _RESOURCES),
        "update": (_ID, _RESOURCES),
        "list": (),
        "parameters": (),
    }.get(operation, (_ID,))
    named = {"id": _ID} if operation == "create" else {}
    slowly = random.random() < 0.05
    is_async = random.random() < 0.5
    with _Server(_wire(operation, random), slowly=slowly) as server:
        token = f"t{random.getrandbits(64):x}"
        given: Any = {"endpoint": server.url, "timeout": 0.5, "retry": _NO_RETRY}

        async def ask() -> Any:
            async with AsyncClient(token, **given) as client:
                return await getattr(client.capacity_claims, operation)(*arguments, **named)

        try:
            if is_async:
                result = asyncio.run(ask())
            else:
                with Client(token, **given) as client:
                    result = getattr(client.capacity_claims, operation)(*arguments, **named)
        except CoreweaveError as error:
            _check_text(str(error), token)
            pickle.dumps(error)
        else:
            repr(result)


# The provider, with the states and inputs that the engine hands it


def _provider(random: Random) -> None:
    time_ = Time()

    def answer(request: httpx.Request) -> httpx.Response:
        operation = {"POST": "create", "PATCH": "update", "DELETE": "delete"}.get(request.method, "get")
        if request.url.path.endswith("/capacityclaims") and operation == "get":
            operation = "list"
        if request.url.path.endswith("/parameters"):
            operation = "parameters"
        if random.random() < 0.5:
            return httpx.Response(200, json=ANSWERS[operation])
        status, headers, body = _answer(operation, random)
        kept = [
            (name, value.encode("utf-8", "replace")) for name, value in headers if name != "Content-Encoding"
        ]
        raw = [(name.encode(), value) for name, value in kept if not re.search(rb"[\x00-\x1f]", value)]
        return httpx.Response(status, headers=raw, content=body)

    emulator: Any = _Settings()
    provider = InProcess(
        emulator, time_, httpx.MockTransport(answer), environment={"COREWEAVE_RETRY_DEADLINE": "5"}
    )
    provider._operation._show = lambda lines: _check_text(str(lines), "")
    namespace = str(uuid.UUID(int=random.getrandbits(128)))
    inputs = claim_inputs(
        namespace, **({} if random.random() < 0.5 else {"capacityType": "CAPACITY_TYPE_MANAGED"})
    )
    state = {
        **inputs,
        "resources": _RESOURCES,
        "name": "training-9f0c8a5",
        "organizationId": "org",
        "createdAt": "2026-11-27T10:00:00Z",
        "updatedAt": "2026-11-27T10:00:01Z",
        "identity": {**inputs["identity"], "incarnation": "i", "explicitName": False},
    }
    olds = damaged_json(state, random) if random.random() < 0.5 else state
    news = damaged_json(inputs, random) if random.random() < 0.7 else inputs
    if not isinstance(olds, dict) or not isinstance(news, dict):
        return  # the engine sends objects only
    try:
        # no value twice
        olds, news = json.loads(dumped(olds).decode()), json.loads(dumped(news).decode())
    except UnicodeDecodeError:
        return  # gRPC carries no lone surrogates

    def checked(olds: dict[str, Any]) -> dict[str, Any]:
        result = provider.check(olds, news)
        for failure in result.failures:
            _check_text(failure, "")
        if result.failures:
            raise PluginError("the engine goes no further")
        return result.inputs

    def known(olds: dict[str, Any]) -> dict[str, Any]:
        inputs = checked(olds)
        if UNKNOWN in json.dumps(inputs):
            raise PluginError("the engine waits until it is known")
        return inputs

    calls: tuple[Callable[[], Any], ...] = (
        lambda: provider.diff(_ID, olds, checked(olds)),
        lambda: provider.create(known({})),
        lambda: provider.read(_ID, olds),
        lambda: provider.update(_ID, olds, known(olds)),
        lambda: provider.delete(_ID, olds),
    )
    for _ in range(2):
        try:
            random.choice(calls)()
        except PluginError as error:
            _check_text(str(error), "")


class _Settings:
    """What `InProcess` asks of an emulator, without one."""

    def environment(self) -> dict[str, str]:
        return {"COREWEAVE_API_ENDPOINT": "http://127.0.0.1:1", "COREWEAVE_API_TOKEN": "t"}


# Commands: files, the environment, arguments


class Machine:
    """A folder, and an emulator with one claim, for the commands."""

    def __init__(self) -> None:
        self._running = ExitStack()

    def __enter__(self) -> Machine:
        self.folder = Path(self._running.enter_context(tempfile.TemporaryDirectory()))
        self.emulator = self._running.enter_context(Emulator(EmulatorSettings(log_limit=100)))
        self._running.enter_context(contextlib.chdir(self.folder))
        with Client(self.emulator.token, endpoint=self.emulator.url) as client:
            self.claim_id = client.capacity_claims.create("training", _RESOURCES).id
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def run(self, *arguments: str, given: bytes = b"", **environment: str) -> None:
        """Run a command in this process; raises `Fault` unless it ends as a command may end."""
        basic = self.emulator.environment() | {"COREWEAVE_RETRY_DEADLINE": "0", "PATH": "/nowhere"}
        with _environment(basic | environment):
            result = CliRunner().invoke(app, arguments, input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if result.exit_code not in (0, 1, 2):
            raise Fault(f"exit code {result.exit_code}: {result.output[-2_000:]}")
        _check_text(result.output, self.emulator.token)

    def export(self) -> Any:
        """A stack's export that holds the claim."""
        urn = "urn:pulumi:prod::p::"
        namespace = {
            "urn": f"{urn}{_NAMESPACE_TYPE}::claims",
            "type": _NAMESPACE_TYPE,
            "id": str(uuid.UUID(int=7)),
        }
        claim = {
            "urn": f"{urn}{_TYPE}::training",
            "type": _TYPE,
            "id": self.claim_id,
            "inputs": {"resources": _RESOURCES},
            "outputs": {
                "name": "training",
                "resources": _RESOURCES,
                "identity": {"namespace": namespace["id"]},
            },
        }
        pending = [{"resource": {**claim, "id": ""}, "type": "creating"}]
        return {
            "version": 3,
            "deployment": {"manifest": {}, "resources": [namespace, claim], "pending_operations": pending},
        }


def _previews(machine: Machine, random: Random) -> None:
    preview = json.loads(random.choice(_PREVIEWS).read_text(encoding="utf-8"))
    Path("preview.json").write_bytes(damaged_bytes(dumped(damaged_json(preview, random)), random))
    options = random.choice(((), ("--format", "json"), ("--format", "table"), ("--prices", "p.toml")))
    Path("p.toml").write_text('currency = "USD"\n[per_hour]\n"gb200-4x" = 40.5\n', encoding="utf-8")
    machine.run("review", "preview.json", *options)


def _states(machine: Machine, random: Random) -> None:
    Path("state.json").write_bytes(damaged_bytes(dumped(damaged_json(machine.export(), random)), random))
    command = random.choice((["orphans"], ["release", machine.claim_id]))
    answer = random.choice((b"", b"n\n", b"\xff\n"))
    machine.run(*command, "--state", "state.json", given=answer)
    machine.run("import", "--state", "state.json", "--force")


def _tfstates(machine: Machine, random: Random) -> None:
    state = json.loads((_ROOT / "data" / "terraform.tfstate").read_text(encoding="utf-8"))
    data = damaged_bytes(dumped(damaged_json(state, random)), random)
    machine.run("import", "--terraform-state", "-", "--force", given=data)


_RULES: Final = 'instance_types = ["gb200-4x"]\nzones = ["US-WEST-04A"]\nmin_zones = 1\nmax_instances = 8\n'
_PRICES: Final = 'currency = "USD"\n[per_hour]\n"gb200-4x" = 40.5\n[gpus]\n"gb200-4x" = 4\n'


def _rules(machine: Machine, random: Random) -> None:
    option, text = random.choice((("--rules", _RULES), ("--prices", _PRICES)))
    if random.random() < 0.7:
        words = re.findall(r"\S+|\s+", text)
        words[random.randrange(len(words))] = random.choice(
            (odd_text(random), "=", "[x]", "1e999", "2026-99-01")
        )
        text = "".join(words)
    Path("file.toml").write_bytes(damaged_bytes(text.encode("utf-8", "surrogatepass"), random))
    machine.run("review", str(random.choice(_PREVIEWS)), option, "file.toml")


_VARIABLES: Final = (
    *(variable for setting in SETTINGS for variable in setting.variables),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("CW_BASE_URL", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "LANG", "TERM", "PULUMI_SKIP_CHECKPOINTS"),
)
_VALUES: Final = (
    *(
        "https://a..b",
        "https://☃.example",
        "http://[::1",
        "https://x:99999",
        "socks5h://localhost:1",
        "1h",
        "-1s",
    ),
    *(
        "1e400h",
        "true",
        "0",
        "::1",
        "[::1]:443",
        "*",
        ".",
        "/dev/null",
        "/",
        "error",
        "warn",
        "Bearer x",
        "a b",
    ),
    *("http://user:pässwort@127.0.0.1:1", "127.0.0.1:1", "fe80::1%eth0", "xn--a", "10000000000h", "²"),
)


def _settings(machine: Machine, random: Random) -> None:
    names = random.sample(_VARIABLES, random.randint(1, 4))
    given = {name: random.choice((*_VALUES, odd_text(random))) for name in names}
    given = {
        name: value.replace("\x00", "").encode("utf-8", "replace").decode() for name, value in given.items()
    }
    is_patient = any(
        name in given for name in ("COREWEAVE_RETRY_DEADLINE", "COREWEAVE_API_ENDPOINT", "HTTPS_PROXY")
    )
    if not is_patient:
        machine.run("list", **given)
        return
    # These may send calls elsewhere, or wait for days, as they say; they are read but not obeyed.
    with _environment(given):
        try:
            settings = settings_from(lambda key: given.get(key))
            with settings.client() as client:
                connection = client._connection
                connection.options(connection.proxy())
        except (ClaimError, CoreweaveError) as error:
            _check_text(str(error), "no token")


_WORDS: Final = (
    *(
        "list",
        "zones",
        "import",
        "orphans",
        "release",
        "review",
        "--all",
        "--all-stacks",
        "--unchecked",
        "--yes",
    ),
    *(
        "--state",
        "--stack",
        "--name",
        "--zone",
        "--type",
        "--format",
        "json",
        "table",
        "markdown",
        "--help",
        "-",
        "--",
    ),
    *(
        "--rules",
        "--prices",
        "--expect-fingerprint",
        "--terraform-state",
        "--force",
        "--version",
        "training",
        "*",
    ),
)


def _arguments(machine: Machine, random: Random) -> None:
    more = (
        random.choice((*_WORDS, odd_text(random), machine.claim_id[:8])) for _ in range(random.randrange(6))
    )
    words = [random.choice(_WORDS[:6]), *more]
    if words[0] == "release" and "--yes" in words:
        words.remove("--yes")  # the claim is needed
    machine.run(*words, given=random.choice((b"", b"no\n")))


Case = Callable[[Machine, Random], None]
SURFACES: Final[dict[str, Case]] = {
    "answers": lambda _, random: _answers(random),
    "provider": lambda _, random: _provider(random),
    "previews": _previews,
    "states": _states,
    "tfstates": _tfstates,
    "rules": _rules,
    "settings": _settings,
    "arguments": _arguments,
}


def run_case(machine: Machine, surface: str, number: int) -> str:
    """Run one case; returns what is wrong, empty if nothing is."""
    random = Random(f"{surface}:{number}")

    def hangs(_signal: int, _frame: object) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LIMIT)
    try:
        SURFACES[surface](machine, random)
    except _Hangs:
        return f"took longer than {LIMIT} s\n{traceback.format_exc()}"
    except Exception:  # noqa: BLE001  # any of them is what this looks for
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return ""


def fuzz(seed: int, *, minutes: float, say: Callable[[str], None] = print) -> dict[str, str]:
    """Run cases until the time is over; returns what is wrong with those that failed, by name."""
    random = Random(seed)
    until = time.monotonic() + minutes * 60
    wrong: dict[str, str] = {}
    counts: Counter[str] = Counter()
    said = time.monotonic()
    with Machine() as machine:
        start = _memory()
        while time.monotonic() < until:
            surface, number = random.choice(list(SURFACES)), random.getrandbits(40)
            counts[surface] += 1
            if problem := run_case(machine, surface, number):
                wrong[f"{surface}:{number}"] = problem
                say(f"{surface}:{number}: {problem}")
            if (memory := _memory()) > start + MEMORY:
                wrong[f"{surface}:{number}"] = (
                    f"the process has grown from {start >> 20} to {memory >> 20} MiB"
                )
                break
            if time.monotonic() - said > 60:
                said = time.monotonic()
                say(
                    f"{sum(counts.values())} cases, {len(wrong)} wrong, {memory >> 20} MiB ({start >> 20} at first)"
                )
    say(", ".join(f"{surface} {count}" for surface, count in sorted(counts.items())))
    return wrong


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def _check_text(text: str, token: str) -> None:
    if found := _CONTROL.search(text):
        raise Fault(f"prints {found[0]!r}: {text[max(0, found.start() - 200) : found.end() + 200]!r}")
    if token and token in text:
        raise Fault("shows the token")
    if "Traceback" in text:
        raise Fault(text)


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> int:
    """Run for some minutes, or one case again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random_module.getrandbits(32))
    parser.add_argument("--case", help="a surface and a number, such as answers:123")
    given = parser.parse_args()
    if given.case:
        surface, _, number = given.case.partition(":")
        with Machine() as machine:
            problem = run_case(machine, surface, int(number))
        print(problem or "nothing is wrong")
        return bool(problem)
    print(f"seed {given.seed}")
    wrong = fuzz(given.seed, minutes=given.minutes)
    for name in wrong:
        print(f"python tests/fuzz/fuzz.py --case {name}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
