"""The language host over gRPC, as the engine calls it, with an executor that needs no engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import language_pb2, language_pb2_grpc

ENGINE_FILES = Path(__file__).parents[3] / "tools" / "engine"
Stub = language_pb2_grpc.LanguageRuntimeStub

# Stands in for pulumi-language-python-exec: runs the program without an engine to talk to.
EXECUTOR = """
import os, runpy, sys
import json
options = dict(a[2:].split("=", 1) for a in sys.argv[1:] if a.startswith("--"))
(program, *arguments) = [a for a in sys.argv[1:] if not a.startswith("--")]
with open("options.json", "w") as file:
    json.dump({**options, "program": program, "arguments": arguments}, file)
with open("environment.json", "w") as file:
    json.dump(dict(os.environ), file)
with open("pid", "w") as file:
    file.write(str(os.getpid()))
runpy.run_path(program, run_name="__main__")
"""


class Host:
    """A running host, and the program's directory it was started in."""

    def __init__(self, directory: Path, program: Path, environment: dict[str, str]) -> None:
        self.program = program
        self.process = subprocess.Popen(
            [directory / "pulumi-language-python", "127.0.0.1:4711"],
            cwd=program,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = Stub(self.channel)

    def run(self, **overrides: object) -> language_pb2.RunResponse:
        response = self.stub.Run(self.request(**overrides), timeout=30)
        assert isinstance(response, language_pb2.RunResponse)
        return response

    def request(self, **overrides: object) -> language_pb2.RunRequest:
        options = Struct()
        options.update(overrides.pop("options", {"virtualenv": sys.prefix}))  # type: ignore[arg-type]  # overrides are the test's own
        info = language_pb2.ProgramInfo(
            root_directory=str(self.program),
            program_directory=str(self.program),
            entry_point=".",
            options=options,
        )
        request = language_pb2.RunRequest(
            project="project",
            stack="stack",
            organization="organization",
            pwd=str(self.program),
            parallel=4,
            monitor_address="127.0.0.1:4712",
            info=info,
        )
        request.MergeFrom(language_pb2.RunRequest(**overrides))  # type: ignore[arg-type]  # as above
        return request

    def program_pid(self) -> int:
        file = self.program / "pid"
        wait_until(lambda: file.exists() and file.read_text() != "")
        return int(file.read_text())

    def read(self, name: str) -> dict[str, str]:
        content: dict[str, str] = json.loads((self.program / name).read_text())
        return content


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The host's files as `install.py` lays them out."""
    directory = tmp_path / "engine"
    directory.mkdir()
    for name in ("pulumi-language-python", "language_host.py"):
        shutil.copy(ENGINE_FILES / name, directory)
    host = directory / "language_host.py"
    host.write_text(host.read_text().replace("CANCEL_GRACE = 5.0", "CANCEL_GRACE = 1.0"))
    (directory / "pulumi-language-python-exec").write_text(EXECUTOR)
    return directory


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "PULUMI_COREWEAVE_HOST_PYTHON": sys.executable,
    }


@pytest.fixture
def start(installed: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[[str], Host]]:
    """Start a host beside a program with the given source."""
    hosts: list[Host] = []

    def start_one(source: str) -> Host:
        program = tmp_path / "program"
        program.mkdir()
        (program / "__main__.py").write_text(textwrap.dedent(source))
        hosts.append(Host(installed, program, environment))
        return hosts[-1]

    yield start_one
    for host in hosts:
        host.channel.close()
        with host.process:  # closes the pipes
            host.process.kill()


def test_a_successful_program_is_no_error_and_prints_to_the_hosts_stdout(
    start: Callable[[str], Host],
) -> None:
    host = start("print('from the program')")
    response = host.run()
    assert (response.error, response.bail) == ("", False)
    assert host.process.stdout
    assert host.process.stdout.readline() == "from the program\n"


def test_exit_code_32_bails_because_the_error_was_shown_already(
    start: Callable[[str], Host],
) -> None:
    response = start("raise SystemExit(32)").run()
    assert (response.error, response.bail) == ("", True)


def test_another_exit_code_is_named_in_the_error(start: Callable[[str], Host]) -> None:
    response = start("raise SystemExit(3)").run()
    assert (response.error, response.bail) == ("program exited with non-zero exit code: 3", False)


def test_a_program_that_was_killed_names_the_signal(start: Callable[[str], Host]) -> None:
    response = start("import os; os.kill(os.getpid(), 9)").run()
    assert response.error == "program was ended by SIGKILL"


def test_the_executor_gets_what_the_engine_said(start: Callable[[str], Host]) -> None:
    host = start("pass")
    host.run(dryRun=True, args=["one", "two"])
    assert host.read("options.json") == {
        "monitor": "127.0.0.1:4712",
        "engine": "127.0.0.1:4711",
        "project": "project",
        "root_directory": str(host.program),
        "stack": "stack",
        "pwd": str(host.program),
        "dry_run": "true",
        "parallel": "4",
        "organization": "organization",
        "program": ".",
        "arguments": ["one", "two"],
    }


def test_the_program_gets_its_virtual_environment_and_the_stacks_config(
    start: Callable[[str], Host],
) -> None:
    host = start("pass")
    host.run(config={"coreweave:token": "secret"}, configSecretKeys=["coreweave:token"])
    variables = host.read("environment.json")
    assert json.loads(variables["PULUMI_CONFIG"]) == {"coreweave:token": "secret"}
    assert json.loads(variables["PULUMI_CONFIG_SECRET_KEYS"]) == ["coreweave:token"]
    assert variables["VIRTUAL_ENV"] == sys.prefix
    assert variables["PATH"].startswith(f"{sys.prefix}/bin{os.pathsep}")


