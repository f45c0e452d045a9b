"""The claims in the states of stacks, read from export files or with the `pulumi` command.

Only what identifies a claim is read, and anything unexpected is ignored. Claims that a program only looks
up (`CapacityClaim.get`) are left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.identity import key_of, resource_name_of
from pulumi_coreweave_inference.inputs import DECLARATION, identity_of

from .console import CommandError, plural, printable, waiting_for

_NAMESPACE_TYPE: Final = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
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

    `pending_deletion` marks the old claim of an unfinished replacement.
    """

    stack: str
    urn: str
    claim_id: str
    key: str
    name: str | None = None
    pending_deletion: bool = False

    @property
    def resource_name(self) -> str:
        """The name of the Pulumi resource."""
        return resource_name_of(self.urn)


@dataclass(frozen=True)
class StackState:
    """A stack: the claims it manages, the namespaces of their ids, and the keys of interrupted creates.

    `stack` is its name or its file, as the user gave it.
    """

    stack: str
    entries: tuple[Entry, ...] = ()
    namespaces: tuple[str, ...] = ()
    interrupted: tuple[str, ...] = ()


def require_stacks(files: object, names: object, everything: bool, alternative: str = "") -> None:
    """Raise `CommandError` if no stack is given."""
    if not (files or names or everything):
        raise CommandError(
            f"specify the stacks to compare with: --stack, --state or --all-stacks{alternative}; "
            "without their states every claim looks unmanaged"
        )


def read_stacks(files: Sequence[Path], names: Sequence[str], everything: bool) -> list[StackState]:
    """The given stacks, each once. Raises `CommandError` if one of them cannot be read."""
    states = [_from_file(path) for path in dict.fromkeys(path.resolve() for path in files)]
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
    """Read the output of `pulumi stack export`. Raises ValueError for anything else."""
    export = json.loads(text)
    if not isinstance(export, dict) or "deployment" not in export:
        raise ValueError("it has no deployment")
    deployment = export["deployment"] if isinstance(export["deployment"], dict) else {}
    resources = list(_objects(deployment.get("resources")))
    namespaces = tuple(
        _text(each.get("id"))
        for each in resources
        if each.get("type") == _NAMESPACE_TYPE and not each.get("delete") and _is_uuid(each.get("id"))
    )
    interrupted = [
        key_of(_text(resource.get("urn")))
        for operation in _objects(deployment.get("pending_operations"))
        if operation.get("type") == "creating"
        and isinstance(resource := operation.get("resource"), dict)
        and resource.get("type") == TYPE
    ]
    return StackState(
        stack,
        entries=tuple(_entries(resources, stack)),
        namespaces=namespaces,
        interrupted=tuple(interrupted),
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
            pending_deletion=resource.get("delete") is True,
        )


def _from_file(path: Path) -> StackState:
    try:
        return read_export(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(f"{path} is not a stack export: {error}") from None


def _exported(name: str) -> StackState:
    text = _pulumi("stack", "export", f"--stack={name}")
    try:
        return read_export(text, name)
    except ValueError as error:
        raise CommandError(f"`pulumi stack export --stack {name}` did not print an export: {error}") from None


def _all_names() -> list[str]:
    text = _pulumi("stack", "ls", "--all", "--json")
    try:
        names = [_text(stack["name"]) for stack in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        raise CommandError("`pulumi stack ls --all --json` did not print a list of stacks") from None
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
    done = subprocess.run(  # noqa: S603 - a program from PATH with arguments of our own, and no shell
        [program, *arguments, "--non-interactive"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise CommandError(f"`pulumi {' '.join(arguments)}` failed: {printable(lines[-1])}")
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
