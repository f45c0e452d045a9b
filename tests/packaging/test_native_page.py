"""The page of the native resource says what the schema says. `NATIVE_PAGE=write` writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from support.stack import ROOT

from pulumi_coreweave_inference.native.server import schema

PAGE: Final = ROOT / "docs" / "reference" / "native.md"
MARKS: Final = ("<!-- schema -->\n", "<!-- end of schema -->\n")
RESOURCE: Final = "coreweave-inference:index:CapacityClaim"


def tables() -> Iterator[str]:
    """The tables of the page, from the schema."""
    known: dict[str, Any] = json.loads(schema())
    resource, types = known["resources"][RESOURCE], known["types"]
    yield from table("Inputs", resource["inputProperties"], resource["requiredInputs"])
    for name, about in types.items():
        if "properties" in about and not name.endswith("Result"):
            short = name.rpartition(":")[2]
            yield from table(f"{short}", about["properties"], about.get("required", ()), about["description"])
    yield from table("Outputs", resource["properties"], (), "In addition to `id`, the claim's UUID.")
    yield from table("Settings of the provider", known["provider"]["inputProperties"], ())
    yield "\n## Functions\n\nThey only read, in previews too.\n"
    for name, function in known["functions"].items():
        short = name.rpartition(":")[2]
        yield f"\n### {short}\n\n{function['description']}\n"
        inputs = function["inputs"]
        if inputs["properties"]:
            yield from table("", inputs["properties"], inputs.get("required", ()))
        outputs = function["outputs"]
        yield from table("", outputs["properties"], (), "It returns:")


def table(title: str, properties: Mapping[str, Any], required: Any, lead: str = "") -> Iterator[str]:
    if title:
        yield f"\n## {title}\n"
    if lead:
        yield f"\n{lead}\n"
    yield "\n| name | type | |\n|---|---|---|\n"
    for name, about in properties.items():
        needed = " (required)" if name in required else ""
        yield f"| `{name}`{needed} | {kind(about)} | {about['description']} |\n"


def kind(about: Mapping[str, Any]) -> str:
    if "$ref" in about:
        return f"`{about['$ref'].rpartition(':')[2]}`"
    if about["type"] == "array":
        return f"list of {kind(about['items'])}"
    if about["type"] == "object":
        return f"map of {kind(about['additionalProperties'])}"
    names = {"integer": "whole number", "boolean": "true or false", "string": "text"}
    return names[about["type"]]


def test_the_page_of_the_native_resource_is_that_of_its_schema() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(MARKS[0])
    shown, after = rest.split(MARKS[1])
    expected = "".join(tables()) + "\n"
    if os.environ.get("NATIVE_PAGE") == "write":
        PAGE.write_text(f"{before}{MARKS[0]}{expected}{MARKS[1]}{after}", encoding="utf-8")
        return
    assert shown == expected
