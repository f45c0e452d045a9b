"""The text of a review, for a comment and a terminal alike.

Everything that comes from the preview is `Quoted`, and the writers make it harmless. The rest is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pulumi_coreweave_inference.inputs import IDENTITY

from .plan import (
    WAIT_ALONE,
    Amount,
    Change,
    Evidence,
    Existing,
    Kind,
    Order,
    Plan,
    Spec,
    Total,
    Unknown,
    amount_of,
    counts,
)
from .prices import Cost, Sum
from .review import Review


@dataclass(frozen=True, slots=True)
class Quoted:
    """Foreign text."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """Emphasized text of ours."""

    text: str


Cell = tuple[str | Quoted | Strong, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A line."""

    text: Cell


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list. Items beyond `shown` are only counted."""

    items: tuple[Cell, ...]
    shown: int = 10


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Rows beyond `shown` are folded away or counted."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shown: int = 20
    numbers: frozenset[int] = frozenset()  # the columns that hold numbers


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Foreign messages, line by line."""

    texts: tuple[str, ...]


Block = Paragraph | Bullets | Table | Verbatim


@dataclass(frozen=True, slots=True)
class Document:
    """A review for people."""

    title: Cell
    blocks: tuple[Block, ...]
    footer: tuple[Cell, ...]
    marker: str  # identifies the comment, so that CI can update it


_COUNTED: Final = {
    Kind.REPLACE: "replaced",
    Kind.RELEASE: "released",
    Kind.FORGET: "removed from the stack only",
    Kind.CREATE: "created",
    Kind.TAKEOVER: "taken over",
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
    "id": "requested",
}
_PLANNED: Final = {Kind.REPLACE: "replace", Kind.SCALE: "update", Kind.CHANGE: "update"}  # Pulumi's words
_STAYS: Final = "claim stays at CoreWeave, in no state"
_WITHOUT_CAPACITY: Final = "If no capacity is found"
_MOST_ZONES: Final = 6  # of one claim


def document(review: Review) -> Document:
    """The text of a review."""
    plan = review.plan
    blocks: list[Block] = []
    if plan.errors:
        blocks += [Paragraph((Strong("The preview failed; this plan cannot be applied."),))]
        blocks += [Verbatim(plan.errors)]
    so_far: Cell = ("Until it failed: ",) if plan.errors else ()
    blocks += [Paragraph((*so_far, *_headline(plan)))]
    blocks += _resources(plan)
    if review.violations:
        many = len(review.violations)
        blocks += [
            Paragraph((Strong(f"{many} rule violation{'s' * (many > 1)}"),)),
            Table(
                ("Rule", "Claim", "Value", "Allowed"),
                tuple(
                    ((row.rule,), (Quoted(row.claim),) if row.claim is not None else ("all",),
                     (Quoted(row.value),), (Quoted(row.limit),))
                    for row in review.violations
                ),
            ),
        ]  # fmt: skip
    elif review.has_rules and not plan.errors:
        blocks += [Paragraph(("No rule is violated.",))]
    if plan.altered:
        blocks += [Bullets(tuple(_answers(review)))]
        blocks += [_changes(plan)]
        blocks += _behind_rows(plan)
        blocks += _taken_over(plan)
    if review.totals:
        blocks += [_totals(review)]
    blocks += _drift(plan)
    blocks += _unknowns(plan)
    if plan.warnings:
        blocks += [Paragraph((Strong("Warnings of the preview:"),)), Verbatim(plan.warnings)]
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
        return (f"A refresh, which changes only the state. Claims with drift: {len(plan.drift)} of {known}.",)
    rest = f"{unchanged} unchanged" if unchanged else ""
    if not found:
        return ("No claim changes" if not plan.errors else "no claim changes", f"; {rest}." if rest else ".")
    text = ", ".join(f"{number} {_COUNTED[kind]}" for kind, number in found.items())
    return (Strong(text), f"; {rest}." if rest else ".")


