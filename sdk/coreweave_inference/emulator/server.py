"""The emulator as a running server: in this process, or another one."""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from coreweave_inference.emulator.app import EmulatorApp
from coreweave_inference.emulator.faults import FaultProfile, FaultRule
from coreweave_inference.emulator.records import Hold, RequestRecord
from coreweave_inference.emulator.settings import EmulatorSettings, Inventory, check_inventory
from coreweave_inference.emulator.store import ClaimRecord, Store
from coreweave_inference.emulator.strict import parse_timestamp

_LOG = logging.getLogger("coreweave_inference.emulator")
_KEEP_ALIVE_SECONDS = 75

Faults = FaultProfile | Iterable[FaultRule | Mapping[str, object]]
"""A profile, or rules as `FaultRule` or as JSON objects."""


class Emulator:
    """An emulator in a thread of this process.

        with Emulator(EmulatorSettings(allocation_delay=2)) as emulator:
            os.environ |= emulator.environment()

    All methods may be called from any thread. `start` and `stop` are what `with` calls.
    """

    def __init__(
        self,
        settings: EmulatorSettings | None = None,
        *,
        faults: Faults = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`faults` are there from the first request; `clock` tells nanoseconds since 1970.

        Raises ValueError if `settings.host` is not a loopback address.
        """
        self.settings: EmulatorSettings = settings or EmulatorSettings()
        _refuse_other_hosts(self.settings.host)
        self._profile = FaultProfile.of(faults)
        self._clock = clock
        self._app: EmulatorApp | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._address: tuple[str, int] | None = None

    def __enter__(self) -> Emulator:
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
        """Listen and serve. Raises OSError if the port is taken, ValueError if the state file is
        in use by another emulator or is no such file."""
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        host = self.settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, self.settings.port), family=family, backlog=1024)
        try:
            app = EmulatorApp(self.settings, Store(self.settings, clock=self._clock))
        except BaseException:
            listener.close()
            raise
        app.set_faults(self._profile)
        self._address = (host, listener.getsockname()[1])
        self._app = app
        self._server = _Server(app)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="coreweave-emulator", daemon=True
        )
        self._thread.start()
        self._server.running.wait()
        _LOG.warning("This is an EMULATOR of CoreWeave's inference API at %s: no GPU is real here.", self.url)

    def stop(self) -> None:
        """Close all connections, held requests included, and keep the claims if there is a file."""
        if self._thread is None or self._server is None:
            return
        self._server.stop()
        self._thread.join()
        self._running().store.close()
        self._thread = None

    @property
    def url(self) -> str:
        """The endpoint, `http://127.0.0.1:PORT`."""
        if self._address is None:
            raise RuntimeError("the emulator is not running")
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def token(self) -> str:
        """An API token with the role Inference Admin."""
        return self.settings.token

    @property
    def viewer_token(self) -> str:
        """An API token with the role Inference Viewer."""
        return self.settings.viewer_token

    @property
    def admin_token(self) -> str:
        """The token for `/_emulator/…`."""
        return self.settings.control_token

    def environment(self) -> dict[str, str]:
        """The variables a client or a Pulumi program reads."""
        return {"COREWEAVE_API_ENDPOINT": self.url, "COREWEAVE_API_TOKEN": self.token}

    def requests(self, since: int = 0) -> list[RequestRecord]:
        """Requests to the API after number `since`, oldest first."""
        return self._running().log.since(since)

    def clear_requests(self) -> None:
        """Forget the requests so far; their numbers go on."""
        self._running().log.clear()

    def faults(self) -> dict[str, object]:
        """The rules as JSON, and how often each met (`met`) and hit (`hit`) a call (`counts`)."""
        return self._running().faults.to_json()

    def set_faults(self, faults: Faults) -> None:
        """Replace all rules; counting starts anew. Raises ValueError for a rule that is wrong."""
        self._running().set_faults(FaultProfile.of(faults))

    def clear_faults(self) -> None:
        """No more faults; held requests stay held."""
        self.set_faults(())

    def holds(self) -> list[Hold]:
        """The requests held now."""
        return self._running().holds.current()

    def wait_for_hold(self, timeout: float = 10.0, *, count: int = 1) -> list[Hold]:
        """Wait until `count` requests are held; TimeoutError after `timeout` seconds."""
        return self._running().holds.wait_for(count, timeout)

    def release(self, rule: str | None = None) -> int:
        """Let held requests go on, all or those of one rule; returns how many."""
        return self._running().holds.release(rule)

    def inventory(self) -> dict[str, dict[str, int]]:
        """The stock, by zone and instance type."""
        return self._running().store.inventory()

    def set_inventory(self, inventory: Inventory, *, merge: bool = False) -> None:
        """Replace the stock, or with `merge` only what is named; who waits is served at once."""
        self._running().store.set_inventory(inventory, merge=merge)

    def claims(self) -> list[ClaimRecord]:
        """All claims with internals, DELETING ones included, oldest first."""
        return self._running().store.records()

    def live_claims(self) -> list[ClaimRecord]:
        """The claims that are not on their way out: what costs money."""
        return [claim for claim in self.claims() if claim.status != "STATUS_DELETING"]

    def edit_claim(
        self,
        claim_id: str,
        *,
        spec: Mapping[str, object] | None = None,
        status: Mapping[str, object] | None = None,
        seconds: float | None = None,
        delete: bool = False,
    ) -> None:
        """A change by somebody else; see `Store.edit`. Raises KeyError if there is no such claim.

        `emulator.edit_claim(id, spec={"resources": {"instanceCount": 2}})` is drift,
        `status={"status": "STATUS_PAUSED"}` a state from the future, `delete=True` a claim gone.
        """
        store = self._running().store
        if store.name_of(claim_id) is None:
            raise KeyError(claim_id)
        store.edit(claim_id, spec=spec, status=status, seconds=seconds, delete=delete)

    def now(self) -> int:
        """The emulator's time, in nanoseconds since 1970."""
        return self._running().store.now()

    def advance_clock(self, seconds: float) -> int:
        """Let time pass at once; returns the new time in nanoseconds since 1970."""
        return self._running().store.advance_clock(seconds)

    def _running(self) -> EmulatorApp:
        if self._app is None:
            raise RuntimeError("the emulator is not running")
        return self._app


class EmulatorControl:
    """The same methods for an emulator in another process, over `/_emulator`."""

    def __init__(self, url: str, control_token: str) -> None:
        self._url = urlsplit(url)
        self._token = control_token

    def requests(self, since: int = 0) -> list[RequestRecord]:
        answer = self._call("GET", f"/requests?since={since}")
        return [RequestRecord(**each) for each in answer["requests"]]

    def clear_requests(self) -> None:
        self._call("DELETE", "/requests")

    def faults(self) -> dict[str, object]:
        return self._call("GET", "/faults")

    def set_faults(self, faults: Faults) -> None:
        self._call("PUT", "/faults", FaultProfile.of(faults).to_json())

    def clear_faults(self) -> None:
        self._call("DELETE", "/faults")

    def holds(self) -> list[Hold]:
        return [Hold(**each) for each in self._call("GET", "/holds")["holds"]]

    def wait_for_hold(self, timeout: float = 10.0, *, count: int = 1) -> list[Hold]:
        end = time.monotonic() + timeout
        while len(holds := self.holds()) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(holds)} of {count} calls held after {timeout:g} s")
            time.sleep(0.02)
        return holds

    def release(self, rule: str | None = None) -> int:
        return int(self._call("POST", "/release", {"rule": rule})["released"])

    def inventory(self) -> dict[str, dict[str, int]]:
        return check_inventory(self._call("GET", "/inventory"))

    def set_inventory(self, inventory: Inventory, *, merge: bool = False) -> None:
        self._call("PATCH" if merge else "PUT", "/inventory", inventory)

    def claims(self) -> list[ClaimRecord]:
        return [
            ClaimRecord(**{**each, "zones": tuple(each["zones"])})
            for each in self._call("GET", "/claims")["claims"]
        ]

    def live_claims(self) -> list[ClaimRecord]:
        return [claim for claim in self.claims() if claim.status != "STATUS_DELETING"]

    def edit_claim(
        self,
        claim_id: str,
        *,
        spec: Mapping[str, object] | None = None,
        status: Mapping[str, object] | None = None,
        seconds: float | None = None,
        delete: bool = False,
    ) -> None:
        edit = {"spec": spec, "status": status, "seconds": seconds, "delete": delete}
        self._call("POST", f"/claims/{quote(claim_id)}", edit)

    def now(self) -> int:
        return parse_timestamp(self._call("GET", "/clock")["now"])

    def advance_clock(self, seconds: float) -> int:
        return parse_timestamp(self._call("POST", "/clock", {"advance": seconds})["now"])

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One call; ValueError, KeyError or RuntimeError with what the emulator says is wrong."""
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port or 80, timeout=30)
        try:
            connection.request(
                method,
                f"/_emulator{path}",
                body=None if body is None else json.dumps(body),
                headers={"Authorization": f"Bearer {self._token}"},
            )
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status == 200:
            answer: dict[str, Any] = json.loads(text)
            return answer
        kinds: Mapping[int, type[Exception]] = {400: ValueError, 404: KeyError}
        raise kinds.get(response.status, RuntimeError)(f"{response.status}: {text}")


def serve(
    settings: EmulatorSettings,
    *,
    faults: Faults = (),
    started: Callable[[Emulator], None] | None = None,
) -> None:
    """Run an emulator until SIGINT or SIGTERM, then return.

    `started` is called once it listens: the place to print `url` and the tokens. Raises ValueError
    for a host that is not loopback, a wrong fault rule or state file, and OSError if the port is
    taken. Outside of the main thread, where there are no signals, it runs until the process ends.
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
        _LOG.info("The emulator ends.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which also hands the connection to the application: faults close it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself
        super().connection_made(transport)
        # asyncio leaves Nagle's algorithm on for our listener: headers and body would wait 40 ms.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        self.access_log = False


class _Server(uvicorn.Server):
    """uvicorn in a thread, which stops at once."""

    def __init__(self, app: EmulatorApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
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
        self._emulator_app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            asyncio.run(self.serve(sockets))
        finally:
            self.running.set()

    def stop(self) -> None:
        """End the server; may be called from another thread."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

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
        self._emulator_app.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=0.3)


def _refuse_other_hosts(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"the emulator listens on loopback only, not on {host!r}")
