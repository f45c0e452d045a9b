"""The writer for a terminal, with rich. Foreign text cannot control the terminal."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pulumi_coreweave_inference.foreign_text import visible

from .document import Bullets, Cell, Document, Paragraph, Quoted, Strong, Table

_MOST_ROWS: Final = 200


def show(document: Document, console: Console) -> None:
    """Print a review."""
    console.print(_text(document.title, "bold"))
    for block in document.blocks:
        if isinstance(block, Paragraph):
            console.print(_text(block.text))
        elif isinstance(block, Bullets):
            for item in block.items[: block.shown]:
                console.print(Text("• ").append(_text(item)))
            _count(len(block.items) - block.shown, console)
        elif isinstance(block, Table):
            console.print(_table(block))
            _count(len(block.rows) - _MOST_ROWS, console)
        else:
            for message in block.texts[:_MOST_ROWS]:
                for quoted in visible(message, keep="\n").split("\n"):
                    for part in Text(quoted, "red").wrap(console, console.width - 2) or [Text()]:
                        console.print(Text("│ ", "red").append(part))  # so that no line looks like ours
            _count(len(block.texts) - _MOST_ROWS, console)
    for line in document.footer:
        console.print(_text(line, "dim"))


def _table(block: Table) -> RichTable:
    table = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(block.columns):
        table.add_column(column, justify="right" if index in block.numbers else "left", overflow="fold")
    for row in block.rows[:_MOST_ROWS]:
        table.add_row(*map(_text, row))
    return table


def _count(rest: int, console: Console) -> None:
    if rest > 0:
        console.print(f"… and {rest:,} more, not shown")


def _text(cell: Cell, style: str = "") -> Text:
    text = Text(style=style)
    for piece in cell:
        if isinstance(piece, Quoted):
            text.append(visible(piece.text), "cyan")
        elif isinstance(piece, Strong):
            text.append(piece.text, "bold yellow")
        else:
            text.append(piece)
    return text
