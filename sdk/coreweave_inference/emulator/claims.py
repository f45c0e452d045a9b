"""All claims: what each operation of the API does to them, and what happens as time passes.

Reads are served from memory. With a state file, every change is written in one transaction before
the operation returns, so a restart, even after a kill, finds everything that was ever returned,
including allocation progress and times. Time passes only during a call: each operation first computes
what was due since the last one, at the time it was due.
"""

from __future__ import annotations

import heapq
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from coreweave_inference.emulator.allocation import Allocation, Holding
from coreweave_inference.emulator.claim import (
    Claim,
    ClaimEdit,
    ClaimRecord,
    SpecEdit,
    record_of,
    shown_status,
    spec_block,
    status_block,
)
from coreweave_inference.emulator.decoding import CAPACITY_TYPES, CreateRequest, Resources
from coreweave_inference.emulator.errors import (
    ApiError,
    Violation,
    failed_precondition,
    invalid_argument,
    resource_error,
)
from coreweave_inference.emulator.history import History, Point
from coreweave_inference.emulator.persistence import MOST_OFFSET, Saved, StateFile
from coreweave_inference.emulator.settings import (
    DEFAULT_INVENTORY,
    EmulatorSettings,
    Inventory,
    Stock,
    check_inventory,
)
from coreweave_inference.emulator.visibility import Reads, Snapshot, Visibility

_CAPACITY_TYPE_NAMES = {number: name for name, number in CAPACITY_TYPES.items()}
_SECOND = 1_000_000_000
_NEVER = 1 << 100

_Event = Literal["removal", "end of override", "end of stale status", "shortage failure"]


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything at one moment."""

    now: int
    """The emulator's time, in nanoseconds since 1970."""
    stock: Mapping[str, Mapping[str, Stock]]
    """By zone and instance type."""
    claims: list[ClaimRecord]
    """The newest ones, newest first."""
    count: int
    """Of all claims."""
    histories: Mapping[str, tuple[Point, ...]]
    """The allocation of each claim over time, by its id."""


