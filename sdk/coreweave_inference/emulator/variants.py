"""The questions about the API whose answer is unknown, each with the answers that the emulator can give.

They are the settings of `EmulatorSettings` from `error_form` to `capacity_type_shown`, with their types,
defaults and docstrings.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from coreweave_inference.emulator.settings import RESOURCE_FIELDS, EmulatorSettings

_FIRST, _LAST = "error_form", "capacity_type_shown"


@dataclass(frozen=True, slots=True)
class Variant:
    """One question."""

    name: str
    """The setting of `EmulatorSettings`."""
    question: str
    """The question, and what the answers mean."""
    answers: str
    """The possible answers, as text for people."""
    default: str
    """The answer without this setting, as `parse` reads it."""

    def parse(self, text: str) -> Any:
        """Read an answer. Raises ValueError with the possible ones."""
        kind = typing.get_type_hints(EmulatorSettings)[self.name]
        given: object = None if text == "none" else text
        if kind == frozenset[str]:
            given = frozenset(part.strip() for part in text.split(",") if part.strip())
        try:
            answer: Any = TypeAdapter(kind).validate_python(given)
            EmulatorSettings(**{self.name: answer})
        except ValueError:
            raise ValueError(f"variant {self.name}: must be {self.answers}, not {text!r}") from None
        return answer


def parse_variants(given: Iterable[str]) -> dict[str, Any]:
    """The settings that texts such as `shortage=error` name, for `EmulatorSettings(**settings)`.

    Raises ValueError for an unknown variant or answer, and for one that is given twice.
    """
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, answer = (part.strip() for part in text.partition("="))
        name = name.replace("-", "_")
        if not equals:
            raise ValueError(f"variant {text!r}: write it as name=answer, such as shortage=error")
        if name not in VARIANTS:
            raise ValueError(f"there is no variant {name!r}; the variants are {', '.join(VARIANTS)}")
        if name in settings:
            raise ValueError(f"variant {name}: is given twice")
        settings[name] = VARIANTS[name].parse(answer)
    return settings


def _variants() -> dict[str, Variant]:
    fields = TypeAdapter(EmulatorSettings).json_schema()["properties"]
    names = list(fields)
    chosen = names[names.index(_FIRST) : names.index(_LAST) + 1]
    return {name: _variant(name, fields[name]) for name in chosen}


def _variant(name: str, schema: dict[str, Any]) -> Variant:
    text = re.sub(r"\s+", " ", schema["description"]).replace("`", "")
    return Variant(name, text, _answers(schema), _written(schema["default"]))


def _answers(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(_answers, schema["anyOf"]))
    if schema["type"] == "array":
        return "any of " + ",".join(sorted(RESOURCE_FIELDS))
    return _ANSWERS[schema["type"]]


_ANSWERS = {
    "boolean": "true or false",
    "number": "a number of seconds",
    "integer": "a number from 1",
    "null": "none",
}


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ",".join(value)
    return "none" if value is None else str(value)


VARIANTS: dict[str, Variant] = _variants()
"""All questions by name, in the order of the settings."""
