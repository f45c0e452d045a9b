"""What a person is shown: the words and their order, for a comment and a terminal alike.

Whatever comes from the preview is `Quoted`: the writers make it harmless. Everything else is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from .plan import Amount, Change, Kind, Order, Plan, Spec, Total, Unsaid, amount_of, counts, sum_of
from .prices import Cost, Sum
from .review import Review


@dataclass(frozen=True, slots=True)
class Quoted:
    """A text that is not ours."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """Words of ours that must not be missed."""

    text: str


Cell = tuple[str | Quoted | Strong, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A line."""

    text: Cell


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list; what is beyond `shown` is counted."""

    items: tuple[Cell, ...]
    shown: int = 10


@dataclass(frozen=True, slots=True)
class Table:
    """A table; what is beyond `shown` is folded away or counted."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shown: int = 20
    numbers: frozenset[int] = frozenset()  # the columns that hold numbers


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Messages of others, line by line."""

    texts: tuple[str, ...]


Block = Paragraph | Bullets | Table | Verbatim


@dataclass(frozen=True, slots=True)
class Document:
    """A review for people."""

    title: Cell
    blocks: tuple[Block, ...]
    footer: tuple[Cell, ...]
    marker: str  # tells one review's comment from another's


_DONE: Final = {
    Kind.REPLACE: "replaced",
    Kind.RELEASE: "released",
    Kind.FORGET: "left to itself",
    Kind.CREATE: "created",
    Kind.IMPORT: "imported",
    Kind.SCALE: "scaled",
    Kind.CHANGE: "changed in place",
    Kind.SAME: "unchanged",
}
_REASONS: Final = {
    "resources.instanceId": "instance type",
    "resources.zones": "zones",
    "resources.capacityType": "capacity type",
    "resources": "resources",
    "name": "name",
    "id": "asked for",
}
_ZONES_SHOWN: Final = 6


def document(review: Review) -> Document:
    """The words for a review."""
    plan = review.plan
    blocks: list[Block] = []
    if plan.errors:
        blocks += [Paragraph((Strong("The preview failed; this plan cannot be applied."),))]
        blocks += [Verbatim(plan.errors)]
    so_far: Cell = ("As far as the preview got: ",) if plan.errors else ()
    blocks += [Paragraph((*so_far, *_headline(plan)))]
    if review.broken:
        many = len(review.broken)
        blocks += [
            Paragraph((Strong(f"{many} rule{'s' * (many > 1)} broken"),)),
            Table(
                ("Rule", "Claim", "Is", "Allowed"),
                tuple(
                    ((row.rule,), (Quoted(row.claim),) if row.claim is not None else ("all",),
                     (Quoted(row.value),), (Quoted(row.limit),))
                    for row in review.broken
                ),
            ),
        ]  # fmt: skip
    elif review.ruled and not plan.errors:
        blocks += [Paragraph(("All rules hold.",))]
    if plan.altered:
        blocks += [Bullets(tuple(_answers(review)))]
        blocks += [_changes(plan)]
    if review.totals:
        blocks += [_totals(review)]
    blocks += _drift(plan)
    blocks += _unsaid(plan)
    if plan.warnings:
        blocks += [Paragraph((Strong("The preview warns:"),)), Verbatim(plan.warnings)]
    notes = tuple(_notes(review))
    if notes:
        blocks += [Bullets(notes)]
    place = "/".join(part for part in (plan.project, plan.stack) if part)
    return Document(
        title=("Capacity claims", *((" of ", Quoted(place)) if place else ())),
        blocks=tuple(blocks),
        footer=(("Fingerprint ", Quoted(review.fingerprint)),),
        marker=f"capacity-claims review {place}",
    )


def _headline(plan: Plan) -> Cell:
    found = counts(plan)
    unchanged = found.pop(Kind.SAME, 0)
    if plan.refresh:
        known = unchanged + sum(drift.live is None for drift in plan.drift)
        differ = f"Claims that differ from it: {len(plan.drift)} of {known}."
        return (f"A refresh, which changes the state only. {differ}",)
    rest = f"{unchanged} unchanged" if unchanged else ""
    if not found:
        return ("No claim changes" if not plan.errors else "no claim changes", f"; {rest}." if rest else ".")
    text = ", ".join(f"{number} {_DONE[kind]}" for kind, number in found.items())
    return (Strong(text), f"; {rest}." if rest else ".")


def _answers(review: Review) -> Iterable[Cell]:
    plan = review.plan
    sums = [_across(review.totals.values(), column) for column in range(3)]
    shown = " in the claims shown" if plan.hidden else ""
    yield (
        Strong("Instances:"),
        f" {_number(sums[0])} → {_number(sums[1])}{_by(sums[0], sums[1])}, "
        f"at most {_number(sums[2])} during the update{shown}",
    )
    if review.cost and review.cost.gpus:
        before, after, peak = (cell[0] for cell in _sums(review.cost.gpus, places=0))
        yield (Strong("GPUs:"), f" {before} → {after}, at most {peak} during the update")
    first = _asked_first(plan)
    if first:
        yield (Strong("Asked for first in:"), " ", *_listed(first))
    yield (Strong("Released before something else is granted:"), " ", *_released_first(plan))
    if review.cost:
        yield (Strong("Cost:"), " ", *_cost_answer(review.cost))


def _asked_first(plan: Plan) -> list[Cell]:
    """How many instances are asked for in which zone before any other."""
    asked: dict[tuple[str, str], Amount] = {}
    for change in plan.changes:
        if not change.asks or change.after is None:
            continue
        zones = change.after.zones
        zone = zones if isinstance(zones, Unsaid) else zones[0] if zones else Unsaid.UNKNOWN
        amount = amount_of(change.after)
        if change.kind is Kind.SCALE:
            amount = Amount(more=True) if change.growth is None else Amount(change.growth)
        key = (_said(zone), _said(change.after.instance_type))
        asked[key] = asked.get(key, Amount()).plus(amount)
    return [
        (Quoted(zone), f" {_number(amount)} × ", Quoted(kind))
        for (zone, kind), amount in sorted(asked.items())
    ]


def _released_first(plan: Plan) -> Cell:
    certain, perhaps = plan.released_first()
    cell: Cell = ()
    if certain:
        cell += (Strong("yes"), ": ", *_listed([_loss(change) for change in certain]))
    if perhaps:
        cell += ("; " if certain else "", Strong("perhaps"), ": ", *_listed([_loss(c) for c in perhaps]))
    return cell or ("no",)


def _loss(change: Change) -> Cell:
    growth = change.growth
    if change.kind is Kind.REPLACE and change.before:
        return (Quoted(change.name), " ", *_held(change.before))
    return (Quoted(change.name), "" if growth is None else f" {-growth}")


def _cost_answer(cost: Cost) -> Cell:
    sums = cost.per_hour
    least = "at least " if sums.partial else ""
    return (
        f"{_money(sums.before)} → {least}{_money(sums.after)} ",
        Quoted(cost.currency or "(no currency)"),
        f" an hour, {'at least' if sums.partial else 'at most'} {_money(sums.peak)} during the update",
    )


def _changes(plan: Plan) -> Table:
    asks = plan.asks
    return Table(
        ("Claim", "What", "Instances", "Peak", "Zones, preferred first", "If nothing is found"),
        tuple(_row(change, asks) for change in plan.altered),
        numbers=frozenset({3}),
    )


def _row(change: Change, asks: bool) -> tuple[Cell, ...]:
    peak = Amount()
    for phase in change.phases:
        peak = peak.most(sum_of(phase))
    return (
        (Quoted(change.name),),
        _what(change),
        _instances(change),
        (_number(peak),),
        _zones(change),
        _failure(change, asks),
    )


def _what(change: Change) -> Cell:
    if change.kind is Kind.REPLACE:
        order = {
            Order.CREATE_FIRST: ", new one first",
            Order.DELETE_FIRST: ", old one released first",
        }.get(change.order or Order.UNKNOWN, "")
        order = ", the old one stays at CoreWeave" if change.retained else order
        why = [_reason(reason, change) for reason in change.reasons]
        return (Strong("replace"), order, *((": ", *_listed(why)) if why else ()))
    if change.kind is Kind.RELEASE:
        return (Strong("release"), " of what an unfinished replacement left" if change.earlier else "")
    if change.kind is Kind.FORGET:
        return (Strong("leaves the stack"), ", stays at CoreWeave")
    if change.kind is Kind.IMPORT:
        return ("import, nothing changes at CoreWeave",)
    if change.kind is Kind.SCALE:
        growth = change.growth
        return ("scale" if growth is None else "scale up" if growth > 0 else Strong("scale down"),)
    if change.only_noted:
        return ("note in the state only",)
    return (change.kind.value + (" in place" if change.kind is Kind.CHANGE else ""),)


def _reason(reason: str, change: Change) -> Cell:
    old, new = change.before, change.after
    words = _REASONS.get(reason)
    if reason == "resources.zones" and old and new and old.zones != new.zones:
        said = [set(zones) for zones in (old.zones, new.zones) if isinstance(zones, tuple)]
        words = "zone order" if len(said) == 2 and said[0] == said[1] else "zones"
    return (words,) if words else (Quoted(reason),)


def _instances(change: Change) -> Cell:
    old, new = change.before, change.after
    if old and new and change.kind is not Kind.IMPORT:
        if old.instance_type == new.instance_type:
            text = _number(amount_of(old))
            if old.count != new.count:
                text += f" → {_number(amount_of(new))}"
            return (f"{text} × ", Quoted(_said(new.instance_type)))
        return (*_held(old), " → ", *_held(new))
    if new:
        return _held(new) if change.kind is Kind.IMPORT else ("0 → ", *_held(new))
    (held,) = change.phases[0]
    if change.kind is Kind.FORGET:
        return _held(held)
    return (f"{_number(amount_of(held))} → 0 × ", Quoted(_said(held.instance_type)))


def _zones(change: Change) -> Cell:
    old, new = (spec.zones if spec else None for spec in (change.before, change.after))
    if old is not None and new is not None and old != new:
        return (Quoted(_ordered(old)), " → ", Quoted(_ordered(new)))
    shown = new if new is not None else old
    return (Quoted(_ordered(shown)),) if shown is not None else ("",)


def _ordered(zones: tuple[str | Unsaid, ...] | Unsaid) -> str:
    if isinstance(zones, Unsaid):
        return zones.value
    more = f" and {len(zones) - _ZONES_SHOWN} more" if len(zones) > _ZONES_SHOWN else ""
    return ", ".join(map(_said, zones[:_ZONES_SHOWN])) + more


def _failure(change: Change, asks: bool) -> Cell:
    """What is left of a claim when none of the instances asked for are found."""
    if not asks:
        return ("–",)
    left = change.on_failure(asks)
    if change.kind is Kind.RELEASE:
        return ("not released yet: ", *_held(left[0])) if left else ("–",)
    if change.kind is Kind.CREATE:
        return ("nothing; the claim waits",)
    if change.kind is Kind.REPLACE and not left:
        if change.order is Order.DELETE_FIRST:
            return (Strong("nothing"), "; the old one is gone")
        return ("the old one, unless it is released first",)
    if change.kind is Kind.REPLACE:
        return ("keeps the old ", *_held(left[0]))
    return ("keeps ", *_held(left[0])) if left and change.asks else ("–",)


def _totals(review: Review) -> Table:
    failing = review.plan.asks
    columns = ("Instance type", "Before", "After", "Peak") + (("If nothing is found",) if failing else ())
    rows: list[tuple[Cell, ...]] = []
    for kind, total in review.totals.items():
        cells: list[Cell] = [(Quoted(_said(kind)),), (_number(total.before),)]
        cells += [(_number(total.after) + _by(total.before, total.after),), (_number(total.peak),)]
        rows.append((*cells, *(((_number(total.on_failure),),) if failing else ())))
    if review.cost:
        blank: tuple[Cell, ...] = (("",),) if failing else ()
        cost, currency = review.cost, Quoted(review.cost.currency or "cost")
        rows.append(((currency, " an hour"), *_sums(cost.per_hour), *blank))
        rows.append(((currency, " a month"), *_sums(cost.per_hour.per_month()), *blank))
    return Table(columns, tuple(rows), numbers=frozenset(range(1, len(columns))))


def _sums(sums: Sum, places: int = 2) -> Iterable[tuple[str]]:
    for index, value in enumerate(sums[:3]):
        partial = sums.partial if index else sums.partial_before
        yield (_money(value, places) + (" + ?" if partial else ""),)


def _drift(plan: Plan) -> list[Block]:
    if not plan.drift:
        return []
    rows: list[tuple[Cell, ...]] = []
    for found in plan.drift:
        live: Cell = (Strong("gone"),)
        if found.live:
            live = (*_held(found.live), " in ", Quoted(_ordered(found.live.zones)))
            if found.live.name != found.state.name:
                live += (", named ", Quoted(_said(found.live.name or "")))
        rows.append(
            ((Quoted(found.name),), (*_held(found.state), " in ", Quoted(_ordered(found.state.zones))), live)
        )
    return [
        Paragraph((Strong("Drift:"), " changed outside Pulumi since the state was written.")),
        Table(("Claim", "State", "CoreWeave"), tuple(rows)),
    ]


def _unsaid(plan: Plan) -> list[Block]:
    items = tuple(
        (Quoted(change.name), f": {field} is {value.value}")
        for change in plan.altered
        if change.after
        for field, value in change.after.unsaid()
    )
    return [Paragraph((Strong("Not said by the preview:"),)), Bullets(items)] if items else []


def _notes(review: Review) -> Iterable[Cell]:
    plan = review.plan
    if any(change.order is Order.CREATE_FIRST and not change.retained for change in plan.changes):
        yield (
            "An old claim is released when the program has succeeded: after the new one is ready, unless "
            "the program sets readiness=None, which a preview does not show.",
        )
    if any(change.order is Order.UNKNOWN for change in plan.changes):
        yield (
            "Which half of a replacement comes first is not shown; peaks assume the new claim does. "
            "Run pulumi preview with --show-replacement-steps.",
        )
    if plan.hidden:
        yield (
            f"Not in the preview, and so not in any total: unchanged resources ({plan.hidden}). "
            "Run pulumi preview with --show-sames.",
        )
    if review.cost and review.cost.unpriced:
        yield ("No price for ", *_listed([(Quoted(kind),) for kind in review.cost.unpriced]), ".")
    if plan.others:
        yield (f"Changes of other resources, not reviewed here: {plan.others}.",)


def _held(spec: Spec) -> Cell:
    return (f"{_number(amount_of(spec))} × ", Quoted(_said(spec.instance_type)))


def _listed(cells: list[Cell], most: int = 5) -> Cell:
    """A few, separated by commas; the rest counted."""
    joined: Cell = ()
    for index, cell in enumerate(cells[:most]):
        joined += (", ", *cell) if index else cell
    return (*joined, f" and {len(cells) - most} more") if len(cells) > most else joined


def _across(sums: Iterable[Total], column: int) -> Amount:
    total = Amount()
    for sum_ in sums:
        total = total.plus(sum_[column])
    return total


def _by(before: Amount, after: Amount) -> str:
    if before.more or after.more or before == after:
        return ""
    return f" ({after.known - before.known:+,})"


def _number(amount: Amount) -> str:
    if amount.more:
        return f"{amount.known:,} + ?" if amount.known else "?"
    return f"{amount.known:,}"


def _money(value: Decimal, places: int = 2) -> str:
    return f"{value:,.{places}f}"


def _said(value: str | Unsaid) -> str:
    return value.value if isinstance(value, Unsaid) else value
