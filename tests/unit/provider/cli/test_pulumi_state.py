"""Exports of stacks: what is read from one, and that anything else is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pulumi_coreweave_inference.cli.json_model import InvalidJson
from pulumi_coreweave_inference.cli.pulumi_state import StackState, read_export

TYPE = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
NAMESPACE_TYPE = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
NAMESPACE = "3fbd2c6e-4f0b-4a33-9a3b-0d8e7b1f2c11"
MANIFEST = {"time": "2026-11-27T18:47:49.66370845Z", "magic": "ab35920a", "version": "v3.259.0"}


def resource(name: str, claim_id: str, **more: Any) -> dict[str, Any]:
    urn = f"urn:pulumi:prod::claims::acme:index:Team${TYPE}::{name}"
    return {"urn": urn, "custom": True, "id": claim_id, "type": TYPE} | more


OUTPUTS = {"name": "training-1", "identity": {"declaration": "some::key", "namespace": NAMESPACE}}
ENCRYPTED = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "x"}
EXPORT: dict[str, Any] = {
    "version": 3,
    "deployment": {
        "manifest": MANIFEST,
        "secrets_providers": {"type": "passphrase", "state": {"salt": "v1:x"}},
        "resources": [
            {
                "urn": "urn:pulumi:prod::claims::pulumi:pulumi:Stack::claims-prod",
                "custom": False,
                "type": "pulumi:pulumi:Stack",
            },
            {
                "urn": f"urn:pulumi:prod::claims::{NAMESPACE_TYPE}::claims",
                "custom": True,
                "id": NAMESPACE,
                "type": NAMESPACE_TYPE,
            },
            resource("training", "1", inputs={"name": None}, outputs=OUTPUTS),
            resource("training", "0", outputs=OUTPUTS, delete=True),
            resource("read", "2", external=True),
            resource("secret", "3", outputs={"name": ENCRYPTED, "identity": None}),
            {
                "urn": "urn:pulumi:prod::claims::aws:s3/bucket:Bucket::b",
                "custom": True,
                "id": "b",
                "type": "aws:s3/bucket:Bucket",
            },
        ],
        "pending_operations": [
            {"type": "creating", "resource": resource("lost", "")},
            {"type": "deleting", "resource": resource("training", "1")},
        ],
        "metadata": {},
    },
}


def test_an_export_yields_claims_namespaces_and_interrupted_creates() -> None:
    state = read_export(json.dumps(EXPORT), "prod")
    assert state.namespaces == (NAMESPACE,)
    assert state.interrupted == (f"acme:index:Team${TYPE}::lost",)
    assert [(e.claim_id, e.resource_name, e.name, e.pending_deletion, e.key) for e in state.entries] == [
        ("1", "training", "training-1", False, "some::key"),
        ("0", "training", "training-1", True, "some::key"),
        ("3", "secret", None, False, f"acme:index:Team${TYPE}::secret"),
    ]


@pytest.mark.parametrize("version", [3, 4])
def test_the_export_of_an_empty_stack_has_no_resources(version: int) -> None:
    """As the engine prints it after `pulumi stack init` and after `pulumi destroy`."""
    export = {"version": version, "deployment": {"manifest": MANIFEST, "metadata": {}}}
    assert read_export(json.dumps(export), "x") == StackState("x")


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


OTHERS: list[Any] = [None, "", "x", 0, 7, True, [], ["x"], [[]], {}, {"a": 1}]
REMOVED = object()


def variants() -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The export with one value replaced, or one key removed."""
    for path in places(EXPORT):
        for other in [*OTHERS, REMOVED] if path else OTHERS:
            if path == ("deployment", "resources") and other in (REMOVED, []):
                continue  # the export of an empty stack
            if path[-1:] == ("id",) and other == "x":
                continue  # the export of another claim
            if other is REMOVED and isinstance(path[-1], int):
                continue
            changed: Any = {"": copy.deepcopy(EXPORT)}
            *above, last = ("", *path)
            holder = changed
            for key in above:
                holder = holder[key]
            if other is REMOVED:
                del holder[last]
            else:
                holder[last] = other
            yield path, changed[""]


def test_a_damaged_export_is_refused_or_yields_the_same_claims() -> None:
    good = {entry.claim_id for entry in read_export(json.dumps(EXPORT), "x").entries}
    refused = accepted = 0
    for path, changed in variants():
        try:
            found = {entry.claim_id for entry in read_export(json.dumps(changed), "x").entries}
        except InvalidJson:
            refused += 1
        else:
            accepted += 1
            assert found >= good, path
    assert (refused > 300, accepted > 300) == (True, True)


def test_a_truncated_export_is_refused() -> None:
    text = json.dumps(EXPORT)
    for end in range(len(text)):
        with pytest.raises(InvalidJson, match=r"^it is (empty|not JSON: .*)$"):
            read_export(text[:end], "x")


