"""The pages agree with the code: commands, settings, public names, and the tests they name.

`CLI_PAGE=write pytest tests/packaging/test_pages.py` rewrites the command-line page.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
import yaml
from typer import Typer
from typer.testing import CliRunner

import coreweave_inference
import coreweave_inference.emulator
import pulumi_coreweave_inference
from coreweave_inference.settings import parse_duration
from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.errors import MEANINGS
from pulumi_coreweave_inference.settings import settings_from

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
CLI_PAGE: Final = DOCS / "reference" / "cli.md"
INTRODUCTION: Final = """# Command line

Install `capacity-claims` with `pip install 'pulumi-coreweave-inference[cli]'`. The rest of this page is the output of
`--help`.

Commands that call the API take their [settings](settings.md) from the environment: the API token, the endpoint, the timeout
of one attempt and the retry deadline. `release` also uses the delete timeout. They do not read a stack's config. A setting in
the environment that is not valid is an error, even if the command does not use it.

Results go to standard output, everything else to standard error.
"""


def test_the_command_line_page_matches_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = INTRODUCTION + "".join(section(*words) for words in [(), *command_words(app)])
    if os.environ.get("CLI_PAGE") == "write":
        CLI_PAGE.write_text(shown, encoding="utf-8")
    assert CLI_PAGE.read_text(encoding="utf-8") == shown


def command_words(of: Typer, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of each command, with those of its own commands after it."""
    for command in of.registered_commands:
        yield *before, command.name or command.callback.__name__.strip("_")  # type: ignore[union-attr]
    for group in of.registered_groups:
        name, commands = str(group.name), group.typer_instance
        assert commands is not None
        yield *before, name
        yield from command_words(commands, *before, name)


def section(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="capacity-claims")
    assert result.exit_code == 0, result.output
    title = " ".join(("capacity-claims", *words))
    return f"\n## {title}\n\n```text\n{result.stdout.strip()}\n```\n"


def test_every_test_that_a_page_names_exists() -> None:
    missing = []
    for page in pages():
        for file, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8")):
            path = ROOT / file
            if not path.exists() or f"def {name}(" not in path.read_text(encoding="utf-8"):
                missing.append(f"{page.name}: {file}::{name}")
    assert missing == []


def test_the_example_on_the_promises_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "reference" / "promises.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(example, {})
    assert example.endswith(f"  # {capsys.readouterr().out}")


def test_every_fact_about_the_api_has_a_source_and_a_test() -> None:
    facts = rows(DOCS / "explanation" / "api.md")
    assert len(facts) > 20
    assert {kind for _, kind in facts} <= {"documented", "schema", "assumed", "verified"}
    tested = rows(DOCS / "reference" / "tests.md", "## Facts about the API\n")
    assert [fact for fact, _ in facts] == [fact for fact, _ in tested]


def test_every_row_of_the_page_of_tests_names_one() -> None:
    statements = rows(DOCS / "reference" / "tests.md")
    assert [test for _, test in statements if not re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", test)] == []


def rows(page: Path, after: str = "") -> list[list[str]]:
    """The cells of each row of the page's tables, without their headings."""
    found: list[list[str]] = []
    for line in page.read_text(encoding="utf-8").rpartition(after or "\n# ")[2].splitlines():
        if line.startswith("|---"):
            found.pop()
        elif line.startswith("|"):
            found.append(line.strip("| ").split(" | "))
    return found


def test_the_menu_shows_the_titles_of_the_pages() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^ +- (?:(.+): )?(\S+\.md)$", menu, re.MULTILINE)
    assert len(entries) > 20
    assert [page for title, page in entries if title] == ["index.md"]  # "Home"
    files = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert {page for _, page in entries} == files - {"images/review-comment.md"}


def test_the_job_that_applies_outlasts_the_default_wait_and_runs_alone() -> None:
    text = (DOCS / "how-to" / "ci.md").read_text(encoding="utf-8")
    (shell, _) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    (job,) = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])["jobs"].values()
    wait = pulumi_coreweave_inference.Readiness().timeout
    assert job["timeout-minutes"] * 60 > parse_duration(str(wait))
    assert job["concurrency"]["cancel-in-progress"] is False
    assert job["steps"][-1]["run"] == shell
    assert shell.splitlines()[-1].startswith("exec pulumi up ")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", "a job (`examples/ci-review/rules.toml`)"),
        (
            "https://git.example/o/r/",
            "[a job](https://git.example/o/r/blob/HEAD/examples/ci-review/rules.toml)",
        ),
    ],
)
def test_links_lead_to_the_repository_where_its_address_is_known(address: str, expected: str) -> None:
    hook = runpy.run_path(str(ROOT / "tools" / "docs" / "repository_links.py"))["on_page_markdown"]
    config = SimpleNamespace(docs_dir=str(DOCS), repo_url=address)
    page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(DOCS / "how-to" / "ci.md")))
    link = "[a job](../../examples/ci-review/rules.toml)"
    assert hook(f"{link}, [b](drift.md)", page, config, None) == f"{expected}, [b](drift.md)"


