"""The model of a plan: one change per claim, and what follows from it.

A claim goes through *phases*: what it holds before, in between, and after. Claims go through theirs
independently, so the peak of a stack is at most the sum of the peaks of its claims. This upper bound does
not depend on the order in which the engine updates the claims.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple


class Unknown(enum.Enum):
    """Why a preview does not show a value."""

    COMPUTED = "unknown"
    SECRET = "secret"

    def __str__(self) -> str:
        return "secret" if self is Unknown.SECRET else "unknown until apply"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a claim reserves. Zones are in order of preference."""

    instance_type: str | Unknown
    count: int | Unknown
    zones: tuple[str | Unknown, ...] | Unknown
    capacity_type: str | Unknown
    name: str | Unknown | None = None

    def unknowns(self) -> list[tuple[str, Unknown]]:
        """The properties whose values the preview does not show."""
        found = [
            (field, value)
            for field, value in (
                ("instance type", self.instance_type),
                ("instance count", self.count),
                ("zones", self.zones),
                ("capacity type", self.capacity_type),
                ("name", self.name),
            )
            if isinstance(value, Unknown)
        ]
        if isinstance(self.zones, tuple):
            found += [("a zone", zone) for zone in self.zones if isinstance(zone, Unknown)]
        return found


class Kind(enum.Enum):
    """What happens to a claim, in the order in which a reviewer should see it."""

    REPLACE = "replace"
    RELEASE = "release"
    FORGET = "forget"  # leaves the stack and stays at the API
    CREATE = "create"
    TAKEOVER = "takeover"  # enters the state; the claim exists already, and no second one is created
    IMPORT = "import"
    SCALE = "scale"
    CHANGE = "change"  # in place, and more than the count or something else
    SAME = "same"


class Order(enum.Enum):
    """Which half of a replacement comes first."""

    CREATE_FIRST = "create first"
    DELETE_FIRST = "delete first"
    UNKNOWN = "unknown"


class Evidence(enum.Enum):
    """Why a claim is taken over."""

    SAME_ID = "same id"  # the replacement of a claim computes the id of that claim
    LEFT = "left"  # the state holds it, because a replacement is unfinished
    REPORTED = "reported"  # the provider has found it