def _resources(plan: Plan) -> list[Block]:
    """Which resource declares the claims, if it is not only the dynamic one, and which claims move."""
    blocks: list[Block] = []
    if plan.native:
        every = len(plan.native) == len(plan.changes)
        names: Cell = ("all claims",) if every else _listed([(Quoted(name),) for name in plan.native])
        blocks += [Paragraph(("Native resource: ", *names, "."))]
    for native, way in ((True, "to the native resource"), (False, "to the dynamic resource")):
        moved: list[Cell] = [(Quoted(each.name),) for each in plan.moved if each.native is native]
        if moved:
            blocks += [Paragraph((Strong(f"Moved {way}"), ", in the state only: ", *_listed(moved), "."))]
    if plan.imported_and_released:
        names = _listed([(Quoted(name),) for name in plan.imported_and_released])
        blocks += [
            Paragraph(
                (
                    Strong("Imported with one resource and released with the other:"), " ", *names,
                    ". The claim is gone afterwards. Remove the old entry with pulumi state delete first, or "
                    "set retain_on_delete in an update of its own.",
                )
            )
        ]  # fmt: skip
    return blocks


def _answers(review: Review) -> Iterable[Cell]:
    plan = review.plan
    sums = [_across(review.totals.values(), column) for column in range(3)]
    shown = " in the claims shown" if plan.incomplete else ""
    yield (
        Strong("Instances:"),
        f" {_number(sums[0])} → {_number(sums[1])}{_by(sums[0], sums[1])}, "
        f"at most {_number(sums[2])} during the update{shown}",
    )
    if review.cost and review.cost.gpus:
        before, after, peak = (cell[0] for cell in _sums(review.cost.gpus, places=0))
        yield (Strong("GPUs:"), f" {before} → {after}, at most {peak} during the update")
    first = _requested_first(plan)
    if first:
        yield (Strong("Requested first in:"), " ", *_listed(first))
    yield (Strong("Capacity released before new capacity is granted:"), " ", *_released_first(plan))
    if review.cost:
        yield (Strong("Cost:"), " ", *_cost_answer(review.cost))


def _requested_first(plan: Plan) -> list[Cell]:
    """The number of instances whose first choice is a zone, by zone."""
    requested: dict[tuple[str, str], Amount] = {}
    for change in plan.changes:
        if not change.needs_capacity or change.after is None:
            continue
        zones = change.after.zones
        zone = zones if isinstance(zones, Unknown) else zones[0] if zones else Unknown.COMPUTED
        key = (str(zone), str(change.after.instance_type))
        requested[key] = requested.get(key, Amount()).plus(change.requested)
    return [
        (Quoted(zone), f" {_number(amount)} × ", Quoted(kind))
        for (zone, kind), amount in sorted(requested.items())
    ]


def _released_first(plan: Plan) -> Cell:
    certain, possible = plan.released_first()
    cell: Cell = ()
    if certain:
        cell += (Strong("yes"), ": ", *_listed([_loss(change) for change in certain]))
    if possible:
        cell += ("; " if certain else "", Strong("possibly"), ": ", *_listed([_loss(c) for c in possible]))
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
        f" per hour, {'at least' if sums.partial else 'at most'} {_money(sums.peak)} during the update",
    )


def _changes(plan: Plan) -> Table:
    needs_capacity = plan.needs_capacity
    return Table(
        ("Claim", "Change", "Instances", "Peak", "Zones (preferred first)", _WITHOUT_CAPACITY),
        tuple(_row(change, needs_capacity) for change in plan.altered),
        numbers=frozenset({3}),
    )


def _row(change: Change, plan_needs_capacity: bool) -> tuple[Cell, ...]:
    return (
        (Quoted(change.name),),
        _what(change),
        _instances(change),
        (_number(change.peak),),
        _zones(change),
        _without_capacity(change, plan_needs_capacity),
    )


