"""Runs the tests with several sets of versions, and writes the table of docs/reference/compatibility.md.

    make matrix                       # every set
    make matrix SETS="oldest newest"  # some of them; the page is not written

A set is a Python, an engine and the versions of all dependencies. For each, a fresh virtual environment gets
the built wheels, and the unit tests, the tests of the provider process, the quickstart and a short life on
the engine run in it. At last, a stack that one set has created is used by another: nothing may change.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "compatibility.md"
MARKS: Final = ("<!-- matrix -->\n", "<!-- end of matrix -->\n")
PACKAGES: Final = {"sdk": "emulator", "provider": "cli"}  # folder: the extra that is tested
SHOWN: Final = ("pulumi", "httpx", "pydantic", "typer", "rich", "starlette", "uvicorn", "grpcio", "protobuf")
TOOLS: Final = (
    "hypothesis",
    "inline-snapshot",
    "jsonschema-rs",
    "markdown-it-py",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "schemathesis",
)
IGNORED: Final = "ignore::DeprecationWarning"  # of one dependency about another, in some of the sets
QUICK: Final = ("tests/unit/provider", "tests/unit/sdk", "tests/unit/emulator", "tests/plugin")
LIFE: Final = (
    "tests/engine/test_lifecycle.py::test_a_count_scales_in_place_and_reordered_zones_replace_the_claim",
    "tests/engine/test_lifecycle.py::test_zones_keep_their_order_from_program_to_api_to_state_and_back",
    "tests/engine/test_lifecycle.py::test_bad_input_fails_the_preview_with_the_property_and_a_way_out",
    "tests/engine/test_native.py::test_a_native_claim_lives_as_a_dynamic_one",
    "tests/engine/test_crashes.py::test_the_next_up_repairs_everything_after_any_death[create-kill]",
    "tests/engine/test_outages.py::test_a_lost_response_to_the_post_creates_one_claim",
    "tests/engine/test_adoption.py::test_the_claims_of_a_terraform_state_are_imported_unchanged",
    "tests/engine/test_examples.py::test_the_automation_example_reserves_scales_and_releases",
    "tests/engine/test_quickstart.py",
)


@dataclass
class Set:
    """One column of the table."""

    name: str
    python: str
    resolution: str  # of uv; "locked" takes the versions of uv.lock
    engine: str = ""  # a version that tools/engine pins; the default is the newest
    optional: bool = False  # left out on a machine without its Python
    environment: Path = field(init=False)
    versions: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # of all its tests

    def __post_init__(self) -> None:
        self.environment = ROOT / ".matrix" / self.name

    @property
    def interpreter(self) -> Path:
        """The Python of the set's environment."""
        return self.environment / "bin" / "python"


