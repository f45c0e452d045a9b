"""The packages as published: what the wheels contain, and that an installed wheel works alone."""

from __future__ import annotations

import email
import hashlib
import os
import re
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
def test_a_wheel_built_elsewhere_and_later_has_the_same_bytes(
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
def test_a_wheel_holds_the_package_types_and_license_and_no_more(
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
def test_metadata_has_what_a_package_index_shows(wheels: dict[str, Path], folder: str) -> None:
    shown = metadata(wheels[folder])
    assert shown["License-Expression"] == "Apache-2.0"
    assert shown["Requires-Python"] == ">=3.11"
    assert "Not affiliated with CoreWeave" in shown["Summary"]
    assert "Typing :: Typed" in shown.get_all("Classifier", [])
    page = str(shown.get_payload())
    assert "```python" in page
    assert not re.findall(r"\]\((?!https://|#)[^)]*\)", page), (
        "relative links lead nowhere on a package index"
    )


def test_project_links_follow_from_the_repository_address(
    wheels: dict[str, Path],
    build: Callable[[Path, Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REPOSITORY_URL", "https://git.example/owner/repository/")
    for folder in PACKAGES:
        (tmp_path / folder).mkdir()
        shown = metadata(build(ROOT / folder, tmp_path / folder)).get_all("Project-URL", [])
        links = dict(link.split(", ") for link in shown)
        assert list(links) == ["Homepage", "Documentation", "Source", "Changelog", "Issues"]
        assert all(link.startswith("https://git.example/owner/repository") for link in links.values())
        assert metadata(wheels[folder]).get_all("Project-URL") is None


@pytest.mark.parametrize("page", ["docs/index.md", "CHANGELOG.md"])
def test_project_links_lead_to_files_that_exist(page: str) -> None:
    hooks = {(ROOT / folder / "hatch_build.py").read_text(encoding="utf-8") for folder in PACKAGES}
    assert len(hooks) == 1
    assert f"{{repository}}/blob/HEAD/{page}" in hooks.pop()
    assert (ROOT / page).is_file()


def test_the_extras_are_the_documented_ones(wheels: dict[str, Path]) -> None:
    assert metadata(wheels["sdk"]).get_all("Provides-Extra") == ["emulator"]
    assert metadata(wheels["provider"]).get_all("Provides-Extra") == ["cli"]


def test_the_provider_requires_the_client_of_its_minor_version(
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


def test_both_packages_carry_the_repository_license() -> None:
    texts = {(ROOT / folder / "LICENSE").read_bytes() for folder in (".", *PACKAGES)}
    assert len(texts) == 1


def test_both_packages_have_the_newest_version_of_the_changelog(wheels: dict[str, Path]) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## (\S+) ", changelog, re.MULTILINE)[0]
    assert {metadata(wheel)["Version"] for wheel in wheels.values()} == {newest}


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_a_version_is_written_in_one_place(folder: str, package: str) -> None:
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"]
    assert "version" not in project
    module = (ROOT / folder / package / "_version.py").read_text(encoding="utf-8")
    assert module.count("__version__ = ") == 1


def test_the_wheels_work_without_the_cli_extra_and_name_it(
    install: Callable[..., Path], run: Callable[..., str], tmp_path: Path
) -> None:
    environment = install()
    shown = run([str(environment / "bin" / "python"), "-I", "-c", LOOK], cwd=tmp_path)
    assert str(environment.resolve()) in shown
    assert not {"starlette", "uvicorn", "typer", "rich"} & set(shown.split())
    command = str(environment / "bin" / "capacity-claims")
    refused = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.endswith("install it with `pip install 'pulumi-coreweave-inference[cli]'`\n")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("package", PACKAGES.values())
def test_every_public_type_of_an_installed_wheel_is_known(
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
