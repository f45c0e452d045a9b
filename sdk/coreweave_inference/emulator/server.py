"""The emulator as a running server, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

import uvicorn
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from coreweave_inference.emulator.app import EmulatorApp
from coreweave_inference.emulator.claims import Claims
from coreweave_inference.emulator.control import (
    CONTROL_PREFIX,
    EMULATOR_NAME,
    HEALTH_PATH,
    ControlApi,
    EmulatorControl,
    Faults,
)
from coreweave_inference.emulator.faults import FaultProfile
from coreweave_inference.emulator.settings import EmulatorSettings, is_loopback
from coreweave_inference.emulator.web.app import WebApp, is_page

_LOG = logging.getLogger("coreweave_inference.emulator")
_KEEP_ALIVE_SECONDS = 75


class Emulator(EmulatorControl):
    """An emulator in a thread of this process.

        with Emulator(EmulatorSettings(allocation_delay=2)) as emulator:
            os.environ |= emulator.environment()

    All methods may be called from any thread. `with` calls `start` and `stop`. The methods to
    control it are those of `EmulatorControl`; here they need no HTTP, and still work after `stop`.
    """

    def __init__(
        self,
        settings: EmulatorSettings | None = None,
        *,
        faults: Faults = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`faults` apply from the first request; `clock` returns nanoseconds since 1970.

        Raises ValueError for an invalid rule.
        """
        # The base class is not initialized: it holds the URL to call, and `_call` needs none here.
        self.settings: EmulatorSettings = settings or EmulatorSettings()
        self._profile = FaultProfile.of(faults)
        self._clock = clock
        self._app: EmulatorApp | None = None
        self._control: ControlApi | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._address: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen and serve. Raises OSError if the port is taken, ValueError for a host without an address,
        or if the state file cannot be used or belongs to another running emulator."""
        if self._thread is not None:
            raise RuntimeError("the emulator is already running")
        host = self.settings.host
        try:
            socket.getaddrinfo(host, None)
        except (socket.gaierror, UnicodeError):
            raise ValueError(f"host: {host!r} is not an address of this machine") from None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, self.settings.port), family=family, backlog=1024)
        try:
            app = EmulatorApp(self.settings, Claims(self.settings, clock=self._clock), self._profile)
        except BaseException:
            listener.close()
            raise
        self._address = (_EVERY_ADDRESS.get(host, host), listener.getsockname()[1])
        self._app = app
        self._control = ControlApi(app)
        self._server = _Server(app, self._control)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="coreweave-emulator", daemon=True
        )
        self._thread.start()
        self._server.running.wait()
        _LOG.warning(
            "This is an EMULATOR of CoreWeave's inference API at %s. Its GPUs are not real.", self.url
        )
        if not is_loopback(host):
            _LOG.warning("The emulator can be reached from the NETWORK, at %s and over plain http.", host)

    def stop(self) -> None:
        """Close all connections, those of held requests included, and the state file."""
        if self._thread is None or self._server is None:
            return
        self._server.stop()
        self._thread.join()
        self._thread = None
        if self._app is not None:
            self._app.claims.close()

    @property
    def url(self) -> str:
        """The endpoint, `http://127.0.0.1:PORT`, or with the address that `settings.host` names."""
        if self._address is None:
            raise RuntimeError("the emulator is not running")
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def token(self) -> str:
        """An API token with the role Inference Admin."""
        return self.settings.token if self._app is None else self._app.token

    @property
    def viewer_token(self) -> str:
        """An API token with the role Inference Viewer."""
        return self.settings.viewer_token

    @property
    def admin_token(self) -> str:
        """The token for `/_emulator/…`."""
        return self.settings.control_token

    def environment(self) -> dict[str, str]:
        """The environment variables for a client or a Pulumi program."""
        return {"COREWEAVE_API_ENDPOINT": self.url, "COREWEAVE_API_TOKEN": self.token}

    def _call(self, method: str, path: str, body: object = None, **query: object) -> dict[str, Any]:
        if self._control is None:
            raise RuntimeError("the emulator is not running")
        return self._control.perform(method, path, body, query)


def serve(
    settings: EmulatorSettings,
    *,
    faults: Faults = (),
    started: Callable[[Emulator], None] | None = None,
) -> None:
    """Run an emulator until SIGINT or SIGTERM, then return.

    `started` is called once the emulator listens: the place to print `url` and the tokens. Raises
    ValueError for an invalid fault rule or a state file that cannot be used, and OSError if the port is
    taken or the host is not an address of this machine. In a thread other than the main one, which gets no
    signals, it runs until the process ends.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    before = {
        number: signal.signal(number, end) for number in ((signal.SIGINT, signal.SIGTERM) if in_main else ())
    }
    try:
        with Emulator(settings, faults=faults) as emulator:
            if started is not None:
                started(emulator)
            threading.Event().wait()
    except KeyboardInterrupt:
        _LOG.info("The emulator has stopped.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which also passes the connection to the application, for faults to close it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself
        super().connection_made(transport)
        # asyncio leaves Nagle's algorithm on for this listener, which delays small responses by 40 ms.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        self.access_log = False


class _Server(uvicorn.Server):
    """uvicorn in a thread, serving the API, `/_emulator` and the page, and stopping at once."""

    def __init__(self, app: EmulatorApp, control: ControlApi) -> None:
        super().__init__(
            uvicorn.Config(
                self._serve_both,
                interface="asgi3",
                loop="asyncio",
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                server_header=False,
                headers=[("Server", "coreweave-emulator")],
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        self.running = threading.Event()
        self._app = app
        self._control = control
        self._page = WebApp(app, control)
        own = {app.settings.host} - _EVERY_ADDRESS.keys()
        self._hosts = {name.lower() for name in own | app.settings.allowed_hosts}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            asyncio.run(self.serve(sockets))
        finally:
            self.running.set()

    def stop(self) -> None:
        """Stop the server. May be called from another thread."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve_both(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnect):  # in the middle of a body: no response has a reader
            await self._serve_one(scope, receive, send)

    async def _serve_one(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_meant(scope):
            await _MISDIRECTED(scope, receive, send)
            return
        path: str = scope["path"]
        if path == HEALTH_PATH:  # without a token, for what starts the emulator and waits for it
            await _HEALTHY(scope, receive, send)
            return
        if is_page(path):
            await self._page(scope, receive, send)
            return
        controls = path == CONTROL_PREFIX or path.startswith(CONTROL_PREFIX + "/")
        await (self._control if controls else self._app)(scope, receive, send)

    def _is_meant(self, scope: Scope) -> bool:
        """Whether the Host header is a loopback address, an allowed name, or missing.

        A web page whose name an attacker resolves to 127.0.0.1 (DNS rebinding) sends its own name.
        """
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        names = [re.sub(r":[0-9]*$", "", host).strip("[]").rstrip(".").lower() for host in hosts]
        return all(is_loopback(name) or name in self._hosts for name in names)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        ticks = asyncio.create_task(self._tick())
        self.running.set()
        await self._stopping.wait()
        ticks.cancel()

    async def _tick(self) -> None:
        while True:
            await self.on_tick(0)
            await asyncio.sleep(1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._app.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=0.3)


_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what to connect to instead
_HEALTHY = JSONResponse({"status": "ok", "emulator": EMULATOR_NAME})
_MISDIRECTED = JSONResponse(
    {"code": "permission_denied", "message": "the Host header names another server than the emulator"},
    status_code=421,
)
