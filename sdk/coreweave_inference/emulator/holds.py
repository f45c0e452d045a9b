"""Requests that a fault rule holds until somebody releases them."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hold:
    """A request that waits to be released."""

    sequence: int
    """Its number in the request log."""
    rule: str
    """The name of the fault rule that holds it."""
    when: str
    """`before` it takes effect, or `after` it was committed."""
    method: str
    path: str
    claim: str | None


class Holds:
    """The requests held now. They wait in the server's event loop; any thread may release them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, tuple[Hold, asyncio.Event, asyncio.AbstractEventLoop]] = {}
        self._closed = False

    async def wait(self, hold: Hold) -> bool:
        """Wait to be released; False if the server closes instead."""
        released = asyncio.Event()
        with self._lock:
            if self._closed:
                return False
            self._held[hold.sequence] = (hold, released, asyncio.get_running_loop())
        await released.wait()
        return not self._closed

    def current(self) -> list[Hold]:
        """The requests held now, oldest first."""
        with self._lock:
            return [hold for hold, _, _ in self._held.values()]

    def release(self, rule: str | None = None) -> int:
        """Release all held requests, or those of one rule; returns how many."""
        with self._lock:
            chosen = [
                number for number, (hold, _, _) in self._held.items() if rule is None or hold.rule == rule
            ]
            for number in chosen:
                _, released, loop = self._held.pop(number)
                loop.call_soon_threadsafe(released.set)
            return len(chosen)

    def close(self) -> None:
        """Release all requests, and hold no more."""
        self._closed = True
        self.release()
