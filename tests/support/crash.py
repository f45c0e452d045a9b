"""An operation of the real engine that dies where a test wants it to, and what must hold afterwards.

An emulator that holds a call holds the operation at an exact point; then whoever is to die is killed.
Processes are found by a marker in their environment: plugins lead process groups of their own, and wait
for ever when the engine dies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from support import invariants
from support.stack import Stack

_MARKER: Final = "CRASH_TEST_OPERATION"
_PROVIDER: Final = (
    b"pulumi-resource-pulumi-python",  # a shell script
    b"pulumi.dynamic",  # and what it runs
    b"pulumi_coreweave_inference.native",
)
_NOTICED: Final = "^C received; cancelling"


class Operation:
    """`pulumi up` or another command, running in the background. Nothing of it survives the `with`."""

    def __init__(self, stack: Stack, *arguments: str) -> None:
        run = uuid.uuid4().hex
        self._marker = f"{_MARKER}={run}".encode()
        self._log = stack.folder.parent / f"operation-{run}.log"
        with self._log.open("wb") as log:
            self._cli = subprocess.Popen(
                ["pulumi", *arguments, "--stack", stack.name],
                cwd=stack.folder,
                env=os.environ | stack.environment | {_MARKER: run},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Operation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def output(self) -> str:
        """What the operation has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        """Whether the CLI has ended."""
        return self._cli.poll() is not None

    def wait(self, timeout: float = 90) -> int:
        """The CLI's exit status."""
        return self._cli.wait(timeout)

    def kill(self) -> None:
        """SIGKILL the CLI, the program and the provider; all are stopped before the first one dies."""
        while pids := list(self._pids()):
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    _send(pid, number)
            self._cli.wait()

    def kill_cli(self) -> None:
        """SIGKILL the CLI alone."""
        self._cli.kill()
        self._cli.wait()

    def kill_provider(self) -> None:
        """SIGKILL the provider alone; the CLI sees its calls fail."""
        for pid in self._pids():
            if any(name in _read(pid, "cmdline") for name in _PROVIDER):
                _send(pid, signal.SIGKILL)

    def freeze_cli(self) -> None:
        """Stop the CLI: from now on it reads no answer and writes no state."""
        self._cli.send_signal(signal.SIGSTOP)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the CLI alone, as a CI system does."""
        self._cli.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C as a terminal sends it; returns when the CLI has noticed."""
        os.killpg(self._cli.pid, signal.SIGINT)
        until(lambda: _NOTICED in self.output or self.ended)

    def interrupt_again(self) -> None:
        """The second Ctrl-C, unless the first was enough; returns when the CLI has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self._cli.pid, signal.SIGINT)
        self.wait()

    def _pids(self) -> Iterator[int]:
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and self._marker in _read(int(folder.name), "environ").split(b"\0"):
                yield int(folder.name)


def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    """Wait for a condition; TimeoutError when it never comes."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:g} s")
        time.sleep(0.02)


def locked(stack: Stack) -> bool:
    """Whether a dead CLI has left its lock behind."""
    locks = stack.folder.parent / "state" / ".pulumi" / "locks"
    return any(file.is_file() for file in locks.rglob(f"{stack.name}/*"))


def mend_torn_state(stack: Stack) -> bool:
    """Repair the state if the CLI died while writing it.

    The engine does not write a state in a folder atomically. It keeps the previous one in `*.json.bak`, and
    can do without the attributes next to it, `*.json.attrs`.
    """
    file = stack.state_file
    attributes = file.with_name(f"{file.name}.attrs")
    torn = [each for each in (file, attributes) if each.exists() and not _is_json(each)]
    if file in torn:
        shutil.copyfile(file.with_name(f"{file.name}.bak"), file)
    if torn:
        attributes.unlink(missing_ok=True)
    return bool(torn)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def entries(stack: Stack) -> list[dict[str, Any]]:
    """All claims in the state, those that wait for their deletion included."""
    resources = stack.export().get("resources", [])
    return [entry for entry in resources if entry["type"].endswith(":CapacityClaim")]


def pending(stack: Stack) -> list[str]:
    """The kinds of the operations that the state calls interrupted."""
    return [operation["type"] for operation in stack.export().get("pending_operations", [])]


def assert_settled(
    stack: Stack, declared: Mapping[str, Mapping[str, Any]], others: Collection[str] = ()
) -> None:
    """After an `up` that ended well, claims, declarations and state are one to one, as they are declared.

    `others` are the ids of claims that do not belong to the stack.
    """
    claims = [claim for claim in stack.emulator.claims() if claim.id not in others]
    state = stack.export()
    invariants.settled(claims, state.get("resources", []), declared)
    # Creates stay pending until `pulumi refresh --clear-pending-creates`, even when they are made up for.
    assert set(pending(stack)) <= {"creating"}
    held = {claim.id: claim for claim in claims}
    for entry in entries(stack):
        claim, wanted = held[entry["id"]], declared[invariants.resource_name(entry)]["resources"]
        assert claim.instance_id == wanted["instance_id"]
        assert list(claim.zones) == list(wanted["zones"])
        assert claim.instance_count == wanted["instance_count"] == sum(claim.allocation.values())


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


__all__ = [
    "Operation",
    "assert_settled",
    "entries",
    "locked",
    "mend_torn_state",
    "pending",
    "until",
]
