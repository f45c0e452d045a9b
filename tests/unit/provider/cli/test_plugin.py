"""`capacity-claims plugin install`: the wrapper where the engine looks for the plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.cli.app import app

FILE = f"plugins/resource-coreweave-inference-v{__version__}/pulumi-resource-coreweave-inference"


def install() -> Result:
    return CliRunner().invoke(app, ["plugin", "install"])


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "pulumi home"
    monkeypatch.setenv("PULUMI_HOME", str(home))
    monkeypatch.setenv("PATH", "")
    return home


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def test_the_wrapper_is_written_once_and_replaces_a_different_one(home: Path) -> None:
    wrapper = home / FILE
    first = install()
    assert (first.exit_code, first.stdout) == (0, f"{wrapper}\n")
    assert f"coreweave-inference {__version__} is installed. It runs with {sys.executable}" in first.stderr
    content = wrapper.read_bytes()
    assert "is already installed." in install().stderr
    wrapper.write_text("another plugin")
    wrapper.chmod(0o600)
    (wrapper.parent.parent / f"{wrapper.parent.name}.partial").touch()
    assert "is installed, and replaces what the file held." in install().stderr
    assert wrapper.read_bytes() == content
    assert wrapper.stat().st_mode & 0o777 == 0o755
    assert files(home) == [FILE]


@pytest.mark.skipif(sys.platform == "win32", reason="the wrapper is a shell script")
def test_the_wrapper_runs_the_module_with_this_python_and_all_arguments(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the path of the Python, and whatever modules lie in the folder of the program."""
    python = tmp_path / 'it\'s a "$HOME" `venv`' / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert install().exit_code == 0
    done = subprocess.run([home / FILE, "127.0.0.1:1", "a b"], capture_output=True, text=True, check=True)
    module = "pulumi_coreweave_inference.native"
    assert done.stdout.splitlines() == ["-P", "-m", module, "127.0.0.1:1", "a b"]


def test_without_a_pulumi_home_the_folder_is_in_the_home_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PULUMI_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert install().exit_code == 0
    assert files(tmp_path) == [f".pulumi/{FILE}"]


def test_a_home_that_cannot_be_written_is_named(home: Path) -> None:
    home.write_text("a file")
    result = install()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"capacity-claims: the plugin cannot be written to {(home / FILE).parent}: Not a directory\n"
        "  Next: set PULUMI_HOME to a folder that you may write to, here and for `pulumi`\n"
    )


def test_a_folder_in_the_place_of_the_wrapper_is_named_and_nothing_is_left(home: Path) -> None:
    (home / FILE).mkdir(parents=True)
    result = install()
    assert (result.exit_code, str(home / FILE) in result.stderr) == (2, True)
    assert files(home) == []


@pytest.mark.skipif("PULUMI_ENGINE_DIR" not in os.environ, reason="needs an engine")
def test_the_engine_lists_the_plugin(home: Path) -> None:
    assert install().exit_code == 0
    pulumi = Path(os.environ["PULUMI_ENGINE_DIR"]) / "pulumi"
    done = subprocess.run([pulumi, "plugin", "ls", "--json"], capture_output=True, text=True, check=True)
    (listed,) = json.loads(done.stdout)
    assert (listed["name"], listed["kind"], listed["version"]) == (
        "coreweave-inference",
        "resource",
        __version__,
    )
