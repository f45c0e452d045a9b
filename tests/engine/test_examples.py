"""Every example runs as it stands, in its folder: preview, up, nothing left to do, destroy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from support.stack import ROOT

from coreweave_inference.emulator import Emulator, EmulatorSettings

EXAMPLES: Final = ROOT / "examples"
OUTPUTS: Final[dict[str, dict[str, Any]]] = {
    "fleet": {"allocated": 10},
    "gate": {"allocated": 4, "replicas": 4},
    "teams": {"allocated": {"research": 10, "speech": 4}},
    "unit-tests": {"allocated": 4},
}
INSTANCES: Final = {"fleet": [3, 7], "gate": [4], "teams": [2, 4, 8], "unit-tests": [4]}

Run = Callable[..., str]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorSettings(allocation_delay=0.3)) as emulator:
        yield emulator


@pytest.fixture
def environment(tmp_path: Path, emulator: Emulator) -> dict[str, str]:
    """The variables of the CLI: a home and a backend of its own, and the emulator."""
    (tmp_path / "state").mkdir()
    return os.environ | {
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": (tmp_path / "state").as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_SKIP_CONFIRMATIONS": "true",
        **emulator.environment(),
    }


@pytest.fixture
def pulumi(environment: dict[str, str]) -> Iterator[Callable[[Path], Run]]:
    """The CLI in a folder, with a stack of its own whose config file is removed again."""
    stack = f"test-{os.getpid()}"
    used: list[Path] = []

    def of(folder: Path) -> Run:
        used.append(folder)

        def run(*arguments: str) -> str:
            done = subprocess.run(
                ["pulumi", *arguments, "--stack", stack],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (
                f"{folder.name}: pulumi {' '.join(arguments)}\n{done.stdout}{done.stderr}"
            )
            return done.stdout

        return run

    yield of
    for folder in used:
        (folder / f"Pulumi.{stack}.yaml").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "name",
    [
        "fleet",
        *(pytest.param(name, marks=pytest.mark.thorough) for name in sorted(OUTPUTS) if name != "fleet"),
    ],
)
def test_an_example_goes_up_has_nothing_left_to_do_and_comes_down(
    pulumi: Callable[[Path], Run], emulator: Emulator, name: str
) -> None:
    run = pulumi(EXAMPLES / name)
    run("stack", "init")
    run("preview")
    assert emulator.claims() == []
    run("up", "--yes", "--skip-preview")
    outputs = json.loads(run("stack", "output", "--json"))
    assert outputs == outputs | OUTPUTS[name]
    assert sorted(claim.instance_count for claim in emulator.claims()) == INSTANCES[name]
    run("preview", "--expect-no-changes")
    run("destroy", "--yes", "--skip-preview")
    assert emulator.claims() == []


def test_the_unit_tests_of_the_example_pass_without_an_api() -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COREWEAVE_", "PYTEST_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=EXAMPLES / "unit-tests",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_automation_example_reserves_scales_and_releases(
    environment: dict[str, str], emulator: Emulator
) -> None:
    environment["PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK"] = "true"

    def reserve(*arguments: str) -> str:
        script = [sys.executable, str(EXAMPLES / "automation" / "reserve.py"), *arguments]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    created = reserve("2").splitlines()
    assert set(created[:-2]) <= {"training: waiting, 0/2"}
    assert created[-2] == "training: ready, 2/2"
    (claim,) = emulator.claims()
    assert created[-1] == f"claim {claim.id}: 2 instances are ready"
    scaled = reserve("3")
    assert scaled.endswith(f"training: ready, 3/3\nclaim {claim.id}: 3 instances are ready\n")
    assert reserve("--release") == ""
    assert emulator.claims() == []


def test_every_example_has_a_readme_and_is_run_here() -> None:
    folders = {path.parent.name for path in EXAMPLES.glob("*/Pulumi.yaml")}
    elsewhere = {"ci-review", "go", "typescript", "yaml"}  # these have tests of their own
    assert folders - elsewhere == set(OUTPUTS)
    assert all((EXAMPLES / folder / "README.md").read_text(encoding="utf-8") for folder in folders)
