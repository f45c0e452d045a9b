"""Sends one operation over HTTP until it is settled: token, timeouts, errors, retries.

The only module that imports httpx. What an attempt means is decided by pure functions that both
transports share; they differ in how they wait and read only.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import re
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlsplit

from ._httpx import httpx
from ._version import __version__
from .decoding import decode_error, excerpt, redact
from .errors import (
    ApiError,
    BrokenAnswer,
    ConnectionFailed,
    InvalidSetting,
    MissingToken,
    RequestTimedOut,
)
from .retry import RetryPolicy, parse_retry_after
from .settings import is_loopback, validate_timeout, validate_token

__all__ = [
    "AsyncBaseTransport",
    "AsyncTransport",
    "BaseTransport",
    "Call",
    "Connection",
    "Transport",
]

BaseTransport: TypeAlias = httpx.BaseTransport
AsyncBaseTransport: TypeAlias = httpx.AsyncBaseTransport

# 50,000 claims are about 30 MB
MAX_ANSWER_BYTES = 64 * 1024 * 1024
REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-correlation-id", "x-trace-id")

_log = logging.getLogger("coreweave_inference")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Connection:
    """Where calls go and with what: a validated endpoint, the token, seconds for each attempt."""

    endpoint: str
    token: str | None = field(repr=False)
    timeout: float
    user_agent: str | None = None
    max_connections: int = 32

    def __post_init__(self) -> None:
        if self.token is not None:
            validate_token(self.token)
        if self.user_agent is not None and not _HEADER_TEXT.fullmatch(self.user_agent):
            raise InvalidSetting("user_agent must be printable ASCII")
        validate_timeout(self.timeout)
        if self.max_connections < 1:
            raise InvalidSetting("max_connections must be at least 1")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a connection holds the API token and cannot be pickled or copied")

    def headers(self) -> dict[str, str]:
        """The headers of every request; ``MissingToken`` without a token."""
        if self.token is None:
            raise MissingToken
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        agent = f"coreweave-inference/{__version__} python/{version}"
        return {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json",
            "User-Agent": f"{agent} {self.user_agent}" if self.user_agent else agent,
        }

    def limits(self) -> httpx.Limits:
        return httpx.Limits(
            max_connections=self.max_connections, max_keepalive_connections=self.max_connections
        )

    def uses_environment(self) -> bool:
        """Proxies and CA bundles from the environment; never for loopback.

        A proxy would see the token of a plain http request, and cannot reach this machine anyway.
        """
        return not is_loopback(urlsplit(self.endpoint).hostname or "")

    def verify(self) -> bool | ssl.SSLContext:
        """How httpx verifies who answers; for plain http by a context that trusts nobody and is never asked.

        To load the usual certificates takes 20 ms.
        """
        return urlsplit(self.endpoint).scheme == "https" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Call(Generic[_T]):
    """One operation: what to send, how to read a 2xx body, and whether it may be sent again.

    ``read`` raises ValueError for a body that is not this operation's.
    """

    operation: str
    method: str
    path: str
    read: Callable[[bytes], _T]
    claim_id: str | None = None
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    repeatable: bool = True


class Transport:
    """Sends calls and waits in this thread; safe to share between threads."""

    def __init__(
        self,
        connection: Connection,
        *,
        http: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random_module.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connection = connection
        self._transport = http
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._now = now
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    @property
    def endpoint(self) -> str:
        """Where calls go, without a trailing slash."""
        return self._connection.endpoint

    def run(self, call: Call[_T], policy: RetryPolicy) -> _T:
        """What ``call`` reads from its answer; the last attempt's ``ApiError`` when it gives up."""
        headers = self._connection.headers()
        started = self._clock()
        attempt = 0
        while True:
            attempt += 1
            budget = _Budget(self._connection.timeout, policy, started, attempt, self._clock)
            arrived = self._attempt(call, headers, budget)
            outcome = _settle(call, arrived, self._connection, attempt, self._now())
            if isinstance(outcome, _Done):
                return outcome.value
            wait = _wait(call, policy, outcome, self._clock() - started, self._random())
            if wait is None:
                raise outcome
            self._sleep(wait)

    def close(self) -> None:
        """Closes the connections; the transport cannot be used afterwards."""
        self._open_client().close()

    def _attempt(self, call: Call[_T], headers: Mapping[str, str], budget: _Budget) -> _Answer | ApiError:
        client = self._open_client()
        request = _request(client, self._connection, call, headers, budget)
        try:
            response = client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                body = _Body(budget)
                for chunk in response.iter_bytes():
                    body.add(chunk)
            finally:
                response.close()
        except _FAILURES as failure:
            # returned, not raised: the failure holds the request, and so the token
            return _connection_error(failure, self._connection, budget)
        return _answer(response, body)

    def _open_client(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    transport=self._transport,
                    limits=self._connection.limits(),
                    trust_env=self._connection.uses_environment(),
                    verify=self._connection.verify(),
                )
            return self._client


