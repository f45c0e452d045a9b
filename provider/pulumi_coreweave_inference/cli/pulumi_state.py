"""The claims in the states of stacks, read from export files or with the `pulumi` command.

Only what identifies a claim is read, but whatever is not a complete export is refused: a claim that is missed
here may be released as unmanaged. Claims that a program only looks up (`CapacityClaim.get`) are left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeGuard

import typer
from pydantic import Field, model_validator

from coreweave_inference._text_files import decode_text
from pulumi_coreweave_inference.identity import key_of, resource_name_of
from pulumi_coreweave_inference.inputs import DECLARATION, NAMESPACE, identity_of

from .console import CommandError, plural, read_text, waiting_for
from .json_model import InvalidJson, JsonModel, as_model, parse_json
from .tokens import CLAIMS, DYNAMIC_NAMESPACE, NATIVE, NATIVE_PROVIDER

_NAMED: Final = CLAIMS | {DYNAMIC_NAMESPACE, NATIVE_PROVIDER}
_PARALLEL_EXPORTS: Final = 4

StateFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--state",
        "--stack-export",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Compare with the output of `pulumi stack export` in this file. Repeatable.",
    ),
]
StackNames = Annotated[
    list[str] | None,
    typer.Option(
        "--stack",
        metavar="NAME",
        help="Compare with this stack, read with `pulumi stack export`. Repeatable.",
    ),
]
AllStacks = Annotated[
    bool, typer.Option("--all-stacks", help="Compare with all stacks of the current Pulumi backend.")
]


@dataclass(frozen=True)
class Entry:
    """A claim in the state of a stack.

    `key` is what the id of a claim that is created for the resource is computed from: the whole URN for the
    native resource (`native`). `pending_deletion` marks the old claim of an unfinished replacement.
    `organization` is empty if the state does not say it.
    """

    stack: str
    urn: str
    claim_id: str
    key: str
    name: str | None = None
    pending_deletion: bool = False
    native: bool = False
    organization: str = ""

    @property
    def resource_name(self) -> str:
        """The name of the Pulumi resource."""
        return resource_name_of(self.urn)


@dataclass(frozen=True)
class StackState:
    """A stack: the claims it manages, the namespaces of their ids, and the keys of interrupted creates.

    `stack` is its name or its file, as the user gave it. `native_prefix` begins the keys of the native
    resource: the stack and the project of a URN, or empty if the state has no provider of that resource.
    """

    stack: str
    entries: tuple[Entry, ...] = ()
    namespaces: tuple[str, ...] = ()
    interrupted: tuple[str, ...] = ()
    native_prefix: str = ""


def require_stacks(files: object, names: object, everything: bool, alternative: str = "") -> None:
    """Raise `CommandError` if no stack is given."""
    if not (files or names or everything):
        raise CommandError(
            f"specify the stacks to compare with: --stack, --state or --all-stacks{alternative}; "
            "without their states every claim looks unmanaged"
        )


def read_stacks(files: Sequence[Path], names: Sequence[str], everything: bool) -> list[StackState]:
    """The given stacks, each once. Raises `CommandError` if one of them cannot be read."""
    states = [_from_file(path) for path in dict.fromkeys(Path(os.path.realpath(path)) for path in files)]
    names = list(dict.fromkeys([*names, *(_all_names() if everything else ())]))
    with (
        waiting_for(f"pulumi to export {plural(len(names), 'stack')}"),
        ThreadPoolExecutor(_PARALLEL_EXPORTS) as exports,
    ):
        return states + list(exports.map(_exported, names))


def managed_by(stacks: Iterable[StackState]) -> dict[str, Entry]:
    """The first entry of each managed claim, by claim id."""
    managed: dict[str, Entry] = {}
    for stack in stacks:
        for entry in stack.entries:
            managed.setdefault(entry.claim_id, entry)
    return managed


def read_export(text: str, stack: str) -> StackState:
    """Read the output of `pulumi stack export`. Raises `InvalidJson` for anything else."""
    given = parse_json(text)
    if isinstance(given, dict) and "checkpoint" in given and "deployment" not in given:
        raise InvalidJson("it is a checkpoint file of a backend; `pulumi stack export` prints an export")
    deployment = as_model(_Export, given).deployment
    claims = [each for each in deployment.resources if each.type in CLAIMS and not each.external]
    interrupted = [
        each.resource
        for each in deployment.pending_operations
        if each.type == "creating" and each.resource.type in CLAIMS
    ]
    native = [
        each.urn
        for each in (*deployment.resources, *interrupted)
        if each.type in (NATIVE, NATIVE_PROVIDER) and each.urn.count("::") > 1
    ]
    return StackState(
        stack,
        entries=tuple(each.entry(stack) for each in claims),
        namespaces=tuple(
            dict.fromkeys(space for each in deployment.resources for space in each.namespaces())
        ),
        interrupted=tuple(each.key() for each in interrupted),
        native_prefix="::".join(native[0].split("::")[:2]) if native else "",
    )


class _Resource(JsonModel):
    urn: Annotated[str, Field(min_length=1)]
    type: Annotated[str, Field(min_length=1)]
    id: str = ""
    delete: bool = False
    external: bool = False
    inputs: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """The URN repeats the type: `urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME`."""
        parts = self.urn.split("::", 3)
        in_urn = parts[2].rpartition("$")[2] if len(parts) == 4 else ""
        if {self.type, in_urn} & _NAMED and self.type != in_urn:
            raise ValueError(f"the type is {json.dumps(self.type)} and the URN {json.dumps(self.urn)}")
        return self

    def entry(self, stack: str) -> Entry:
        name, organization = self.outputs.get("name"), self.outputs.get("organizationId")
        return Entry(
            stack=stack,
            urn=self.urn,
            claim_id=self.id,
            key=self.key(),
            name=name if isinstance(name, str) else None,
            pending_deletion=self.delete,
            native=self.type == NATIVE,
            organization=organization if isinstance(organization, str) else "",
        )

    def key(self) -> str:
        """What the id of a claim that is created for this resource is computed from."""
        if self.type == NATIVE:
            return self.urn
        key = identity_of(self.outputs).get(DECLARATION)
        return key if isinstance(key, str) else key_of(self.urn)

    def namespaces(self) -> list[str]:
        """The namespaces of claims that this resource stands for.

        An old provider of the native resource may have claims as well, and so may a provider before its
        `namespace` was set.
        """
        if self.type == DYNAMIC_NAMESPACE:
            return [self.id] if not self.delete and _is_uuid(self.id) else []
        if self.type != NATIVE_PROVIDER:
            return []
        return [each for each in (self.inputs.get(NAMESPACE), self.id) if _is_uuid(each)]


class _Managed(_Resource):
    @model_validator(mode="after")
    def _has_id(self) -> Self:
        if self.type in _NAMED and not self.id.strip():
            raise ValueError(f"{json.dumps(self.urn)} has no id")
        return self


class _PendingOperation(JsonModel):
    type: Annotated[str, Field(min_length=1)]
    resource: _Resource


class _Deployment(JsonModel):
    manifest: dict[str, Any] = Field(default_factory=dict)
    resources: list[_Managed] = Field(default_factory=list)
    pending_operations: list[_PendingOperation] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        """The export of an empty stack has a manifest and no resources."""
        if not self.model_fields_set & {"manifest", "resources"}:
            raise ValueError("it has no resources and no manifest")
        return self


class _Export(JsonModel):
    version: Literal[3, 4]
    deployment: _Deployment


class _Listed(JsonModel):
    name: Annotated[str, Field(min_length=1)]


class _Listing(JsonModel):
    stacks: list[_Listed]


def _from_file(path: Path) -> StackState:
    text = read_text(path, "a stack export")
    try:
        return read_export(text, str(path))
    except InvalidJson as error:
        raise CommandError(f"{path} is not a stack export: {error}") from None


def _exported(name: str) -> StackState:
    text = _pulumi("stack", "export", f"--stack={name}")
    try:
        return read_export(text, name)
    except InvalidJson as error:
        raise CommandError(f"`pulumi stack export --stack {name}` did not print an export: {error}") from None


def _all_names() -> list[str]:
    text = _pulumi("stack", "ls", "--all", "--json")
    try:
        names = [stack.name for stack in as_model(_Listing, {"stacks": parse_json(text)}).stacks]
    except InvalidJson as error:
        raise CommandError(
            f"`pulumi stack ls --all --json` did not print a list of stacks: {error}"
        ) from None
    if not names:
        raise CommandError(
            "the current Pulumi backend has no stacks, so that every claim looks unmanaged; "
            "run `pulumi whoami -v` to see which backend it is"
        )
    return names


def _pulumi(*arguments: str) -> str:
    program = shutil.which("pulumi")
    if program is None:
        raise CommandError(
            "`pulumi` is not on PATH; run `pulumi stack export > FILE` elsewhere and use --state FILE"
        )
    # Text in UTF-8, whatever the locale.
    try:
        done = subprocess.run(  # noqa: S603 - a program from PATH with arguments of our own, and no shell
            [program, *(_argument(each) for each in arguments), "--non-interactive"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            errors = done.stderr.decode("utf-8", "replace").splitlines()
            lines = [line for line in errors if line.strip()] or ["no reason given"]
            raise CommandError(f"`pulumi {' '.join(arguments)}` failed: {lines[-1]}")
        return decode_text(done.stdout)
    except (OSError, ValueError) as error:
        raise CommandError(f"`pulumi {' '.join(arguments)}` failed: {error}") from None


def _argument(text: str) -> str | bytes:
    return text if sys.platform == "win32" else text.encode("utf-8", "surrogateescape")


def _is_uuid(value: object) -> TypeGuard[str]:
    try:
        uuid.UUID(str(value))
    except ValueError:
        return False
    return isinstance(value, str)
