"""The command: files, streams and exit codes. It imports the other modules only when it runs."""

from __future__ import annotations

import enum
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from pulumi_coreweave_inference.cli.console import EXIT_ERROR, CommandError, note, read_text

if TYPE_CHECKING:
    from .toml_model import TomlModel

_Model = TypeVar("_Model", bound="TomlModel")


class ReviewFormat(enum.StrEnum):
    """How the review is written."""

    MARKDOWN = "markdown"
    TABLE = "table"
    JSON = "json"


def review(
    preview: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The output of `pulumi preview --json`. Default or -: stdin."),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Rules that the plan must follow, as TOML."),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Prices per instance and hour, as TOML."),
    ] = None,
    format: Annotated[
        ReviewFormat | None,
        typer.Option(help="Output format. Default: table on a terminal, otherwise markdown."),
    ] = None,
    expect_fingerprint: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="Exit with 1 unless the plan has this fingerprint, and shows all values of its claims.",
        ),
    ] = None,
) -> None:
    """Review what a preview does to capacity claims.

    pulumi preview --refresh --json --show-sames --show-replacement-steps | capacity-claims review

    Shows replaced and released claims first, then created, taken over and scaled ones. For each claim and
    instance type: the instances before, after, at the peak of the update, and if no capacity is found. Also
    shows drift, values that are unknown until apply, and a fingerprint of the plan.

    Exit codes: 0 if there is no objection; 1 if a rule is violated, the fingerprint differs, or the plan
    cannot be approved by one; 2 if the input cannot be read or the preview failed.

    Example: pulumi preview --json | capacity-claims review --rules rules.toml
    """
    from .document import document
    from .preview import NotAPreview, parse
    from .prices import PriceBook
    from .review import review as reviewed
    from .rules import Rules

    if expect_fingerprint is not None and not re.fullmatch("[0-9a-fA-F]{64}", expect_fingerprint):
        _refuse("--expect-fingerprint must be the 64 hexadecimal digits that a review shows")
    rule_book = _load(Rules, rules) if rules else None
    price_book = _load(PriceBook, prices) if prices else None
    try:
        plan = parse(read_text(preview or Path("-"), "the output of `pulumi preview --json`"))
    except (NotAPreview, CommandError) as error:
        _refuse(str(error))
    found = reviewed(plan, rule_book, price_book, expect_fingerprint)
    chosen = format or (ReviewFormat.TABLE if sys.stdout.isatty() else ReviewFormat.MARKDOWN)
    if chosen is ReviewFormat.TABLE:
        from rich.console import Console

        from .terminal import show

        show(document(found), Console(highlight=False, emoji=False))
    elif chosen is ReviewFormat.JSON:
        from .json_report import json_report

        _write(json_report(found))
    else:
        from .markdown import markdown

        _write(markdown(document(found)))
    raise typer.Exit(found.exit_code)


def _load(model: type[_Model], path: Path) -> _Model:
    from .toml_model import InvalidToml, load_toml

    try:
        return load_toml(model, read_text(path, "TOML"))
    except InvalidToml as error:
        _refuse(f"{path}: {error}")
    except CommandError as error:
        _refuse(str(error))


def _write(text: str) -> None:
    # UTF-8 whatever the locale; a lone surrogate must not end in a traceback.
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _refuse(reason: str) -> NoReturn:
    note(f"capacity-claims review: {reason}")
    raise typer.Exit(EXIT_ERROR)
