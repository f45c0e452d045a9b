"""The picture of `capacity-claims list --format svg`: a bar for each claim, allocated of requested instances.

All bars have one scale, so that lengths compare. Claims are grouped by state, those that need attention
first. The picture is 420 units wide: readable in a narrow column, and sharp in a wide one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import Final

from coreweave_inference import CapacityClaim, ClaimState
from pulumi_coreweave_inference.foreign_text import one_line

from .console import plural
from .table import failing_conditions

WIDTH: Final = 420
MOST_CLAIMS: Final = 100
_MARGIN: Final = 14
_ROOM: Final = WIDTH - 2 * _MARGIN
_NAME_COLUMNS: Final = 38  # beside which the numbers have room
_DETAIL_COLUMNS: Final = 62
_BAR: Final = 12  # height
_COLOURS: Final = {  # on white, on black
    ClaimState.FAILED: ("#cf222e", "#ff7b72"),
    ClaimState.ERROR: ("#bc4c00", "#ffa657"),
    ClaimState.CREATING: ("#0969da", "#79c0ff"),
    ClaimState.UPDATING: ("#0969da", "#79c0ff"),
    ClaimState.DELETING: ("#6e7781", "#8b949e"),
    ClaimState.READY: ("#1a7f37", "#56d364"),
}
_ORDER: Final = tuple(_COLOURS)
_STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600; font-size: 13px }
.name { font-weight: 600 }
.detail { font-size: 11px; fill: #59636e }
.back { fill: #ffffff }
.asked { fill: none; stroke: #1f2328; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .detail { fill: #9198a1 } .back { fill: #0d1117 } .asked { stroke: #f0f6fc }
}
"""


def svg(claims: Sequence[CapacityClaim]) -> str:
    """The picture. The same claims give the same text."""
    ordered = sorted(claims, key=lambda claim: (_rank(claim), claim.state, claim.name, claim.id))
    allocated = sum(claim.status.allocated_instances for claim in claims)
    requested = sum(claim.resources.instance_count for claim in claims)
    total = f"{allocated:,} of {requested:,} instances allocated"
    drawing = _Drawing(scale=_scale(claims))
    drawing.text(f"{plural(len(claims), 'claim')}, {total}", "head")
    shown = ordered[:MOST_CLAIMS]
    for state, group in groupby(shown, key=lambda claim: claim.state):
        members = list(group)
        drawing.gap(12)
        every = sum(claim.state == state for claim in claims)
        drawing.text(f"{state.short}: {plural(every, 'claim')}", "head")
        for claim in members:
            _draw(drawing, claim)
    if rest := len(ordered) - len(shown):
        drawing.gap(12)
        drawing.text(f"… and {plural(rest, 'more claim')}, not shown", "detail")
    description = (
        f"{plural(len(claims), 'claim')}; {total}. Each bar: allocated instances filled, requested dashed."
    )
    return drawing.document("Capacity claims", description)


def _draw(drawing: _Drawing, claim: CapacityClaim) -> None:
    allocated, requested = claim.status.allocated_instances, claim.resources.instance_count
    numbers = f"{allocated:,} of {requested:,}"
    drawing.gap(8)
    drawing.line(
        _element("text", _cut(claim.name, _NAME_COLUMNS), x=_MARGIN, y=drawing.y + 12, class_="name"),
        _element("text", numbers, x=WIDTH - _MARGIN, y=drawing.y + 12, text_anchor="end"),
        height=18,
    )
    bars = ((_kind(claim.state), allocated), ("asked", requested))
    drawing.line(
        *(
            _element("rect", class_=kind, x=_MARGIN, y=drawing.y, width=drawing.length(count), height=_BAR)
            for kind, count in bars
            if count
        ),
        height=_BAR + 4,
    )
    zones = ", ".join(claim.resources.zones)
    for detail in (f"{claim.resources.instance_id} in {zones}", failing_conditions(claim)):
        if detail:
            drawing.text(_cut(detail, _DETAIL_COLUMNS), "detail")


@dataclass
class _Drawing:
    """Lines from top to bottom."""

    scale: float  # units of length for one instance
    y: int = _MARGIN
    elements: list[str] = field(default_factory=list)

    def gap(self, height: int) -> None:
        self.y += height

    def text(self, text: str, kind: str) -> None:
        self.line(_element("text", text, x=_MARGIN, y=self.y + 12, class_=kind), height=16)

    def line(self, *elements: str, height: int) -> None:
        self.elements += elements
        self.y += height

    def length(self, instances: int) -> float:
        """At least two units, so that one instance of thousands is seen."""
        return max(2.0, round(instances * self.scale, 1))

    def document(self, title: str, description: str) -> str:
        height = self.y + _MARGIN
        lines = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title description">',
            _element("title", title, id="title"),
            _element("desc", description, id="description"),
            f"<style>\n{_STYLE}{_colours(0)}",
            f"@media (prefers-color-scheme: dark) {{\n{_colours(1)}}}\n</style>",
            _element("rect", class_="back", width=WIDTH, height=height),
            *self.elements,
            "</svg>",
        )
        return "\n".join(lines) + "\n"


def _scale(claims: Iterable[CapacityClaim]) -> float:
    most = max(
        (max(claim.resources.instance_count, claim.status.allocated_instances) for claim in claims), default=0
    )
    return _ROOM / most if most else 0.0


def _rank(claim: CapacityClaim) -> int:
    """States that nothing is known about come before READY."""
    return _ORDER.index(claim.state) if claim.state in _ORDER else len(_ORDER) - 1


def _kind(state: ClaimState) -> str:
    return state.short.lower() if state in _COLOURS else ClaimState.DELETING.short.lower()


def _colours(theme: int) -> str:
    return "".join(f".{_kind(state)} {{ fill: {colours[theme]} }}\n" for state, colours in _COLOURS.items())


def _cut(text: str, columns: int) -> str:
    """The beginning of a text that takes at most so many columns; East Asian signs take two."""
    text, used = one_line(text), 0
    for index, sign in enumerate(text):
        used += 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        if used > columns:
            return f"{text[: index - 1]}…"
    return text


def _element(name: str, text: str = "", **attributes: object) -> str:
    """An element. Foreign text in it is harmless."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{escape(one_line(text))}</{name}>" if text else f"<{name}{given}/>"
