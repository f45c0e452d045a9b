"""What reads show: the claims as they are, or as they were some time ago.

Two things make a read old: the emulator's `list_lag`, for LIST and all claims, and a fault rule's
stale reads, for one claim and a limited time. All times are nanoseconds since 1970.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Reads = Literal["get", "list", "both"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A claim at one moment: its JSON, None if it did not exist, and the time of its last change."""

    body: bytes | None
    updated: int


@dataclass(frozen=True, slots=True)
class _StaleRead:
    snapshot: Snapshot
    until: int
    reads: Reads


class Visibility:
    """Decides which version of each claim a read shows."""

    def __init__(self, lag: int) -> None:
        """`lag` is how far LIST is behind, in nanoseconds."""
        self.lag = lag
        self._changes: deque[tuple[int, str, Snapshot]] = deque()
        self._lagged: dict[str, Snapshot] = {}
        self._stale: dict[str, _StaleRead] = {}

    @property
    def current(self) -> bool:
        """Whether every read shows the claims as they are."""
        return not self.lag and not self._stale

    def restore(self, claims: Iterable[tuple[str, Snapshot]]) -> None:
        """Start with claims that existed before; each appears in LIST once its change is old enough."""
        changes = [(snapshot.updated, claim_id, snapshot) for claim_id, snapshot in claims]
        self._changes = deque(sorted(changes, key=lambda change: change[0]))

    def note(self, claim_id: str, snapshot: Snapshot) -> None:
        """Note a change for the lagging LIST. Changes come in the order of their time."""
        self._changes.append((snapshot.updated, claim_id, snapshot))

    def freeze(self, claim_id: str, snapshot: Snapshot, until: int, reads: Reads) -> None:
        """Show an earlier version of one claim for a while."""
        self._stale[claim_id] = _StaleRead(snapshot, until, reads)

    def frozen(self, claim_id: str, now: int, read: Literal["get", "list"]) -> Snapshot | None:
        """The earlier version that this read shows, if any."""
        stale = self._stale.get(claim_id)
        if stale is None:
            return None
        if stale.until <= now:
            del self._stale[claim_id]
            return None
        return stale.snapshot if stale.reads in (read, "both") else None

    def listed(self, now: int, current: Callable[[], dict[str, Snapshot]]) -> dict[str, Snapshot]:
        """What LIST shows; `current` returns all claims as they are."""
        view = dict(self._behind(now)) if self.lag else current()
        for claim_id in list(self._stale):
            snapshot = self.frozen(claim_id, now, "list")
            if snapshot is not None:
                view[claim_id] = snapshot
        return {claim_id: snapshot for claim_id, snapshot in view.items() if snapshot.body is not None}

    def _behind(self, now: int) -> dict[str, Snapshot]:
        while self._changes and self._changes[0][0] <= now - self.lag:
            _, claim_id, snapshot = self._changes.popleft()
            if snapshot.body is None:
                self._lagged.pop(claim_id, None)
            else:
                self._lagged[claim_id] = snapshot
        return self._lagged
