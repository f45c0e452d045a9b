"""A stack does not end while a claim lives that it has made and that its state does not hold."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from inline_snapshot import snapshot
from support.plugin import ClaimNamespaceProvider, Plugin, PluginError, claim_inputs, plain

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator


def create(plugin: Plugin, namespace: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    return plugin.create(plugin.check({}, claim_inputs(namespace, **changes)).inputs)


def cut_off(emulator: Emulator, namespace: str, **resources: Any) -> str:
    """A claim that was posted by a process which died of it."""
    with Plugin(emulator.environment()) as plugin:
        claim_id, _ = create(plugin, namespace, **resources)
    return claim_id


def test_a_namespace_is_kept_while_a_claim_lives_that_the_state_does_not_hold(
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
the claim namespace is kept: 1 capacity claim of this stack is alive that its state does not hold.
  training-<digits> (id <id 1>): 4 of 4 gb200-4x instances, STATUS_READY
  Held: that claim; a creation that was cut off leaves one.
  Next: release it with `capacity-claims release --all-stacks <id 1>`, and run the same command again
        or, where somebody needs them (retained, moved to another stack), leave them alive: COREWEAVE_ORPHANS=leave\
""")
        assert {claim.id for claim in emulator.live_claims()} == {left, other}
        client.capacity_claims.delete(left)
        namespaces.delete(namespace, {})


def test_the_text_names_ten_claims_that_are_left_and_tells_how_many_more(
    emulator: Emulator, plugin: Plugin, namespace: str
) -> None:
    for index in range(12):
        create(plugin, namespace, key=f"{claim_inputs()['__key']}{index}")
    with Plugin(emulator.environment() | {"COREWEAVE_READ_GRACE": "0"}) as later:
        with pytest.raises(PluginError) as refused:
            later.of(ClaimNamespaceProvider).delete(namespace, {})
    assert "12 capacity claims of this stack are alive" in str(refused.value)
    assert "and 2 more" in str(refused.value)


def test_a_namespace_goes_where_claims_are_meant_to_live_on(emulator: Emulator, namespace: str) -> None:
    left = cut_off(emulator, namespace)
    with Plugin(emulator.environment() | {"COREWEAVE_ORPHANS": "leave"}) as plugin:
        plugin.of(ClaimNamespaceProvider).delete(namespace, {})
    assert [claim.id for claim in emulator.live_claims()] == [left]


def test_a_namespace_waits_for_reads_that_lag_behind_a_deletion(emulator: Emulator, namespace: str) -> None:
    left = cut_off(emulator, namespace)
    emulator.set_faults([{"path": "delete", "stale_reads": {"seconds": 1}}])
    with Client(emulator.token, endpoint=emulator.url) as client:
        client.capacity_claims.delete(left)
    with Plugin(emulator.environment()) as plugin:
        plugin.of(ClaimNamespaceProvider).delete(namespace, {})


def test_a_namespace_made_anew_by_force_lets_the_claims_of_the_stack_live(
    emulator: Emulator, plugin: Plugin, namespace: str
) -> None:
    claim_id, outputs = create(plugin, namespace)
    with Plugin(emulator.environment()) as later:
        later.diff(claim_id, outputs, claim_inputs(namespace))
        later.of(ClaimNamespaceProvider).delete(namespace, {})
    assert [claim.id for claim in emulator.live_claims()] == [claim_id]


def test_a_namespace_does_not_go_unless_the_api_tells_which_claims_live(
    emulator: Emulator, namespace: str
) -> None:
    emulator.set_faults([{"path": "list", "fail": {"code": "permission_denied", "message": "not yours"}}])
    with Plugin(emulator.environment()) as plugin, pytest.raises(PluginError) as refused:
        plugin.of(ClaimNamespaceProvider).delete(namespace, {})
    assert plain(str(refused.value)) == snapshot("""\
looking for claims of this stack that its state does not hold failed: the token may not do this.
  permission_denied: not yours
  (<n> attempts, request id <request>)
  Next: use a token with the role Inference Admin, which may write; Inference Viewer only reads
        or set COREWEAVE_ORPHANS=leave to let the stack end without having looked\
""")
