"""Runs `pulumi preview` and `capacity-claims review` in CI. Inputs are environment variables.

STACK, PREVIEW_ARGUMENTS, RULES, PRICES, EXPECT_FINGERPRINT: as in action.yml; empty means not given.
CAPACITY_CLAIMS: the command. Default: the one on PATH.
REVIEW_FOLDER: where review.md and review.json are written. Default: a new folder in RUNNER_TEMP.

On GitHub it adds the review to the job summary and sets the outputs of action.yml. The exit code is that of
the review: 1 if there is an objection, 2 if the preview failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

FAILED = 2
WHOLE = ("--refresh", "--show-sames", "--show-replacement-steps")


def main() -> int:
    try:
        return review(review_folder())
    except Failed as error:
        if on_github():
            print(f"::error title=Capacity review::{error}", flush=True)
        else:
            print(f"error: {error}", file=sys.stderr)
        return FAILED


class Failed(Exception):
    """There is no review. The message says why, in one line."""


def review(folder: Path) -> int:
    """Write the review of a preview into a folder, and return its exit code."""
    with tempfile.TemporaryDirectory() as private:
        preview = Path(private) / "preview.json"  # holds the state, so it is not kept
        with quiet_commands():
            previewed = run_preview(preview)
            if not preview.stat().st_size:
                raise Failed(
                    f"pulumi preview exited with {previewed} and printed no plan; its messages are above"
                )
            code = run_review(preview, folder)
    report = folder / "review.json"
    if not report.exists():
        raise Failed(f"capacity-claims review exited with {code}; its message is above")
    set_outputs(
        fingerprint=json.loads(report.read_text(encoding="utf-8"))["fingerprint"],
        objection="true" if code or previewed else "false",
        report=str(report),
        review=(folder / "review.md").read_text(encoding="utf-8"),
    )
    if previewed and not code:
        raise Failed(f"pulumi preview exited with {previewed}, although its plan shows no error")
    return code


def run_preview(preview: Path) -> int:
    """Write the plan to a file, and return the exit code of `pulumi preview`."""
    stack = ("--stack", os.environ["STACK"]) if os.environ.get("STACK") else ()
    try:
        arguments = shlex.split(os.environ.get("PREVIEW_ARGUMENTS", ""))
    except ValueError as error:
        raise Failed(f"preview-arguments cannot be read: {error}") from None
    with preview.open("wb") as file:
        return run(["pulumi", "preview", "--json", "--non-interactive", *WHOLE, *stack, *arguments], file)


def run_review(preview: Path, folder: Path) -> int:
    """Write the review, and return the exit code of `capacity-claims review`."""
    formats = ["table", f"markdown={folder / 'review.md'}", f"json={folder / 'review.json'}"]
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        formats.append(f"markdown={summary}")
    command = [os.environ.get("CAPACITY_CLAIMS") or "capacity-claims", "review", str(preview)]
    for each in formats:
        command += ["--format", each]
    for option in ("RULES", "PRICES", "EXPECT_FINGERPRINT"):
        if value := os.environ.get(option):
            command += [f"--{option.lower().replace('_', '-')}", value]
    return run(command)


def run(command: list[str], stdout: IO[bytes] | None = None) -> int:
    """The exit code of a command."""
    try:
        return subprocess.run(command, stdout=stdout, stdin=subprocess.DEVNULL, check=False).returncode
    except FileNotFoundError:
        raise Failed(f"{command[0]} was not found: install it in a step before this one") from None


def review_folder() -> Path:
    """The folder of the reports, without those of an earlier run."""
    if not (given := os.environ.get("REVIEW_FOLDER")):
        return Path(tempfile.mkdtemp(prefix="capacity-review-", dir=os.environ.get("RUNNER_TEMP")))
    folder = Path(given)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("review.md", "review.json"):
        (folder / name).unlink(missing_ok=True)
    return folder


@contextlib.contextmanager
def quiet_commands() -> Iterator[None]:
    """Keep GitHub from obeying a line of foreign text that looks like a command, such as `::error::`."""
    if not on_github():
        yield
        return
    end = secrets.token_hex(16)
    print(f"::stop-commands::{end}", flush=True)
    try:
        yield
    finally:
        print(f"::{end}::", flush=True)


def set_outputs(**outputs: str) -> None:
    """Set the outputs of a step on GitHub."""
    if not (path := os.environ.get("GITHUB_OUTPUT")):
        return
    with Path(path).open("a", encoding="utf-8") as file:
        for name, value in outputs.items():
            end = secrets.token_hex(16)  # so that no value can set another output
            file.write(f"{name}<<{end}\n{value}\n{end}\n")


def on_github() -> bool:
    """Whether GitHub reads the output."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


if __name__ == "__main__":
    sys.exit(main())
