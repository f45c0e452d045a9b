"""The small tree a preview is read into: one change per claim, and what follows from it.

A claim goes through *phases*: what it holds before, in between, and after. Claims go through theirs
independently, so what a stack holds at most is the sum of what each of its claims holds at most. That is
an upper bound: it assumes nothing about the order in which the engine gets to the claims.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple


class Unsaid(enum.Enum):
    """Why a preview does not say a value."""

    UNKNOWN = "unknown until apply"
    SECRET = "secret"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a claim reserves. Zones are in order of preference."""

    instance_type: str | Unsaid
    count: int | Unsaid
    zones: tuple[str | Unsaid, ...] | Unsaid
    capacity_type: str | Unsaid
    name: str | Unsaid | None = None

    def unsaid(self) -> list[tuple[str, Unsaid]]:
        """The properties whose values the preview does not say."""
        found = [
            (field, value)
            for field, value in (
                ("instance type", self.instance_type),
                ("instance count", self.count),
                ("zones", self.zones),
                ("capacity type", self.capacity_type),
                ("name", self.name),
            )
            if isinstance(value, Unsaid)
        ]
        if isinstance(self.zones, tuple):
            found += [("a zone", zone) for zone in self.zones if isinstance(zone, Unsaid)]
        return found


class Kind(enum.Enum):
    """What happens to a claim; in the order in which a reviewer should see them."""

    REPLACE = "replace"
    RELEASE = "release"
    FORGET = "forget"  # leaves the stack, and stays at the API
    CREATE = "create"
    IMPORT = "import"
    SCALE = "scale"
    CHANGE = "change"  # in place, and not or not only the count
    SAME = "same"


class Order(enum.Enum):
    """Which half of a replacement comes first."""

    CREATE_FIRST = "create first"
    DELETE_FIRST = "delete first"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one claim."""

    urn: str
    name: str
    kind: Kind
    before: Spec | None
    after: Spec | None
    order: Order | None = None  # of a replacement
    reasons: tuple[str, ...] = ()  # the properties that make it a replacement
    claim_id: str | None = None  # of the claim there is
    protected: bool = False
    retained: bool = False  # the old claim stays at the API, whatever happens in the stack
    earlier: bool = False  # the release of what an unfinished replacement has left

    @property
    def phases(self) -> tuple[tuple[Spec, ...], ...]:
        """What the claim holds, from before to after."""
        old = (self.before,) if self.before else ()
        new = (self.after,) if self.after else ()
        if self.kind is Kind.REPLACE:
            if self.retained:
                return (old, old + new)
            if self.order is Order.DELETE_FIRST:
                return (old, (), new)
            return (old, old + new, new)
        if self.kind in (Kind.FORGET, Kind.SAME):
            return (old,)
        if self.kind is Kind.IMPORT:
            return (new,)
        return (old, new)

    @property
    def growth(self) -> int | None:
        """Instances more (or, below 0, fewer) of any type; None where the preview does not say."""
        counts = [sum_of(self.phases[index]) for index in (0, -1)]
        if counts[0].more or counts[1].more:
            return None
        return counts[1].known - counts[0].known

    @property
    def asks(self) -> bool:
        """Whether instances have to be found for it, which may fail."""
        if self.kind is Kind.SCALE:
            return self.growth is None or self.growth > 0
        return self.kind in (Kind.REPLACE, Kind.CREATE, Kind.CHANGE) and not self.only_noted

    @property
    def only_noted(self) -> bool:
        """Whether it is known to change the state, and nothing at the API."""
        said = self.after is not None and not self.after.unsaid()
        return self.kind is Kind.CHANGE and said and self.before == self.after

    def on_failure(self, plan_asks: bool) -> tuple[Spec, ...]:
        """What it holds for certain when none of the instances that its plan asks for are found.

        Then the update fails, and with it everything that it does last: releases.
        """
        if self.asks:
            if self.kind is Kind.REPLACE and self.order is not Order.CREATE_FIRST and not self.retained:
                return ()
            return self.phases[0]
        return self.phases[0] if self.kind is Kind.RELEASE and plan_asks else self.phases[-1]


@dataclass(frozen=True, slots=True)
class Drift:
    """A claim that the API holds otherwise than the state has it; None: it is gone."""

    urn: str
    name: str
    state: Spec
    live: Spec | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a preview says about claims."""

    project: str = ""
    stack: str = ""
    changes: tuple[Change, ...] = ()  # unchanged claims too, as far as they are shown
    drift: tuple[Drift, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    others: int = 0  # other resources that change
    hidden: int = 0  # unchanged resources that the preview left out
    refresh: bool = False  # a preview of a refresh, which changes nothing but the state

    @property
    def altered(self) -> tuple[Change, ...]:
        """The claims that something happens to."""
        return tuple(change for change in self.changes if change.kind is not Kind.SAME)

    @property
    def asks(self) -> bool:
        """Whether any instances have to be found."""
        return any(change.asks for change in self.changes)

    def released_first(self) -> tuple[list[Change], list[Change]]:
        """What gives instances back before others are granted: for certain, and perhaps.

        A release comes after everything else has succeeded. In-place changes come in no fixed order.
        """
        certain: list[Change] = []
        perhaps: list[Change] = []
        asking = sum(change.asks for change in self.changes)
        for change in self.changes:
            if change.kind is Kind.REPLACE and not change.retained:
                if change.order is Order.DELETE_FIRST:
                    certain.append(change)
                elif change.order is Order.UNKNOWN:
                    perhaps.append(change)
            elif change.kind in (Kind.SCALE, Kind.CHANGE) and asking > change.asks:
                if change.growth is None:
                    perhaps.append(change)
                elif change.growth < 0:
                    certain.append(change)
        return certain, perhaps


class Amount(NamedTuple):
    """A number of instances, and whether there are more that the preview does not say."""

    known: int = 0
    more: bool = False

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.known + other.known, self.more or other.more)

    def most(self, other: Amount) -> Amount:
        """What is enough for either of them."""
        return Amount(max(self.known, other.known), self.more or other.more)