def _what(change: Change) -> Cell:
    why = [_reason(reason, change) for reason in change.reasons]
    because: Cell = (": ", *_listed(why)) if why else ()
    if change.kind is Kind.REPLACE:
        taken = change.takes_over is not None
        order = {
            Order.CREATE_FIRST: ", existing claim taken over first" if taken else ", new claim created first",
            Order.DELETE_FIRST: ", old claim released first",
        }.get(change.order or Order.UNKNOWN, "")
        if taken and change.order is not Order.CREATE_FIRST:
            order += ", existing claim taken over"
        if change.retained:
            order = f"{', existing claim taken over' if taken else ''}, old {_STAYS}"
        return (Strong("replace"), order, *because)
    if change.kind is Kind.TAKEOVER and change.takes_over:
        if change.takes_over.evidence is Evidence.SAME_ID:
            return (Strong("replace in the state only"), ", claim is kept", *because)
        return (Strong("take over"), " an existing claim")
    if change.kind is Kind.RELEASE:
        left = (
            " of an old claim, left by an unfinished replacement" if change.by_unfinished_replacement else ""
        )
        return (Strong("release"), left, ", if it still exists" if change.if_it_exists else "")
    if change.kind is Kind.FORGET:
        return (Strong("remove from the stack"), f", {_STAYS}")
    if change.kind is Kind.IMPORT:
        return ("import, no change at CoreWeave",)
    if change.kind is Kind.SCALE:
        growth = change.growth
        return ("scale" if growth is None else "scale up" if growth > 0 else Strong("scale down"),)
    if change.state_only and change.unready and change.diff in ((), WAIT_ALONE):
        return ("wait until it is ready",)
    if change.state_only:
        return ("change only the state",)
    return (change.kind.value + (" in place" if change.kind is Kind.CHANGE else ""),)


def _behind_rows(plan: Plan) -> list[Block]:
    """What each `diff: …` in Pulumi's preview stands for: a row there names only the top-level property."""
    items = tuple(
        (Quoted(change.name), f" {_PLANNED[change.kind]} [", Quoted(_row_diff(change)), "]: ", *values)
        for change in plan.altered
        if change.diff and change.kind in _PLANNED and change.before and change.after
        if (values := _changed_values(change.before, change.after, change.diff, moved=change.moved))
    )
    title = "What [diff: …] in Pulumi's preview stands for:"
    return [Paragraph((Strong(title),)), Bullets(items)] if items else []


def _row_diff(change: Change) -> str:
    """The properties in the words of Pulumi's row, such as `diff: +name~resources`."""
    groups = (
        sign + ",".join(each[1:] for each in change.diff if each[0] == sign)
        for sign in dict.fromkeys(each[0] for each in change.diff)
    )
    return f"diff: {''.join(groups)}"


def _changed_values(old: Spec, new: Spec, diff: tuple[str, ...], *, moved: bool) -> Cell:
    """Each changed value before and after, with the names that the program uses."""
    values = (
        ("instance_id", old.instance_type, new.instance_type),
        ("instance_count", old.count, new.count),
        ("zones", old.zones, new.zones),
        ("capacity_type", old.capacity_type, new.capacity_type),
        ("name", old.name, old.name if new.name is None else new.name),
    )
    changed: list[Cell] = [
        (f"{name} ", Quoted(_text(before)), " → ", Quoted(_text(after)))
        for name, before, after in values
        if before != after
    ]
    if any(each[1:] == IDENTITY for each in diff):
        what = "move to the other resource" if moved else "new resource name"
        changed.append((f"the claim's {what}, in the state only",))
    return _listed(changed, most=len(changed))


def _text(value: object) -> str:
    return _ordered(value) if isinstance(value, tuple) else str(value)


def _taken_over(plan: Plan) -> list[Block]:
    """The claims that are taken over where new ones would be created."""
    items = tuple(
        (Quoted(change.name), *_takes_over(change.takes_over))
        for change in plan.altered
        if change.takes_over is not None
    )
    return [Paragraph((Strong("Taken over, not created:"),)), Bullets(items)] if items else []


