"""HTML in which foreign text stays text: the one place that escapes."""

from __future__ import annotations

import html

_SIGN = "\N{REPLACEMENT CHARACTER}"
_VOID = frozenset({"input", "link", "meta"})


class Html(str):
    """Markup. A plain string is text, and is escaped where it becomes part of markup."""

    __slots__ = ()


def text(value: object) -> Html:
    """Text as markup, with a sign in place of each control character and direction mark."""
    shown = "".join(c if c.isprintable() or c == "\n" else _SIGN for c in str(value))
    return Html(html.escape(shown, quote=True))


def tag(name: str, /, *content: object, **attributes: str | int | bool | None) -> Html:
    """An element. Content that is not `Html` is text; None is left out.

    `class_` is the attribute `class`, `data_live` is `data-live`; True writes an attribute without a value,
    False and None leave it out.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: object) -> Html:
    """Several pieces of markup and text as one."""
    return Html(
        "".join(each if isinstance(each, Html) else text(each) for each in content if each is not None)
    )
