"""Provider processes that start quickly: forks of one process that has made their imports already.

What a fork runs is the same module with the same pipes, environment and signals as one that starts afresh.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

SERVER: Final = Path(__file__).with_name("plugin_server.py")


class ForkedPlugin:
    """What `subprocess.Popen` would be for the plugin: the part of its interface that the tests use."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        (stdin, to), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
        control, other = socket.socketpair()
        server, _ = _server()
        with other:
            socket.send_fds(server, [b"+"], [stdin, stdout, stderr, other.fileno()])
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        with control:
            control.sendall(json.dumps(dict(environment)).encode() + b"\n")
            self._control = control.makefile("rb", buffering=0)
        self.stdin: IO[bytes] | None = os.fdopen(to, "wb", buffering=0)
        self.stdout: IO[bytes] = os.fdopen(out, "rb", buffering=0)
        self._stderr = os.fdopen(err, "rb", buffering=0)
        self._pid = int(self._control.readline())
        self._status: int | None = None
        self._printed: tuple[bytes, bytes] | None = None

    def poll(self) -> int | None:
        """The exit status; None while the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises `subprocess.TimeoutExpired`."""
        if self._status is None:
            if not select.select([self._control], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("pulumi.dynamic", timeout or 0)
            self._status = int(self._control.readline())
            self._control.close()
        return self._status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            os.kill(self._pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """What the process has printed by its end. Raises `subprocess.TimeoutExpired`."""
        if self.stdin is not None:
            self.stdin.close()
        self.wait(timeout)
        if self._printed is None:
            with self.stdout, self._stderr:
                self._printed = self.stdout.read(), self._stderr.read()
        return self._printed


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The process that forks, for all tests of this one. It ends when this one does."""
    ours, theirs = socket.socketpair()
    with theirs:
        return ours, subprocess.Popen([sys.executable, str(SERVER)], stdin=theirs)


__all__ = ["ForkedPlugin"]
