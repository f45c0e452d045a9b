"""What the commands share: the API as the environment says, one-line failures, notes beside the output.

Exit codes of every command: 0 done; 1 done, and what was looked for is not as it should be (each command
says what that is); 2 not done. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Final

import typer

from coreweave_inference import (
    ApiError,
    CapacityClaim,
    Client,
    ConnectionFailed,
    CoreweaveError,
    MissingToken,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    WrongEndpoint,
)
from coreweave_inference.settings import format_duration
from pulumi_coreweave_inference.errors import ClaimError
from pulumi_coreweave_inference.settings import Settings, settings_from

EXIT_FINDINGS: Final = 1
EXIT_ERROR: Final = 2
_DOING: Final = {"list": "listing the claims", "parameters": "asking what is offered"}
_SLOW: Final = 2.0  # seconds after which a person is told what is waited for
_MANY: Final = 10_000  # claims, whose printing takes a moment


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How to write the result.")]


class Failure(Exception):
    """What a command ends with: a text for people, and the exit code."""

    def __init__(self, text: str, code: int = EXIT_ERROR) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn what a user, a file or the API can cause into a text on stderr and an exit code."""
    try:
        yield
    except Failure as failure:
        note(f"capacity-claims: {failure}")
        raise typer.Exit(failure.code) from None
    except MissingToken:
        note("capacity-claims: no API token: set COREWEAVE_API_TOKEN (or CW_API_TOKEN) in the environment")
        raise typer.Exit(EXIT_ERROR) from None
    except (CoreweaveError, ClaimError) as error:
        note(f"capacity-claims: {printable(_told(error))}")
        if step := next_step(error):
            note(f"  Next: {step}")
        raise typer.Exit(EXIT_ERROR) from None


def _told(error: Exception) -> str:
    operation = error.operation if isinstance(error, ApiError) else None
    if operation in _DOING:
        return _DOING[operation] + str(error).removeprefix(operation)
    return str(error)


def next_step(error: Exception) -> str:
    """What to do about an error, where a command's user can do something."""
    if isinstance(error, Unauthenticated):
        return "check that COREWEAVE_API_TOKEN (or CW_API_TOKEN) holds a token that is still valid"
    if isinstance(error, PermissionDenied):
        return "use a token with the role Inference Viewer to look, Inference Admin to release"
    if isinstance(error, ConnectionFailed | WrongEndpoint):
        return "check COREWEAVE_API_ENDPOINT; without it, the real API is asked"
    if isinstance(error, Unavailable | ResourceExhausted):
        return "try again later; COREWEAVE_RETRY_DEADLINE is for how long a command tries"
    return ""


@contextmanager
def connected() -> Iterator[tuple[Client, Settings]]:
    """A client made of the environment; a stack's config is not read."""
    settings = settings_from(lambda key: None)
    logger, retries = logging.getLogger("coreweave_inference"), _Retries(settings.retry_deadline)
    level = logger.level
    logger.addHandler(retries)
    logger.setLevel(logging.INFO)
    try:
        with settings.client() as client:
            yield client, settings
    finally:
        logger.setLevel(level)
        logger.removeHandler(retries)


class _Retries(logging.Handler):
    """Says why a call is repeated, each reason once."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = format_duration(deadline)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        error = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(error, ApiError) and error.message not in self._said:
            self._said.add(error.message)
            reason = printable(error.message or error.code)
            note(f"{reason}; trying again, for {self._deadline} in all (COREWEAVE_RETRY_DEADLINE) …")


def all_claims(client: Client) -> list[CapacityClaim]:
    """Every claim of the organization, by name and then id."""
    with waiting_for(f"all claims from {client.endpoint}"):
        claims = client.capacity_claims.list()
    if len(claims) >= _MANY:
        note(f"{len(claims):,} claims")
    return sorted(claims, key=lambda claim: (claim.name, claim.id))


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say what is waited for, once the wait gets long."""
    timer = threading.Timer(_SLOW, note, [f"waiting for {what} …"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def note(line: str) -> None:
    """A line for people, beside the result."""
    typer.echo(line, err=True)


def write_json(value: object) -> None:
    """A result as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def printable(text: str) -> str:
    """A foreign text on one line, without anything that a terminal would obey."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)