class Claims:
    """The claims of the emulator. Every public method is atomic and safe to call from any thread."""

    def __init__(
        self,
        settings: EmulatorSettings,
        *,
        clock: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`clock` returns nanoseconds since 1970, `new_id` a UUID for a create without an id.

        Raises ValueError if the state file cannot be used.
        """
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._lock = threading.RLock()
        self._last = 0
        self._sequence = 0
        self._unsaved: set[str] = set()
        self._file = StateFile(settings.state) if settings.state is not None else None
        saved = self._file.load() if self._file is not None else Saved()
        self._meta = saved.meta
        chosen = settings.inventory
        if chosen is None:
            chosen = saved.meta.inventory or DEFAULT_INVENTORY
        self._first_inventory = check_inventory(chosen)
        self._begin(saved.removed)
        try:
            self._restore(saved.claims)
            with self._lock:
                now = self._advance()
                self._changed(self._allocation.set_stock(self._inventory), now)
                for claim in self._claims.values():
                    self._body(claim)
                self._save()
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            if self._file is None:
                raise
            raise self._file.refuse(f"{type(error).__name__}: {error}") from error

    def _begin(self, removed: dict[str, bytes]) -> None:
        """Start without claims, with the stock of the start; `removed` are the claims that are gone."""
        settings = self._settings
        self._claims: dict[str, Claim] = {}
        self._removed = removed
        self._bodies: dict[str, bytes] = {}
        self._names: dict[str, set[str]] = {}
        self._events: list[tuple[int, int, _Event, str]] = []
        self._visibility = Visibility(int(settings.list_lag * _SECOND))
        self._history = History()
        self._inventory = check_inventory(self._first_inventory)
        self._parameters: bytes | None = None
        self._allocation = Allocation(
            self._inventory,
            delay=int(settings.allocation_delay * _SECOND),
            spread=int(settings.allocation_spread * _SECOND),
        )

    # The operations of the API

    def create(self, request: CreateRequest) -> bytes:
        """Add a claim; returns it as JSON."""
        with self._lock:
            now = self._advance()
            claim_id = request.id or self._new_id()
            wanted = request.resources
            self._check_catalogue(wanted)
            if claim_id in self._claims or (claim_id in self._removed and not self._settings.reuse_ids):
                text = f"capacity claim {claim_id} already exists"
                raise resource_error("already_exists", claim_id, text)
            if self._settings.unique_names and self._names.get(request.name):
                text = f'a capacity claim with the name "{request.name}" already exists'
                raise resource_error("already_exists", request.name, text)
            self._sequence += 1
            claim = Claim(
                id=claim_id,
                name=request.name,
                holding=Holding(wanted.instance_id, wanted.zones, wanted.instance_count),
                capacity_type=_CAPACITY_TYPE_NAMES[wanted.capacity_type],
                organization_id=self._settings.organization_id,
                created=now,
                updated=now,
                sequence=self._sequence,
            )
            self._removed.pop(claim_id, None)
            self._claims[claim_id] = claim
            self._names.setdefault(claim.name, set()).add(claim_id)
            self._allocation.add(claim_id, claim.holding, now)
            self._changed([claim_id], now)
            return self._answer(claim)

    def get(self, claim_id: str) -> bytes:
        """One claim as JSON, or ApiError `not_found`."""
        with self._lock:
            now = self._advance()
            self._save()
            snapshot = self._visibility.frozen(claim_id, now, "get")
            if snapshot is None:
                return self._body(self._claim(claim_id))
            if snapshot.body is None:
                raise _not_found(claim_id)
            return snapshot.body

    def list_claims(self, updated_after: int | None) -> list[bytes]:
        """All claims as JSON, oldest first; with `updated_after` (inclusive) those changed since.

        It is unknown whether the API's bound is inclusive; an inclusive one loses nothing.
        """
        with self._lock:
            now = self._advance()
            self._save()
            if self._visibility.current:
                return [
                    self._body(claim)
                    for claim in self._claims.values()
                    if updated_after is None or claim.updated >= updated_after
                ]
            return [
                snapshot.body
                for snapshot in self._visibility.listed(now, self._snapshots).values()
                if snapshot.body is not None and (updated_after is None or snapshot.updated >= updated_after)
            ]

    def update(self, claim_id: str, wanted: Resources) -> bytes:
        """Change the resources of a claim; returns it as JSON."""
        with self._lock:
            now = self._advance()
            claim = self._claim(claim_id)
            if claim.removed_at is not None:
                text = f"capacity claim {claim_id} is being deleted"
                raise failed_precondition("DELETING", claim_id, text)
            self._check_catalogue(wanted)
            if not self._may_patch(claim, wanted):
                return self._answer(claim)
            if wanted.instance_count < claim.holding.count and self._settings.refuse_release:
                text = "instances in use cannot be released"
                raise failed_precondition("IN_USE", claim_id, text)
            if _changed_fields(claim, wanted):
                self._keep_stale_status(claim, now)
                self._set_resources(claim, wanted.instance_id, wanted.zones, wanted.instance_count, now)
                claim.capacity_type = _CAPACITY_TYPE_NAMES[wanted.capacity_type]
                self._changed([claim_id], now)
            return self._answer(claim)

    def delete(self, claim_id: str) -> bytes:
        """Start a deletion; returns the claim in its last state as JSON."""
        with self._lock:
            now = self._advance()
            repeated = claim_id not in self._claims and claim_id in self._removed
            if repeated and self._settings.repeated_delete == "last_state":
                self._save()
                return self._removed[claim_id]
            claim = self._claim(claim_id)
            if claim.removed_at is None:
                if self._settings.refuse_release and claim.holding.allocated:
                    text = "a capacity claim with instances in use cannot be deleted"
                    raise failed_precondition("IN_USE", claim_id, text)
                self._keep_stale_status(claim, now)
                self._allocation.stop(claim_id)
                claim.short_since = None
                claim.removed_at = now + int(self._settings.delete_delay * _SECOND)
                self._schedule(claim.removed_at, "removal", claim)
                self._changed([claim_id], now)
            return self._answer(claim)

    def parameters(self) -> bytes:
        """Zones and the instance types they offer, in stock or not, as JSON."""
        with self._lock:
            if self._parameters is None:
                zones = {
                    zone: {"instanceIds": sorted(types)} if types else {}
                    for zone, types in self._inventory.items()
                }
                self._parameters = _json({"zoneInstanceTypes": zones})
            return self._parameters

    # Inspection and changes from outside the API

    def time(self) -> int:
        """The emulator's time, in nanoseconds since 1970. Does not let time pass."""
        return self._clock() + self._meta.clock_offset

    def name_of(self, claim_id: str) -> str | None:
        """The name of a claim. Does not let time pass."""
        claim = self._claims.get(claim_id)
        return claim.name if claim is not None else None

    def records(self) -> list[ClaimRecord]:
        """All claims with internals, oldest first."""
        with self._lock:
            self._advance()
            self._save()
            return [record_of(claim, self._settings, self._inventory) for claim in self._claims.values()]

    def overview(self, most: int) -> Overview:
        """The newest claims, at most so many, their histories and the stock, at one moment."""
        with self._lock:
            stock = self.stock()
            newest = list(islice(reversed(self._claims.values()), most))
            records = [record_of(claim, self._settings, self._inventory) for claim in newest]
            histories = {claim.id: self._history.of(claim.id) for claim in newest}
            return Overview(self._last, stock, records, len(self._claims), histories)

    def reset(self) -> None:
        """Remove all claims and what is remembered of them, and restore the stock of the start.

        The clock stays where it is, as it only moves forward.
        """
        with self._lock:
            self._advance()
            self._begin(removed={})
            self._unsaved = set()
            self._meta.inventory = self._first_inventory
            if self._file is not None:
                self._file.clear_claims()
            self._save_meta()

    def edit(self, claim_id: str, edit: ClaimEdit, *, delete: bool = False) -> None:
        """Change a claim from outside, without the checks of the API.

        `delete` removes the claim at once, without DELETING. Raises KeyError if the claim does
        not exist.
        """
        with self._lock:
            now = self._advance()
            claim = self._claims.get(claim_id)
            if claim is None:
                raise KeyError(f"capacity claim {claim_id} not found")
            if edit.spec is not None:
                self._edit_spec(claim, edit.spec, now)
            if edit.status is not None:
                merged = {**claim.status_override, **edit.status}
                claim.status_override = {key: value for key, value in merged.items() if value is not None}
                claim.override_until = None
                if edit.seconds is not None:
                    claim.override_until = now + int(edit.seconds * _SECOND)
                    self._schedule(claim.override_until, "end of override", claim)
            self._changed([claim_id], now)
            if delete:
                self._remove(claim, now)
            self._save()

    def snapshot(self, claim_id: str) -> Snapshot:
        """A claim as it is now, for `freeze`."""
        with self._lock:
            self._advance()
            claim = self._claims.get(claim_id)
            return Snapshot(None, 0) if claim is None else Snapshot(self._body(claim), claim.updated)

    def freeze(self, claim_id: str, snapshot: Snapshot, seconds: float, reads: Reads) -> None:
        """Answer reads of a claim with an earlier snapshot for some seconds."""
        with self._lock:
            until = self._advance() + int(seconds * _SECOND)
            self._visibility.freeze(claim_id, snapshot, until, reads)

    def inventory(self) -> dict[str, dict[str, int]]:
        """The stock, by zone and instance type."""
        with self._lock:
            return check_inventory(self._inventory)

    def stock(self) -> dict[str, dict[str, Stock]]:
        """How many instances exist, and how many no claim holds, by zone and instance type."""
        with self._lock:
            self._advance()
            self._save()
            return {
                zone: {name: Stock(total, self._allocation.free(zone, name)) for name, total in types.items()}
                for zone, types in self._inventory.items()
            }

    def set_inventory(self, inventory: Inventory, *, merge: bool = False) -> None:
        """Replace the stock, or with `merge` only the counts named. Waiting claims are served."""
        checked = check_inventory(inventory)
        with self._lock:
            now = self._advance()
            if merge:
                zones = [*self._inventory, *(zone for zone in checked if zone not in self._inventory)]
                checked = {zone: {**self._inventory.get(zone, {}), **checked.get(zone, {})} for zone in zones}
            self._inventory = checked
            self._parameters = None
            self._changed(self._allocation.set_stock(checked), now)
            self._meta.inventory = checked
            self._save_meta()
            self._save()

    def now(self) -> int:
        """The emulator's time, in nanoseconds since 1970."""
        with self._lock:
            now = self._advance()
            self._save()
            return now

    def advance_clock(self, seconds: float) -> int:
        """Advance the clock; returns the new time in nanoseconds since 1970."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        with self._lock:
            offset = self._meta.clock_offset + int(seconds * _SECOND)
            if offset > MOST_OFFSET:
                raise ValueError("the clock would leave the calendar")
            self._meta.clock_offset = offset
            self._save_meta()
            return self.now()

    def close(self) -> None:
        """Save and close the state file."""
        with self._lock:
            if self._file is not None:
                self._save()
                self._file.close()
                self._file = None

    # Time

    def _advance(self) -> int:
        """Apply everything that was due until now, in the order it was due; returns now."""
        now = max(self._last, self.time())
        self._last = now
        while True:
            allocation_due = self._allocation.next_due()
            event_due = self._events[0][0] if self._events else None
            if min(allocation_due or _NEVER, event_due or _NEVER) > now:
                return now
            if event_due is not None and event_due < (allocation_due or _NEVER):
                due, _, event, claim_id = heapq.heappop(self._events)
                self._apply(event, claim_id, due)
            elif allocation_due is not None:
                served = self._allocation.step()
                if served is not None:
                    self._changed([served], allocation_due)

    def _apply(self, event: _Event, claim_id: str, due: int) -> None:
        """Apply an event, unless a later change of the claim has made it obsolete."""
        claim = self._claims.get(claim_id)
        if claim is None:
            return
        if event == "removal" and claim.removed_at == due:
            self._remove(claim, due)
        elif event == "end of override" and claim.override_until == due:
            claim.status_override, claim.override_until = {}, None
            self._changed([claim_id], due)
        elif event == "end of stale status" and claim.stale_until == due:
            claim.stale_status, claim.stale_until = None, None
            self._changed([claim_id], due)
        elif event == "shortage failure" and self._fails_at(claim) == due:
            claim.failed = True
            self._allocation.stop(claim_id)
            self._changed([claim_id], due)

    def _fails_at(self, claim: Claim) -> int | None:
        if self._settings.shortage != "failed" or claim.short_since is None:
            return None
        return claim.short_since + int(self._settings.shortage_failed_after * _SECOND)

    def _schedule(self, due: int, event: _Event, claim: Claim) -> None:
        heapq.heappush(self._events, (due, claim.sequence, event, claim.id))

    def _changed(self, claim_ids: Iterable[str], at: int) -> None:
        """Note that claims changed at a time: their JSON is outdated and has to be saved."""
        for claim_id in claim_ids:
            claim = self._claims[claim_id]
            claim.updated = at
            self._bodies.pop(claim_id, None)
            if not claim.holding.missing:
                claim.short_since = None
            elif claim.short_since is None:
                claim.short_since = at
                fails_at = self._fails_at(claim)
                if fails_at is not None:
                    self._schedule(fails_at, "shortage failure", claim)
            self._unsaved.add(claim_id)
            self._note(claim, at)
            if self._visibility.lag:
                self._visibility.note(claim_id, Snapshot(self._body(claim), at))

    def _note(self, claim: Claim, at: int) -> None:
        held, status = claim.holding, shown_status(claim, self._settings)
        self._history.note(claim.id, Point(at, held.allocated, held.count, status))

    # Changes

    def _claim(self, claim_id: str) -> Claim:
        claim = self._claims.get(claim_id)
        if claim is None:
            raise _not_found(claim_id)
        return claim

    def _check_catalogue(self, wanted: Resources) -> None:
        violations = [
            Violation(f"resources.zones[{index}]", f'zone "{zone}" does not exist')
            for index, zone in enumerate(wanted.zones)
            if zone not in self._inventory
        ]
        if not any(wanted.instance_id in self._inventory.get(zone, {}) for zone in wanted.zones):
            text = "must be a valid instance type within at least one of the specified zones"
            violations.append(Violation("resources.instance_id", text))
        if violations:
            raise invalid_argument(violations)

    def _may_patch(self, claim: Claim, wanted: Resources) -> bool:
        """Whether the change is applied; raises ApiError where it is refused."""
        changed = _changed_fields(claim, wanted)
        if not changed and self._settings.unchanged_patch != "accepted":
            if self._settings.unchanged_patch == "failed_precondition":
                raise failed_precondition("UNCHANGED", claim.id, "nothing would change")
            raise ApiError("invalid_argument", "nothing would change")
        refused = [path for name, path in changed.items() if name not in self._settings.patchable_fields]
        if not refused or self._settings.patch_refusal == "ignored":
            return not refused
        if self._settings.patch_refusal == "failed_precondition":
            text = f"{', '.join(refused)}: cannot be changed"
            raise failed_precondition("IMMUTABLE", claim.id, text)
        raise invalid_argument([Violation(path, "field is immutable") for path in refused])

    def _set_resources(
        self, claim: Claim, instance_id: str, zones: tuple[str, ...], count: int, now: int
    ) -> None:
        held = claim.holding
        if claim.removed_at is not None:
            held.count = count
            return
        if claim.failed or (instance_id, zones) != (held.instance_id, held.zones):
            served = self._allocation.reshape(claim.id, instance_id, zones, count, now)
        elif count != held.count:
            served = self._allocation.resize(claim.id, count, now)
        else:
            return
        claim.failed = False
        claim.phase = "STATUS_UPDATING"
        self._changed(served, now)

    def _edit_spec(self, claim: Claim, edit: SpecEdit, now: int) -> None:
        held, wanted = claim.holding, edit.resources
        self._set_resources(
            claim,
            held.instance_id if wanted.instance_id is None else wanted.instance_id,
            held.zones if wanted.zones is None else wanted.zones,
            held.count if wanted.instance_count is None else wanted.instance_count,
            now,
        )
        if wanted.capacity_type is not None:
            claim.capacity_type = wanted.capacity_type
        if edit.name is not None:
            self._forget_name(claim)
            claim.name = edit.name
            self._names.setdefault(claim.name, set()).add(claim.id)
        if edit.organization_id is not None:
            claim.organization_id = edit.organization_id
        claim.extra_spec |= edit.model_extra or {}

    def _keep_stale_status(self, claim: Claim, now: int) -> None:
        if self._settings.stale_status_for and claim.stale_until is None:
            claim.stale_status = status_block(claim, self._settings, self._inventory)
            claim.stale_until = now + int(self._settings.stale_status_for * _SECOND)
            self._schedule(claim.stale_until, "end of stale status", claim)

    def _remove(self, claim: Claim, at: int) -> None:
        self._removed[claim.id] = self._body(claim)
        del self._claims[claim.id]
        del self._bodies[claim.id]
        self._forget_name(claim)
        self._history.forget(claim.id)
        self._unsaved.add(claim.id)
        if self._visibility.lag:
            self._visibility.note(claim.id, Snapshot(None, at))
        self._changed(self._allocation.remove(claim.id), at)

    def _forget_name(self, claim: Claim) -> None:
        self._names[claim.name].discard(claim.id)
        if not self._names[claim.name]:
            del self._names[claim.name]

    # JSON and the state file

    def _body(self, claim: Claim) -> bytes:
        body = self._bodies.get(claim.id)
        if body is None:
            spec = spec_block(claim, self._settings)
            status = status_block(claim, self._settings, self._inventory)
            body = self._bodies[claim.id] = _json({"spec": spec, "status": status})
        return body

    def _snapshots(self) -> dict[str, Snapshot]:
        return {key: Snapshot(self._body(claim), claim.updated) for key, claim in self._claims.items()}

    def _answer(self, claim: Claim) -> bytes:
        self._save()
        return self._body(claim)

    def _save(self) -> None:
        if not self._unsaved:
            return
        unsaved, self._unsaved = self._unsaved, set()
        if self._file is not None:
            self._file.save_claims(
                [self._claims[claim_id] for claim_id in unsaved if claim_id in self._claims],
                {claim_id: self._removed[claim_id] for claim_id in unsaved if claim_id not in self._claims},
            )

    def _save_meta(self) -> None:
        if self._file is not None:
            self._file.save_meta(self._meta)

    def _restore(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self._claims[claim.id] = claim
            self._names.setdefault(claim.name, set()).add(claim.id)
            self._sequence = max(self._sequence, claim.sequence)
            self._last = max(self._last, claim.updated)
            self._allocation.restore(claim.id, claim.holding)
            self._note(claim, claim.updated)
            events: list[tuple[int | None, _Event]] = [
                (claim.removed_at, "removal"),
                (claim.override_until, "end of override"),
                (claim.stale_until, "end of stale status"),
                (None if claim.failed else self._fails_at(claim), "shortage failure"),
            ]
            for due, event in events:
                if due is not None:
                    self._schedule(due, event, claim)
        if self._visibility.lag:
            self._visibility.restore(self._snapshots().items())


def _changed_fields(claim: Claim, wanted: Resources) -> dict[str, str]:
    """Fields of `resources` that differ: the API's name to the snake_case path."""
    held = claim.holding
    changed: dict[str, str] = {}
    if wanted.instance_id != held.instance_id:
        changed["instanceId"] = "resources.instance_id"
    if wanted.instance_count != held.count:
        changed["instanceCount"] = "resources.instance_count"
    if wanted.zones != held.zones:
        changed["zones"] = "resources.zones"
    if _CAPACITY_TYPE_NAMES[wanted.capacity_type] != claim.capacity_type:
        changed["capacityType"] = "resources.capacity_type"
    return changed


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _not_found(claim_id: str) -> ApiError:
    return resource_error("not_found", claim_id, f"capacity claim {claim_id} not found")
