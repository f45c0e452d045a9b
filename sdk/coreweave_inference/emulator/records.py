"""The log of requests, and the calls that are held: what tests count and wait for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class RequestRecord:
    """One request to the API. What is None is not known yet, or does not apply."""

    sequence: int
    """From 1, in order of arrival."""
    time: float
    """When it came, in seconds of a monotonic clock."""
    method: str
    path: str
    query: str
    request_id: str
    """As sent in `X-Request-Id`."""
    operation: str | None = None
    claim: str | None = None
    """The claim's id in the path, or in a create's body."""
    user_agent: str | None = None
    status: int | None = None
    """The HTTP status sent; None while open, and for a connection closed without an answer."""
    fault: str | None = None
    """The name of the fault rule that hit it."""
    committed: bool = False
    """Whether the API took the call, even if the answer was lost."""
    bytes_in: int = 0
    bytes_out: int = 0
    """Bytes of the bodies."""
    body: object = None
    """The JSON body of a write, tokens blacked out."""
    seconds: float | None = None
    """From arrival to the end of the answer."""

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        about = f" {self.claim}" if self.operation == "create" and self.claim else ""
        fault = f" by {self.fault}" if self.fault else ""
        target = target.encode("unicode_escape").decode("ascii")
        return f"{self.method} {target}{about}: {self.status or 'no answer'}{fault}"


class RequestLog:
    """The latest requests, oldest first. Any thread may read."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._records: deque[RequestRecord] = deque(maxlen=limit)
        self._sequence = 0

    def open(self, method: str, path: str, query: str) -> RequestRecord:
        """Note a request as it arrives."""
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
        """Forget all; the numbers go on."""
        with self._lock:
            self._records.clear()


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that waits to be released."""

    sequence: int
    """Its number in the request log."""
    rule: str
    when: str
    """`before` it takes effect, or `after` it was committed."""
    method: str
    path: str
    claim: str | None


class Holds:
    """The calls held now. They wait in the server's event loop; any thread may release them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[int, tuple[Hold, asyncio.Event, asyncio.AbstractEventLoop]] = {}
        self._closed = False

    async def wait(self, hold: Hold) -> bool:
        """Wait to be released; False if the server is closing instead."""
        released = asyncio.Event()
        with self._changed:
            if self._closed:
                return False
            self._held[hold.sequence] = (hold, released, asyncio.get_running_loop())
            self._changed.notify_all()
        await released.wait()
        return not self._closed

    def current(self) -> list[Hold]:
        """The calls held now, oldest first."""
        with self._changed:
            return [hold for hold, _, _ in self._held.values()]

    def wait_for(self, count: int, timeout: float) -> list[Hold]:
        """Block until `count` calls are held; TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._held) >= count, timeout):
                raise TimeoutError(f"{len(self._held)} of {count} calls held after {timeout:g} s")
            return [hold for hold, _, _ in self._held.values()]

    def release(self, rule: str | None = None) -> int:
        """Let all held calls go on, or those of one rule; returns how many."""
        with self._changed:
            chosen = [
                number for number, (hold, _, _) in self._held.items() if rule is None or hold.rule == rule
            ]
            for number in chosen:
                _, released, loop = self._held.pop(number)
                loop.call_soon_threadsafe(released.set)
            return len(chosen)

    def close(self) -> None:
        """Let all go, and keep no other."""
        self._closed = True
        self.release()
