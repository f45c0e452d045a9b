"""The writer for a pull request: Markdown as GitHub and GitLab render it.

Foreign text goes into a code span, where neither renders mentions, references or links. If it contains a
character that could end the span or the table cell, it goes into `<code>` as character references.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pulumi_coreweave_inference.foreign_text import visible

from .document import Block, Bullets, Cell, Document, Paragraph, Quoted, Strong, Table, Verbatim

LIMIT: Final = 60_000  # characters; GitHub refuses comments of more than 65,536
_RESERVE: Final = 6_000  # for headings, paragraphs and the counts of what is left out
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.,:/+~ -]*[A-Za-z0-9_.,:/+~-]")
_MOST_QUOTED: Final = 80  # characters of one quoted text
_MOST_MESSAGE: Final = 2_000  # characters of one message
_MOST_MESSAGES: Final = 5


def markdown(document: Document) -> str:
    """A comment of less than 60,000 characters."""
    room = _Room(LIMIT - _RESERVE)
    marker = re.sub(r"[^A-Za-z0-9/. ]+|-+", "-", document.marker)[:200]
    parts = [f"<!-- {marker} -->", f"### {_cell(document.title)}"]
    folded: list[Table] = []
    parts += [_block(block, room, folded) for block in document.blocks]
    parts += [_folded(table, room) for table in folded]
    parts += [f"<sub>{_cell(line)}</sub>" for line in document.footer]
    return "\n\n".join(part for part in parts if part) + "\n"


class _Room:
    """The characters left in the comment."""

    def __init__(self, characters: int) -> None:
        self.left = characters

    def take(self, texts: Iterable[str], share: int) -> tuple[list[str], int]:
        """As many texts as fit into one `share`-th of what is left, and the number of the others."""
        most, taken, rest = self.left // share, [], 0
        for text in texts:
            if rest or len(text) + 1 > most:
                rest += 1
                continue
            most -= len(text) + 1
            self.left -= len(text) + 1
            taken.append(text)
        return taken, rest


def _block(block: Block, room: _Room, folded: list[Table]) -> str:
    if isinstance(block, Paragraph):
        return _cell(block.text)
    if isinstance(block, Bullets):
        items, rest = room.take((f"- {_cell(item)}" for item in block.items[: block.shown]), 3)
        return "\n".join(items + _and_more(rest + max(0, len(block.items) - block.shown), "- "))
    if isinstance(block, Verbatim):
        texts, rest = room.take(map(_fenced, block.texts[:_MOST_MESSAGES]), 3)
        return "\n\n".join(texts + _and_more(rest + max(0, len(block.texts) - _MOST_MESSAGES)))
    rows, rest = room.take(map(_row, block.rows[: block.shown]), 3)
    if len(rows) < len(block.rows):
        folded.append(Table(block.columns, block.rows[len(rows) :], numbers=block.numbers))
    return "\n".join([*_head(block), *rows]) if rows or not rest else ""


def _folded(table: Table, room: _Room) -> str:
    """The rows beyond the first screen, as many as the comment has room for."""
    rows, rest = room.take(map(_row, table.rows), 1)
    more = "\n".join(_and_more(rest))
    if not rows:
        return more
    title = f"<details><summary>{len(table.rows):,} more: {table.columns[0].lower()}</summary>"
    return "\n\n".join(
        part for part in (title, "\n".join([*_head(table), *rows]), more, "</details>") if part
    )


def _and_more(rest: int, prefix: str = "") -> list[str]:
    return [f"{prefix}… and {rest:,} more, not shown"] if rest else []


def _head(table: Table) -> list[str]:
    rule = ("--:" if index in table.numbers else "---" for index in range(len(table.columns)))
    return [f"| {' | '.join(table.columns)} |", f"|{'|'.join(rule)}|"]


def _row(cells: tuple[Cell, ...]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(cell: Cell) -> str:
    return "".join(
        quoted(piece.text) if isinstance(piece, Quoted)
        else f"**{piece.text}**" if isinstance(piece, Strong)
        else piece
        for piece in cell
    )  # fmt: skip


def quoted(text: str) -> str:
    """Foreign text as code: nothing in it is markup, a mention or a link."""
    text = visible(text)
    if len(text) > _MOST_QUOTED:
        text = text[: _MOST_QUOTED - 1] + "…"
    if _PLAIN.fullmatch(text) and not text.startswith(" "):
        return f"`{text}`"
    spelled = "".join(c if c.isascii() and c.isalnum() else f"&#{ord(c)};" for c in text)
    return f"<code>{spelled}</code>" if spelled else "<code>&nbsp;</code>"


def _fenced(text: str) -> str:
    text = visible(text.expandtabs(4), keep="\n")
    if len(text) > _MOST_MESSAGE:
        text = text[:_MOST_MESSAGE] + "…"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
