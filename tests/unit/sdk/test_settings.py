"""Settings from the environment, durations, and the endpoints that are safe for a token."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import CoreweaveError, InvalidEndpoint, InvalidSetting
from coreweave_inference.settings import (
    endpoint_from,
    format_duration,
    parse_duration,
    timeout_from,
    validate_endpoint,
)


def test_a_blank_endpoint_or_timeout_counts_as_unset() -> None:
    assert endpoint_from({"COREWEAVE_API_ENDPOINT": " "}) is None
    assert endpoint_from({"COREWEAVE_API_ENDPOINT": " https://x "}) == "https://x"
    assert timeout_from({}) is None
    assert timeout_from({"COREWEAVE_HTTP_TIMEOUT": "1m30s"}) == 90.0


def test_an_unreadable_timeout_names_its_variable() -> None:
    with pytest.raises(InvalidSetting, match=r"COREWEAVE_HTTP_TIMEOUT.*soon"):
        timeout_from({"COREWEAVE_HTTP_TIMEOUT": "soon"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("1m30s", 90.0),
        ("250ms", 0.25),
        ("45m", 2700.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        (" 10 ", 10.0),
        ("2.5", 2.5),
        ("0", 0.0),
        ("100us", 0.0001),
        (10, 10.0),
        (2.5, 2.5),
    ],
)
def test_go_durations_and_plain_seconds_are_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "s", "10 s", "-1", "-1s", "1d", "ten", "1e3", "inf", "nan", "10s5", "٣s"),
        *(-1, -0.5, math.nan, math.inf, True, False, None, [], 10**400, "9" * 400),
    ],
)
def test_anything_else_is_rejected_as_a_duration(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2700, "45m"),
        (90, "1m30s"),
        (12, "12s"),
        (2.5, "2.5s"),
        (0.25, "250ms"),
        (0, "0s"),
        (-3, "0s"),
        (59.96, "1m"),
        (0.9996, "1s"),
        (3600, "1h"),
        (3661, "1h1m1s"),
        (1234.567, "20m35s"),
    ],
)
def test_durations_are_formatted_for_display(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e7))
def test_a_formatted_duration_parses_to_nearly_the_same_value(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.51, rel=0.05)


@pytest.mark.parametrize("text", ["10000000000h", 1e12, "99999999999999999999s"])
def test_a_duration_that_go_cannot_hold_is_rejected(text: str | float) -> None:
    with pytest.raises(ValueError, match="longer than 292 years"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "25h", "2562047h", "10000000000h", "soon"])
def test_a_timeout_that_no_socket_takes_is_rejected_with_the_variable(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^COREWEAVE_HTTP_TIMEOUT: [^\n]+$"):
        timeout_from({"COREWEAVE_HTTP_TIMEOUT": text})


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://api.coreweave.com", "https://api.coreweave.com"),
        (" HTTPS://API.coreweave.com/ ", "https://api.coreweave.com"),
        ("https://gateway.example:8443/coreweave//", "https://gateway.example:8443/coreweave"),
        ("https://a_b.example./v-1.0/~x", "https://a_b.example./v-1.0/~x"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
    ],
)
def test_https_and_loopback_http_are_accepted_and_normalized(url: str, endpoint: str) -> None:
    assert validate_endpoint(url) == endpoint
    assert validate_endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.coreweave.com",
        "//api.coreweave.com",
        "ftp://api.coreweave.com",
        "https://",
        "https:///path",
        "http://api.coreweave.com",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://0.0.0.0",
        "http://10.0.0.1",
        "http://[::ffff:10.0.0.1]",
        "http://localhost@evil.example",
        "https://user:s3cret@api.coreweave.com",
        "https://s3cret@api.coreweave.com",
        "https://api.coreweave.com?s3cret",
        "https://api.coreweave.com/?",
        "https://api.coreweave.com#s3cret",
        "https://api.coreweave.com:99999",
        "https://api.coreweave.com:http",
        "https://[::1",
        "http://localhost\\@evil.example",
        "https://api.core weave.com",
        "https://api.core\tweave.com",
        "https://api.core\nweave.com",
        "https://a..b",
        "https://.example",
        "https://-a.example",
        "https://xn--a",
        "https://XN--N3H.example",
        "https://\u2603.example",
        "https://b\u00fccher.example",
        "https://" + "a" * 64 + ".example",
        "https://" + "a." * 127 + "example",
        "https://1.2.3.999",
        "https://a%41.example",
        "https://[v1.x]",
        "https://[fe80::1%25eth0]",
        "https://api.coreweave.com/a%2",
        "https://api.coreweave.com/../a",
        "https://api.coreweave.com/\u2603",
    ],
)
def test_any_other_endpoint_is_rejected_without_showing_secrets(url: str) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        validate_endpoint(url)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CoreweaveError)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text())
def test_any_text_is_either_an_endpoint_or_an_invalid_endpoint(url: str) -> None:
    with contextlib.suppress(InvalidEndpoint):
        assert validate_endpoint(url).startswith(("https://", "http://"))
