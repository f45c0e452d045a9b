"""The log of API requests, which tests and benchmarks count."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice


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
    at: float = 0.0
    """Time of arrival, in seconds since 1970, by the emulator's clock."""

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        about = f" {self.claim}" if self.operation == "create" and self.claim else ""
        fault = f" by {self.fault}" if self.fault else ""
        outcome = self.status or ("open" if self.seconds is None else "no response")
        line = f"{self.method} {target}{about}: {outcome}{fault}"
        # What a client sends must not control the terminal that shows it.
        return line[:_LONGEST_LINE].encode("unicode_escape").decode("ascii")

    @property
    def size(self) -> int:
        """About how many bytes of memory the record takes. A parsed body takes more than its text."""
        texts = (self.method, self.path, self.query, self.claim, self.user_agent)
        return _OVERHEAD + sum(len(text) for text in texts if text) + _PARSED * self.bytes_in


_LONGEST_LINE = 2_000
_OVERHEAD = 600  # bytes of a record without its texts
_PARSED = 10  # bytes of memory per byte of a JSON body


class RequestLog:
    """The latest requests, oldest first. Safe to read from any thread."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._records: deque[RequestRecord] = deque()
        self._sizes: deque[int] = deque()
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._sequence = 0

    def open(self, method: str, path: str, query: str, at: float = 0.0) -> RequestRecord:
        """Add a request as it arrives; `at` is the emulator's time, in seconds since 1970."""
        with self._lock:
            self._sequence += 1
            number = self._sequence
            request_id = f"emulator-{number:08d}"
            record = RequestRecord(number, time.monotonic(), method, path, query, request_id, at=at)
            self._records.append(record)
            self._sizes.append(0)
            return record

    def measure(self, record: RequestRecord) -> None:
        """Count a record that has its body, and drop the oldest ones beyond the limits."""
        with self._lock:
            if self._records and record.sequence >= self._records[0].sequence:
                place = record.sequence - self._records[0].sequence
                self._bytes += record.size - self._sizes[place]
                self._sizes[place] = record.size
            while self._records and (len(self._records) > self._limit or self._bytes > self._limit_bytes):
                self._records.popleft()
                self._bytes -= self._sizes.popleft()

    def since(self, sequence: int = 0) -> list[RequestRecord]:
        """All requests after number `sequence`."""
        with self._lock:
            return [record for record in self._records if record.sequence > sequence]

    def latest(self, count: int) -> list[RequestRecord]:
        """The last `count` requests, newest first."""
        with self._lock:
            return list(islice(reversed(self._records), count))

    def clear(self) -> None:
        """Remove all records. The numbering continues."""
        with self._lock:
            self._records.clear()
            self._sizes.clear()
            self._bytes = 0
