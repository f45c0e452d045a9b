"""How many instances each claim had, and when: what the web page draws as a timeline."""

from __future__ import annotations

from typing import NamedTuple

_MOST_POINTS = 200  # of one claim


class Point(NamedTuple):
    """A claim from one moment on."""

    time: int
    """Nanoseconds since 1970, by the emulator's clock."""
    allocated: int
    requested: int
    status: str


class History:
    """The points of each claim that exists, oldest first. Not kept across restarts."""

    def __init__(self) -> None:
        self._points: dict[str, list[Point]] = {}

    def note(self, claim_id: str, point: Point) -> None:
        """Add a point, if it differs from the last one. Beyond the limit every second point is dropped,
        so the timeline gets coarser, but keeps its start."""
        points = self._points.setdefault(claim_id, [])
        if points and points[-1].time == point.time:
            points[-1] = point
        elif not points or points[-1][1:] != point[1:]:
            points.append(point)
        if len(points) > _MOST_POINTS:
            del points[1:-1:2]

    def of(self, claim_id: str) -> tuple[Point, ...]:
        """The points of a claim."""
        return tuple(self._points.get(claim_id, ()))

    def forget(self, claim_id: str) -> None:
        """Remove a claim that is gone."""
        self._points.pop(claim_id, None)
