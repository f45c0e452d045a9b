"""JSON schemas of the files that people write, and of the report, for editors: `docs/schemas`.

.venv/bin/python tools/docs/schemas.py        # writes them

They follow from the models that read the files. What a model checks with code of its own is added here.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from coreweave_inference.emulator import faults
from coreweave_inference.emulator.claim import ClaimEdit
from coreweave_inference.emulator.errors import CODES
from coreweave_inference.emulator.settings import _INVENTORY as INVENTORY
from coreweave_inference.emulator.validation import StrictModel
from pulumi_coreweave_inference.cli.review.json_report import ReportJson
from pulumi_coreweave_inference.cli.review.prices import PriceBook
from pulumi_coreweave_inference.cli.review.rules import Rules
from pulumi_coreweave_inference.cli.review.toml_model import TomlModel

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "schemas"

Schema = dict[str, Any]


def schemas() -> dict[str, str]:
    """The text of each schema by its file name."""
    return {
        "rules.json": _text("The rules of capacity-claims review --rules", _of_toml(Rules)),
        "prices.json": _text("The prices of capacity-claims review --prices", _of_toml(PriceBook)),
        "inventory.json": _text("The inventory of capacity-claims emulator --inventory", _inventory()),
        "faults.json": _text("The fault rules of capacity-claims emulator --faults", _faults()),
        "report.json": _text("capacity-claims review --format json, version 1", _report()),
    }


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _Toml(_WithoutTitles):
    """TOML has no null, and its numbers are numbers."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        return self.generate_inner(schema["schema"])

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        number: Schema = super().decimal_schema(schema)["anyOf"][0]
        return number

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        inner = super().default_schema(schema)
        if not isinstance(inner.get("default"), (str, list)):
            inner.pop("default", None)
        return inner


def _of_toml(model: type[BaseModel]) -> Schema:
    return _with_schema_key(_described(model.model_json_schema(schema_generator=_Toml)))


def _report() -> Schema:
    return TypeAdapter(ReportJson).json_schema(mode="serialization", schema_generator=_WithoutTitles)


def _inventory() -> Schema:
    schema = INVENTORY.json_schema(schema_generator=_WithoutTitles)
    return _with_schema_key({"description": "Instances that exist, by zone and instance type.", **schema})


def _faults() -> Schema:
    profile = _described(faults.FaultProfile.model_json_schema(schema_generator=_WithoutTitles))
    edit = _described(ClaimEdit.model_json_schema(schema_generator=_WithoutTitles))
    definitions = profile.pop("$defs") | edit.pop("$defs") | {"ClaimEdit": edit}
    rule, fail = (definitions[name]["properties"] for name in ("FaultRule", "Fail"))
    when = {"anyOf": [*rule["hold"]["anyOf"]]}
    wrapped = {
        "type": "object",
        "properties": {"when": when},
        "required": ["when"],
        "additionalProperties": False,
    }
    for name in ("hold", "drop", "html_200"):
        rule[name]["anyOf"].append(wrapped)
    rule["html_200"]["anyOf"].append({"const": True})
    rule["stale_reads"]["anyOf"].append(definitions["StaleReads"]["properties"]["seconds"])
    rule["status"]["anyOf"] += definitions["StatusChange"]["properties"]["status"]["anyOf"]
    methods = sorted({*faults.OPERATIONS.values()})
    any_case = "|".join("".join(f"[{c}{c.lower()}]" for c in method) for method in methods)
    rule["method"]["anyOf"][0] = {
        "anyOf": [{"enum": methods}, {"type": "string", "pattern": f"^({any_case})$"}]
    }
    # Which patterns match the path of an operation, only the parser knows.
    rule["path"]["anyOf"][0] = {
        "anyOf": [{"enum": [*faults.OPERATIONS]}, {"type": "string", "pattern": "[/*?\\[]"}]
    }
    rule["redirect"]["anyOf"][0]["pattern"] = "^[!-~]+$"
    rule["foreign_edit"]["anyOf"][0] = {"$ref": "#/$defs/ClaimEdit"}
    fail["code"] = {key: value for key, value in fail["code"].items() if key != "type"} | {"enum": [*CODES]}
    fail["retry_after"]["anyOf"][1]["pattern"] = "^date(:[0-9]{1,9})?$"
    listed = {"type": "array", "items": {"$ref": "#/$defs/FaultRule"}}
    return {"anyOf": [_with_schema_key(profile), listed], "$defs": definitions}


def _described(schema: Schema) -> Schema:
    """The schema with the text below each field of its models as the field's description."""
    models = {model.__name__: model for each in (TomlModel, StrictModel) for model in _all_below(each)}
    for name, part in {schema["title"]: schema, **schema.get("$defs", {})}.items():
        for field, text in _texts_below_fields(models[name]).items():
            if field in part["properties"]:
                part["properties"][field].setdefault("description", text)
    return schema


def _all_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _all_below(each)


def _texts_below_fields(model: type[BaseModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in model.__mro__:
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in itertools.pairwise(definition.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                    value=ast.Constant(value=str() as words)
                ):
                    found.setdefault(name, " ".join(words.split()))
    return found


def _with_schema_key(schema: Schema) -> Schema:
    """The schema of a file, which may name its schema."""
    own = {"$schema": {"type": "string", "description": "The schema of this file, for editors."}}
    return schema | {"properties": own | schema.get("properties", {})}


def _text(title: str, schema: Schema) -> str:
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": title}
    return json.dumps(head | {key: schema[key] for key in schema if key != "title"}, indent=2) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
