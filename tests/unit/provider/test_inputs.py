from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.output import UNKNOWN

from pulumi_coreweave_inference.inputs import (
    PATCHABLE_BY_DEFAULT,
    Problem,
    claim_name_from,
    compare,
    normalize,
    program_spelling,
)

GOOD: dict[str, Any] = {
    "instanceId": "gb200-4x",
    "instanceCount": 4.0,
    "zones": ["US-WEST-04A", "US-EAST-04A"],
}


def test_a_field_in_both_spellings_is_a_problem() -> None:
    assert problems_of(instance_count=4.0) == {
        "resources.instance_count": "is the same field as resources.instanceCount; set only one of them"
    }
    both = problems_of(instance_id="gb200-4x", capacity_type=None, capacityType=None)
    assert sorted(both) == ["resources.capacity_type", "resources.instance_id"]


def problems_of(**changes: Any) -> dict[str, str]:
    _, problems = normalize({"resources": GOOD | changes})
    return {problem.property: problem.reason for problem in problems}


def test_a_valid_declaration_gets_ints_and_the_default_type() -> None:
    inputs, problems = normalize({"resources": GOOD, "name": "training"})
    assert not problems
    assert inputs == {
        "name": "training",
        "resources": GOOD | {"instanceCount": 4, "capacityType": "CAPACITY_TYPE_MANAGED"},
    }
    assert isinstance(inputs["resources"]["instanceCount"], int)  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"instanceCount": -1.0}, "resources.instance_count", "must be between 0 and 4294967295, not -1"),
        ({"instanceCount": 4.000000000000001}, "resources.instance_count", "number, not 4.000000000000001"),
        ({"instanceCount": 2.5}, "resources.instance_count", "must be a whole number, not 2.5"),
        ({"instanceCount": float("nan")}, "resources.instance_count", "must be a whole number, not nan"),
        ({"instanceCount": float("inf")}, "resources.instance_count", "must be a whole number, not inf"),
        ({"instanceCount": True}, "resources.instance_count", "must be a whole number, not True"),
        ({"instanceCount": "4"}, "resources.instance_count", "must be a whole number, not '4'"),
        ({"instanceCount": None}, "resources.instance_count", "is required"),
        ({"instanceCount": 2.0**32}, "resources.instance_count", "4294967296"),
        ({"zones": []}, "resources.zones", "needs at least one zone"),
        ({"zones": "US-WEST-04A"}, "resources.zones", "must be a list"),
        ({"zones": ["RNO2A", "RNO2A"]}, "resources.zones[1]", 'repeats "RNO2A"'),
        ({"zones": ["us-west-04a"]}, "resources.zones[0]", 'did you mean "US-WEST-04A"?'),
        ({"zones": [4.0]}, "resources.zones[0]", "must be a zone name, not 4"),
        ({"instanceId": ""}, "resources.instance_id", "is required"),
        ({"instanceId": 4.0}, "resources.instance_id", "must be a string"),
        ({"capacityType": "CAPACITY_TYPE_SERVERLESS"}, "resources.capacity_type", "CAPACITY_TYPE_MANAGED"),
        ({"gpuCount": 4.0}, "resources.gpuCount", "is not a field of resources"),
    ],
)  # fmt: skip
def test_each_problem_is_told_for_its_property_in_the_programs_spelling(
    changes: dict[str, Any], path: str, reason: str
) -> None:
    found = problems_of(**changes)
    assert list(found) == [path]
    assert reason in found[path]


@pytest.mark.parametrize("name", ["Train_1", "", "-a", "a-", "a" * 101, "a b", "train\n"])
def test_a_bad_name_is_refused(name: str) -> None:
    _, problems = normalize({"resources": GOOD, "name": name})
    assert [problem.property for problem in problems] == ["name"]


def test_a_bad_name_comes_with_the_nearest_good_one() -> None:
    _, (problem,) = normalize({"resources": GOOD, "name": "Train_1"})
    assert 'did you mean "train-1"?' in problem.reason


def test_missing_resources_are_told() -> None:
    _, (problem,) = normalize({"name": "a"})
    assert problem.property == "resources"


def test_resources_of_another_kind_are_told() -> None:
    _, (problem,) = normalize({"resources": "gb200-4x"})
    assert problem.property == "resources"


@pytest.mark.parametrize(
    "news",
    [
        {"resources": UNKNOWN},
        {"resources": GOOD, "name": UNKNOWN},
        *({"resources": GOOD | {field: UNKNOWN}} for field in (*GOOD, "capacityType")),
        {"resources": GOOD | {"zones": ["US-WEST-04A", UNKNOWN]}},
    ],
)
def test_a_value_that_is_not_known_yet_is_no_problem_and_is_kept(news: dict[str, Any]) -> None:
    inputs, problems = normalize(news)
    assert not problems
    assert repr(UNKNOWN) in repr(inputs)


