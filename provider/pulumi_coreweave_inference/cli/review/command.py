"""`capacity-claims review`: the thin edge. Files, streams and exit codes; the rest is imported when run."""

from __future__ import annotations

import enum
import re
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer


class Format(enum.StrEnum):
    """What to write."""

    MARKDOWN = "markdown"
    TABLE = "table"
    JSON = "json"


def review(
    preview: Annotated[
        Path | None,
        typer.Argument(help="What `pulumi preview --json` printed; standard input when left out or -."),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What is allowed, as TOML; see docs/review.md."),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Prices per instance and hour, as TOML."),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(help="What to write; a table on a terminal and Markdown elsewhere when left out."),
    ] = None,
    expect_fingerprint: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="The fingerprint that was approved; another one is exit code 1."),
    ] = None,
) -> None:
    """Show what a preview does to capacity claims, for the person who approves it.

    pulumi preview --refresh --json --show-sames --show-replacement-steps | capacity-claims review

    What is replaced or released stands first, then what is created and scaled; per claim and by instance
    type: instances before, after, at most during the update, and what is left when no instances are
    found. Also drift, what is not known until apply, and a fingerprint of the plan.

    Exit code 0: fine. 1: a rule is broken, or the fingerprint is another. 2: the input cannot be read, or
    the preview failed.
    """
    from . import prices as price_books
    from . import rules as rule_files
    from .document import document
    from .preview import NotAPreview, read
    from .review import review as reviewed

    if expect_fingerprint is not None and not re.fullmatch("[0-9a-fA-F]{64}", expect_fingerprint):
        _refuse("--expect-fingerprint takes the 64 hexadecimal digits that a review shows")
    try:
        ruled = rule_files.load(_text(rules)) if rules else None
    except rule_files.BadRules as error:
        _refuse(f"{rules}: {error}")
    try:
        priced = price_books.load(_text(prices)) if prices else None
    except price_books.BadPrices as error:
        _refuse(f"{prices}: {error}")
    try:
        if preview is None or str(preview) == "-":
            plan = read(sys.stdin.buffer)
        else:
            with preview.open("rb") as file:
                plan = read(file)
    except NotAPreview as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{preview or 'standard input'}: {error.strerror or error}")
    found = reviewed(plan, ruled, priced, expect_fingerprint)
    chosen = format or (Format.TABLE if sys.stdout.isatty() else Format.MARKDOWN)
    if chosen is Format.TABLE:
        from rich.console import Console

        from .terminal import show

        show(document(found), Console(highlight=False, emoji=False))
    elif chosen is Format.JSON:
        from .json_report import json_report

        _write(json_report(found))
    else:
        from .markdown import markdown

        _write(markdown(document(found)))
    raise typer.Exit(found.exit_code)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        _refuse(f"{path}: it is not text in UTF-8")
    except OSError as error:
        _refuse(f"{path}: {error.strerror or error}")


def _write(text: str) -> None:
    # In UTF-8 whatever the locale, and without a traceback for a text that no encoding can hold.
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"capacity-claims review: {reason}", err=True)
    raise typer.Exit(2)
