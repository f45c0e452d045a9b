"""A plan and everything found out about it: the input of every writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .fingerprint import fingerprint
from .plan import InstanceType, Plan, Total, totals
from .prices import Cost, PriceBook, cost
from .rules import Rules, Violation, violations


@dataclass(frozen=True, slots=True)
class Review:
    """A reviewed plan."""

    plan: Plan
    totals: Mapping[InstanceType, Total]
    fingerprint: str
    has_rules: bool
    violations: tuple[Violation, ...]
    cost: Cost | None

    @property
    def exit_code(self) -> int:
        """0: no objection; 1: a rule is violated; 2: the preview failed, so there is nothing to approve."""
        if self.plan.errors:
            return 2
        return 1 if self.violations else 0


def review(
    plan: Plan, rules: Rules | None = None, prices: PriceBook | None = None, expected: str | None = None
) -> Review:
    """Review a plan. `expected` is the fingerprint of the approved plan.

    No fingerprint approves a plan with values that the preview does not show.
    """
    sums = totals(plan)
    digits = fingerprint(plan)
    costs = cost(plan, prices) if prices else None
    found = violations(rules, plan, sums, costs) if rules else []
    if expected is not None:
        found += [
            Violation("expect-fingerprint", change.name, f"{field} is {value}", "a value that is shown")
            for change, field, value in plan.unseen
        ]
        if expected.lower() != digits:
            found.append(Violation("expect-fingerprint", None, digits, expected.lower()))
    return Review(
        plan=plan,
        totals=sums,
        fingerprint=digits,
        has_rules=rules is not None or expected is not None,
        violations=tuple(found),
        cost=costs,
    )
