"""Servers that behave badly on the wire, and what the environment says about proxies and certificates."""

import asyncio
import contextlib
import gzip
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import httpcore
import pytest

from coreweave_inference import (
    AsyncClient,
    BrokenAnswer,
    InvalidSetting,
    ProxyFailed,
    RequestTimedOut,
    RetryPolicy,
    network,
    transport,
)
from coreweave_inference.transport import AsyncTransport, Call, Connection, Transport

Script = Callable[[Callable[[bytes], None]], None]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


class Server:
    """Accepts connections on a raw socket and answers every request with a script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []  # in the order in which they came
        self.requests: list[bytes] = []
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    @property
    def connections(self) -> int:
        return len(self._open)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _start(self, work: Callable[..., None], *given: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=given, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while request := connection.recv(65536):
                self.requests.append(request)
                self._script(connection.sendall)


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    running: list[Server] = []

    def start(script: Script) -> Server:
        running.append(Server(script))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., bytes]:
    """Makes one call through either transport, with real clocks."""

    def ask(endpoint: str, *, timeout: float = 0.2, deadline: float = 0.5) -> bytes:
        connection = Connection(endpoint=endpoint, token="CW-SECRET-0123456789", timeout=timeout)
        policy = RetryPolicy(deadline=deadline, initial=0.01)
        call: Call[bytes] = Call("get", "GET", "/x", bytes)
        if request.param == "sync":
            one = Transport(connection)
            try:
                return one.run(call, policy)
            finally:
                one.close()

        async def asked() -> bytes:
            two = AsyncTransport(connection)
            try:
                return await two.run(call, policy)
            finally:
                await two.aclose()

        return asyncio.run(asked())

    return ask


Ask = Callable[..., bytes]
Serve = Callable[[Script], Server]


def drip(send: Callable[[bytes], None], piece: bytes) -> None:
    for _ in range(1000):
        send(piece)
        time.sleep(0.01)


def dripping_headers(send: Callable[[bytes], None]) -> None:
    send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    drip(send, b"x")


def repeated_102(send: Callable[[bytes], None]) -> None:
    drip(send, b"HTTP/1.1 102 Processing\r\n\r\n")


def gzip_without_output(send: Callable[[bytes], None]) -> None:
    packer = zlib.compressobj(wbits=31)
    send(CHUNKED + b"Content-Encoding: gzip\r\n\r\n")
    for _ in range(1000):
        piece = packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
        send(b"%x\r\n%s\r\n" % (len(piece), piece))
        time.sleep(0.01)


def dripping_body(send: Callable[[bytes], None]) -> None:
    send(CHUNKED + b"\r\n")
    drip(send, b"1\r\nx\r\n")


def dripping_trailers(send: Callable[[bytes], None]) -> None:
    send(CHUNKED + b"\r\n2\r\n{}\r\n0\r\nX-Long: ")
    drip(send, b"x")


@pytest.mark.parametrize(
    "script", [dripping_headers, repeated_102, gzip_without_output, dripping_body, dripping_trailers]
)
def test_a_response_that_never_ends_is_given_up(ask: Ask, serve: Serve, script: Script) -> None:
    began = time.monotonic()
    with pytest.raises(RequestTimedOut) as caught:
        ask(serve(script).endpoint)
    assert caught.value.attempts > 1
    assert time.monotonic() - began < 5


def test_a_host_with_many_addresses_gets_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, float]] = []
    times = iter([1.0, 1.0, 0.6, 0.4, 0.0])

    class Silent(httpcore.NetworkBackend):
        def connect_tcp(self, host: str, port: int, timeout: Any = None, *_: Any) -> httpcore.NetworkStream:
            tried.append((host, timeout))
            raise httpcore.ConnectTimeout

    monkeypatch.setattr(network, "_addresses", lambda *_: ["192.0.2.1", "192.0.2.2", "192.0.2.3"])
    with network.time_limit(lambda: next(times)), pytest.raises(httpcore.ConnectTimeout):
        network._Backend(Silent()).connect_tcp("api.example", 443, 1.0)
    assert tried == [("192.0.2.1", pytest.approx(1 / 3)), ("192.0.2.2", 0.3), ("192.0.2.3", 0.4)]


def test_an_address_that_is_silent_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    class Half(httpcore.NetworkBackend):
        def connect_tcp(self, host: str, port: int, timeout: Any = None, *_: Any) -> httpcore.NetworkStream:
            tried.append(host)
            if ":" in host:
                raise httpcore.ConnectTimeout
            return httpcore.MockStream([])

    monkeypatch.setattr(network, "_addresses", lambda *_: ["2001:db8::1", "192.0.2.1"])
    with network.time_limit(lambda: 0.2):
        network._Backend(Half()).connect_tcp("api.example", 443, 1.0)
    assert tried == ["2001:db8::1", "192.0.2.1"]


def test_resolving_a_name_ends_with_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: goes_on.wait(60) and [])
    with network.time_limit(lambda: 0.05), pytest.raises(httpcore.ConnectTimeout, match=r"api\.example"):
        network._Backend(httpcore.MockBackend([])).connect_tcp("api.example", 443, 1.0)
    goes_on.set()


def test_a_name_that_does_not_exist_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unknown(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(httpcore.ConnectError, match="Name or service not known"):
        network._Backend(httpcore.MockBackend([])).connect_tcp("api.example", 443, 1.0)
    assert asked == ["api.example"]


def answer(encoding: str, body: bytes) -> Script:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return lambda send: send(head.encode() + body)


ZEROS = gzip.compress(bytes(3_000_000))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (answer("gzip", ZEROS), "larger than 1 MiB"),
        (answer("gzip, gzip", gzip.compress(ZEROS)), "its encoding is gzip, gzip, not gzip"),
        (answer("br", b"x"), "its encoding is br, not gzip"),
        (answer("gzip", b"plain"), "cannot be decompressed"),
        (answer("gzip", gzip.compress(b"{}")[:-4]), "it is truncated"),
        (answer("gzip", gzip.compress(b"{}") * 2), "it goes on after its end"),
    ],
    ids=["bomb", "twice", "unknown", "plain", "truncated", "extended"],
)
def test_a_response_is_bounded_while_it_is_decompressed(
    ask: Ask, serve: Serve, monkeypatch: pytest.MonkeyPatch, script: Script, said: str
) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 1 << 20)
    with pytest.raises(BrokenAnswer, match=said):
        ask(serve(script).endpoint, timeout=5, deadline=0)


def test_a_compressed_response_is_read(ask: Ask, serve: Serve) -> None:
    assert ask(serve(answer("gzip", gzip.compress(b'{"a": 1}'))).endpoint, timeout=5) == b'{"a": 1}'


def test_decompressing_stops_at_the_limit() -> None:
    body = transport._Body()
    body.begin("gzip", 1 << 20)
    bomb = gzip.compress(bytes(16 << 20))
    tracemalloc.start()
    with pytest.raises(transport._TooLargeError):
        body.add(bomb)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_forked_child_opens_connections_of_its_own(serve: Serve) -> None:
    server = serve(lambda send: send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    program = """if True:
        import os, sys
        from coreweave_inference import Client
        client = Client("CW-SECRET-0123456789", endpoint=sys.argv[1])
        for number in range(2):
            client.capacity_claims.list()
        child = os.fork()
        client.capacity_claims.list()
        if child:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", program, server.endpoint], check=True, timeout=60)
    assert len(server.requests) == 4
    assert server.connections == 2


