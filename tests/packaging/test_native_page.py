"""The page of the native resource says what the schema says. `NATIVE_PAGE=write` writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from support.stack import ROOT

from pulumi_coreweave_inference.native.server import schema

PAGE: Final = ROOT / "docs" / "reference" / "native.md"
MARKS: Final = ("<!-- schema -->\n", "<!-- end of schema -->\n")
SCHEMA: Final[dict[str, Any]] = json.loads(schema())
PACKAGE: Final = "coreweave-inference:index:"
TYPES: Final[dict[str, Any]] = SCHEMA["types"]
RESULT: Final = f"{PACKAGE}ClaimResult"
KINDS: Final = {"integer": "whole number", "boolean": "true or false", "string": "text"}


def sections() -> Iterator[str]:
    """The part of the page that is written from the schema."""
    resource = SCHEMA["resources"][f"{PACKAGE}CapacityClaim"]
    yield "## Inputs\n\n"
    yield from table(resource["inputProperties"], resource["requiredInputs"])
    yield from of_type("CapacityClaimResources")
    yield from of_type("Readiness")
    yield from of_enumeration("OnTimeout")
    yield "\n## Outputs\n\n"
    identity = {"id": {"type": "string", "description": "The claim's id, a UUID."}}
    yield from table(identity | resource["properties"])
    yield "\n## Functions\n\nIn the SDKs each has a form that takes outputs, such as `getCapacityClaimOutput`.\n"
    for token, function in SCHEMA["functions"].items():
        yield f"\n### {short(token)}\n\n{function['description']}\n"
        if inputs := function["inputs"]["properties"]:
            yield "\n"
            yield from table(inputs, function["inputs"].get("required", ()))
        yield from returned(function["outputs"])
    yield from of_type("ClaimResult", required=False)
    yield from of_type("CapacityClaimCondition", required=False)
    yield "\n## Provider\n\n"
    yield f"{SCHEMA['provider']['description']}\n\n"
    yield from table(SCHEMA["provider"]["inputProperties"])


def returned(outputs: Mapping[str, Any]) -> Iterator[str]:
    """What a function returns; the properties of a claim are listed once."""
    if outputs["properties"] == TYPES[RESULT]["properties"]:
        yield f"\nReturns a {link(RESULT)}.\n"
        return
    yield "\nReturns:\n\n"
    yield from table(outputs["properties"])


def of_type(name: str, required: bool = True) -> Iterator[str]:
    about = TYPES[f"{PACKAGE}{name}"]
    yield f"\n### {name}\n\n{about['description']}\n\n"
    yield from table(about["properties"], about.get("required", ()) if required else ())


def of_enumeration(name: str) -> Iterator[str]:
    about = TYPES[f"{PACKAGE}{name}"]
    yield f"\n### {name}\n\n{about['description']}\n\n| value | meaning |\n|---|---|\n"
    for each in about["enum"]:
        yield f"| `{each['value']}` | {each['description']} |\n"


def table(properties: Mapping[str, Any], required: Collection[str] = ()) -> Iterator[str]:
    yield "| name | type | meaning |\n|---|---|---|\n"
    for name, about in properties.items():
        needed = ", required" if name in required else ""
        yield f"| `{name}` | {kind(about)}{needed} | {about['description']} |\n"


def kind(about: Mapping[str, Any]) -> str:
    if "$ref" in about:
        return link(about["$ref"].removeprefix("#/types/"))
    if about["type"] == "array":
        return f"list of {kind(about['items'])}"
    if about["type"] == "object":
        return f"map of {kind(about['additionalProperties'])}"
    return KINDS[about["type"]]


def link(token: str) -> str:
    return f"[`{short(token)}`](#{short(token).lower()})"


def short(token: str) -> str:
    return token.removeprefix(PACKAGE)


def test_the_page_of_the_native_resource_is_that_of_its_schema() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(MARKS[0])
    shown, after = rest.split(MARKS[1])
    expected = f"\n{''.join(sections())}\n"
    if os.environ.get("NATIVE_PAGE") == "write":
        PAGE.write_text(f"{before}{MARKS[0]}{expected}{MARKS[1]}{after}", encoding="utf-8")
        return
    assert shown == expected


def test_every_part_of_the_schema_is_on_the_page() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    missing = [
        f"{path}: {text}" for path, text in descriptions(SCHEMA, "") if " ".join(text.split()) not in page
    ]
    assert missing == []


def descriptions(node: object, path: str) -> Iterator[tuple[str, str]]:
    """Each description in the schema but that of the package, with its path."""
    if isinstance(node, list):
        for each in node:
            yield from descriptions(each, path)
    if isinstance(node, dict):
        for name, each in node.items():
            if name == "description" and isinstance(each, str) and path:
                yield path, each
            elif name != "language":
                yield from descriptions(each, f"{path}/{name}")
