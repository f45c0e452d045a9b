"""The log of API requests, which tests and benchmarks count."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class RequestRecord:
    """One request to the API. A field is None while its value is unknown or does not apply."""

    sequence: int
    """From 1, in order of arrival."""
    time: float
    """Time of arrival, in seconds of a monotonic clock."""
    method: str
    path: str
    query: str
    request_id: str
    """As sent in `X-Request-Id`."""
    operation: str | None = None
    claim: str | None = None
    """The claim id from the path, or from the body of a create."""
    user_agent: str | None = None
    status: int | None = None
    """The HTTP status sent; None while open, and for a connection closed without a response."""
    fault: str | None = None
    """The name of the fault rule that was applied."""
    committed: bool = False
    """Whether the request took effect, even if the response was lost."""
    bytes_in: int = 0
    """Size of the request body."""
    bytes_out: int = 0
    """Size of the response body."""
    body: object = None
    """The JSON body of a write, with tokens redacted."""
    seconds: float | None = None
    """From arrival to the end of the response."""

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        about = f" {self.claim}" if self.operation == "create" and self.claim else ""
        fault = f" by {self.fault}" if self.fault else ""
        target = target.encode("unicode_escape").decode("ascii")
        return f"{self.method} {target}{about}: {self.status or 'no response'}{fault}"


class RequestLog:
    """The latest requests, oldest first. Safe to read from any thread."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._records: deque[RequestRecord] = deque(maxlen=limit)
        self._sequence = 0

    def open(self, method: str, path: str, query: str) -> RequestRecord:
        """Add a request as it arrives."""
        with self._lock:
            self._sequence += 1
            number = self._sequence
            record = RequestRecord(number, time.monotonic(), method, path, query, f"emulator-{number:08d}")
            self._records.append(record)
            return record

    def since(self, sequence: int = 0) -> list[RequestRecord]:
        """All requests after number `sequence`."""
        with self._lock:
            return [record for record in self._records if record.sequence > sequence]

    def clear(self) -> None:
        """Remove all records. The numbering continues."""
        with self._lock:
            self._records.clear()
