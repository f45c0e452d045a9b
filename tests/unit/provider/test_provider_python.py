from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pulumi_coreweave_inference import provider_python
from pulumi_coreweave_inference.provider_python import warning

OWN = {"PATH": str(Path(sys.executable).parent)}
LACKING = "cannot import pulumi_coreweave_inference (No module named 'pulumi')"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A virtual environment without any package."""
    venv.create(tmp_path / "bare", symlinks=True)
    return tmp_path / "bare"


def project(folder: Path, options: str = "", main: str = "") -> Path:
    runtime = f"{{name: python, options: {options}}}" if options else "python"
    (folder / "Pulumi.yaml").write_text(f"name: p\nruntime: {runtime}\n{main}", encoding="utf-8")
    return folder


def test_the_interpreter_of_the_program_is_not_tried(tmp_path: Path) -> None:
    def refuse(_: str) -> str:
        raise AssertionError

    beside = project(tmp_path, f"{{virtualenv: {sys.prefix}}}")
    assert warning(beside, beside, {"PATH": ""}, refuse) == ""
    assert warning(project(tmp_path), tmp_path, OWN, refuse) == ""
    assert warning(project(tmp_path), tmp_path, {"PULUMI_PYTHON_CMD": sys.executable}, refuse) == ""
    assert warning(project(tmp_path, "{toolchain: poetry}"), tmp_path, OWN, refuse) == ""


def test_another_interpreter_that_has_the_package_is_fine(tmp_path: Path) -> None:
    assert warning(project(tmp_path), tmp_path, {"PULUMI_PYTHON_CMD": "/opt/python"}, lambda _: "") == ""


def test_the_interpreter_that_lacks_the_package_is_named(tmp_path: Path, bare: Path) -> None:
    path = {"PATH": str(bare / "bin")}
    said = warning(project(tmp_path), tmp_path, path)
    assert said.startswith(f"the engine starts the provider with {bare}/bin/python3, which cannot import ")
    assert "(ModuleNotFoundError: No module named 'pulumi_coreweave_inference')" in said
    assert f"Set PULUMI_PYTHON_CMD={sys.executable} in the environment" in said
    inline = warning(None, tmp_path, path)
    assert inline.startswith("unless the workspace has a virtualenv option, or env_vars with")


def test_main_with_a_relative_virtual_environment_is_explained(tmp_path: Path) -> None:
    root = project(tmp_path, "{virtualenv: .venv}", "main: app\n")
    said = warning(root, tmp_path / "app", OWN)
    assert f"{tmp_path}/app/.venv/bin/python, which does not exist." in said
    assert "Put Pulumi.yaml into the program's folder instead, and omit `main`." in said


@pytest.mark.parametrize("options", ["{virtualenv: other}", "{toolchain: uv}"])
def test_a_project_that_names_another_environment_is_told(tmp_path: Path, options: str) -> None:
    said = warning(project(tmp_path, options), tmp_path, OWN, lambda _: LACKING)
    assert LACKING in said
    assert (
        f"Set runtime.options.virtualenv in Pulumi.yaml to the virtual environment that has the package: {sys.prefix}"
        in said
    )


@pytest.mark.parametrize("text", ["", "runtime: python", "runtime: [", "- a", "runtime: {options: 5}", "\0"])
def test_a_project_that_cannot_be_read_has_no_options(tmp_path: Path, text: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text(text, encoding="utf-8")
    assert warning(tmp_path, tmp_path, {"PATH": "/bare"}, lambda python: f"is {python}").startswith(
        "the engine starts the provider with python3, which is python3. Set PULUMI_PYTHON_CMD="
    )


def test_what_does_not_become_clear_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python3", 20)

    monkeypatch.setattr(provider_python.subprocess, "run", slow)
    assert warning(project(tmp_path), tmp_path, {"PULUMI_PYTHON_CMD": "/opt/python"}) == ""
