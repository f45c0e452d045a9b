"""The capacity claims in a Terraform or OpenTofu state, version 4.

Pure functions over the text of the file. Such a state stores zones as a sorted set, so only addresses, ids
and names are read from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

RESOURCE_TYPE: Final = "coreweave_inference_capacity_claim"
_VERSION: Final = 4
_MODULE: Final = re.compile(r'module\.([^.\[]+)(?:\[(?:"((?:[^"\\]|\\.)*)"|([0-9]+))\])?\.?')


class InvalidTerraformState(ValueError):
    """The text is not a state that can be read; the message says why."""


@dataclass(frozen=True)
class TerraformClaim:
    """A claim in the state.

    `address` is Terraform's name for it, `resource_name` a name for the Pulumi resource. The next apply
    would replace a tainted claim, and delete a deposed one.
    """

    address: str
    resource_name: str
    claim_id: str
    name: str
    tainted: bool = False
    deposed: bool = False


def read_terraform_state(text: str) -> list[TerraformClaim]:
    """All managed claims of the state, in the order of the file. Raises `InvalidTerraformState`."""
    if not text.strip():
        raise InvalidTerraformState("it is empty")
    try:
        state = json.loads(text)
    except ValueError:
        raise InvalidTerraformState("it is not JSON") from None
    if not isinstance(state, dict):
        raise InvalidTerraformState("it is not a JSON object")
    if "encrypted_data" in state:
        raise InvalidTerraformState("it is encrypted; `tofu state pull` prints it decrypted")
    version = state.get("version")
    if version != _VERSION:
        raise InvalidTerraformState(
            f"its version is {json.dumps(version)}, and only version {_VERSION} is supported; "
            "`terraform state pull` prints the current one"
        )
    return [claim for resource in _objects(state.get("resources")) for claim in _claims(resource)]


def _claims(resource: Mapping[str, Any]) -> Iterator[TerraformClaim]:
    if resource.get("mode") != "managed" or resource.get("type") != RESOURCE_TYPE:
        return
    module, name = str(resource.get("module") or ""), str(resource.get("name") or "")
    for instance in _objects(resource.get("instances")):
        attributes = instance.get("attributes")
        attributes = attributes if isinstance(attributes, dict) else {}
        claim_id, index = attributes.get("id"), instance.get("index_key")
        address = ".".join(part for part in (module, RESOURCE_TYPE, name) if part)
        if index is not None:
            address += f"[{json.dumps(index, ensure_ascii=False)}]"
        if not isinstance(claim_id, str) or not claim_id:
            raise InvalidTerraformState(f"{address} has no id")
        yield TerraformClaim(
            address=address,
            resource_name="-".join(_name_parts(module, name, index)),
            claim_id=claim_id,
            name=str(attributes.get("name") or ""),
            tainted=instance.get("status") == "tainted",
            deposed="deposed" in instance,
        )


def _name_parts(module: str, name: str, index: object) -> Iterator[str]:
    """The names in `module.a["b"].TYPE.serving[0]`: a, b, serving, 0."""
    for step, key, number in _MODULE.findall(module):
        yield step
        if key or number:
            yield key or number
    yield name
    if index is not None:
        yield str(index)


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))
