"""When to poll the claims that are waited for, and the clock for it.

The waits for readiness and for deletions follow the same rule:

    a claim joins, and the last look is long ago   look 50 ms later
    more claims join                               look half a second after the last one, at least every 5 s
    no claim joins                                 look again after 0.5, 1, 2, 3, 5, 5 … seconds

A single claim is looked at right away, and hundreds that join one by one share a few lists.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

FIRST_LOOK: Final = 0.05  # seconds after the first claim has joined
SETTLED: Final = 0.5  # seconds without another claim joining
PAUSES: Final = (0.5, 1.0, 2.0, 3.0, 5.0)  # seconds between looks; the last one repeats
LONGEST: Final = PAUSES[-1]


class Rounds:
    """When to look next. All times are seconds of one monotonic clock.

    `settled`: without another claim joining, until the claims that have joined are looked at.
    """

    def __init__(self, settled: float = SETTLED) -> None:
        self._settled = settled
        self.looked_at: float = float("-inf")
        self._first_joined: float | None = None  # of the claims not looked at yet
        self._last_joined = float("-inf")
        self._looks = 0  # since the last claim joined

    def join(self, now: float) -> None:
        """A claim joins the wait."""
        if self._first_joined is None:
            self._first_joined = now
        self._last_joined = now
        self._looks = 0

    def look(self, now: float) -> None:
        """All claims that have joined so far are being looked at."""
        self.looked_at = now
        self._first_joined = None
        self._looks += 1

    def due(self) -> float:
        """When to look next."""
        first = self._first_joined
        if first is None:
            return self.looked_at + PAUSES[min(self._looks, len(PAUSES)) - 1]
        if first - self.looked_at > LONGEST:
            return first + FIRST_LOOK
        return min(self._last_joined + self._settled, self.looked_at + LONGEST)


@dataclass(frozen=True)
class Clock:
    """The time, and how it passes. Tests pass their own functions."""

    now: Callable[[], float] = time.monotonic
    """Seconds of a monotonic clock."""
    sleep: Callable[[float], None] = time.sleep
    today: Callable[[], datetime] = lambda: datetime.now(UTC)
    """The date and time in UTC."""

    def poll_until(self, until: float, pauses: Sequence[float] = PAUSES) -> Iterator[None]:
        """Yield once for each look: now, after each pause, and for the last time at `until`."""
        coming = itertools.chain(pauses, itertools.repeat(pauses[-1]))
        yield
        while (left := until - self.now()) > 0:
            self.sleep(min(next(coming), left))
            yield
