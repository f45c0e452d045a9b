"""Orphans: a create warns about them, and the end of a stack refuses to leave them behind."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from inline_snapshot import snapshot
from support.plugin import ClaimNamespaceProvider, Plugin, PluginError, claim_inputs, plain

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings


def create(plugin: Plugin, namespace: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    return plugin.create(plugin.check({}, claim_inputs(namespace, **changes)).inputs)


def cut_off(emulator: Emulator, namespace: str, **resources: Any) -> str:
    """Leave a claim that no state holds, as a create does that was cut off; its id."""
    with Plugin(emulator.environment()) as plugin:
        claim_id, _ = create(plugin, namespace, **resources)
    return claim_id


def printed(plugin: Plugin) -> str:
    """End a process; what it has shown to the user."""
    plugin.close()
    return plugin.printed


# When another claim is created for the same declaration

EAST = ["US-EAST-04A"]


def test_a_create_beside_a_claim_that_was_cut_off_warns_about_it(emulator: Emulator, namespace: str) -> None:
    left = cut_off(emulator, namespace, zones=EAST)
    cut_off(emulator, str(uuid.uuid4()), zones=EAST)  # of another stack
    cut_off(
        emulator, namespace, key=claim_inputs()["identity"]["declaration"] + "2"
    )  # of another declaration
    plugin = Plugin(emulator.environment())
    claim_id, _ = create(plugin, namespace)
    said = printed(plugin)
    assert plain(said) == snapshot("""\
warning: another claim created for capacity claim 'training' still exists.
  training-<digits> (id <id 1>): 4 of 4 gb200-4x instances, STATUS_READY
  Still reserved: that claim as well. If it is the one being replaced, this update releases it at the end; otherwise an interrupted create left it behind.
  Next: after this update, run `capacity-claims release --all-stacks <id 1>`, which refuses if a stack manages the claim; if Pulumi warns of pending operations, run `pulumi refresh --clear-pending-creates` first
        or, if it is still needed (retained, or moved to another stack), set COREWEAVE_ORPHANS=leave
""")
    assert left in said
    assert claim_id not in said


def test_a_claim_being_replaced_or_released_causes_no_warning(
    emulator: Emulator, plugin: Plugin, namespace: str
) -> None:
    old, outputs = create(plugin, namespace)
    released, gone = create(plugin, namespace, zones=EAST, name="gone")
    with Plugin(emulator.environment()) as later:
        later.delete(released, gone)
        later.diff(old, outputs, claim_inputs(namespace, zones=EAST))
        create(later, namespace, zones=EAST)
        assert "alive" not in printed(later)


def test_no_warning_is_shown_where_orphans_are_meant_to_stay_alive(
    emulator: Emulator, namespace: str
) -> None:
    cut_off(emulator, namespace, zones=EAST)
    with Plugin(emulator.environment() | {"COREWEAVE_ORPHANS": "leave"}) as plugin:
        create(plugin, namespace)
        assert printed(plugin) == ""


def test_all_creates_share_one_list_and_a_new_stack_needs_none(emulator: Emulator, namespace: str) -> None:
    keys = [f"{claim_inputs()['identity']['declaration']}{index}" for index in range(3)]
    with Plugin(emulator.environment()) as plugin:
        for key in keys:
            create(plugin, namespace, key=key)
    asked = [record.query for record in emulator.requests() if record.operation == "list"]
    assert len(asked) == 1
    assert all(query.startswith("updatedAfter=") for query in asked)
    emulator.clear_requests()
    with Plugin(emulator.environment()) as plugin:
        drawn, _ = plugin.of(ClaimNamespaceProvider).create({})
        for key in keys:
            create(plugin, drawn, key=key)
    assert {record.operation for record in emulator.requests()} <= {"create", "parameters"}


def test_a_claim_is_created_even_if_the_api_refuses_to_list_claims(
    emulator: Emulator, namespace: str
) -> None:
    emulator.set_faults([{"path": "list", "fail": {"code": "permission_denied", "message": "not yours"}}])
    with Plugin(emulator.environment()) as plugin:
        create(plugin, namespace)
        create(plugin, namespace, key=f"{claim_inputs()['identity']['declaration']}2")
        said = printed(plugin)
    assert plain(said) == snapshot("""\
warning: looking for claims left behind by an interrupted create failed: the token lacks the required role.
  permission_denied: not yours
  (<n> attempts, request id <request>)
  Next: use a token with the role Inference Admin, which may write; Inference Viewer may only read
""")
    assert len(emulator.live_claims()) == 2


# When the stack ends


def test_a_namespace_is_kept_while_an_orphan_is_alive(
    emulator: Emulator, plugin: Plugin, client: Client, namespace: str
) -> None:
    left = cut_off(emulator, namespace, zones=["US-EAST-04A"])
    other = cut_off(emulator, str(uuid.uuid4()))
    claim_id, outputs = create(plugin, namespace)
    plugin.delete(claim_id, outputs)
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "0.5s"}) as later:
        namespaces = later.of(ClaimNamespaceProvider)
        with pytest.raises(PluginError) as refused:
            namespaces.delete(namespace, {})
        assert plain(str(refused.value)) == snapshot("""\
