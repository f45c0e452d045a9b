"""The API's messages about capacity claims: responses are read tolerantly, requests checked strictly.

Names are the API's: camelCase on the wire, snake_case in Python; input may use either. Reading never fails
because of an unknown field, an unknown enum name or number, a zero value that protobuf JSON omits, or a null.
The meaning of each field comes from the published schema (2026-06-29) and the docs pages.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel, to_snake
from pydantic.functional_validators import ModelWrapValidatorHandler

__all__ = [
    "CapacityClaim",
    "CapacityClaimParameters",
    "CapacityClaimResources",
    "CapacityClaimSpec",
    "CapacityClaimStatus",
    "CapacityType",
    "ClaimState",
    "Condition",
    "ConditionStatus",
    "CreateCapacityClaimRequest",
    "UpdateCapacityClaimRequest",
    "parse_timestamp",
]


class _OpenEnum(StrEnum):
    """An enum that keeps unknown names and numbers as values: ``ClaimState("STATUS_PAUSED")``.

    Members are declared in the order of their protobuf numbers, from 0 (unspecified).
    """

    @property
    def is_known(self) -> bool:
        """Whether this version of the package knows the value."""
        return self._value_ in type(self)._value2member_map_

    @classmethod
    def _missing_(cls, value: object) -> Self:
        members = list(cls)
        if value is None or value == "":
            return members[0]
        number = _whole_number(value)
        if number is not None and 0 <= number < len(members):
            return members[number]
        unknown = str.__new__(cls, value if number is None else number)
        unknown._value_ = unknown._name_ = str.__str__(unknown)
        return unknown

    def __reduce_ex__(self, proto: object) -> tuple[type[Self], tuple[str]]:
        # early releases of Python 3.11 pickle and copy by name, and an unknown value has none to look up
        return type(self), (self._value_,)


class ClaimState(_OpenEnum):
    """The state of a claim. ERROR is recoverable, FAILED is final (schema, 2026-06-29)."""

    UNSPECIFIED = "STATUS_UNSPECIFIED"
    CREATING = "STATUS_CREATING"
    UPDATING = "STATUS_UPDATING"
    DELETING = "STATUS_DELETING"
    ERROR = "STATUS_ERROR"
    FAILED = "STATUS_FAILED"
    READY = "STATUS_READY"

    @property
    def short(self) -> str:
        """The state without its prefix, such as "READY"."""
        return self._value_.removeprefix("STATUS_")


class CapacityType(_OpenEnum):
    """Who operates the capacity. Since 2026-07-21 the API accepts only MANAGED, but may return others."""

    UNSPECIFIED = "CAPACITY_TYPE_UNSPECIFIED"
    SERVERLESS = "CAPACITY_TYPE_SERVERLESS"
    CUSTOMER = "CAPACITY_TYPE_CUSTOMER"
    MANAGED = "CAPACITY_TYPE_MANAGED"


class ConditionStatus(_OpenEnum):
    """Whether a condition is met. The schema has STATUS_TRUE, the docs "True"; both are accepted."""

    UNSPECIFIED = "STATUS_UNSPECIFIED"
    FALSE = "STATUS_FALSE"
    TRUE = "STATUS_TRUE"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        match str(value).lower():
            case "true":
                return cls["TRUE"]
            case "false":
                return cls["FALSE"]
            case _:
                return super()._missing_(value)


def _null_as(zero: object) -> BeforeValidator:
    """Reads null as the zero value of the field, which is what it means in protobuf JSON."""
    return BeforeValidator(lambda value: zero if value is None else value)


def _read_by(enum: type[_OpenEnum]) -> BeforeValidator:
    """Asks the enum for every value, which pydantic before 2.14 does not."""
    return BeforeValidator(lambda value: enum(value))


_Text = Annotated[str, _null_as("")]
# protobuf has no larger integers, and a number that fits no float could not be written to a state
_Count = Annotated[int, Field(ge=-(2**63), lt=2**63), _null_as(0)]
_Names = Annotated[tuple[str, ...], _null_as(())]


class _Response(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        coerce_numbers_to_str=True,
    )


class CapacityClaimResources(_Response):
    """What a claim reserves.

    Fields that this version does not know are kept, and sent back by an update: their absence could remove
    them. So update a claim with ``claim.resources.model_copy(update={...})``, not with a new object.

    ``instance_id``     the instance type, such as "gb200-4x"; ``parameters()`` lists the types of each zone
    ``instance_count``  the number of instances
    ``zones``           in order of preference: earlier zones are used first
    ``capacity_type``   must be ``CapacityType.MANAGED`` in a request; the default is what a response means
                        that omits it
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    instance_id: _Text = ""
    instance_count: _Count = 0
    zones: _Names = ()
    capacity_type: Annotated[CapacityType, _read_by(CapacityType)] = CapacityType.UNSPECIFIED

    def changed_to(self, declared: CapacityClaimResources) -> Self:
        """What an update sends: the known fields of ``declared``, and the unknown ones of these resources."""
        return self.model_copy(update={name: getattr(declared, name) for name in type(self).model_fields})

    def unknown_fields(self) -> dict[str, object]:
        """The fields that this version does not know, as the API sent them."""
        known = type(self).model_fields
        return {
            name: value for name, value in (self.model_extra or {}).items() if to_snake(name) not in known
        }

    def to_wire(self) -> dict[str, str | int | list[str]]:
        """The four fields that this version knows, in the API's spelling, zeros included."""
        return {
            "instanceId": self.instance_id,
            "instanceCount": self.instance_count,
            "zones": list(self.zones),
            "capacityType": self.capacity_type.value,
        }


