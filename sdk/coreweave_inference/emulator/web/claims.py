"""The claims on the page: state, allocation, conditions and timeline of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from coreweave_inference.emulator.claim import ClaimRecord
from coreweave_inference.emulator.claims import Overview
from coreweave_inference.emulator.history import Point
from coreweave_inference.emulator.web.markup import Html, join, tag
from coreweave_inference.emulator.web.timeline import state_class, timeline

_SECOND = 1_000_000_000


def claims_section(overview: Overview) -> Html:
    """All claims that are shown, the newest first."""
    if not overview.claims:
        return join(tag("h2", "Claims"), tag("p", "No claims yet.", class_="muted"))
    shown = len(overview.claims)
    number = f"{shown:,}" if shown == overview.count else f"the newest {shown:,} of {overview.count:,}"
    cards = [_card(claim, overview.histories[claim.id], overview.now) for claim in overview.claims]
    legend = f"{number}; area: allocated, dashed line: requested, strip: state"
    return join(tag("h2", "Claims", tag("small", legend)), tag("div", *cards, class_="claims"))


def _card(claim: ClaimRecord, points: Sequence[Point], now: int) -> Html:
    allocated = sum(claim.allocation.values())
    status = str(claim.status)
    waiting = f", waits for {claim.waiting}" if claim.waiting else ""
    return tag(
        "article",
        tag("h3", claim.name),
        tag("span", status.removeprefix("STATUS_"), class_=f"state {state_class(status)}"),
        tag("p", tag("strong", f"{allocated} of {claim.instance_count}"), f" {claim.instance_id}{waiting}"),
        *_timeline(points, now),
        tag("table", *_zone_rows(claim)),
        tag("p", tag("code", claim.id), class_="muted"),
    )


def _timeline(points: Sequence[Point], now: int) -> Iterator[Html]:
    if points:
        start = datetime.fromtimestamp(points[0].time // _SECOND, UTC)
        yield timeline(points, now)
        since = f"{start:%H:%M:%S}"
        length = _duration(max(0, now - points[0].time) // _SECOND)
        yield tag("p", tag("span", since), tag("span", length), tag("span", "now"), class_="axis muted")


def _zone_rows(claim: ClaimRecord) -> Iterator[Html]:
    """The zones in the claim's order of preference, with what was allocated there and the condition."""
    conditions = _conditions(claim)
    for zone in claim.zones:
        of_zone = "; ".join(text for other, text in conditions if other == zone)
        count = claim.allocation.get(zone, 0)
        yield tag("tr", tag("td", zone), tag("td", count, class_="number"), tag("td", of_zone))
    for zone, text in conditions:
        if zone not in claim.zones:
            yield tag("tr", tag("td", zone), tag("td"), tag("td", text))


def _conditions(claim: ClaimRecord) -> list[tuple[str, str]]:
    """The zone of each condition, its reason, and the message of one that is not true.

    An edit may have put anything there.
    """
    status = claim.answer.get("status")
    given = status.get("conditions") if isinstance(status, Mapping) else None
    if not isinstance(given, Sequence) or isinstance(given, str):
        return []
    found = []
    for each in given:
        if isinstance(each, Mapping):
            keys = ("reason",) if each.get("status") == "STATUS_TRUE" else ("reason", "message")
            parts = [str(each[key]) for key in keys if each.get(key)]
            found.append((str(each.get("zone", "")), ": ".join(parts)))
    return found


def _duration(seconds: int) -> str:
    """In its two largest units: "45 s", "3 min 5 s", "2 h 0 min", "5 d 3 h"."""
    minutes, hours, days = seconds // 60, seconds // 3_600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
