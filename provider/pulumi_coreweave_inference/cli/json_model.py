"""Read JSON of another program into a pydantic model: what it names is checked, the rest is ignored.

A file of the wrong shape is an error, never an empty one: whoever reads it may conclude that nobody manages
a claim.
"""

from __future__ import annotations

import json
from typing import ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from coreweave_inference._text_files import UnreadableText, load_json

_MOST_SHOWN: Final = 40  # characters of a value
_EXPECTED: Final = {
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}


class InvalidJson(ValueError):
    """The text does not have the expected shape. The message says what is wrong and where, in one line."""


class JsonModel(BaseModel):
    """An object of which some keys are known. No value is converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True, strict=True)


_Model = TypeVar("_Model", bound=JsonModel)


def parse_json(text: str) -> object:
    """Any JSON value. Raises `InvalidJson`."""
    if not text.strip():
        raise InvalidJson("it is empty")
    try:
        return load_json(text)
    except UnreadableText as error:
        raise InvalidJson(str(error)) from None


def as_model(model: type[_Model], given: object) -> _Model:
    """A JSON value as a model. Raises `InvalidJson`, which names the first key that is wrong."""
    try:
        return model.model_validate(given)
    except RecursionError:
        raise InvalidJson("it is nested too deep") from None
    except ValidationError as error:
        raise InvalidJson(_message(error.errors(include_url=False)[0])) from None


def _message(error: ErrorDetails) -> str:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    if error["type"] == "missing":
        return f"it has no {path}"
    if error["type"] == "value_error":
        return f"{path}: {error['ctx']['error']}"
    expected = _EXPECTED.get(error["type"]) or error["msg"].removeprefix("Input should be ").replace("'", '"')
    return f"{path or 'it'} must be {expected}, not {brief(error['input'])}"


def brief(value: object) -> str:
    """The beginning of a value as JSON, for a message."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "a value that is nested too deep"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
