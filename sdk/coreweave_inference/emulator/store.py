"""The claims: what each operation does to them, in memory or in a SQLite file.

Reads are served from memory. With a file, every change is written in one transaction before the
operation returns, so a restart, or a kill, finds all that was ever answered, allocation progress
and times included. Time passes only when somebody asks: each operation first computes what was due
since the last one, at the time it was due.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from coreweave_inference.emulator.allocation import Allocation, Ask, Holding
from coreweave_inference.emulator.edits import spec_edit
from coreweave_inference.emulator.failures import (
    ApiError,
    Violation,
    failed_precondition,
    invalid_argument,
    resource_error,
)
from coreweave_inference.emulator.settings import (
    DEFAULT_INVENTORY,
    EmulatorSettings,
    Inventory,
    check_inventory,
)
from coreweave_inference.emulator.strict import (
    CAPACITY_TYPES,
    CreateRequest,
    Resources,
    format_timestamp,
)

_CAPACITY_TYPE_NAMES = {number: name for name, number in CAPACITY_TYPES.items()}
_SECOND = 1_000_000_000
_NEVER = 1 << 100


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """A claim as the emulator has it, internals included."""

    id: str
    name: str
    status: str | int
    """As answered: `STATUS_READY`, or whatever a foreign edit wrote."""
    instance_id: str
    instance_count: int
    zones: tuple[str, ...]
    allocation: dict[str, int]
    """Instances really allocated, by zone."""
    waiting: int
    """Instances it waits for because there is no stock."""
    answer: dict[str, object]
    """The claim as GET answers it: `spec` and `status`."""


@dataclass(slots=True)
class _Claim:
    id: str
    name: str
    holding: Holding
    capacity_type: int | str
    organization_id: str
    created: int
    updated: int
    sequence: int
    phase: str = "STATUS_CREATING"
    gone_at: int | None = None
    short_since: int | None = None
    failed: bool = False
    extra_spec: dict[str, object] = field(default_factory=dict)
    forced_status: dict[str, object] = field(default_factory=dict)
    forced_until: int | None = None
    stale_status: dict[str, object] | None = None
    stale_until: int | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class _StaleView:
    """What reads of one claim answer for a while; a body of None is "no such claim"."""

    until: int
    body: bytes | None
    updated: int
    reads: Literal["get", "list", "both"]


class Store:
    """All claims. Every public method is atomic and may be called from any thread."""

    def __init__(
        self,
        settings: EmulatorSettings,
        *,
        clock: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`clock` tells nanoseconds since 1970, `new_id` makes a UUID for a create without one."""
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._offset = 0
        self._last = 0
        self._lock = threading.RLock()
        self._claims: dict[str, _Claim] = {}
        self._names: dict[str, set[str]] = {}
        self._gone: dict[str, bytes] = {}
        self._events: list[tuple[int, int, str, str]] = []
        self._sequence = 0
        self._dirty: set[str] = set()
        self._stale: dict[str, _StaleView] = {}
        self._lag = int(settings.list_lag * _SECOND)
        self._changes: deque[tuple[int, str, bytes | None, int]] = deque()
        self._lagged: dict[str, tuple[bytes, int]] = {}
        self._database = _open(settings)
        saved = self._load_meta()
        chosen = settings.inventory
        if chosen is None:
            chosen = check_inventory(saved.get("inventory") or DEFAULT_INVENTORY)
        self._inventory: dict[str, dict[str, int]] = check_inventory(chosen)
        self._parameters: bytes | None = None
        self._allocation = Allocation(
            self._inventory,
            delay=int(settings.allocation_delay * _SECOND),
            spread=int(settings.allocation_spread * _SECOND),
        )
        offset = saved.get("offset", 0)
        self._offset = offset if isinstance(offset, int) else 0
        self._load_claims()
        with self._lock:
            now = self._advance()
            self._touch(self._allocation.set_stock(self._inventory), now)
            self._flush()

    # The API's operations

    def create(self, request: CreateRequest) -> bytes:
        """Keep a new claim; returns it as JSON."""
        with self._lock:
            now = self._advance()
            claim_id = request.id or self._new_id()
            self._check_catalogue(request.resources)
            if claim_id in self._claims or (claim_id in self._gone and not self._settings.reuse_ids):
                text = f"capacity claim {claim_id} already exists"
                raise resource_error("already_exists", claim_id, text)
            if self._settings.unique_names and self._names.get(request.name):
                text = f'a capacity claim with the name "{request.name}" already exists'
                raise resource_error("already_exists", request.name, text)
            wanted = request.resources
            self._sequence += 1
            claim = _Claim(
                id=claim_id,
                name=request.name,
                holding=Holding(wanted.instance_id, wanted.zones, wanted.instance_count),
                capacity_type=_CAPACITY_TYPE_NAMES[wanted.capacity_type],
                organization_id=self._settings.organization_id,
                created=now,
                updated=now,
                sequence=self._sequence,
            )
            self._gone.pop(claim_id, None)
            self._claims[claim_id] = claim
            self._names.setdefault(claim.name, set()).add(claim_id)
            self._allocation.add(claim_id, claim.holding, now)
            self._touch([claim_id], now)
            return self._finish(claim)

    def get(self, claim_id: str) -> bytes:
        """One claim as JSON; `not_found` if there is none."""
        with self._lock:
            now = self._advance()
            if self._dirty:
                self._flush()
            if self._stale:
                view = self._stale_view(claim_id, now, "get")
                if view is not None:
                    if view.body is None:
                        raise _not_found(claim_id)
                    return view.body
            return self._body(self._claim(claim_id))

    def list_claims(self, updated_after: int | None) -> list[bytes]:
        """All claims as JSON, oldest first; with `updated_after` (inclusive) those changed since.

        Whether the API's bound is inclusive is unknown; inclusive loses nothing.
        """
        with self._lock:
            now = self._advance()
            self._flush()
            if not self._lag and not self._stale:
                return [
                    self._body(claim)
                    for claim in self._claims.values()
                    if updated_after is None or claim.updated >= updated_after
                ]
            if self._lag:
                view = dict(self._lagged_view(now))
            else:
                view = {key: (self._body(each), each.updated) for key, each in self._claims.items()}
            for claim_id in list(self._stale):
                stale = self._stale_view(claim_id, now, "list")
                if stale is not None and stale.body is None:
                    view.pop(claim_id, None)
                elif stale is not None and stale.body is not None:
                    view[claim_id] = (stale.body, stale.updated)
            return [
                body for body, updated in view.values() if updated_after is None or updated >= updated_after
            ]

    def update(self, claim_id: str, wanted: Resources) -> bytes:
        """Change a claim's resources; returns it as JSON."""
        with self._lock:
            now = self._advance()
            claim = self._claim(claim_id)
            if claim.gone_at is not None:
                text = f"capacity claim {claim_id} is being deleted"
                raise failed_precondition("DELETING", claim_id, text)
            self._check_catalogue(wanted)
            if not self._may_patch(claim, wanted):
                return self._finish(claim)
            held = claim.holding
            if wanted.instance_count < held.count and self._settings.refuse_release:
                text = "instances in use cannot be released"
                raise failed_precondition("IN_USE", claim_id, text)
            if self._changed_fields(claim, wanted):
                self._keep_stale_status(claim, now)
                self._set_resources(claim, wanted.instance_id, wanted.zones, wanted.instance_count, now)
                claim.capacity_type = _CAPACITY_TYPE_NAMES[wanted.capacity_type]
                self._touch([claim_id], now)
            return self._finish(claim)

    def delete(self, claim_id: str) -> bytes:
        """Begin a deletion; returns the claim in its last state as JSON."""
        with self._lock:
            now = self._advance()
            again = claim_id not in self._claims and claim_id in self._gone
            if again and self._settings.repeated_delete == "last_state":
                self._flush()
                return self._gone[claim_id]
            claim = self._claim(claim_id)
            if claim.gone_at is None:
                if self._settings.refuse_release and claim.holding.allocated:
                    text = "a capacity claim with instances in use cannot be deleted"
                    raise failed_precondition("IN_USE", claim_id, text)
                self._keep_stale_status(claim, now)
                self._allocation.stop(claim_id)
                claim.short_since = None
                claim.gone_at = now + int(self._settings.delete_delay * _SECOND)
                self._schedule(claim.gone_at, "gone", claim)
                self._touch([claim_id], now)
            return self._finish(claim)

    def parameters(self) -> bytes:
        """Zones and their instance types, whatever is in stock, as JSON."""
        with self._lock:
            if self._parameters is None:
                zones = {
                    zone: {"instanceIds": sorted(types)} if types else {}
                    for zone, types in self._inventory.items()
                }
                self._parameters = _dump({"zoneInstanceTypes": zones})
            return self._parameters

    # What tests and other hands do

    def name_of(self, claim_id: str) -> str | None:
        """The name of a claim, without letting time pass."""
        claim = self._claims.get(claim_id)
        return claim.name if claim is not None else None

    def records(self) -> list[ClaimRecord]:
        """All claims with internals, oldest first."""
        with self._lock:
            self._advance()
            self._flush()
            return [self._record(claim) for claim in self._claims.values()]

    def edit(
        self,
        claim_id: str,
        *,
        spec: Mapping[str, object] | None = None,
        status: Mapping[str, object] | None = None,
        seconds: float | None = None,
        delete: bool = False,
    ) -> None:
        """A change by somebody else, without the API's checks.

        `spec` sets fields as the API names them: `name`, `organizationId`, `resources`
        (instances are allocated accordingly), or any other, which is then answered as it is.
        `status` is laid over the computed status block, for `seconds` or for good; a value of None
        takes a field back. `delete` removes the claim at once, without DELETING.
        Raises `not_found`, or ValueError for a value that cannot be kept.
        """
        with self._lock:
            now = self._advance()
            claim = self._claim(claim_id)
            if spec is not None:
                self._edit_spec(claim, spec, now)
            if status is not None:
                merged = {**claim.forced_status, **status}
                claim.forced_status = {key: value for key, value in merged.items() if value is not None}
                claim.forced_until = None
                if seconds is not None:
                    claim.forced_until = now + int(seconds * _SECOND)
                    self._schedule(claim.forced_until, "force", claim)
            self._touch([claim_id], now)
            if delete:
                self._remove(claim, now)
            self._flush()

    def snapshot(self, claim_id: str) -> tuple[bytes | None, int]:
        """A claim's JSON now (None if there is none) and its time, for `serve_stale`."""
        with self._lock:
            self._advance()
            claim = self._claims.get(claim_id)
            return (None, 0) if claim is None else (self._body(claim), claim.updated)

    def serve_stale(
        self,
        claim_id: str,
        snapshot: tuple[bytes | None, int],
        seconds: float,
        reads: Literal["get", "list", "both"],
    ) -> None:
        """For `seconds`, answer reads of a claim with an earlier snapshot."""
        with self._lock:
            until = self._advance() + int(seconds * _SECOND)
            self._stale[claim_id] = _StaleView(until, *snapshot, reads)

    def inventory(self) -> dict[str, dict[str, int]]:
        with self._lock:
            return check_inventory(self._inventory)

    def set_inventory(self, inventory: Inventory, *, merge: bool = False) -> None:
        """Replace the stock, or with `merge` only the counts named; waiting claims are served."""
        checked = check_inventory(inventory)
        with self._lock:
            now = self._advance()
            if merge:
                both = self._inventory.keys() | checked.keys()
                old = self._inventory
                order = [*old, *(zone for zone in checked if zone not in old)]
                checked = {
                    zone: {**old.get(zone, {}), **checked.get(zone, {})} for zone in order if zone in both
                }
            self._inventory = checked
            self._parameters = None
            self._touch(self._allocation.set_stock(checked), now)
            self._save_meta("inventory", checked)
            self._flush()

    def now(self) -> int:
        """The emulator's time, nanoseconds since 1970."""
        with self._lock:
            now = self._advance()
            self._flush()
            return now

    def advance_clock(self, seconds: float) -> int:
        """Let time pass at once; returns the new time in nanoseconds since 1970."""
        if seconds < 0:
            raise ValueError("time only goes forward")
        with self._lock:
            self._offset += int(seconds * _SECOND)
            self._save_meta("offset", self._offset)
            return self.now()

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._flush()
                self._database.close()
                self._database = None

    # Time

    def _advance(self) -> int:
        """Compute all that was due until now, in the order it was due; returns now."""
        now = max(self._last, self._clock() + self._offset)
        self._last = now
        while True:
            allocation_due = self._allocation.next_due()
            store_due = self._events[0][0] if self._events else None
            if min(allocation_due or _NEVER, store_due or _NEVER) > now:
                return now
            if store_due is not None and store_due < (allocation_due or _NEVER):
                due, _, kind, claim_id = heapq.heappop(self._events)
                self._happen(due, kind, claim_id)
            elif allocation_due is not None:
                changed = self._allocation.step()
                if changed is not None:
                    self._touch([changed], allocation_due)

    def _happen(self, due: int, kind: str, claim_id: str) -> None:
        claim = self._claims.get(claim_id)
        if claim is None:
            return
        if kind == "gone" and claim.gone_at == due:
            self._remove(claim, due)
        elif kind == "force" and claim.forced_until == due:
            claim.forced_status, claim.forced_until = {}, None
            self._touch([claim_id], due)
        elif kind == "stale" and claim.stale_until == due:
            claim.stale_status, claim.stale_until = None, None
            self._touch([claim_id], due)
        elif kind == "short" and claim.short_since is not None and self._fails_at(claim) == due:
            claim.failed = True
            self._allocation.stop(claim_id)
            self._touch([claim_id], due)

    def _fails_at(self, claim: _Claim) -> int | None:
        if self._settings.shortage != "failed" or claim.short_since is None:
            return None
        return claim.short_since + int(self._settings.shortage_failed_after * _SECOND)

    def _schedule(self, due: int, kind: str, claim: _Claim) -> None:
        heapq.heappush(self._events, (due, claim.sequence, kind, claim.id))

    def _touch(self, claim_ids: Iterable[str], at: int) -> None:
        """Note that claims changed at a time: their JSON is stale and must be written."""
        for claim_id in claim_ids:
            claim = self._claims[claim_id]
            claim.updated = at
            claim.body = None
            if not claim.holding.missing:
                claim.short_since = None
            elif claim.short_since is None:
                claim.short_since = at
                fails_at = self._fails_at(claim)
                if fails_at is not None:
                    self._schedule(fails_at, "short", claim)
            self._dirty.add(claim_id)
            if self._lag:
                self._changes.append((at, claim_id, self._body(claim), at))

    def _lagged_view(self, now: int) -> dict[str, tuple[bytes, int]]:
        while self._changes and self._changes[0][0] <= now - self._lag:
            _, claim_id, body, updated = self._changes.popleft()
            if body is None:
                self._lagged.pop(claim_id, None)
            else:
                self._lagged[claim_id] = (body, updated)
        return self._lagged

    def _stale_view(self, claim_id: str, now: int, read: str) -> _StaleView | None:
        view = self._stale.get(claim_id)
        if view is not None and view.until <= now:
            del self._stale[claim_id]
            return None
        return view if view is not None and view.reads in (read, "both") else None

    # Changes

    def _claim(self, claim_id: str) -> _Claim:
        claim = self._claims.get(claim_id)
        if claim is None:
            raise _not_found(claim_id)
        return claim

    def _check_catalogue(self, wanted: Resources) -> None:
        broken = [
            Violation(f"resources.zones[{index}]", f'zone "{zone}" does not exist')
            for index, zone in enumerate(wanted.zones)
            if zone not in self._inventory
        ]
        if not any(wanted.instance_id in self._inventory.get(zone, {}) for zone in wanted.zones):
            text = "must be a valid instance type within at least one of the specified zones"
            broken.append(Violation("resources.instance_id", text))
        if broken:
            raise invalid_argument(broken)

    def _changed_fields(self, claim: _Claim, wanted: Resources) -> dict[str, str]:
        """Fields of `resources` that differ: snake_case path by the API's name."""
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

    def _may_patch(self, claim: _Claim, wanted: Resources) -> bool:
        refused = [
            path
            for name, path in self._changed_fields(claim, wanted).items()
            if name not in self._settings.patchable_fields
        ]
        if not refused or self._settings.patch_refusal == "ignored":
            return not refused
        if self._settings.patch_refusal == "failed_precondition":
            text = f"{', '.join(refused)}: cannot be changed"
            raise failed_precondition("IMMUTABLE", claim.id, text)
        raise invalid_argument([Violation(path, "field is immutable") for path in refused])

    def _set_resources(
        self, claim: _Claim, instance_id: str, zones: tuple[str, ...], count: int, now: int
    ) -> None:
        held = claim.holding
        if claim.gone_at is not None:
            held.count = count
            return
        if claim.failed or (instance_id, zones) != (held.instance_id, held.zones):
            others = self._allocation.reshape(claim.id, instance_id, zones, count, now)
        elif count != held.count:
            others = self._allocation.resize(claim.id, count, now)
        else:
            return
        claim.failed = False
        claim.phase = "STATUS_UPDATING"
        self._touch(others, now)

    def _edit_spec(self, claim: _Claim, spec: Mapping[str, object], now: int) -> None:
        edit, held = spec_edit(spec, "spec"), claim.holding
        self._set_resources(
            claim,
            held.instance_id if edit.instance_id is None else edit.instance_id,
            held.zones if edit.zones is None else edit.zones,
            held.count if edit.count is None else edit.count,
            now,
        )
        if edit.capacity_type is not None:
            claim.capacity_type = edit.capacity_type
        if edit.name is not None:
            self._names[claim.name].discard(claim.id)
            claim.name = edit.name
            self._names.setdefault(claim.name, set()).add(claim.id)
        if edit.organization_id is not None:
            claim.organization_id = edit.organization_id
        claim.extra_spec |= edit.extra

    def _keep_stale_status(self, claim: _Claim, now: int) -> None:
        if self._settings.stale_status_for and claim.stale_until is None:
            claim.stale_status = self._status_block(claim)
            claim.stale_until = now + int(self._settings.stale_status_for * _SECOND)
            self._schedule(claim.stale_until, "stale", claim)

    def _remove(self, claim: _Claim, at: int) -> None:
        self._gone[claim.id] = self._body(claim)
        del self._claims[claim.id]
        self._names[claim.name].discard(claim.id)
        if not self._names[claim.name]:
            del self._names[claim.name]
        self._dirty.add(claim.id)
        if self._lag:
            self._changes.append((at, claim.id, None, at))
        self._touch(self._allocation.remove(claim.id), at)

    # Answers

    def _finish(self, claim: _Claim) -> bytes:
        self._flush()
        return self._body(claim)

    def _body(self, claim: _Claim) -> bytes:
        if claim.body is None:
            claim.body = _dump({"spec": self._spec(claim), "status": self._status_block(claim)})
        return claim.body

    def _record(self, claim: _Claim) -> ClaimRecord:
        held = claim.holding
        status = self._status_block(claim)
        shown = status.get("status", "STATUS_UNSPECIFIED")
        return ClaimRecord(
            id=claim.id,
            name=claim.name,
            status=shown if isinstance(shown, (str, int)) else str(shown),
            instance_id=held.instance_id,
            instance_count=held.count,
            zones=held.zones,
            allocation=dict(held.held),
            waiting=held.missing,
            answer={"spec": self._spec(claim), "status": status},
        )

    def _spec(self, claim: _Claim) -> dict[str, object]:
        held = claim.holding
        resources = {
            "instanceId": held.instance_id,
            "instanceCount": held.count,
            "zones": list(held.zones),
            "capacityType": claim.capacity_type,
        }
        return self._written(
            {
                "id": claim.id,
                "name": claim.name,
                "organizationId": claim.organization_id,
                "resources": self._written(resources),
                **claim.extra_spec,
            }
        )

    def _status_block(self, claim: _Claim) -> dict[str, object]:
        if claim.stale_status is not None:
            return {**claim.stale_status, **claim.forced_status}
        held = claim.holding
        allocated = held.allocated
        status = self._status(claim)
        block: dict[str, object] = {
            "createdAt": format_timestamp(claim.created),
            "updatedAt": format_timestamp(claim.updated),
            "status": status,
            "allocatedInstances": allocated,
            "pendingInstances": max(0, held.count - allocated),
            "conditions": self._conditions(claim, status),
        }
        return self._written({**block, **claim.forced_status})

    def _status(self, claim: _Claim) -> str:
        held = claim.holding
        if claim.gone_at is not None:
            return "STATUS_DELETING"
        if claim.failed:
            return "STATUS_FAILED"
        if not held.asks:
            return "STATUS_READY"
        if self._settings.ready_when == "any" and held.opened and held.allocated:
            return "STATUS_READY"
        if self._settings.shortage == "error" and held.missing:
            return "STATUS_ERROR"
        return claim.phase

    def _conditions(self, claim: _Claim, status: str) -> list[dict[str, object]]:
        held = claim.holding
        short = held.missing or (held.count - held.allocated if claim.failed else 0)
        at = format_timestamp(claim.updated)
        conditions: list[dict[str, object]] = []
        for zone in held.zones:
            truth = "STATUS_FALSE"
            if status == "STATUS_DELETING":
                reason, message = "Deleting", "instances: Deleting"
            elif not held.asks and not short:
                truth, reason, message = "STATUS_TRUE", "AllAllocated", "instances: AllAllocated"
            elif held.instance_id not in self._inventory.get(zone, {}):
                reason = "InstanceTypeNotOffered"
                message = f"{held.instance_id} is not offered"
            elif short:
                reason = "InsufficientCapacity"
                message = f"0 of {short} {held.instance_id} instances free"
            else:
                reason = "Allocating"
                message = f"{held.held.get(zone, 0)} of {held.count} instances"
            conditions.append(
                {
                    "type": "Ready",
                    "status": truth,
                    "lastUpdateTime": at,
                    "reason": reason,
                    "message": message,
                    "zone": zone,
                }
            )
        return conditions

    def _written(self, fields: dict[str, object]) -> dict[str, object]:
        """Without zero values, as the official encoder writes, unless they are to be written."""
        if not self._settings.omit_zeros:
            return fields
        return {key: value for key, value in fields.items() if value or value is False}

    # The file

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        if self._database is None or not dirty:
            return
        with self._database:
            for claim_id in dirty:
                claim = self._claims.get(claim_id)
                if claim is None:
                    body = self._gone[claim_id].decode()
                    self._database.execute("DELETE FROM claims WHERE id = ?", (claim_id,))
                    self._database.execute("INSERT OR REPLACE INTO gone VALUES (?, ?)", (claim_id, body))
                else:
                    self._database.execute("DELETE FROM gone WHERE id = ?", (claim_id,))
                    self._database.execute(
                        "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
                        (claim_id, claim.sequence, _save(claim)),
                    )

    def _save_meta(self, key: str, value: object) -> None:
        if self._database is not None:
            with self._database:
                self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def _load_meta(self) -> dict[str, object]:
        if self._database is None:
            return {}
        rows = self._database.execute("SELECT key, value FROM meta").fetchall()
        return {key: json.loads(value) for key, value in rows}

    def _load_claims(self) -> None:
        if self._database is None:
            return
        rows = self._database.execute("SELECT saved FROM claims ORDER BY sequence").fetchall()
        for (saved,) in rows:
            claim = _restore(saved)
            self._claims[claim.id] = claim
            self._names.setdefault(claim.name, set()).add(claim.id)
            self._sequence = max(self._sequence, claim.sequence)
            self._last = max(self._last, claim.updated)
            self._allocation.restore(claim.id, claim.holding)
            for due, kind in (
                (claim.gone_at, "gone"),
                (claim.forced_until, "force"),
                (claim.stale_until, "stale"),
                (None if claim.failed else self._fails_at(claim), "short"),
            ):
                if due is not None:
                    self._schedule(due, kind, claim)
            if self._lag:
                self._changes.append((claim.updated, claim.id, self._body(claim), claim.updated))
        self._changes = deque(sorted(self._changes, key=lambda change: change[0]))
        for claim_id, body in self._database.execute("SELECT id, body FROM gone").fetchall():
            self._gone[claim_id] = body.encode()