def test_a_lock_that_another_thread_held_does_not_stop_a_forked_child() -> None:
    one = Transport(Connection(endpoint="https://api.example", token="t" * 20, timeout=1))
    one._lock.acquire()
    one._credentials._lock.acquire()
    one.forget_connections()
    one._credentials.accepted(one._credentials.token, datetime.now(UTC))
    one.close()


def test_an_async_client_refuses_a_second_event_loop(serve: Serve) -> None:
    server = serve(lambda send: send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    client = AsyncClient("CW-SECRET-0123456789", endpoint=server.endpoint)
    errors: list[str] = []

    async def first() -> None:
        await client.capacity_claims.list()

        def elsewhere() -> None:
            for use in (client.capacity_claims.list, client.aclose):
                try:
                    asyncio.run(cast("Any", use()))
                except RuntimeError as error:
                    errors.append(str(error))

        threads = [threading.Thread(target=elsewhere) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert await client.capacity_claims.list() == []
        await client.aclose()

    asyncio.run(first())
    assert len(errors) == 8
    assert {error.partition(":")[0] for error in errors} == {"an AsyncClient works in one event loop only"}


def test_a_closed_client_says_so() -> None:
    one = Transport(Connection(endpoint="https://api.example", token="t" * 20, timeout=1))
    one.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        one.run(Call("get", "GET", "/x", bytes), RetryPolicy())


ENDPOINT = "https://api.example"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces what the environment says about proxies and certificates."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (*names, *map(str.lower, names), "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)

    def replace(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return replace


Environment = Callable[..., None]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5h://127.0.0.1:1080"),
        ("ALL_PROXY", "socks4://user:hunter2@127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://user:hunter2@a..b:3128"),
        ("HTTPS_PROXY", "http://[hunter2"),
        ("HTTPS_PROXY", "http://proxy.example:hunter2"),
        ("https_proxy", "://"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("SSL_CERT_FILE", "/"),
        ("SSL_CERT_DIR", "/nowhere"),
        ("SSLKEYLOGFILE", "/nowhere/keys.log"),
    ],
)
def test_a_broken_environment_is_one_line_with_the_variable(
    ask: Ask, environment: Environment, variable: str, value: str
) -> None:
    environment(**{variable: value})
    with pytest.raises(InvalidSetting) as caught:
        ask(ENDPOINT)
    assert str(caught.value).startswith(f"{variable}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("endpoint", "no_proxy", "is_used"),
    [
        (ENDPOINT, "", True),
        (ENDPOINT, "other.example, ::1, [fd00::1], fd00::/8, nonsense", True),
        (ENDPOINT, "api.example", False),
        (ENDPOINT, ".example", False),
        (ENDPOINT, "*", False),
        ("https://[fd00::1]", "[fd00::1]", False),
        ("https://[fd00::1]:8443", "fd00::/8", False),
        ("https://10.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3", "192.168.0.0/16", True),
        ("https://localhost", "", False),
    ],
)
def test_no_proxy_exempts_names_addresses_and_networks(
    environment: Environment, endpoint: str, no_proxy: str, is_used: bool
) -> None:
    environment(HTTPS_PROXY="proxy.example:3128", NO_PROXY=no_proxy)
    proxy = Connection(endpoint=endpoint, token=None, timeout=1).proxy()
    assert (proxy is not None) == is_used
    if proxy is not None:
        assert (proxy.location, proxy.source) == ("proxy.example:3128", "HTTPS_PROXY")


def _falls_silent(send: Callable[[bytes], None]) -> None:
    time.sleep(1)


def _hangs_up(send: Callable[[bytes], None]) -> None:
    raise OSError


@pytest.mark.parametrize("script", [_falls_silent, _hangs_up])
def test_a_proxy_that_does_not_answer_is_named_and_nothing_was_sent(
    ask: Ask, serve: Serve, environment: Environment, script: Script
) -> None:
    location = serve(script).endpoint.removeprefix("http://")
    environment(HTTPS_PROXY=f"http://{location}")
    with pytest.raises(ProxyFailed) as caught:
        ask(ENDPOINT)
    assert f"through the proxy {location} (HTTPS_PROXY)" in str(caught.value)
    assert not caught.value.sent
    assert not caught.value.in_doubt


@pytest.mark.parametrize(
    ("status", "refused"), [("407 Proxy Authentication Required", True), ("502 Bad", False)]
)
def test_a_failing_proxy_is_named_and_a_refusal_is_final(
    ask: Ask, serve: Serve, environment: Environment, status: str, refused: bool
) -> None:
    server = serve(lambda send: send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()))
    location = server.endpoint.removeprefix("http://")
    environment(ALL_PROXY=f"http://user:hunter2@{location}")
    with pytest.raises(ProxyFailed) as caught:
        ask(ENDPOINT, timeout=5)
    said = f"could not connect to api.example through the proxy {location} (ALL_PROXY): {status}"
    assert said in str(caught.value)
    assert caught.value.refused == refused
    assert (caught.value.attempts == 1) == refused
