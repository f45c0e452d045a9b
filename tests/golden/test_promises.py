"""Everything a state file or a script may rely on, as fixed values. See docs/reference/promises.md.

A test here that fails means that old states or scripts stop working: change the code, not the value.
"""

from __future__ import annotations

import base64
import pickle
import uuid
from collections.abc import Iterator

import pytest
from pulumi.dynamic.dynamic import serialize_provider
from support.plugin import Plugin

import pulumi_coreweave_inference as inference
from coreweave_inference import CapacityClaimResources
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference import lookups
from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.identity import Declaration, is_made_by, key_of
from pulumi_coreweave_inference.settings import SETTINGS

NAMESPACE = "8d0c4c0a-5b5e-4c6b-9a6f-1d2e3f405162"
DECLARATION = "pulumi-python:dynamic/capacityClaim:CapacityClaim::training"
RESOURCES = {
    "instanceId": "gb200-4x",
    "instanceCount": 4,
    "zones": ["US-WEST-04A", "US-EAST-04A"],
    "capacityType": "CAPACITY_TYPE_MANAGED",
}


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Emulator() as emulator, Plugin(emulator.environment()) as running:
        yield running


def test_provider_classes_pickle_to_known_bytes() -> None:
    known = {
        inference.CapacityClaimProvider: (
            "gASVRAAAAAAAAACMI3B1bHVtaV9jb3Jld2VhdmVfaW5mZXJlbmNlLnByb3ZpZGVylIwVQ2FwYWNpdHlDbGFpbVByb3"
            "ZpZGVylJOUKYGULg=="
        ),
        inference.ClaimNamespaceProvider: (
            "gASVRQAAAAAAAACMI3B1bHVtaV9jb3Jld2VhdmVfaW5mZXJlbmNlLnByb3ZpZGVylIwWQ2xhaW1OYW1lc3BhY2VQcm"
            "92aWRlcpSTlCmBlC4="
        ),
    }
    for provider, recorded in known.items():
        # The bytes in a state written by Python 3.11 to 3.13; a later pickle protocol may write others.
        assert isinstance(pickle.loads(base64.b64decode(recorded)), provider)
        assert isinstance(pickle.loads(base64.b64decode(serialize_provider(provider()))), provider)
        if pickle.DEFAULT_PROTOCOL == 4:
            assert serialize_provider(provider()) == recorded


def test_type_tokens() -> None:
    assert TYPE == "pulumi-python:dynamic/capacityClaim:CapacityClaim"
    tokens = [
        f"pulumi-python:{kind._resource_type_name}"
        for kind in (inference.CapacityClaim, inference.ClaimNamespace)
    ]
    assert tokens == [TYPE, "pulumi-python:dynamic/claimNamespace:ClaimNamespace"]


def test_state_keys_of_a_claim(plugin: Plugin) -> None:
    identity = {"namespace": NAMESPACE, "declaration": DECLARATION}
    inputs = plugin.check({}, {"name": "named", "resources": RESOURCES, "identity": identity}).inputs
    assert inputs == {"name": "named", "resources": RESOURCES, "identity": identity}
    claim_id, outputs = plugin.create(inputs)
    incarnation = outputs["identity"].pop("incarnation")
    times = {name: outputs.pop(name) for name in ("createdAt", "updatedAt")}
    assert outputs == {
        "name": "named",
        "resources": RESOURCES,
        "organizationId": "cw0a1b",
        "identity": identity | {"explicitName": True},
    }
    assert uuid.UUID(incarnation)
    assert all(isinstance(time, str) for time in times.values())
    _, refreshed, _ = plugin.read(claim_id, outputs | times)
    assert refreshed.keys() == outputs.keys() | times.keys()


def test_state_keys_of_a_claim_that_the_api_rewrites() -> None:
    with (
        Emulator(EmulatorSettings(zones_shown="sorted")) as emulator,
        Plugin(emulator.environment()) as plugin,
    ):
        identity = {"namespace": NAMESPACE, "declaration": DECLARATION}
        checked = plugin.check({}, {"resources": RESOURCES, "identity": identity})
        claim_id, outputs = plugin.create(checked.inputs)
        assert outputs["resources"] == RESOURCES
        assert outputs["identity"]["rewritten"] == ["zones"]
        _, read, _ = plugin.read(claim_id, outputs)
        assert read == outputs


def test_state_keys_of_a_claim_with_secret_inputs(plugin: Plugin) -> None:
    identity = {"namespace": NAMESPACE, "declaration": DECLARATION}
    secret = identity | {"secret": ["instanceCount"]}
    before = plugin.check({}, {"resources": RESOURCES, "identity": identity | {"secret": None}}).inputs
    assert before == {"resources": RESOURCES, "identity": identity}
    claim_id, outputs = plugin.create(before)
    marked = plugin.check(before, {"resources": RESOURCES, "identity": secret}).inputs
    assert marked["identity"] == secret
    assert plugin.diff(claim_id, outputs, marked).changes == "none"  # a state without the key
    changed = marked | {"resources": RESOURCES | {"instanceCount": 5}}
    assert plugin.update(claim_id, outputs, changed)["identity"]["secret"] == ["instanceCount"]


def test_claim_ids_are_derived_as_published() -> None:
    declared = Declaration(NAMESPACE, DECLARATION, CapacityClaimResources.model_validate(RESOURCES))
    assert declared.claim_id(0) == "fe7b505e-01bc-52ce-9a6f-1d2e3f405162"
    assert declared.claim_id(1) == "0d74b212-5bd0-5cf1-9a6f-1d2e3f405162"
    named = Declaration(NAMESPACE, DECLARATION, CapacityClaimResources.model_validate(RESOURCES), "named")
    assert named.claim_id(0) == "4a975a7b-c6c3-5f7b-9a6f-1d2e3f405162"
    assert declared.claim_name(declared.claim_id(0)) == "training-fe7b505"
    assert is_made_by(NAMESPACE, declared.claim_id(7))
    nested = f"urn:pulumi:prod::shop::acme:index:Team${TYPE}::training"
    assert key_of(nested) == f"acme:index:Team${DECLARATION}"


def test_lookup_tokens() -> None:
    assert (lookups.GET_CLAIM, lookups.GET_CLAIMS, lookups.GET_PARAMETERS) == (
        "coreweave:index:getCapacityClaim",
        "coreweave:index:getCapacityClaims",
        "coreweave:index:getCapacityClaimParameters",
    )


def test_names_of_settings() -> None:
    assert {setting.key: setting.variables for setting in SETTINGS} == {
        "token": ("COREWEAVE_API_TOKEN", "CW_API_TOKEN", "COREWEAVE_API_TOKEN_FILE"),
        "endpoint": ("COREWEAVE_API_ENDPOINT",),
        "httpTimeout": ("COREWEAVE_HTTP_TIMEOUT",),
        "retryDeadline": ("COREWEAVE_RETRY_DEADLINE",),
        "deleteTimeout": ("COREWEAVE_DELETE_TIMEOUT",),
        "readGrace": ("COREWEAVE_READ_GRACE",),
        "catalogueCheck": ("COREWEAVE_CATALOGUE_CHECK",),
        "patchableFields": (),
        "overwrite": ("COREWEAVE_OVERWRITE",),
        "orphans": ("COREWEAVE_ORPHANS",),
        "wait": ("COREWEAVE_WAIT",),
        "skippedCheckpoints": ("COREWEAVE_SKIPPED_CHECKPOINTS",),
    }
