"""The packages as they are published, for the tests that need them.

Both are built and installed once a session: the tests that use them are in the group `wheels`, which one
worker runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

ROOT: Final = Path(__file__).resolve().parents[1]
EPOCH: Final = "1767225600"  # any fixed moment

Run = Callable[..., str]
Build = Callable[[Path, Path], Path]


def pytest_configure() -> None:
    """Let the processes under test be interrupted: what a shell starts in the background cannot be."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A busy machine is no fault: hypothesis would fail what it draws slowly.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command that has to succeed; what it printed."""

    def run(command: list[str], **options: object) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        shown: str = done.stdout + done.stderr
        return shown

    return run


@pytest.fixture(scope="session")
def build(run: Run) -> Build:
    """Build the wheel of a project into a folder."""

    def build(project: Path, into: Path) -> Path:
        run(
            [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)],
            cwd=project,
            env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
        )
        (wheel,) = into.glob("*.whl")
        return wheel

    return build


@pytest.fixture(scope="session")
def wheels(build: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, by folder."""
    return {folder: build(ROOT / folder, tmp_path_factory.mktemp("wheels")) for folder in ("sdk", "provider")}


@pytest.fixture(scope="session")
def install(
    run: Run, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Make a virtual environment with both wheels, the provider's with the extras given as in "[cli]"."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv" / "bin"))
    if uv is None:
        pytest.fail("there is no uv on PATH; run this with `make test`, which has one")

    def install(extras: str = "") -> Path:
        folder = tmp_path_factory.mktemp("installed")
        environment = folder / "venv"
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(locked()), encoding="utf-8")
        run([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, str(environment)])
        run(
            [
                *(uv, "pip", "install", "--quiet", "--no-config"),
                *("--python", str(environment / "bin" / "python"), "--constraint", str(constraints)),
                f"pulumi-coreweave-inference{extras} @ {wheels['provider'].as_uri()}",
                str(wheels["sdk"]),
            ]
        )
        return environment

    return install


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest) -> Path:
    """A virtual environment with both wheels and the extra `cli`, as a user has it; the matrix brings its own."""
    if brought := os.environ.get("INSTALLED_ENVIRONMENT"):
        return Path(brought)
    made: Path = request.getfixturevalue("install")("[cli]")
    return made


def locked() -> list[str]:
    """The versions of the lock file, so that what is installed is in the cache already."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    versions: dict[str, list[str]] = {}
    for package in packages:
        if "registry" in package["source"]:
            versions.setdefault(package["name"], []).append(package["version"])
    return [f"{name}=={found[0]}" for name, found in versions.items() if len(found) == 1]
