"""Endpoint and timeout from the environment, and their validation.

Pure functions over a mapping, by default the environment of the process. The variables are those that
CoreWeave's own tools use.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from .errors import InvalidEndpoint, InvalidSetting

__all__ = [
    "DEFAULT_ENDPOINT",
    "DEFAULT_TIMEOUT",
    "ENDPOINT_VARIABLE",
    "TIMEOUT_VARIABLE",
    "endpoint_from",
    "format_duration",
    "is_host_name",
    "is_loopback",
    "parse_duration",
    "timeout_from",
    "validate_endpoint",
    "validate_timeout",
]

DEFAULT_ENDPOINT = "https://api.coreweave.com"
DEFAULT_TIMEOUT = 10.0  # seconds, for each attempt

ENDPOINT_VARIABLE = "COREWEAVE_API_ENDPOINT"
TIMEOUT_VARIABLE = "COREWEAVE_HTTP_TIMEOUT"


def endpoint_from(environment: Mapping[str, str] = os.environ) -> str | None:
    """The value of COREWEAVE_API_ENDPOINT, not yet validated. A blank value counts as unset."""
    return environment.get(ENDPOINT_VARIABLE, "").strip() or None


def timeout_from(environment: Mapping[str, str] = os.environ) -> float | None:
    """The seconds in COREWEAVE_HTTP_TIMEOUT. A blank value counts as unset.

    Raises ``InvalidSetting`` if it is not a duration, or too long for a timeout.
    """
    text = environment.get(TIMEOUT_VARIABLE, "").strip()
    environment = {}  # the frame of an error would show the token in it
    if not text:
        return None
    try:
        return validate_timeout(parse_duration(text))
    except ValueError as error:
        raise InvalidSetting(f"{TIMEOUT_VARIABLE}: {error}") from None


def validate_timeout(seconds: float) -> float:
    """Returns the HTTP timeout; raises ``InvalidSetting`` unless it is more than 0 and at most a day."""
    if not 0 < seconds <= _DAY:
        raise InvalidSetting(f"the HTTP timeout must be more than 0 s and at most 24h, not {seconds:g} s")
    return seconds


def parse_duration(text_or_number: str | float) -> float:
    """Parses a Go duration ("1m30s", "250ms", "1h") or a plain number (10, 2.5, "10") into seconds.

    Raises ValueError for anything else: a negative, infinite or empty value, or more than Go's longest
    duration, about 292 years.
    """
    value = text_or_number
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            seconds = float(text)
        elif _DURATION.fullmatch(text):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        else:
            raise _not_a_duration(value)
    elif isinstance(value, bool):
        raise _not_a_duration(value)
    else:
        try:
            seconds = float(value)
        except (OverflowError, TypeError):
            raise _not_a_duration(value) from None
    if not math.isfinite(seconds) or seconds < 0:
        raise _not_a_duration(value)
    if seconds > _LONGEST:
        raise ValueError("the duration is longer than 292 years")
    return seconds


def format_duration(seconds: float) -> str:
    """Formats a duration for display: "45m", "1m30s", "12s", "2.5s", "250ms".

    Rounds to whole seconds from one minute, to tenths from one second, else to milliseconds. A negative
    duration is shown as zero.
    """
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        milliseconds = round(seconds * 1000)
        return f"{milliseconds}ms" if milliseconds else "0s"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def validate_endpoint(url: str) -> str:
    """Returns the endpoint without a trailing slash, or raises ``InvalidEndpoint``.

    To keep the token safe, it must be https, or http on a loopback address (localhost, 127.0.0.0/8, ::1). It
    may have a path, below which the API is then called, but no user name, password, query or fragment.
    """
    text = url.strip()
    if not text or not text.isprintable() or " " in text or "\\" in text:
        raise InvalidEndpoint("the endpoint is empty or contains characters that are not allowed in a URL")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidEndpoint("the endpoint is not a valid URL: cannot read its host or port") from None
    # the messages below show only the host: anything else may be a password
    if "@" in parts.netloc:
        raise InvalidEndpoint(f"the endpoint on {host} must not contain a user name or password")
    if not host or parts.scheme not in ("http", "https"):
        raise InvalidEndpoint(f"the endpoint must start with https:// and a host, such as {DEFAULT_ENDPOINT}")
    if not is_host_name(host) or _is_bad_punycode(text, host) or ("[" in parts.netloc) != (":" in host):
        hint = "" if host.isascii() else "; write an international name in its ASCII form, xn--…"
        raise InvalidEndpoint(f"the endpoint's host {host!r} is neither a host name nor an IP address{hint}")
    if "?" in text or "#" in text:
        raise InvalidEndpoint(f"the endpoint on {host} must not have a query or a fragment")
    if not _PATH.fullmatch(parts.path) or {".", ".."} & set(parts.path.split("/")):
        raise InvalidEndpoint(
            f"the endpoint on {host} has an invalid path: it may have letters, digits, and any of -._~/"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidEndpoint(
            f"the endpoint on {host} uses plain http, which would expose the token to the network:"
            " use https (http is allowed on loopback addresses only)"
        )
    location = f"[{host}]" if ":" in host else host
    if port is not None:
        location = f"{location}:{port}"
    return f"{parts.scheme}://{location}{parts.path}".rstrip("/")


def _is_bad_punycode(url: str, host: str) -> bool:
    """Whether the host is an international name in ASCII form that httpx, which decodes it, does not take."""
    if "xn--" not in host:
        return False
    from ._httpx import httpx  # needed for such a name only

    try:
        return not httpx.URL(url).host
    except ValueError:
        return True


def is_host_name(host: str) -> bool:
    """Whether a host can be connected to: a name of ASCII letters and digits, or an IP address."""
    with contextlib.suppress(ValueError):
        return "%" not in host and bool(ipaddress.ip_address(host))
    labels = host.removesuffix(".").split(".")
    # an all-numeric last label makes it an IPv4 address, and an invalid one
    return len(host) < 254 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdecimal()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: localhost, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_LABEL = re.compile(r"[A-Za-z0-9_](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?")
_PATH = re.compile(r"[-A-Za-z0-9._~/]*")
_DAY = 24 * 3600.0
_LONGEST = 2**63 / 1e9  # seconds: Go counts nanoseconds in 64 bits
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_PART = re.compile(rf"({_NUMBER.pattern})(ms|us|µs|ns|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def _not_a_duration(value: object) -> ValueError:
    return ValueError(f'{value!r} is not a duration: use a value such as "10s", "1m30s" or "45m"')
