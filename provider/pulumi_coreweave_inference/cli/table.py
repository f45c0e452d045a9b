"""Tables and their cells: aligned text, which a terminal gets as wide as it is."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import typer

from coreweave_inference import CapacityClaim, ConditionStatus, parse_timestamp
from pulumi_coreweave_inference.foreign_text import one_line

from .console import note

WideOption = Annotated[bool, typer.Option("--wide", help="Show all columns, however narrow the terminal is.")]

_RIGHT: Final = frozenset({"ALLOCATED", "AGE", "SINCE"})  # columns that are aligned to the right
_GAP: Final = 2  # blanks between two columns
_LEAST: Final = 20  # characters that the last column needs at least, to go on in further lines

Row = Sequence[str]


def write_table(titles: Row, rows: Sequence[Row], *, dropped: Sequence[str] = (), wide: bool = False) -> None:
    """Write a table to stdout.

    A pipe gets one line for each row. In a terminal no line is longer than the terminal: the last column goes
    on in further lines, between words, and if that is not enough, columns are dropped, in the order of
    `dropped`; a message names them. So is one without any content. `wide` prevents that.
    """
    if wide or not sys.stdout.isatty():
        sys.stdout.write(plain_table(titles, rows))
        return
    text, hidden = fitted(titles, rows, dropped, shutil.get_terminal_size().columns)
    sys.stdout.write(text)
    if hidden:
        sys.stdout.flush()
        note(f"not shown, as the terminal is narrow: {', '.join(hidden)}; --wide shows all")


def fitted(titles: Row, rows: Sequence[Row], dropped: Sequence[str], width: int) -> tuple[str, list[str]]:
    """The table for a terminal of this width, and the columns with content that it leaves out."""
    empty = {title for index, title in enumerate(titles) if index and not any(row[index] for row in rows)}
    titles, rows = _without(empty & set(dropped), titles, rows)
    hidden = list[str]()
    while not _fits(titles, rows, width):
        title = next((title for title in dropped if title in titles), None)
        if title is None:
            break
        titles, rows = _without({title}, titles, rows)
        hidden.append(title)
    return plain_table(titles, rows, width), hidden


def plain_table(titles: Row, rows: Sequence[Row], width: int | None = None) -> str:
    """Aligned text, two blanks between columns; an empty cell is a dash.

    Each row is one line, unless it is longer than `width`; then the last column goes on below.
    """
    lines = _cells(titles, rows)
    widths, before = _measured(lines)
    last = len(titles) - 1
    text = []
    for line in lines:
        cells = [
            cell.rjust(size) if title in _RIGHT else cell if index == last else cell.ljust(size)
            for index, (title, cell, size) in enumerate(zip(titles, line, widths, strict=True))
        ]
        if width is not None and before + len(cells[-1]) > width:
            room = max(width - before, _LEAST)
            parts = textwrap.wrap(cells[-1], room, break_long_words=False, break_on_hyphens=False)
            cells[-1] = f"\n{' ' * before}".join(parts)
        text.append((" " * _GAP).join(cells).rstrip() + "\n")
    return "".join(text)


def _cells(titles: Row, rows: Sequence[Row]) -> list[list[str]]:
    return [list(titles), *([one_line(cell) or "-" for cell in row] for row in rows)]


def _measured(lines: Sequence[Row]) -> tuple[list[int], int]:
    """The width of each column, and where the last one begins."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return widths, sum(widths[:-1]) + _GAP * (len(widths) - 1)


def _fits(titles: Row, rows: Sequence[Row], width: int) -> bool:
    cells = _cells(titles, rows)
    widths, before = _measured(cells)
    word = max(len(word) for *_, cell in cells for word in cell.split())
    return before + min(widths[-1], max(_LEAST, word)) <= width


def _without(dropped: set[str], titles: Row, rows: Sequence[Row]) -> tuple[Row, Sequence[Row]]:
    kept = [index for index, title in enumerate(titles) if title not in dropped]
    return [titles[index] for index in kept], [[row[index] for index in kept] for row in rows]


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
