"""Whether and when to retry a failed attempt. Pure: clock and random numbers are passed in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .errors import ApiError, BrokenAnswer, ConnectionFailed, ProxyFailed, UntrustedCertificate

__all__ = ["RetryPolicy", "parse_http_date", "parse_retry_after"]


@dataclass(frozen=True)
class RetryPolicy:
    """When an operation retries. All times are in seconds.

    Retried:

    - The codes ``unavailable`` (which includes connection failures, timeouts, and responses that are not the
      API's), ``deadline_exceeded``, ``resource_exhausted``, ``aborted`` and ``internal``.
    - A code that this version does not know, with HTTP 429, 500, 502, 503 or 504.

    Not retried, because waiting does not help:

    - Every other code, HTTP 501, and redirects.
    - A 4xx response that is not the API's own, except 404, 408 and 429.
    - An untrusted server certificate, and a proxy that refuses.

    A create without a client-chosen id could reserve capacity twice. It is retried only if the request
    certainly never reached the server, or the server rejected it with HTTP 429.

    Delays use full jitter: a random share of a bound that starts at ``initial`` and grows by ``multiplier``
    with each attempt, up to ``maximum``. The delay that a ``Retry-After`` header or RetryInfo detail asks for
    is added. If that exceeds ``retry_after_limit``, the operation fails at once, and the error's
    ``retry_after`` says how long to wait. But for the first, no attempt starts less than 0.1 s before the
    ``deadline``, counted from the start of the operation, or goes on after it; 0 means a single attempt.
    """

    deadline: float = 60.0
    initial: float = 0.5
    multiplier: float = 2.0
    maximum: float = 8.0
    retry_after_limit: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.name == "multiplier" else 0
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"RetryPolicy: {field.name} must be finite and at least {least}")

    def delay(
        self, *, attempt: int, elapsed: float, repeatable: bool, error: ApiError, random: float
    ) -> float | None:
        """Seconds to wait before the next attempt, or None to give up and raise ``error``.

        ``attempt`` is the number of attempts made so far, ``elapsed`` the time since the first one started.
        ``repeatable`` is False only for a create without an id. ``random`` is in [0, 1).
        """
        if not _is_transient(error) or not (repeatable or _had_no_effect(error)):
            return None
        asked = max(0.0, error.retry_after or 0.0)
        if asked > self.retry_after_limit:
            return None
        wait = asked + random * self._ceiling(attempt)
        return wait if elapsed + wait < self.deadline else None

    def _ceiling(self, attempt: int) -> float:
        try:
            return min(self.maximum, self.initial * self.multiplier ** (attempt - 1))
        except OverflowError:
            return self.maximum


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Parses "120", an HTTP date or a protobuf duration ("1.5s") into seconds from ``now``.

    ``now`` is the date of the response itself, if it has one: clocks differ. A date in the past is 0. Returns
    None if the value is missing or unreadable.
    """
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text.removesuffix("s"))
    date = parse_http_date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def parse_http_date(value: str | None) -> datetime | None:
    """Parses the date of a header, without a zone in UTC. Returns None if it is missing or unreadable."""
    try:
        date = parsedate_to_datetime(value or "")
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_RETRYABLE_CODES = frozenset(
    {"unavailable", "deadline_exceeded", "resource_exhausted", "aborted", "internal"}
)
_RETRYABLE_STATUSES = frozenset({429, 500, 502, 503, 504})
# a proxy answers with these while the API behind it is moving
_OUTAGE_STATUSES = frozenset({404, 408, 429})
_SECONDS = re.compile(r"[0-9]{1,15}(?:\.[0-9]+)?s?")
_KNOWN_FINAL_CODES = frozenset(
    {
        "already_exists",
        "canceled",
        "data_loss",
        "failed_precondition",
        "invalid_argument",
        "not_found",
        "out_of_range",
        "permission_denied",
        "unauthenticated",
        "unimplemented",
    }
)
# the API refuses before it does anything
_CODES_WITHOUT_EFFECT = _KNOWN_FINAL_CODES - {"canceled", "data_loss"} | {"resource_exhausted"}


def _is_transient(error: ApiError) -> bool:
    status = error.http_status
    if status == 501 or isinstance(error, UntrustedCertificate):
        return False
    if isinstance(error, ProxyFailed) and error.refused:
        return False
    if isinstance(error, BrokenAnswer) and status is not None and 300 <= status < 500:
        return status in _OUTAGE_STATUSES
    if error.code in _RETRYABLE_CODES:
        return True
    return error.code not in _KNOWN_FINAL_CODES and status in _RETRYABLE_STATUSES


def may_have_effect(error: ApiError) -> bool:
    """Whether the operation may have taken effect, although this is what came back."""
    return error.code not in _CODES_WITHOUT_EFFECT and not _had_no_effect(error)


def _had_no_effect(error: ApiError) -> bool:
    return error.http_status == 429 or (isinstance(error, ConnectionFailed) and not error.sent)
