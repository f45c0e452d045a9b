"""Several formats of one review: files, standard output and the job summary of GitHub."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pulumi_coreweave_inference.cli.app import app

DATA = Path(__file__).parent / "data"
CREATE = str(DATA / "create.json")
REPLACE = str(DATA / "reorder-zones.json")


def run(*arguments: str, preview: str = CREATE) -> Result:
    result = CliRunner().invoke(app, ["review", preview, *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_one_run_writes_every_format_from_one_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pulumi_coreweave_inference.cli.review import preview

    parses: list[str] = []
    parse = preview.parse
    monkeypatch.setattr(preview, "parse", lambda text: parses.append(text) or parse(text))
    done = run(
        "--format", "markdown=r.md", "--format", "json=r.json", "--format", "table=r.txt", "--format", "table"
    )
    assert (done.exit_code, len(parses)) == (0, 1)
    mark = json.loads(Path("r.json").read_text(encoding="utf-8"))["fingerprint"]
    for text in (done.stdout, Path("r.md").read_text("utf-8"), Path("r.txt").read_text("utf-8")):
        assert mark in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.md", "r.txt"]
    assert Path("r.md").read_text(encoding="utf-8") == run("--format", "markdown").stdout


def test_only_what_is_asked_for_goes_to_standard_output() -> None:
    assert run("--format", "json=r.json").stdout == ""
    assert run("--format", "json=-").stdout == Path("r.json").read_text(encoding="utf-8")


def test_a_table_in_a_file_has_no_colours_and_is_120_columns_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    run("--format", "table=r.txt", preview=REPLACE)
    text = Path("r.txt").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert 100 < max(map(len, text.splitlines())) <= 120


def test_the_exit_code_is_that_of_the_review_whatever_the_outputs() -> None:
    Path("rules.toml").write_text('replace = "forbid"', encoding="utf-8")
    done = run("--format", "json=r.json", "--rules", "rules.toml", preview=REPLACE)
    assert done.exit_code == json.loads(Path("r.json").read_text(encoding="utf-8"))["exitCode"] == 1


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (["table", "json"], "two formats cannot both go to standard output"),
        (["table", "json=-"], "two formats cannot both go to standard output"),
        (["json=a", "markdown=./a"], "two formats cannot both go to a"),
        (["json=link", "markdown=a"], "two formats cannot both go to a"),
        (["json=preview.json"], "preview.json is read by this review"),
        (["json=rules.toml"], "rules.toml is read by this review"),
    ],
)
def test_outputs_that_overwrite_something_are_refused(formats: list[str], message: str) -> None:
    Path("link").symlink_to("a")
    Path("rules.toml").write_text("", encoding="utf-8")
    shutil.copy(CREATE, "preview.json")
    options = [part for each in formats for part in ("--format", each)]
    done = run("--rules", "rules.toml", *options, preview="preview.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("a").exists()


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("yaml", "is not one of markdown, table, json"),
        ("yaml=x", "is not one of"),
        ("json=", "names no file"),
    ],
)
def test_an_unknown_format_is_refused_with_the_known_ones(format: str, message: str) -> None:
    done = run("--format", format)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_a_file_that_cannot_be_written_is_one_line() -> None:
    done = run("--format", "table", "--format", "json=absent/r.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert (
        done.stderr == "capacity-claims review: absent/r.json cannot be written: No such file or directory\n"
    )


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    Path("r.json").write_text("old", encoding="utf-8")
    monkeypatch.setattr(Path, "replace", fail)
    done = run("--format", "json=r.json")
    assert done.exit_code == 2
    assert "r.json cannot be written: No space left on device" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    assert Path("r.json").read_text(encoding="utf-8") == "old"


def test_a_written_file_keeps_its_mode_and_its_link() -> None:
    Path("r.json").touch()
    Path("r.json").chmod(0o640)
    Path("link").symlink_to("r.json")
    run("--format", "json=link")
    assert Path("link").is_symlink()
    assert stat.S_IMODE(Path("r.json").stat().st_mode) == 0o640
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["version"] == 1


def test_a_review_is_added_to_the_job_summary_of_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(Path("summary").absolute()))
    Path("summary").write_text("before\n", encoding="utf-8")
    for preview in (CREATE, REPLACE):
        run("--format", "markdown=summary", "--format", "json=other", preview=preview)
    text = Path("summary").read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- capacity-claims review")
    assert text.count("Fingerprint") == 2
    assert json.loads(Path("other").read_text(encoding="utf-8"))["version"] == 1


def test_a_pipe_is_written_to_and_stays_a_pipe() -> None:
    os.mkfifo("pipe")
    read: list[str] = []
    reader = threading.Thread(
        target=lambda: read.append(Path("pipe").read_text(encoding="utf-8")), daemon=True
    )
    reader.start()
    assert run("--format", "json=pipe").exit_code == 0
    reader.join(10)
    assert json.loads(read[0])["version"] == 1
    assert Path("pipe").is_fifo()


def test_links_that_lead_in_a_circle_are_not_read_and_may_be_replaced(tmp_path: Path) -> None:
    for link, target in (("a", "b"), ("b", "a")):
        (tmp_path / link).symlink_to(tmp_path / target)
    read = run(preview="a")
    assert (read.exit_code, read.stderr.count("\n")) == (2, 1), read.stderr
    written = run("--format", "json=a")
    assert (written.exit_code, written.stderr) == (0, "")
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8"))["fingerprint"]
