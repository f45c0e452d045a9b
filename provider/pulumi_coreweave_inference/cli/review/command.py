"""The command: files, streams and exit codes. It imports the other modules only when it runs."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TextIO, TypeVar

import typer

from pulumi_coreweave_inference.cli.console import EXIT_ERROR, CommandError, note, read_text

from .outputs import Output, ReviewFormat, conflict, parse_output, write_file

if TYPE_CHECKING:
    from .document import Document
    from .review import Review
    from .toml_model import TomlModel

_Model = TypeVar("_Model", bound="TomlModel")
_FILE_WIDTH: Final = 120  # columns of a table in a file


def _output(text: str) -> Output:
    try:
        return parse_output(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


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
        list[Output] | None,
        typer.Option(
            parser=_output,
            metavar="FORMAT[=FILE]",
            help="markdown, table or json, to stdout or to a file. Repeatable. "
            "Default: table on a terminal, otherwise markdown.",
        ),
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
    cannot be approved by one; 2 if the preview failed, the input cannot be read or a file cannot be written.

    A file is replaced as a whole. Only the file that GITHUB_STEP_SUMMARY names is appended to.

    Example: pulumi preview --json | capacity-claims review --rules rules.toml

    Example: capacity-claims review preview.json --format table --format markdown=review.md
    """
    from .document import document
    from .preview import NotAPreview, parse
    from .prices import PriceBook
    from .review import review as reviewed
    from .rules import Rules

    if expect_fingerprint is not None and not re.fullmatch("[0-9a-fA-F]{64}", expect_fingerprint):
        _refuse("--expect-fingerprint must be the 64 hexadecimal digits that a review shows")
    outputs = format or [Output(ReviewFormat.TABLE if sys.stdout.isatty() else ReviewFormat.MARKDOWN)]
    if reason := conflict(outputs, [path for path in (preview, rules, prices) if path]):
        _refuse(reason)
    rule_book = _load(Rules, rules) if rules else None
    price_book = _load(PriceBook, prices) if prices else None
    try:
        plan = parse(read_text(preview or Path("-"), "the output of `pulumi preview --json`"))
    except (NotAPreview, CommandError) as error:
        _refuse(str(error))
    found = reviewed(plan, rule_book, price_book, expect_fingerprint)
    page = cache(partial(document, found))
    for output in sorted(outputs, key=lambda output: output.file is None):  # the files first
        _write(found, page, output)
    raise typer.Exit(found.exit_code)


def _load(model: type[_Model], path: Path) -> _Model:
    from .toml_model import InvalidToml, load_toml

    try:
        return load_toml(model, read_text(path, "TOML"))
    except InvalidToml as error:
        _refuse(f"{path}: {error}")
    except CommandError as error:
        _refuse(str(error))


def _write(found: Review, page: Callable[[], Document], output: Output) -> None:
    if output.file is not None:
        try:
            write_file(output.file, _text(found, page, output.format))
        except OSError as error:
            _refuse(f"{output.file} cannot be written: {error.strerror or error}")
    elif output.format is ReviewFormat.TABLE:
        _show(page())
    else:
        # UTF-8 whatever the locale; a lone surrogate must not end in a traceback.
        sys.stdout.buffer.write(_text(found, page, output.format).encode("utf-8", "replace"))
        sys.stdout.buffer.flush()


def _text(found: Review, page: Callable[[], Document], format: ReviewFormat) -> str:
    from .json_report import json_report
    from .markdown import markdown

    if format is ReviewFormat.JSON:
        return json_report(found)
    if format is ReviewFormat.MARKDOWN:
        return markdown(page())
    text = io.StringIO()
    _show(page(), text, _FILE_WIDTH)
    return text.getvalue()


def _show(page: Document, file: TextIO | None = None, width: int | None = None) -> None:
    from rich.console import Console

    from .terminal import show

    terminal = None if file is None else False  # no colours in a file, whatever the environment says
    console = Console(file=file, width=width, force_terminal=terminal, highlight=False, emoji=False)
    show(page, console)


def _refuse(reason: str) -> NoReturn:
    note(f"capacity-claims review: {reason}")
    raise typer.Exit(EXIT_ERROR)