@dataclass(frozen=True, slots=True)
class Existing:
    """A claim that is taken over where a new one would be created.

    `allocated` and `state` are what the provider reports; None if it does not.
    """

    claim_id: str
    spec: Spec
    evidence: Evidence
    allocated: int | None = None
    state: str | None = None

    @property
    def granted(self) -> Spec:
        """The claim with the instances that it has been given, if they are known."""
        return self.spec if self.allocated is None else replace(self.spec, count=self.allocated)


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one claim."""

    urn: str
    name: str
    kind: Kind
    before: Spec | None
    after: Spec | None
    order: Order | None = None  # of a replacement
    reasons: tuple[str, ...] = ()  # the properties that require a replacement
    claim_id: str | None = None  # of the existing claim
    protected: bool = False
    retained: bool = False  # the old claim stays at the API whatever happens in the stack
    by_unfinished_replacement: bool = False  # releases what an unfinished replacement left
    if_it_exists: bool = False  # the preview does not show whether there is still something to release
    takes_over: Existing | None = None  # instead of a new claim
    diff: tuple[str, ...] = ()  # as Pulumi's row shows it, such as "~resources"
    native: bool = False  # whether the claim is declared with the native resource, or was
    moved: bool = False  # from the dynamic resource to the native one, or back
    unready: bool = False  # whether the state says that the claim is not ready yet

    @property
    def phases(self) -> tuple[tuple[Spec, ...], ...]:
        """What the claim holds, from before to after."""
        old = (self.before,) if self.before else ()
        new = (self.after,) if self.after else ()
        if self.kind is Kind.REPLACE:
            taken = (self.takes_over.spec,) if self.takes_over else ()
            if self.retained:
                return (old + taken, old + new)
            if self.order is Order.DELETE_FIRST:
                return (old + taken, taken, new)
            return (old + taken, old + new, new)
        if self.kind in (Kind.FORGET, Kind.SAME):
            return (old,)
        if self.kind is Kind.IMPORT:
            return (new,)
        return (old, new)

    @property
    def peak(self) -> Amount:
        """The most instances that the claim holds in any phase."""
        peak = _NONE
        for phase in self.phases:
            peak = peak.maximum(sum_of(phase))
        return peak

    @property
    def growth(self) -> int | None:
        """The change in the number of instances of all types; None if the preview does not show it."""
        first, last = (sum_of(self.phases[index]) for index in (0, -1))
        return None if first.at_least or last.at_least else last.known - first.known

    @property
    def requested(self) -> Amount:
        """The new instances that the claim needs, which may not be available."""
        wanted, granted = amount_of(self.after) if self.after else _NONE, _NONE
        if self.takes_over is not None:
            granted = amount_of(self.takes_over.granted)
        elif self.kind is Kind.SCALE:
            granted = sum_of(self.phases[0])
        if wanted.at_least or granted.at_least:
            return Amount(at_least=True)
        return Amount(max(0, wanted.known - granted.known))

    @property
    def needs_capacity(self) -> bool:
        """Whether the claim needs new instances."""
        if self.kind is Kind.SCALE or self.takes_over is not None:
            return self.requested != _NONE
        return self.kind in (Kind.REPLACE, Kind.CREATE, Kind.CHANGE) and not self.state_only

    @property
    def granted(self) -> bool:
        """Whether a claim is taken over that is known to have all its instances."""
        return (
            self.takes_over is not None and self.takes_over.allocated is not None and not self.needs_capacity
        )

    @property
    def state_only(self) -> bool:
        """Whether the change is certain to affect only the state, and nothing at the API."""
        known = self.after is not None and not self.after.unknowns()
        return self.kind is Kind.CHANGE and known and self.before == self.after

    def held_without_capacity(self, plan_needs_capacity: bool) -> tuple[Spec, ...]:
        """What the claim certainly holds if no new instances are available for the whole plan.

        The update then fails, and the releases at its end do not happen.
        """
        old = (self.before,) if self.before else ()
        taken = (self.takes_over.granted,) if self.takes_over else ()
        if self.kind is Kind.REPLACE:
            if self.takes_over is not None and not plan_needs_capacity:
                return self.phases[-1]
            return (old if self.order is Order.CREATE_FIRST or self.retained else ()) + taken
        if self.needs_capacity:
            return taken or self.phases[0]
        return self.phases[0] if self.kind is Kind.RELEASE and plan_needs_capacity else self.phases[-1]


@dataclass(frozen=True, slots=True)
class Drift:
    """A claim that differs between the state and the API; `live` is None if the claim is gone."""

    urn: str
    name: str
    state: Spec
    live: Spec | None
    claim_id: str | None = None
    by_unfinished_replacement: bool = False  # of a claim that an unfinished replacement left


@dataclass(frozen=True, slots=True)
class Plan:
    """What a preview says about claims."""

    project: str = ""
    stack: str = ""
    changes: tuple[Change, ...] = ()  # including unchanged claims, if the preview shows them
    drift: tuple[Drift, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    others: int = 0  # other resources that change
    hidden: int = 0  # unchanged resources that the preview does not show
    half_shown: tuple[str, ...] = ()  # names of which the state holds two claims and the preview shows one
    imported_and_released: tuple[str, ...] = ()  # names of claims that move, and that the move releases
    refresh: bool = False  # whether this is a preview of a refresh, which changes only the state

    @property
    def incomplete(self) -> bool:
        """Whether the preview may leave out claims."""
        return bool(self.hidden or self.half_shown)

    @property
    def unseen(self) -> list[tuple[Change, str, Unknown]]:
        """The properties of changing claims whose values the preview does not show."""
        found: list[tuple[Change, str, Unknown]] = []
        for change in self.altered:
            after = change.after.unknowns() if change.after else []
            before = change.before.unknowns() if change.before else []
            found += [(change, field, value) for field, value in after]
            found += [
                (change, f"{field} before", value) for field, value in before if (field, value) not in after
            ]
        return found

    @property
    def altered(self) -> tuple[Change, ...]:
        """The changes without the unchanged claims."""
        return tuple(change for change in self.changes if change.kind is not Kind.SAME)

    @property
    def native(self) -> tuple[str, ...]:
        """The names of the claims that are declared with the native resource."""
        return tuple(sorted(change.name for change in self.changes if change.native))

    @property
    def moved(self) -> tuple[Change, ...]:
        """The claims that move between the dynamic and the native resource, and are not replaced by it."""
        return tuple(change for change in self.changes if change.moved and change.kind is not Kind.REPLACE)

    @property
    def needs_capacity(self) -> bool:
        """Whether any claim needs new instances."""
        return any(change.needs_capacity for change in self.changes)

    def released_first(self) -> tuple[list[Change], list[Change]]:
        """The changes that release capacity before new capacity is granted: certain ones, possible ones.

        A deletion comes after everything else has succeeded. In-place changes have no fixed order.
        """
        certain: list[Change] = []
        possible: list[Change] = []
        needing = sum(change.needs_capacity for change in self.changes)
        for change in self.changes:
            if change.kind is Kind.REPLACE and not change.retained:
                if change.order is Order.DELETE_FIRST and change.needs_capacity:
                    certain.append(change)
                elif change.order is not Order.CREATE_FIRST and not change.granted:
                    possible.append(change)
            elif change.kind in (Kind.SCALE, Kind.CHANGE, Kind.TAKEOVER) and needing > change.needs_capacity:
                if change.growth is None:
                    possible.append(change)
                elif change.growth < 0:
                    certain.append(change)
        return certain, possible


class Amount(NamedTuple):
    """A number of instances. `at_least` means that the preview does not show how many more there are."""

    known: int = 0
    at_least: bool = False

    def plus(self, other: Amount) -> Amount:
        """The sum of both."""
        return Amount(self.known + other.known, self.at_least or other.at_least)

    def maximum(self, other: Amount) -> Amount:
        """An amount that is enough for either of them."""
        return Amount(max(self.known, other.known), self.at_least or other.at_least)


class Total(NamedTuple):
    """The instances of one type, in all claims that the preview shows."""

    before: Amount = Amount()
    after: Amount = Amount()
    peak: Amount = Amount()
    without_capacity: Amount = Amount()


InstanceType = str | Unknown
WAIT_ALONE: Final = ("~status",)
"""The `diff` of a native claim that is updated only because it was not ready when it was last seen."""
_NONE: Final = Amount()


def amount_of(spec: Spec) -> Amount:
    """How many instances a claim holds."""
    return Amount(at_least=True) if isinstance(spec.count, Unknown) else Amount(spec.count)


def sum_of(specs: Iterable[Spec]) -> Amount:
    """How many instances several claims hold."""
    total = _NONE
    for spec in specs:
        total = total.plus(amount_of(spec))
    return total


def totals(plan: Plan) -> dict[InstanceType, Total]:
    """The instances by type, sorted; unknown types come last."""
    sums: dict[InstanceType, Total] = {}
    needs_capacity = plan.needs_capacity
    for change in plan.changes:
        phases = [_by_type(phase) for phase in change.phases]
        left = _by_type(change.held_without_capacity(needs_capacity))
        for kind in {kind for phase in phases for kind in phase}:
            peak = _NONE
            for phase in phases:
                peak = peak.maximum(phase.get(kind, _NONE))
            total = sums.get(kind, Total())
            sums[kind] = Total(
                total.before.plus(phases[0].get(kind, _NONE)),
                total.after.plus(phases[-1].get(kind, _NONE)),
                total.peak.plus(peak),
                total.without_capacity.plus(left.get(kind, _NONE)),
            )
    return dict(sorted(sums.items(), key=lambda item: (isinstance(item[0], Unknown), str(item[0]))))


def counts(plan: Plan) -> dict[Kind, int]:
    """The number of claims by what happens to them, in the order of `Kind`."""
    found = Counter(change.kind for change in plan.changes)
    return {kind: found[kind] for kind in Kind if found[kind]}


def _by_type(specs: Iterable[Spec]) -> dict[InstanceType, Amount]:
    sums: dict[InstanceType, Amount] = {}
    for spec in specs:
        sums[spec.instance_type] = sums.get(spec.instance_type, _NONE).plus(amount_of(spec))
    return sums
