"""Sends one call over HTTP until it succeeds or its retries end.

``attempts`` is a generator, like httpx's ``auth_flow``: it yields what to send and how long to pause, and is
sent what came back. ``Transport`` and ``AsyncTransport`` drive it: they only send and sleep.

Nothing that a server sends is trusted: an attempt ends after its timeout, whatever keeps arriving, and at
``MAX_RESPONSE_BYTES``, counted after decompression (an error at ``MAX_ERROR_BYTES``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random as random_module
import re
import ssl
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

from ._httpx import httpx
from ._version import __version__
from .decoding import decode_error, excerpt, redact, without_token
from .errors import (
    ApiError,
    BrokenAnswer,
    ConnectionFailed,
    InvalidSetting,
    MissingToken,
    ProxyFailed,
    RequestTimedOut,
    Unauthenticated,
    UntrustedCertificate,
)
from .network import BoundedTransport, Proxy, proxy_for, time_limit, trusted_certificates
from .retry import RetryPolicy, may_have_effect, parse_http_date, parse_retry_after
from .settings import is_loopback, validate_timeout
from .tokens import Credentials, Token, TokenFile, validate_token

__all__ = [
    "AsyncBaseTransport",
    "AsyncTransport",
    "Attempt",
    "BaseTransport",
    "Call",
    "Connection",
    "Pause",
    "Steps",
    "Transport",
    "UnexpectedAnswer",
]

BaseTransport: TypeAlias = httpx.BaseTransport
AsyncBaseTransport: TypeAlias = httpx.AsyncBaseTransport

# 50,000 claims take about 30 MB
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 1024 * 1024
REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-correlation-id", "x-trace-id")

# seconds by which httpx's own timeouts, which know whether anything was sent, come before asyncio's
_MARGIN = 0.05

# seconds below which an attempt is not worth it: its timeout would hide why the last one failed
_LEAST = 0.1

_log = logging.getLogger("coreweave_inference")
_REFUSAL = re.compile(r"4(?!08|29)\d\d ")  # the status line with which a proxy refuses to connect
_ENCODING = re.compile(r"[a-z, ]{1,20}")
_HEADER_TEXT = re.compile(r"[\x20-\x7e]+")
_C = TypeVar("_C", bound="httpx.Client | httpx.AsyncClient")
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


@dataclass(frozen=True)
class Connection:
    """Where calls go and what they carry: a validated endpoint, the token, seconds for each attempt."""

    endpoint: str
    token: str | TokenFile | None = field(repr=False)
    timeout: float
    user_agent: str | None = None
    max_connections: int = 32

    def __post_init__(self) -> None:
        if isinstance(self.token, str):
            object.__setattr__(self, "token", validate_token(self.token))
        if self.user_agent is not None and not _HEADER_TEXT.fullmatch(self.user_agent):
            raise InvalidSetting("user_agent must be printable ASCII")
        validate_timeout(self.timeout)
        if self.max_connections < 1:
            raise InvalidSetting("max_connections must be at least 1")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Connection holds the API token and cannot be pickled or copied")

    def headers(self) -> dict[str, str]:
        """The headers of every request, but for the token."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        agent = f"coreweave-inference/{__version__} python/{version}"
        return {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"{agent} {self.user_agent}" if self.user_agent else agent,
        }

    def options(self, proxy: Proxy | None) -> dict[str, Any]:
        """How httpx opens connections; raises ``InvalidSetting`` if the environment prevents that."""
        certificates = self.certificates()
        return {
            "verify": certificates,
            "trust_env": False,
            "limits": httpx.Limits(
                max_connections=self.max_connections, max_keepalive_connections=self.max_connections
            ),
            "proxy": proxy
            and httpx.Proxy(proxy.url, ssl_context=certificates if proxy.url.scheme == "https" else None),
        }

    def proxy(self) -> Proxy | None:
        """The proxy that calls go through, if any; raises ``InvalidSetting`` if it cannot be used."""
        return proxy_for(self.endpoint) if self.uses_environment() else None

    def uses_environment(self) -> bool:
        """Whether proxies and CA bundles come from the environment: never for a loopback endpoint.

        A proxy would see the token of a plain http request, and could not reach this machine anyway.
        """
        return not is_loopback(urlsplit(self.endpoint).hostname or "")

    def certificates(self) -> ssl.SSLContext:
        """The certificates to trust.

        Plain http trusts none, and never looks at them: loading the usual ones would take 20 ms.
        """
        if urlsplit(self.endpoint).scheme != "https":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return trusted_certificates(from_environment=self.uses_environment())


