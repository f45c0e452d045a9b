"""What the environment says: token, endpoint, timeout, and how each is read.

Pure functions over a mapping, by default the process's environment. The names are the ones
CoreWeave's own tools use.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from .errors import InvalidEndpoint, InvalidSetting, InvalidToken

__all__ = [
    "DEFAULT_ENDPOINT",
    "DEFAULT_TIMEOUT",
    "ENDPOINT_VARIABLE",
    "TIMEOUT_VARIABLE",
    "TOKEN_VARIABLES",
    "endpoint_from",
    "format_duration",
    "parse_duration",
    "timeout_from",
    "token_from",
    "token_variable",
    "validate_endpoint",
    "validate_timeout",
    "validate_token",
]

DEFAULT_ENDPOINT = "https://api.coreweave.com"
DEFAULT_TIMEOUT = 10.0  # seconds, for each attempt

TOKEN_VARIABLES = ("COREWEAVE_API_TOKEN", "CW_API_TOKEN")
ENDPOINT_VARIABLE = "COREWEAVE_API_ENDPOINT"
TIMEOUT_VARIABLE = "COREWEAVE_HTTP_TIMEOUT"


def token_from(environment: Mapping[str, str] = os.environ) -> str | None:
    """The API token: COREWEAVE_API_TOKEN, then CW_API_TOKEN; blank counts as absent."""
    name = token_variable(environment)
    return environment[name].strip() if name else None


def token_variable(environment: Mapping[str, str] = os.environ) -> str | None:
    """The variable that ``token_from`` takes the token from."""
    return next((name for name in TOKEN_VARIABLES if environment.get(name, "").strip()), None)


def validate_token(token: str) -> str:
    """The token; ``InvalidToken``, which does not show it, if no HTTP header can carry it."""
    if token.lower().startswith("bearer "):
        raise InvalidToken("the API token is what follows 'Bearer '; leave that word out")
    if not _TOKEN.fullmatch(token):
        raise InvalidToken(
            "the API token has characters no HTTP header can carry"
            " (often a line break or a space copied along with it)"
        )
    return token


def endpoint_from(environment: Mapping[str, str] = os.environ) -> str | None:
    """The text of COREWEAVE_API_ENDPOINT, not validated yet; blank counts as absent."""
    return environment.get(ENDPOINT_VARIABLE, "").strip() or None


def timeout_from(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds in COREWEAVE_HTTP_TIMEOUT; blank counts as absent; ``InvalidSetting`` otherwise."""
    text = environment.get(TIMEOUT_VARIABLE, "").strip()
    if not text:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidSetting(f"{TIMEOUT_VARIABLE}: {error}") from None


def validate_timeout(seconds: float) -> float:
    """The seconds of an HTTP timeout; ``InvalidSetting`` unless they are more than 0."""
    if not 0 < seconds < float("inf"):
        raise InvalidSetting(f"the HTTP timeout must be more than 0 s, not {seconds}")
    return seconds


def parse_duration(text_or_number: str | float) -> float:
    """Seconds in a Go duration ("1m30s", "250ms", "1h") or a plain number (10, 2.5, "10").

    ValueError for anything else, also for a negative, infinite or empty one.
    """
    value = text_or_number
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            seconds = float(text)
        elif _DURATION.fullmatch(text):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        else:
            raise _no_duration(value)
    elif isinstance(value, bool):
        raise _no_duration(value)
    else:
        try:
            seconds = float(value)
        except (OverflowError, TypeError):
            raise _no_duration(value) from None
    if not math.isfinite(seconds) or seconds < 0:
        raise _no_duration(value)
    return seconds


def format_duration(seconds: float) -> str:
    """A duration for people: "45m", "1m30s", "12s", "2.5s", "250ms".

    Rounded to whole seconds from a minute on, to tenths from a second on, else to milliseconds.
    Negative reads as zero.
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
    """The endpoint without a trailing slash; ``InvalidEndpoint`` if the token must not go there.

    It must be https, or http on a loopback address (localhost, 127.0.0.0/8, ::1), and may have a
    path, but no user info, query or fragment.
    """
    text = url.strip()
    if not text or not text.isprintable() or " " in text or "\\" in text:
        raise InvalidEndpoint("the endpoint is empty or has characters no URL can have")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidEndpoint("the endpoint is no URL: its host or port cannot be read") from None
    # the text below shows scheme and host only: a password may stand anywhere else
    if "@" in parts.netloc:
        raise InvalidEndpoint(f"the endpoint on {host} must not hold a user name or password")
    if not host or parts.scheme not in ("http", "https"):
        raise InvalidEndpoint(f"the endpoint must begin with https:// and a host, like {DEFAULT_ENDPOINT}")
    if "?" in text or "#" in text:
        raise InvalidEndpoint(f"the endpoint on {host} must not have a query or a fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidEndpoint(
            f"the endpoint on {host} is plain http, which would show the token to the network:"
            " use https (http is for loopback addresses only)"
        )
    location = f"[{host}]" if ":" in host else host
    if port is not None:
        location = f"{location}:{port}"
    return f"{parts.scheme}://{location}{parts.path}".rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name can only mean this machine: localhost, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_TOKEN = re.compile(r"[\x21-\x7e]+")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_PART = re.compile(rf"({_NUMBER.pattern})(ms|us|µs|ns|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def _no_duration(value: object) -> ValueError:
    return ValueError(f'{value!r} is no duration: write it like "10s", "1m30s" or "45m"')
