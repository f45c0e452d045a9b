from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from coreweave_inference import CapacityClaim
from pulumi_coreweave_inference.cli.list import DROPPED, TITLES, row, select
from pulumi_coreweave_inference.cli.table import Row, age, failing_conditions, plain_table, write_table
from pulumi_coreweave_inference.cli.zones import not_offered, offering

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def claim(name: str = "training", **more: Any) -> CapacityClaim:
    resources = {"instanceId": "gb200-4x", "instanceCount": 4, "zones": ["US-WEST-04A", "US-EAST-04A"]}
    resources |= more.pop("resources", {})
    status = {"status": "STATUS_READY", "allocatedInstances": 4, "createdAt": "2026-11-23T09:00:00Z"}
    return CapacityClaim.model_validate(
        {
            "spec": {"id": "6ffb9fce-42ae-4638-add8-09ea8e43ce50", "name": name, "resources": resources},
            "status": status | more,
        }
    )


def condition(zone: str, status: str, reason: str) -> dict[str, str]:
    return {"type": "Ready", "status": status, "reason": reason, "zone": zone}


def test_a_pipe_gets_aligned_rows_with_zones_in_order_and_failing_reasons() -> None:
    short = claim(
        "evaluation",
        status="STATUS_CREATING",
        allocatedInstances=1,
        createdAt="2026-11-21T09:00:00Z",
        resources={"zones": ["US-EAST-04A", "US-WEST-04A"]},
        conditions=[
            condition("US-EAST-04A", "STATUS_FALSE", "InsufficientCapacity"),
            condition("US-WEST-04A", "STATUS_TRUE", "AllAllocated"),
            condition("", "False", "Paused"),
        ],
    )
    rows = [row(each, NOW) for each in (claim(), short)]
    assert plain_table(TITLES, rows) == snapshot(
        """\
NAME        ID                                    TYPE      ZONES                     ALLOCATED  STATE     AGE  CONDITIONS
training    6ffb9fce-42ae-4638-add8-09ea8e43ce50  gb200-4x  US-WEST-04A, US-EAST-04A        4/4  READY      3h  -
evaluation  6ffb9fce-42ae-4638-add8-09ea8e43ce50  gb200-4x  US-EAST-04A, US-WEST-04A        1/4  CREATING   2d  US-EAST-04A: InsufficientCapacity, Paused
"""
    )


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2026-11-23T11:59:18Z", "42s"),
        ("2026-11-23T11:58:00Z", "2m"),
        ("2026-11-23T10:00:01Z", "119m"),
        ("2026-11-23T10:00:00Z", "2h"),
        ("2026-11-21T12:00:00Z", "2d"),
        ("2026-11-23T12:00:05Z", "0s"),  # the API's clock is ahead
        ("soon", ""),
        (None, ""),
    ],
)
def test_an_age_has_one_unit_and_an_unknown_age_is_empty(created: str | None, shown: str) -> None:
    assert age(created, NOW) == shown


def test_states_match_in_any_spelling_and_names_by_pattern() -> None:
    claims = [claim("a-1"), claim("a-2", status="STATUS_ERROR"), claim("b", status="STATUS_PAUSED")]
    chosen: Callable[..., list[str]] = lambda **filters: [c.name for c in select(claims, **filters)]  # noqa: E731
    assert chosen() == ["a-1", "a-2", "b"]
    assert chosen(states=["ready", "STATUS_ERROR"]) == ["a-1", "a-2"]
    assert chosen(states=["Paused"]) == ["b"]
    assert chosen(names=["a-*"], states=["READY"]) == ["a-1"]
    assert chosen(zones=["US-EAST-04A", "RNO2A"]) == ["a-1", "a-2", "b"]
    assert chosen(types=["h100"]) == []


def test_a_condition_without_a_reason_shows_its_type() -> None:
    assert failing_conditions(claim(conditions=[condition("RNO2A", "STATUS_FALSE", "")])) == "RNO2A: Ready"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, titles: Row, rows: Sequence[Row], **more: Any
) -> tuple[str, str]:
    """What stdout and stderr show in a terminal of so many columns."""
    with monkeypatch.context() as patched:
        patched.setenv("COLUMNS", str(columns))
        patched.setattr("sys.stdout", out := Terminal())
        patched.setattr("sys.stderr", err := io.StringIO())
        write_table(titles, rows, **more)
    return out.getvalue(), err.getvalue()