class Total(NamedTuple):
    """Instances of one type, in all claims shown."""

    before: Amount = Amount()
    after: Amount = Amount()
    peak: Amount = Amount()
    on_failure: Amount = Amount()


InstanceType = str | Unsaid
_NONE: Final = Amount()


def amount_of(spec: Spec) -> Amount:
    """How many instances a claim holds."""
    return Amount(more=True) if isinstance(spec.count, Unsaid) else Amount(spec.count)


def sum_of(specs: Iterable[Spec]) -> Amount:
    """How many instances several claims hold."""
    total = _NONE
    for spec in specs:
        total = total.plus(amount_of(spec))
    return total


def totals(plan: Plan) -> dict[InstanceType, Total]:
    """Instances by type, sorted; what has no known type comes last."""
    sums: dict[InstanceType, Total] = {}
    asks = plan.asks
    for change in plan.changes:
        phases = [_by_type(phase) for phase in change.phases]
        failed = _by_type(change.on_failure(asks))
        for kind in {kind for phase in phases for kind in phase}:
            peak = _NONE
            for phase in phases:
                peak = peak.most(phase.get(kind, _NONE))
            total = sums.get(kind, Total())
            sums[kind] = Total(
                total.before.plus(phases[0].get(kind, _NONE)),
                total.after.plus(phases[-1].get(kind, _NONE)),
                total.peak.plus(peak),
                total.on_failure.plus(failed.get(kind, _NONE)),
            )
    return dict(sorted(sums.items(), key=lambda item: (isinstance(item[0], Unsaid), _text(item[0]))))


def counts(plan: Plan) -> dict[Kind, int]:
    """How many claims each thing happens to; in the order of `Kind`."""
    found = Counter(change.kind for change in plan.changes)
    return {kind: found[kind] for kind in Kind if found[kind]}


def _by_type(specs: Iterable[Spec]) -> dict[InstanceType, Amount]:
    sums: dict[InstanceType, Amount] = {}
    for spec in specs:
        sums[spec.instance_type] = sums.get(spec.instance_type, _NONE).plus(amount_of(spec))
    return sums


def _text(value: str | Unsaid) -> str:
    return value.value if isinstance(value, Unsaid) else value