class UnexpectedAnswer(ValueError):
    """A well-formed response that does not belong to the call; the text says what is wrong with it."""


@dataclass(frozen=True)
class Call(Generic[_T_co]):
    """One operation: what to send, how to read a 2xx body, and whether it may be sent again.

    ``read`` raises ValueError if the body is not a response to this operation, and ``UnexpectedAnswer`` if it
    is not one to this call.
    """

    operation: str
    method: str
    path: str
    read: Callable[[bytes], _T_co]
    claim_id: str | None = None
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    repeatable: bool = True


@dataclass(frozen=True)
class Pause:
    """Seconds to wait before the next attempt."""

    seconds: float


class Attempt:
    """One attempt at a call: what to send, how long it may take, and what has arrived so far."""

    def __init__(
        self,
        connection: Connection,
        token: Token | None,
        call: Call[object],
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self.token = token
        self.timeout = timeout
        self._connection = connection
        self._call = call
        self._clock = clock
        self._until = clock() + timeout
        self._body = _Body()
        self._http_status: int | None = None
        self._route = _Route()

    def left(self) -> float:
        """The seconds that the attempt may still take."""
        return self._until - self._clock()

    def request(self, client: httpx.Client | httpx.AsyncClient, proxy: Proxy | None) -> httpx.Request:
        """What to send; raises ``MissingToken`` without a token."""
        if self.token is None:
            raise MissingToken
        headers = self._connection.headers()
        if self._call.body is not None:
            headers["Content-Type"] = "application/json"
        request = client.build_request(
            self._call.method,
            self._connection.endpoint + self._call.path,
            params=self._call.query,
            content=self._call.body,
            headers=headers,
            timeout=self.timeout,
            extensions={"trace": self._route.trace_of(client)} if proxy else None,
        )
        # httpx hides it in the repr of its headers, unlike a dict, which a frame could show
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request

    def begin(self, response: httpx.Response) -> None:
        """Reads the headers; raises if the body that they announce cannot be read."""
        limit = MAX_RESPONSE_BYTES if response.is_success else MAX_ERROR_BYTES
        self._http_status = response.status_code
        self._body.begin(response.headers.get("content-encoding", ""), limit)

    def receive(self, chunk: bytes) -> None:
        """Adds a chunk of the body; raises if the body is too large, or if the time is over."""
        self._body.add(chunk)
        if self.left() <= 0:
            raise _TooSlowError

    def completed(self, response: httpx.Response) -> _Response:
        """What arrived, once the body is complete."""
        headers = response.headers
        return _Response(
            http_status=response.status_code,
            body=self._body.complete(),
            retry_after=headers.get("retry-after"),
            request_id=next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), None),
            location=headers.get("location"),
            date=parse_http_date(headers.get("date")),
        )

    def failed(self, failure: Exception, proxy: Proxy | None) -> ApiError:
        """The error for a failure of the connection, without the failure: that holds the token."""
        host = urlsplit(self._connection.endpoint).netloc
        reason = " ".join(str(failure).split()) or type(failure).__name__
        match failure:
            case _TooLargeError():
                return BrokenAnswer(f"the response is larger than {reason}", http_status=self._http_status)
            case _UnreadableError() | httpx.DecodingError():
                return BrokenAnswer(
                    f"the response cannot be decompressed: {reason}", http_status=self._http_status
                )
            case httpx.TransportError() | TimeoutError() if proxy and self._route.ends_at(proxy):
                return _not_connected(host, reason, proxy)
            case httpx.ConnectTimeout():
                return _not_connected(f"{host} within {self.timeout:g} s", "", proxy)
            case httpx.PoolTimeout():
                return _not_sent(f"no free connection to {host} within {self.timeout:g} s")
            case httpx.TimeoutException() | _TooSlowError() | TimeoutError():
                return RequestTimedOut(f"no complete response from {host} within {self.timeout:g} s")
            case httpx.ConnectError() if _is_about_trust(failure):
                return UntrustedCertificate(f"the certificate of {host} is not trusted: {reason}")
            case httpx.ConnectError() | httpx.ProxyError() | httpx.UnsupportedProtocol():
                return _not_connected(host, reason, proxy)
            case _:
                return ConnectionFailed(f"lost the connection to {host}: {reason}")