def twenty() -> list[Row]:
    waiting = condition("US-WEST-04A", "STATUS_FALSE", "InsufficientCapacity")
    return [
        row(
            claim(
                f"training-{index:02}", status="STATUS_CREATING", allocatedInstances=0, conditions=[waiting]
            ),
            NOW,
        )
        for index in range(20)
    ]


@pytest.mark.parametrize(
    ("columns", "shown", "hidden"),
    [
        (160, "NAME ID TYPE ZONES ALLOCATED STATE AGE CONDITIONS", ""),
        (120, "NAME TYPE ZONES ALLOCATED STATE AGE CONDITIONS", "ID"),
        (100, "NAME TYPE ZONES ALLOCATED STATE AGE CONDITIONS", "ID"),
        (80, "NAME TYPE ZONES ALLOCATED STATE AGE", "ID, CONDITIONS"),
        (60, "NAME TYPE ALLOCATED STATE AGE", "ID, CONDITIONS, ZONES"),
    ],
)
def test_a_terminal_gets_the_columns_that_fit_and_the_others_by_name(
    monkeypatch: pytest.MonkeyPatch, columns: int, shown: str, hidden: str
) -> None:
    out, err = on_a_terminal(monkeypatch, columns, TITLES, twenty(), dropped=DROPPED)
    assert out.splitlines()[0].split() == shown.split()
    assert max(map(len, out.splitlines())) <= columns
    assert out.count("training-") == 20
    assert "US-WEST-04A" in out or "ZONES" in hidden, "no word is broken"
    said = f"not shown, as the terminal is narrow: {hidden}; --wide shows all\n" if hidden else ""
    assert err == said
    whole, none = on_a_terminal(monkeypatch, columns, TITLES, twenty(), dropped=DROPPED, wide=True)
    assert (whole, none) == (plain_table(TITLES, twenty()), "")


@pytest.mark.parametrize("columns", range(70, 180, 7))
def test_no_line_is_longer_than_a_terminal_with_a_long_reason(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    long = condition("US-WEST-04A", "STATUS_FALSE", "InsufficientCapacityForThisInstanceType")
    rows = [row(claim(status="STATUS_CREATING", conditions=[long]), NOW)]
    out, _ = on_a_terminal(monkeypatch, columns, TITLES, rows, dropped=DROPPED)
    assert max(map(len, out.splitlines())) <= columns


def test_the_last_column_goes_on_below_and_an_empty_one_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    types = "a100-80gb-8x, gb200-4x, h100-80gb-sxm5, h200-141gb-8x, l40s-8x"
    out, err = on_a_terminal(
        monkeypatch, 50, ("ZONE", "INSTANCE TYPES"), [("US-EAST-04A", types), ("R", "x")]
    )
    assert out == snapshot("""\
ZONE         INSTANCE TYPES
US-EAST-04A  a100-80gb-8x, gb200-4x,
             h100-80gb-sxm5, h200-141gb-8x,
             l40s-8x
R            x
""")
    out, err = on_a_terminal(monkeypatch, 160, TITLES, [row(claim(), NOW)], dropped=DROPPED)
    assert (out.split("\n")[0].split()[-1], err) == ("AGE", "")


@given(
    st.lists(st.tuples(*[st.text(alphabet="ab -\x1b", max_size=40)] * 3), max_size=4),
    st.integers(min_value=1, max_value=120),
)
def test_no_word_is_broken_in_a_terminal_of_any_width(rows: list[tuple[str, str, str]], columns: int) -> None:
    text = plain_table(("A", "B", "C"), rows, columns)
    assert text.split() == plain_table(("A", "B", "C"), rows).split()


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_a_foreign_text_stays_in_its_row_and_cannot_control_the_terminal(rows: list[tuple[str, str]]) -> None:
    text = plain_table(("A", "B"), rows)
    assert text.count("\n") == len(rows) + 1
    assert all(line.isprintable() for line in text.split("\n"))


def test_zones_that_offer_a_type_are_shown_with_everything_they_offer() -> None:
    offered = {"RNO2A": ["l40s-8x", "h100-80gb-sxm5"], "US-WEST-04A": ["gb200-4x"]}
    assert json.dumps(offering(offered, [])) == snapshot(
        '{"RNO2A": ["h100-80gb-sxm5", "l40s-8x"], "US-WEST-04A": ["gb200-4x"]}'
    )
    assert offering(offered, ["gb200-4x"]) == {"US-WEST-04A": ["gb200-4x"]}
    assert offering(offered, ["gb200"]) == {}
    assert not_offered(offered, ["GB200-4x"]) == snapshot(
        'no zone offers "GB200-4x"; did you mean "gb200-4x"?'
    )