class AsyncTransport:
    """Sends calls in one asyncio event loop."""

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
        self._connection = connection
        self._transport = http
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._now = now
        self._client: httpx.AsyncClient | None = None

    @property
    def endpoint(self) -> str:
        """Where calls go, without a trailing slash."""
        return self._connection.endpoint

    async def run(self, call: Call[_T], policy: RetryPolicy) -> _T:
        """What ``call`` reads from its answer; the last attempt's ``ApiError`` when it gives up."""
        headers = self._connection.headers()
        started = self._clock()
        attempt = 0
        while True:
            attempt += 1
            budget = _Budget(self._connection.timeout, policy, started, attempt, self._clock)
            arrived = await self._attempt(call, headers, budget)
            outcome = _settle(call, arrived, self._connection, attempt, self._now())
            if isinstance(outcome, _Done):
                return outcome.value
            wait = _wait(call, policy, outcome, self._clock() - started, self._random())
            if wait is None:
                raise outcome
            await self._sleep(wait)

    async def aclose(self) -> None:
        """Closes the connections; the transport cannot be used afterwards."""
        await self._open_client().aclose()

    async def _attempt(
        self, call: Call[_T], headers: Mapping[str, str], budget: _Budget
    ) -> _Answer | ApiError:
        client = self._open_client()
        request = _request(client, self._connection, call, headers, budget)
        try:
            response = await client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                body = _Body(budget)
                async for chunk in response.aiter_bytes():
                    body.add(chunk)
            finally:
                await response.aclose()
        except _FAILURES as failure:
            # returned, not raised: the failure holds the request, and so the token
            return _connection_error(failure, self._connection, budget)
        return _answer(response, body)

    def _open_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport,
                limits=self._connection.limits(),
                trust_env=self._connection.uses_environment(),
                verify=self._connection.verify(),
            )
        return self._client


# -- from here on nothing waits or reads a socket ------------------------------------------------

_HEADER_TEXT = re.compile(r"[\x20-\x7e]+")


class _TooLargeError(Exception):
    """The answer is larger than MAX_ANSWER_BYTES."""


class _TooSlowError(Exception):
    """The answer drips in beyond the operation's deadline."""


_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, _TooLargeError, _TooSlowError)


@dataclass(frozen=True)
class _Done(Generic[_T]):
    value: _T


@dataclass(frozen=True)
class _Answer:
    http_status: int
    body: bytes
    retry_after: str | None
    request_id: str | None
    location: str | None


