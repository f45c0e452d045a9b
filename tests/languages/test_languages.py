"""The native plugin under YAML, TypeScript and Go: the same life of a claim, on the real engine.

YAML has its language host. The other two run as inline programs of the Automation API, which need none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from support.native import write_plugin
from support.stack import BACKWARD, FORWARD, ROOT

import coreweave_inference as api
from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference._version import __version__

pytestmark = [pytest.mark.languages, pytest.mark.timeout(600)]

HERE: Final = ROOT / "tests" / "languages"
EXAMPLES: Final = ROOT / "examples"
STEPS: Final = ("up", "up", "refresh", "scale", "reorder", "import", "up", "destroy")


def run(folder: Path, *command: str | Path, environment: dict[str, str] | None = None) -> str:
    """What a command that has to succeed printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    """The compilers and the engine; `make languages` says where the engine is."""
    for program in ("go", "npm"):
        if not shutil.which(program):
            pytest.fail(f"{program} is not on PATH")
    if not (directory := os.environ.get("PULUMI_ENGINE_DIR")):
        pytest.fail("set PULUMI_ENGINE_DIR to what `make engine` prints, or run `make languages`")
    os.environ["PATH"] = f"{directory}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorSettings(allocation_delay=0.3)) as emulator:
        yield emulator


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder with the plugin's executable."""
    folder = tmp_path / "plugin"
    write_plugin(folder)
    return folder


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


def typescript() -> list[str | Path]:
    """The program in TypeScript, compiled."""
    folder = HERE / "typescript"
    run(folder, "npm", "ci", "--no-audit", "--no-fund")
    run(folder, "npm", "run", "build")
    return ["node", folder / "bin" / "main.js"]


def golang() -> list[str | Path]:
    """The program in Go, compiled."""
    folder = HERE / "go"
    run(folder, "go", "build", "-o", "bin/inline", ".")
    return [folder / "bin" / "inline"]


Report = dict[str, Any]  # what a program prints of one step


@pytest.fixture(params=[("nodejs", typescript), ("go", golang)], ids=["typescript", "go"])
def inline(
    request: pytest.FixtureRequest, environment: dict[str, str], plugin: Path, tmp_path: Path
) -> Callable[..., list[Report]]:
    """Take the stack of an inline program through steps, with more variables of the environment."""
    runtime, build = request.param
    program = build()
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(
        f"name: inline\nruntime: {runtime}\n"
        f"plugins:\n  providers:\n    - {{name: coreweave-inference, path: {plugin}}}\n",
        encoding="utf-8",
    )

    def take(*steps: str, **variables: str) -> list[Report]:
        given = environment | {"FOLDER": str(folder)} | variables
        printed = run(tmp_path, *program, *steps, environment=given)
        return [json.loads(line) for line in printed.splitlines()]

    return take


def test_a_claim_lives_its_life_in_an_inline_program(
    inline: Callable[..., list[Report]], emulator: Emulator
) -> None:
    with api.Client(emulator.token, endpoint=emulator.url) as client:
        held = client.capacity_claims.create(
            "imported",
            api.CapacityClaimResources(
                instance_id="gb200-4x",
                instance_count=2,
                zones=["US-WEST-04A"],
                capacity_type=api.CapacityType.MANAGED,
            ),
        )
    reports = inline(*STEPS, IMPORT_ID=held.id)
    assert [report["step"] for report in reports] == list(STEPS)
    created, same, refreshed, scaled, replaced, imported, after, destroyed = reports

    assert created["changes"]["create"] >= 1
    assert created["outputs"]["status"] == "STATUS_READY"
    assert (created["outputs"]["allocated"], created["outputs"]["zones"]) == (4, FORWARD)
    assert set(same["changes"]) == set(refreshed["changes"]) == set(after["changes"]) == {"same"}
    assert scaled["changes"]["update"] == 1
    old = scaled["outputs"]
    assert old["claimId"] == created["outputs"]["claimId"], "a scaling has replaced the claim"
    assert scaled["outputs"]["allocated"] == 6
    assert replaced["changes"]["replace"] == 1
    assert replaced["outputs"]["claimId"] != scaled["outputs"]["claimId"]
    assert replaced["outputs"]["zones"] == BACKWARD
    log = [(each.method, str(each.path)) for each in emulator.requests()]
    gone = next(at for at, call in enumerate(log) if call[0] == "DELETE" and old["claimId"] in call[1])
    seen = [call for call in log[:gone] if call[0] == "GET" and replaced["outputs"]["claimId"] in call[1]]
    assert seen, "the old claim was released before the new one was seen"
    assert imported["changes"]["import"] == 1
    assert destroyed["changes"]["delete"] >= 2
    assert emulator.live_claims() == []


def test_a_claim_that_is_not_ready_hinders_nothing_else_in_an_inline_program(
    inline: Callable[..., list[Report]], emulator: Emulator
) -> None:
    emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 2}, "US-EAST-04A": {"gb200-4x": 0}})
    with pytest.raises(AssertionError, match="is not ready after 1s: 2 of 4 gb200-4x instances"):
        inline("up", TIMEOUT="1s")
    (unready,) = emulator.live_claims()

    emulator.clear_requests()
    (targeted,) = inline("target")
    assert targeted["changes"]["create"] == 1
    assert not [each for each in emulator.requests() if unready.id in str(each.path)], "it was waited for"
    assert len(emulator.live_claims()) == 2

    emulator.set_inventory({"US-WEST-04A": {"gb200-4x": 64}, "US-EAST-04A": {"gb200-4x": 64}})
    emulator.clear_requests()
    (ready,) = inline("up")
    assert (ready["outputs"]["claimId"], ready["outputs"]["allocated"]) == (unready.id, 4)
    assert not [each for each in emulator.requests() if each.method == "POST"], "it was created again"
    inline("destroy")
    assert emulator.live_claims() == []


def test_the_example_in_yaml_runs(
    emulator: Emulator, environment: dict[str, str], plugin: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "yaml"
    shutil.copytree(EXAMPLES / "yaml", folder)

    def pulumi(*arguments: str) -> str:
        return run(folder, "pulumi", *arguments, "--stack", "test", environment=environment)

    run(
        folder,
        *("pulumi", "plugin", "install", "resource", "coreweave-inference", __version__),
        *("--file", plugin),
        environment=environment,
    )
    pulumi("stack", "init")
    pulumi("up", "--yes", "--skip-preview")
    (made,) = emulator.live_claims()
    outputs = json.loads(pulumi("stack", "output", "--json"))
    assert outputs == {"claimId": made.id, "status": "STATUS_READY", "zones": FORWARD}
    pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
    pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    pulumi("destroy", "--yes", "--skip-preview")
    assert emulator.live_claims() == []


def test_the_example_in_typescript_has_no_type_errors() -> None:
    folder = EXAMPLES / "typescript"
    run(folder, "npm", "ci", "--no-audit", "--no-fund")
    run(folder, "npm", "run", "check")


def test_the_example_in_go_compiles(tmp_path: Path) -> None:
    run(EXAMPLES / "go", "go", "build", "-o", str(tmp_path / "program"), ".")
    run(EXAMPLES / "go", "go", "vet", ".")
