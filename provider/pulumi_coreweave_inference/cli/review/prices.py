"""The cost of a plan, from a price book that the user provides. There are no built-in prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator, Field, NonNegativeInt

from .plan import Plan, Spec, Unknown, amount_of
from .toml_model import TomlModel

HOURS_PER_MONTH: Final = 730


def _decimal(value: object) -> object:
    """A whole number as a Decimal, which is how TOML's other numbers are read."""
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


_MOST: Final = 10**12  # more than anything costs; far larger numbers cannot be computed or printed
Price = Annotated[Decimal, Field(ge=0, le=_MOST), BeforeValidator(_decimal)]
_Gpus = Annotated[NonNegativeInt, Field(le=_MOST)]


class PriceBook(TomlModel):
    """Prices per instance and hour, and GPUs per instance, by instance type."""

    currency: str = ""
    """Only shown, such as USD."""
    per_hour: dict[str, Price] = Field(default_factory=dict)
    """The price of one instance per hour, by instance type."""
    gpus: dict[str, _Gpus] = Field(default_factory=dict)
    """GPUs of one instance, by instance type."""


class Sum(NamedTuple):
    """A cost per hour or a number of GPUs: before, after, and at most during the update.

    `partial` means that instances are left out because they have no price or their number is not known.
    """

    before: Decimal
    after: Decimal
    peak: Decimal
    partial: bool
    partial_before: bool = False  # whether `before` is partial, too

    def per_month(self) -> Sum:
        """A cost per hour as the cost per month of 730 hours."""
        before, after, peak = (value * HOURS_PER_MONTH for value in (self.before, self.after, self.peak))
        return Sum(before, after, peak, self.partial, self.partial_before)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a plan."""

    currency: str
    per_hour: Sum
    gpus: Sum | None
    unpriced: tuple[str, ...]  # instance types without a price


def cost(plan: Plan, book: PriceBook) -> Cost:
    """The cost of a plan. A claim that is deleted first and then created never costs twice."""
    used = {spec.instance_type for change in plan.changes for phase in change.phases for spec in phase}
    gpus = {name: Decimal(number) for name, number in book.gpus.items()}
    return Cost(
        currency=book.currency,
        per_hour=_sum(plan, book.per_hour),
        gpus=_sum(plan, gpus) if gpus else None,
        unpriced=tuple(
            sorted(kind for kind in used if not isinstance(kind, Unknown) and kind not in book.per_hour)
        ),
    )


def _sum(plan: Plan, weights: Mapping[str, Decimal]) -> Sum:
    before = after = peak = Decimal(0)
    partial = partial_before = plan.incomplete
    for change in plan.changes:
        phases = [_weigh(phase, weights) for phase in change.phases]
        before += phases[0][0]
        after += phases[-1][0]
        peak += max(weight for weight, _ in phases)
        partial_before = partial_before or phases[0][1]
        partial = partial or any(missing for _, missing in phases)
    return Sum(before, after, peak, partial, partial_before)


def _weigh(specs: Iterable[Spec], weights: Mapping[str, Decimal]) -> tuple[Decimal, bool]:
    """The sum over the specs, and whether it is partial."""
    total, partial = Decimal(0), False
    for spec in specs:
        amount = amount_of(spec)
        kind = spec.instance_type
        weight = None if isinstance(kind, Unknown) else weights.get(kind)
        total += (weight or 0) * amount.known
        partial = partial or amount.at_least or (weight is None and amount.known > 0)
    return total, partial
