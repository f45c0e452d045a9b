"""The Python language host: what the Pulumi engine calls to run a Python program.

Official releases of Pulumi bring their own, written in Go. An engine built from its Go module does
not, because the host's module is not published; this one takes its place. It serves the part of
`pulumirpc.LanguageRuntime` that the stack operations use, and answers UNIMPLEMENTED to the rest
(project templates, code generation, dependency installation), which the engine takes for "no".

    engine ──starts──> this host ──prints its port──> engine ──Run──> host ──starts──> the program

The program talks to the engine itself; the host only waits for it and reports how it ended. The
program never outlives the host, nor the host the engine, however either of them dies.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

# The SDK's packages import the whole SDK in their `__init__`, which takes more than half a second
# of every CLI command. The stubs need none of it, so they are imported from bare packages.
if not TYPE_CHECKING:
    for _name in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
        _bare = ModuleType(_name)
        _bare.__path__ = importlib.util.find_spec(_name).submodule_search_locations
        sys.modules[_name] = _bare

import grpc
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

# How the program says "an error was shown already" (in pulumi-language-python-exec).
ALREADY_SHOWN = 32

# Seconds a program gets between the interrupt and the kill: when the engine cancels it, and when
# the host itself must go (the engine kills the host five seconds after asking).
CANCEL_GRACE = 5.0
EXIT_GRACE = 2.0

EXECUTOR = Path(__file__).with_name("pulumi-language-python-exec")


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs programs, each in a process of its own."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._running: set[Program] = set()
        self._closed = False

    def Handshake(  # noqa: N802 - the names are the protocol's
        self,
        request: language_pb2.LanguageHandshakeRequest,
        context: grpc.ServicerContext,
    ) -> language_pb2.LanguageHandshakeResponse:
        """Sent only by an engine that attaches to a host that runs already."""
        self._engine = request.engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(  # noqa: N802
        self, request: Empty, context: grpc.ServicerContext
    ) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo()

    def GetRequiredPackages(  # noqa: N802
        self,
        request: language_pb2.GetRequiredPackagesRequest,
        context: grpc.ServicerContext,
    ) -> language_pb2.GetRequiredPackagesResponse:
        """Nothing: dynamic providers come with the engine."""
        return language_pb2.GetRequiredPackagesResponse()

    def About(  # noqa: N802
        self, request: language_pb2.AboutRequest, context: grpc.ServicerContext
    ) -> language_pb2.AboutResponse:
        return language_pb2.AboutResponse(executable=interpreter(request.info))

    def Run(  # noqa: N802
        self, request: language_pb2.RunRequest, context: grpc.ServicerContext
    ) -> language_pb2.RunResponse:
        """Run the program to its end; a cancelled call or a lost engine ends it early."""
        try:
            program = self._start(interpreter(request.info), request)
        except OSError as error:
            return language_pb2.RunResponse(
                error=f"cannot run {error.filename or 'the program'}: {error.strerror or error}. "
                "Is the program's virtual environment installed?"
            )
        if not context.add_callback(lambda: program.stop(EXIT_GRACE)):
            program.stop(EXIT_GRACE)  # the call ended before the program began
        try:
            return outcome(program.wait())
        finally:
            with self._lock:
                self._running.discard(program)

    def Cancel(self, request: Empty, context: grpc.ServicerContext) -> Empty:  # noqa: N802
        self._stop_all(CANCEL_GRACE)
        return Empty()

    def close(self) -> None:
        """Stop what runs, and start nothing more."""
        with self._lock:
            self._closed = True
        self._stop_all(EXIT_GRACE)

    def _start(self, python: str, request: language_pb2.RunRequest) -> Program:
        with self._lock:
            if self._closed:
                raise OSError("the language host is shutting down")
            # No process group of its own: the engine's last resort is to kill the host's group.
            program = Program(
                [python, "-u", str(EXECUTOR), *arguments(request, self._engine)],
                cwd=request.info.program_directory,
                env=environment(request, python, os.environ),
            )
            self._running.add(program)
            return program

    def _stop_all(self, grace: float) -> None:
        with self._lock:
            running = list(self._running)
        for program in running:
            program.stop(grace)


class Program:
    """A running program. What it says on stderr is passed on until it is interrupted.

    After that there is only the interpreter's traceback of the interrupt itself, which would stand below
    the error that the engine interrupted it for.
    """

    def __init__(self, command: list[str], cwd: str, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._lock = threading.Lock()
        self._interrupted = False
        self._forwarder = threading.Thread(target=self._forward, daemon=True)
        self._forwarder.start()

    def wait(self) -> int:
        """The exit status, once the program has ended and all that it said is passed on."""
        status = self._process.wait()
        self._forwarder.join(EXIT_GRACE)  # a child of the program may still hold its stderr
        return status

    def stop(self, grace: float) -> None:
        """Interrupt once, so that the program can clean up; kill it after `grace` seconds."""
        with self._lock:
            first, self._interrupted = not self._interrupted, True
        if self._process.poll() is not None:
            return
        if first:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _forward(self) -> None:
        assert self._process.stderr
        with self._process.stderr as stderr:
            while chunk := os.read(stderr.fileno(), 65_536):
                if not self._interrupted:
                    sys.stderr.buffer.write(chunk)
                    sys.stderr.buffer.flush()


def interpreter(info: language_pb2.ProgramInfo) -> str:
    """The Python of the program: its virtual environment's, else the one on PATH.

    `virtualenv` is relative to the project's root, as with the official host. Without it, Poetry is
    asked for its environment, uv has `UV_PROJECT_ENVIRONMENT` (relative to its lock file) or the nearest
    `.venv` at or above the program, and a program without a toolchain has that `.venv` as well.
    """
    options = dict(info.options.items())
    if virtualenv := options.get("virtualenv"):
        return str(Path(info.root_directory, str(virtualenv), "bin", "python"))
    toolchain = options.get("toolchain", "")
    program = Path(info.program_directory)
    if toolchain == "poetry":
        asked = subprocess.run(
            ["poetry", "env", "info", "--path"], cwd=program, capture_output=True, text=True
        )
        return str(Path(asked.stdout.strip(), "bin", "python"))
    if toolchain == "uv" and (named := os.environ.get("UV_PROJECT_ENVIRONMENT")):
        above = (program, *program.parents)
        files = [folder / name for name in ("uv.lock", "pyproject.toml") for folder in above]
        project = next((file.parent for file in files if file.exists()), program)
        return str(project / named / "bin" / "python")
    if toolchain in ("", "uv"):
        for directory in (program, *program.parents):
            python = directory / ".venv" / "bin" / "python"
            if python.exists():
                return str(python)
        if toolchain:
            return str(program / ".venv" / "bin" / "python")
    command = os.environ.get("PULUMI_PYTHON_CMD", "python3")
    return shutil.which(command) or command


def arguments(request: language_pb2.RunRequest, engine: str) -> list[str]:
    """The command line of `pulumi-language-python-exec`."""
    return [
        f"--monitor={request.monitor_address}",
        f"--engine={engine}",
        f"--project={request.project}",
        f"--root_directory={request.info.root_directory}",
        f"--stack={request.stack}",
        f"--pwd={request.pwd}",
        f"--dry_run={'true' if request.dryRun else 'false'}",
        f"--parallel={request.parallel}",
        f"--organization={request.organization}",
        request.info.entry_point,
        *request.args,
    ]


def environment(
    request: language_pb2.RunRequest, python: str, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The program's environment: its virtual environment activated, the stack's configuration."""
    variables = dict(inherited)
    bin_directory = Path(python).parent
    if (bin_directory.parent / "pyvenv.cfg").exists():
        variables.pop("PYTHONHOME", None)
        variables["VIRTUAL_ENV"] = str(bin_directory.parent)
        paths = [str(bin_directory), variables.get("PATH", "")]
        variables["PATH"] = os.pathsep.join(path for path in paths if path)
    variables["PULUMI_CONFIG"] = json.dumps(dict(request.config))
    variables["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(list(request.configSecretKeys))
    return variables


def outcome(status: int) -> language_pb2.RunResponse:
    """What an exit status tells the engine."""
    if status == 0:
        return language_pb2.RunResponse()
    if status == ALREADY_SHOWN:
        return language_pb2.RunResponse(bail=True)
    if status < 0:
        name = signal.Signals(-status).name
        return language_pb2.RunResponse(error=f"program was ended by {name}")
    return language_pb2.RunResponse(error=f"program exited with non-zero exit code: {status}")


def main() -> None:
    done = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        done.set()

    def watch_engine() -> None:
        # The engine holds the other end of our stdin and never writes; it closes when the engine
        # is gone, even after SIGKILL.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        done.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)

    # The engine's address is the last of the arguments it starts a plugin with.
    host = LanguageHost(engine=sys.argv[-1] if len(sys.argv) > 1 else "")
    server = grpc.server(
        ThreadPoolExecutor(max_workers=8),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # the engine waits for this line

    threading.Thread(target=watch_engine, daemon=True).start()
    done.wait()
    host.close()
    server.stop(0)
    # Past the interpreter's shutdown, which would wait for worker threads and print to nobody.
    os._exit(0)


if __name__ == "__main__":
    main()