def _open(settings: EmulatorSettings) -> sqlite3.Connection | None:
    """Open the file for this process alone: two emulators on one file would lose claims."""
    if settings.state is None:
        return None
    try:
        database = sqlite3.connect(settings.state, timeout=0.5, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            with database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS claims (id TEXT PRIMARY KEY, sequence INTEGER, saved TEXT)"
                )
                database.execute("CREATE TABLE IF NOT EXISTS gone (id TEXT PRIMARY KEY, body TEXT)")
                database.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)")
        except sqlite3.Error:
            database.close()
            raise
    except sqlite3.Error as error:
        raise ValueError(f"{settings.state}: cannot keep claims here: {error}") from error
    return database


_PLAIN = (
    "id",
    "name",
    "capacity_type",
    "organization_id",
    "created",
    "updated",
    "sequence",
    "phase",
    "gone_at",
    "short_since",
    "failed",
    "extra_spec",
    "forced_status",
    "forced_until",
    "stale_status",
    "stale_until",
)


def _save(claim: _Claim) -> str:
    held = claim.holding
    saved: dict[str, object] = {name: getattr(claim, name) for name in _PLAIN}
    saved["holding"] = {
        "instance_id": held.instance_id,
        "zones": held.zones,
        "count": held.count,
        "held": held.held,
        "asks": [[ask.ticket, ask.unripe, ask.due, ask.waiting, ask.opened] for ask in held.asks],
    }
    return json.dumps(saved)


def _restore(text: str) -> _Claim:
    saved = json.loads(text)
    held = saved.pop("holding")
    holding = Holding(
        instance_id=held["instance_id"],
        zones=tuple(held["zones"]),
        count=held["count"],
        held=held["held"],
        asks=[Ask(*values) for values in held["asks"]],
    )
    return _Claim(holding=holding, **saved)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _not_found(claim_id: str) -> ApiError:
    return resource_error("not_found", claim_id, f"capacity claim {claim_id} not found")
