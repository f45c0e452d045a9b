"""Read a TOML file into a pydantic model. An error names the key and what is allowed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import ClassVar, Final, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from coreweave_inference import _text_files

_MOST_SHOWN: Final = 80  # characters of a value
_EXPECTED: Final = {
    "dict_type": "a table",
    "model_type": "a table",
    "is_instance_of": "a number",  # a price that is not a Decimal
}


class InvalidToml(ValueError):
    """The file is not valid. The message says what is wrong and where, in one line."""


class TomlModel(BaseModel):
    """A file, or a table in it: every key is known, and no value is converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, defer_build=True
    )


_Model = TypeVar("_Model", bound=TomlModel)


def load_toml(model: type[_Model], text: str) -> _Model:
    """Read a file. Raises `InvalidToml`."""
    try:
        given = _text_files.load_toml(text, parse_float=Decimal)
    except _text_files.UnreadableText as error:
        raise InvalidToml(str(error)) from None
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidToml(_message(model, error.errors(include_url=False)[0])) from None


def _message(model: type[TomlModel], error: ErrorDetails) -> str:
    *tables, key = error["loc"]
    path = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = ", ".join(".".join(map(str, (*tables, name))) for name in _keys(model, tables))
        return f"unknown key {path}; known keys: {known}"
    if error["type"] == "model_type":
        return f"{path} must be a table with the keys {', '.join(_keys(model, [*tables, key]))}"
    expected = _EXPECTED.get(error["type"]) or error["msg"].removeprefix("Input should be ")
    value = error["input"]
    text = json.dumps(value) if isinstance(value, str | bool) else str(value)
    shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
    return f"{path} must be {expected}, not {shown}"


def _keys(model: type[TomlModel], tables: list[int | str]) -> list[str]:
    """The keys that a table of the model has."""
    for name in tables:
        model = cast("type[TomlModel]", model.model_fields[str(name)].annotation)
    return list(model.model_fields)