def deployment(**changes: Any) -> str:
    return json.dumps({"version": 3, "deployment": {"manifest": MANIFEST} | changes})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("[" * 100_000, "it is not JSON that can be read: it is nested too deep"),
        ("[]", "it must be an object, not []"),
        ("{}", "it has no version"),
        ('{"version": 3}', "it has no deployment"),
        ('{"version": 2, "deployment": {"manifest": {}}}', "version must be 3 or 4, not 2"),
        ('{"version": true, "deployment": {"manifest": {}}}', "version must be 3 or 4, not true"),
        ('{"version": 3, "deployment": null}', "deployment must be an object, not null"),
        ('{"version": 3, "deployment": "x"}', 'deployment must be an object, not "x"'),
        ('{"version": 3, "deployment": []}', "deployment must be an object, not []"),
        ('{"version": 3, "deployment": {}}', "deployment: it has no resources and no manifest"),
        ('{"version": 3, "checkpoint": {"latest": {}}}', "it is a checkpoint file of a backend"),
        (deployment(resources=None), "deployment.resources must be a list, not null"),
        (deployment(resources={}), "deployment.resources must be a list, not {}"),
        (deployment(resources=["x"]), 'deployment.resources[0] must be an object, not "x"'),
        (deployment(resources=[resource("a", "1"), resource("b", "") | {"id": 7}]),
         "deployment.resources[1].id must be text, not 7"),
        (deployment(resources=[resource("a", "")]), "deployment.resources[0]: "),
        (deployment(resources=[resource("a", "1", type="aws:s3/bucket:Bucket")]),
         'deployment.resources[0]: the type is "aws:s3/bucket:Bucket" and the URN '),
        (deployment(resources=[resource("a", "1", urn="a")]), "deployment.resources[0]: the type is "),
        (deployment(resources=[resource("a", "1", external="no")]),
         'deployment.resources[0].external must be true or false, not "no"'),
        (deployment(pending_operations={}), "deployment.pending_operations must be a list, not {}"),
        (deployment(pending_operations=[{"type": "creating"}]),
         "it has no deployment.pending_operations[0].resource"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_export_is_said_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidJson) as refused:
        read_export(text, "x")
    assert str(refused.value).startswith(reason)
    assert "\n" not in str(refused.value)


NATIVE = "coreweave-inference:index:CapacityClaim"
NATIVE_PROVIDER = "pulumi:providers:coreweave-inference"
PROVIDER_ID = "1d5f1c35-2b1c-4f43-9a34-2a0c8c1f7e10"


def native(name: str, claim_id: str, type_: str = NATIVE, **more: Any) -> dict[str, Any]:
    urn = f"urn:pulumi:prod::claims::{type_}::{name}"
    return {"urn": urn, "custom": True, "id": claim_id, "type": type_} | more


def test_an_export_with_both_resources_yields_the_claims_of_both() -> None:
    outputs = {"name": "training-1", "identity": {"incarnation": "5f0a"}}
    text = deployment(
        resources=[
            native("capacity", PROVIDER_ID, NATIVE_PROVIDER, inputs={"namespace": NAMESPACE}),
            native("old", "04da6b54-80e4-46f7-96ec-b56ff0331ba8", NATIVE_PROVIDER, delete=True),
            native("not-yet", "[unknown]", NATIVE_PROVIDER, inputs={"namespace": ENCRYPTED}),
            native("training", "1", outputs=outputs, initErrors=["not ready"]),
            native("training", "0", outputs=outputs | {"name": ENCRYPTED}, delete=True),
            native("read", "2", external=True),
            resource("batch", "3", outputs=OUTPUTS),
        ],
        pending_operations=[{"type": "creating", "resource": native("lost", "")}],
    )
    state = read_export(text, "prod")
    urn = f"urn:pulumi:prod::claims::{NATIVE}"
    assert [(e.claim_id, e.native, e.key, e.name, e.pending_deletion) for e in state.entries] == [
        ("1", True, f"{urn}::training", "training-1", False),
        ("0", True, f"{urn}::training", None, True),
        ("3", False, "some::key", "training-1", False),
    ]
    assert state.namespaces == (NAMESPACE, PROVIDER_ID, "04da6b54-80e4-46f7-96ec-b56ff0331ba8")
    assert state.interrupted == (f"{urn}::lost",)
    assert state.native_prefix == "urn:pulumi:prod::claims"


@pytest.mark.parametrize(
    "wrong",
    [
        native("training", ""),
        native("capacity", " ", NATIVE_PROVIDER),
        native("training", "1") | {"type": "aws:s3/bucket:Bucket"},
        native("training", "1", "aws:s3/bucket:Bucket") | {"type": NATIVE},
        native("training", "1", urn="training"),
    ],
)
def test_a_damaged_native_claim_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidJson):
        read_export(deployment(resources=[wrong]), "x")
