"""What can be set about the emulator, and the inventory it hands out."""

from __future__ import annotations

import json
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Inventory = Mapping[str, Mapping[str, int]]
"""Instances that exist, by zone and instance type. 0 means: offered, but none in stock."""

DEFAULT_INVENTORY: Inventory = {
    "US-WEST-04A": {"gb200-4x": 64, "h100-80gb-sxm5": 32, "l40s-8x": 16},
    "US-EAST-04A": {"gb200-4x": 32, "h100-80gb-sxm5": 64, "h200-141gb-8x": 16},
    "US-EAST-02A": {"h100-80gb-sxm5": 32, "a100-80gb-8x": 16, "gb200-4x": 0},
    "RNO2A": {"h100-80gb-sxm5": 16, "l40s-8x": 32},
}
"""A made-up stock with real-looking names; the names of zones and of `gb200-4x` are in
CoreWeave's docs and schema, the rest is assumed."""

RESOURCE_FIELDS = frozenset({"instanceId", "instanceCount", "zones", "capacityType"})

ErrorForm = Literal["connect", "status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """Everything that can be set. All times are seconds; the defaults make a quick, friendly API.

    Where nobody outside CoreWeave knows how the API behaves, a setting offers each answer: those from
    `error_form` to `repeated_delete` begin with the question.
    """

    host: str = "127.0.0.1"
    """Where to listen: a loopback address or `localhost`; anything else is refused."""
    port: int = 0
    """The TCP port; 0 takes a free one."""
    state: Path | None = None
    """A SQLite file that keeps all claims over restarts; None keeps them in memory."""
    inventory: Inventory | None = None
    """What there is to hand out. None: what the state file last had, else `DEFAULT_INVENTORY`."""

    token: str = field(default_factory=lambda: _secret("admin"), repr=False)
    """The API token with the role Inference Admin: reads and writes. Random by default."""
    viewer_token: str = field(default_factory=lambda: _secret("viewer"), repr=False)
    """The API token with the role Inference Viewer: reads. Random by default."""
    control_token: str = field(default_factory=lambda: _secret("control"), repr=False)
    """The token for `/_emulator/…`. Random by default."""

    allocation_delay: float = 0.0
    """Seconds from a create or update to its first instance (and to the end of a shrink).
    With 0 the answer still says CREATING or UPDATING, and the next read READY."""
    allocation_spread: float = 0.0
    """Seconds between one instance and the next; 0 grants all at once."""
    delete_delay: float = 0.0
    """Seconds a claim stays DELETING, and keeps its instances, before it is gone."""
    shortage_failed_after: float = 60.0
    """With `shortage="failed"`: seconds of waiting for stock before STATUS_FAILED."""

    error_form: ErrorForm = "connect"
    """Which form have errors? `"status"`: the form of google.rpc.Status with a numeric code."""
    omit_zeros: bool = True
    """Are `0`, `""` and `[]` left out of answers? False: written."""
    empty_list: Literal["absent", "array", "not_found"] = "absent"
    """How does LIST say "none"? By leaving the field out, by `[]`, or by 404."""
    unique_names: bool = False
    """Is a name that a living claim has refused? True: with `already_exists`."""
    reuse_ids: bool = True
    """May an id be used again once its claim is gone? False: `already_exists`, though GET says 404."""
    patchable_fields: frozenset[str] = frozenset({"instanceCount"})
    """What may PATCH change? Any of `instanceId`, `instanceCount`, `zones`, `capacityType`."""
    patch_refusal: Literal["invalid_argument", "failed_precondition", "ignored"] = "invalid_argument"
    """How is another change refused? `"ignored"`: not at all, but nothing is changed."""
    ready_when: Literal["all", "any"] = "all"
    """Does READY imply fully allocated? `"any"`: READY with the first instance."""
    shortage: Literal["creating", "error", "failed"] = "creating"
    """How does a shortage show? As CREATING; `"error"`: as STATUS_ERROR until served; `"failed"`: as
    STATUS_FAILED for good after `shortage_failed_after` seconds."""
    refuse_release: bool = False
    """May instances in use be given back? True: no; delete and shrink answer `failed_precondition`."""
    stale_status_for: float = 0.0
    """Is the status fresh after PATCH and DELETE? Above 0: the old status block beside the new spec,
    so long."""
    list_lag: float = 0.0
    """Is LIST as fresh as GET? Above 0: it is so old."""
    max_zones: int | None = None
    """How many zones may a claim have? 1, as the schema of 2026-06-29 said, or None: any number."""
    repeated_delete: Literal["not_found", "last_state"] = "not_found"
    """What answers DELETE of a claim that is gone? `"last_state"`: 200, like the first. (While it is
    DELETING a repeat is always answered like the first; an id never seen always with 404.)"""

    organization_id: str = "cw0a1b"
    """`organizationId` of every claim."""
    max_body_bytes: int = 65_536
    """A larger request body is refused with `invalid_argument`."""
    log_limit: int = 100_000
    """How many requests the log keeps; older ones are forgotten."""

    def __post_init__(self) -> None:
        unknown = self.patchable_fields - RESOURCE_FIELDS
        if unknown:
            raise ValueError(f"patchable_fields: no such field: {', '.join(sorted(unknown))}")
        for name in (
            "allocation_delay",
            "allocation_spread",
            "delete_delay",
            "shortage_failed_after",
            "stale_status_for",
            "list_lag",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative")
        if not (self.token and self.viewer_token and self.control_token):
            raise ValueError("token, viewer_token, control_token: must not be empty")
        if self.inventory is not None:
            check_inventory(self.inventory)


def load_inventory(path: Path) -> Inventory:
    """Read an inventory from a `.toml` file, or from JSON under any other name.

    Raises ValueError with the file's name if it is not `{zone: {instance type: count}}`.
    """
    try:
        return check_inventory(read_json_or_toml(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_json_or_toml(path: Path) -> object:
    """The content of a `.toml` file, or of a JSON file under any other name."""
    text = path.read_text(encoding="utf-8")
    content: object = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    return content


def check_inventory(content: object) -> dict[str, dict[str, int]]:
    """Return `content` as a fresh inventory; ValueError names what is wrong with it."""
    if not isinstance(content, Mapping):
        raise ValueError("an inventory is an object {zone: {instance type: count}}")
    inventory: dict[str, dict[str, int]] = {}
    for zone, types in content.items():
        if not isinstance(zone, str) or not isinstance(types, Mapping):
            raise ValueError(f"zone {zone!r}: must be an object {{instance type: count}}")
        inventory[zone] = {}
        for instance_type, count in types.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise ValueError(f"{zone}, {instance_type}: {count!r} is not a count of instances")
            inventory[zone][str(instance_type)] = count
    return inventory


def _secret(role: str) -> str:
    return f"emulator-{role}-{secrets.token_urlsafe(18)}"
