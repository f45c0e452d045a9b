"""The JSON schemas in `docs/schemas`: as generated, and in agreement with the parsers.

`SCHEMAS=write pytest tests/packaging/test_schemas.py` rewrites them.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coreweave_inference.emulator import DEFAULT_INVENTORY, FaultProfile, load_inventory
from coreweave_inference.emulator.settings import check_inventory
from pulumi_coreweave_inference.cli.review.prices import PriceBook
from pulumi_coreweave_inference.cli.review.rules import Rules
from pulumi_coreweave_inference.cli.review.toml_model import load_toml

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "docs" / "schemas"
EXAMPLE: Final = ROOT / "examples" / "ci-review"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schemas", ROOT / "tools" / "docs" / "schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_schemas_are_the_ones_that_the_models_generate() -> None:
    script = generator()
    if os.environ.get("SCHEMAS") == "write":
        script.main()
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == script.schemas()


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema_rs.meta.validate(schema)
    return jsonschema_rs.Draft202012Validator(schema)


VALIDATORS: Final = {name: validator(name) for name in ("rules", "prices", "inventory", "faults")}


def exactly(value: object) -> Any:
    """The value with decimal numbers, as the readers of TOML get them."""
    return json.loads(json.dumps(value), parse_float=Decimal)


PARSERS: Final[dict[str, Callable[[Any], object]]] = {
    "rules": lambda value: Rules.model_validate(exactly(value)),
    "prices": lambda value: PriceBook.model_validate(exactly(value)),
    "inventory": check_inventory,
    "faults": FaultProfile.from_json,
}


def parses(name: str, value: object) -> bool:
    try:
        PARSERS[name](value)
    except (ValueError, ValidationError):
        return False
    return True


EVERY_FAULT: Final[dict[str, Any]] = {
    "rules": [
        {"name": "a", "method": "post", "path": "create", "claim": "x", "nth": 2, "delay": 0.5, "hold": "after"},
        {"path": "*/capacityclaims/*", "every": 3, "times": 2, "drop": {"when": "before"}},
        {"path": "/v1alpha1/inference/capacityclaims", "probability": 0.5, "seed": 3, "html_200": True},
        {"fail": {"when": "after", "code": "aborted", "status": 503, "form": "html", "message": "m",
                  "details": [{"@type": "t"}], "retry_after": "date:5"}},
        {"fail": {"retry_after": 2.5}, "half_body": True, "redirect": "https://example.com/", "foreign_delete": True},
        {"stale_reads": 1.5, "status": "STATUS_ERROR", "html_200": "after", "hold": {"when": "after"}},
        {"stale_reads": {"seconds": 2, "reads": "list"}, "status": {"status": 3, "seconds": 4, "allocated": 1}},
        {"status": 3, "foreign_edit": {"spec": {"resources": {"instanceCount": 3, "zones": ["a"]}, "other": 1},
                                       "status": {"message": None}, "seconds": 1}},
        {"method": None, "path": None, "nth": None, "fail": None, "stale_reads": None, "status": None},
    ],
    "random": {"seed": 1, "rate": 0.2},
}  # fmt: skip
GOOD: Final[list[tuple[str, Any]]] = [
    ("rules", {}),
    ("rules", tomllib.loads((EXAMPLE / "rules.toml").read_text(encoding="utf-8"))),
    (
        "rules",
        {"max_cost": {"after": 1, "peak": 2.5, "increase": 0, "increase_percent": 0.5}, "replace": "forbid"},
    ),
    ("prices", {}),
    ("prices", tomllib.loads((EXAMPLE / "prices.toml").read_text(encoding="utf-8"))),
    ("inventory", {}),
    ("inventory", {zone: dict(held) for zone, held in DEFAULT_INVENTORY.items()}),
    ("faults", []),
    ("faults", EVERY_FAULT["rules"]),
    ("faults", EVERY_FAULT),
]
BAD: Final[list[tuple[str, Any]]] = [
    ("rules", {"colour": 1}),
    ("rules", {"zones": "US-WEST-04A"}),
    ("rules", {"min_zones": -1}),
    ("rules", {"min_zones": "2"}),
    ("rules", {"replace": "sometimes"}),
    ("rules", {"max_instances": {"type": {"gb200-4x": 1.5}}}),
    ("rules", {"max_peak": {"claim": 3}}),
    ("rules", {"max_cost": {"after": "10"}}),
    ("rules", {"max_cost": {"after": 2 * 10**12}}),
    ("prices", {"per_hour": {"gb200-4x": -1}}),
    ("prices", {"per_hour": {"gb200-4x": "40"}}),
    ("prices", {"gpus": {"gb200-4x": 0.5}}),
    ("inventory", []),
    ("inventory", {"US-WEST-04A": 4}),
    ("inventory", {"US-WEST-04A": {"gb200-4x": -1}}),
    ("inventory", {"US-WEST-04A": {"gb200-4x": True}}),
    ("faults", {"rule": []}),
    ("faults", {"random": {}}),
    ("faults", [{"nth": 0}]),
    ("faults", [{"method": "PUT"}]),
    ("faults", [{"path": "creates"}]),
    ("faults", [{"probability": 2}]),
    ("faults", [{"hold": "now"}]),
    ("faults", [{"drop": {"when": "before", "then": "after"}}]),
    ("faults", [{"html_200": False}]),
    ("faults", [{"fail": {"code": "no such code"}}]),
    ("faults", [{"fail": {"status": 99}}]),
    ("faults", [{"fail": {"retry_after": "tomorrow"}}]),
    ("faults", [{"redirect": "a b"}]),
    ("faults", [{"stale_reads": {"reads": "get"}}]),
    ("faults", [{"status": {"allocated": 3}}]),
    ("faults", [{"foreign_edit": {"specs": {}}}]),
    ("faults", [{"foreign_edit": {"spec": {"resources": {"instance": 3}}}}]),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_schema_accepts_what_its_parser_accepts(name: str, value: Any) -> None:
    PARSERS[name](value)
    VALIDATORS[name].validate(value)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_schema_refuses_what_its_parser_refuses(name: str, value: Any) -> None:
    assert not parses(name, value)
    assert not VALIDATORS[name].is_valid(value)


# No whole floats: to a JSON schema 1.0 is an integer, to the parsers it is not.
_FLOATS: Final = st.floats(-10, 10, allow_nan=False).filter(lambda value: not value.is_integer())
_SCALARS: Final = st.booleans() | st.integers(-3, 10**13) | _FLOATS | st.sampled_from(
    ["", "before", "after", "create", "GET", "gEt", "html", "forbid", "date", "*", "STATUS_ERROR", "aborted"]
)  # fmt: skip
_VALUES: Final = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


@st.composite
def mutated(draw: st.DrawFn, kinds: tuple[str, ...]) -> tuple[str, Any]:
    """A good file with one value replaced, added or removed."""
    name, value = draw(st.sampled_from([each for each in GOOD if each[0] in kinds]))
    value = copy.deepcopy(value)
    places = list(_places(value))
    holder = draw(st.sampled_from(places))
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    action = draw(st.sampled_from(["replace", "add", "remove"] if keys else ["add"]))
    new = draw(_VALUES | st.none() if name == "faults" else _VALUES)
    if action == "add":
        holder.append(new) if isinstance(holder, list) else holder.__setitem__(draw(st.text(max_size=3)), new)
    elif action == "replace":
        holder[draw(st.sampled_from(keys))] = new
    else:
        del holder[draw(st.sampled_from(keys))]
    return name, value


def _places(value: Any) -> list[Any]:
    if not isinstance(value, (dict, list)):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(place for each in inner for place in _places(each))]


@settings(max_examples=400, deadline=None)
@given(mutated(("rules", "prices", "inventory")))
def test_schema_and_parser_agree_on_a_file_with_one_change(case: tuple[str, Any]) -> None:
    name, value = case
    assert VALIDATORS[name].is_valid(value) == parses(name, value)


@settings(max_examples=400, deadline=None)
@given(mutated(("faults",)))
def test_the_schema_of_faults_accepts_all_that_the_parser_accepts(case: tuple[str, Any]) -> None:
    name, value = case
    if parses(name, value):
        VALIDATORS[name].validate(value)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code on a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_files_on_the_pages_follow_their_schemas() -> None:
    rules, prices = blocks("reference/review.md", "toml")[:2]
    assert "max_instances" in rules
    VALIDATORS["rules"].validate(tomllib.loads(rules))
    assert "per_hour" in prices
    VALIDATORS["prices"].validate(tomllib.loads(prices))
    (inventory,) = [each for each in blocks("tutorial.md", "json") if '"US-WEST-04A": {' in each]
    VALIDATORS["inventory"].validate(json.loads(inventory))


def test_a_file_may_name_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"$schema": "x", "US-WEST-04A": {"gb200-4x": 1}}', encoding="utf-8")
    assert load_inventory(path) == {"US-WEST-04A": {"gb200-4x": 1}}
    path.write_text('{"$schema": "x", "rules": [{"path": "create"}]}', encoding="utf-8")
    assert len(FaultProfile.load(path).rules) == 1
    assert load_toml(Rules, '"$schema" = "x"\nmin_zones = 2').min_zones == 2
    assert load_toml(PriceBook, '#:schema x\n"$schema" = "x"\ncurrency = "USD"').currency == "USD"
    for each in VALIDATORS.values():
        each.validate({"$schema": "x"})
        assert not each.is_valid({"$schema": 3})


def test_a_schema_key_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"$schema": 3}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"\$schema"):
        load_inventory(path)
