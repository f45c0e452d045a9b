"""The check against what the API offers, in the provider process."""

from __future__ import annotations

from typing import Any

import pytest
from support.plugin import UNKNOWN, Plugin, PluginError, claim_inputs

from coreweave_inference.emulator import Emulator

TYPO = {"instanceId": "gb200-4"}


def asked(emulator: Emulator) -> int:
    return sum(record.operation == "parameters" for record in emulator.requests())


def test_a_preview_suggests_the_right_name_and_asks_the_api_once(plugin: Plugin, emulator: Emulator) -> None:
    for _ in range(3):
        (failure,) = plugin.check({}, claim_inputs(**TYPO)).failures
        assert 'did you mean "gb200-4x"?' in failure
        assert "US-EAST-04A  gb200-4x, h100-80gb-sxm5" in failure
    (failure,) = plugin.check({}, claim_inputs(zones=["US-WEST-4A", "US-EAST-04A"])).failures
    assert 'resources.zones[0]: "US-WEST-4A" is not a zone' in failure
    assert asked(emulator) == 1


def test_a_zone_without_the_type_is_a_warning_said_once(plugin: Plugin) -> None:
    for _ in range(2):
        assert plugin.check({}, claim_inputs(zones=["US-WEST-04A", "RNO2A"])).failures == []
    assert plugin.close().count("warning: capacity claim 'training': resources.zones: \"gb200-4x\"") == 1


def test_a_claim_that_exists_unchanged_is_not_looked_up(plugin: Plugin, emulator: Emulator) -> None:
    held = plugin.check({}, claim_inputs()).inputs
    with Plugin(emulator.environment()) as another:
        assert another.check(held, claim_inputs(instanceCount=9.0)).failures == []
    assert asked(emulator) == 1


def test_values_that_are_not_known_yet_are_skipped(plugin: Plugin) -> None:
    assert plugin.check({}, claim_inputs() | {"resources": UNKNOWN}).failures == []
    assert plugin.check({}, claim_inputs(instanceId=UNKNOWN)).failures == []


@pytest.mark.parametrize("setting", ["warn", "off"])
def test_the_check_can_be_a_warning_or_off(emulator: Emulator, setting: str) -> None:
    with Plugin(emulator.environment(), {"coreweave:catalogueCheck": setting}) as plugin:
        assert plugin.check({}, claim_inputs(**TYPO) | {"identity": UNKNOWN}).failures == []
        assert ("did you mean" in plugin.close()) is (setting == "warn")
    assert asked(emulator) == (setting == "warn")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"fail": {"code": "unavailable", "form": "html"}}, "the API is not available"),
        ({"fail": {"code": "permission_denied"}}, "the token lacks the required role"),
    ],
)
def test_a_failed_lookup_is_a_warning_unless_the_setting_insists(
    emulator: Emulator, fault: dict[str, Any], reason: str
) -> None:
    emulator.set_faults([{"path": "parameters", **fault}])
    with Plugin(emulator.environment()) as plugin:
        assert plugin.check({}, claim_inputs()).failures == []
        assert plugin.check({}, claim_inputs(**TYPO)).failures == []
        shown = plugin.close()
    assert shown.count("warning: zones and instance types are not checked") == 1
    assert reason in shown
    insisting = {"COREWEAVE_CATALOGUE_CHECK": "error", "COREWEAVE_RETRY_DEADLINE": "1"}
    with Plugin(emulator.environment() | insisting) as plugin:
        with pytest.raises(PluginError, match=reason):
            plugin.check({}, claim_inputs())


def test_what_no_retry_helps_against_fails_in_the_preview() -> None:
    endpoint = {"COREWEAVE_API_TOKEN": "t", "COREWEAVE_API_ENDPOINT": "https://api.example"}
    for broken in ({"SSL_CERT_FILE": "/nowhere"}, {"HTTPS_PROXY": "socks4://127.0.0.1"}):
        with Plugin(endpoint | broken) as plugin:
            with pytest.raises(PluginError, match=f"cannot be used.\n  {next(iter(broken))}: ") as caught:
                plugin.check({}, claim_inputs())
            assert "Traceback" not in str(caught.value)


def test_an_unknown_value_of_the_setting_is_an_error_that_names_it(emulator: Emulator) -> None:
    with Plugin(emulator.environment(), {"coreweave:catalogueCheck": "maybe"}) as plugin:
        with pytest.raises(PluginError, match="coreweave:catalogueCheck: must be error, warn or off"):
            plugin.check({}, claim_inputs())


def test_misspelt_and_unavailable_values_are_reported_together(plugin: Plugin) -> None:
    zones, instance = plugin.check({}, claim_inputs(zones=["us-west-04a", "US-EAST-04A"], **TYPO)).failures
    assert 'resources.zones[0]: "us-west-04a" is not a zone name' in zones
    assert 'resources.instance_id: "gb200-4" is not an instance type' in instance


@pytest.mark.parametrize("setting", ["error", "warn"])
def test_a_misspelt_zone_is_reported_once_whatever_the_api_says(emulator: Emulator, setting: str) -> None:
    for token in (emulator.token, "refused"):
        config = {"coreweave:catalogueCheck": setting}
        with Plugin(emulator.environment() | {"COREWEAVE_API_TOKEN": token}, config) as plugin:
            (failure,) = plugin.check({}, claim_inputs(zones=["us-west-04a", "US-EAST-04A"])).failures
            assert 'resources.zones[0]: "us-west-04a" is not a zone name' in failure
            assert "us-west-04a" not in plugin.close()
