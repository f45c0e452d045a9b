"""The process that the engine starts: prints its port, serves until the engine ends it or is gone.

engine ──starts──> this process ──prints its port──> engine ──Configure, Check, Create, …──> server.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from pulumi_coreweave_inference.engine_process import WORKERS

from .server import Server

_UNLIMITED: Final = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_LAST_ANSWERS: Final = 1.0  # seconds for calls that run when the engine is gone
_UNDER_WAY: Final = 60.0  # seconds for calls that run at SIGINT; the engine kills earlier


def main() -> None:
    """Serve until the engine sends SIGINT, or closes the other end of the standard input."""
    if len(sys.argv) < 2 or sys.argv[-1].startswith("-"):
        sys.exit(
            "pulumi-resource-coreweave-inference is a plugin: Pulumi starts it, with the address of its "
            "engine as the last argument. `capacity-claims plugin install` puts it where Pulumi looks for it."
        )
    asyncio.run(_serve(sys.argv[-1]))
    # Past the interpreter's shutdown, which would wait for calls to the API that nobody waits for any more.
    sys.stdout.flush()
    os._exit(0)


async def _serve(engine: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(WORKERS))  # so that the engine's own limit applies
    grpc_server = grpc.aio.server(options=_UNLIMITED)
    server = Server(engine)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(server, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()  # the engine calls as soon as it has read this line
    gone, ended = asyncio.Event(), asyncio.Event()
    # At the end of a command the engine sends SIGINT, and after 5 s SIGKILL. It says by `Cancel` that it was
    # interrupted itself: calls under way get their answers.
    signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(ended.set))

    def watch() -> None:
        # The engine holds the other end and never writes; it closes when the engine is gone, even by SIGKILL.
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        loop.call_soon_threadsafe(gone.set)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, name="exit-with-engine", daemon=True).start()
    await ended.wait()
    stopping = asyncio.create_task(grpc_server.stop(_UNDER_WAY))
    gone_too = asyncio.create_task(gone.wait())
    await asyncio.wait((stopping, gone_too), return_when=asyncio.FIRST_COMPLETED)
    if gone.is_set():
        server.abandon()
        await grpc_server.stop(_LAST_ANSWERS)
