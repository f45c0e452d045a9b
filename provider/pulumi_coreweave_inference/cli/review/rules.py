"""The rules of a team, and where a plan violates them.

A value that the preview does not show violates every rule about it, because it cannot be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, NonNegativeInt

from .plan import Amount, Change, InstanceType, Kind, Order, Plan, Spec, Total, Unknown, amount_of, sum_of
from .prices import Cost, Price
from .toml_model import TomlModel


class PeakLimits(TomlModel):
    """The most instances of all claims, and of all claims of a type."""

    stack: NonNegativeInt | None = None
    """Of all claims together."""
    type: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Of all claims of an instance type, by the type."""


class InstanceLimits(PeakLimits):
    """The most instances of one claim, of all claims, and of all claims of a type."""

    claim: NonNegativeInt | None = None
    """Of each claim."""


class CostLimits(TomlModel):
    """The most that all claims may cost per hour, in the currency of the prices."""

    after: Price | None = None
    """After the update."""
    peak: Price | None = None
    """At any moment of the update."""
    increase: Price | None = None
    """More than before."""
    increase_percent: Price | None = None
    """More than before, in percent."""


class Rules(TomlModel):
    """A file of rules. A rule that is not set does not apply."""

    instance_types: list[str] | None = None
    """The only types that claims may have."""
    zones: list[str] | None = None
    """The only zones that claims may name."""
    min_zones: NonNegativeInt | None = None
    """How many zones each claim must name."""
    max_scale_down: NonNegativeInt | None = None
    """How many instances of its old type one claim may give back in one update."""
    protected: list[str] = Field(default_factory=list)
    """Resource names of claims that must have protect=True and must stay; *, ? and [abc] are wildcards."""
    replace: Literal["allow", "create-first", "forbid"] = "allow"
    """Whether claims may be replaced; `create-first`: only if the new claim is created first."""
    max_instances: InstanceLimits = InstanceLimits()
    """The most instances after the update."""
    max_peak: PeakLimits = PeakLimits()
    """The most instances at any moment of the update."""
    max_cost: CostLimits = CostLimits()
    """The most that all claims may cost per hour, in the currency of --prices."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a plan violates: by which claim (None: by all together), with which value."""

    rule: str
    claim: str | None
    value: str
    limit: str


def violations(
    rules: Rules, plan: Plan, sums: Mapping[InstanceType, Total], cost: Cost | None
) -> list[Violation]:
    """Where a plan violates the rules: claim by claim, then all claims together."""
    found: list[Violation] = []
    for change in plan.changes:
        found += _of_claim(rules, change)
    found += _of_stack(rules, plan, sums)
    found += _of_cost(rules.max_cost, cost)
    return found


_Violate = Callable[[str, str, str], Violation]


def _of_claim(rules: Rules, change: Change) -> Iterator[Violation]:
    def violation(rule: str, value: str, limit: str) -> Violation:
        return Violation(rule, change.name, value, limit)

    if change.after is not None:
        yield from _of_spec(rules, change.after, violation)
    if rules.replace != "allow" and change.kind is Kind.REPLACE:
        reasons = f" because of {', '.join(change.reasons)}" if change.reasons else ""
        if rules.replace == "forbid":
            yield violation("replace", f"replaced{reasons}", "no replacement")
        elif change.order is not Order.CREATE_FIRST:
            order = "released first" if change.order is Order.DELETE_FIRST else "in an unknown order"
            yield violation("replace", f"replaced{reasons}, {order}", "the new claim first")
    if rules.max_scale_down is not None and change.kind is not Kind.FORGET:
        lost = _given_back(change)
        if _exceeds(lost, rules.max_scale_down):
            value = "an unknown number" if lost.at_least else str(lost.known)
            yield violation("max_scale_down", f"{value} fewer", f"at most {rules.max_scale_down} fewer")
    for pattern in rules.protected:
        if fnmatchcase(change.name, pattern):
            if change.kind in (Kind.RELEASE, Kind.FORGET) and not change.by_unfinished_replacement:
                verb = "released" if change.kind is Kind.RELEASE else "removed from the stack"
                yield violation("protected", verb, f"{pattern} stays and is protected")
            elif not change.protected and not change.by_unfinished_replacement:
                yield violation("protected", "not protected", f"{pattern} is protected")
            break