def _takes_over(existing: Existing) -> Cell:
    verb = "keeps" if existing.evidence is Evidence.SAME_ID else "takes over"
    left = ", left by an unfinished replacement" if existing.evidence is Evidence.LEFT else ""
    cell: Cell = (f" {verb} the claim ", Quoted(existing.claim_id), f"{left}: ")
    if existing.state is None:
        return (*cell, *_held(existing.spec), ", unless it has failed")
    of = f"{existing.allocated:,} of " if existing.allocated is not None else ""
    return (*cell, of, *_held(existing.spec), ", ", Quoted(existing.state))


def _reason(reason: str, change: Change) -> Cell:
    old, new = change.before, change.after
    words = _REASONS.get(reason)
    if reason == "resources.zones" and old and new and old.zones != new.zones:
        known = [set(zones) for zones in (old.zones, new.zones) if isinstance(zones, tuple)]
        words = "zone order" if len(known) == 2 and known[0] == known[1] else "zones"
    return (words,) if words else (Quoted(reason),)


def _instances(change: Change) -> Cell:
    old, new = change.before, change.after
    if old and new and change.kind is Kind.REPLACE and change.takes_over:
        taken = change.takes_over.spec
        if old.instance_type == taken.instance_type == new.instance_type:
            both = f"{_number(amount_of(old))} + {_number(amount_of(taken))}"
            return (f"{both} → ", *_held(new))
        return (*_held(old), " + ", *_held(taken), " → ", *_held(new))
    if old and new and change.kind is not Kind.IMPORT:
        if old.instance_type == new.instance_type:
            text = _number(amount_of(old))
            if old.count != new.count:
                text += f" → {_number(amount_of(new))}"
            return (f"{text} × ", Quoted(str(new.instance_type)))
        return (*_held(old), " → ", *_held(new))
    if new:
        return _held(new) if change.kind is Kind.IMPORT else ("0 → ", *_held(new))
    (held,) = change.phases[0]
    if change.kind is Kind.FORGET:
        return _held(held)
    return (f"{_number(amount_of(held))} → 0 × ", Quoted(str(held.instance_type)))


def _zones(change: Change) -> Cell:
    old, new = (spec.zones if spec else None for spec in (change.before, change.after))
    if old is not None and new is not None and old != new:
        return (Quoted(_ordered(old)), " → ", Quoted(_ordered(new)))
    shown = new if new is not None else old
    return (Quoted(_ordered(shown)),) if shown is not None else ("",)


def _ordered(zones: tuple[str | Unknown, ...] | Unknown) -> str:
    if isinstance(zones, Unknown):
        return str(zones)
    more = f" and {len(zones) - _MOST_ZONES} more" if len(zones) > _MOST_ZONES else ""
    return ", ".join(map(str, zones[:_MOST_ZONES])) + more


def _without_capacity(change: Change, plan_needs_capacity: bool) -> Cell:
    """What is left of a claim if no new capacity is available."""
    if not plan_needs_capacity:
        return ("–",)
    left = change.held_without_capacity(plan_needs_capacity)
    if change.kind is Kind.RELEASE:
        return ("not released yet: ", *_held(left[0])) if left else ("–",)
    if change.kind is Kind.CREATE:
        return ("nothing, and the claim waits",)
    if change.kind is Kind.REPLACE and not left:
        if change.order is Order.DELETE_FIRST:
            return (Strong("nothing"), ", the old claim is gone")
        return ("the old claim, unless it is released first",)
    if change.kind is Kind.REPLACE and not change.takes_over:
        return ("keeps the old ", *_held(left[0]))
    if change.kind is Kind.REPLACE:
        return ("keeps ", *_listed([_held(spec) for spec in left]))
    return ("keeps ", *_held(left[0])) if left and change.needs_capacity else ("–",)


