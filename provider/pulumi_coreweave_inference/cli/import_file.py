"""Turn existing claims into the input of `pulumi import` and the program that declares them.

Pure functions. Both hold exactly what the provider would keep of a claim, the inputs as `check` returns
them and the outputs as `create` returns them, so that a preview shows no change. The namespace of the stack
is left out: the first `pulumi up` adds it.
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
from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.identity import key_of
from pulumi_coreweave_inference.inputs import DECLARATION, EXPLICIT_NAME, IDENTITY, normalize
from pulumi_coreweave_inference.provider import CapacityClaimProvider, outputs_of

from .tokens import NATIVE

ZONE_ORDER: Final = (
    "Terraform sorts zones: check that this is the order you prefer. A new order replaces the claim."
)


@dataclass(frozen=True)
class Candidate:
    """A claim to import and the preferred name of its resource.

    `address` is its address in a Terraform state, if it comes from one.
    """

    claim: CapacityClaim
    preferred_name: str
    address: str | None = None


@dataclass(frozen=True)
class ImportEntry:
    """A claim and the name of the resource it becomes.

    `declared_name` is None for a claim that the provider created and named. The program then declares no
    name either, so that a replacement can give the new claim another one.
    """

    claim: CapacityClaim
    resource_name: str
    declared_name: str | None
    address: str | None = None

    @property
    def zone_order_uncertain(self) -> bool:
        """Whether the order of the zones may not be the intended one."""
        return self.address is not None and len(self.claim.resources.zones) > 1


def candidate(claim: CapacityClaim) -> Candidate:
    """A claim whose resource is named like the claim, without the digits of its id."""
    return Candidate(claim, generated_from(claim) or claim.name or "claim")


def generated_from(claim: CapacityClaim) -> str | None:
    """The resource name from which the provider generated the claim's name; None for any other name."""
    digits = f"-{claim.id[:7]}"
    return claim.name.removesuffix(digits) or None if claim.name.endswith(digits) else None


def assign_names(candidates: Iterable[Candidate], taken: Collection[str] = ()) -> list[ImportEntry]:
    """Give each claim a unique resource name that is not `taken` in the stack.

    A name that is already used gets as many digits of the claim's id as it needs to be unique.
    """
    used = set(taken)
    entries = []
    for each in candidates:
        name = next(name for name in _names(each) if name not in used)
        used.add(name)
        generated = each.address is None and generated_from(each.claim) is not None
        entries.append(ImportEntry(each.claim, name, None if generated else each.claim.name, each.address))
    return entries


def import_problems(claim: CapacityClaim) -> list[str]:
    """Why a program cannot declare the claim as it is; empty if it can."""
    if claim.state == ClaimState.DELETING:
        return ["it is being deleted"]
    _, problems = normalize({"resources": claim.resources.to_wire(), "name": claim.name})
    return [f"{problem.property}: {problem.reason}" for problem in problems]


def import_file(entries: Iterable[ImportEntry]) -> dict[str, Any]:
    """The JSON that `pulumi import --file` reads."""
    provider = {"__provider": serialize_provider(CapacityClaimProvider())}
    return {"resources": [_resource(entry, provider) for entry in entries]}


def native_import_file(entries: Iterable[ImportEntry]) -> dict[str, Any]:
    """The same for the native resource, of which `pulumi import` asks the provider for everything else.

    The version is that of the plugin, so that the claims get the default provider of an SDK of this version.
    """
    return {
        "resources": [
            {"type": NATIVE, "name": entry.resource_name, "id": entry.claim.id, "version": __version__}
            for entry in entries
        ]
    }


def program(entries: Sequence[ImportEntry]) -> str:
    """A Python program that declares the claims as they are."""
    lines = ["import pulumi", "import pulumi_coreweave_inference as inference"]
    variables: set[str] = {"pulumi", "inference"}
    for entry in entries:
        lines += ["", *_statement(entry, _variable(entry.resource_name, variables))]
    return "\n".join(lines) + "\n"


def _resource(entry: ImportEntry, provider: dict[str, Any]) -> dict[str, Any]:
    claim = entry.claim
    key = key_of(f"urn:pulumi:stack::project::{TYPE}::{entry.resource_name}")
    declared, identity = entry.declared_name, {DECLARATION: key}
    inputs, _ = normalize({"resources": claim.resources.to_wire(), "name": declared, IDENTITY: identity})
    outputs = outputs_of(claim, identity | ({EXPLICIT_NAME: True} if declared else {}))
    return {
        "type": TYPE,
        "name": entry.resource_name,
        "id": claim.id,
        "inputs": inputs | provider,
        "outputs": outputs | provider,
    }


def _statement(entry: ImportEntry, variable: str) -> list[str]:
    resources = entry.claim.resources
    zones = ", ".join(map(_literal, resources.zones))
    return [
        f"{variable} = inference.CapacityClaim(",
        f"    {_literal(entry.resource_name)},",
        "    opts=pulumi.ResourceOptions(protect=True),",
        "    resources=inference.CapacityClaimResourcesArgs(",
        f"        instance_id={_literal(resources.instance_id)},",
        f"        instance_count={resources.instance_count},",
        *([f"        # {ZONE_ORDER}"] if entry.zone_order_uncertain else []),
        f"        zones=[{zones}],",
        "    ),",
        *([f"    name={_literal(entry.declared_name)},"] if entry.declared_name is not None else []),
        ")",
    ]


def _names(candidate: Candidate) -> Iterator[str]:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", candidate.preferred_name).strip("-") or "claim"
    yield name
    for digits in range(7, len(candidate.claim.id) + 1):
        yield f"{name}-{candidate.claim.id[:digits]}"
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _variable(name: str, used: set[str]) -> str:
    """A Python identifier for a resource that is not in `used` yet, and now is."""
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


def _literal(text: str) -> str:
    """A Python string literal. For ASCII, JSON's is one too, and has the usual double quotes."""
    return json.dumps(text) if text.isascii() else ascii(text)