class _Route:
    """How far an attempt has come on a new connection, as httpcore traces it."""

    def __init__(self) -> None:
        self._connects = False
        self._handshakes = 0

    def trace_of(self, client: httpx.Client | httpx.AsyncClient) -> Callable[[str, Any], Any]:
        """The function that httpcore calls at each step."""

        def trace(event: str, info: object) -> None:
            if event.endswith("connect_tcp.started"):
                self._connects = True
            elif event.endswith("start_tls.started"):
                self._handshakes += 1

        async def trace_async(event: str, info: object) -> None:
            trace(event, info)

        return trace if isinstance(client, httpx.Client) else trace_async

    def ends_at(self, proxy: Proxy) -> bool:
        """Whether the proxy had not connected to the API yet: the last handshake is the API's."""
        return self._connects and self._handshakes < (2 if proxy.url.scheme == "https" else 1)


class _Body:
    """The body of a response, decompressed as it arrives and so never larger than the limit."""

    def __init__(self) -> None:
        self._unpacker: zlib._Decompress | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._limit = 0

    def begin(self, encoding: str, limit: int) -> None:
        """Raises unless the body is plain, or compressed with gzip once."""
        self._limit = limit
        match encoding.strip().lower():
            case "" | "identity":
                pass
            case "gzip" | "x-gzip":
                self._unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            case other:
                shown = other if _ENCODING.fullmatch(other) else "unknown"
                raise _UnreadableError(f"its encoding is {shown}, not gzip")

    def add(self, chunk: bytes) -> None:
        room = self._limit + 1 - self._size
        if self._unpacker is not None:
            try:
                chunk = self._unpacker.decompress(chunk, room)
            except zlib.error as error:
                raise _UnreadableError(str(error)) from None
            if self._unpacker.unused_data:
                raise _UnreadableError("it goes on after its end")
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            raise _TooLargeError(f"{self._limit >> 20} MiB")

    def complete(self) -> bytes:
        if self._unpacker is not None and self._size and not self._unpacker.eof:
            raise _UnreadableError("it is truncated")
        return b"".join(self._chunks)


# what a transport sends into the generator: the response to an Attempt, or the error that it ended in
Steps: TypeAlias = "Generator[Attempt | Pause, _Response | ApiError, _T]"


class _Transport(Generic[_C]):
    """What both transports share: everything but sending and sleeping."""

    def __init__(
        self,
        connection: Connection,
        is_injected: bool,
        clock: Callable[[], float],
        random: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        given = connection.token
        self._credentials = Credentials(Token(given) if isinstance(given, str) else given)
        self.clock = clock
        self._random = random
        self._now = now
        self._is_injected = is_injected
        self._lock = threading.Lock()
        self._client: _C | None = None
        self._of_parent: list[_C] = []  # not closed, but kept: Python would close their sockets
        self._closed = False
        self._proxy: Proxy | None = None
        self.clock_skew: timedelta = timedelta()
        """How far the clock of the API is ahead of this machine's, as the last response showed it."""
        _transports.add(self)

    @property
    def endpoint(self) -> str:
        """Where calls go, without a trailing slash."""
        return self._connection.endpoint

    def _options(self) -> dict[str, Any]:
        self._proxy = self._connection.proxy()
        return self._connection.options(self._proxy)

    def forget_connections(self) -> None:
        """Leaves the connections to the parent process: a child must not use them too, or close them."""
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._credentials.forget_lock()
        if self._client is not None and not self._is_injected:
            self._of_parent.append(self._client)
            self._client = None

    def attempts(self, call: Call[_T], policy: RetryPolicy) -> Steps[_T]:
        """The attempts at ``call`` and the pauses between them, until one succeeds or ``policy`` gives up.

        Returns what ``call`` reads from the response; raises the ``ApiError`` of the last attempt.
        """
        longest = self._connection.timeout
        least = min(longest, _LEAST)
        started = self.clock()
        # the first attempt always gets its full timeout, whatever the deadline
        timeout, number, renewed, in_doubt = longest, 1, False, False
        while True:
            token = self._credentials.token
            arrived = yield Attempt(self._connection, token, call, timeout, self.clock)
            now = self._now()
            if isinstance(arrived, _Response) and arrived.date is not None:
                self.clock_skew = arrived.date - now
            outcome = _outcome(call, arrived, token or "", now)
            if isinstance(outcome, _Success):
                self._credentials.accepted(token, now)
                return outcome.value
            outcome.attempts = number
            in_doubt = in_doubt or (call.method != "GET" and may_have_effect(outcome))
            outcome.in_doubt = in_doubt
            if isinstance(outcome, Unauthenticated):
                if not renewed and self._credentials.renewed(token):
                    # nothing has been done yet, so the other token is tried at once
                    left = started + max(policy.deadline, longest) - self.clock()
                    timeout, number, renewed = max(least, min(longest, left)), number + 1, True
                    continue
                self._credentials.explain(outcome, token)
            wait = policy.delay(
                attempt=number,
                elapsed=self.clock() - started,
                repeatable=call.repeatable,
                error=outcome,
                random=self._random(),
            )
            left = started + policy.deadline - self.clock()
            if wait is None or left - wait < least:
                raise outcome
            _log.info("%s; retrying in %.1f s", outcome, wait)
            yield Pause(wait)
            timeout = max(least, min(longest, started + policy.deadline - self.clock()))
            number += 1


_transports: weakref.WeakSet[_Transport[Any]] = weakref.WeakSet()


def _forget_connections() -> None:
    for transport in list(_transports):
        transport.forget_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)


