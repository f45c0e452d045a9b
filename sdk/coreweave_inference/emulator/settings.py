"""The settings of the emulator, and the inventory it allocates from."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from coreweave_inference._text_files import decode_text, load_json, load_toml
from coreweave_inference.emulator.validation import explain

Inventory = Mapping[str, Mapping[str, int]]
"""Instances that exist, by zone and instance type. 0: the zone offers the type, but has none in stock."""


@dataclass(frozen=True, slots=True)
class Stock:
    """The instances of one type in one zone."""

    total: int
    available: int
    """Those that no claim holds."""


DEFAULT_INVENTORY: Inventory = {
    "US-WEST-04A": {"gb200-4x": 64, "h100-80gb-sxm5": 32, "l40s-8x": 16},
    "US-EAST-04A": {"gb200-4x": 32, "h100-80gb-sxm5": 64, "h200-141gb-8x": 16},
    "US-EAST-02A": {"h100-80gb-sxm5": 32, "a100-80gb-8x": 16, "gb200-4x": 0},
    "RNO2A": {"h100-80gb-sxm5": 16, "l40s-8x": 32},
}
"""An invented stock with realistic names. The zones and `gb200-4x` appear in CoreWeave's docs and
schema; the other names are assumed."""

LONGEST = 1_000_000_000
"""The most seconds of a setting: thirty years. With more, timestamps leave the calendar."""

RESOURCE_FIELDS = frozenset({"instanceId", "instanceCount", "zones", "capacityType"})

ErrorForm = Literal["connect", "status"]

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?")

_INVENTORY = TypeAdapter(dict[str, dict[str, Annotated[int, Field(strict=True, ge=0)]]])


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """All settings. Times are in seconds; the defaults make a fast and friendly API.

    Where the behaviour of the real API is unknown, a setting offers each possible answer. The docstrings
    of these settings, from `error_form` to `capacity_type_shown`, start with the question.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(use_attribute_docstrings=True)  # for `variants`

    host: str = "127.0.0.1"
    """The address to listen on. Any other than a loopback address, such as `0.0.0.0`, makes the emulator
    reachable from the network, over plain http."""
    allowed_hosts: frozenset[str] = frozenset()
    """Names that requests may use for this server, without a port, besides loopback addresses and `host`.
    A request whose `Host` header has another name is refused with 421."""
    port: int = 0
    """The TCP port. 0 picks a free one."""
    state: Path | None = None
    """A SQLite file that keeps all claims across restarts. None keeps them in memory."""
    inventory: Inventory | None = None
    """The stock. None: what the state file holds, else `DEFAULT_INVENTORY`."""

    token: str = field(default_factory=lambda: new_token("admin"), repr=False)
    """The API token with the role Inference Admin, which may read and write. Random by default."""
    viewer_token: str = field(default_factory=lambda: new_token("viewer"), repr=False)
    """The API token with the role Inference Viewer, which may read. Random by default."""
    control_token: str = field(default_factory=lambda: new_token("control"), repr=False)
    """The token for `/_emulator/…`. Random by default."""

    allocation_delay: float = 0.0
    """Seconds from a create or update to its first instance, and to the end of a shrink. With 0 the
    response still says CREATING or UPDATING, and the next read READY."""
    allocation_spread: float = 0.0
    """Seconds between one instance and the next. 0 allocates all at once."""
    delete_delay: float = 0.0
    """Seconds a claim stays DELETING, and keeps its instances, before it is gone."""

    error_form: ErrorForm = "connect"
    """Which form do errors have? `"status"`: that of google.rpc.Status, with a numeric code."""
    omit_zeros: bool = True
    """Are `0`, `""` and `[]` left out of responses? False: they are written."""
    empty_list: Literal["absent", "array", "not_found"] = "absent"
    """How does LIST say "none"? It leaves out the field, or returns `[]`, or answers 404."""
    unique_names: bool = False
    """Can two claims have the same name? True: the second is refused with `already_exists`, as long as
    the first exists."""
    reuse_ids: bool = True
    """Can an id be used again once its claim is gone? False: `already_exists`, although GET answers 404."""
    patchable_fields: frozenset[str] = frozenset({"instanceCount"})
    """What can PATCH change? Any of `instanceId`, `instanceCount`, `zones`, `capacityType`."""
    patch_refusal: Literal["invalid_argument", "failed_precondition", "ignored"] = "invalid_argument"
    """How does PATCH refuse other changes? `"ignored"`: it answers 200, and changes nothing."""
    unchanged_patch: Literal["accepted", "invalid_argument", "failed_precondition"] = "accepted"
    """How does PATCH answer if nothing would change? `"accepted"`: with 200. Otherwise with that error."""
    ready_when: Literal["all", "any"] = "all"
    """Does READY mean fully allocated? `"any"`: READY with the first instance."""
    shortage: Literal["creating", "error", "failed"] = "creating"
    """How does a shortage show? `"creating"`: as CREATING. `"error"`: as STATUS_ERROR until instances are
    allocated. `"failed"`: as STATUS_FAILED, permanently, after `shortage_failed_after` seconds."""
    shortage_failed_after: float = 60.0
    """When does `shortage="failed"` fail? After so many seconds of waiting for stock."""
    refuse_release: bool = False
    """Can instances in use be released? True: no; delete and shrink answer `failed_precondition`."""
    stale_status_for: float = 0.0
    """Is the status fresh after PATCH and DELETE? Above 0: for this many seconds the old status block
    appears beside the new spec."""
    list_lag: float = 0.0
    """Is LIST as fresh as GET? Above 0: LIST is this many seconds behind."""
    max_zones: int | None = None
    """How many zones can a claim have? 1: as in the schema of 2026-06-29. None: any number."""
    repeated_delete: Literal["not_found", "last_state"] = "not_found"
    """What does DELETE answer for a claim that is gone? `"last_state"`: 200, like the first one. (While
    the claim is DELETING, it always answers like the first one; for an id that never existed, 404.)"""
    zones_shown: Literal["sent", "sorted"] = "sent"
    """In which order does a claim show its zones? `"sorted"`: in alphabetical order, while instances are
    still allocated in the order that was sent."""
    capacity_type_shown: Literal["sent", "unspecified", "customer"] = "sent"
    """Which capacity type does a claim show? `"unspecified"`: the zero value, which `omit_zeros` leaves
    out. `"customer"`: another one than was sent."""

    organization_id: str = "cw0a1b"
    """The `organizationId` of every claim."""
    max_body_bytes: int = 65_536
    """A larger request body is refused with `invalid_argument`."""
    log_limit: int = 100_000
    """How many requests the log keeps. Older ones are dropped."""
    log_bytes: int = 100_000_000
    """About how many bytes of memory the log takes. Older requests are dropped."""

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host: must not be empty; 0.0.0.0 is every address of this machine")
        for name in self.allowed_hosts:
            if not _HOST_NAME.fullmatch(name) and not is_ip_address(name):
                raise ValueError(f"allowed_hosts: {name!r} is not the name of a host, such as emulator")
        if self.max_zones is not None and self.max_zones < 1:
            raise ValueError("max_zones: must be at least 1")
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
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"{name}: must not be negative")
            if not value <= LONGEST:
                raise ValueError(f"{name}: must be a number of seconds up to {LONGEST}, not {value:g}")
        if not (self.token and self.viewer_token and self.control_token):
            raise ValueError("token, viewer_token, control_token: must not be empty")
        for name in ("token", "viewer_token", "control_token"):
            if not re.fullmatch("[!-~]+", getattr(self, name)):
                raise ValueError(f"{name}: must be visible ASCII characters, as in an HTTP header")
        if self.inventory is not None:
            check_inventory(self.inventory)


def is_ip_address(host: str) -> bool:
    """Whether it is an IP address, version 4 or 6."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to it."""
    return host.lower() == "localhost" or (is_ip_address(host) and ipaddress.ip_address(host).is_loopback)


def load_inventory(path: Path) -> Inventory:
    """Read an inventory from a TOML file if its name ends in `.toml`, else from JSON.

    Raises ValueError with the name of the file if it is not `{zone: {instance type: count}}`.
    """
    try:
        return check_inventory(read_json_or_toml(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_json_or_toml(path: Path) -> object:
    """The content of a TOML file if its name ends in `.toml`, else of a JSON file."""
    text = decode_text(path.read_bytes())
    return load_toml(text) if path.suffix == ".toml" else load_json(text)


def check_inventory(content: object) -> dict[str, dict[str, int]]:
    """Return a copy of `content` as an inventory. Raises ValueError with the first mistake."""
    try:
        return _INVENTORY.validate_python(content)
    except ValidationError as error:
        raise ValueError(f"inventory: {explain(error)}") from None


def new_token(role: str) -> str:
    """A random token that says which role it has."""
    return f"emulator-{role}-{secrets.token_urlsafe(18)}"
