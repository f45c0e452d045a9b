"""What the commands share: an API client from the environment, error reports, messages and JSON output.

Exit codes of every command: 0 success; 1 success with a result that needs attention (each command's help
says when); 2 failure; 70 a fault of this program. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from coreweave_inference import (
    ApiError,
    CapacityClaim,
    Client,
    CoreweaveError,
    MissingToken,
)
from coreweave_inference._text_files import UnreadableText, decode_text
from coreweave_inference.settings import format_duration
from pulumi_coreweave_inference.errors import ClaimError, meaning
from pulumi_coreweave_inference.foreign_text import in_lines, led_by, shown
from pulumi_coreweave_inference.provider import outputs_of
from pulumi_coreweave_inference.settings import Settings, settings_from, unread_endpoint

EXIT_FINDINGS: Final = 1
EXIT_ERROR: Final = 2
EXIT_INTERNAL: Final = 70
"""A fault of this program, as in `sysexits.h`. Python's own exit code, 1, would mean a finding."""

_OPERATIONS: Final = {"list": "listing the claims", "parameters": "reading the available zones and types"}
_SLOW: Final = 2.0  # seconds before a message says what the command is waiting for
_MANY: Final = 10_000  # claims that take a noticeable time to print


class OutputFormat(StrEnum):
    """How a command writes its result."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[OutputFormat, typer.Option("--format", help="Output format.")]


class CommandError(Exception):
    """Ends a command with a message, one argument per line, and an exit code."""

    def __init__(self, *lines: str, code: int = EXIT_ERROR) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.code = code

    def __str__(self) -> str:
        return in_lines(*self.lines)


def read_text(path: Path, what: str) -> str:
    """The text of a file in any usual encoding; `-` is standard input. Raises `CommandError`.

    `what` the file should be is part of the message, such as "a stack export".
    """
    source = "standard input" if str(path) == "-" else str(path)
    try:
        return decode_text(sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes())
    except UnreadableText as error:
        raise CommandError(f"{source} is not {what}: {error}") from None
    except OSError as error:
        raise CommandError(f"{source}: {error.strerror or error}") from None


@contextmanager
def report_errors() -> Iterator[None]:
    """Report an error of the user, a file or the API on stderr, and exit with its code."""
    try:
        yield
    except CommandError as error:
        note(led_by("capacity-claims: ", str(error)))
        raise typer.Exit(error.code) from None
    except MissingToken:
        note("capacity-claims: no API token: set COREWEAVE_API_TOKEN (or CW_API_TOKEN) in the environment")
        raise typer.Exit(EXIT_ERROR) from None
    except (CoreweaveError, ClaimError) as error:
        note(f"capacity-claims: {_message(error)}")
        if step := advice(error):
            note(f"  Next: {step}")
        raise typer.Exit(EXIT_ERROR) from None


def _message(error: Exception) -> str:
    operation = error.operation if isinstance(error, ApiError) else None
    if operation in _OPERATIONS:
        return _OPERATIONS[operation] + str(error).removeprefix(operation)
    return str(error)


def advice(error: Exception) -> str:
    """What the user of a command can do about an error; empty if nothing."""
    return meaning(error).on_command_line if isinstance(error, CoreweaveError) else ""


@contextmanager
def connected() -> Iterator[tuple[Client, Settings]]:
    """A client configured by the environment. The config of a stack is not read."""
    settings = settings_from(lambda key: None)
    if warning := unread_endpoint(settings):
        note(f"capacity-claims: {warning}")
    logger, retries = logging.getLogger("coreweave_inference"), _RetryNotes(settings.retry_deadline)
    level = logger.level
    logger.addHandler(retries)
    logger.setLevel(logging.INFO)
    try:
        with settings.client() as client:
            yield client, settings
    finally:
        logger.setLevel(level)
        logger.removeHandler(retries)


class _RetryNotes(logging.Handler):
    """Reports why the client retries a call; each reason once."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = format_duration(deadline)
        self._reported: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        error = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(error, ApiError) and error.message not in self._reported:
            self._reported.add(error.message)
            reason = error.message or error.code
            note(f"{reason}; retrying for up to {self._deadline} (COREWEAVE_RETRY_DEADLINE) …")


def all_claims(client: Client) -> list[CapacityClaim]:
    """All claims of the organization, in the order of their names."""
    with waiting_for(f"all claims from {client.endpoint}"):
        claims = client.capacity_claims.list()
    if len(claims) >= _MANY:
        note(f"{len(claims):,} claims")
    return sorted(claims, key=by_name)


def by_name(claim: CapacityClaim) -> tuple[list[str | tuple[int, str]], str]:
    """A key to sort by: `training-2` before `training-10`, and equal names by id."""
    parts = re.split("0*([0-9]+)", claim.name)  # every second one is a number
    return [(len(part), part) if index % 2 else part for index, part in enumerate(parts)], claim.id


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say what the command is waiting for if it takes long."""
    timer = threading.Timer(_SLOW, note, [f"waiting for {what} …"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def note(text: str) -> None:
    """Write a message to stderr: one line, unless it is laid out."""
    typer.echo(shown(text), err=True)


def write_json(value: object) -> None:
    """Write a result to stdout as JSON, in ASCII: it may hold foreign text, and must not change it."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def claim_json(claim: CapacityClaim) -> dict[str, Any]:
    """A claim as JSON: its id and the outputs of a resource."""
    status = claim.status
    return {
        "id": claim.id,
        **outputs_of(claim, {}),
        "status": str(status.status),
        "allocatedInstances": status.allocated_instances,
        "pendingInstances": status.pending_instances,
        "conditions": [
            {
                "type": condition.type,
                "status": str(condition.status),
                "reason": condition.reason,
                "message": condition.message,
                "zone": condition.zone,
                "lastUpdateTime": condition.last_update_time,
            }
            for condition in status.conditions
        ],
    }


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 claim", "2 claims"."""
    return f"{count} {noun}{'s' * (count != 1)}"
