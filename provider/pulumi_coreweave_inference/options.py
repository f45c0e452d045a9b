"""Resource options that would have no effect on a claim, and the property paths that options may name.

Pulumi ignores a property path that matches nothing, so that a misspelled `ignore_changes` protects nothing.
Such options are errors instead. Pure functions over what the program has declared.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pulumi

from .errors import ClaimError, labelled, text
from .inputs import DECLARATION, IDENTITY, NAMESPACE, RESOURCE_FIELDS
from .mocks import REPORTED

KEPT: Final = ("organizationId", "createdAt", "updatedAt")
"""The properties that the API sets and the state keeps. What changes by itself is read live instead."""

_LEAF: Final[Mapping[str, Any]] = {}
_INDEX: Final = "[]"  # stands for any index
_RESOURCES: Final = dict.fromkeys(RESOURCE_FIELDS, _LEAF) | {"zones": {_INDEX: _LEAF}}
_INPUTS: Final[Mapping[str, Any]] = {
    "name": _LEAF,
    "resources": _RESOURCES,
    IDENTITY: {NAMESPACE: _LEAF, DECLARATION: _LEAF},
    "__provider": _LEAF,
}
_OUTPUTS: Final = ("name", "resources", *KEPT)
_LIVE: Final = (*REPORTED, "ready")
_PATHS: Final = ("name", "resources", *(f"resources.{name}" for name in RESOURCE_FIELDS))

# As the engine parses them: `resources.zones[0]`, `resources["instanceCount"]`, `*`.
_SEGMENT: Final = re.compile(r'(?:^|\.)([^.\[]+)|\.?\[(?:([0-9]+|\*)|"((?:\\"|[^"])+)")\]')


def refuse_void_options(resource_name: str, opts: pulumi.ResourceOptions) -> None:
    """Raise `ClaimError` if an option of a claim would have no effect."""
    for option in ("ignore_changes", "replace_on_changes", "additional_secret_outputs"):
        for path in getattr(opts, option, None) or ():
            found = _secret_problem(path) if option == "additional_secret_outputs" else _path_problem(path)
            if found is not None:
                raise _void(f"{labelled(resource_name, None)}: {option} names {path!r}, which", *found)
    if opts.import_:
        raise ClaimError(
            text(
                f"{labelled(resource_name, None)}: import_ cannot import a claim, because Pulumi cannot "
                "find out from an id alone which Python class provides it.",
                then=[f"run `capacity-claims import {shlex.quote(str(opts.import_))}` and follow its steps"],
            )
        )
    if then := list(_instead_of_timeouts(opts.custom_timeouts)):
        raise ClaimError(
            text(
                f"{labelled(resource_name, None)}: custom_timeouts has no effect on a claim, because Pulumi "
                "does not pass it on to the provider.",
                then=then,
            )
        )


def refuse_void_path(resource_name: str, path: str) -> None:
    """Raise `ClaimError` if a path of several parts names no input of a claim."""
    if ("." in path or "[" in path) and (found := _path_problem(path)) is not None:
        raise _void(f"{labelled(resource_name, None)}: a resource option names {path!r}, which", *found)


def covers(path: str, *names: str) -> bool:
    """Whether a path names a property, such as `"resources", "zones"`, or all of it, or a part of it."""
    segments = _segments(path) or []
    return bool(segments) and all(
        segment in ("*", name) for segment, name in zip(segments, names, strict=False)
    )


def _void(subject: str, problem: str, then: str) -> ClaimError:
    return ClaimError(text(f"{subject} {problem}.", then=[then]))


def _path_problem(path: object) -> tuple[str, str] | None:
    """Why a path names no input of a claim, and what to do."""
    segments = _segments(path) if isinstance(path, str) else None
    if segments is None:
        return "is not a property path", 'write it like "resources.instanceCount" or "resources.zones[0]"'
    if _matches(_INPUTS, segments):
        return None
    known = _respelled(str(path), _PATHS)
    return "is not an input of a claim", f'write "{known}"' if known else f"write one of {', '.join(_PATHS)}"


def _secret_problem(name: object) -> tuple[str, str] | None:
    """Why the state holds no output of this name, and what to do. Only whole properties can be secret."""
    if name in _OUTPUTS:
        return None
    if _respelled(str(name), _LIVE):
        return "is read live and is not in the state", "use pulumi.Output.secret() where the program uses it"
    whole = re.split(r"[.\[]", str(name))[0]
    known = _respelled(whole, _OUTPUTS)
    then = f'write "{known}"' if known else f"write one of {', '.join(_OUTPUTS)}"
    return "is not an output of a claim", then


def _segments(path: str) -> list[str] | None:
    """The names and indices of a path; None if it is not one."""
    segments, end = [], 0
    while end < len(path):
        found = _SEGMENT.match(path, end)
        if found is None or path[0] == ".":
            return None
        name, index, quoted = found.groups()
        segments.append(_INDEX if index and index != "*" else index or name or quoted.replace('\\"', '"'))
        end = found.end()
    return segments or None


def _matches(node: Mapping[str, Any], segments: list[str]) -> bool:
    if not segments:
        return True
    first, *rest = segments
    below = list(node.values()) if first == "*" else [node[first]] if first in node else []
    return any(_matches(each, rest) for each in below)


def _respelled(given: str, names: tuple[str, ...]) -> str:
    """The name that is meant, if only its spelling or the part before it differs; otherwise empty."""
    meant = _bare(given)
    return next((name for name in names if meant in (_bare(name), _bare(name.rpartition(".")[2]))), "")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _instead_of_timeouts(timeouts: object) -> Iterator[str]:
    given = timeouts if isinstance(timeouts, Mapping) else vars(timeouts) if timeouts else {}
    if given.get("create") or given.get("update"):
        yield "for create and update, set readiness=Readiness(timeout=…): how long `pulumi up` waits"
    if given.get("delete"):
        yield "for delete, set coreweave:deleteTimeout or COREWEAVE_DELETE_TIMEOUT"
    if given.get("read"):
        yield "for read, set coreweave:retryDeadline or COREWEAVE_RETRY_DEADLINE"
