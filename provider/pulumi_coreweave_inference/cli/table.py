"""Tables and their cells: ruled on a terminal, plain aligned text in a pipe or for very many rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coreweave_inference import CapacityClaim, ConditionStatus, parse_timestamp
from pulumi_coreweave_inference.foreign_text import one_line

_MOST_ROWS_WITH_RULES: Final = 2_000  # rich measures every cell, which takes minutes for 50,000 rows
_RIGHT: Final = frozenset({"ALLOCATED", "AGE"})  # columns that are aligned to the right
_UNBROKEN: Final = frozenset({"ID", "STATE"}) | _RIGHT  # columns for copying, or too short to fold

Row = Sequence[str]


def write_table(titles: Row, rows: Sequence[Row]) -> None:
    """Write a table to stdout."""
    if sys.stdout.isatty() and len(rows) <= _MOST_ROWS_WITH_RULES:
        Console().print(_ruled(titles, rows))
    else:
        sys.stdout.write(plain_table(titles, rows))


def plain_table(titles: Row, rows: Sequence[Row]) -> str:
    """Aligned text, one line per row, two blanks between columns; an empty cell is a dash."""
    lines = [list(titles), *([one_line(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    last = len(titles) - 1
    return "".join(
        "  ".join(
            cell.rjust(width) if title in _RIGHT else cell if index == last else cell.ljust(width)
            for index, (title, cell, width) in enumerate(zip(titles, line, widths, strict=True))
        )
        + "\n"
        for line in lines
    )


def _ruled(titles: Row, rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        justify: Literal["right", "left"] = "right" if title in _RIGHT else "left"
        table.add_column(title, justify=justify, no_wrap=title in _UNBROKEN, overflow="fold")
    for row in rows:
        # Text instead of a string: rich would read markup in names and messages.
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def allocation(claim: CapacityClaim) -> str:
    """Allocated and requested instances, as "3/4"."""
    return f"{claim.status.allocated_instances}/{claim.resources.instance_count}"


def age(created: str | None, now: datetime) -> str:
    """Time since a timestamp, in one unit: "42s", "12m", "7h", "3d"; empty if unknown."""
    moment = parse_timestamp(created)
    if moment is None:
        return ""
    seconds = max(0, int((now - moment).total_seconds()))
    for limit, unit, size in ((120, "s", 1), (7_200, "m", 60), (172_800, "h", 3_600)):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def failing_conditions(claim: CapacityClaim) -> str:
    """The reasons of the conditions that are not true, each with its zone."""
    return ", ".join(
        f"{condition.zone}: {reason}" if condition.zone else reason
        for condition in claim.status.conditions
        if condition.status != ConditionStatus.TRUE
        and (reason := condition.reason or condition.type or str(condition.status))
    )
