from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from pulumi.output import UNKNOWN

from coreweave_inference import CapacityClaimParameters
from pulumi_coreweave_inference.catalogue import Mismatches, check

OFFERED = CapacityClaimParameters(
    zone_instance_types={
        "US-WEST-04A": ("gb200-4x", "h100-80gb-sxm5"),
        "US-EAST-04A": ("gb200-4x",),
        "RNO2A": ("h100-80gb-sxm5",),
    }
)


def found(instance: Any = "gb200-4x", zones: Any = ("US-WEST-04A", "US-EAST-04A")) -> Mismatches:
    zones = list(zones) if isinstance(zones, tuple) else zones
    return check({"instanceId": instance, "instanceCount": 4, "zones": zones}, OFFERED)


def told(findings: Mismatches) -> list[str]:
    return [f"{problem.property}: {problem.reason}" for problem in findings.problems]


def warned(findings: Mismatches) -> list[str]:
    return [f"{problem.property}: {problem.reason}" for problem in findings.warnings]


def test_what_is_offered_in_every_zone_is_fine() -> None:
    assert found() == Mismatches()


def test_an_unknown_zone_comes_with_the_nearest_right_one() -> None:
    assert told(found(zones=("US-WEST-4A",))) == snapshot(
        ['resources.zones[0]: "US-WEST-4A" is not a zone that the API offers; did you mean "US-WEST-04A"?']
    )


def test_an_unknown_type_comes_with_a_suggestion_and_the_offer() -> None:
    assert told(found("gb200-4")) == snapshot(
        [
            """\
resources.instance_id: "gb200-4" is not an instance type that the API offers; did you mean "gb200-4x"?
The API offers:
  RNO2A        h100-80gb-sxm5
  US-EAST-04A  gb200-4x
  US-WEST-04A  gb200-4x, h100-80gb-sxm5\
"""
        ]
    )


def test_a_type_spelled_in_capitals_is_recognized() -> None:
    assert 'did you mean "gb200-4x"?' in told(found("GB200-4X"))[0]


def test_a_type_that_no_declared_zone_offers_is_an_error_with_its_zones() -> None:
    assert told(found("h100-80gb-sxm5", ("US-EAST-04A",))) == snapshot(
        [
            'resources.instance_id: "h100-80gb-sxm5" is not offered in US-EAST-04A; it is offered in US-WEST-04A, RNO2A'
        ]
    )


def test_a_type_that_only_some_zones_offer_is_a_warning() -> None:
    findings = found("gb200-4x", ("US-WEST-04A", "RNO2A"))
    assert findings.problems == []
    assert warned(findings) == snapshot(
        ['resources.zones: "gb200-4x" is not offered in RNO2A; only the other zones can provide it']
    )


def test_values_that_are_not_known_yet_are_skipped() -> None:
    assert found(UNKNOWN) == Mismatches()
    assert found(zones=UNKNOWN) == Mismatches()
    assert found("h100-80gb-sxm5", ("US-EAST-04A", UNKNOWN)).problems == []
    assert told(found(UNKNOWN, ("NOWHERE-1A", UNKNOWN)))[0].startswith("resources.zones[0]")
    assert told(found("gb200-4", UNKNOWN))[0].startswith("resources.instance_id")


def test_an_api_that_offers_nothing_is_told_as_such() -> None:
    empty = CapacityClaimParameters(zone_instance_types={})
    findings = check({"instanceId": "gb200-4x", "zones": ["RNO2A"]}, empty)
    assert "it currently offers none" in told(findings)[1]


TYPES = st.sampled_from(["gb200-4x", "h100-80gb-sxm5", "l40s-8x", "gb200-4"])
ZONES = st.lists(st.sampled_from(["US-WEST-04A", "US-EAST-04A", "RNO2A", "US-EAST-02A"]), unique=True)


@given(TYPES, ZONES)
def test_a_type_passes_exactly_if_some_declared_zone_offers_it(instance: str, zones: list[str]) -> None:
    by_zone = OFFERED.zone_instance_types
    served = any(instance in by_zone.get(zone, ()) for zone in zones)
    unknown = [zone for zone in zones if zone not in by_zone]
    findings = found(instance, tuple(zones))
    type_refused = any(problem.property == "resources.instance_id" for problem in findings.problems)
    if served:
        assert not type_refused
    elif any(zone in by_zone for zone in zones):
        assert type_refused
    assert sum(problem.property.startswith("resources.zones[") for problem in findings.problems) == len(
        unknown
    )
