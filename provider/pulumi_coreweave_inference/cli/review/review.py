"""A plan, and everything that was found out about it: what all writers write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .fingerprint import fingerprint
from .plan import InstanceType, Plan, Total, totals
from .prices import Cost, PriceBook, cost
from .rules import Broken, Rules, broken


@dataclass(frozen=True, slots=True)
class Review:
    """A reviewed plan."""

    plan: Plan
    totals: Mapping[InstanceType, Total]
    fingerprint: str
    ruled: bool  # whether there were any rules to break
    broken: tuple[Broken, ...]
    cost: Cost | None

    @property
    def exit_code(self) -> int:
        """0: fine; 1: a rule is broken; 2: the preview failed, so that there is nothing to approve."""
        if self.plan.errors:
            return 2
        return 1 if self.broken else 0


def review(
    plan: Plan, rules: Rules | None = None, prices: PriceBook | None = None, expected: str | None = None
) -> Review:
    """Review a plan; `expected` is the fingerprint of the plan that was approved."""
    sums = totals(plan)
    mark = fingerprint(plan)
    found = broken(rules, plan, sums) if rules else []
    if expected is not None and expected.lower() != mark:
        found.append(Broken("expect-fingerprint", None, mark, expected.lower()))
    return Review(
        plan=plan,
        totals=sums,
        fingerprint=mark,
        ruled=rules is not None or expected is not None,
        broken=tuple(found),
        cost=cost(plan, prices) if prices else None,
    )
