"""Which failures are retried, when, and never beyond the deadline."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import (
    Aborted,
    ApiError,
    BrokenAnswer,
    ConnectionFailed,
    Internal,
    InvalidArgument,
    NotFound,
    ProxyFailed,
    RequestTimedOut,
    ResourceExhausted,
    RetryPolicy,
    Unavailable,
    Unimplemented,
    UnknownCode,
    UntrustedCertificate,
)
from coreweave_inference import errors as errors_module
from coreweave_inference.retry import parse_retry_after

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
unit = st.floats(min_value=0, max_value=1, exclude_max=True)
seconds = st.floats(min_value=0, max_value=1e4)
policies = st.builds(
    RetryPolicy,
    deadline=seconds,
    initial=seconds,
    multiplier=st.floats(min_value=1, max_value=1e3),
    maximum=seconds,
    retry_after_limit=seconds,
)
some_errors = st.builds(
    lambda kind, status, after: kind("x", http_status=status, retry_after=after),
    st.sampled_from(
        [getattr(errors_module, name) for name in errors_module.__all__ if name[0].isupper()]
    ).filter(lambda kind: issubclass(kind, ApiError)),
    st.none() | st.integers(100, 599),
    st.none() | seconds,
)


def connection_failed(*, sent: bool = True) -> ConnectionFailed:
    error = ConnectionFailed("x")
    error.sent = sent
    return error


def proxy_failed(*, refused: bool) -> ProxyFailed:
    error = ProxyFailed("x")
    error.refused = refused
    return error


def delay(error: ApiError, *, repeatable: bool = True, elapsed: float = 0) -> float | None:
    return RetryPolicy().delay(attempt=1, elapsed=elapsed, repeatable=repeatable, error=error, random=0.5)


@pytest.mark.parametrize(
    "error",
    [
        connection_failed(),
        connection_failed(sent=False),
        RequestTimedOut("x"),
        Unavailable("x", http_status=503),
        ResourceExhausted("x", http_status=429),
        Internal("x", http_status=500),
        Internal("x", http_status=502),
        Aborted("x", http_status=409),
        UnknownCode("x", code="frobnicated", http_status=503),
        BrokenAnswer("HTML", http_status=200),
        BrokenAnswer("HTML", http_status=404),
        BrokenAnswer("HTML", http_status=429),
        BrokenAnswer("HTML", http_status=503),
        BrokenAnswer("too large"),
        proxy_failed(refused=False),
    ],
    ids=repr,
)
def test_transient_failures_are_retried(error: ApiError) -> None:
    assert delay(error) == 0.25


@pytest.mark.parametrize(
    "error",
    [
        UntrustedCertificate("x"),
        proxy_failed(refused=True),
        Unimplemented("x", http_status=501),
        Internal("x", http_status=501),
        BrokenAnswer("HTML", http_status=501),
        BrokenAnswer("redirect", http_status=302),
        BrokenAnswer("HTML", http_status=403),
        NotFound("x", http_status=404),
        InvalidArgument("x", http_status=400),
        InvalidArgument("x", http_status=500),
        UnknownCode("x", code="frobnicated", http_status=400),
        UnknownCode("x", code="frobnicated"),
    ],
    ids=repr,
)
def test_permanent_failures_are_raised_at_once(error: ApiError) -> None:
    assert delay(error) is None


@pytest.mark.parametrize(
    ("error", "repeated"),
    [
        (connection_failed(sent=False), True),
        (ResourceExhausted("x", http_status=429), True),
        (connection_failed(sent=True), False),
        (RequestTimedOut("x"), False),
        (Unavailable("x", http_status=503), False),
        (Internal("x", http_status=500), False),
        (Aborted("x", http_status=409), False),
        (BrokenAnswer("x", http_status=200), False),
    ],
    ids=repr,
)
def test_a_create_without_an_id_is_retried_only_if_it_had_no_effect(error: ApiError, repeated: bool) -> None:
    assert (delay(error, repeatable=False) is not None) == repeated


@given(policies, some_errors, st.integers(1, 10_000), seconds, st.booleans(), unit)
def test_no_attempt_starts_at_or_after_the_deadline(
    policy: RetryPolicy, error: ApiError, attempt: int, elapsed: float, repeatable: bool, random: float
) -> None:
    wait = policy.delay(attempt=attempt, elapsed=elapsed, repeatable=repeatable, error=error, random=random)
    if wait is not None:
        asked = error.retry_after or 0.0
        assert asked <= wait <= asked + policy.maximum
        assert asked <= policy.retry_after_limit
        assert elapsed + wait < policy.deadline


@given(policies, st.integers(1, 5_000), unit)
def test_the_bound_of_the_delay_never_shrinks(policy: RetryPolicy, attempt: int, random: float) -> None:
    def bound(number: int) -> float:
        endless = RetryPolicy(1e9, policy.initial, policy.multiplier, policy.maximum)
        wait = endless.delay(attempt=number, elapsed=0, repeatable=True, error=Unavailable(), random=random)
        assert wait is not None
        return wait

    assert bound(attempt) <= bound(attempt + 1)


def test_the_delay_doubles_up_to_the_maximum_with_full_jitter() -> None:
    policy = RetryPolicy(initial=1, maximum=8)

    def wait(attempt: int, random: float) -> float | None:
        return policy.delay(attempt=attempt, elapsed=0, repeatable=True, error=Unavailable(), random=random)

    assert [wait(attempt, 0.5) for attempt in range(1, 6)] == [0.5, 1, 2, 4, 4]
    assert [wait(attempt, 0.0) for attempt in range(1, 6)] == [0, 0, 0, 0, 0]
    assert wait(5000, 0.5) == 4  # 2.0 ** 4999 overflows a float


def test_a_retry_after_is_the_minimum_up_to_the_limit() -> None:
    assert delay(Unavailable(retry_after=30)) == 30.25
    assert delay(Unavailable(retry_after=-5)) == 0.25
    assert delay(Unavailable(retry_after=61)) is None
    assert delay(Unavailable(retry_after=30), elapsed=30) is None


def test_a_deadline_of_zero_means_one_attempt() -> None:
    policy = RetryPolicy(deadline=0)
    assert policy.delay(attempt=1, elapsed=0, repeatable=True, error=Unavailable(), random=0.0) is None


@pytest.mark.parametrize(
    "wrong",
    [{"deadline": -1}, {"initial": float("nan")}, {"maximum": float("inf")}, {"multiplier": 0.5}],
)
def test_an_invalid_policy_is_rejected(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("120", 120),
        (" 1.5 ", 1.5),
        ("1.5s", 1.5),
        ("0", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        ("Sat, 01 Aug 2026 12:01:30 -0000", 90),
        ("Sat, 01 Aug 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 400, None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_date_or_protobuf_duration(
    value: str | None, wait: float | None
) -> None:
    assert parse_retry_after(value, NOW) == wait


@given(st.text())
def test_parsing_any_text_as_retry_after_never_raises(value: str) -> None:
    wait = parse_retry_after(value, NOW)
    assert wait is None or wait >= 0
