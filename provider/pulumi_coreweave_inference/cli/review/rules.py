"""What a team allows: the rules file, and where a plan breaks it.

A rule about a value that the preview does not say is broken, too: it cannot be checked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from .plan import Amount, Change, InstanceType, Kind, Order, Plan, Spec, Total, Unsaid, amount_of, sum_of


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a plan breaks: by which claim (None: by all together), with which value."""

    rule: str
    claim: str | None
    value: str
    limit: str


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file; None: no such rule."""

    instance_types: tuple[str, ...] | None = None
    zones: tuple[str, ...] | None = None
    min_zones: int | None = None
    max_scale_down: int | None = None
    protected: tuple[str, ...] = ()
    replace: str = "allow"
    max_per_claim: int | None = None
    max_per_stack: int | None = None
    max_per_type: Mapping[str, int] = field(default_factory=dict)
    max_peak_per_stack: int | None = None
    max_peak_per_type: Mapping[str, int] = field(default_factory=dict)


class BadRules(Exception):
    """A rules file that cannot be understood; the text says what and where, in one line."""


REPLACE: Final = ("allow", "create-first", "forbid")


def load(text: str) -> Rules:
    """Read a rules file. Raises `BadRules`."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRules(f"not TOML: {error}") from None
    most = _table(given, "max_instances", ("claim", "stack", "type"))
    peak = _table(given, "max_peak", ("stack", "type"))
    _refuse_unknown(given, "", (
        "instance_types", "zones", "min_zones", "max_scale_down", "protected", "replace",
        "max_instances", "max_peak",
    ))  # fmt: skip
    replace = given.get("replace", "allow")
    if replace not in REPLACE:
        raise BadRules(f"replace must be one of {', '.join(REPLACE)}, not {replace!r}")
    return Rules(
        instance_types=_texts(given, "instance_types"),
        zones=_texts(given, "zones"),
        min_zones=_number(given, "min_zones"),
        max_scale_down=_number(given, "max_scale_down"),
        protected=_texts(given, "protected") or (),
        replace=replace,
        max_per_claim=_number(most, "claim", "max_instances."),
        max_per_stack=_number(most, "stack", "max_instances."),
        max_per_type=_numbers(most, "type", "max_instances."),
        max_peak_per_stack=_number(peak, "stack", "max_peak."),
        max_peak_per_type=_numbers(peak, "type", "max_peak."),
    )


def broken(rules: Rules, plan: Plan, sums: Mapping[InstanceType, Total]) -> list[Broken]:
    """Where a plan breaks the rules: claim by claim, then all claims together."""
    found: list[Broken] = []
    for change in plan.changes:
        found += _of_claim(rules, change)
    found += _of_stack(rules, plan, sums)
    return found


def _of_claim(rules: Rules, change: Change) -> Iterator[Broken]:
    def breach(rule: str, value: str, limit: str) -> Broken:
        return Broken(rule, change.name, value, limit)

    spec = change.after
    if spec is not None:
        allowed = rules.instance_types
        if allowed is not None and spec.instance_type not in allowed:
            yield breach("instance_types", _show(spec.instance_type), _among(allowed))
        yield from _of_zones(rules, spec, breach)
        amount = amount_of(spec)
        if rules.max_per_claim is not None and _exceeds(amount, rules.max_per_claim):
            yield breach("max_instances.claim", _instances(amount), f"at most {rules.max_per_claim}")
    if rules.replace != "allow" and change.kind is Kind.REPLACE:
        reasons = f" because of {', '.join(change.reasons)}" if change.reasons else ""
        if rules.replace == "forbid":
            yield breach("replace", f"replaced{reasons}", "no replacement")
        elif change.order is not Order.CREATE_FIRST:
            order = "released first" if change.order is Order.DELETE_FIRST else "in an order not shown"
            yield breach("replace", f"replaced{reasons}, {order}", "the new claim first")
    if rules.max_scale_down is not None and change.kind is not Kind.FORGET:
        lost = _given_back(change)
        if _exceeds(lost, rules.max_scale_down):
            value = _show(lost.known) if not lost.more else "not known"
            yield breach("max_scale_down", f"{value} fewer", f"at most {rules.max_scale_down} fewer")
    for pattern in rules.protected:
        if fnmatchcase(change.name, pattern):
            if change.kind in (Kind.RELEASE, Kind.FORGET) and not change.earlier:
                verb = "released" if change.kind is Kind.RELEASE else "removed from the stack"
                yield breach("protected", verb, f"{pattern} stays, protected")
            elif not change.protected and not change.earlier:
                yield breach("protected", "not protected", f"{pattern} is protected")
            break


