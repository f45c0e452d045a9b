"""Whether and when a failed attempt is repeated: pure, without clock, sleep or chance."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .errors import ApiError, BrokenAnswer, ConnectionFailed

__all__ = ["RetryPolicy", "parse_retry_after"]


@dataclass(frozen=True)
class RetryPolicy:
    """How one operation is repeated. All times are seconds.

    What is repeated:

    - By code: ``unavailable`` (also no connection, a timeout, an answer that is not the API's),
      ``deadline_exceeded``, ``resource_exhausted``, ``aborted``, ``internal``. A code this version
      does not know: with HTTP 429, 500, 502, 503 or 504.
    - Never: HTTP 501, a redirect, a refusal (other 4xx) that is not the API's own, a server whose
      certificate is not trusted, and every other code: waiting does not mend those.
    - A create without a client-chosen id could make two claims. It is repeated only when the
      request surely never reached the server, or was turned away with HTTP 429.

    When: after a random part of ``initial``, doubling with each attempt up to ``maximum`` ("full
    jitter"). A ``Retry-After`` (or RetryInfo) is added to that as the minimum; one above
    ``retry_after_limit`` ends the operation, with the error that says how long to wait. No attempt
    begins at or after ``deadline``, counted from the operation's start; 0 means one attempt.
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
        """Seconds to wait before the next attempt; None to give up and raise ``error``.

        ``attempt`` counts the attempts made so far, ``elapsed`` is the time since the first began,
        ``repeatable`` is False only for a create without an id, ``random`` lies in [0, 1).
        """
        if not _passes_with_time(error) or not (repeatable or _surely_not_done(error)):
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
    """Seconds to wait from ``now``: of "120", an HTTP date, or a protobuf duration ("1.5s").

    A date in the past is 0. None when there is nothing to read.
    """
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text.removesuffix("s"))
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


_RETRYABLE_CODES = frozenset(
    {"unavailable", "deadline_exceeded", "resource_exhausted", "aborted", "internal"}
)
_RETRYABLE_STATUSES = frozenset({429, 500, 502, 503, 504})
# a proxy says these while the API behind it is being moved
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


def _passes_with_time(error: ApiError) -> bool:
    status = error.http_status
    if status == 501 or (isinstance(error, ConnectionFailed) and error.untrusted):
        return False
    if isinstance(error, BrokenAnswer) and status is not None and 300 <= status < 500:
        return status in _OUTAGE_STATUSES
    if error.code in _RETRYABLE_CODES:
        return True
    return error.code not in _KNOWN_FINAL_CODES and status in _RETRYABLE_STATUSES


def _surely_not_done(error: ApiError) -> bool:
    return error.http_status == 429 or (isinstance(error, ConnectionFailed) and not error.sent)