class Transport(_Transport[httpx.Client]):
    """Sends calls and sleeps in the calling thread; threads may share it."""

    def __init__(
        self,
        connection: Connection,
        *,
        http: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        random: Callable[[], float] = random_module.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(connection, http is not None, clock, random, now)
        self._http = http
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait  # a pause ends when the client is closed

    def run(self, call: Call[_T], policy: RetryPolicy) -> _T:
        """The result of ``call``; raises the ``ApiError`` of the last attempt."""
        return self.drive(self.attempts(call, policy))

    def drive(self, steps: Steps[_T]) -> _T:
        """Takes the steps until they return a result or raise."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self._sleep(step.seconds)
                    step = next(steps)
                else:
                    step = steps.send(self._send(step))
        except StopIteration as finished:
            result: _T = finished.value
            return result

    def close(self) -> None:
        """Closes the connections; the transport cannot be used afterwards."""
        self._closing.set()
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()

    def _send(self, attempt: Attempt) -> _Response | ApiError:
        client = self._open_client()
        request = attempt.request(client, self._proxy)
        try:
            with (
                time_limit(attempt.left),
                closing(client.send(request, stream=True, auth=None, follow_redirects=False)) as response,
            ):
                attempt.begin(response)
                for chunk in cast("httpx.SyncByteStream", response.stream):
                    attempt.receive(chunk)
            return attempt.completed(response)
        except _FAILURES as failure:
            return attempt.failed(failure, self._proxy)
        except BaseException as failure:  # noqa: BLE001  # it is raised again
            raise _without_frames(failure) from None

    def _open_client(self) -> httpx.Client:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._client is None:
                http = self._http or BoundedTransport(**self._options())
                self._client = httpx.Client(transport=http, trust_env=False)
            return self._client


class AsyncTransport(_Transport[httpx.AsyncClient]):
    """Sends calls and sleeps in one asyncio event loop."""

    def __init__(
        self,
        connection: Connection,
        *,
        http: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(connection, http is not None, clock, random, now)
        self._http = http
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, call: Call[_T], policy: RetryPolicy) -> _T:
        """The result of ``call``; raises the ``ApiError`` of the last attempt."""
        return await self.drive(self.attempts(call, policy))

    async def drive(self, steps: Steps[_T]) -> _T:
        """Takes the steps until they return a result or raise."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = next(steps)
                else:
                    step = steps.send(await self._send(step))
        except StopIteration as finished:
            result: _T = finished.value
            return result

    async def aclose(self) -> None:
        """Closes the connections; the transport cannot be used afterwards."""
        self._stay_in_loop()
        self._closed = True
        if self._client is not None:
            await self._client.aclose()

    def forget_connections(self) -> None:
        super().forget_connections()
        self._loop = None

    def _stay_in_loop(self) -> None:
        """Raises RuntimeError in a second event loop: connections belong to the one that opened them."""
        running = asyncio.get_running_loop()
        with self._lock:
            self._loop = self._loop or running
        if self._loop is not running:
            raise RuntimeError(
                "an AsyncClient works in one event loop only: create one for each asyncio.run and each thread"
            )

    async def _send(self, attempt: Attempt) -> _Response | ApiError:
        client = self._open_client()
        request = attempt.request(client, self._proxy)
        try:
            async with asyncio.timeout(attempt.timeout + _MARGIN):
                sent = await client.send(request, stream=True, auth=None, follow_redirects=False)
                async with aclosing(sent) as response:
                    attempt.begin(response)
                    async for chunk in cast("httpx.AsyncByteStream", response.stream):
                        attempt.receive(chunk)
            return attempt.completed(response)
        except _FAILURES as failure:
            return attempt.failed(failure, self._proxy)
        except BaseException as failure:  # noqa: BLE001  # it is raised again
            raise _without_frames(failure) from None

    def _open_client(self) -> httpx.AsyncClient:
        self._stay_in_loop()
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._client is None:
            http = self._http or httpx.AsyncHTTPTransport(**self._options())
            self._client = httpx.AsyncClient(transport=http, trust_env=False)
        return self._client


class _TooLargeError(Exception):
    """The response is larger than its limit, which the text says."""


class _UnreadableError(Exception):
    """The body is compressed in a way that is not read."""


class _TooSlowError(Exception):
    """The response is still arriving after the attempt's timeout."""


_FAILURES = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    TimeoutError,
    _TooLargeError,
    _TooSlowError,
    _UnreadableError,
)


