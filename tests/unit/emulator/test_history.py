"""The timeline of a claim: what is noted, and that it stays small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference.emulator import EmulatorSettings
from coreweave_inference.emulator.claims import Claims
from coreweave_inference.emulator.decoding import CreateRequest, Resources
from coreweave_inference.emulator.history import History, Point

SECOND = 1_000_000_000


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> int:
        return self.seconds * SECOND


def test_a_timeline_shows_allocation_and_status_at_their_time() -> None:
    clock = Clock()
    settings = EmulatorSettings(
        allocation_delay=10, allocation_spread=5, delete_delay=5, inventory={"Z1": {"t": 2}}
    )
    claims = Claims(settings, clock=clock)
    resources = Resources(instance_id="t", instance_count=3, zones=("Z1",), capacity_type=1)
    claims.create(CreateRequest(id="c", name="training", resources=resources))
    clock.seconds = 100
    claims.set_inventory({"Z1": {"t": 3}})
    clock.seconds = 200
    claims.delete("c")
    assert [(point.time // SECOND, *point[1:]) for point in claims.overview(1).histories["c"]] == [
        (0, 0, 3, "STATUS_CREATING"),
        (10, 1, 3, "STATUS_CREATING"),
        (15, 2, 3, "STATUS_CREATING"),
        (100, 3, 3, "STATUS_READY"),
        (200, 3, 3, "STATUS_DELETING"),
    ]
    clock.seconds = 300
    assert claims.overview(1).histories == {}


def test_a_timeline_of_many_changes_gets_coarser() -> None:
    history = History()
    for time in range(5_000):
        history.note("c", Point(time, time, 5_000, "STATUS_CREATING"))
    points = history.of("c")
    assert 50 < len(points) <= 200
    assert (points[0].allocated, points[-1].allocated) == (0, 4_999)
    assert [point.time for point in points] == sorted(point.time for point in points)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1))
def test_a_timeline_keeps_its_start_and_end(steps: list[tuple[int, int]]) -> None:
    history, now = History(), 0
    for seconds, allocated in steps:
        now += seconds
        history.note("c", Point(now, allocated, 4, "STATUS_CREATING"))
    points = history.of("c")
    assert points[0].time == 0 or points[0].time == steps[0][0]
    assert points[-1].allocated == steps[-1][1]
    assert [point.time for point in points] == sorted({point.time for point in points})


def test_what_did_not_change_adds_no_point() -> None:
    history = History()
    for time in range(5):
        history.note("c", Point(time, 1, 4, "STATUS_CREATING"))
    assert history.of("c") == (Point(0, 1, 4, "STATUS_CREATING"),)
