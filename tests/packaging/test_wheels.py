"""The packages as they are published: what is in the wheels, and that an installed one works alone."""

from __future__ import annotations

import email
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = {"sdk": "coreweave_inference", "provider": "pulumi_coreweave_inference"}

pytestmark = pytest.mark.xdist_group("wheels")


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_wheel_built_elsewhere_and_later_is_the_same_to_the_byte(
    wheels: dict[str, Path], build: Callable[[Path, Path], Path], folder: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(ROOT / folder, elsewhere, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    for path in elsewhere.rglob("*"):
        os.utime(path, (2_000_000_000, 2_000_000_000))
    (tmp_path / "out").mkdir()
    again = build(elsewhere, tmp_path / "out")
    assert again.name == wheels[folder].name
    assert digest(again) == digest(wheels[folder])


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_a_wheel_holds_the_package_its_types_its_license_and_nothing_else(
    wheels: dict[str, Path], folder: str, package: str
) -> None:
    with zipfile.ZipFile(wheels[folder]) as archive:
        names = set(archive.namelist())
    info = {name for name in names if name.startswith(f"{package}-") and ".dist-info/" in name}
    modules = {
        f"{package}/{path.relative_to(ROOT / folder / package)}" for path in python_files(folder, package)
    }
    assert f"{package}/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in info)
    assert {name for name in names - info if name.endswith(".py")} == modules
    assert all(name.startswith(f"{package}/") for name in names - info)


def python_files(folder: str, package: str) -> list[Path]:
    return list((ROOT / folder / package).rglob("*.py"))


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_metadata_says_what_a_package_index_shows(wheels: dict[str, Path], folder: str) -> None:
    shown = metadata(wheels[folder])
    assert shown["License-Expression"] == "Apache-2.0"
    assert shown["Requires-Python"] == ">=3.11"
    assert "Not affiliated with CoreWeave" in shown["Summary"]
    assert "Typing :: Typed" in shown.get_all("Classifier", [])
    assert shown.get_payload()


def test_the_extras_are_the_documented_ones(wheels: dict[str, Path]) -> None:
    assert metadata(wheels["sdk"]).get_all("Provides-Extra") == ["emulator"]
    assert metadata(wheels["provider"]).get_all("Provides-Extra") == ["cli"]


def test_the_provider_wants_the_client_of_the_same_minor_version_from_the_index(
    wheels: dict[str, Path],
) -> None:
    version = metadata(wheels["sdk"])["Version"]
    minor = ".".join(version.split(".")[:2])
    required = metadata(wheels["provider"]).get_all("Requires-Dist", [])
    assert f"coreweave-inference~={minor}.0" in required
    with zipfile.ZipFile(wheels["provider"]) as archive:
        texts = [archive.read(name).decode(errors="replace") for name in archive.namelist()]
    for place in (str(ROOT), "file://", "workspace = true"):
        assert not [text for text in texts if place in text]


def test_the_licenses_in_the_packages_are_the_one_of_the_repository() -> None:
    texts = {(ROOT / folder / "LICENSE").read_bytes() for folder in (".", *PACKAGES)}
    assert len(texts) == 1


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_package_project_file_and_changelog_name_the_same_version(folder: str, package: str) -> None:
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = (ROOT / folder / package / "_version.py").read_text(encoding="utf-8")
    assert f'__version__ = "{project["version"]}"' in module
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {project['version']} " in changelog


def test_the_installed_wheels_work_alone_and_say_what_the_command_lacks(
    install: Callable[..., Path], run: Callable[..., str], tmp_path: Path
) -> None:
    environment = install()
    shown = run([str(environment / "bin" / "python"), "-I", "-c", LOOK], cwd=tmp_path)
    assert str(environment.resolve()) in shown
    assert not {"starlette", "uvicorn", "typer", "rich"} & set(shown.split())
    command = str(environment / "bin" / "capacity-claims")
    told = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.endswith("install it with `pip install 'pulumi-coreweave-inference[cli]'`\n")
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("package", PACKAGES.values())
def test_a_checker_finds_every_public_type_of_an_installed_wheel_known(
    installed: Path, run: Callable[..., str], package: str, tmp_path: Path
) -> None:
    activated = os.environ | {
        "VIRTUAL_ENV": str(installed),
        "PATH": f"{installed}/bin:{os.environ['PATH']}",
    }
    pyright = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal"]
    assert "Type completeness score: 100%" in run(pyright, cwd=tmp_path, env=activated)


LOOK: Final = """
import importlib.util, sys
import coreweave_inference, pulumi_coreweave_inference
from pulumi_coreweave_inference import CapacityClaim
print(coreweave_inference.__file__, pulumi_coreweave_inference.__file__, *sys.modules)
print(*(name for name in ("starlette", "typer") if importlib.util.find_spec(name)))
"""
