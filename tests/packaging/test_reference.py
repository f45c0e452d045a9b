"""The tables of the reference pages name what the code has, with its types' fields and defaults."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, Final

import pytest

import pulumi_coreweave_inference as inference
from pulumi_coreweave_inference.inputs import MANAGED, PATCHABLE_BY_DEFAULT, RESOURCE_FIELDS, program_spelling
from pulumi_coreweave_inference.settings import Settings

REFERENCE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference"


def tables(page: str, section: str) -> list[dict[str, list[str]]]:
    """The tables of a section: each row's cells after the first, by the name in the first."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    lines = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    found: list[dict[str, list[str]]] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following.startswith("|---"):
            found.append({})
        elif line.startswith("|") and not line.startswith("|---"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[-1][name.strip("`")] = cells
    return found


def arguments(of: Any) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a function."""
    parameters = inspect.signature(of).parameters.values()
    return {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_the_inputs_of_a_claim_are_those_of_the_code() -> None:
    claim, resources, readiness = tables("resource.md", "Inputs")
    declared = arguments(inference.CapacityClaim.__init__)
    assert list(claim) == list(declared)
    required = {name for name, each in declared.items() if each.default is each.empty}
    assert {name for name, cells in claim.items() if cells[1] == "required"} == required
    assert declared["readiness"].default == inference.Readiness()

    fields = arguments(inference.CapacityClaimResourcesArgs.__init__)
    assert list(resources) == list(fields)
    assert set(fields) == {program_spelling(name) for name in RESOURCE_FIELDS}
    assert resources.pop("capacity_type")[1] == f"`{MANAGED}`"
    assert {cells[1] for cells in resources.values()} == {"required"}

    defaults = {field.name: field.default for field in dataclasses.fields(inference.Readiness)}
    assert list(readiness) == list(defaults)
    assert defaults.pop("on_progress") is None
    assert readiness.pop("on_progress")[1] == "none"
    shown = {name: cells[1] for name, cells in readiness.items()}
    assert shown == {
        name: "all that are declared" if value is None else f'`"{value}"`' for name, value in defaults.items()
    }


def test_the_inputs_that_change_in_place_are_those_of_the_code() -> None:
    _, resources, _ = tables("resource.md", "Inputs")
    in_place = {name for name, cells in resources.items() if cells[3] == "in place"}
    assert in_place == {program_spelling(name) for name in PATCHABLE_BY_DEFAULT}
    assert all("replaces the claim" in resources[name][3] for name in set(resources) - in_place)


def test_the_outputs_of_a_claim_are_those_of_the_code() -> None:
    (outputs,) = tables("resource.md", "Outputs")
    code = [name for name, each in vars(inference.CapacityClaim).items() if isinstance(each, property)]
    assert list(outputs) == code
    live = {name for name, cells in outputs.items() if cells[1] == "once ready"}
    # The source of a live output reads what the program has observed.
    observed = {
        name for name in code if "_observed" in inspect.getsource(vars(inference.CapacityClaim)[name].fget)
    }
    assert live == observed


def test_the_timeouts_of_a_claim_are_those_of_the_code() -> None:
    (timeouts,) = tables("resource.md", "Timeouts")
    defaults = Settings()
    assert timeouts["create, update"][1] == f"{str(inference.Readiness().timeout).removesuffix('m')} minutes"
    assert timeouts["delete"][1] == f"{defaults.delete_timeout / 60:g} minutes"
    assert timeouts["each call to the API"][1].startswith(f"{defaults.retry_deadline / 60:g} minutes")


@pytest.mark.parametrize("name", ["get_capacity_claim", "get_capacity_claims"])
def test_the_arguments_of_a_lookup_are_those_of_the_code(name: str) -> None:
    (shown,) = tables("lookups.md", name)
    for form in (name, f"{name}_output"):
        declared = arguments(getattr(inference, form))
        assert {key: cells[1] for key, cells in shown.items()} == {
            key: f"`{each.default}`" for key, each in declared.items()
        }


def test_the_result_of_a_lookup_is_that_of_the_code() -> None:
    (shown,) = tables("lookups.md", "Result")
    fields = inspect.get_annotations(inference.GetCapacityClaimResult)
    assert list(shown) == list(fields)
    optional = {name for name, kind in fields.items() if kind.endswith("| None")}
    assert {name for name, cells in shown.items() if cells[0].endswith("or `None`")} == optional
