"""Read the text files that people and other programs write: in UTF-8 or UTF-16, as JSON or TOML.

PowerShell's `>` writes UTF-16, and editors on Windows begin UTF-8 with a byte order mark.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class UnreadableText(ValueError):
    """A file that is not text, JSON or TOML. The message says why, in one line."""


def decode_text(data: bytes) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32. Raises `UnreadableText`."""
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError:
        raise UnreadableText("it is not text in UTF-8 or UTF-16; save it as UTF-8") from None


def load_json(text: str) -> object:
    """Any JSON value, without a `$schema` at its top. Raises `UnreadableText`."""
    value: object = _load("JSON", lambda: json.loads(text))
    return _without_schema(value)


def load_toml(text: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """A TOML document, without a `$schema` at its top. Raises `UnreadableText`."""
    return _without_schema(_load("TOML", lambda: tomllib.loads(text, parse_float=parse_float)))


def _without_schema(value: T) -> T:
    """Leave out the key that says to an editor which schema a file has. No file has a field of that name."""
    if isinstance(value, dict) and isinstance(value.get("$schema"), str):
        del value["$schema"]
    return value


def _load(form: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnreadableText(f"it is not {form}: {error}") from None
    except RecursionError:
        raise UnreadableText(f"it is not {form} that can be read: it is nested too deep") from None
    except (ValueError, ArithmeticError):
        raise UnreadableText(f"it is not {form} that can be read: a number has too many digits") from None