class CapacityClaimSpec(_Response):
    """The identity of a claim and what it reserves. ``id``, ``name`` and ``organization_id`` never change."""

    id: Annotated[str, Field(min_length=1)]
    name: _Text = ""
    organization_id: _Text = ""
    resources: Annotated[CapacityClaimResources, _null_as(CapacityClaimResources())] = (
        CapacityClaimResources()
    )


class Condition(_Response):
    """One observation about a claim, often about a single zone. ``type`` and ``reason`` are free text."""

    type: _Text = ""
    status: Annotated[ConditionStatus, _read_by(ConditionStatus)] = ConditionStatus.UNSPECIFIED
    reason: _Text = ""
    message: _Text = ""
    zone: _Text = ""
    last_update_time: str | None = None


class CapacityClaimStatus(_Response):
    """The current status of a claim.

    Times are RFC 3339 strings as the API sent them; ``parse_timestamp`` parses them.
    """

    created_at: str | None = None
    updated_at: str | None = None
    status: Annotated[ClaimState, _read_by(ClaimState)] = ClaimState.UNSPECIFIED
    allocated_instances: _Count = 0
    pending_instances: _Count = 0
    conditions: Annotated[tuple[Condition, ...], _null_as(())] = ()


class CapacityClaim(_Response):
    """A capacity claim: its spec and its current status."""

    spec: CapacityClaimSpec
    status: Annotated[CapacityClaimStatus, _null_as(CapacityClaimStatus())] = CapacityClaimStatus()

    @property
    def id(self) -> str:
        """The claim's UUID."""
        return self.spec.id

    @property
    def name(self) -> str:
        """The claim's name."""
        return self.spec.name

    @property
    def resources(self) -> CapacityClaimResources:
        """What the claim reserves."""
        return self.spec.resources

    @property
    def state(self) -> ClaimState:
        """The state of the claim."""
        return self.status.status


class _ZoneInstanceTypes(_Response):
    instance_ids: _Names = ()


class _ParametersResponse(_Response):
    zone_instance_types: Annotated[
        dict[str, Annotated[_ZoneInstanceTypes, _null_as(_ZoneInstanceTypes())]],
        _null_as({}),
    ] = Field(default_factory=dict)


class CapacityClaimParameters(BaseModel):
    """The instance types that each zone currently offers."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)

    zone_instance_types: dict[str, tuple[str, ...]]

    @classmethod
    def from_wire(cls, body: bytes | str) -> Self:
        """Parses ``{"zoneInstanceTypes": {"US-WEST-04A": {"instanceIds": ["gb200-4x"]}}}``."""
        response = _ParametersResponse.model_validate_json(body)
        return cls(
            zone_instance_types={
                zone: types.instance_ids for zone, types in response.zone_instance_types.items()
            }
        )

    def zones_offering(self, instance_id: str) -> tuple[str, ...]:
        """The zones that offer an instance type, in the API's order. Instance types are case-sensitive."""
        return tuple(zone for zone, offered in self.zone_instance_types.items() if instance_id in offered)


class _Request(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        defer_build=True,
        strict=True,
        frozen=True,
        extra="forbid",
        from_attributes=True,
        alias_generator=to_camel,
        populate_by_name=True,
    )

    def to_wire(self) -> bytes:
        """The JSON body in camelCase, with zero values but without a missing id."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def _ordered(zones: object) -> object:
    # only a list or tuple: the order of zones matters, and a set has none
    return tuple(zones) if isinstance(zones, list) else zones


class _ResourcesRequest(_Request):
    instance_id: str
    instance_count: int
    zones: Annotated[tuple[str, ...], BeforeValidator(_ordered)]
    capacity_type: Annotated[CapacityType, Field(strict=False)]

    _unknown: dict[str, object] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_unknown(cls, given: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        request = handler(given)
        if isinstance(given, CapacityClaimResources):
            request._unknown = given.unknown_fields()
        return request

    @model_serializer(mode="wrap")
    def _with_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        known: dict[str, object] = handler(self)
        return self._unknown | known


class CreateCapacityClaimRequest(_Request):
    """The body of a create. Only shape and types are checked; the API validates the values."""

    id: str | None = None
    name: str
    resources: _ResourcesRequest


class UpdateCapacityClaimRequest(_Request):
    """The body of an update: always the full resources, because the API has no field mask."""

    id: str
    resources: _ResourcesRequest


def parse_timestamp(text: object) -> datetime | None:
    """Parses an RFC 3339 time: in UTC, truncated to microseconds; None if it is unreadable or has no zone."""
    try:
        moment = datetime.fromisoformat(str(text or "").strip().upper())
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) else None