the claim namespace is kept: 1 capacity claim of this stack exists, but its state does not hold it as a dynamic resource.
  training-<digits> (id <id 1>): 4 of 4 gb200-4x instances, STATUS_READY
  Still reserved: that claim, now declared with the native resource or left behind by an interrupted create.
  Next: if the program now declares it with the native resource, run the same command once with COREWEAVE_ORPHANS=leave, which leaves it as it is
        or, if it is still needed elsewhere (retained, or moved to another stack), do the same
        or release it with `capacity-claims release --all-stacks <id 1>`, which refuses if a stack manages a claim with either resource, then run the same command again; if Pulumi warns of pending operations, run `pulumi refresh --clear-pending-creates` first\
""")
        assert {claim.id for claim in emulator.live_claims()} == {left, other}
        client.capacity_claims.delete(left)
        namespaces.delete(namespace, {})


def test_the_error_names_ten_orphans_and_counts_the_others(
    emulator: Emulator, plugin: Plugin, namespace: str
) -> None:
    for index in range(12):
        create(plugin, namespace, key=f"{claim_inputs()['identity']['declaration']}{index}")
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "0"}) as later:
        with pytest.raises(PluginError) as refused:
            later.of(ClaimNamespaceProvider).delete(namespace, {})
    assert "12 capacity claims of this stack exist" in str(refused.value)
    assert "and 2 more" in str(refused.value)


def test_a_namespace_is_deleted_where_orphans_are_meant_to_stay_alive(
    emulator: Emulator, namespace: str
) -> None:
    left = cut_off(emulator, namespace)
    with Plugin(emulator.environment() | {"COREWEAVE_ORPHANS": "leave"}) as plugin:
        plugin.of(ClaimNamespaceProvider).delete(namespace, {})
    assert [claim.id for claim in emulator.live_claims()] == [left]


def test_a_namespace_waits_for_reads_that_lag_behind_a_deletion(emulator: Emulator, namespace: str) -> None:
    left = cut_off(emulator, namespace)
    emulator.set_faults([{"path": "delete", "stale_reads": {"seconds": 1}}])
    with Client(emulator.token, endpoint=emulator.url) as client:
        client.capacity_claims.delete(left)
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "2s"}) as plugin:
        plugin.of(ClaimNamespaceProvider).delete(namespace, {})


def test_a_namespace_waits_for_lists_that_lag_behind_a_create() -> None:
    with Emulator(EmulatorSettings(list_lag=1)) as emulator:
        environment = emulator.environment() | {"COREWEAVE_READ_GRACE": "2s"}
        with Plugin(environment) as plugin:
            namespace, _ = plugin.of(ClaimNamespaceProvider).create({})
            claim_id, outputs = create(plugin, namespace)
        for released in (True, False):
            left = cut_off(emulator, namespace, zones=EAST)
            with Plugin(environment) as later:
                if released:
                    later.delete(claim_id, outputs)
                with pytest.raises(PluginError, match=left):
                    later.of(ClaimNamespaceProvider).delete(namespace, {})


def test_a_list_that_reflects_a_release_is_trusted_at_once(
    emulator: Emulator, plugin: Plugin, namespace: str
) -> None:
    claim_id, outputs = create(plugin, namespace)
    with Plugin(emulator.environment()) as later:
        emulator.clear_requests()
        later.delete(claim_id, outputs)
        later.of(ClaimNamespaceProvider).delete(namespace, {})
    # Without the first list there would be two of all claims, five seconds apart.
    assert [record.operation for record in emulator.requests()] == ["list", "delete", "get", "list"]


def test_the_end_of_a_stack_without_claims_says_that_it_waits(emulator: Emulator, namespace: str) -> None:
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "6.4s"}) as plugin:
        plugin.of(ClaimNamespaceProvider).delete(namespace, {})
        assert printed(plugin) == snapshot(
            "waiting 6 s before looking for claims that an interrupted create may have left behind: lists may not show them yet\n"
        )


def test_a_forced_replacement_of_the_namespace_keeps_the_stacks_claims(
    emulator: Emulator, plugin: Plugin, namespace: str
) -> None:
    claim_id, outputs = create(plugin, namespace)
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "1s"}) as later:
        later.diff(claim_id, outputs, claim_inputs(namespace))
        later.of(ClaimNamespaceProvider).delete(namespace, {})
    assert [claim.id for claim in emulator.live_claims()] == [claim_id]


def test_a_namespace_is_kept_if_the_api_refuses_to_list_claims(emulator: Emulator, namespace: str) -> None:
    emulator.set_faults([{"path": "list", "fail": {"code": "permission_denied", "message": "not yours"}}])
    with (
        Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "0"}) as plugin,
        pytest.raises(PluginError) as refused,
    ):
        plugin.of(ClaimNamespaceProvider).delete(namespace, {})
    assert plain(str(refused.value)) == snapshot("""\
looking for claims of this stack that its state does not hold failed: the token lacks the required role.
  permission_denied: not yours
  (<n> attempts, request id <request>)
  Next: use a token with the role Inference Admin, which may write; Inference Viewer may only read
        or set COREWEAVE_ORPHANS=leave to skip this check\
""")


def test_a_retained_claim_keeps_the_stack_from_ending_after_a_refresh_too(
    emulator: Emulator, namespace: str
) -> None:
    with Plugin(emulator.environment()) as plugin:
        claim_id, outputs = create(plugin, namespace)
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "0.5s"}) as plugin:
        plugin.read(claim_id, outputs)
        plugin.diff(claim_id, outputs, claim_inputs(namespace))
        with pytest.raises(PluginError, match=claim_id):
            plugin.of(ClaimNamespaceProvider).delete(namespace, {})
