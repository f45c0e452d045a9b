"""A few random cases of each surface, and those that once failed; `make fuzz MINUTES=60` draws many."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fuzz.fuzz import ANSWERS, SURFACES, Fault, Machine, run_case

from coreweave_inference import CapacityClaim, CapacityClaimParameters, Client, ConditionStatus

FOUND = (
    ("answers", 900184703702, "a direction mark in the code of an error"),
    ("answers", 527669321761, "an escape sequence in the code of an error"),
    ("answers", 381233606045, "a direction mark in a request id"),
    ("arguments", 860285543531, "a direction mark in an argument"),
    ("provider", 421240459588, "a claim that is gone, and a list that fails"),
    ("provider", 808602868125, "a time in the state that is a list"),
    ("provider", 37941607173, "a state without resources, updated"),
    ("provider", 704597516203, "a namespace that is no UUID"),
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as running:
        yield running


def test_what_is_damaged_has_the_shape_of_the_api(machine: Machine) -> None:
    with Client(machine.emulator.token, endpoint=machine.emulator.url) as client:
        claims = client.capacity_claims
        offered = CapacityClaimParameters.from_wire(json.dumps(ANSWERS["parameters"]).encode())
        assert offered.zone_instance_types.keys() <= claims.parameters().zone_instance_types.keys()
        assert offered.zone_instance_types
        sample = CapacityClaim.model_validate(ANSWERS["get"]["capacityClaim"])
        real = claims.get(machine.claim_id)
    for one, other in ((sample.spec, real.spec), (sample.status.conditions[0], real.status.conditions[0])):
        assert one.model_fields_set == other.model_fields_set
    assert sample.status.model_fields_set >= real.status.model_fields_set
    assert sample.status.conditions[0].status == ConditionStatus.TRUE


@pytest.mark.parametrize("surface", SURFACES)
def test_random_cases_end_in_a_result_or_in_one_plain_error(machine: Machine, surface: str) -> None:
    assert {number: problem for number in range(12) if (problem := run_case(machine, surface, number))} == {}


@pytest.mark.parametrize(("surface", "number", "what"), FOUND)
def test_what_was_found_stays_mended(machine: Machine, surface: str, number: int, what: str) -> None:
    assert run_case(machine, surface, number) == ""


def test_a_case_that_ends_in_a_traceback_is_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(machine: Machine, random: object) -> None:
        machine.run("list", COREWEAVE_API_TOKEN="\x1b[2J")

    monkeypatch.setitem(SURFACES, "answers", broken)
    assert run_case(machine, "answers", 1) == ""
    monkeypatch.setattr("pulumi_coreweave_inference.cli.console._message", lambda error: 1 / 0)
    assert "exit code 70" in run_case(machine, "answers", 1) or "ZeroDivisionError" in run_case(
        machine, "answers", 1
    )
    assert issubclass(Fault, AssertionError)
