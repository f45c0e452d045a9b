"""Which entry of the state may delete a claim, and which declaration holds it.

Each create writes a fresh random `incarnation` into the state. When a replacement adopts a claim that is
alive, the state holds two entries with one id, an older one and the current one. The engine then deletes
the older entry, and the claim must stay. Which entry is current follows from the calls of the engine:

    create             the entry that it writes is current
    read, then diff    a refresh has read the entry; whether the program declares it is not known yet
    diff alone         the program declares the entry, so it is current
    delete             of the current entry: the claim is released; of a superseded one: the claim stays

A new declaration may compute the id of a claim that another entry holds, as after a rename. `check` foresees
that it would take the claim over; if the other entry is then compared, the program holds one claim twice.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ClaimError, labelled, text
from .foreign_text import Lines
from .identity import resource_name_of
from .inputs import DECLARATION, INCARNATION, identity_of


class DuplicateOwnership(ClaimError):
    """The program declares one claim under two keys."""


@dataclass(frozen=True)
class _Current:
    incarnation: str
    key: str | None  # of its declaration
    declared: bool  # by the program; False if only a refresh has read it


class DeleteGuard:
    """What one operation has seen of the claims in the state. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: dict[str, _Current] = {}
        self._refreshed: Counter[str] = Counter()  # reads that no diff has followed yet
        self._foreseen: dict[str, str] = {}  # by id: the key of the new declaration that would take it over
        self._released: dict[str, bool] = {}  # by id: whether a list had shown the claim before

    def on_create(self, claim_id: str, outputs: Mapping[str, Any]) -> None:
        """A claim was created or adopted."""
        identity = identity_of(outputs)
        with self._lock:
            self._current[claim_id] = _Current(
                identity[INCARNATION], identity.get(DECLARATION), declared=True
            )
            self._released.pop(claim_id, None)
            self._foreseen.pop(claim_id, None)

    def on_takeover(self, claim_id: str, key: str) -> None:
        """A new declaration will take over an existing claim.

        Raises `DuplicateOwnership` when another declaration of the program holds it.
        """
        with self._lock:
            known = self._current.get(claim_id)
            if known is not None and known.declared and known.key != key:
                raise _takeover_of_a_held_claim(claim_id, key, known.key)
            self._foreseen[claim_id] = key

    def on_read(self, claim_id: str) -> None:
        """An entry was read by a refresh, which then asks for its diff as well."""
        with self._lock:
            self._refreshed[claim_id] += 1

    def on_diff(self, claim_id: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> None:
        """An entry was compared with its declaration.

        Raises `DuplicateOwnership` when the program declares the claim under another key as well.
        """
        before = identity_of(olds)
        key = identity_of(news).get(DECLARATION) or before.get(DECLARATION)
        with self._lock:
            declared = not self._refreshed[claim_id]
            self._refreshed[claim_id] = max(0, self._refreshed[claim_id] - 1)
            known = self._current.get(claim_id)
            if declared and known is not None and known.declared and key != known.key:
                raise _duplicate_ownership(claim_id, key, known.key)
            # Even if this is an error: a create that runs at the same time must not adopt the claim.
            self._current[claim_id] = _Current(before.get(INCARNATION) or "", key, declared)
            foreseen = self._foreseen.get(claim_id)
            if declared and (known is None or not known.declared) and foreseen not in (None, key):
                raise _takeover_of_a_held_claim(claim_id, foreseen, key)

    def on_delete(self, claim_id: str, *, listed_before: bool) -> None:
        """A claim was released; `listed_before`: whether a list of this operation had shown it."""
        with self._lock:
            self._current.pop(claim_id, None)
            self._foreseen.pop(claim_id, None)
            self._released[claim_id] = listed_before

    def owner(self, claim_id: str) -> str | None:
        """The key of the declaration that holds a claim, if this operation has seen it."""
        with self._lock:
            known = self._current.get(claim_id)
            return known.key if known is not None else None

    def is_declared_by(self, claim_id: str, key: str) -> bool:
        """Whether this operation has compared the claim with the declaration that has this key."""
        with self._lock:
            known = self._current.get(claim_id)
            return known is not None and known.declared and known.key == key

    def refuse_held(self, claim_id: str, key: str) -> None:
        """Raise `DuplicateOwnership` if another declaration than that with this key holds the claim."""
        with self._lock:
            known = self._current.get(claim_id)
            if known is not None and known.key not in (None, key):
                raise _takeover_of_a_held_claim(claim_id, key, known.key)

    def is_superseded(self, claim_id: str, outputs: Mapping[str, Any]) -> bool:
        """Whether another entry of the state is the current one of this claim."""
        with self._lock:
            known = self._current.get(claim_id)
            return known is not None and known.incarnation != (identity_of(outputs).get(INCARNATION) or "")

    def is_accounted_for(self, claim_id: str) -> bool:
        """Whether this operation has seen a claim in the state, or has released it."""
        with self._lock:
            return claim_id in self._current or claim_id in self._released

    def is_declared(self, claim_id: str) -> bool:
        """Whether the program declares a claim of the state; a refresh alone does not show that."""
        with self._lock:
            known = self._current.get(claim_id)
            return known is not None and known.declared

    def is_foreseen(self, claim_id: str) -> bool:
        """Whether this operation has said that the claim is taken over."""
        with self._lock:
            return claim_id in self._foreseen

    def has_released(self, claim_id: str) -> bool:
        """Whether this operation has released the claim."""
        with self._lock:
            return claim_id in self._released

    @property
    def released(self) -> Mapping[str, bool]:
        """The claims that this operation has released, and whether a list had shown each before."""
        with self._lock:
            return dict(self._released)


def kept(claim_id: str, resource_name: str) -> Lines:
    """What is said of a claim when a superseded entry of it is deleted."""
    return text(
        f"{labelled(resource_name, claim_id)} is kept: the entry removed from the state was an outdated "
        "entry of a claim that is still in use."
    )


def _duplicate_ownership(claim_id: str, one: str | None, other: str | None) -> DuplicateOwnership:
    first, second = resource_name_of(one or "unnamed"), resource_name_of(other or "unnamed")
    return DuplicateOwnership(
        text(
            f"{labelled(first, claim_id)} is already held by the resource '{second}'.",
            said=["this happens when a resource is renamed and a new claim is declared with the old name"],
            held=f"the claim; the state lists it under '{first}' and under '{second}'.",
            then=[
                "remove the newer of the two from the state with `pulumi state delete URN`, then declare it "
                "again with depends_on the renamed resource, or under a name that was never used"
            ],
        )
    )


def _takeover_of_a_held_claim(claim_id: str, new: str | None, holder: str | None) -> DuplicateOwnership:
    first, second = resource_name_of(new or "unnamed"), resource_name_of(holder or "unnamed")
    return DuplicateOwnership(
        text(
            f"{labelled(first, claim_id)} would take over the claim of the resource '{second}'.",
            said=[f"'{second}' was created under the name '{first}', so both compute the same id"],
            held="the claim, unchanged.",
            then=[
                f"declare '{first}' with ResourceOptions(depends_on=[…]) on the resource '{second}', or give "
                "it a name that was never used"
            ],
        )
    )
