"""Foreign text made harmless: the one place between a text for people and what shows it.

Names, zones and messages of the API, of a state or of a file may hold anything: escape sequences that rewrite
a terminal, marks that reverse the reading direction, Pulumi's colour tags, and line breaks after which a line
looks like ours. So a text for people is made of lines, and every line is made harmless as a whole, whoever
wrote its parts. Only `in_lines` makes a text of several lines. Whatever shows a text passes it through
`shown`, where a plain string is one line: text that was not laid out here cannot begin a new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_SIGN: Final = "\N{REPLACEMENT CHARACTER}"
_COLOUR_TAG: Final = "<{%"  # Pulumi's displays interpret `<{%reset%}>`
_SPACE: Final = re.compile(r"\s+")


class Lines(str):
    """One or more lines that are safe to show."""

    __slots__ = ()


def in_lines(*lines: str) -> Lines:
    """A text with these lines, each made harmless. A line break within a line becomes a blank."""
    return Lines("\n".join(map(one_line, lines)))


def shown(text: str) -> Lines:
    """A text as it may be shown: lines as they are, and anything else as one line."""
    return text if isinstance(text, Lines) else in_lines(text)


def led_by(lead: str, text: str) -> Lines:
    """A text with a few words before its first line."""
    first, *more = shown(text).split("\n")
    return in_lines(lead + first, *more)


def paragraphs(texts: Iterable[str]) -> Lines:
    """Texts with an empty line between them."""
    return Lines("\n\n".join(map(shown, texts)))


def one_line(text: str) -> str:
    """A text on one line that controls neither a terminal nor Pulumi's display."""
    return visible(_SPACE.sub(lambda run: run[0] if not run[0].strip(" ") else " ", text))


def visible(text: str, keep: str = "") -> str:
    """The text with a sign in place of each control character, direction mark and line break."""
    if not text.isprintable():
        text = "".join(c if c in keep or c.isprintable() else _SIGN for c in text)
    return text.replace(_COLOUR_TAG, f"<{_SIGN}%")