SETS: Final = (
    Set("oldest", "3.11", "lowest-direct", engine="3.259.0"),
    Set("locked", "3.13", "locked"),
    Set("newest", "3.12", "highest"),
    Set("newest on 3.14", "3.14", "highest", optional=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help="; ".join(each.name for each in SETS))
    names = parser.parse_args().sets
    if unknown := set(names) - {each.name for each in SETS}:
        parser.error(f"no such set: {', '.join(sorted(unknown))}")
    sets = [each for each in SETS if not names or each.name in names]
    built = wheels()
    ran: list[Set] = []
    for each in sets:
        if install(each, built):
            run(each)
            ran.append(each)
    upgraded = [upgrade(old, new) for old in ran for new in ran if old is not new]
    missing = [each for each in sets if each not in ran]
    table = "\n".join([*rows(ran), "", *upgrades(upgraded), *remarks(ran, missing)]) + "\n"
    print(table)
    if not names and all(each.optional for each in missing):
        write(table)
    failed = [f"{each.name}: not run" for each in missing if names or not each.optional]
    failed += [
        f"{each.name}: {what}" for each in ran for what, result in each.results.items() if "failed" in result
    ]
    failed += [f"{old} to {new}: {result}" for old, new, result in upgraded if result != "no change"]
    for each in failed:
        say(each)
    return bool(failed)


def say(text: str) -> None:
    print(f"matrix: {text}", file=sys.stderr, flush=True)


def uv(*arguments: str, capture: bool = False) -> str:
    done = subprocess.run(
        [shutil.which("uv") or ROOT / ".uv" / "bin" / "uv", *arguments],
        cwd=ROOT,
        check=True,
        text=True,
        stdout=subprocess.PIPE if capture else None,
    )
    return done.stdout or ""


def wheels() -> list[str]:
    """Both packages as wheels, with the extras that are tested."""
    subprocess.run(["make", "--silent", "wheels"], cwd=ROOT, check=True, stdout=sys.stderr)
    return [f"{next((ROOT / 'dist' / folder).glob('*.whl'))}[{extra}]" for folder, extra in PACKAGES.items()]


def direct_requirements() -> list[str]:
    """What both packages require themselves, without each other."""
    found = []
    for folder, extra in PACKAGES.items():
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        found += [*project["dependencies"], *project["optional-dependencies"][extra]]
    return [requirement for requirement in found if not requirement.startswith("coreweave-inference")]


def install(each: Set, built: list[str]) -> bool:
    """A fresh environment for a set; False without its Python."""
    python = find(each.python)
    if python is None:
        say(f"{each.name}: no Python {each.python} on this machine")
        return False
    say(f"{each.name}: installing")
    shutil.rmtree(each.environment, ignore_errors=True)
    uv("venv", "--quiet", "--python", python, str(each.environment))
    pip = ("pip", "install", "--quiet", "--python", str(each.interpreter))
    if each.resolution == "locked":
        locked = each.environment / "locked.txt"
        export = ("export", "--frozen", "--no-dev", "--no-hashes", "--no-emit-workspace", "--quiet")
        locked.write_text(uv(*export, capture=True), encoding="utf-8")
        uv(*pip, "--requirement", str(locked), *built)
    else:
        uv(*pip, "--resolution", each.resolution, *direct_requirements(), *built)
    frozen = each.environment / "frozen.txt"
    listed = uv("pip", "list", "--python", str(each.interpreter), "--format", "json", capture=True)
    each.versions = {package["name"]: package["version"] for package in json.loads(listed)}
    ours = ("coreweave-inference", "pulumi-coreweave-inference")
    pins = [f"{name}=={version}" for name, version in each.versions.items() if name not in ours]
    frozen.write_text("\n".join(pins), encoding="utf-8")
    uv(*pip, "--constraint", str(frozen), *TOOLS)
    each.python = output(each.interpreter, "-c", "import platform; print(platform.python_version())")
    pinned = ("--version", each.engine) if each.engine else ()
    each.engine = output(
        sys.executable, ROOT / "tools/engine/install.py", "--python", each.interpreter, *pinned
    )
    return True


def output(*command: str | Path) -> str:
    """What a command prints on stdout, without the newline at its end."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def find(version: str) -> str | None:
    """A Python of this version: the oldest patch release on PATH or of pyenv."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders = [folder for folder in folders if folder.name != "shims"]
    found = {}
    for folder in [*root.glob("versions/*/bin"), *folders]:
        python = folder / f"python{version}"
        if python.is_file():
            asked = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
            if numbers := re.fullmatch(r"Python (\d+)\.(\d+)\.(\d+)\n", asked.stdout):
                found[tuple(map(int, numbers.groups()))] = str(python)
    return found[min(found)] if found else None


def run(each: Set) -> None:
    """Run the tests in a set's environment."""
    for what, tests in (("unit and plugin", QUICK), ("engine", LIFE)):
        say(f"{each.name}: {what} tests")
        started = time.monotonic()
        done = subprocess.run(
            [
                each.interpreter,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-W",
                IGNORED,
                "-n",
                "2",
                "-m",
                "not thorough",
                *tests,
            ],
            cwd=ROOT,
            env=environment(each),
            capture_output=True,
            text=True,
            check=False,
        )
        last = done.stdout.rstrip().rpartition("\n")[2]
        counted = re.findall(r"\d+ (?:passed|failed|errors?|skipped)", last)
        result = ", ".join(counted) or "failed to start"
        if done.returncode and "failed" not in result:
            result += ", failed"
        seconds = time.monotonic() - started
        each.seconds += seconds
        each.results[what] = f"{result} in {seconds:.0f} s"
        (each.environment / f"{what}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        say(f"{each.name}: {each.results[what]}")


def environment(each: Set) -> dict[str, str]:
    """The variables of a set's tests: its own programs come first on PATH."""
    path = os.pathsep.join([each.engine, str(each.interpreter.parent), os.environ["PATH"]])
    return os.environ | {
        "PATH": path,
        "PULUMI_ENGINE_DIR": each.engine,
        "VIRTUAL_ENV": str(each.environment),
        "INSTALLED_ENVIRONMENT": str(each.environment),
    }


def upgrade(old: Set, new: Set) -> tuple[str, str, str]:
    """Whether a stack of one set is unchanged for another: by preview, refresh and up."""
    script = ROOT / "tools" / "matrix" / "upgrade.py"
    done = subprocess.run(
        [old.interpreter, script, old.environment, old.engine, new.environment, new.engine],
        env=environment(old),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        (old.environment / f"upgrade to {new.name}.log").write_text(
            done.stdout + done.stderr, encoding="utf-8"
        )
    result = "no change" if not done.returncode else done.stderr.strip().rpartition("\n")[2][:200]
    say(f"{old.name} to {new.name}: {result}")
    return old.name, new.name, result


def rows(sets: Iterable[Set]) -> list[str]:
    """The table of versions and results as Markdown, one column a set."""
    sets = list(sets)
    lines = [["", *(each.name for each in sets)], ["---"] * (len(sets) + 1)]
    lines.append(["Python", *(each.python for each in sets)])
    lines.append(["Pulumi CLI", *(output(f"{each.engine}/pulumi", "version").lstrip("v") for each in sets)])
    lines += [[name, *(each.versions.get(name, "") for each in sets)] for name in SHOWN]
    lines += [
        [f"{what} tests", *(each.results[what] for each in sets)] for what in ("unit and plugin", "engine")
    ]
    return [f"| {' | '.join(line)} |" for line in lines]


def upgrades(upgraded: Iterable[tuple[str, str, str]]) -> list[str]:
    """The table of states that one set has written and another has read."""
    lines = [["state written by", "used by", "preview, refresh, up"], ["---"] * 3, *upgraded]
    return [f"| {' | '.join(line)} |" for line in lines]


def remarks(ran: Iterable[Set], missing: Iterable[Set]) -> list[str]:
    """When and where the sets ran, and which did not."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    minutes = round(sum(each.seconds for each in ran) / 60)
    said = f"Run on {today}: {where}, {minutes} minutes."
    absent = [f"`{each.name}` did not run: the machine has no Python {each.python}." for each in missing]
    return ["", " ".join([said, *absent])]


def write(table: str) -> None:
    """Put the table between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
