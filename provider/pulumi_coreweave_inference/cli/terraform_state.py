"""The capacity claims in a Terraform or OpenTofu state, version 4.

Pure functions over the text of the file. Such a state stores zones as a sorted set, so only addresses, ids
and names are read from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from .json_model import InvalidJson, JsonModel, as_model, brief, parse_json

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
    try:
        state = parse_json(text)
        if isinstance(state, dict) and "encrypted_data" in state:
            raise InvalidTerraformState("it is encrypted; `tofu state pull` prints it decrypted")
        version = state.get("version") if isinstance(state, dict) else _VERSION
        if isinstance(version, bool) or version != _VERSION:
            raise InvalidTerraformState(
                f"its version is {brief(version)}, and only version {_VERSION} is supported; "
                "`terraform state pull` prints the current one"
            )
        resources = as_model(_State, state).resources
    except InvalidJson as error:
        raise InvalidTerraformState(str(error)) from None
    return [claim for resource in resources for claim in _claims(resource)]


class _Instance(JsonModel):
    attributes: dict[str, Any] | None = None
    index_key: str | int | None = None
    status: str = ""
    deposed: str | None = None


class _Resource(JsonModel):
    mode: Literal["managed", "data"]
    type: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    module: str = ""
    instances: list[_Instance]


class _State(JsonModel):
    resources: list[_Resource]


def _claims(resource: _Resource) -> Iterator[TerraformClaim]:
    if resource.mode != "managed" or resource.type != RESOURCE_TYPE:
        return
    for instance in resource.instances:
        attributes, index = instance.attributes or {}, instance.index_key
        claim_id, name = attributes.get("id"), attributes.get("name")
        address = ".".join(part for part in (resource.module, RESOURCE_TYPE, resource.name) if part)
        if index is not None:
            address += f"[{json.dumps(index, ensure_ascii=False)}]"
        if not isinstance(claim_id, str) or not claim_id:
            raise InvalidTerraformState(f"{address} has no id")
        yield TerraformClaim(
            address=address,
            resource_name="-".join(_name_parts(resource.module, resource.name, index)),
            claim_id=claim_id,
            name=name if isinstance(name, str) else "",
            tainted=instance.status == "tainted",
            deposed=instance.deposed is not None,
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
