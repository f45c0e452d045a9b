from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from pulumi_coreweave_inference.cli.terraform_state import (
    InvalidTerraformState,
    TerraformClaim,
    read_terraform_state,
)

DATA = Path(__file__).resolve().parents[3] / "data"
TYPE = "coreweave_inference_capacity_claim"


def state(*resources: dict[str, Any], **more: Any) -> str:
    return json.dumps({"version": 4, "resources": list(resources)} | more)


def resource(name: str, *instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mode": "managed", "type": TYPE, "name": name, "instances": list(instances)} | more


def instance(claim_id: str, index: object = None, **more: Any) -> dict[str, Any]:
    keyed = {} if index is None else {"index_key": index}
    return {"attributes": {"id": claim_id, "name": claim_id}} | keyed | more


def names(text: str) -> dict[str, str]:
    return {claim.address.replace(TYPE, "T"): claim.resource_name for claim in read_terraform_state(text)}


def test_the_state_of_the_real_provider_is_read() -> None:
    claims = read_terraform_state((DATA / "terraform.tfstate").read_text(encoding="utf-8"))
    assert [(claim.address, claim.resource_name, claim.claim_id, claim.name) for claim in claims] == snapshot(
        [
            (
                'coreweave_inference_capacity_claim.serving["eu"]',
                "serving-eu",
                "0846110d-e68c-408c-98a2-047316536c04",
                "serving-eu",
            ),
            (
                'coreweave_inference_capacity_claim.serving["us"]',
                "serving-us",
                "79504dc3-e7f7-47f6-bbe2-519ea1fd9e5d",
                "serving-us",
            ),
            (
                "coreweave_inference_capacity_claim.training",
                "training",
                "6ffb9fce-42ae-4638-add8-09ea8e43ce50",
                "training",
            ),
            (
                "module.evaluation.coreweave_inference_capacity_claim.this",
                "evaluation-this",
                "25d4bfa2-73c1-4d22-bc53-bd178cc82129",
                "evaluation",
            ),
        ]
    )


def test_resources_are_named_after_modules_count_and_for_each() -> None:
    text = state(
        resource("plain", instance("1")),
        resource("counted", instance("2", 0), instance("3", 1)),
        resource("keyed", instance("4", 'a"b\\c'), instance("5", "0")),
        resource("this", instance("6"), module='module.regions["eu.west"].module.team[2].module.gpu'),
        resource("this", instance("7", "x"), module='module.a["module.b"]'),
    )
    assert names(text) == snapshot(
        {
            "T.plain": "plain",
            "T.counted[0]": "counted-0",
            "T.counted[1]": "counted-1",
            'T.keyed["a\\"b\\\\c"]': 'keyed-a"b\\c',
            'T.keyed["0"]': "keyed-0",
            'module.regions["eu.west"].module.team[2].module.gpu.T.this': "regions-eu.west-team-2-gpu-this",
            'module.a["module.b"].T.this["x"]': "a-module.b-this-x",
        }
    )


def test_tainted_and_deposed_instances_are_marked() -> None:
    tainted, deposed, current = read_terraform_state(
        state(
            resource(
                "training",
                instance("1", status="tainted"),
                instance("2", deposed="byebye01"),
                instance("3"),
            )
        )
    )
    assert tainted == TerraformClaim(f"{TYPE}.training", "training", "1", "1", tainted=True)
    assert deposed.deposed
    assert not deposed.tainted
    assert not current.deposed
    assert not current.tainted


def test_other_resources_and_data_sources_are_ignored() -> None:
    assert (
        read_terraform_state(
            state(resource("a", instance("1"), mode="data"), resource("b", instance("2"), type="x"))
        )
        == []
    )
    assert read_terraform_state(state()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("{", "it is not JSON"),
        ("[]", "it must be an object, not []"),
        ('{"version": 3}', "its version is 3, and only version 4 is supported"),
        ("{}", "its version is null"),
        ('{"encrypted_data": "…", "version": 4}', "it is encrypted"),
        ('{"version": true}', "its version is true"),
        ('{"version": 4}', "it has no resources"),
        ('{"version": 4, "resources": {}}', "resources must be a list, not {}"),
        (state(resource("a", {}) | {"instances": {}}), "resources[0].instances must be a list, not {}"),
        (state(resource("a", mode="x")), 'resources[0].mode must be "managed" or "data", not "x"'),
        (state(resource("a") | {"type": None}), "resources[0].type must be text, not null"),
        (state(resource("a", {"attributes": []})), "resources[0].instances[0].attributes must be an object"),
        (state(resource("a", {"attributes": {"id": 7}})), f"{TYPE}.a has no id"),
        (state(resource("a", {"attributes": {}})), f"{TYPE}.a has no id"),
        (state(resource("a", {"attributes": None})), f"{TYPE}.a has no id"),
    ],
)
def test_an_unreadable_state_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidTerraformState) as refusal:
        read_terraform_state(text)
    assert reason in str(refusal.value)
