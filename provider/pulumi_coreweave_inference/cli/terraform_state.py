"""What a Terraform or OpenTofu state, version 4, says about capacity claims.

Pure functions over the file's text. The zones in such a state are a sorted set, so that nothing but the
addresses and ids is taken from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

RESOURCE_TYPE: Final = "coreweave_inference_capacity_claim"
_VERSION: Final = 4
_STEP: Final = re.compile(r'module\.([^.\[]+)(?:\[(?:"((?:[^"\\]|\\.)*)"|([0-9]+))\])?\.?')


class NoTerraformState(ValueError):
    """The text is no state that can be read; the message says why."""


@dataclass(frozen=True)
class TerraformClaim:
    """A claim in the state.

    `address` is what Terraform calls it, `resource_name` what a Pulumi resource may be called. A tainted
    one was to be replaced by the next apply, a deposed one to be deleted.
    """

    address: str
    resource_name: str
    claim_id: str
    name: str
    tainted: bool = False
    deposed: bool = False


def read(text: str) -> list[TerraformClaim]:
    """All managed claims of the state, in the file's order. Raises `NoTerraformState`."""
    if not text.strip():
        raise NoTerraformState("it is empty")
    try:
        state = json.loads(text)
    except ValueError:
        raise NoTerraformState("it is not JSON") from None
    if not isinstance(state, dict):
        raise NoTerraformState("it is not a JSON object")
    if "encrypted_data" in state:
        raise NoTerraformState("it is encrypted; `tofu state pull` prints it in clear")
    version = state.get("version")
    if version != _VERSION:
        raise NoTerraformState(
            f"its version is {json.dumps(version)}, and only {_VERSION} is known; "
            "`terraform state pull` prints the present one"
        )
    return [claim for resource in _objects(state.get("resources")) for claim in _claims(resource)]


def _claims(resource: Mapping[str, Any]) -> Iterator[TerraformClaim]:
    if resource.get("mode") != "managed" or resource.get("type") != RESOURCE_TYPE:
        return
    module, name = str(resource.get("module") or ""), str(resource.get("name") or "")
    for instance in _objects(resource.get("instances")):
        attributes = instance.get("attributes")
        claim_id = attributes.get("id") if isinstance(attributes, dict) else None
        address = ".".join(part for part in (module, RESOURCE_TYPE, name) if part)
        index = instance.get("index_key")
        if index is not None:
            address += f"[{json.dumps(index, ensure_ascii=False)}]"
        if not isinstance(claim_id, str) or not claim_id:
            raise NoTerraformState(f"{address} has no id")
        yield TerraformClaim(
            address=address,
            resource_name="-".join(_parts(module, name, index)),
            claim_id=claim_id,
            name=str(attributes.get("name") or "") if isinstance(attributes, dict) else "",
            tainted=instance.get("status") == "tainted",
            deposed="deposed" in instance,
        )


def _parts(module: str, name: str, index: object) -> Iterator[str]:
    """`module.a["b"].TYPE.serving[0]` in words: a, b, serving, 0."""
    for step, key, number in _STEP.findall(module):
        yield step
        if key or number:
            yield key or number
    yield name
    if index is not None:
        yield str(index)


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))
