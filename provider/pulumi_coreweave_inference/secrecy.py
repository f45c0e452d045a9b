"""What the program marks as secret, and texts that leave it unsaid.

The engine keeps secrets out of the state and its own displays, but it gives them to the provider in clear and
does not say which they are. So the program sends the names of its secret inputs with the identity of the
claim, and every text about the claim shows `[secret]` in their place, as Pulumi does.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pulumi

from coreweave_inference.errors import ApiError, CoreweaveError

from .inputs import RESOURCE_FIELDS, SECRET, Problem, api_spelling, identity_of, program_spelling

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources

UNSAID: Final = "[secret]"
"""What stands in place of a secret."""

Secrets = Collection[str]
"""The secret inputs of a claim, in the API's spelling: `name` and the fields of `resources`."""

_RULES: Final = {
    "name": "must be 1 to 100 lower-case letters, digits and dashes, and begin and end with a letter or "
    "digit",
    "resources": "must be a CapacityClaimResourcesArgs or a dict",
    "resources.instance_id": "must be an instance type that the zones offer",
    "resources.instance_count": "must be a whole number between 0 and 4294967295",
    "resources.zones": "must be a list of different zones that the API offers",
    "resources.capacity_type": "must be the only type that the API accepts",
}
_Error = TypeVar("_Error", bound=CoreweaveError)


async def are_secret(**inputs: object) -> Secrets:
    """Which of these inputs are secret."""
    return frozenset([name for name, value in inputs.items() if await _is_secret(value)])


async def secrets_among(resources: object, name: object) -> list[str] | None:
    """The secret inputs of a declaration; None if there are none."""
    inputs = _inputs(resources, name)
    return [field for field, value in inputs.items() if await _is_secret(value)] or None


def may_hold_secrets(resources: object, name: object) -> bool:
    """Whether any input is an output: only an output can be secret."""
    return any(map(_holds_an_output, _inputs(resources, name).values()))


def secrets_of(props: Mapping[str, Any]) -> Secrets:
    """The secret inputs of a claim, as its inputs or outputs in the state name them."""
    named = identity_of(props).get(SECRET)
    return frozenset(named) if isinstance(named, list) else frozenset()


def unless_secret(value: object, field: str, secrets: Secrets) -> str:
    """The text of a value, unless its field is secret."""
    return UNSAID if field in secrets else str(value)


def allocation_of(claim: CapacityClaim, secrets: Secrets = ()) -> str:
    """How many instances are allocated, in a few words: "2 of 4 gb200-4x"."""
    resources = claim.resources
    allocated = unless_secret(claim.status.allocated_instances, "instanceCount", secrets)
    count = unless_secret(resources.instance_count, "instanceCount", secrets)
    return f"{allocated} of {count} {unless_secret(resources.instance_id, 'instanceId', secrets)}"


def held_resources(claim: CapacityClaim, secrets: Secrets = ()) -> str:
    """What a claim reserves, in a few words."""
    return f"{allocation_of(claim, secrets)} instances, {claim.state}"


def described(resources: CapacityClaimResources, secrets: Secrets = ()) -> str:
    """What is declared and where, in a few words."""
    return (
        f"{unless_secret(resources.instance_count, 'instanceCount', secrets)} "
        f"{unless_secret(resources.instance_id, 'instanceId', secrets)} in "
        f"{unless_secret(', '.join(resources.zones), 'zones', secrets)} "
        f"({unless_secret(resources.capacity_type, 'capacityType', secrets)})"
    )


def without_secrets(problem: Problem, secrets: Secrets) -> Problem:
    """A problem of a declaration; of a secret input only the rule that it breaks."""
    path = problem.property.partition("[")[0]
    about = {"instanceId", "zones"} if path in ("resources.instance_id", "resources.zones") else {
        field for field in (*RESOURCE_FIELDS, "name")
        if path in ("resources", field, f"resources.{program_spelling(field)}")
    }  # fmt: skip
    if not about & set(secrets) or path not in _RULES:
        return problem
    return Problem(path, f"is secret and not valid: it {_RULES[path]}")


def unsaid(error: _Error, secrets: Secrets, resources: CapacityClaimResources, name: str | None) -> _Error:
    """An error of the API without the secrets of the claim that its texts quote."""
    values: list[str] = [name] if name and "name" in secrets else []
    for field, held in (
        ("instanceId", [resources.instance_id]),
        ("instanceCount", [str(resources.instance_count)]),
        ("zones", list(resources.zones)),
        ("capacityType", [str(resources.capacity_type)]),
    ):
        values += held if field in secrets else []
    return without_values(error, values)


def without_words(error: _Error) -> _Error:
    """An error without the API's own words, which may say any secret."""
    if not isinstance(error, ApiError):
        return error
    redacted = copy.copy(error)
    redacted.message, redacted.violations = "", ()
    return redacted


def without_values(error: _Error, values: Collection[str]) -> _Error:
    """An error of the API whose texts do not quote these values."""
    values = [value for value in values if value]
    if not isinstance(error, ApiError) or not values:
        return error
    quoted = re.compile("|".join(rf"(?<!\w){re.escape(value)}(?!\w)" for value in values))
    redacted = copy.copy(error)
    redacted.message = quoted.sub(UNSAID, error.message)
    redacted.violations = tuple(
        each._replace(description=quoted.sub(UNSAID, each.description)) for each in error.violations
    )
    return redacted


def _inputs(resources: object, name: object) -> dict[str, object]:
    """The inputs of a declaration by their names at the API."""
    fields: Mapping[str, object]
    if isinstance(resources, pulumi.Output):
        fields = dict.fromkeys(RESOURCE_FIELDS, resources)
    elif isinstance(resources, Mapping):
        fields = api_spelling(resources)
    else:
        fields = {field: getattr(resources, program_spelling(field), None) for field in RESOURCE_FIELDS}
    return {"name": name, **{field: fields.get(field) for field in RESOURCE_FIELDS}}


def _holds_an_output(value: object) -> bool:
    return isinstance(value, pulumi.Output) or (
        isinstance(value, (list, tuple)) and any(map(_holds_an_output, value))
    )


async def _is_secret(value: object) -> bool:
    if isinstance(value, pulumi.Output):
        return await value.is_secret()
    if isinstance(value, (list, tuple)):
        return any([await _is_secret(part) for part in value])
    return False
