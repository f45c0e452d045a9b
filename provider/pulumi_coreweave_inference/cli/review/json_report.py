"""The writer for programs: JSON as described by `docs/schemas/report.json`.

`version` goes up when a field is removed or changes its meaning; new fields do not change it. The schema is
generated from the classes below, by `tools/docs/schemas.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field, NonNegativeInt, TypeAdapter, WithJsonSchema
from pydantic.alias_generators import to_camel

from .plan import Amount, Change, Existing, Kind, Order, Spec, Unknown, counts, sum_of
from .prices import Cost, Sum
from .review import Review

_Altered = Annotated[
    Kind, WithJsonSchema({"enum": [kind.value for kind in Kind if kind is not Kind.SAME], "type": "string"})
]
_Decimal = Annotated[Decimal, WithJsonSchema({"type": "string"})]


_Value = TypeVar("_Value")


class _Object:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel, extra="forbid")


# Dataclasses do not validate, and pydantic refuses some names that a preview may contain (lone surrogates).
@dataclass(frozen=True, slots=True)
class UnknownJson(_Object):
    """A value that the preview does not show."""

    unsaid: Unknown


_Text = str | UnknownJson


@dataclass(frozen=True, slots=True)
class AmountJson(_Object):
    """A number of instances, and whether there are more that the preview does not number."""

    known: NonNegativeInt
    more: bool


@dataclass(frozen=True, slots=True)
class SpecJson(_Object):
    """What a claim reserves."""

    instance_type: _Text
    instance_count: NonNegativeInt | UnknownJson
    zones: Annotated[tuple[_Text, ...] | UnknownJson, Field(description="In order of preference.")]
    capacity_type: _Text
    name: _Text | None


@dataclass(frozen=True, slots=True)
class SummaryJson(_Object):
    """The number of claims by what happens to them."""

    replace: NonNegativeInt
    release: NonNegativeInt
    forget: NonNegativeInt
    create: NonNegativeInt
    takeover: NonNegativeInt
    import_: Annotated[NonNegativeInt, Field(alias="import")]
    scale: NonNegativeInt
    change: NonNegativeInt
    same: NonNegativeInt


@dataclass(frozen=True, slots=True)
class ViolationJson(_Object):
    """A violated rule."""

    rule: str
    claim: Annotated[str | None, Field(description="null: all claims together.")]
    value: str
    limit: str


@dataclass(frozen=True, slots=True)
class ReleasedFirstJson(_Object):
    """URNs of claims that release capacity before new capacity is granted."""

    certain: tuple[str, ...]
    perhaps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TotalJson(_Object):
    """The instances of one type in all claims that the preview shows."""

    instance_type: _Text
    before: AmountJson
    after: AmountJson
    peak: AmountJson
    if_nothing_is_found: AmountJson


@dataclass(frozen=True, slots=True)
class TakeoverJson(_Object):
    """An existing claim that is taken over where a new one would be created."""

    id: str
    spec: SpecJson
    allocated: Annotated[
        NonNegativeInt | None,
        Field(description="Instances that it has been given; null if the preview does not say."),
    ]
    state: Annotated[str | None, Field(description="Such as READY; null if the preview does not say.")]


@dataclass(frozen=True, slots=True)
class ClaimJson(_Object):
    """A claim that changes."""

    name: str
    urn: str
    id: Annotated[str | None, Field(description="The id of the existing claim.")]
    kind: _Altered
    order: Annotated[
        Order | None, Field(description="Of a replacement; unknown without --show-replacement-steps.")
    ]
    replace_reasons: tuple[str, ...]
    protected: bool
    retained: Annotated[bool, Field(description="Whether the old claim stays at CoreWeave.")]
    left_by_unfinished_replacement: bool
    if_it_exists: Annotated[
        bool, Field(description="Whether the preview does not show if there is still a claim to release.")
    ]
    takes_over: Annotated[
        TakeoverJson | None,
        Field(
            description="The claim that becomes this one. A replacement takes over another claim than "
            "the one that it replaces."
        ),
    ]
    before: SpecJson | None
    after: SpecJson | None
    peak: AmountJson
    if_nothing_is_found: AmountJson


@dataclass(frozen=True, slots=True)
class DriftJson(_Object):
    """A claim that differs between the state and the API."""

    name: str
    urn: str
    state: SpecJson
    live: Annotated[SpecJson | None, Field(description="null: the claim is gone.")]
    id: str | None
    left_by_unfinished_replacement: bool


@dataclass(frozen=True, slots=True)
class UnseenJson(_Object):
    """A value of a claim that the preview does not show."""

    claim: str
    urn: str
    property: str
    value: UnknownJson


@dataclass(frozen=True, slots=True)
class SumJson(_Object):
    """Decimal numbers as strings."""

    before: _Decimal
    after: _Decimal
    peak: _Decimal
    partial: Annotated[
        bool, Field(description="Whether instances without a price or a known number are left out.")
    ]
    partial_before: Annotated[bool, Field(description="Whether `before` is partial, too.")]


@dataclass(frozen=True, slots=True)
class CostJson(_Object):
    """The cost by the price book."""

    currency: str
    per_hour: SumJson
    per_month: SumJson
    gpus: SumJson | None
    unpriced: Annotated[tuple[str, ...], Field(description="Instance types without a price.")]


@dataclass(frozen=True, slots=True)
class ReportJson(_Object):
    """What a Pulumi preview does to capacity claims.

    New fields do not change the version; a field that is removed or changes its meaning does.
    """

    version: Literal[1]
    project: str
    stack: str
    operation: Annotated[
        Literal["update", "refresh"],
        Field(description="A refresh changes only the state; its drift is what it would write."),
    ]
    exit_code: Annotated[
        int,
        Field(description="0: no objection; 1: a rule is violated; 2: the preview failed."),
        WithJsonSchema({"enum": [0, 1, 2]}),
    ]
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    summary: SummaryJson
    hidden_unchanged_resources: Annotated[
        NonNegativeInt,
        Field(
            description="Unchanged resources that the preview only counts; no total includes claims among "
            "them. 0 with --show-sames."
        ),
    ]
    half_shown: Annotated[
        tuple[str, ...],
        Field(
            description="Names of which the state holds two claims, because of an unfinished replacement, "
            "and the preview shows one. No total includes the other one."
        ),
    ]
    other_changed_resources: NonNegativeInt
    broken_rules: tuple[ViolationJson, ...]
    released_first: ReleasedFirstJson
    totals: tuple[TotalJson, ...]
    claims: Annotated[tuple[ClaimJson, ...], Field(description="The claims that change, the riskiest first.")]
    drift: tuple[DriftJson, ...]
    unseen_values: Annotated[
        tuple[UnseenJson, ...],
        Field(description="If there are any, no fingerprint approves the plan."),
    ]
    cost: Annotated[CostJson | None, Field(description="null without a price book.")]
    native: Annotated[
        tuple[str, ...],
        Field(
            description="URNs of the claims that are declared with the native resource, changing or not. "
            "Left out if there are none."
        ),
    ] = ()
    moved: Annotated[
        tuple[str, ...],
        Field(
            description="URNs of the claims that move between the dynamic resource and the native one "
            "without a replacement. Left out if there are none."
        ),
    ] = ()
    imported_and_released: Annotated[
        tuple[str, ...],
        Field(
            description="Names of the claims that the plan imports with one of the two resources and "
            "releases with the other. Left out if there are none."
        ),
    ] = ()


def json_report(review: Review) -> str:
    """A review as JSON text. Names are not escaped for any other format."""
    document = _adapter().dump_python(_report(review), by_alias=True, exclude_defaults=True)
    return json.dumps(document, indent=2, default=_plain) + "\n"


@cache
def _adapter() -> TypeAdapter[ReportJson]:
    return TypeAdapter(ReportJson)


def _plain(value: Unknown | Kind | Order | Decimal) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value.value


def _report(review: Review) -> ReportJson:
    plan = review.plan
    found = counts(plan)
    certain, possible = plan.released_first()
    needs_capacity, cost = plan.needs_capacity, review.cost
    return ReportJson(
        version=1,
        project=plan.project,
        stack=plan.stack,
        operation="refresh" if plan.refresh else "update",
        exit_code=review.exit_code,
        fingerprint=review.fingerprint,
        errors=plan.errors,
        warnings=plan.warnings,
        summary=SummaryJson(*(found.get(kind, 0) for kind in Kind)),
        hidden_unchanged_resources=plan.hidden,
        half_shown=plan.half_shown,
        other_changed_resources=plan.others,
        broken_rules=tuple(
            ViolationJson(each.rule, each.claim, each.value, each.limit) for each in review.violations
        ),
        released_first=ReleasedFirstJson(
            certain=tuple(change.urn for change in certain), perhaps=tuple(change.urn for change in possible)
        ),
        totals=tuple(TotalJson(_known(kind), *map(_amount, total)) for kind, total in review.totals.items()),
        claims=tuple(_claim(change, needs_capacity) for change in plan.altered),
        drift=tuple(
            DriftJson(
                name=each.name,
                urn=each.urn,
                state=_spec(each.state),
                live=_spec(each.live) if each.live else None,
                id=each.claim_id,
                left_by_unfinished_replacement=each.by_unfinished_replacement,
            )
            for each in plan.drift
        ),
        unseen_values=tuple(
            UnseenJson(change.name, change.urn, field, UnknownJson(value))
            for change, field, value in plan.unseen
        ),
        cost=_cost(cost) if cost else None,
        native=tuple(change.urn for change in plan.changes if change.native),
        moved=tuple(change.urn for change in plan.moved),
        imported_and_released=plan.imported_and_released,
    )


def _claim(change: Change, plan_needs_capacity: bool) -> ClaimJson:
    left = sum_of(change.held_without_capacity(plan_needs_capacity))
    return ClaimJson(
        name=change.name,
        urn=change.urn,
        id=change.claim_id,
        kind=change.kind,
        order=change.order,
        replace_reasons=change.reasons,
        protected=change.protected,
        retained=change.retained,
        left_by_unfinished_replacement=change.by_unfinished_replacement,
        if_it_exists=change.if_it_exists,
        takes_over=_takeover(change.takes_over) if change.takes_over else None,
        before=_spec(change.before) if change.before else None,
        after=_spec(change.after) if change.after else None,
        peak=_amount(change.peak),
        if_nothing_is_found=_amount(left),
    )


def _takeover(existing: Existing) -> TakeoverJson:
    return TakeoverJson(existing.claim_id, _spec(existing.spec), existing.allocated, existing.state)


def _cost(cost: Cost) -> CostJson:
    return CostJson(
        currency=cost.currency,
        per_hour=_sum(cost.per_hour),
        per_month=_sum(cost.per_hour.per_month()),
        gpus=_sum(cost.gpus) if cost.gpus else None,
        unpriced=cost.unpriced,
    )


def _spec(spec: Spec) -> SpecJson:
    zones = spec.zones if isinstance(spec.zones, Unknown) else tuple(map(_known, spec.zones))
    return SpecJson(
        instance_type=_known(spec.instance_type),
        instance_count=_known(spec.count),
        zones=_known(zones),
        capacity_type=_known(spec.capacity_type),
        name=_known(spec.name),
    )


def _known(value: _Value | Unknown) -> _Value | UnknownJson:
    return UnknownJson(value) if isinstance(value, Unknown) else value


def _amount(amount: Amount) -> AmountJson:
    return AmountJson(amount.known, amount.at_least)


def _sum(sums: Sum) -> SumJson:
    return SumJson(sums.before, sums.after, sums.peak, sums.partial, sums.partial_before)
