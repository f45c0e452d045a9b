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
        self._held: dict[int, tuple[Hold, asyncio.Future[bool]]] = {}
        self._closed = False

    async def wait(self, hold: Hold) -> bool:
        """Wait to be released; False if the connection is to be closed instead."""
        released: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closed:
                return False
            self._held[hold.sequence] = (hold, released)
        return await released

    def current(self) -> list[Hold]:
        """The requests held now, oldest first."""
        with self._lock:
            return [hold for hold, _ in self._held.values()]

    def release(self, rule: str | None = None) -> int:
        """Release all held requests, or those of one rule; returns how many."""
        return self._end(rule, released=True)

    def drop(self) -> None:
        """Close the connections of all held requests."""
        self._end(None, released=False)

    def close(self) -> None:
        """Close the connections of all held requests, and hold no more."""
        self._closed = True
        self.drop()

    def _end(self, rule: str | None, *, released: bool) -> int:
        with self._lock:
            chosen = [number for number, (hold, _) in self._held.items() if rule is None or hold.rule == rule]
            for number in chosen:
                _, waiting = self._held.pop(number)
                waiting.get_loop().call_soon_threadsafe(_settle, waiting, released)
            return len(chosen)


def _settle(waiting: asyncio.Future[bool], released: bool) -> None:
    if not waiting.done():  # the request may have been cancelled meanwhile
        waiting.set_result(released)