def _of_zones(rules: Rules, spec: Spec, breach: Callable[[str, str, str], Broken]) -> Iterator[Broken]:
    if rules.zones is not None:
        given = (spec.zones,) if isinstance(spec.zones, Unsaid) else spec.zones
        for zone in given:
            if zone not in rules.zones:
                yield breach("zones", _show(zone), _among(rules.zones))
    if rules.min_zones is not None:
        if isinstance(spec.zones, Unsaid):
            yield breach("min_zones", spec.zones.value, f"at least {rules.min_zones}")
        elif len(spec.zones) < rules.min_zones:
            yield breach("min_zones", str(len(spec.zones)), f"at least {rules.min_zones}")


def _of_stack(rules: Rules, plan: Plan, sums: Mapping[InstanceType, Total]) -> Iterator[Broken]:
    limits = (
        ("max_instances", "", rules.max_per_stack, rules.max_per_type, 1),
        ("max_peak", " during the update", rules.max_peak_per_stack, rules.max_peak_per_type, 2),
    )
    for rule, when, per_stack, per_type, column in limits:
        if plan.hidden and (per_stack is not None or per_type):
            yield Broken(
                rule, None, f"{plan.hidden} unchanged resources are not shown",
                "all claims shown: run pulumi preview with --show-sames",
            )  # fmt: skip
        if per_stack is not None:
            total = Amount()
            for sum_ in sums.values():
                total = total.plus(sum_[column])
            if _exceeds(total, per_stack):
                yield Broken(f"{rule}.stack", None, _instances(total) + when, f"at most {per_stack}")
        for kind, limit in per_type.items():
            total = sums.get(kind, Total())[column]
            for unsaid in Unsaid:  # any of these may be of the type
                total = total.plus(Amount(more=unsaid in sums))
            if _exceeds(total, limit):
                yield Broken(f"{rule}.type", None, f"{_instances(total)} of {kind}{when}", f"at most {limit}")


def _given_back(change: Change) -> Amount:
    """Instances of the old type that are not held any more, or not of that type."""
    before, after = change.phases[0], change.phases[-1]
    kinds = {spec.instance_type for spec in before}
    held, kept = sum_of(before), sum_of(spec for spec in after if spec.instance_type in kinds)
    unsaid = any(isinstance(spec.instance_type, Unsaid) for spec in after) and bool(before)
    return Amount(max(0, held.known - kept.known), bool(before) and (held.more or kept.more or unsaid))


def _exceeds(amount: Amount, limit: int) -> bool:
    return amount.more or amount.known > limit


def _instances(amount: Amount) -> str:
    return f"{amount.known} and an unknown number more" if amount.more else str(amount.known)


def _show(value: object) -> str:
    return value.value if isinstance(value, Unsaid) else str(value)


def _among(allowed: tuple[str, ...]) -> str:
    return f"one of {', '.join(allowed)}" if allowed else "none"


def _refuse_unknown(given: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        names = ", ".join(f"{where}{name}" for name in unknown)
        raise BadRules(f"unknown key {names}; known are {', '.join(where + name for name in known)}")


def _table(given: Mapping[str, Any], key: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    table = given.get(key, {})
    if not isinstance(table, dict):
        raise BadRules(f"{key} must be a table with {', '.join(known)}")
    _refuse_unknown(table, f"{key}.", known)
    return table


def _texts(given: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRules(f"{key} must be a list of texts, not {value!r}")
    return tuple(value)


def _number(given: Mapping[str, Any], key: str, where: str = "") -> int | None:
    value = given.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise BadRules(f"{where}{key} must be a whole number, 0 or more, not {value!r}")
    return value


def _numbers(given: Mapping[str, Any], key: str, where: str) -> Mapping[str, int]:
    table = given.get(key, {})
    if not isinstance(table, dict):
        raise BadRules(f"{where}{key} must be a table of instance types")
    return {name: _number(table, name, f"{where}{key}.") or 0 for name in table}