def _totals(review: Review) -> Table:
    needs_capacity = review.plan.needs_capacity
    columns = ("Instance type", "Before", "After", "Peak", *([_WITHOUT_CAPACITY] if needs_capacity else []))
    rows: list[tuple[Cell, ...]] = []
    for kind, total in review.totals.items():
        cells: list[Cell] = [(Quoted(str(kind)),), (_number(total.before),)]
        cells += [(_number(total.after) + _by(total.before, total.after),), (_number(total.peak),)]
        rows.append((*cells, *(((_number(total.without_capacity),),) if needs_capacity else ())))
    if review.cost:
        blank: tuple[Cell, ...] = (("",),) if needs_capacity else ()
        cost, currency = review.cost, Quoted(review.cost.currency or "cost")
        rows.append(((currency, " per hour"), *_sums(cost.per_hour), *blank))
        rows.append(((currency, " per month"), *_sums(cost.per_hour.per_month()), *blank))
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
                live += (", named ", Quoted(str(found.live.name or "")))
        left = ", left by an unfinished replacement" if found.by_unfinished_replacement else ""
        state = (*_held(found.state), " in ", Quoted(_ordered(found.state.zones)))
        rows.append(((Quoted(found.name), left), state, live))
    return [
        Paragraph((Strong("Drift:"), " changed outside of Pulumi since the state was written.")),
        Table(("Claim", "State", "CoreWeave"), tuple(rows)),
    ]


def _unknowns(plan: Plan) -> list[Block]:
    items = tuple((Quoted(change.name), f": {field} is {value}") for change, field, value in plan.unseen)
    if not items:
        return []
    return [
        Paragraph((Strong("Values that the preview does not show:"),)),
        Bullets(items),
        Paragraph(("This plan cannot be approved by fingerprint: it would be the same for any such value.",)),
    ]


def _notes(review: Review) -> Iterable[Cell]:
    plan = review.plan
    retained = [change for change in plan.altered if change.retained]
    if retained:
        is_python = not all(change.native for change in retained)
        options = "retain_on_delete, deleted_with" if is_python else "retainOnDelete, deletedWith"
        yield (f"A claim that stays in no state ({options}) stays reserved until it is released by its id.",)
    if any(change.if_it_exists for change in plan.changes):
        yield (
            "No step of the preview releases the old claim that an unfinished replacement left: either it is "
            "gone, or pulumi preview ran without --show-replacement-steps. It is counted.",
        )
    if plan.half_shown:
        names = _listed([(Quoted(name),) for name in plan.half_shown])
        yield (
            "Because of an unfinished replacement the state holds two claims of ", *names,
            ", of which this preview shows one. The other one is in no total, and its drift does not show. "
            "Run pulumi preview --refresh.",
        )  # fmt: skip
    first = [each for each in plan.changes if each.order is Order.CREATE_FIRST and not each.retained]
    if any(not change.native for change in first):
        yield (
            "An old claim is released after the program succeeds. By then the new claim is ready, unless the "
            "program sets readiness=None, which a preview does not show.",
        )
    if any(change.native for change in first):
        yield (
            "An old claim of the native resource is released at the end of the update. By then the new claim "
            "is ready, unless its readiness has wait: false.",
        )
    if any(change.order is Order.UNKNOWN for change in plan.changes):
        yield (
            "The preview does not show whether a replacement creates or deletes first; peaks assume that it "
            "creates first. Run pulumi preview with --show-replacement-steps.",
        )
    if plan.hidden:
        yield (
            f"Unchanged resources that are not in the preview, and not in the totals: {plan.hidden}. "
            "Run pulumi preview with --show-sames.",
        )
    if review.cost and review.cost.unpriced:
        yield ("No price for ", *_listed([(Quoted(kind),) for kind in review.cost.unpriced]), ".")
    if plan.others:
        yield (f"Other resources that change, not reviewed here: {plan.others}.",)


def _held(spec: Spec) -> Cell:
    return (f"{_number(amount_of(spec))} × ", Quoted(str(spec.instance_type)))


def _listed(cells: list[Cell], most: int = 5) -> Cell:
    """The first few, separated by commas, and the number of the rest."""
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
    if before.at_least or after.at_least or before == after:
        return ""
    return f" ({after.known - before.known:+,})"


def _number(amount: Amount) -> str:
    if amount.at_least:
        return f"{amount.known:,} + ?" if amount.known else "?"
    return f"{amount.known:,}"


def _money(value: Decimal, places: int = 2) -> str:
    return f"{value:,.{places}f}"
