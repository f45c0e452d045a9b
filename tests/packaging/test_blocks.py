"""The code blocks of all pages: what a copy button copies runs, and no line is cut off."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = ROOT / "examples"
PAGES: Final = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / package / "README.md" for package in ("provider", "sdk", "tools/engine")),
        *EXAMPLES.glob("*/README.md"),
    ]
)
KINDS: Final = {"go", "json", "python", "sh", "text", "toml", "typescript", "yaml"}
WIDTH: Final = 100  # columns that a window of 1300 pixels shows, see docs/style.css

# What a command on the pages begins with. Output in a shell block begins with something else.
PROGRAMS: Final = {
    *("capacity-claims", "docker", "make", "pip", "pulumi", "pytest", "python"),
    *(
        "cat",
        "cd",
        "echo",
        "eval",
        "exec",
        "export",
        "head",
        "kill",
        "mkdir",
        "rm",
        "sed",
        "sleep",
        "timeout",
        "until",
    ),
}


@dataclass(frozen=True)
class Block:
    """A fenced block, without the spaces before it."""

    page: Path
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text[:60]!r}"


def blocks(*kinds: str) -> Iterator[Block]:
    """The blocks of all pages that are of one of the kinds, or all blocks."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            if not kinds or found[2] in kinds:
                yield Block(page, found[2], textwrap.dedent(found[3]))


def commands(script: str) -> Iterator[str]:
    """The first line of each command, without what the shell reads as its input or as its continuation."""
    end, continued = "", False
    for line in script.splitlines():
        if end or continued:
            end = "" if line == end else end
        elif line and not line.startswith("#"):
            yield line
            if here := re.search(r"<<'?(\w+)'?", line):
                end = here[1]
        continued = not end and line.endswith(("\\", "|"))


def program(command: str) -> str:
    """The program that a command begins with, after assignments for it alone."""
    words = re.sub(r"^(\w+=\S* +)+", "", command).split()
    return words[0].rpartition("/")[2]


def test_every_block_has_a_kind_that_the_pages_use() -> None:
    assert [str(block) for block in blocks() if block.kind not in KINDS] == []


def test_shell_blocks_hold_commands_only() -> None:
    wrong = [
        f"{block}: {line}"
        for block in blocks("sh")
        for line in commands(block.text)
        if program(line) not in PROGRAMS
    ]
    assert wrong == []


def test_the_check_of_shell_blocks_finds_prompts_and_output() -> None:
    script = (
        "cat > a <<'END'\nany text\nEND\npulumi up \\\n  --yes\nA=1 pulumi preview\n$ pulumi up\nOutputs:\n"
    )
    assert [line for line in commands(script) if program(line) not in PROGRAMS] == ["$ pulumi up", "Outputs:"]


def test_shell_blocks_are_valid_shell() -> None:
    bash = shutil.which("bash") or "bash"
    for block in blocks("sh"):
        checked = subprocess.run([bash, "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{block}: {checked.stderr}"


def test_python_blocks_compile() -> None:
    for block in blocks("python"):
        included = re.findall(r'^--8<-- "(.+)"$', block.text, re.MULTILINE)
        text = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in included) or block.text
        compile(text, str(block), "exec")


def test_no_code_is_wider_than_the_page() -> None:
    wide = [
        f"{block}: {line}"
        for block in blocks()
        for line in block.text.splitlines()
        if len(line) > WIDTH and not re.search("[0-9a-f]{64}", line)  # a fingerprint is not broken
    ]
    wide += [
        f"{path.relative_to(ROOT)}: {line}"
        for path in EXAMPLES.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if len(line) > WIDTH
    ]
    assert wide == []


def test_no_page_has_code_without_a_fence() -> None:
    """Four spaces make a block whose kind is unknown; in lists and admonitions they are text."""
    for page in PAGES:
        text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        before, listed = "", False
        for line in text.splitlines():
            if line.startswith("    ") and not before and not listed:
                pytest.fail(f"{page.relative_to(ROOT)}: {line}")
            if line and not line.startswith(" "):
                listed = bool(re.match(r"[-*]|\d+\.|!!!|:::|\?\?\?", line))
            before = line.strip()
