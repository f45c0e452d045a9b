"""The native plugin's own process, spoken to as the engine does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime import rpc
from pulumi.runtime.proto import engine_pb2, provider_pb2
from support.crash import until
from support.native_plugin import TYPE, InitFailed, NativePlugin, Refused, failure, secret, sent, urn_of

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference._version import __version__

RESOURCES: Final = {
    "instanceId": "gb200-4x",
    "instanceCount": 4,
    "zones": ["US-WEST-04A", "US-EAST-04A"],
    "capacityType": "CAPACITY_TYPE_MANAGED",
}
SCARCE: Final = {"US-WEST-04A": {"gb200-4x": 1}, "US-EAST-04A": {"gb200-4x": 0}}
PLENTY: Final = {"US-WEST-04A": {"gb200-4x": 64}, "US-EAST-04A": {"gb200-4x": 64}}


def claim(**more: Any) -> dict[str, Any]:
    return {"resources": RESOURCES, **more}


@pytest.fixture
def scarce() -> Iterator[Emulator]:
    with Emulator(EmulatorSettings(inventory=SCARCE)) as running:
        yield running


@pytest.fixture
def native(emulator: Emulator) -> Iterator[NativePlugin]:
    with NativePlugin(emulator.environment()) as running:
        yield running


@pytest.fixture
def waiting(scarce: Emulator) -> Iterator[NativePlugin]:
    """A plugin whose claims get one of the four instances that they declare."""
    with NativePlugin(scarce.environment()) as running:
        yield running


def test_started_by_hand_it_says_what_it_is() -> None:
    command = [sys.executable, "-m", "pulumi_coreweave_inference.native"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "capacity-claims plugin install" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_serves_its_schema_and_ends_with_its_engine(native: NativePlugin) -> None:
    schema = json.loads(native.call("GetSchema", provider_pb2.GetSchemaRequest()).schema)
    assert list(schema["resources"]) == [TYPE]
    assert native.call("GetPluginInfo", Empty()).version == schema["version"] == __version__
    assert native.close() == ""
    assert native.process.returncode == 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"namespace": "training"}, "must be a UUID"),
        ({"retryDeadline": "soon"}, "coreweave-inference:retryDeadline: "),
        ({"overwrite": "maybe"}, "must be true or false, not 'maybe'"),
        ({"retryDeadLine": "20s"}, "did you mean coreweave-inference:retryDeadline?"),
    ],
)
def test_a_wrong_setting_is_named(native: NativePlugin, settings: dict[str, str], complaint: str) -> None:
    response = native.call("CheckConfig", provider_pb2.CheckRequest(news=sent(settings)))
    (failed,) = response.failures
    assert complaint in failed.reason


@pytest.mark.parametrize(
    "settings",
    [
        {"overwrite": True, "patchableFields": ["instanceCount", "zones"]},
        {"overwrite": "true", "patchableFields": '["instanceCount", "zones"]'},
        {"token": secret("a-token"), "endpoint": rpc.UNKNOWN},
    ],
    ids=["plain", "as SDKs encode them", "secret and unknown"],
)
def test_settings_are_taken_as_any_sdk_sends_them(native: NativePlugin, settings: dict[str, Any]) -> None:
    response = native.call("CheckConfig", provider_pb2.CheckRequest(news=sent(settings)))
    assert not response.failures


@pytest.mark.parametrize(
    ("news", "complaint"),
    [
        (
            {"resources": RESOURCES | {"instanceCount": 1.5}},
            "resources.instanceCount: must be a whole number",
        ),
        ({"resources": RESOURCES | {"zones": ["us-west-04a"]}}, "resources.zones[0]: "),
        (claim(readiness={"timeout": "soon"}), "readiness: timeout: "),
        (claim(readiness={"minInstances": 5}), "readiness.minInstances: is 5, more than"),
        (claim(readiness={"retries": 5}), "readiness.retries: is not a field of readiness"),
        (claim(readiness="ready"), "readiness: must be an object"),
        (claim(readiness={"wait": "yes"}), "readiness.wait: must be true or false"),
        (claim(readiness={"onTimeout": "retry"}), 'readiness: onTimeout must be "fail" or "warn"'),
    ],
)
def test_a_wrong_declaration_fails_the_check(
    native: NativePlugin, news: dict[str, Any], complaint: str
) -> None:
    _, failures = native.check(news)
    assert len(failures) == 1
    assert failures[0].startswith(complaint), failures


def test_a_preview_changes_nothing(native: NativePlugin, emulator: Emulator) -> None:
    inputs, failures = native.check(claim())
    assert failures == []
    claim_id, expected = native.create(inputs, preview=True)
    assert (claim_id, expected["status"], expected["name"]) == ("", rpc.UNKNOWN, rpc.UNKNOWN)
    assert expected["resources"] == inputs["resources"]
    made, outputs = native.create(inputs)
    before = emulator.claims()
    more = {"resources": inputs["resources"] | {"instanceCount": 6}}
    request = provider_pb2.UpdateRequest(
        id=made,
        urn=urn_of("training"),
        olds=sent(outputs),
        news=sent(more),
        old_inputs=sent(inputs),
        preview=True,
    )
    assert native.call("Update", request).properties["name"] == outputs["name"]
    assert emulator.claims() == before


def test_a_create_waits_and_shows_its_progress_to_the_engine(native: NativePlugin) -> None:
    claim_id, outputs = native.create(claim())
    assert (outputs["status"], outputs["allocatedInstances"]) == ("STATUS_READY", 4)
    assert set(outputs["identity"]) == {"incarnation"}
    assert outputs["name"] == f"training-{claim_id[:7]}"


def test_a_claim_that_is_not_ready_is_in_the_state_until_it_is(
    waiting: NativePlugin, scarce: Emulator
) -> None:
    declared = claim(readiness={"timeout": "1s"})
    with pytest.raises(InitFailed, match="is not ready after 1s: 1 of 4 gb200-4x") as failed:
        waiting.create(declared)
    held = failed.value
    assert held.inputs == declared
    assert held.properties["allocatedInstances"] == 1
    with pytest.raises(InitFailed, match="is not ready yet: 1 of 4") as again:
        waiting.read(held.id, held.properties, declared)
    assert again.value.inputs["readiness"] == {"timeout": "1s"}
    scarce.set_inventory(PLENTY)
    until(lambda: scarce.claims()[0].status == "STATUS_READY")
    _, outputs, inputs = waiting.read(held.id, held.properties, declared)
    assert outputs["status"] == "STATUS_READY"
    assert inputs["readiness"] == {"timeout": "1s"}


@pytest.mark.parametrize(
    "readiness",
    [{"wait": False}, {"minInstances": 1, "timeout": "20s"}, {"timeout": "1s", "onTimeout": "warn"}],
)
def test_what_is_enough_is_for_the_program_to_say(waiting: NativePlugin, readiness: dict[str, Any]) -> None:
    if "minInstances" in readiness:
        with pytest.raises(InitFailed):  # the API must say READY as well
            waiting.create(claim(readiness=readiness | {"timeout": "1s"}))
        return
    claim_id, outputs = waiting.create(claim(readiness=readiness))
    read, _, _ = waiting.read(claim_id, outputs, claim(readiness=readiness))
    assert read == claim_id


def test_a_custom_timeout_wins(waiting: NativePlugin) -> None:
    with pytest.raises(InitFailed, match="is not ready after 1s"):
        waiting.create(claim(readiness={"timeout": "50m"}), timeout=1.0)


def test_an_old_claim_is_kept_while_its_successor_is_not_ready(
    waiting: NativePlugin, scarce: Emulator
) -> None:
    old, outputs = waiting.create(claim(readiness={"wait": False}))
    other = {"resources": RESOURCES | {"zones": ["US-EAST-04A"]}, "readiness": {"timeout": "1s"}}
    with pytest.raises(InitFailed):
        waiting.create(other)
    with pytest.raises(Refused, match="is kept: the claim that replaces it is not ready"):
        waiting.delete(old, outputs)
    assert len(scarce.live_claims()) == 2


def test_cancel_ends_a_wait_and_says_what_is_held(waiting: NativePlugin, scarce: Emulator) -> None:
    call = waiting.later("Create", waiting.creation(claim()))
    until(
        lambda: any(each.method == "GET" and "training" not in str(each.path) for each in scarce.requests())
    )
    until(lambda: len(scarce.live_claims()) == 1)
    waiting.call("Cancel", Empty())
    with pytest.raises(grpc.RpcError) as ended:
        call.result(timeout=20)
    assert "interrupted" in str(failure(ended.value)) or "interrupted" in ended.value.details()
    assert len(scarce.live_claims()) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_create_under_way_at_cancel_is_in_the_state(
    waiting: NativePlugin, scarce: Emulator, when: str
) -> None:
    scarce.set_faults([{"path": "create", "hold": when}])
    call = waiting.later("Create", waiting.creation(claim()))
    scarce.wait_for_hold(20)
    waiting.call("Cancel", Empty())
    scarce.clear_faults()
    scarce.release()
    with pytest.raises(grpc.RpcError) as ended:
        call.result(timeout=20)
    failed = failure(ended.value)
    assert isinstance(failed, InitFailed), failed
    assert [each.id for each in scarce.live_claims()] == [failed.id]
    assert "interrupted" in str(failed)


def test_it_ends_at_once_when_the_engine_ends_it(native: NativePlugin) -> None:
    native.create(claim())
    native.call("Cancel", Empty())
    native.process.send_signal(signal.SIGINT)
    assert native.process.wait(3) == 0, "the engine waits 5 s at the end of every command, then kills"
    assert native.close() == ""


def test_a_create_under_way_at_sigint_gets_its_answer(native: NativePlugin, emulator: Emulator) -> None:
    emulator.set_faults([{"path": "create", "hold": "after"}])
    call = native.later("Create", native.creation(claim()))
    emulator.wait_for_hold(20)
    native.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    emulator.clear_faults()
    emulator.release()
    assert call.result(timeout=20).id == emulator.live_claims()[0].id
    assert native.process.wait(20) == 0


def test_cancel_ends_the_wait_for_a_deletion() -> None:
    with (
        Emulator(EmulatorSettings(delete_delay=600)) as emulator,
        NativePlugin(emulator.environment()) as native,
    ):
        made, outputs = native.create(claim())
        request = provider_pb2.DeleteRequest(id=made, urn=urn_of("training"), properties=sent(outputs))
        call = native.later("Delete", request)
        until(lambda: [each.status for each in emulator.claims()] == ["STATUS_DELETING"])
        native.call("Cancel", Empty())
        with pytest.raises(grpc.RpcError) as ended:
            call.result(timeout=20)
        assert "was interrupted" in ended.value.details()


def test_cancel_ends_the_retries_of_a_call(emulator: Emulator) -> None:
    environment = emulator.environment() | {"COREWEAVE_RETRY_DEADLINE": "10m"}
    with NativePlugin(environment) as native:
        emulator.set_faults([{"path": "create", "fail": {"code": "unavailable"}}])
        call = native.later("Create", native.creation(claim()))
        until(lambda: sum(each.method == "POST" for each in emulator.requests()) > 2)
        native.call("Cancel", Empty())
        with pytest.raises(grpc.RpcError) as ended:
            call.result(timeout=20)
        assert "the work on capacity claim 'training' was interrupted" in ended.value.details()


def test_a_secret_is_marked_in_what_is_returned_and_in_no_line(waiting: NativePlugin) -> None:
    declared = claim(name=secret("classified-1"), readiness={"timeout": "1s"})
    with pytest.raises(InitFailed) as failed:
        waiting.create(declared)
    assert failed.value.properties["name"] == secret("classified-1")
    assert "classified-1" not in str(failed.value)
    assert "classified-1" not in str(waiting.engine.lines)
    with pytest.raises(InitFailed) as again:
        waiting.read(failed.value.id, failed.value.properties, declared)
    assert again.value.properties["name"] == secret("classified-1")
    assert "classified-1" not in str(again.value)


def test_a_twin_under_another_namespace_is_refused(emulator: Emulator) -> None:
    with NativePlugin(emulator.environment()) as first:
        made, outputs = first.create(claim())
    other = "0b6b1c2d-9d5c-4d57-8a44-6f6a3d1f2e3b"
    with NativePlugin(emulator.environment(), provider_id=other) as second:
        _, failures = second.check(claim())
        assert len(failures) == 1
        assert made in failures[0]
        with pytest.raises(Refused, match="this declaration has made a claim before"):
            second.create(claim())
        second.diff(made, outputs, claim())  # so it is in the state
        replaced, _ = second.create({"resources": RESOURCES | {"zones": ["US-EAST-04A"]}})
        assert replaced != made
    with NativePlugin(emulator.environment(), {"namespace": other}) as third:
        again, _ = third.create({"resources": RESOURCES | {"zones": ["US-EAST-04A"]}})
        assert again == replaced


def test_without_a_namespace_nothing_is_created(emulator: Emulator) -> None:
    with NativePlugin(emulator.environment(), provider_id=rpc.UNKNOWN) as native:
        assert native.check(claim())[1] == []
        with pytest.raises(Refused, match="its provider has no id that claims can be derived from"):
            native.create(claim())
    assert emulator.claims() == []


def test_functions_look_up_claims(native: NativePlugin, client: Client) -> None:
    made = client.capacity_claims.create("serving", RESOURCES)
    found = native.invoke("getCapacityClaim", {"name": "serving"})
    assert (found["id"], found["resources"]) == (made.id, RESOURCES)
    assert native.invoke("getCapacityClaim", {"id": made.id})["name"] == "serving"
    assert [each["id"] for each in native.invoke("getCapacityClaims", {})["claims"]] == [made.id]
    assert "gb200-4x" in native.invoke("getCapacityClaimParameters", {})["zoneInstanceTypes"]["US-WEST-04A"]
    assert native.invoke("awaitCapacityClaim", {"id": made.id})["status"] == "STATUS_READY"
    for arguments, complaint in (
        ({"name": "other"}, "there is no capacity claim named 'other'"),
        ({"id": "5e0f62a7-8b1f-4f0a-9c8e-2b8d6a1d7c11"}, "there is no capacity claim with the id"),
        ({}, "getCapacityClaim takes either id or name"),
    ):
        with pytest.raises(Refused, match=complaint):
            native.invoke("getCapacityClaim", arguments)
    with pytest.raises(Refused, match="is no function of this version"):
        native.invoke("getEverything", {})


def test_waiting_is_shown_as_ephemeral_lines(scarce: Emulator) -> None:
    with NativePlugin(scarce.environment()) as native:
        call = native.later("Create", native.creation(claim()))
        until(lambda: bool(native.engine.lines))
        scarce.set_inventory(PLENTY)
        assert call.result(timeout=30).id
        first, *_, last = native.engine.lines
    assert first.ephemeral
    assert "training: 1/4" in first.message
    assert not last.ephemeral
    assert last.severity == engine_pb2.INFO
    assert "training is ready after" in last.message


def test_a_process_of_another_provider_does_not_release_a_claim_that_has_moved_on(emulator: Emulator) -> None:
    namespace = {"namespace": "0b6b1c2d-9d5c-4d57-8a44-6f6a3d1f2e3b"}
    with NativePlugin(emulator.environment(), namespace) as first:
        made, old = first.create(claim())
        other = "d2719f0e-57c4-4e0b-8f5d-0a1b2c3d4e5f"
        with NativePlugin(emulator.environment(), namespace, other, first.engine) as second:
            taken, new = second.create(claim())
            assert taken == made
            assert new["identity"] != old["identity"]
            first.delete(made, old)
            assert [each.id for each in emulator.live_claims()] == [made]
            second.delete(made, new)
    assert emulator.live_claims() == []


def test_an_old_claim_is_kept_though_nothing_was_asked_about_its_successor(
    waiting: NativePlugin, scarce: Emulator
) -> None:
    old, outputs = waiting.create(claim(readiness={"wait": False}))
    with pytest.raises(InitFailed):
        waiting.create({"resources": RESOURCES | {"zones": ["US-EAST-04A"]}, "readiness": {"timeout": "1s"}})
    with NativePlugin(scarce.environment()) as later:
        later.check(claim(), "other")  # so it is no destroy
        with pytest.raises(Refused, match="is kept: the claim that replaces it is not ready"):
            later.delete(old, outputs)
    with NativePlugin(scarce.environment()) as destroy:
        destroy.delete(old, outputs)


def test_an_old_claim_is_kept_while_its_successor_under_another_provider_is_not_ready(
    waiting: NativePlugin, scarce: Emulator
) -> None:
    old, outputs = waiting.create(claim(readiness={"wait": False}))
    other = "d2719f0e-57c4-4e0b-8f5d-0a1b2c3d4e5f"
    with NativePlugin(scarce.environment(), provider_id=other, engine=waiting.engine) as second:
        successor = {"resources": RESOURCES | {"zones": ["US-EAST-04A"]}, "readiness": {"timeout": "1s"}}
        with pytest.raises(InitFailed, match=f"{old}., which it may replace"):
            second.create(second.check(successor)[0])
        with pytest.raises(Refused, match="is kept: the claim that replaces it is not ready"):
            waiting.delete(old, outputs)
        second.create(second.check(successor | {"readiness": {"wait": False}})[0])
        waiting.delete(old, outputs)
    assert [list(each.zones) for each in scarce.live_claims()] == [["US-EAST-04A"]]


def test_a_claim_is_not_replaced_while_it_moves_from_the_dynamic_resource(
    native: NativePlugin, emulator: Emulator
) -> None:
    made, outputs = native.create(claim())
    dynamic = outputs | {"identity": outputs["identity"] | {"declaration": "claims::training"}}
    scaled = {"resources": RESOURCES | {"instanceCount": 5}}
    assert native.diff(made, dynamic, scaled).replaces == []
    replaced = {"resources": RESOURCES | {"zones": ["US-EAST-04A"]}}
    with pytest.raises(Refused, match="would move from the dynamic resource and be replaced at once"):
        native.diff(made, dynamic, replaced)
    assert native.diff(made, outputs, replaced).replaces == ["resources.zones"]
    assert [each.id for each in emulator.live_claims()] == [made]


def test_a_wait_by_the_function_shows_no_declared_name(waiting: NativePlugin) -> None:
    resources = {"resources": RESOURCES, "readiness": {"wait": False}}
    made, _ = waiting.create(resources | {"name": secret("classified-1")})
    with pytest.raises(Refused, match=f"capacity claim .id {made}. is not ready after 1s: 1 of 4") as failed:
        waiting.invoke("awaitCapacityClaim", {"id": made, "timeout": "1s"})
    shown = str(failed.value) + "".join(each.message for each in waiting.engine.lines)
    assert "classified-1" not in shown
    with pytest.raises(Refused, match="awaitCapacityClaim: timeout: "):
        waiting.invoke("awaitCapacityClaim", {"id": made, "timeout": "soon"})


@pytest.mark.parametrize(
    ("readiness", "changes"),
    [(None, True), ({"wait": False}, False), ({"onTimeout": "warn"}, False), ({"minInstances": 1}, True)],
)
def test_a_claim_that_nobody_has_waited_for_is_waited_for_when_that_is_declared(
    waiting: NativePlugin, readiness: dict[str, Any] | None, changes: bool
) -> None:
    made, outputs = waiting.create(claim(readiness={"wait": False}))
    declared = claim() if readiness is None else claim(readiness=readiness)
    in_a_refresh = waiting.diff(made, outputs, declared)
    assert in_a_refresh.changes == provider_pb2.DiffResponse.DIFF_NONE
    waiting.check(declared)
    response = waiting.diff(made, outputs, declared, claim())
    assert (response.changes == provider_pb2.DiffResponse.DIFF_SOME) == changes
    assert list(response.diffs) == ["status"] * changes
    moved = {name: value for name, value in outputs.items() if name != "status"}  # as the dynamic resource's
    assert waiting.diff(made, moved, declared, claim()).changes == provider_pb2.DiffResponse.DIFF_NONE


def test_a_ready_claim_with_fewer_instances_than_are_now_required_is_waited_for(native: NativePlugin) -> None:
    made, outputs = native.create(native.check(claim())[0])
    same = native.diff(made, outputs, claim())
    assert same.changes == provider_pb2.DiffResponse.DIFF_NONE
    fewer = outputs | {"allocatedInstances": 3}
    less = native.diff(made, fewer, claim())
    assert less.changes == provider_pb2.DiffResponse.DIFF_SOME


def test_texts_name_the_arguments_of_a_declared_provider(scarce: Emulator) -> None:
    config = {"token": "another", "wait": "true"}
    with NativePlugin(scarce.environment(), config, declared_as="claims") as native:
        (warning,) = (each for each in native.engine.lines if each.severity == engine_pb2.WARNING)
        assert (
            "the provider 'claims' uses the token of the environment, not its argument token"
            in warning.message
        )
        with pytest.raises(InitFailed, match="or set the provider's argument wait to false"):
            native.create(claim(readiness={"timeout": "1s"}))
        other = "0b6b1c2d-9d5c-4d57-8a44-6f6a3d1f2e3b"
        with (
            NativePlugin(scarce.environment(), provider_id=other, declared_as="more") as second,
            pytest.raises(Refused, match=" --provider more=urn:pulumi:test::claims::pulumi:providers:"),
        ):
            second.create(claim())


def test_an_id_that_is_none_is_answered_with_where_to_find_one(native: NativePlugin) -> None:
    with pytest.raises(Refused, match="pass the id of a claim: `capacity-claims list` shows all claims"):
        native.read("training-1234567", {}, {})
    with pytest.raises(Refused, match="pass the id of a claim"):
        native.invoke("awaitCapacityClaim", {"id": "nope"})


def test_ignored_changes_keep_what_the_state_holds(native: NativePlugin, emulator: Emulator) -> None:
    made, outputs = native.create(claim())
    lagging = claim() | {"resources": RESOURCES | {"instanceCount": 2}}
    ignoring = {"ignoreChanges": ["resources.instanceCount"]}
    assert native.diff(made, outputs, lagging, **ignoring).changes == provider_pb2.DiffResponse.DIFF_NONE
    update = provider_pb2.UpdateRequest(
        id=made,
        urn=urn_of("training"),
        olds=sent(outputs),
        news=sent(lagging),
        old_inputs=sent(lagging),
        **ignoring,
    )
    native.call("Update", update)
    assert [each.instance_count for each in emulator.live_claims()] == [4]


def test_a_secret_readiness_and_count_are_marked_and_unsaid(waiting: NativePlugin) -> None:
    resources = RESOURCES | {"instanceCount": secret(4)}
    declared = {"resources": resources, "readiness": secret({"minInstances": 3, "timeout": "1s"})}
    with pytest.raises(InitFailed) as failed:
        waiting.create(declared)
    assert failed.value.inputs["readiness"] == declared["readiness"]
    assert failed.value.properties["allocatedInstances"] == secret(1)
    assert "required" not in str(failed.value)
    _, failures = waiting.check({"resources": RESOURCES, "readiness": {"timeout": secret("hunter2")}})
    assert failures == ["readiness: is secret and not valid"]


def test_a_claim_whose_wait_cannot_begin_is_in_the_state(emulator: Emulator, tmp_path: Path) -> None:
    environment = emulator.environment()
    file = tmp_path / "token"
    file.write_text(environment.pop("COREWEAVE_API_TOKEN"), encoding="utf-8")
    with NativePlugin(environment | {"COREWEAVE_API_TOKEN_FILE": str(file)}) as native:
        emulator.set_faults([{"path": "create", "hold": "after"}])
        call = native.later("Create", native.creation(claim()))
        emulator.wait_for_hold(30)
        file.unlink()
        emulator.clear_faults()
        emulator.release()
        with pytest.raises(grpc.RpcError) as ended:
            call.result(timeout=30)
        assert isinstance(failure(ended.value), InitFailed), ended.value.details()
