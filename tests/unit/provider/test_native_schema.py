"""The schema of the native plugin, as far as it can be checked without Pulumi's binder (`make sdks` has that)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pulumi_coreweave_inference
from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.settings import SETTINGS

PACKAGE: Final = Path(pulumi_coreweave_inference.__file__).parent
SCHEMA: Final[dict[str, Any]] = json.loads((PACKAGE / "native" / "schema.json").read_text(encoding="utf-8"))


def described() -> Iterator[tuple[str, dict[str, Any]]]:
    """What has to have a description, with its path."""
    yield "", SCHEMA
    yield "provider", SCHEMA["provider"]
    yield from properties("config", SCHEMA["config"]["variables"])
    yield from properties("provider", SCHEMA["provider"]["inputProperties"])
    for kind in ("types", "resources", "functions"):
        for token, each in SCHEMA[kind].items():
            yield f"{kind}/{token}", each
            for part in (each, each.get("inputs", {}), each.get("outputs", {})):
                yield from properties(f"{kind}/{token}", part.get("properties", {}))
            yield from properties(f"{kind}/{token}", each.get("inputProperties", {}))
            for value in each.get("enum", []):
                yield f"{kind}/{token}/{value['name']}", value


def properties(path: str, of: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in of.items():
        yield f"{path}/{name}", each


def references(node: object) -> Iterator[str]:
    """Every `$ref` below a node."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    if isinstance(node, list):
        for each in node:
            yield from references(each)


def test_everything_has_a_description_that_is_a_sentence() -> None:
    paths = [path for path, _ in described()]
    assert len(paths) > 80, "the walk misses parts of the schema"
    lacking = [path for path, each in described() if not each.get("description", "").strip().endswith(".")]
    assert lacking == []


def test_every_reference_resolves() -> None:
    found = set(references(SCHEMA))
    assert found
    assert found <= {f"#/types/{token}" for token in SCHEMA["types"]}


def test_what_is_required_is_declared() -> None:
    for kind in ("types", "resources", "functions"):
        for token, each in SCHEMA[kind].items():
            for part in (each, each.get("inputs", {}), each.get("outputs", {})):
                assert set(part.get("required", [])) <= set(part.get("properties", {})), token
            assert set(each.get("requiredInputs", [])) <= set(each.get("inputProperties", {})), token


def test_the_provider_has_the_settings_of_the_package_and_a_namespace() -> None:
    expected = {setting.key for setting in SETTINGS} | {"namespace"}
    assert set(SCHEMA["provider"]["inputProperties"]) == expected
    assert SCHEMA["config"]["variables"] == SCHEMA["provider"]["inputProperties"]


def test_the_token_is_a_secret() -> None:
    assert SCHEMA["provider"]["inputProperties"]["token"]["secret"] is True


def test_the_schema_has_the_version_of_the_package() -> None:
    assert SCHEMA["version"] == __version__


def test_the_python_sdk_does_not_collide_with_the_package() -> None:
    assert SCHEMA["language"]["python"]["packageName"] != pulumi_coreweave_inference.__name__
