"""One claim: what the emulator keeps of it, what a test may change, and how the API shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from coreweave_inference.emulator.allocation import Holding
from coreweave_inference.emulator.decoding import format_timestamp
from coreweave_inference.emulator.settings import LONGEST, EmulatorSettings, Inventory
from coreweave_inference.emulator.validation import EnumValue, StrictModel


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """A claim as the emulator keeps it, internals included."""

    id: str
    name: str
    status: str | int
    """As the API shows it: `STATUS_READY`, or whatever an edit has set."""
    instance_id: str
    instance_count: int
    zones: tuple[str, ...]
    allocation: dict[str, int]
    """Instances actually allocated, by zone."""
    waiting: int
    """Instances the claim waits for because none are in stock."""
    answer: dict[str, object]
    """The claim as GET returns it: `spec` and `status`."""


@dataclass(slots=True)
class Claim:
    """The state of a claim. All times are nanoseconds since 1970."""

    id: str
    name: str
    holding: Holding
    capacity_type: int | str
    organization_id: str
    created: int
    updated: int
    sequence: int
    """Its place in the order of creation."""
    phase: str = "STATUS_CREATING"
    """The status while instances are missing."""
    removed_at: int | None = None
    """When the deletion that has begun ends."""
    short_since: int | None = None
    """Since when it waits for stock."""
    failed: bool = False
    extra_spec: dict[str, object] = field(default_factory=dict)
    """Fields of the spec that the API does not have, set by an edit."""
    status_override: dict[str, object] = field(default_factory=dict)
    """Fields of the status block set by an edit; they replace the computed ones."""
    override_until: int | None = None
    stale_status: dict[str, object] | None = None
    """The status block from before the last write, while it is still shown."""
    stale_until: int | None = None


class _PartialEdit(StrictModel):
    """A partial change: an omitted field keeps its value, and null is not allowed."""

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("must not be null")
        return value


class ResourcesEdit(_PartialEdit):
    """A change of `spec.resources`."""

    instance_id: str | None = None
    instance_count: Annotated[int, Field(ge=0)] | None = None
    zones: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    capacity_type: EnumValue | None = None


class SpecEdit(_PartialEdit):
    """A change of `spec`. Fields that the API does not have are kept, and shown as they are."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    name: str | None = None
    organization_id: str | None = None
    resources: ResourcesEdit = ResourcesEdit()


class ClaimEdit(StrictModel):
    """A change made from outside: `{"spec": …, "status": …, "seconds": …}`."""

    spec: SpecEdit | None = None
    """Fields as the API names them. Instances are allocated accordingly."""
    status: dict[str, object] | None = None
    """Replaces fields of the computed status block; null restores the computed value."""
    seconds: Annotated[float, Field(ge=0, le=LONGEST)] | None = None
    """How long `status` applies. None: permanently."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_json(cls, value: object) -> object:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"cannot be written as JSON: {error}") from None
        return value


def record_of(claim: Claim, settings: EmulatorSettings, inventory: Inventory) -> ClaimRecord:
    """The claim with its internals."""
    held = claim.holding
    status = status_block(claim, settings, inventory)
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
        answer={"spec": spec_block(claim, settings), "status": status},
    )


def spec_block(claim: Claim, settings: EmulatorSettings) -> dict[str, object]:
    """`spec` as the API shows it."""
    held = claim.holding
    resources: dict[str, object] = {
        "instanceId": held.instance_id,
        "instanceCount": held.count,
        "zones": sorted(held.zones) if settings.zones_shown == "sorted" else list(held.zones),
        "capacityType": claim.capacity_type,
    }
    if settings.capacity_type_shown == "unspecified":
        resources["capacityType"] = 0 if settings.omit_zeros else "CAPACITY_TYPE_UNSPECIFIED"
    elif settings.capacity_type_shown == "customer":
        resources["capacityType"] = "CAPACITY_TYPE_CUSTOMER"
    spec: dict[str, object] = {
        "id": claim.id,
        "name": claim.name,
        "organizationId": claim.organization_id,
        "resources": _encoded(resources, settings),
    }
    return _encoded({**spec, **claim.extra_spec}, settings)


def status_block(claim: Claim, settings: EmulatorSettings, inventory: Inventory) -> dict[str, object]:
    """`status` as the API shows it."""
    if claim.stale_status is not None:
        return {**claim.stale_status, **claim.status_override}
    held = claim.holding
    status = computed_status(claim, settings)
    block: dict[str, object] = {
        "createdAt": format_timestamp(claim.created),
        "updatedAt": format_timestamp(claim.updated),
        "status": status,
        "allocatedInstances": held.allocated,
        "pendingInstances": max(0, held.count - held.allocated),
        "conditions": _conditions(claim, status, inventory),
    }
    return _encoded({**block, **claim.status_override}, settings)


def shown_status(claim: Claim, settings: EmulatorSettings) -> str:
    """The status, or what an edit has put in its place."""
    return str(claim.status_override.get("status", computed_status(claim, settings)))


def computed_status(claim: Claim, settings: EmulatorSettings) -> str:
    """The status that follows from the allocation."""
    held = claim.holding
    if claim.removed_at is not None:
        return "STATUS_DELETING"
    if claim.failed:
        return "STATUS_FAILED"
    if not held.asks:
        return "STATUS_READY"
    if settings.ready_when == "any" and held.opened and held.allocated:
        return "STATUS_READY"
    if settings.shortage == "error" and held.missing:
        return "STATUS_ERROR"
    return claim.phase


def _conditions(claim: Claim, status: str, inventory: Inventory) -> list[dict[str, object]]:
    held = claim.holding
    short = held.missing or (held.count - held.allocated if claim.failed else 0)
    conditions: list[dict[str, object]] = []
    for zone in held.zones:
        truth = "STATUS_FALSE"
        if status == "STATUS_DELETING":
            reason, message = "Deleting", "instances: Deleting"
        elif not held.asks and not short:
            truth, reason, message = "STATUS_TRUE", "AllAllocated", "instances: AllAllocated"
        elif held.instance_id not in inventory.get(zone, {}):
            reason, message = "InstanceTypeNotOffered", f"{held.instance_id} is not offered"
        elif short:
            reason, message = "InsufficientCapacity", f"0 of {short} {held.instance_id} instances free"
        else:
            reason, message = "Allocating", f"{held.held.get(zone, 0)} of {held.count} instances"
        conditions.append(
            {
                "type": "Ready",
                "status": truth,
                "lastUpdateTime": format_timestamp(claim.updated),
                "reason": reason,
                "message": message,
                "zone": zone,
            }
        )
    return conditions


def _encoded(fields: dict[str, object], settings: EmulatorSettings) -> dict[str, object]:
    """Without zero values, as the official encoder writes it, unless `omit_zeros` is off."""
    if not settings.omit_zeros:
        return fields
    return {key: value for key, value in fields.items() if value or value is False}
