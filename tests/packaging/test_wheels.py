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
from email.message import Message
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = {"sdk": "coreweave_inference", "provider": "pulumi_coreweave_inference"}
EPOCH: Final = "1767225600"  # any fixed moment


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, by folder."""
    return {folder: build(ROOT / folder, tmp_path_factory.mktemp("wheels")) for folder in PACKAGES}


def build(project: Path, into: Path) -> Path:
    run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)],
        cwd=project,
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
    )
    (wheel,) = into.glob("*.whl")
    return wheel


def run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    shown: str = done.stdout + done.stderr
    return shown


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_wheel_built_elsewhere_and_later_is_the_same_to_the_byte(
    wheels: dict[str, Path], folder: str, tmp_path: Path
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


def test_the_installed_wheels_work_alone_without_and_with_the_extra(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv" / "bin"))
    if uv is None:
        pytest.fail("there is no uv on PATH; run this with `make test`, which has one")
    environment = tmp_path / "venv"
    python, command = str(environment / "bin" / "python"), str(environment / "bin" / "capacity-claims")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(locked()), encoding="utf-8")
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--no-config",
        "--python",
        python,
        "--constraint",
        str(constraints),
    ]
    run([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, str(environment)])

    run([*install, str(wheels["sdk"]), str(wheels["provider"])])
    shown = run([python, "-I", "-c", LOOK], cwd=tmp_path)
    assert str(environment.resolve()) in shown
    assert not {"starlette", "uvicorn", "typer", "rich"} & set(shown.split())
    told = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.endswith("install it with `pip install 'pulumi-coreweave-inference[cli]'`\n")
    assert "Traceback" not in told.stderr

    run([*install, f"pulumi-coreweave-inference[cli] @ {wheels['provider'].as_uri()}", str(wheels["sdk"])])
    assert "--allocation-delay" in run([command, "emulator", "--help"])

    # What a checker sees of the installed packages: every public type is known, and none is left to guess.
    activated = os.environ | {
        "VIRTUAL_ENV": str(environment),
        "PATH": f"{environment}/bin:{os.environ['PATH']}",
    }
    for package in PACKAGES.values():
        pyright = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal"]
        assert "Type completeness score: 100%" in run(pyright, cwd=tmp_path, env=activated)


LOOK: Final = """
import importlib.util, sys
import coreweave_inference, pulumi_coreweave_inference
from pulumi_coreweave_inference import CapacityClaim
print(coreweave_inference.__file__, pulumi_coreweave_inference.__file__, *sys.modules)
print(*(name for name in ("starlette", "typer") if importlib.util.find_spec(name)))
"""


def locked() -> list[str]:
    """The versions of the lock file, so that what is installed is in the cache already."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    versions: dict[str, list[str]] = {}
    for package in packages:
        if "registry" in package["source"]:
            versions.setdefault(package["name"], []).append(package["version"])
    return [f"{name}=={found[0]}" for name, found in versions.items() if len(found) == 1]