@dataclass(frozen=True)
class _Response:
    http_status: int
    date: datetime | None
    # the server may echo the token, which the frame of an error would show
    body: bytes = field(repr=False)
    retry_after: str | None = field(repr=False)
    request_id: str | None = field(repr=False)
    location: str | None = field(repr=False)


@dataclass(frozen=True)
class _Success(Generic[_T_co]):
    value: _T_co


def _outcome(
    call: Call[_T], arrived: _Response | ApiError, token: str, now: datetime
) -> _Success[_T] | ApiError:
    """The value that ``call`` reads from what arrived, or the error it stands for."""
    if isinstance(arrived, ApiError):
        error = arrived
    else:
        read = _read(call, arrived, token)
        if isinstance(read, _Success):
            return read
        error = read
        error.retry_after = _retry_after(arrived, error, arrived.date or now)
        error.request_id = arrived.request_id or error.request_id
    error.operation = call.operation
    error.claim_id = call.claim_id
    redact(error, token)
    return error


def _read(call: Call[_T], response: _Response, token: str) -> _Success[_T] | ApiError:
    if 200 <= response.http_status < 300:
        try:
            return _Success(call.read(b"{}" if response.http_status == 204 else response.body))
        except UnexpectedAnswer as unexpected:
            reason = str(unexpected)
        except ValueError:
            reason = f"not a valid {call.operation} response: {excerpt(response.body, token)}"
        return BrokenAnswer(reason, http_status=response.http_status)
    error = decode_error(response.http_status, response.body, operation=call.operation, token=token)
    if 300 <= response.http_status < 400 and response.location:
        error.message += f"; {_target(without_token(response.location, token))}"
    return error


def _target(location: str) -> str:
    try:
        return f"this one points to {urlsplit(location).hostname or 'another path on the same host'}"
    except ValueError:
        return "this one points to an invalid URL"


def _retry_after(response: _Response, error: ApiError, now: datetime) -> float | None:
    """The longest wait that the header or a detail asks for, in seconds."""
    asked = [response.retry_after]
    for detail in error.details:
        delay = detail.get("retryDelay")
        if detail.get("@type") == "google.rpc.RetryInfo" and isinstance(delay, str):
            asked.append(delay)
    waits = (parse_retry_after(text, now) for text in asked)
    return max((wait for wait in waits if wait is not None), default=None)


def _not_connected(to: str, reason: str, proxy: Proxy | None) -> ConnectionFailed:
    because = f": {reason}" if reason else ""
    if proxy is None:
        return _not_sent(f"could not connect to {to}{because}")
    error = ProxyFailed(
        f"could not connect to {to} through the proxy {proxy.location} ({proxy.source}){because}"
    )
    error.refused = _REFUSAL.match(reason) is not None
    return error


def _not_sent(message: str) -> ConnectionFailed:
    error = ConnectionFailed(message)
    error.sent = False
    return error


def _without_frames(failure: BaseException) -> BaseException:
    """An interruption or a bug, without the frames of httpx, whose variables hold the token."""
    failure.__context__ = failure.__cause__ = None
    return failure.with_traceback(None)


def _is_about_trust(failure: BaseException | None) -> bool:
    while failure is not None:
        if isinstance(failure, ssl.SSLCertVerificationError):
            return True
        failure = failure.__cause__ or failure.__context__
    return False
