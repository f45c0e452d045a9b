"""From claims that exist to what `pulumi import` reads and to the program that declares them.

Pure functions. What is written for a claim is what the provider itself would keep of it, so that the
program shows no change: the inputs as `check` returns them, the outputs as `create` returns them. The
stack's namespace is left out; it arrives with the first `up`.
"""

from __future__ import annotations

import builtins
import json
import keyword
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pulumi.dynamic.dynamic import serialize_provider

from coreweave_inference import CapacityClaim, ClaimState
from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.identity import key_of
from pulumi_coreweave_inference.inputs import DECLARATION, EXPLICIT_NAME, IDENTITY, normalize
from pulumi_coreweave_inference.provider import CapacityClaimProvider, outputs_of

ZONE_ORDER: Final = (
    "Terraform sends zones sorted: is this the order of preference? Another order replaces the claim."
)


@dataclass(frozen=True)
class Candidate:
    """A claim that is to be imported, and what its resource would best be called.

    `address` is where a Terraform state has it.
    """

    claim: CapacityClaim
    wanted: str
    address: str | None = None


@dataclass(frozen=True)
class Adoption:
    """A claim with the name of the resource it becomes.

    `declared_name` is None for a claim that this software made and named: then the program gives none
    either, and the old and the new claim of a replacement again have different names.
    """

    claim: CapacityClaim
    resource_name: str
    declared_name: str | None
    address: str | None = None

    @property
    def order_matters(self) -> bool:
        """Whether the order of the zones may not be the one somebody meant."""
        return self.address is not None and len(self.claim.resources.zones) > 1


def reported(claim: CapacityClaim) -> dict[str, Any]:
    """A claim as the outputs of a resource show it, and its id."""
    status = claim.status
    return {
        "id": claim.id,
        **outputs_of(claim, {}),
        "status": str(status.status),
        "allocatedInstances": status.allocated_instances,
        "pendingInstances": status.pending_instances,
        "conditions": [
            {
                "type": condition.type,
                "status": str(condition.status),
                "reason": condition.reason,
                "message": condition.message,
                "zone": condition.zone,
                "lastUpdateTime": condition.last_update_time,
            }
            for condition in status.conditions
        ],
    }


def candidate(claim: CapacityClaim) -> Candidate:
    """A claim that is called in the stack what it is called at the API, without digits of its id."""
    return Candidate(claim, own_name(claim) or claim.name or "claim")


def own_name(claim: CapacityClaim) -> str | None:
    """What a claim that this software has named was declared as: its name without the digits of its id."""
    digits = f"-{claim.id[:7]}"
    return claim.name.removesuffix(digits) or None if claim.name.endswith(digits) else None


def adopt(candidates: Iterable[Candidate], taken: Collection[str] = ()) -> list[Adoption]:
    """Each claim with a resource name of its own; `taken` are those that the stack has already.

    A name that several want is followed by as many digits of the claim's id as it takes.
    """
    used = set(taken)
    adoptions = []
    for each in candidates:
        name = next(name for name in _names(each) if name not in used)
        used.add(name)
        from_us = each.address is None and own_name(each.claim) is not None
        declared = None if from_us else each.claim.name
        adoptions.append(Adoption(each.claim, name, declared, each.address))
    return adoptions


def obstacles(claim: CapacityClaim) -> list[str]:
    """Why a program cannot declare the claim as it is; empty when it can."""
    if claim.state == ClaimState.DELETING:
        return ["it is being deleted"]
    _, problems = normalize({"resources": claim.resources.to_wire(), "name": claim.name})
    return [f"{problem.property}: {problem.reason}" for problem in problems]


def import_file(adoptions: Iterable[Adoption]) -> dict[str, Any]:
    """What `pulumi import --file` reads."""
    provider = {"__provider": serialize_provider(CapacityClaimProvider())}
    return {"resources": [_entry(adoption, provider) for adoption in adoptions]}


def program(adoptions: Sequence[Adoption]) -> str:
    """A Python program that declares the claims as they are."""
    lines = ["import pulumi", "import pulumi_coreweave_inference as inference"]
    variables: set[str] = {"pulumi", "inference"}
    for adoption in adoptions:
        lines += ["", *_declaration(adoption, _variable(adoption.resource_name, variables))]
    return "\n".join(lines) + "\n"


def _entry(adoption: Adoption, provider: dict[str, Any]) -> dict[str, Any]:
    claim = adoption.claim
    key = key_of(f"urn:pulumi:stack::project::{TYPE}::{adoption.resource_name}")
    declared, identity = adoption.declared_name, {DECLARATION: key}
    inputs, _ = normalize({"resources": claim.resources.to_wire(), "name": declared, IDENTITY: identity})
    outputs = outputs_of(claim, identity | ({EXPLICIT_NAME: True} if declared else {}))
    return {
        "type": TYPE,
        "name": adoption.resource_name,
        "id": claim.id,
        "inputs": inputs | provider,
        "outputs": outputs | provider,
    }


def _declaration(adoption: Adoption, variable: str) -> list[str]:
    resources = adoption.claim.resources
    zones = ", ".join(map(_quoted, resources.zones))
    return [
        f"{variable} = inference.CapacityClaim(",
        f"    {_quoted(adoption.resource_name)},",
        "    opts=pulumi.ResourceOptions(protect=True),",
        "    resources=inference.CapacityClaimResourcesArgs(",
        f"        instance_id={_quoted(resources.instance_id)},",
        f"        instance_count={resources.instance_count},",
        *([f"        # {ZONE_ORDER}"] if adoption.order_matters else []),
        f"        zones=[{zones}],",
        "    ),",
        *([f"    name={_quoted(adoption.declared_name)},"] if adoption.declared_name is not None else []),
        ")",
    ]


def _names(candidate: Candidate) -> Iterator[str]:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", candidate.wanted).strip("-") or "claim"
    yield name
    for digits in range(7, len(candidate.claim.id) + 1):
        yield f"{name}-{candidate.claim.id[:digits]}"
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _variable(name: str, used: set[str]) -> str:
    """A Python identifier for a resource, which no other resource has; it is added to `used`."""
    variable = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_").lower() or "claim"
    if variable[0].isdigit():
        variable = f"claim_{variable}"
    if keyword.iskeyword(variable) or keyword.issoftkeyword(variable) or hasattr(builtins, variable):
        variable += "_claim"
    free, number = variable, 2
    while free in used:
        free, number = f"{variable}_{number}", number + 1
    used.add(free)
    return free


def _quoted(text: str) -> str:
    """A Python string literal; JSON's literals of ASCII are such, too, and have the usual quotes."""
    return json.dumps(text) if text.isascii() else ascii(text)
