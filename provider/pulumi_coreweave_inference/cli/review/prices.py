"""What a plan costs, by a price book of the reader's own. No price is known here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from .plan import Plan, Spec, Unsaid, amount_of

HOURS_PER_MONTH: Final = 730


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices per instance and hour, and GPUs per instance, by instance type."""

    currency: str
    per_hour: Mapping[str, Decimal]
    gpus: Mapping[str, int]


class BadPrices(Exception):
    """A price book that cannot be understood; the text says what, in one line."""


class Sum(NamedTuple):
    """A cost per hour or a number of GPUs: before, after, and at most during the update.

    `partial` when instances are left out that have no price, or that the preview does not number.
    """

    before: Decimal
    after: Decimal
    peak: Decimal
    partial: bool
    partial_before: bool = False  # whether that is so of `before`, too

    def per_month(self) -> Sum:
        """The same, of a cost per hour, per month of 730 hours."""
        before, after, peak = (value * HOURS_PER_MONTH for value in (self.before, self.after, self.peak))
        return Sum(before, after, peak, self.partial, self.partial_before)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan costs by a price book."""

    currency: str
    per_hour: Sum
    gpus: Sum | None
    unpriced: tuple[str, ...]  # instance types without a price


def load(text: str) -> PriceBook:
    """Read a price book. Raises `BadPrices`."""
    try:
        given = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise BadPrices(f"not TOML: {error}") from None
    known = ("currency", "per_hour", "gpus")
    if unknown := sorted(set(given) - set(known)):
        raise BadPrices(f"unknown key {', '.join(unknown)}; known are {', '.join(known)}")
    currency = given.get("currency", "")
    if not isinstance(currency, str):
        raise BadPrices(f"currency must be a text, not {currency!r}")
    prices = {name: Decimal(price) for name, price in _numbers(given, "per_hour", int, Decimal).items()}
    return PriceBook(currency, prices, _numbers(given, "gpus", int))


def cost(plan: Plan, book: PriceBook) -> Cost:
    """What a plan costs. A claim that is first released and then made anew is never paid twice."""
    used = {spec.instance_type for change in plan.changes for phase in change.phases for spec in phase}
    gpus: Mapping[str, Decimal] = {name: Decimal(number) for name, number in book.gpus.items()}
    return Cost(
        currency=book.currency,
        per_hour=_sum(plan, book.per_hour),
        gpus=_sum(plan, gpus) if gpus else None,
        unpriced=tuple(
            sorted(kind for kind in used if not isinstance(kind, Unsaid) and kind not in book.per_hour)
        ),
    )


def _sum(plan: Plan, weights: Mapping[str, Decimal]) -> Sum:
    before = after = peak = Decimal(0)
    partial = partial_before = bool(plan.hidden)
    for change in plan.changes:
        phases = [_weigh(phase, weights) for phase in change.phases]
        before += phases[0][0]
        after += phases[-1][0]
        peak += max(weight for weight, _ in phases)
        partial_before = partial_before or phases[0][1]
        partial = partial or any(missing for _, missing in phases)
    return Sum(before, after, peak, partial, partial_before)


def _weigh(specs: Iterable[Spec], weights: Mapping[str, Decimal]) -> tuple[Decimal, bool]:
    total, partial = Decimal(0), False
    for spec in specs:
        amount = amount_of(spec)
        kind = spec.instance_type
        weight = None if isinstance(kind, Unsaid) else weights.get(kind)
        total += (weight or 0) * amount.known
        partial = partial or amount.more or (weight is None and amount.known > 0)
    return total, partial


def _numbers(given: Mapping[str, Any], key: str, *kinds: type[int] | type[Decimal]) -> dict[str, Any]:
    table = given.get(key, {})
    if not isinstance(table, dict):
        raise BadPrices(f"{key} must be a table of instance types")
    for name, value in table.items():
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or not Decimal(value).is_finite() or value < 0:
            raise BadPrices(f"{key}.{name} must be a number, 0 or more, not {value!s}")
    return table