def test_with_uv_the_nearest_venv_above_the_program_is_taken(
    start: Callable[[str], Host], tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    host = start("pass")
    assert not host.run(options={"toolchain": "uv"}).error
    assert host.read("environment.json")["VIRTUAL_ENV"] == str(tmp_path / ".venv")


@pytest.mark.parametrize("named", ["absolute", "relative"])
def test_uv_project_environment_is_relative_to_the_lock_file(
    start: Callable[[str], Host], tmp_path: Path, environment: dict[str, str], named: str
) -> None:
    (tmp_path / "uv.lock").touch()
    (tmp_path / "elsewhere").symlink_to(sys.prefix)
    environment["UV_PROJECT_ENVIRONMENT"] = (
        str(tmp_path / "elsewhere") if named == "absolute" else "elsewhere"
    )
    host = start("pass")
    assert not host.run(options={"toolchain": "uv"}).error
    assert host.read("environment.json")["VIRTUAL_ENV"] == str(tmp_path / "elsewhere")


def test_poetry_is_asked_for_its_environment(
    start: Callable[[str], Host], tmp_path: Path, environment: dict[str, str]
) -> None:
    poetry = tmp_path / "poetry"
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    poetry.write_text(f'#!/bin/sh\n[ "$*" = "env info --path" ] && echo {sys.prefix}\n', encoding="utf-8")
    poetry.chmod(0o755)
    host = start("pass")
    assert not host.run(options={"toolchain": "poetry"}).error
    assert host.read("environment.json")["VIRTUAL_ENV"] == sys.prefix
    poetry.unlink()
    assert "cannot run poetry: No such file" in host.run(options={"toolchain": "poetry"}).error


def test_a_missing_environment_is_an_error_that_names_it(start: Callable[[str], Host]) -> None:
    host = start("pass")
    response = host.run(options={"virtualenv": "gone"})
    assert f"cannot run {host.program}/gone/bin/python: No such file" in response.error


def test_cancel_interrupts_the_program(start: Callable[[str], Host]) -> None:
    host = start(
        """
        import time
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            raise SystemExit(7)
        """
    )
    call = host.stub.Run.future(host.request(), timeout=30)
    host.program_pid()
    time.sleep(0.2)  # until the program sleeps
    host.stub.Cancel(Empty(), timeout=10)
    assert call.result().error == "program exited with non-zero exit code: 7"


def test_a_program_that_ignores_the_interrupt_is_killed(start: Callable[[str], Host]) -> None:
    host = start(
        """
        import signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(60)
        """
    )
    call = host.stub.Run.future(host.request(), timeout=30)
    assert host.process.stdout
    assert host.process.stdout.readline() == "deaf\n"
    host.stub.Cancel(Empty(), timeout=10)
    assert call.result().error == "program was ended by SIGKILL"


@pytest.mark.parametrize("way", ["engine gone", "SIGINT", "SIGTERM"])
def test_host_and_program_end_with_the_engine(start: Callable[[str], Host], way: str) -> None:
    host = start("import time; time.sleep(60)")
    call = host.stub.Run.future(host.request(), timeout=30)
    program = host.program_pid()
    if way == "engine gone":
        assert host.process.stdin
        host.process.stdin.close()
    else:
        host.process.send_signal(signal.Signals[way])
    assert host.process.wait(10) == 0
    assert not alive(program)
    assert host.process.stderr
    assert "language_host" not in host.process.stderr.read()  # it goes quietly
    call.cancel()


def test_a_call_that_the_engine_cancels_ends_its_program(start: Callable[[str], Host]) -> None:
    host = start("import time; time.sleep(60)")
    call = host.stub.Run.future(host.request(), timeout=30)
    program = host.program_pid()
    call.cancel()
    wait_until(lambda: not alive(program))


def test_two_programs_run_side_by_side(start: Callable[[str], Host]) -> None:
    host = start("import time; time.sleep(0.5)")
    threads = [threading.Thread(target=host.run) for _ in range(2)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 5


def test_only_the_handshake_of_the_remaining_protocol_is_implemented(
    start: Callable[[str], Host],
) -> None:
    host = start("pass")
    host.stub.Handshake(language_pb2.LanguageHandshakeRequest(), timeout=10)
    host.stub.GetPluginInfo(Empty(), timeout=10)
    packages = host.stub.GetRequiredPackages(language_pb2.GetRequiredPackagesRequest(), timeout=10)
    assert list(packages.packages) == []
    about = host.stub.About(language_pb2.AboutRequest(info=host.request().info), timeout=10)
    assert about.executable == f"{sys.prefix}/bin/python"
    with pytest.raises(grpc.RpcError) as caught:
        host.stub.Pack(language_pb2.PackRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_launcher_takes_the_nearest_venv_then_the_remembered_python(
    installed: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    del environment["PULUMI_COREWEAVE_HOST_PYTHON"]
    (installed / "language_host.py").write_text("import sys; print(sys.prefix)")
    project = tmp_path / "a project"
    program = project / "stacks" / "one"
    program.mkdir(parents=True)

    def launch() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "pulumi-language-python"],
            cwd=program,
            env=environment,
            capture_output=True,
            text=True,
        )

    failed = launch()
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "no Python with the Pulumi SDK" in failed.stderr

    (installed / "host-python").write_text(f"{sys.executable}\n")
    assert launch().stdout == f"{sys.prefix}\n"

    (project / ".venv").symlink_to(sys.prefix)
    assert launch().stdout == f"{project}/.venv\n"

    (program / ".venv" / "bin").mkdir(parents=True)  # one without the SDK does not count
    assert launch().stdout == f"{project}/.venv\n"