@pytest.mark.parametrize(
    ("package", "sources"),
    [
        (pulumi_coreweave_inference, ("resource.md", "lookups.md")),
        (coreweave_inference, ("client.md",)),
        (coreweave_inference.emulator, ("emulator.md",)),
    ],
)
def test_the_reference_lists_exactly_the_public_names(package: object, sources: tuple[str, ...]) -> None:
    text = "".join((DOCS / "reference" / source).read_text(encoding="utf-8") for source in sources)
    prefix: str = package.__name__  # type: ignore[attr-defined]
    shown = set(re.findall(rf"^::: {re.escape(prefix)}\.(\w+)$", text, re.MULTILINE)) - {"errors"}
    listed = text.partition("The other exceptions add nothing of their own:")[2]
    shown |= set(re.findall(r"`(\w+)`", listed))
    public: set[str] = set(package.__all__)  # type: ignore[attr-defined]
    assert shown == public - {"__version__"}


def test_the_typed_program_uses_every_public_name() -> None:
    text = (ROOT / "tests" / "packaging" / "typed_program.py").read_text(encoding="utf-8")
    for prefix, package in (("inference", pulumi_coreweave_inference), ("api", coreweave_inference)):
        used = set(re.findall(rf"\b{prefix}\.(\w+)", text))
        assert set(package.__all__) - used == set(), prefix


def test_the_typed_program_passes_strict_type_checking() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/packaging/typed_program.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_settings_table_matches_the_code() -> None:
    asked: list[str] = []

    class Environment(dict[str, str]):
        def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
            asked.append(name)
            return default

    def config(key: str) -> None:
        asked.append(f"coreweave:{key}")

    settings_from(config, Environment())
    text = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|") and "coreweave:" in line]
    written = set(re.findall(r"`(COREWEAVE_\w+|CW_\w+|coreweave:\w+)`", "\n".join(table)))
    assert written == set(asked)


def pages() -> list[Path]:
    return [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


class _Loads(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon", "preload"):
            self.found.append(given.get("href") or "")


def test_the_pages_build_strictly_and_load_nothing_external(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--site-dir",
            str(site),
        ],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = list(site.rglob("*.html"))
    assert len(built) > 15
    schemas = sorted(path.name for path in (site / "schemas").iterdir())
    assert schemas == ["faults.json", "inventory.json", "prices.json", "report.json", "rules.json"]
    for page in built:
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert [url for url in loads.found if "//" in url] == [], page.name


def test_troubleshooting_lists_what_errors_say() -> None:
    """Each text of the page stands in the code, and each meaning of an API error on the page."""
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    texts = [row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")]
    texts = [text for text in texts if text != "the text says"]
    assert len(texts) > 30
    code = "".join(path.read_text(encoding="utf-8") for path in package_files())
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a text may go on in the next line
    for text in texts:
        for part in re.split(r"…|STATUS_FAILED", text):
            assert part.strip(" '") in code, text
    for meaning in MEANINGS:
        known = ("the API does not know the claim", "the API responded with an error")  # say it all
        assert meaning.summary in page or meaning.summary in known, meaning.summary


# What a program or an operator cannot cause, or what only joins texts that have a row of their own.
_UNLISTED: Final = (
    "the provider was called before it was configured",
    "this capacity claim has no namespace and key",
    "get_capacity_claim takes either id= or name=",
    "getCapacityClaim takes either id or name",
    "names …, which",
    "a resource option names",
)


def test_troubleshooting_lists_every_error_of_a_claim() -> None:
    page = (DOCS / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    listed = [re.split(r"…|STATUS_FAILED", row.split("|")[1]) for row in page.splitlines() if row[:2] == "| "]
    missing = []
    for text in headlines():
        known = any(all(part.strip(" '") in text for part in parts) for parts in listed)
        if not known and not any(each in text for each in _UNLISTED):
            missing.append(text)
    assert missing == []


def package_files() -> list[Path]:
    """The modules of the core and of the native plugin."""
    package = ROOT / "provider" / "pulumi_coreweave_inference"
    return [*package.glob("*.py"), *package.glob("native/*.py")]


def headlines() -> set[str]:
    """The first line of each error, with "…" for what is filled in."""
    found = set()
    for path in package_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) and node.args else None
            if isinstance(called, ast.Name) and called.id in ("ClaimError", "text"):
                found.add(written(node.args[0]))  # type: ignore[attr-defined]
    return {text for text in found if re.search("[a-z]", text)}


def written(node: ast.expr) -> str:
    """A text in the code, with "…" for what is not written there."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(written, node.values))
    return "…"


def test_the_compatibility_page_states_the_floors_of_the_packages() -> None:
    page = (ROOT / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
    upgrading = (ROOT / "docs" / "how-to" / "upgrading.md").read_text(encoding="utf-8")
    floors = {}
    for folder in ("sdk", "provider"):
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        groups = [project["dependencies"], *project["optional-dependencies"].values()]
        for requirement in chain.from_iterable(groups):
            if found := re.match(r"([\w-]+)>=([\d.]+)", requirement):
                floors[found[1]] = found[2]
    shown = [name for name in floors if name not in ("httpcore", "pyyaml")]
    rows = [row for row in page.splitlines() if row.startswith("| ")]
    for name in shown:
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert floors[name] in row.split("|")[2], name
    assert f"{floors['pulumi']} or newer" in upgrading
