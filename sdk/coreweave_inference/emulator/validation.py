"""Strict models for JSON and TOML written by people, and a one-line message for the first mistake."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator


class StrictModel(BaseModel):
    """Refuses unknown fields and converts nothing: `"1"` is not a number, `true` is not 1."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, value: object) -> Self:
        """Validate `value`; ValueError names the first field that is wrong, in one line."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ValueError(explain(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: object) -> object:
        """As `extra="forbid"` does, but with the names of the fields that exist."""
        if not isinstance(value, Mapping):
            return value
        known = [str(info.validation_alias or name) for name, info in cls.model_fields.items()]
        unknown = [name for name in value if name not in known and name not in cls.model_fields]
        if unknown and cls.model_config.get("extra") == "forbid":
            raise ValueError(f"no such field: {unknown[0]}; the fields are {', '.join(known)}")
        return dict(value)


def _enum_value(value: object) -> object:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise ValueError(f"must be the name or the number of an enum value, not {value!r}")


EnumValue = Annotated[int | str, BeforeValidator(_enum_value)]
"""An enum value by name or number; it need not be one that the schema knows."""

_TEXTS = {
    "extra_forbidden": "no such field",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "mapping_type": "must be an object",
    "tuple_type": "must be a list",
}
_WORDS = {
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


def explain(error: ValidationError) -> str:
    """The first mistake in one line: the field, what it must be, and what it is."""
    first = error.errors(include_url=False)[0]
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]]
    place = "".join(parts).removeprefix(".")
    if first["type"] == "missing":
        text = "is required"
    elif first["type"] == "value_error":
        text = str(first["ctx"]["error"])
    else:
        expected = _TEXTS.get(first["type"], first["msg"])
        for words, plain in _WORDS.items():
            expected = expected.replace(words, plain)
        text = f"{expected}, not {reprlib.repr(first['input'])}"
    return f"{place}: {text}" if place else text