def test_either_spelling_is_read() -> None:
    snake = {"instance_id": "gb200-4x", "instance_count": 4.0, "zones": GOOD["zones"]}
    assert normalize({"resources": snake}) == normalize({"resources": GOOD})


def held(**changes: Any) -> dict[str, Any]:
    inputs, _ = normalize({"resources": GOOD | changes})
    return {"name": "training-1234567", "status": "STATUS_READY", "allocatedInstances": 4.0} | inputs


def declared(name: str | None = None, **changes: Any) -> dict[str, Any]:
    inputs, _ = normalize({"resources": GOOD | changes, "name": name})
    return inputs


def test_the_same_declaration_differs_in_nothing_whatever_the_api_reports() -> None:
    assert compare(held() | {"status": "STATUS_ERROR"}, declared(), PATCHABLE_BY_DEFAULT).changed == ()


@pytest.mark.parametrize(
    ("changes", "path", "replaces"),
    [
        ({"instanceCount": 6.0}, "resources.instanceCount", False),
        ({"instanceId": "h100-80gb-sxm5"}, "resources.instanceId", True),
        ({"zones": ["US-EAST-04A", "US-WEST-04A"]}, "resources.zones", True),
        ({"zones": ["US-WEST-04A"]}, "resources.zones", True),
        ({"zones": ["US-WEST-04A", "US-EAST-04A", "RNO2A"]}, "resources.zones", True),
    ],
)
def test_only_the_count_changes_in_place(changes: dict[str, Any], path: str, replaces: bool) -> None:
    difference = compare(held(), declared(**changes), PATCHABLE_BY_DEFAULT)
    assert difference.changed == (path,)
    assert difference.replaces == ((path,) if replaces else ())


def test_fields_that_the_api_is_said_to_patch_do_not_replace() -> None:
    news = declared(zones=["RNO2A"])
    assert compare(held(), news, ("instanceCount", "zones")).replaces == ()


def test_an_unknown_immutable_value_counts_as_a_replacement() -> None:
    difference = compare(held(), declared(zones=["US-WEST-04A", UNKNOWN]), PATCHABLE_BY_DEFAULT)
    assert difference.replaces == ("resources.zones",)
    assert compare(held(), {"resources": UNKNOWN}, PATCHABLE_BY_DEFAULT).replaces == ("resources",)


def test_another_explicit_name_replaces_and_dropping_it_does_not() -> None:
    named = held() | {"name": "training", "identity": {"explicitName": True}}
    assert compare(named, declared("training"), PATCHABLE_BY_DEFAULT).changed == ()
    assert compare(named, declared("other"), PATCHABLE_BY_DEFAULT).replaces == ("name",)
    dropped = compare(named, declared(), PATCHABLE_BY_DEFAULT)
    assert dropped.changed == ("name",)
    assert dropped.replaces == ()


def test_naming_a_claim_by_the_name_it_has_replaces_nothing() -> None:
    difference = compare(held(), declared("training-1234567"), PATCHABLE_BY_DEFAULT)
    assert difference.changed == ("name",)
    assert difference.replaces == ()


@given(st.text(max_size=300))
def test_a_suggested_name_is_a_valid_name_or_empty(text: str) -> None:
    suggestion = claim_name_from(text)
    assert len(suggestion) <= 92
    if suggestion:
        assert normalize({"resources": GOOD, "name": suggestion})[1] == []


@given(st.dictionaries(st.text(), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.just(UNKNOWN),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)))  # fmt: skip
def test_no_input_makes_the_check_fail_with_an_exception(resources: dict[str, Any]) -> None:
    normalize({"resources": GOOD | resources, "name": resources.get("name")})
    normalize({"resources": {key: resources.get(key) for key in GOOD} | resources})


def test_paths_are_told_in_the_programs_spelling() -> None:
    assert program_spelling("resources.instanceId") == "resources.instance_id"
    assert program_spelling("resources.zones") == "resources.zones"


def test_a_name_that_is_no_text_is_told() -> None:
    _, problems = normalize({"name": 5.0, "resources": dict(GOOD)})
    assert problems == [Problem("name", "must be a string, not 5")]


def test_a_declaration_without_resources_is_compared_by_its_name_alone() -> None:
    difference = compare({"name": "a", "resources": dict(GOOD)}, {"name": "b"}, ["instanceCount"])
    assert difference.changed == difference.replaces == ("name",)
