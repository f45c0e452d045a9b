"""Where people keep their virtual environment: the provider finds its package."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stack import CommandFailed, Stack, claim

Start = Callable[..., Stack]
OWN = Path(sys.prefix)


def project(stack: Stack, folder: Path, options: str = "") -> None:
    """Move the stack's program to a folder, with these options of the runtime."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__main__.py").write_text((stack.folder / "__main__.py").read_text("utf-8"), encoding="utf-8")
    (folder / "claims.json").write_text(json.dumps({"training": claim()}), encoding="utf-8")
    runtime = f"{{name: python, options: {options}}}" if options else "python"
    (folder / "Pulumi.yaml").write_text(f"name: claims\nruntime: {runtime}\n", encoding="utf-8")
    stack.folder = folder


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "link", "below"),
    [
        ("{virtualenv: venv}", "venv", "."),
        ("{toolchain: uv}", ".venv", "."),
        ("{toolchain: uv, virtualenv: ../../.venv}", ".venv", "packages/capacity"),
        ("", "", "."),
    ],
    ids=[
        "pip and venv",
        "uv",
        "a workspace with one environment above",
        "an activated environment, as conda's",
    ],
)
def test_the_provider_finds_its_package(start: Start, options: str, link: str, below: str) -> None:
    stack = start()
    root = stack.folder
    if link:
        (root / link).symlink_to(OWN)
    else:
        stack.environment["PATH"] = path_with(OWN / "bin")
    project(stack, root / below, options)
    assert stack.up()["create"] == 3
    assert "the engine starts the provider" not in stack.output


@pytest.mark.thorough
def test_the_provider_is_found_with_poetry(start: Start, tmp_path: Path) -> None:
    stack = start()
    (tmp_path / "bin").mkdir()
    poetry = tmp_path / "bin" / "poetry"
    poetry.write_text(f'#!/bin/sh\n[ "$*" = "env info --path" ] && echo {OWN}\n', encoding="utf-8")
    poetry.chmod(0o755)
    stack.environment["PATH"] = path_with(tmp_path / "bin")
    project(stack, stack.folder, "{toolchain: poetry}")
    assert stack.up()["create"] == 3
    assert "the engine starts the provider" not in stack.output


@pytest.mark.thorough
def test_an_environment_that_only_uv_knows_is_named_with_what_to_set(start: Start, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(OWN)
    stack = start()
    stack.environment["UV_PROJECT_ENVIRONMENT"] = str(elsewhere)
    project(stack, stack.folder, "{toolchain: uv}")
    with pytest.raises(CommandFailed):
        stack.up()
    lacking = stack.folder / ".venv" / "bin" / "python"
    assert f"the engine starts the provider with {lacking}, which does not exist" in stack.output
    assert "Set runtime.options.virtualenv in Pulumi.yaml to" in stack.output
    project(stack, stack.folder, f"{{toolchain: uv, virtualenv: {elsewhere}}}")
    stack.up()
    assert len(stack.emulator.claims()) == 1


def path_with(programs: Path) -> str:
    """A PATH with the CLI and these programs first."""
    return os.pathsep.join([str(Path(shutil.which("pulumi") or "").parent), str(programs), "/usr/bin:/bin"])
