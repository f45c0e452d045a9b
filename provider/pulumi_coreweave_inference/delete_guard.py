"""Which claims one operation has met, and which incarnation of each is the living one.

Each create draws an incarnation and puts it into the state. Where a replacement takes over a claim that
lives, the state holds two entries with one id, an older and a living one; the engine then deletes the older
one, and the claim must stay. Which one lives follows from what the engine asks for, in its order:

    create             the entry that it makes is the living one
    read, then diff    a refresh has met the entry; whether the program declares it is open
    diff alone         the program declares the entry
    delete             of the living entry: the claim is released; of another one: it stays
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .inputs import DECLARATION, INCARNATION, identity_of
from .obstacles import held_twice


@dataclass(frozen=True)
class _Alive:
    incarnation: str
    key: str | None  # of its declaration
    declared: bool  # by the program, or only met by a refresh


class DeleteGuard:
    """What one operation has seen of the claims in the state. Any thread may tell and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: dict[str, _Alive] = {}
        self._refreshed: Counter[str] = Counter()  # reads that no diff has followed yet
        self._released: dict[str, bool] = {}  # by id: whether a list has shown the claim before
        self.organization: str | None = None
        """The organization of a claim in the state; None while none was compared."""

    def created(self, claim_id: str, outputs: Mapping[str, Any]) -> None:
        """A claim was created or taken over."""
        with self._lock:
            self._alive[claim_id] = _Alive(
                identity_of(outputs)[INCARNATION], identity_of(outputs).get(DECLARATION), declared=True
            )
            self._released.pop(claim_id, None)

    def read(self, claim_id: str) -> None:
        """An entry of the state was read: a refresh then asks for its difference, too."""
        with self._lock:
            self._refreshed[claim_id] += 1

    def compared(self, claim_id: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> None:
        """An entry of the state was compared with its declaration.

        Raises `ClaimError` when the program declares the claim under another key, too.
        """
        key = identity_of(news).get(DECLARATION) or identity_of(olds).get(DECLARATION)
        with self._lock:
            declared = not self._refreshed[claim_id]
            self._refreshed[claim_id] = max(0, self._refreshed[claim_id] - 1)
            known = self._alive.get(claim_id)
            if declared and known is not None and known.declared and key != known.key:
                raise held_twice(claim_id, key, known.key)
            self._alive[claim_id] = _Alive(identity_of(olds).get(INCARNATION) or "", key, declared)
            self.organization = olds.get("organizationId") or self.organization

    def released(self, claim_id: str, *, shown: bool) -> None:
        """A claim was released; `shown`: whether a list has shown it before."""
        with self._lock:
            self._alive.pop(claim_id, None)
            self._released[claim_id] = shown

    def owner(self, claim_id: str) -> str | None:
        """The key of the declaration that holds a claim, as far as this operation has seen."""
        with self._lock:
            known = self._alive.get(claim_id)
            return known.key if known is not None else None

    def lives_on(self, claim_id: str, outputs: Mapping[str, Any]) -> bool:
        """Whether another incarnation of the claim than that of the entry is the living one."""
        with self._lock:
            known = self._alive.get(claim_id)
            return known is not None and known.incarnation != (identity_of(outputs).get(INCARNATION) or "")

    def settled(self, claim_id: str) -> bool:
        """Whether this operation has met a claim in the state, or has released it."""
        with self._lock:
            return claim_id in self._alive or claim_id in self._released

    def releases(self) -> tuple[int, set[str]]:
        """How many claims this operation has released, and which of them a list has shown before."""
        with self._lock:
            return len(self._released), {claim_id for claim_id, shown in self._released.items() if shown}
