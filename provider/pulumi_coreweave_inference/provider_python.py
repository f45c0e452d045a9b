"""Says so when the engine starts the provider with a Python that lacks this package.

The engine runs the provider in a process of its own. Its script `pulumi-resource-pulumi-python` chooses the
interpreter from the options of the project and from the environment, which need not lead to the one that runs
the program. The engine's error then says neither which interpreter that is nor what to set.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from .foreign_text import Lines, in_lines

_PACKAGE: Final = __package__ or ""
_SECONDS: Final = 20.0  # for one import


def warning(
    root: Path | None,
    folder: Path,
    environment: Mapping[str, str],
    lacks: Callable[[str], str] | None = None,
) -> Lines:
    """What to tell the user; empty if the provider's interpreter has the package, or is not known.

    `root` holds Pulumi.yaml; `folder` is where the program runs. Without a root, the program is a function
    in the process of the Automation API, whose workspace may have options and variables not known here.
    """
    options = _options(root) if root else {}
    python = chosen(options, folder, environment)
    if python is None or _is_this(python):
        return in_lines("")
    lacking = (lacks or _lacks)(python)
    if not lacking:
        return in_lines("")
    what = f"the engine starts the provider with {python}, which {lacking}."
    if not _virtualenv(options):
        then = (
            f"Set PULUMI_PYTHON_CMD={sys.executable} in the environment, or activate the virtual environment."
        )
        if root is None:
            what = f"unless the workspace has a virtualenv option, or env_vars with PULUMI_PYTHON_CMD, {what}"
    elif root and root.resolve() != folder.resolve():
        then = (
            "With `main` in Pulumi.yaml, the engine looks for the provider's virtual environment in the "
            "program's folder. Put Pulumi.yaml into the program's folder instead, and omit `main`."
        )
    else:
        then = (
            "Set runtime.options.virtualenv in Pulumi.yaml to the virtual environment that has the package: "
            f"{sys.prefix} runs this program."
        )
    return in_lines(f"{what} {then}")


def chosen(options: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> str | None:
    """The interpreter that the engine's script runs; None if that is not known: with Poetry, on Windows."""
    if sys.platform == "win32":
        return None
    virtualenv = _virtualenv(options)
    if virtualenv:
        return str(folder / virtualenv / "bin" / "python")
    if options.get("toolchain") == "poetry":
        return None
    command = environment.get("PULUMI_PYTHON_CMD") or "python3"
    return shutil.which(command, path=environment.get("PATH")) or command


def _virtualenv(options: Mapping[str, Any]) -> str:
    return str(options.get("virtualenv") or (".venv" if options.get("toolchain") == "uv" else ""))


def _options(root: Path) -> Mapping[str, Any]:
    """The options of the project's runtime; empty where they cannot be read."""
    for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
        try:
            project = yaml.safe_load((root / name).read_text(encoding="utf-8"))
            options = project["runtime"]["options"]
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
            continue
        return options if isinstance(options, Mapping) else {}
    return {}


def _is_this(python: str) -> bool:
    """Whether it is in the same environment, virtual or not, as the one that runs the program."""
    return Path(python).parent.absolute() == Path(sys.executable).parent.absolute()


def _lacks(python: str) -> str:
    """What an interpreter lacks, in words; empty if it has the package, or if that does not become clear."""
    try:
        found = subprocess.run(  # noqa: S603 - the interpreter that the engine runs as well
            [python, "-c", f"import {_PACKAGE}"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return "does not exist"
    except (OSError, subprocess.SubprocessError):
        return ""
    if found.returncode == 0:
        return ""
    last = found.stderr.strip().rpartition("\n")[2]
    return f"cannot import {_PACKAGE} ({last})"
