"""What stacks manage: the claims in their states, from export files or from the `pulumi` command.

Only what names a claim is read. Claims that a program merely reads (`CapacityClaim.get`) are left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.identity import key_of, resource_name_of
from pulumi_coreweave_inference.inputs import DECLARATION, identity_of

from .console import Failure, printable, waiting_for

_NAMESPACE_TYPE: Final = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
_AT_ONCE: Final = 4  # exports that run beside each other

StateFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--state",
        "--stack-export",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="A file that `pulumi stack export` wrote; may be repeated.",
    ),
]
StackNames = Annotated[
    list[str] | None,
    typer.Option(
        "--stack", metavar="NAME", help="A stack, read with `pulumi stack export`; may be repeated."
    ),
]
AllStacks = Annotated[
    bool, typer.Option("--all-stacks", help="All stacks of the backend that `pulumi` is logged in to.")
]


@dataclass(frozen=True)
class Entry:
    """A claim in the state of a stack. One that waits for its deletion is an old one of a replacement."""

    stack: str
    urn: str
    claim_id: str
    key: str
    name: str | None = None
    waits_for_deletion: bool = False

    @property
    def resource_name(self) -> str:
        """The name of the Pulumi resource."""
        return resource_name_of(self.urn)


@dataclass(frozen=True)
class StackState:
    """A stack: the claims it manages, the namespace their ids come from, and creates that were cut off.

    `stack` is what it was asked for as: its name, or a file.
    """

    stack: str
    entries: tuple[Entry, ...] = ()
    namespace: str | None = None
    cut_off: tuple[str, ...] = ()


def want_stacks(files: object, names: object, everything: bool, otherwise: str = "") -> None:
    """Raise `Failure` where no stack is given."""
    if not (files or names or everything):
        raise Failure(
            f"give the stacks to compare with: --stack, --state or --all-stacks{otherwise}; "
            "without a state every claim looks unmanaged"
        )


def read_stacks(files: Sequence[Path], names: Sequence[str], everything: bool) -> list[StackState]:
    """The states that are asked for, each once. Raises `Failure` when one of them cannot be read."""
    states = [_from_file(path) for path in dict.fromkeys(path.resolve() for path in files)]
    names = list(dict.fromkeys([*names, *(_all_names() if everything else ())]))
    with (
        waiting_for(f"the states of {len(names)} stacks from pulumi"),
        ThreadPoolExecutor(_AT_ONCE) as exports,
    ):
        return states + list(exports.map(_exported, names))


def read_export(text: str, stack: str) -> StackState:
    """What an export says. Raises ValueError when it is none."""
    export = json.loads(text)
    deployment = export.get("deployment") if isinstance(export, dict) else None
    if not isinstance(export, dict) or "deployment" not in export:
        raise ValueError("it has no deployment")
    deployment = deployment if isinstance(deployment, dict) else {}
    resources = list(_objects(deployment.get("resources")))
    namespaces = [
        _text(each.get("id"))
        for each in resources
        if each.get("type") == _NAMESPACE_TYPE and not each.get("delete") and _is_uuid(each.get("id"))
    ]
    cut_off = [
        _text(resource.get("urn"))
        for operation in _objects(deployment.get("pending_operations"))
        if operation.get("type") == "creating"
        and isinstance(resource := operation.get("resource"), dict)
        and resource.get("type") == TYPE
    ]
    return StackState(
        stack,
        entries=tuple(_entries(resources, stack)),
        namespace=namespaces[0] if namespaces else None,
        cut_off=tuple(key_of(urn) for urn in cut_off),
    )


def _entries(resources: Sequence[Mapping[str, Any]], stack: str) -> Iterator[Entry]:
    for resource in resources:
        claim_id = resource.get("id")
        if resource.get("type") != TYPE or resource.get("external") or not isinstance(claim_id, str):
            continue
        outputs = resource.get("outputs")
        outputs = outputs if isinstance(outputs, dict) else {}
        key, name = identity_of(outputs).get(DECLARATION), outputs.get("name")
        urn = _text(resource.get("urn"))
        yield Entry(
            stack=stack,
            urn=urn,
            claim_id=claim_id,
            key=key if isinstance(key, str) else key_of(urn),
            name=name if isinstance(name, str) else None,
            waits_for_deletion=resource.get("delete") is True,
        )


def _from_file(path: Path) -> StackState:
    try:
        return read_export(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise Failure(f"{path} is no stack export: {error}") from None


def _exported(name: str) -> StackState:
    text = _pulumi("stack", "export", f"--stack={name}")
    try:
        return read_export(text, name)
    except ValueError as error:
        raise Failure(f"what `pulumi stack export --stack {name}` prints is no export: {error}") from None


def _all_names() -> list[str]:
    text = _pulumi("stack", "ls", "--all", "--json")
    try:
        names = [_text(stack["name"]) for stack in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        raise Failure("what `pulumi stack ls --all --json` prints is no list of stacks") from None
    if not names:
        raise Failure(
            "the backend that pulumi is logged in to has no stack, and without a state every claim looks "
            "unmanaged; `pulumi whoami -v` tells which backend that is"
        )
    return names


def _pulumi(*arguments: str) -> str:
    program = shutil.which("pulumi")
    if program is None:
        raise Failure("there is no `pulumi` on PATH; give the state as a file: `pulumi stack export > FILE`")
    done = subprocess.run(  # noqa: S603 - a program from PATH with arguments of our own, and no shell
        [program, *arguments, "--non-interactive"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise Failure(f"`pulumi {' '.join(arguments)}` failed: {printable(said[-1])}")
    return done.stdout


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


def _is_uuid(value: object) -> bool:
    try:
        uuid.UUID(_text(value))
    except ValueError:
        return False
    return True


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
