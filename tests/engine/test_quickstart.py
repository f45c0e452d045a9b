"""The quickstart as a user has it: the published packages in a virtual environment, far from this repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from support.stack import ROOT

pytestmark = pytest.mark.xdist_group("wheels")

RECORD: Final = """
import json, os, re, sys

out = os.open(os.environ["LOADED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def look(event, arguments):
    if event == "open" and re.search("coreweave_inference/(__pycache__/)?__init__[.]", str(arguments[0])):
        os.write(out, (json.dumps([" ".join(sys.orig_argv), str(arguments[0])]) + "\\n").encode())

sys.addaudithook(look)
"""
"""A `sitecustomize`: every Python process records from where it loads the two packages."""


@pytest.fixture
def shell(installed: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user's shell, in which an emulator from the installed packages runs."""
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "sitecustomize.py").write_text(RECORD, encoding="utf-8")
    (tmp_path / "state").mkdir()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COREWEAVE_", "CW_", "PULUMI_", "PYTHON", "VIRTUAL_ENV"))
    }
    environment = inherited | {
        "LOADED": str(tmp_path / "loaded"),
        "PATH": f"{installed / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "record"),
        "PULUMI_COREWEAVE_HOST_PYTHON": str(installed / "bin" / "python"),
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": (tmp_path / "state").as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    with subprocess.Popen(
        [str(installed / "bin" / "capacity-claims"), "emulator", "--allocation-delay", "0.2"],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as emulator:
        assert emulator.stdout
        try:
            said = ""
            for line in emulator.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            exported = dict(re.findall(r"^export (\w+)=(.+)$", said, re.MULTILINE))
            assert list(exported) == [
                "COREWEAVE_API_ENDPOINT",
                "COREWEAVE_API_TOKEN",
                "COREWEAVE_EMULATOR_CONTROL_TOKEN",
            ], said
            yield environment | exported
        finally:
            emulator.terminate()


def test_the_installed_packages_bring_the_quickstart_up_and_down(
    installed: Path, shell: dict[str, str], run: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "quickstart"
    folder.mkdir()
    shutil.copy(ROOT / "__main__.py", folder)
    project = (ROOT / "Pulumi.yaml").read_text(encoding="utf-8")
    assert "    toolchain: uv\n" in project
    project = project.replace("    toolchain: uv\n", f"    virtualenv: {installed}\n")
    (folder / "Pulumi.yaml").write_text(project, encoding="utf-8")

    def pulumi(*arguments: str) -> str:
        return run(["pulumi", *arguments, "--stack", "test"], cwd=folder, env=shell)

    def claims() -> list[dict[str, object]]:
        listed = run(["capacity-claims", "list", "--format", "json"], cwd=folder, env=shell)
        found: list[dict[str, object]] = json.loads(listed)["claims"]
        return found

    pulumi("stack", "init")
    pulumi("up", "--yes")
    outputs = json.loads(pulumi("stack", "output", "--json"))
    (claim,) = claims()
    zones = ["US-WEST-04A", "US-EAST-04A"]  # as in Pulumi.yaml, and not in the order of the alphabet
    assert claim["resources"] == {
        "instanceId": "gb200-4x",
        "instanceCount": 4,
        "zones": zones,
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
    assert (claim["status"], claim["allocatedInstances"]) == ("STATUS_READY", 4)
    assert outputs == {
        "claim_id": claim["id"],
        "name": claim["name"],
        "zones": zones,
        "status": "STATUS_READY",
        "allocated": 4,
    }

    pulumi("destroy", "--yes")
    assert claims() == []

    loaded = [json.loads(line) for line in (tmp_path / "loaded").read_text(encoding="utf-8").splitlines()]
    (packages,) = (installed / "lib").glob("python*/site-packages")
    assert [path for _, path in loaded if not path.startswith(f"{packages}/")] == []
    loading = "\n".join(command for command, _ in loaded)
    for process in ("capacity-claims emulator", "capacity-claims list", "pulumi-language-python-exec"):
        assert process in loading
    assert re.search(r"pulumi\.dynamic|pulumi-resource-pulumi-python", loading), loading
