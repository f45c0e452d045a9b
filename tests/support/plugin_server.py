"""Forks provider processes. It has made the imports that `python -m pulumi.dynamic` spends most of a second on.

For every byte on standard input, a Unix socket, it takes four descriptors: what is to be standard input,
output and error of the plugin, and a socket. That one brings the environment, and takes the process's id
and in the end its exit status.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import socket
import sys

# For the plugin, which loads some of them only when it needs them.
import dill  # noqa: F401
import grpc._server  # noqa: F401
import httpcore  # noqa: F401
import pulumi.dynamic  # noqa: F401

import coreweave_inference.client
import coreweave_inference.models  # noqa: F401
import pulumi_coreweave_inference.provider  # noqa: F401


def main() -> None:
    """Serve until standard input ends, or be the plugin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = socket.socket(fileno=0)
    while True:
        _, descriptors, _, _ = socket.recv_fds(requests, 1, 4)
        if not descriptors:
            return
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(-1, os.WNOHANG)
    requests.detach()
    *pipes, control = descriptors
    with socket.socket(fileno=control) as test:
        environment = json.loads(test.makefile("r").readline())
        if pid := os.fork():
            os.closerange(0, 3)
            for pipe in pipes:
                os.close(pipe)
            test.sendall(f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            test.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
    for number, pipe in enumerate(pipes):
        os.dup2(pipe, number)
        os.close(pipe)
    # Unbuffered, as with `python -u`.
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), write_through=True) for number in (1, 2)
    )
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_module("pulumi.dynamic", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
