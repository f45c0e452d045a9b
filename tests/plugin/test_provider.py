"""The provider as the engine meets it: a process, spoken to over gRPC."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.output import Unknown
from support.plugin import UNKNOWN, Plugin, PluginError, claim_inputs
from support.sdk import SDK

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference import CapacityClaimProvider, ClaimNamespaceProvider

FORWARD = ["US-WEST-04A", "US-EAST-04A"]
BACKWARD = FORWARD[::-1]


def created(plugin: Plugin, namespace: str, **changes: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    checked = plugin.check({}, claim_inputs(namespace, **changes))
    assert checked.failures == []
    claim_id, outputs = plugin.create(checked.inputs)
    return claim_id, checked.inputs, outputs


def writes(emulator: Emulator) -> list[str]:
    return [record.method for record in emulator.requests() if record.method != "GET"]


def test_serialized_providers_are_constant_and_name_their_classes() -> None:
    """Every state file holds these bytes: the classes may never move."""
    assert base64.b64decode(serialize_provider(CapacityClaimProvider())) == (
        b"\x80\x04\x95D\x00\x00\x00\x00\x00\x00\x00\x8c#pulumi_coreweave_inference.provider\x94"
        b"\x8c\x15CapacityClaimProvider\x94\x93\x94)\x81\x94."
    )
    assert base64.b64decode(serialize_provider(ClaimNamespaceProvider())) == (
        b"\x80\x04\x95E\x00\x00\x00\x00\x00\x00\x00\x8c#pulumi_coreweave_inference.provider\x94"
        b"\x8c\x16ClaimNamespaceProvider\x94\x93\x94)\x81\x94."
    )


def test_a_namespace_is_a_random_uuid_that_never_changes(emulator: Emulator) -> None:
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "0"}) as plugin:
        namespaces = plugin.of(ClaimNamespaceProvider)
        first, outputs = namespaces.create({})
        second, _ = namespaces.create({})
        assert first != second
        assert len(first) == 36
        assert namespaces.diff(first, outputs, {}).changes == "none"
        assert namespaces.read(first, outputs)[0] == first
        namespaces.delete(first, outputs)


def test_both_kinds_of_provider_share_what_the_process_knows(plugin: Plugin, namespace: str) -> None:
    claim_id, _, outputs = created(plugin, namespace)
    plugin.of(ClaimNamespaceProvider).diff(namespace, {}, {})
    plugin.delete(claim_id, outputs | {"identity": outputs["identity"] | {"incarnation": "an earlier one"}})
    assert plugin.read(claim_id, outputs)[0] == claim_id


@pytest.mark.parametrize("zones", [FORWARD, BACKWARD])
def test_the_order_of_zones_arrives_and_comes_back(
    plugin: Plugin, client: Client, namespace: str, zones: list[str]
) -> None:
    claim_id, inputs, outputs = created(plugin, namespace, zones=zones)
    assert list(client.capacity_claims.get(claim_id).resources.zones) == zones
    assert outputs["resources"]["zones"] == zones
    _, read, _ = plugin.read(claim_id, outputs)
    assert read["resources"]["zones"] == zones
    _, _, inputs_of_drift = plugin.read(claim_id, outputs | {"resources": {}})
    assert inputs_of_drift == inputs
    assert plugin.diff(claim_id, outputs, inputs).changes == "none"


def test_counts_that_arrive_as_floats_are_sent_as_whole_numbers(
    plugin: Plugin, emulator: Emulator, namespace: str
) -> None:
    created(plugin, namespace, instanceCount=4.0)
    (post,) = [record for record in emulator.requests() if record.method == "POST"]
    assert '"instanceCount":4,' in str(post.body).replace(" ", "").replace("'", '"')


def test_values_that_are_not_known_yet_pass_check_and_count_as_changed(
    plugin: Plugin, namespace: str
) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    news = claim_inputs(namespace, zones=["US-WEST-04A", UNKNOWN], instanceCount=UNKNOWN)
    checked = plugin.check(inputs, news)
    assert checked.failures == []
    assert isinstance(checked.inputs["resources"]["zones"][1], Unknown)
    diff = plugin.diff(claim_id, outputs, checked.inputs)
    assert (diff.changes, diff.replaces) == ("unknown", ["resources.zones"])
    diff = plugin.diff(claim_id, outputs, claim_inputs(namespace) | {"resources": UNKNOWN})
    assert (diff.changes, diff.replaces) == ("unknown", ["resources"])


def test_bad_input_is_reported_by_property_without_an_api_call(
    plugin: Plugin, emulator: Emulator, namespace: str
) -> None:
    bad = claim_inputs(namespace, name="Train_1", instanceCount=2.5, zones=[])
    failures = plugin.check({}, bad).failures
    assert [failure.partition(":")[0] for failure in failures] == [
        "name",
        "resources.instance_count",
        "resources.zones",
    ]
    assert emulator.requests() == []


def test_a_missing_token_fails_the_check_and_names_the_variables(namespace: str) -> None:
    with Plugin() as plugin:
        (failure,) = plugin.check({}, claim_inputs(namespace)).failures
        for name in ("COREWEAVE_API_TOKEN", "CW_API_TOKEN", "coreweave:token"):
            assert name in failure


@pytest.mark.parametrize("skip", ["1", "True"])
def test_without_checkpoints_no_claim_is_created(emulator: Emulator, namespace: str, skip: str) -> None:
    with Plugin(emulator.environment()) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
    emulator.clear_requests()
    new = claim_inputs(namespace, key="another", capacityType="CAPACITY_TYPE_MANAGED")
    with Plugin(emulator.environment() | {"PULUMI_SKIP_CHECKPOINTS": skip}) as plugin:
        (failure,) = plugin.check({}, new).failures
        assert "set COREWEAVE_SKIPPED_CHECKPOINTS=allow" in failure
        with pytest.raises(PluginError, match="'another': no claim is created while PULUMI_SKIP_CHECKPOINTS"):
            plugin.create(new)
        assert writes(emulator) == []
        scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=2))
        assert scaled.failures == []
        outputs = plugin.update(claim_id, outputs, scaled.inputs)
        assert plugin.read(claim_id, outputs)[0] == claim_id
        plugin.delete(claim_id, outputs)
    assert emulator.claims() == []


@pytest.mark.parametrize(
    "environment",
    [
        {"PULUMI_SKIP_CHECKPOINTS": "false"},
        {"PULUMI_SKIP_CHECKPOINTS": "true", "COREWEAVE_SKIPPED_CHECKPOINTS": "allow"},
    ],
)
def test_skipped_checkpoints_can_be_allowed(
    emulator: Emulator, namespace: str, environment: dict[str, str]
) -> None:
    with Plugin(emulator.environment() | environment) as plugin:
        created(plugin, namespace)
    assert len(emulator.claims()) == 1


def test_a_token_that_the_api_refuses_fails_the_preview(emulator: Emulator, namespace: str) -> None:
    with Plugin(emulator.environment() | {"COREWEAVE_API_TOKEN": "expired"}) as plugin:
        with pytest.raises(PluginError, match="does not accept the token") as refused:
            plugin.check({}, claim_inputs(namespace))
    assert "Next: set COREWEAVE_API_TOKEN to a valid token, then run the same command" in str(refused.value)
    assert "accepted until" not in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_a_token_that_expires_is_told_as_such_and_the_next_run_goes_on(
    emulator: Emulator, namespace: str
) -> None:
    config = {"coreweave:token": emulator.token, "coreweave:endpoint": emulator.url}
    with Plugin(config=config) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
        scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=6)).inputs
        token = emulator.exchange_token()
        with pytest.raises(PluginError, match="failed: the API no longer accepts the token") as refused:
            plugin.update(claim_id, outputs, scaled)
    told = str(refused.value)
    assert "the token from coreweave:token was accepted until " in told
    assert "Still reserved: the claim as it was before.\n" in told
    assert (
        "Next: set COREWEAVE_API_TOKEN, which takes precedence over coreweave:token, to a valid token, then run "
        "the same command again; nothing is done twice" in told
    )
    with Plugin({"COREWEAVE_API_TOKEN": token}, config=config) as plugin:
        plugin.update(claim_id, outputs, scaled)
    assert [claim.instance_count for claim in emulator.live_claims()] == [6]


def test_a_token_that_expires_when_the_claim_was_made_loses_no_claim(
    emulator: Emulator, namespace: str
) -> None:
    lost = {"path": "create", "nth": 1, "fail": {"code": "unavailable", "when": "after"}}
    expired = {"path": "create", "nth": 2, "fail": {"code": "unauthenticated", "message": "token expired"}}
    with Plugin(emulator.environment()) as plugin:
        checked = plugin.check({}, claim_inputs(namespace))
        emulator.set_faults([lost, expired])
        with pytest.raises(PluginError, match="the API no longer accepts the token") as refused:
            plugin.create(checked.inputs)
    (claim,) = emulator.live_claims()
    assert f"creating capacity claim 'training' (id {claim.id}) failed" in str(refused.value)
    assert "Still reserved: nothing, as far as we know. If only the response was lost" in str(refused.value)
    with Plugin(emulator.environment()) as plugin:
        assert plugin.create(checked.inputs)[0] == claim.id
    assert len(emulator.live_claims()) == 1


def test_a_token_file_is_read_again_when_its_token_has_expired(
    emulator: Emulator, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(emulator.token)
    environment = {"COREWEAVE_API_ENDPOINT": emulator.url, "COREWEAVE_API_TOKEN_FILE": str(file)}
    with Plugin(environment) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
        scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=6)).inputs
        file.write_text(f"{emulator.exchange_token()}\n")
        plugin.update(claim_id, outputs, scaled)
        emulator.exchange_token()
        with pytest.raises(PluginError) as refused:
            plugin.delete(claim_id, outputs)
    assert "Next: write a valid token to the file that COREWEAVE_API_TOKEN_FILE names" in str(refused.value)
    assert "Still reserved: the claim, as far as we know; it stays in the state." in str(refused.value)
    assert [claim.instance_count for claim in emulator.live_claims()] == [6]


def test_the_environment_comes_before_the_stacks_config(emulator: Emulator, namespace: str) -> None:
    config = {"coreweave:token": emulator.token, "coreweave:endpoint": emulator.url}
    with Plugin(config=config) as plugin:
        created(plugin, namespace)
    with Plugin({"CW_API_TOKEN": "rotated"}, config=config) as plugin:
        with pytest.raises(PluginError, match="does not accept the token"):
            plugin.create(claim_inputs(namespace, instanceCount=5, capacityType="CAPACITY_TYPE_MANAGED"))


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"COREWEAVE_API_ENDPOINT": "http://api.coreweave.com"}, "COREWEAVE_API_ENDPOINT"),
        ({"COREWEAVE_HTTP_TIMEOUT": "soon"}, "COREWEAVE_HTTP_TIMEOUT"),
        ({"COREWEAVE_HTTP_TIMEOUT": "0"}, "COREWEAVE_HTTP_TIMEOUT"),
        ({"COREWEAVE_API_TOKEN": "Bearer secret-token-value"}, "COREWEAVE_API_TOKEN: "),
        ({"COREWEAVE_API_TOKEN": "", "CW_API_TOKEN": "secret-token-value twice"}, "CW_API_TOKEN: "),
        ({"COREWEAVE_API_TOKEN": "secret-token-value\nand more"}, "COREWEAVE_API_TOKEN"),
        ({"COREWEAVE_API_TOKEN": "", "COREWEAVE_API_TOKEN_FILE": "/none"}, "COREWEAVE_API_TOKEN_FILE: "),
    ],
)
def test_a_setting_that_cannot_be_understood_is_named_without_a_traceback(
    environment: dict[str, str], named: str, namespace: str
) -> None:
    with Plugin({"COREWEAVE_API_TOKEN": "secret-token-value"} | environment) as plugin:
        with pytest.raises(PluginError) as error:
            plugin.check({}, claim_inputs(namespace))
    assert str(error.value).startswith(named)
    assert "Traceback" not in str(error.value)
    assert "secret-token-value" not in str(error.value)


def test_a_misspelt_config_key_fails_a_preview_but_no_refresh_or_destroy(
    emulator: Emulator, namespace: str
) -> None:
    config = {"coreweave:retryDeadLine": "5m", "coreweave:s3Endpoint": "x", "claims:wait_": "x"}
    with Plugin(emulator.environment()) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
    with Plugin(emulator.environment(), config) as plugin:
        assert plugin.check(inputs, claim_inputs(namespace)).failures == [
            "coreweave:retryDeadLine: is not a setting; did you mean coreweave:retryDeadline? "
            "`pulumi config rm coreweave:retryDeadLine` removes it"
        ]
        assert plugin.read(claim_id, outputs)[0] == claim_id
        plugin.delete(claim_id, outputs)
    assert emulator.live_claims() == []


def test_a_count_changes_in_place_and_everything_else_replaces(
    plugin: Plugin, emulator: Emulator, namespace: str
) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=6.0)).inputs
    diff = plugin.diff(claim_id, outputs, scaled)
    assert (diff.changes, diff.replaces) == ("unknown", [])
    updated = plugin.update(claim_id, outputs, scaled)
    assert updated["resources"]["instanceCount"] == 6
    assert updated["identity"]["incarnation"] == outputs["identity"]["incarnation"]
    assert plugin.diff(claim_id, updated, scaled).changes == "none"
    assert writes(emulator) == ["POST", "PATCH"]
    for changes in ({"zones": BACKWARD}, {"instanceId": "h100-80gb-sxm5"}):
        (field,) = changes
        diff = plugin.diff(claim_id, outputs, claim_inputs(namespace, **changes))
        assert f"resources.{field}" in diff.replaces


@pytest.mark.parametrize("refusal", ["invalid_argument", "failed_precondition"])
def test_an_update_that_took_effect_may_be_refused_when_repeated(namespace: str, refusal: str) -> None:
    with (
        Emulator(EmulatorSettings(unchanged_patch=refusal)) as emulator,  # type: ignore[arg-type]
        Plugin(emulator.environment()) as plugin,
    ):
        claim_id, outputs = plugin.create(plugin.check({}, claim_inputs(namespace)).inputs)
        scaled = plugin.check({}, claim_inputs(namespace, instanceCount=6)).inputs
        emulator.set_faults([{"path": "update", "nth": 1, "drop": "after"}])
        assert plugin.update(claim_id, outputs, scaled)["resources"]["instanceCount"] == 6


@pytest.mark.parametrize("grace", ["0s", "20s"])
@pytest.mark.parametrize("then", [4.0, 16.0])
def test_a_stale_read_after_an_update_does_not_hide_the_next_one(
    emulator: Emulator, namespace: str, then: float, grace: str
) -> None:
    with Plugin(emulator.environment()) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
        emulator.advance_clock(5)
        emulator.set_faults([{"path": "update", "times": 1, "stale_reads": 2}])
        scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=8.0)).inputs
        held = plugin.update(claim_id, outputs, scaled)
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": grace}) as plugin:
        again = plugin.check(scaled, claim_inputs(namespace, instanceCount=then)).inputs
        plugin.update(claim_id, held, again)
    (claim,) = emulator.claims()
    assert claim.instance_count == then


def test_a_token_of_another_organization_neither_loses_nor_creates_a_claim(
    plugin: Plugin, namespace: str
) -> None:
    claim_id, _, outputs = created(plugin, namespace)
    with (
        Emulator(EmulatorSettings(organization_id="cw9z9z")) as elsewhere,
        Plugin(elsewhere.environment()) as foreign,
    ):
        created(foreign, "00000000-0000-4000-8000-000000000000", key="a::b")
        scaled = foreign.check(outputs, claim_inputs(namespace, instanceCount=6.0)).inputs
        for ask in (foreign.read, foreign.delete, lambda id, olds: foreign.update(id, olds, scaled)):
            with pytest.raises(PluginError, match="the token belongs to another organization") as error:
                ask(claim_id, outputs)
            assert "belongs to the organization cw0a1b, the token to cw9z9z" in str(error.value)
            assert "it stays in the state" in str(error.value)
        replacing = foreign.check({}, claim_inputs(namespace, instanceId="h100-80gb-sxm5")).inputs
        foreign.diff(claim_id, outputs, replacing)
        with pytest.raises(PluginError, match="the stack's claims belong to the organization cw0a1b"):
            foreign.create(replacing)
        assert len(elsewhere.claims()) == 1
    plugin.delete(claim_id, outputs)
    assert plugin.read(claim_id, outputs)[0] == ""


@pytest.mark.parametrize("act", ["update", "read", "delete"])
def test_a_claim_is_not_gone_while_the_organization_of_the_token_is_unknown(
    emulator: Emulator, namespace: str, act: str
) -> None:
    environment = emulator.environment() | {"COREWEAVE_READ_GRACE": "0", "COREWEAVE_RETRY_DEADLINE": "0"}
    with Plugin(environment) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
        scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=6)).inputs
    absent = {"claim": claim_id, "fail": {"code": "not_found"}}
    emulator.set_faults([absent, {"path": "list", "fail": {"code": "permission_denied", "message": "no"}}])
    with Plugin(environment) as plugin:
        with pytest.raises(PluginError, match=f"capacity claim 'training' .id {claim_id}. failed") as refused:
            match act:
                case "update":
                    plugin.update(claim_id, outputs, scaled)
                case "read":
                    plugin.read(claim_id, outputs)
                case _:
                    plugin.delete(claim_id, outputs)
    assert "Traceback" not in str(refused.value)
    assert "Still reserved: " in str(refused.value)


def test_a_claim_that_is_gone_for_a_token_that_sees_no_claims_is_named(
    plugin: Plugin, namespace: str
) -> None:
    claim_id, _, outputs = created(plugin, namespace)
    environment = {"COREWEAVE_READ_GRACE": "0s"}
    with (
        Emulator(EmulatorSettings(organization_id="cw9z9z")) as elsewhere,
        Plugin(elsewhere.environment() | environment) as foreign,
    ):
        foreign.delete(claim_id, outputs)
        foreign.close()
        assert f"(id {claim_id}) does not exist according to the API" in foreign.printed
        assert "If the token does not belong to the organization cw0a1b" in foreign.printed


def test_a_change_made_outside_of_pulumi_is_not_overwritten(
    plugin: Plugin, emulator: Emulator, client: Client, namespace: str
) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    emulator.edit_claim(claim_id, spec={"resources": {"instanceCount": 9}})
    scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=6.0)).inputs
    with pytest.raises(PluginError) as error:
        plugin.update(claim_id, outputs, scaled)
    assert writes(emulator) == ["POST"]
    for part in ("last saw: 4 gb200", "holds now:  9 gb200", "declared:           6 gb200", "pulumi refresh"):
        assert part in str(error.value)

    wanted = plugin.check(inputs, claim_inputs(namespace, instanceCount=9.0)).inputs
    assert plugin.update(claim_id, outputs, wanted)["resources"]["instanceCount"] == 9
    assert writes(emulator) == ["POST"]
    with Plugin(emulator.environment(), {"coreweave:overwrite": "true"}) as bold:
        assert bold.update(claim_id, outputs, scaled)["resources"]["instanceCount"] == 6


def test_the_config_can_say_that_the_api_patches_more(emulator: Emulator, namespace: str) -> None:
    config = {"coreweave:patchableFields": '["instanceCount", "zones"]'}
    with Plugin(emulator.environment(), config) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
        reordered = plugin.check(inputs, claim_inputs(namespace, zones=BACKWARD)).inputs
        diff = plugin.diff(claim_id, outputs, reordered)
        assert (diff.changes, diff.replaces) == ("unknown", [])


def test_what_the_api_reports_is_never_a_difference(
    plugin: Plugin, emulator: Emulator, namespace: str
) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    emulator.edit_claim(claim_id, status={"status": "STATUS_ERROR", "allocatedInstances": 1})
    _, read, read_inputs = plugin.read(claim_id, outputs)
    assert read["updatedAt"] > outputs["updatedAt"]
    assert (read | {"updatedAt": outputs["updatedAt"]}, read_inputs) == (outputs, {})
    assert plugin.diff(claim_id, read, inputs).changes == "none"


def test_a_state_that_holds_the_status_of_its_claim_still_works(
    plugin: Plugin, client: Client, namespace: str
) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    earlier = outputs | {
        "status": "STATUS_CREATING",
        "allocatedInstances": 0,
        "pendingInstances": 4,
        "conditions": [
            {"type": "Ready", "status": "STATUS_FALSE", "reason": "Allocating", "message": "0 of 4 instances",
             "zone": "US-WEST-04A", "lastUpdateTime": outputs["createdAt"]}
        ],
    }  # fmt: skip
    assert plugin.diff(claim_id, earlier, inputs).changes == "none"
    _, read, read_inputs = plugin.read(claim_id, earlier)
    assert (set(read), read_inputs) == (set(outputs), {})
    more = plugin.check(inputs, inputs | {"resources": inputs["resources"] | {"instanceCount": 6}}).inputs
    assert plugin.diff(claim_id, earlier, more).changes == "unknown"
    updated = plugin.update(claim_id, earlier, more)
    assert set(updated) == set(outputs)
    assert updated["identity"]["incarnation"] == outputs["identity"]["incarnation"]
    plugin.delete(claim_id, earlier)
    assert plugin.read(claim_id, earlier)[0] == ""


def test_drift_shows_as_the_drifted_property_only(plugin: Plugin, client: Client, namespace: str) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    foreign = client.capacity_claims
    resources = foreign.get(claim_id).resources
    foreign.update(claim_id, resources.model_copy(update={"instance_count": 9}))
    _, read, read_inputs = plugin.read(claim_id, outputs)
    assert read_inputs["resources"] == inputs["resources"] | {"instanceCount": 9}
    assert read_inputs | {"resources": inputs["resources"]} == inputs
    diff = plugin.diff(claim_id, read, inputs)
    assert (diff.changes, diff.replaces) == ("unknown", [])


def test_a_claim_that_is_gone_reads_as_gone(plugin: Plugin, client: Client, namespace: str) -> None:
    claim_id, _, outputs = created(plugin, namespace)
    client.capacity_claims.delete(claim_id)
    assert plugin.read(claim_id, outputs)[0] == ""


def test_a_lookup_of_a_claim_that_does_not_exist_is_an_error(plugin: Plugin) -> None:
    with pytest.raises(PluginError, match="there is no capacity claim with the id"):
        plugin.read("00000000-0000-4000-8000-000000000000", {})


def test_an_outage_while_reading_is_an_error_and_never_gone(emulator: Emulator, namespace: str) -> None:
    with Plugin(emulator.environment() | {"COREWEAVE_RETRY_DEADLINE": "1s"}) as plugin:
        claim_id, _, outputs = created(plugin, namespace)
        emulator.set_faults([{"path": "get", "fail": {"status": 404, "form": "html"}}])
        with pytest.raises(PluginError, match="is not available") as error:
            plugin.read(claim_id, outputs)
    assert "Traceback" not in str(error.value)


def test_an_endpoint_that_serves_something_else_is_an_error_and_never_gone(
    emulator: Emulator, plugin: Plugin, namespace: str
) -> None:
    claim_id, outputs = plugin.create(plugin.check({}, claim_inputs(namespace)).inputs)
    elsewhere = {"COREWEAVE_API_ENDPOINT": f"{emulator.url}/v1"}
    with Plugin(emulator.environment() | elsewhere) as later:
        for call in (later.read, later.delete):
            with pytest.raises(PluginError) as refused:
                call(claim_id, outputs)
            assert "failed: the endpoint does not serve the API." in str(refused.value)
            assert "/v1 does not serve CoreWeave's inference API: not even" in str(refused.value)
            assert "Next: check COREWEAVE_API_ENDPOINT" in str(refused.value)
    assert [claim.id for claim in emulator.live_claims()] == [claim_id]


def test_a_repeated_create_adopts_the_claim(plugin: Plugin, emulator: Emulator, namespace: str) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    again, second = plugin.create(inputs)
    assert again == claim_id
    assert second["identity"]["incarnation"] != outputs["identity"]["incarnation"]
    assert len(emulator.claims()) == 1
    assert "it is taken over, not created twice" in plugin.close()


def test_delete_waits_until_the_claim_is_gone(namespace: str) -> None:
    with Emulator(EmulatorSettings(delete_delay=0.5)) as emulator, Plugin(emulator.environment()) as plugin:
        claim_id, _, outputs = created(plugin, namespace)
        plugin.delete(claim_id, outputs)
        assert emulator.claims() == []
        plugin.delete(claim_id, outputs)


def test_a_deletion_that_takes_too_long_says_what_is_still_held(namespace: str) -> None:
    with Emulator(EmulatorSettings(delete_delay=60)) as emulator:
        with Plugin(emulator.environment() | {"COREWEAVE_DELETE_TIMEOUT": "300ms"}) as plugin:
            claim_id, _, outputs = created(plugin, namespace)
            with pytest.raises(PluginError) as error:
                plugin.delete(claim_id, outputs)
    assert f"'training' (id {claim_id}) is not finished" in str(error.value)
    assert "Still reserved: 4 of 4 gb200-4x instances, STATUS_DELETING" in str(error.value)


def test_the_state_holds_plain_names_that_are_a_promise(plugin: Plugin, namespace: str) -> None:
    _, _, outputs = created(plugin, namespace, name="named")
    assert set(outputs) == {
        "name",
        "resources",
        "organizationId",
        "createdAt",
        "updatedAt",
        "identity",
    }
    assert set(outputs["identity"]) == {"declaration", "namespace", "incarnation", "explicitName"}


@pytest.mark.skipif(SDK < (3, 260), reason="older SDKs show no traceback at all")
def test_another_provider_of_the_program_keeps_its_tracebacks(plugin: Plugin) -> None:
    with pytest.raises(PluginError, match=r"Traceback \(most recent call last\)[\s\S]*KeyError"):
        plugin.create(
            {"identity": {"namespace": "6f9f9c3e-1f0a-4f0e-9d3f-3f1d1c1b1a10", "declaration": "a::b"}}
        )


def test_a_change_that_the_api_accepts_and_ignores_is_an_error(namespace: str) -> None:
    settings = EmulatorSettings(patchable_fields=frozenset(), patch_refusal="ignored")
    with Emulator(settings) as emulator, Plugin(emulator.environment()) as plugin:
        claim_id, inputs, outputs = created(plugin, namespace)
        more = inputs | {"resources": inputs["resources"] | {"instanceCount": 6}}
        with pytest.raises(PluginError) as error:
            plugin.update(claim_id, outputs, more)
    assert f"'training' (id {claim_id}) had no effect" in str(error.value)
    assert "the API holds: 4 gb200-4x" in str(error.value)
    assert "Traceback" not in str(error.value)


def test_a_claim_changed_at_the_zero_time_of_go_is_read_and_released(
    plugin: Plugin, emulator: Emulator, namespace: str
) -> None:
    claim_id, _, outputs = created(plugin, namespace)
    emulator.edit_claim(claim_id, status={"updatedAt": "0001-01-01T00:00:00Z"})
    _, outputs, _ = plugin.read(claim_id, outputs)
    assert outputs["updatedAt"] == "0001-01-01T00:00:00Z"
    plugin.delete(claim_id, outputs)
    assert emulator.live_claims() == []


@pytest.mark.parametrize("act", ["read", "delete"])
def test_an_error_about_a_claim_of_the_state_says_none_of_its_secrets(
    emulator: Emulator, namespace: str, act: str
) -> None:
    with Plugin(emulator.environment()) as plugin:
        claim_id, _, outputs = created(plugin, namespace, name="covert-name")
        outputs["identity"]["secret"] = ["name", "instanceCount"]
        message = "claim covert-name is in use by 4 instances"
        emulator.set_faults([{"claim": claim_id, "fail": {"code": "permission_denied", "message": message}}])
        with pytest.raises(PluginError, match=r"claim \[secret\] is in use by \[secret\] instances"):
            plugin.read(claim_id, outputs) if act == "read" else plugin.delete(claim_id, outputs)


@pytest.mark.parametrize("damage", [{}, {"resources": 4}])
def test_a_damaged_state_is_refused_and_a_refresh_mends_it(
    plugin: Plugin, emulator: Emulator, namespace: str, damage: dict[str, Any]
) -> None:
    claim_id, inputs, outputs = created(plugin, namespace)
    damaged = {name: value for name, value in outputs.items() if name != "resources"} | damage
    damaged["updatedAt"] = ["not a time"]
    emulator.clear_requests()
    for change in (plugin.diff, plugin.update):
        with pytest.raises(
            PluginError, match=f"the state of capacity claim 'training' .id {claim_id}. is damaged"
        ):
            change(claim_id, damaged, inputs)
    assert writes(emulator) == []
    mended = plugin.read(claim_id, damaged)[1]
    assert plugin.diff(claim_id, mended, inputs).changes == "none"
    plugin.delete(claim_id, damaged)
    assert emulator.live_claims() == []


def test_a_namespace_that_is_no_uuid_is_one_error(plugin: Plugin, emulator: Emulator) -> None:
    (failure,) = plugin.check({}, claim_inputs("edited by hand")).failures
    assert "capacity claim 'training' has a namespace that is no UUID: edited by hand" in failure
    with pytest.raises(PluginError, match="Next: restore the id of the ClaimNamespace in the state"):
        plugin.create(claim_inputs("edited by hand", capacityType="CAPACITY_TYPE_MANAGED"))
    assert emulator.claims() == []
