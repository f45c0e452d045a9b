"""Runs every command of a page in one shell, and checks that the output is what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from support.stack import ROOT

DOCS: Final = ROOT / "docs"
_FENCE = re.compile(
    r'(?:<!-- (?P<mark>fails|not run) -->\n)?```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)```\n',
    re.DOTALL,
)
_MARK: Final = "#=#=#"


@dataclass
class Step:
    """The commands of one block, whether the last one has to fail, and what their output has to contain."""

    commands: str
    fails: bool
    shows: list[str] = field(default_factory=list)


def steps(pages: list[str]) -> list[Step]:
    """The blocks of the pages, in order. A block with a title becomes a command that writes the file."""
    found: list[Step] = []
    for block in _FENCE.finditer("".join((DOCS / page).read_text(encoding="utf-8") for page in pages)):
        if block["mark"] == "not run":
            continue
        if block["title"]:
            found.append(Step(f"cat > {block['title']} <<'END'\n{block['text']}END\n", fails=False))
        elif block["kind"] == "sh":
            found.append(Step(block["text"], fails=bool(block["mark"])))
        else:
            assert block["kind"] in ("text", "python"), block[0]
            found[-1].shows += block["text"].splitlines()
    return found


def shows(output: str, line: str) -> bool:
    """Whether the output contains a line of the page; "…" on the page stands for any text."""
    parts = [re.sub(r"(\\ )+", r"\\s+", re.escape(part.strip())) for part in line.split("…")]
    return re.search(".*?".join(parts), output) is not None


@pytest.mark.thorough
@pytest.mark.parametrize(
    "pages", [["tutorial.md"], ["how-to/import.md", "how-to/orphans.md"]], ids=["tutorial", "import"]
)
def test_every_command_of_a_page_does_what_the_page_says(pages: list[str], tmp_path: Path) -> None:
    current = subprocess.run(
        ["make", "--question", ".venv/.installed"], cwd=ROOT, capture_output=True, check=False
    )
    if current.returncode:
        pytest.fail("run `make install` first: the tutorial's `make engine` would change .venv")
    clone = tmp_path / "clone"
    clone.mkdir()
    for path in ROOT.iterdir():
        if path.name not in (".git", ".demo"):
            (clone / path.name).symlink_to(path)
    done = steps(pages)
    script = "".join(f"echo '{_MARK}'\n{step.commands}echo \"status $?\"\n" for step in done)
    script += "kill $(jobs -p) 2>/dev/null\n"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COREWEAVE_", "CW_", "PULUMI_", "PYTEST_", "MAKE"))
    } | {"PULUMI_SKIP_UPDATE_CHECK": "true", "COLUMNS": "200", "NO_COLOR": "1", "TMPDIR": str(tmp_path)}
    (tmp_path / "tutorial.sh").write_text(f"exec 2>&1\n{script}", encoding="utf-8")
    ran = subprocess.run(
        [shutil.which("bash") or "bash", str(tmp_path / "tutorial.sh")],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    shown = ran.stdout.split(f"{_MARK}\n")[1:]
    assert len(shown) == len(done), ran.stdout
    wrong = []
    for step, output in zip(done, shown, strict=True):
        said, _, status = output.rpartition("status ")
        if (status.strip() != "0") != step.fails:
            wrong.append(f"$ {step.commands}{output}")
        missing = [line for line in step.shows if not shows(said, line)]
        if missing:
            wrong.append(f"not shown: {missing}\n$ {step.commands}{said}")
    assert not wrong, "\n".join(wrong)
    assert not (clone / "tutorial").exists()
