"""The emulator for a team and a CI: the commands of the Containerfile, and the snippets of its page.

No container is built here. The commands run outside of one, with the installed packages.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "emulator.md"

pytestmark = pytest.mark.xdist_group("wheels")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile, without comments, each as one line."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n|\\\n\s*", "", text, flags=re.MULTILINE).splitlines()
    words = [line.partition(" ") for line in lines if line.strip()]
    return [(name, rest) for name, _, rest in words]


def instruction(wanted: str) -> str:
    """What the last instruction of a kind says."""
    return [rest for name, rest in instructions() if name == wanted][-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def outside(installed: Path, command: str, port: int) -> list[str]:
    """A command of the container, with the programs of an environment and another port."""
    program, *arguments = json.loads(command)
    return [str(installed / "bin" / program), *(each.replace("8080", str(port)) for each in arguments)]


def test_the_container_starts_as_another_user_on_a_pinned_python() -> None:
    images = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.\d+-slim", image) for image in images)
    names = [name for name, _ in instructions()]
    assert instruction("USER") == "emulator"
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert instruction("EXPOSE") == "8080"


def test_the_container_holds_what_its_files_name() -> None:
    copied = [rest.split()[0] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    assert all((ROOT / folder / "pyproject.toml").exists() for folder in copied)
    installs = next(rest for name, rest in instructions() if name == "RUN" and "pip install" in rest)
    assert re.findall(r"/wheels/(\w+)", installs) == ["coreweave_inference", "pulumi_"]


def test_its_command_serves_and_its_health_check_notices(installed: Path) -> None:
    port = free_port()
    health = outside(installed, instruction("HEALTHCHECK").partition("CMD ")[2], port)
    assert subprocess.run(health, check=False, capture_output=True).returncode != 0
    process = subprocess.Popen(
        outside(installed, instruction("ENTRYPOINT"), port),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONUNBUFFERED": "1", "COREWEAVE_EMULATOR_TOKEN": "t0ken"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        assert subprocess.run(health, check=False).returncode == 0
        for path in ("/", "/ui/page.css", "/ui/page.js", "/ui/icon.svg"):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", headers={"Host": f"emulator:{port}"}
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200, "the wheel has the files of the page"
    finally:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=10)
    assert (process.returncode, error.startswith("WARNING: this emulator listens on 0.0.0.0.")) == (0, True)


def test_the_steps_for_a_ci_export_what_a_later_step_needs(installed: Path, tmp_path: Path) -> None:
    (steps,) = re.findall(r"- name: Start the emulator\n\s+run: \|\n((?: {6}.*\n)+)", PAGE.read_text("utf-8"))
    exported = tmp_path / "github.env"
    port = free_port()
    process = subprocess.Popen(
        ["bash", "-e", "-c", steps.replace("8080", str(port)) + "\nwait"],
        cwd=tmp_path,
        env=os.environ | {
            "PATH": f"{installed / 'bin'}:{os.environ['PATH']}", "GITHUB_ENV": str(exported),
        },
        start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while not exported.exists() or exported.read_text("utf-8").count("\n") < 3:
            assert time.monotonic() < end, "the step does not export anything"
            time.sleep(0.1)
        variables = dict(line.split("=", 1) for line in exported.read_text("utf-8").splitlines())
        done = subprocess.run(
            [str(installed / "bin" / "capacity-claims"), "emulator", "stock"],
            env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