class _Budget:
    """The seconds one attempt may take."""

    def __init__(
        self,
        timeout: float,
        policy: RetryPolicy,
        started: float,
        attempt: int,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        # a first attempt always gets its full timeout, whatever the deadline
        self._until = started + max(policy.deadline, timeout)
        remaining = started + policy.deadline - clock()
        self.timeout = timeout if attempt == 1 else max(0.001, min(timeout, remaining))

    def spent(self) -> bool:
        return self._clock() > self._until


class _Body:
    """An answer's body as it arrives, bounded in size and time."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_ANSWER_BYTES:
            raise _TooLargeError
        # httpx counts its timeout anew with every chunk
        if self._budget.spent():
            raise _TooSlowError

    def joined(self) -> bytes:
        return b"".join(self._chunks)


def _request(
    client: httpx.Client | httpx.AsyncClient,
    connection: Connection,
    call: Call[_T],
    headers: Mapping[str, str],
    budget: _Budget,
) -> httpx.Request:
    sent = dict(headers)
    if call.body is not None:
        sent["Content-Type"] = "application/json"
    return client.build_request(
        call.method,
        connection.endpoint + call.path,
        params=call.query,
        content=call.body,
        headers=sent,
        timeout=budget.timeout,
    )


def _answer(response: httpx.Response, body: _Body) -> _Answer:
    headers = response.headers
    return _Answer(
        http_status=response.status_code,
        body=body.joined(),
        retry_after=headers.get("retry-after"),
        request_id=next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), None),
        location=headers.get("location"),
    )


def _settle(
    call: Call[_T],
    arrived: _Answer | ApiError,
    connection: Connection,
    attempt: int,
    now: datetime,
) -> _Done[_T] | ApiError:
    """What an attempt came to: the value read from its answer, or the error it stands for."""
    if isinstance(arrived, ApiError):
        error = arrived
    else:
        read = _read(call, arrived, connection.token or "")
        if isinstance(read, _Done):
            return read
        error = read
        asked = (parse_retry_after(text, now) for text in _waits(arrived, error))
        error.retry_after = max((one for one in asked if one is not None), default=None)
        error.request_id = arrived.request_id or error.request_id
    error.operation = call.operation
    error.claim_id = call.claim_id
    error.attempts = attempt
    redact(error, connection.token or "")
    return error


def _read(call: Call[_T], answer: _Answer, token: str) -> _Done[_T] | ApiError:
    if 200 <= answer.http_status < 300:
        try:
            return _Done(call.read(b"{}" if answer.http_status == 204 else answer.body))
        except ValueError:
            pass
    # before an error text cuts it to length: half a token is a leak too
    body = answer.body.replace(token.encode(), b"[token]")
    if not 200 <= answer.http_status < 300:
        error = decode_error(answer.http_status, body, operation=call.operation)
        if 300 <= answer.http_status < 400 and answer.location:
            error.message += f": {_host_of(answer.location.replace(token, ''))}"
        return error
    return BrokenAnswer(
        f"an answer that is no {call.operation} answer: {excerpt(body)}",
        http_status=answer.http_status,
    )


def _host_of(location: str) -> str:
    try:
        return f"it points to {urlsplit(location).hostname or 'another path of this host'}"
    except ValueError:
        return "it points nowhere"


def _waits(answer: _Answer, error: ApiError) -> Iterator[str | None]:
    yield answer.retry_after
    for detail in error.details:
        if detail.get("@type") == "google.rpc.RetryInfo":
            delay = detail.get("retryDelay")
            yield delay if isinstance(delay, str) else None


def _connection_error(failure: Exception, connection: Connection, budget: _Budget) -> ApiError:
    host = urlsplit(connection.endpoint).netloc
    reason = " ".join(str(failure).split()) or type(failure).__name__
    match failure:
        case _TooLargeError():
            return BrokenAnswer(f"an answer of more than {MAX_ANSWER_BYTES >> 20} MiB")
        case _TooSlowError():
            return RequestTimedOut(f"{host} did not finish its answer in time")
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            what = "connection" if isinstance(failure, httpx.ConnectTimeout) else "free connection"
            refused = ConnectionFailed(f"no {what} to {host} within {budget.timeout:g} s")
            refused.sent = False
            return refused
        case httpx.TimeoutException():
            return RequestTimedOut(f"no answer from {host} within {budget.timeout:g} s")
        case httpx.ConnectError() | httpx.ProxyError() | httpx.UnsupportedProtocol():
            refused = ConnectionFailed(f"no connection to {host}: {reason}")
            refused.sent = False
            refused.untrusted = _is_about_trust(failure)
            return refused
        case httpx.DecodingError():
            return BrokenAnswer(f"an answer that cannot be decompressed: {reason}")
        case _:
            return ConnectionFailed(f"the connection to {host} broke: {reason}")


def _is_about_trust(failure: BaseException | None) -> bool:
    while failure is not None:
        if isinstance(failure, ssl.SSLCertVerificationError):
            return True
        failure = failure.__cause__ or failure.__context__
    return False


def _wait(
    call: Call[_T], policy: RetryPolicy, error: ApiError, elapsed: float, random: float
) -> float | None:
    wait = policy.delay(
        attempt=error.attempts,
        elapsed=elapsed,
        repeatable=call.repeatable,
        error=error,
        random=random,
    )
    if wait is not None:
        _log.info("%s; trying again in %.1f s", error, wait)
    return wait
