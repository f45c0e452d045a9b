"""Tables: with lines on a terminal, plain aligned text in a pipe and where there are very many rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .console import printable

_MOST_ROWS_WITH_LINES: Final = 2_000  # rich measures every cell, which takes minutes for 50,000 rows
_WHOLE: Final = frozenset({"ID", "STATE"})  # columns that are copied, or too short to be broken

Row = Sequence[str]


def show(titles: Row, rows: Sequence[Row], *, right: frozenset[str] = frozenset()) -> None:
    """Write a table to stdout. `right` names the columns that are aligned to the right."""
    if sys.stdout.isatty() and len(rows) <= _MOST_ROWS_WITH_LINES:
        Console().print(_ruled(titles, rows, right))
    else:
        sys.stdout.write(plain(titles, rows, right=right))


def plain(titles: Row, rows: Sequence[Row], *, right: frozenset[str] = frozenset()) -> str:
    """Aligned text, a row a line, columns two blanks apart; an empty cell is a dash."""
    lines = [list(titles), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    last = len(titles) - 1
    return "".join(
        "  ".join(
            cell.rjust(width) if title in right else cell if index == last else cell.ljust(width)
            for index, (title, cell, width) in enumerate(zip(titles, line, widths, strict=True))
        )
        + "\n"
        for line in lines
    )


def _ruled(titles: Row, rows: Sequence[Row], right: frozenset[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        whole = title in right or title in _WHOLE
        justify: Literal["right", "left"] = "right" if title in right else "left"
        table.add_column(title, justify=justify, no_wrap=whole, overflow="fold")
    for row in rows:
        # Text, not a string: names and messages are no markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
