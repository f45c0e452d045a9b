"""The allocation of one claim over time, as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from coreweave_inference.emulator.history import Point
from coreweave_inference.emulator.web.markup import Html, tag

_WIDTH, _HEIGHT, _STRIP = 600, 64, 8
_STATES = {
    "STATUS_READY": "ready",
    "STATUS_CREATING": "busy",
    "STATUS_UPDATING": "busy",
    "STATUS_ERROR": "error",
    "STATUS_FAILED": "failed",
    "STATUS_DELETING": "leaving",
}


def state_class(status: object) -> str:
    """The class of the style sheet for a status."""
    return _STATES.get(str(status), "unknown")


def timeline(points: Sequence[Point], now: int) -> Html:
    """Allocated instances as an area, requested ones as a dashed line, and the states as a strip below.

    From the first point until now, as wide as its place.
    """
    spans = _spans(points, now)
    top = max(1, *(max(point.allocated, point.requested) for point in points))
    allocated = [(left, right, _y(point.allocated, top)) for left, right, point in spans]
    requested = [(left, right, _y(point.requested, top)) for left, right, point in spans]
    strips = [
        tag(
            "rect", class_=state_class(point.status), y=_HEIGHT, height=_STRIP,
            x=f"{left:.1f}", width=f"{right - left:.1f}",
        )
        for left, right, point in spans
    ]  # fmt: skip
    last = points[-1]
    return tag(
        "svg",
        tag("title", f"{last.allocated} of {last.requested} instances allocated now"),
        tag("path", class_="allocated", d=f"M0,{_HEIGHT} {_steps(allocated, 'L')} V{_HEIGHT} Z"),
        tag("path", class_="requested", d=_steps(requested, "M")),
        *strips,
        class_="timeline",
        viewBox=f"0 -2 {_WIDTH} {_HEIGHT + _STRIP + 2}",
        preserveAspectRatio="none",
        role="img",
    )


def _spans(points: Sequence[Point], now: int) -> list[tuple[float, float, Point]]:
    """Where each point starts and ends on the time axis."""
    start = points[0].time
    length = max(1, now - start, points[-1].time - start)
    edges = [_WIDTH * (point.time - start) / length for point in points] + [float(_WIDTH)]
    return [(left, right, point) for (left, right), point in zip(pairwise(edges), points, strict=True)]


def _y(count: int, top: int) -> float:
    return _HEIGHT - _HEIGHT * count / top


def _steps(levels: Sequence[tuple[float, float, float]], first: str) -> str:
    """A path along the levels, each from its left to its right end."""
    parts = [f"{first}{levels[0][0]:.1f},{levels[0][2]:.1f}"]
    parts += [f"V{y:.1f} H{right:.1f}" for _, right, y in levels]
    return " ".join(parts)