def _of_spec(rules: Rules, spec: Spec, violation: _Violate) -> Iterator[Violation]:
    types, zones, most = rules.instance_types, rules.zones, rules.max_instances.claim
    if types is not None and spec.instance_type not in types:
        yield violation("instance_types", str(spec.instance_type), _one_of(types))
    if zones is not None:
        for zone in (spec.zones,) if isinstance(spec.zones, Unknown) else spec.zones:
            if zone not in zones:
                yield violation("zones", str(zone), _one_of(zones))
    if rules.min_zones is not None:
        if isinstance(spec.zones, Unknown):
            yield violation("min_zones", str(spec.zones), f"at least {rules.min_zones}")
        elif len(spec.zones) < rules.min_zones:
            yield violation("min_zones", str(len(spec.zones)), f"at least {rules.min_zones}")
    amount = amount_of(spec)
    if most is not None and _exceeds(amount, most):
        yield violation("max_instances.claim", _instances(amount), f"at most {most}")


def _of_stack(rules: Rules, plan: Plan, sums: Mapping[InstanceType, Total]) -> Iterator[Violation]:
    limits: tuple[tuple[str, str, PeakLimits, int], ...] = (
        ("max_instances", "", rules.max_instances, 1),
        ("max_peak", " during the update", rules.max_peak, 2),
    )
    for rule, when, limit, column in limits:
        if plan.incomplete and (limit.stack is not None or limit.type):
            yield Violation(
                rule, None, *_not_shown(plan),
            )  # fmt: skip
        if limit.stack is not None:
            total = Amount()
            for sum_ in sums.values():
                total = total.plus(sum_[column])
            if _exceeds(total, limit.stack):
                yield Violation(f"{rule}.stack", None, _instances(total) + when, f"at most {limit.stack}")
        for kind, most in limit.type.items():
            total = sums.get(kind, Total())[column]
            for unknown in Unknown:  # any of these may be of the type
                total = total.plus(Amount(at_least=unknown in sums))
            if _exceeds(total, most):
                yield Violation(
                    f"{rule}.type", None, f"{_instances(total)} of {kind}{when}", f"at most {most}"
                )


def _of_cost(limits: CostLimits, cost: Cost | None) -> Iterator[Violation]:
    if limits == CostLimits():
        return
    if cost is None:
        yield Violation("max_cost", None, "no prices are given", "a cost: pass --prices")
        return
    hour = cost.per_hour
    if hour.partial:
        what = f"no price for {', '.join(cost.unpriced)}" if cost.unpriced else "a number that is not shown"
        yield Violation("max_cost", None, what, "a cost that is known")
    more = max(hour.after - hour.before, Decimal(0))
    for rule, value, most in (
        ("after", hour.after, limits.after),
        ("peak", hour.peak, limits.peak),
        ("increase", more, limits.increase),
    ):
        if most is not None and value > most:
            yield Violation(f"max_cost.{rule}", None, _money(value, cost), f"at most {_money(most, cost)}")
    most = limits.increase_percent
    if most is not None and more * 100 > hour.before * most:
        percent = f"{more * 100 / hour.before:.4g} % more" if hour.before else "more than nothing"
        yield Violation("max_cost.increase_percent", None, percent, f"at most {most:f} % more")


def _money(value: Decimal, cost: Cost) -> str:
    return f"{value:f} {cost.currency}".strip() + " per hour"


def _not_shown(plan: Plan) -> tuple[str, str]:
    """What an incomplete preview leaves out, and how it would be shown."""
    if plan.hidden:
        return f"{plan.hidden} unchanged resources are not shown", (
            "all claims shown: run pulumi preview with --show-sames"
        )
    names = ", ".join(plan.half_shown)
    return f"one of two claims is not shown: {names}", "all claims shown: run pulumi preview --refresh"


def _given_back(change: Change) -> Amount:
    """Instances of the old type that are released or changed to another type."""
    before, after = change.phases[0], change.phases[-1]
    kinds = {spec.instance_type for spec in before}
    held, kept = sum_of(before), sum_of(spec for spec in after if spec.instance_type in kinds)
    unknown = any(isinstance(spec.instance_type, Unknown) for spec in after)
    at_least = bool(before) and (held.at_least or kept.at_least or unknown)
    return Amount(max(0, held.known - kept.known), at_least)


def _exceeds(amount: Amount, limit: int) -> bool:
    return amount.at_least or amount.known > limit


def _instances(amount: Amount) -> str:
    return f"{amount.known} and an unknown number more" if amount.at_least else str(amount.known)


def _one_of(allowed: list[str]) -> str:
    return f"one of {', '.join(allowed)}" if allowed else "none"
