"""Attempts, deadlines, redaction and connections, with a clock that the test controls."""

import asyncio
import copy
import gc
import http.server
import logging
import pickle
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import perf_counter
from typing import Any

import httpx
import pytest

from coreweave_inference import (
    ApiError,
    AsyncClient,
    BrokenAnswer,
    Client,
    ConnectionFailed,
    InvalidSetting,
    InvalidToken,
    MissingToken,
    NotFound,
    RequestTimedOut,
    RetryPolicy,
    Unavailable,
    UntrustedCertificate,
    transport,
)
from coreweave_inference.transport import AsyncTransport, Attempt, Call, Connection, Pause, Transport

TOKEN = "CW-SECRET-0123456789"
NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
Handler = Callable[[httpx.Request], httpx.Response]


class Time:
    """A clock that advances only when the transport sleeps or the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


def connection(**changes: Any) -> Connection:
    return Connection(**{"endpoint": "https://api.example", "token": TOKEN, "timeout": 10.0, **changes})


def call(**changes: Any) -> Call[bytes]:
    given: dict[str, Any] = {"operation": "get", "method": "GET", "path": "/x", "read": bytes}
    return Call(**{**given, **changes})


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., bytes]:
    """Runs one call through either transport, on the given clock."""

    def run(
        handler: Handler,
        *,
        sent: Call[bytes] | None = None,
        policy: RetryPolicy | None = None,
        time: Time | None = None,
        **changes: Any,
    ) -> bytes:
        time = time or Time()
        given: dict[str, Any] = {
            "http": httpx.MockTransport(handler),
            "clock": time.clock,
            "random": lambda: 0.5,
            "now": lambda: NOW,
        }
        if request.param == "sync":
            one = Transport(connection(**changes), sleep=time.sleep, **given)
            try:
                return one.run(sent or call(), policy or RetryPolicy())
            finally:
                one.close()

        async def run_async() -> bytes:
            two = AsyncTransport(connection(**changes), sleep=time.sleep_async, **given)
            try:
                return await two.run(sent or call(), policy or RetryPolicy())
            finally:
                await two.aclose()

        return asyncio.run(run_async())

    return run


Run = Callable[..., bytes]


def responding(*responses: httpx.Response | Exception) -> Handler:
    """Returns each response once, then repeats the last one."""
    left = list(responses)

    def handler(request: httpx.Request) -> httpx.Response:
        response = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(response, httpx.TransportError):
            response.request = request
            raise response
        if isinstance(response, Exception):
            raise response
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)

    return handler


def test_every_request_carries_token_and_agent(run: Run) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"{}")

    assert run(handler, user_agent="pulumi/1", sent=call(query={"a": "1+2"}, body=b"{}")) == b"{}"
    assert seen[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert seen[0].headers["User-Agent"].startswith("coreweave-inference/")
    assert seen[0].headers["User-Agent"].endswith(" pulumi/1")
    assert seen[0].headers["Content-Type"] == "application/json"
    assert str(seen[0].url) == "https://api.example/x?a=1%2B2"


def test_an_endpoint_with_a_path_is_called_below_it(run: Run) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    run(handler, endpoint="https://api.example/coreweave")
    assert seen == ["https://api.example/coreweave/x"]


def test_a_netrc_does_not_replace_the_token(run: Run, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine api.example login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200)

    run(handler)
    assert seen == [f"Bearer {TOKEN}"]


def test_transient_failures_are_retried_with_growing_delays(run: Run) -> None:
    time = Time()
    broken = httpx.Response(503, json={"code": "unavailable"})
    handler = responding(broken, broken, httpx.ReadTimeout("t"), httpx.Response(200, content=b"done"))
    assert run(handler, time=time) == b"done"
    assert time.slept == [0.25, 0.5, 1.0]


def test_attempts_alternate_with_pauses_without_sending_or_sleeping() -> None:
    time = Time()
    idle = Transport(connection(), clock=time.clock, random=lambda: 0.5, now=lambda: NOW)
    steps = idle.attempts(call(), RetryPolicy(deadline=1))
    assert isinstance(next(steps), Attempt)
    assert steps.send(Unavailable("down")) == Pause(0.25)
    time.now += 0.25
    assert isinstance(next(steps), Attempt)
    assert steps.send(Unavailable("down")) == Pause(0.5)
    time.now += 0.5
    assert isinstance(next(steps), Attempt)
    with pytest.raises(Unavailable, match="down") as caught:
        steps.send(Unavailable("down"))
    assert caught.value.attempts == 3


def test_the_last_error_counts_the_attempts_within_the_deadline(run: Run) -> None:
    time = Time()
    with pytest.raises(Unavailable, match=r"get of claim c: unavailable: down .*10 attempts") as caught:
        run(
            responding(httpx.Response(503, json={"code": 14, "message": "down"})),
            time=time,
            sent=call(claim_id="c"),
            policy=RetryPolicy(deadline=25),
        )
    assert caught.value.attempts == 10
    assert time.now - 1000 < 25


def test_retry_after_is_honored_in_the_header_and_in_details(run: Run) -> None:
    time = Time()
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}
    handler = responding(
        httpx.Response(429, headers={"Retry-After": "2"}),
        httpx.Response(429, headers={"Retry-After": "Sat, 01 Aug 2026 12:00:05 GMT"}),
        httpx.Response(503, json={"code": 14, "details": [detail]}),
        httpx.Response(200),
    )
    run(handler, time=time)
    assert time.slept == [2.25, 5.5, 4.0]


@pytest.mark.parametrize("off", [timedelta(days=-30), timedelta(seconds=-40), timedelta(days=3)])
def test_a_retry_after_date_is_read_against_the_date_of_the_response(run: Run, off: timedelta) -> None:
    time = Time()
    sent = format_datetime(NOW + off, usegmt=True)
    until = format_datetime(NOW + off + timedelta(seconds=2), usegmt=True)
    handler = responding(
        httpx.Response(429, headers={"Date": sent, "Retry-After": until}),
        httpx.Response(429, headers={"Date": "noon", "Retry-After": "Sat, 01 Aug 2026 12:00:05 GMT"}),
        httpx.Response(200),
    )
    run(handler, time=time)
    assert time.slept == [2.25, 5.5]


def test_the_clock_of_the_api_is_known_after_a_response() -> None:
    sent = format_datetime(NOW - timedelta(days=9), usegmt=True)
    http = httpx.MockTransport(lambda _: httpx.Response(200, headers={"Date": sent}))
    one = Transport(connection(), http=http, now=lambda: NOW)
    assert one.clock_skew == timedelta()
    one.run(call(), RetryPolicy())
    assert one.clock_skew == timedelta(days=-9)


def test_a_retry_after_beyond_the_limit_is_raised_at_once(run: Run) -> None:
    with pytest.raises(ApiError, match="the API asks to wait 3600 s") as caught:
        run(responding(httpx.Response(429, headers={"Retry-After": "3600"})))
    assert caught.value.attempts == 1
    assert caught.value.retry_after == 3600


def test_an_attempts_timeout_shrinks_to_the_time_left(run: Run) -> None:
    time = Time()
    timeouts: list[float] = []

    def handler(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"]["read"])
        time.now += timeouts[-1]
        raise httpx.ReadTimeout("t", request=request)

    with pytest.raises(RequestTimedOut):
        run(handler, time=time, policy=RetryPolicy(deadline=25))
    assert timeouts == [10, 10, 4.25]
    assert time.now - 1000 <= 25


@pytest.mark.parametrize(
    ("failure", "kind", "sent"),
    [
        (httpx.ConnectError("refused"), ConnectionFailed, False),
        (httpx.ConnectTimeout("t"), ConnectionFailed, False),
        (httpx.PoolTimeout("t"), ConnectionFailed, False),
        (httpx.ProxyError("p"), ConnectionFailed, False),
        (httpx.ReadError("reset"), ConnectionFailed, True),
        (httpx.WriteError("reset"), ConnectionFailed, True),
        (httpx.RemoteProtocolError("disconnected"), ConnectionFailed, True),
        (httpx.ReadTimeout("t"), RequestTimedOut, None),
        (httpx.WriteTimeout("t"), RequestTimedOut, None),
        (httpx.DecodingError("not gzip"), BrokenAnswer, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_connection_failure_says_whether_the_request_was_sent(
    run: Run, failure: Exception, kind: type[ApiError], sent: bool | None
) -> None:
    for repeatable in (True, False):
        count = 0

        def handler(request: httpx.Request) -> httpx.Response:
            nonlocal count
            count += 1
            return responding(failure)(request)

        with pytest.raises(kind) as caught:
            run(handler, sent=call(repeatable=repeatable))
        assert type(caught.value) is kind
        assert caught.value.http_status is None
        assert getattr(caught.value, "sent", None) is sent
        assert (count > 1) == (repeatable or sent is False)
        assert caught.value.attempts == count


def test_an_untrusted_certificate_is_not_retried(run: Run) -> None:
    failure = httpx.ConnectError("CERTIFICATE_VERIFY_FAILED")
    failure.__cause__ = ssl.SSLCertVerificationError("self-signed")
    said = "the certificate of api.example is not trusted: CERTIFICATE_VERIFY_FAILED"
    with pytest.raises(UntrustedCertificate, match=said) as caught:
        run(responding(failure))
    assert caught.value.attempts == 1


def test_an_unreadable_2xx_response_is_an_outage(run: Run) -> None:
    def read(body: bytes) -> bytes:
        raise ValueError("no claim")

    with pytest.raises(BrokenAnswer, match="not a valid get response: <html>") as caught:
        run(responding(httpx.Response(200, content=b"<html>")), sent=call(read=read))
    assert caught.value.http_status == 200
    assert caught.value.attempts > 1


def test_a_redirect_is_not_followed_and_its_host_is_reported(run: Run) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(307, headers={"Location": f"https://evil.example/{TOKEN}?t={TOKEN}"})

    with pytest.raises(BrokenAnswer, match=r"redirects are not followed; this one points to evil\.example"):
        run(handler)
    assert seen == ["api.example"]


@pytest.mark.parametrize(
    ("location", "said"),
    [("/login", "another path on the same host"), ("https://[", "points to an invalid URL")],
)
def test_a_redirect_without_a_host_is_reported(run: Run, location: str, said: str) -> None:
    with pytest.raises(BrokenAnswer, match=said):
        run(responding(httpx.Response(302, headers={"Location": location})))


def test_a_response_beyond_the_size_limit_is_abandoned(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 1000)
    assert len(run(responding(httpx.Response(200, content=b"x" * 1000)))) == 1000
    with pytest.raises(BrokenAnswer, match="the response is larger than"):
        run(responding(httpx.Response(200, content=b"x" * 1001)))


def test_an_error_has_a_smaller_limit_than_a_list(run: Run) -> None:
    body = b" " * transport.MAX_ERROR_BYTES + b'{"code": 5}'
    with pytest.raises(BrokenAnswer, match="the response is larger than 1 MiB"):
        run(responding(httpx.Response(404, content=body)))
    assert len(run(responding(httpx.Response(200, content=body)))) == len(body)


def test_the_last_error_is_not_an_attempt_without_time(run: Run) -> None:
    time = Time()

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.extensions["timeout"]["read"] >= 0.1
        time.now += 0.01
        return httpx.Response(503, json={"code": 14, "message": "down"})

    with pytest.raises(Unavailable, match="down"):
        run(handler, time=time, policy=RetryPolicy(deadline=0.3, initial=0.1, multiplier=1))
    assert time.now - 1000 <= 0.3


def test_a_response_that_trickles_in_is_abandoned_at_the_deadline() -> None:
    time = Time()

    class Drip(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                time.now += 9
                yield b"x"

    http = httpx.MockTransport(lambda request: httpx.Response(200, stream=Drip()))
    one = Transport(connection(), http=http, clock=time.clock, sleep=time.sleep)
    with pytest.raises(RequestTimedOut, match="no complete response"):
        one.run(call(), RetryPolicy(deadline=60))
    assert time.now - 1000 < 75


def test_the_request_id_is_taken_from_the_headers(run: Run) -> None:
    response = httpx.Response(404, json={"code": 5}, headers={"X-Request-Id": "r-7"})
    with pytest.raises(NotFound, match="request id r-7"):
        run(responding(response))


def test_retries_are_logged_without_the_token(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run(responding(httpx.Response(503, content=TOKEN.encode()), httpx.Response(200)))
    assert "retrying in 0.2 s" in caplog.text
    assert TOKEN not in caplog.text


ESCAPED = "".join(f"\\u{ord(character):04x}" for character in TOKEN).encode()
ECHOES: list[httpx.Response | Exception] = [
    httpx.Response(200, content=b'{"a": "' + ESCAPED + b'"}'),
    httpx.Response(502, content=b"<" + ESCAPED.replace(b"\\", b"\\\\")),
    httpx.Response(502, content=TOKEN.replace("-", "%2D").encode()),
    httpx.Response(502, content=TOKEN.lower().encode()),
    httpx.Response(502, content=TOKEN.encode("utf-16")),
    httpx.Response(502, content=b"<" + TOKEN.replace("-", "\\-").encode()),
    httpx.Response(404, content=b'{"error": "' + ESCAPED + b'"}'),
    httpx.Response(418, content=b'{"code": "' + ESCAPED + b'"}'),
    httpx.Response(302, headers={"Location": f"https://{TOKEN.replace('0', '%30')}.example"}),
    httpx.Response(401, json={"code": 16, "message": f"bad token {TOKEN}"}),
    httpx.Response(
        400,
        json={
            "code": 3,
            "details": [
                {
                    "@type": "google.rpc.BadRequest",
                    "fieldViolations": [{"field": TOKEN, "description": TOKEN}],
                },
                {"@type": "google.rpc.ErrorInfo", "metadata": {TOKEN: [TOKEN]}},
            ],
        },
    ),
    httpx.Response(418, json={"code": TOKEN}),
    httpx.Response(400, content=b'{"code": 3, "message": "\\u0043W-SECRET-0123456789"}'),
    httpx.Response(502, content=b"x" * 110 + TOKEN.encode()),
    httpx.Response(302, headers={"Location": f"https://{TOKEN}.example"}),
    httpx.Response(404, json={"code": 5}, headers={"X-Request-Id": TOKEN}),
    httpx.ConnectError(f"cannot send Bearer {TOKEN}"),
    httpx.ReadTimeout("t"),
]


@pytest.mark.parametrize("response", ECHOES, ids=lambda response: str(response)[:20])
def test_no_error_holds_the_token_or_the_request(run: Run, response: httpx.Response | Exception) -> None:
    with pytest.raises(ApiError) as caught:
        run(responding(response), sent=call(read=int), policy=RetryPolicy(deadline=0))
    error = caught.value
    leaks = (TOKEN.lower(), TOKEN[:10].lower(), "secret", "\\u0043")
    shown = [str(error), repr(error), repr(error.args), repr(vars(error))]
    shown += ["".join(traceback.format_exception(error)), repr(pickle.dumps(error))]
    assert not [text for text in shown if any(leak in text.lower() for leak in leaks)]
    assert error.__cause__ is None
    assert error.__context__ is None
    gc.collect()


def test_redacting_a_million_backslashes_is_quick(run: Run) -> None:
    began = perf_counter()
    with pytest.raises(BrokenAnswer):
        run(responding(httpx.Response(502, content=b"\\" * 1_000_000)), policy=RetryPolicy(deadline=0))
    assert perf_counter() - began < 20


def frames(error: BaseException) -> Iterator[str]:
    """The variables of all frames that an error, or one before it, passed through."""
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if frame.f_code.co_filename != __file__:
                for value in frame.f_locals.values():
                    with suppress(AttributeError):  # a client that was never complete has no repr
                        yield repr(value)
        seen = seen.__cause__ or seen.__context__


class _Stopped(BaseException):
    pass


@pytest.mark.parametrize(
    "failure", [_Stopped(), KeyboardInterrupt(), AttributeError("a bug"), httpx.ReadError("x")]
)
def test_no_frame_of_a_failure_shows_the_token(run: Run, failure: BaseException) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)
        assert headers
        raise failure

    with pytest.raises((type(failure), ApiError)) as caught:
        run(handler, policy=RetryPolicy(deadline=0))
    assert not [text for text in frames(caught.value) if TOKEN in text]


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_no_frame_of_a_refused_setting_shows_the_token(make: Callable[..., object]) -> None:
    for wrong in (
        {"endpoint": "https://a..b"},
        {"timeout": 0},
        {"user_agent": "\n"},
        {"token": f"Bearer {TOKEN}"},
    ):
        with pytest.raises(InvalidSetting) as caught:
            make(**{"token": TOKEN, **wrong})
        assert not [text for text in frames(caught.value) if TOKEN in text]


@pytest.mark.parametrize("token", ["a\nX-Evil: 1", "a\n", "a b", "tökén", "a\x00", "a\x7f"])
def test_a_token_unfit_for_a_header_is_rejected_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        connection(token=token)
    assert "X-Evil" not in str(caught.value)
    assert "tökén" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_token_with_the_bearer_prefix_is_rejected() -> None:
    with pytest.raises(InvalidToken, match="must not include the prefix 'Bearer '") as caught:
        connection(token="Bearer s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"timeout": 0}, {"timeout": -1}, {"timeout": float("inf")}, {"timeout": float("nan")}),
        *({"timeout": 86_401}, {"timeout": 1e300}),
        *({"user_agent": "a\nb"}, {"max_connections": 0}),
    ],
)
def test_invalid_connection_settings_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        connection(**wrong)


def test_a_connection_never_reveals_its_token() -> None:
    assert TOKEN not in repr(connection())
    for give in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds the API token"):
            give(connection())


def test_a_missing_token_is_raised_before_anything_is_sent(run: Run) -> None:
    with pytest.raises(MissingToken):
        run(responding(AssertionError("was sent")), token=None)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:1"])
def test_a_loopback_endpoint_never_goes_through_a_proxy(endpoint: str) -> None:
    assert not connection(endpoint=endpoint).uses_environment()
    assert connection().uses_environment()


def test_only_https_loads_certificates_and_plain_http_trusts_none() -> None:
    context = connection(endpoint="http://127.0.0.1:1").certificates()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 0
    assert connection(endpoint="https://127.0.0.1:1").certificates().cert_store_stats()["x509"] > 0


def test_a_loopback_call_ignores_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    one = Transport(connection(endpoint=f"http://127.0.0.1:{server.server_port}"))
    try:
        assert one.run(call(), RetryPolicy(deadline=0)) == b"{}"
    finally:
        one.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_request_to_a_closed_port_counts_as_never_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        one = Transport(connection(endpoint=endpoint))
        with pytest.raises(ConnectionFailed, match="could not connect to 127") as caught:
            one.run(call(), RetryPolicy(deadline=0))
        one.close()
    assert caught.value.sent is False


@pytest.mark.parametrize(
    ("method", "before", "last", "in_doubt"),
    [
        ("POST", [], (401, "unauthenticated"), False),
        ("POST", [], (400, "invalid_argument"), False),
        ("POST", [], (500, "internal"), True),
        ("POST", [], (504, "deadline_exceeded"), True),
        ("POST", [httpx.Response(503)], (401, "unauthenticated"), True),
        ("POST", [httpx.ReadTimeout("slow")], (403, "permission_denied"), True),
        ("POST", [httpx.ConnectError("refused"), httpx.Response(429)], (401, "unauthenticated"), False),
        ("PATCH", [httpx.ReadError("lost")], (400, "failed_precondition"), True),
        ("GET", [httpx.Response(503)], (401, "unauthenticated"), False),
    ],
)
def test_an_error_says_whether_any_attempt_may_have_taken_effect(
    run: Run, method: str, before: list[Any], last: tuple[int, str], in_doubt: bool
) -> None:
    final = httpx.Response(last[0], json={"code": last[1]})
    with pytest.raises(ApiError) as caught:
        run(responding(*before, final), sent=call(method=method))
    assert caught.value.in_doubt is in_doubt
    assert pickle.loads(pickle.dumps(caught.value)).in_doubt is in_doubt
