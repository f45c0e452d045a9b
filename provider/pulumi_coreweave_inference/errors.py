"""The errors that a person sees: what failed on which claim, what is still reserved, what to do next.

    ClaimError                  a text for people, shown without a traceback
    ├── InvalidSetting          an environment variable or config key with an invalid value
    ├── InvalidReadiness        a `Readiness` with an invalid value
    ├── WrongOrganization       the token belongs to a different organization than the claim (operation.py)
    ├── DuplicateOwnership      two declarations hold one claim                           (delete_guard.py)
    ├── NameTaken, IdConflict, TakeoverRefused, ListedButNotReadable, DeletionPending,
    │   AttemptsExhausted       why a claim cannot be created                                   (create.py)
    └── OrphansRemain, OrphanCheckFailed
                                why a claim namespace cannot be deleted                        (orphans.py)

A text has up to four parts: one sentence that says what failed on which claim (its name in the program and
its id), what the API said, what is still reserved, and what to do next. Each text is written where the
decision is made. This module has the layout, and a table of what each API error means and how to resolve it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pulumi

from coreweave_inference.errors import (
    ApiError,
    ConnectionFailed,
    CoreweaveError,
    FailedPrecondition,
    InvalidArgument,
    MissingToken,
    NotFound,
    PermissionDenied,
    ProxyFailed,
    RequestTimedOut,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UntrustedCertificate,
    WrongEndpoint,
)
from coreweave_inference.errors import InvalidSetting as UnusableSetting
from coreweave_inference.tokens import TOKEN_FILE_VARIABLE, TOKEN_VARIABLES

from .foreign_text import Lines, in_lines, shown
from .inputs import program_spelling

MISSING_TOKEN: Final = (
    "no API token: set COREWEAVE_API_TOKEN (or CW_API_TOKEN) in the environment, "
    "or run `pulumi config set --secret coreweave:token`"
)
SLOW_API: Final = "set COREWEAVE_HTTP_TIMEOUT (or coreweave:httpTimeout), such as 60s,"


class ClaimError(pulumi.RunError):
    """An error caused by the user or the API, fully described by its text.

    As a `RunError` it ends a program that does not catch it with its text alone.
    """

    def __init__(self, message: str) -> None:
        self.text: Lines = shown(message)
        super().__init__(self.text)

    def __str__(self) -> Lines:
        return self.text


class InvalidSetting(ClaimError):
    """An environment variable or config key with an invalid value."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[InvalidSetting], tuple[str, str]]:
        return InvalidSetting, (self.source, self.reason)


class InvalidReadiness(ClaimError, ValueError):
    """A `Readiness` with an invalid value."""


@dataclass(frozen=True)
class Meaning:
    """What API errors mean, and what to do about them: in a Pulumi program, and on the command line."""

    errors: tuple[type[CoreweaveError], ...]
    summary: str
    in_program: str
    on_command_line: str = ""


MEANINGS: Final = (
    Meaning(
        (MissingToken,),
        "there is no API token",
        MISSING_TOKEN.partition(": ")[2],
        "set COREWEAVE_API_TOKEN (or CW_API_TOKEN) in the environment",
    ),
    Meaning(
        (WrongEndpoint,),
        "the endpoint does not serve the API",
        "check COREWEAVE_API_ENDPOINT or coreweave:endpoint; the default is the real API",
        "check COREWEAVE_API_ENDPOINT; the default is the real API",
    ),
    Meaning(
        (UnusableSetting,),
        "a setting of this machine cannot be used",
        "correct it, then run the same command again",
        "correct it, then run the same command again",
    ),
    Meaning(
        (UntrustedCertificate,),
        "the certificate of the endpoint is not trusted",
        "if your network has certificates of its own, set SSL_CERT_FILE to a file that holds them; otherwise "
        "check COREWEAVE_API_ENDPOINT (or coreweave:endpoint), and the clock of this machine",
        "if your network has certificates of its own, set SSL_CERT_FILE to a file that holds them; otherwise "
        "check COREWEAVE_API_ENDPOINT, and the clock of this machine",
    ),
    Meaning(
        (ProxyFailed,),
        "the proxy does not connect to the API",
        "check the proxy's address and password in the variable named above; NO_PROXY names hosts that need "
        "no proxy. Then run the same command again",
        "check the proxy's address and password in the variable named above; NO_PROXY names hosts that need "
        "no proxy",
    ),
    Meaning(
        (RequestTimedOut,),
        "the API did not respond in time",
        f"if that repeats, the API may be slower than the timeout of one attempt: {SLOW_API} to allow more. "
        "Then run the same command again; nothing is done twice",
        "if that repeats, the API may be slower than the timeout of one attempt: set COREWEAVE_HTTP_TIMEOUT, "
        "such as 60s, to allow more",
    ),
    Meaning(
        (ConnectionFailed,),
        "the API cannot be reached",
        "run the same command again when the API responds; nothing is done twice",
        "check COREWEAVE_API_ENDPOINT; the default is the real API",
    ),
    Meaning(
        (Unauthenticated,),
        "the API does not accept the token",
        "check that COREWEAVE_API_TOKEN or coreweave:token holds a token that is still valid",
        "check that COREWEAVE_API_TOKEN (or CW_API_TOKEN) holds a valid token",
    ),
    Meaning(
        (PermissionDenied,),
        "the token lacks the required role",
        "use a token with the role Inference Admin, which may write; Inference Viewer may only read",
        "use a token with the role Inference Viewer to read, or Inference Admin to release",
    ),
    Meaning(
        (InvalidArgument,),
        "the API refused the request as invalid",
        "change the declaration as described above and run `pulumi up` again",
    ),
    Meaning(
        (FailedPrecondition,),
        "the claim's current state does not allow it",
        "the claim may be in use: stop what runs on it, then run the same command again",
    ),
    Meaning(
        (ResourceExhausted,),
        "a quota or rate limit of the API is exhausted",
        "run the same command again when the API responds; nothing is done twice",
        "try again later; COREWEAVE_RETRY_DEADLINE sets how long a command retries",
    ),
    Meaning(
        (NotFound,),
        "the API does not know the claim",
        "run `pulumi refresh` to see what the API holds, then `pulumi up`",
    ),
    Meaning(
        (Unavailable,),
        "the API is not available",
        "run the same command again when the API responds; nothing is done twice",
        "try again later; COREWEAVE_RETRY_DEADLINE sets how long a command retries",
    ),
    Meaning(
        (CoreweaveError,),
        "the API responded with an error",
        "run `pulumi refresh` to see what the API holds, then `pulumi up`",
    ),
)
"""The first row that matches an error applies, so specific errors come before general ones."""


def meaning(error: CoreweaveError) -> Meaning:
    """What an API error means, and what to do about it."""
    row = next(row for row in MEANINGS if isinstance(error, row.errors))
    return _of_token(error, row) if isinstance(error, Unauthenticated) else row


def _of_token(refusal: Unauthenticated, row: Meaning) -> Meaning:
    """The row for a token, as far as it is known where it comes from and that it once was valid."""
    source = refusal.token_source
    if not source:
        return row
    if source == TOKEN_FILE_VARIABLE:
        advice = f"write a valid token to the file that {source} names"
    elif source in TOKEN_VARIABLES:
        advice = f"set {source} to a valid token"
    else:
        advice = f"set {TOKEN_VARIABLES[0]}, which takes precedence over {source}, to a valid token"
    advice += ", then run the same command again"
    return replace(
        row,
        summary="the API no longer accepts the token" if refusal.accepted_until else row.summary,
        in_program=f"{advice}; nothing is done twice",
        on_command_line=advice,
    )


def labelled(resource_name: str, claim_id: str | None) -> str:
    """A claim as error texts name it: by the resource's name and the id, if they are known."""
    name = f" '{resource_name}'" if resource_name and resource_name != claim_id else ""
    return f"capacity claim{name}" + (f" (id {claim_id})" if claim_id else "")


_HELD: Final = "Still reserved: "
_NEXT: Final = "Next: "


def text(
    headline: str, *, said: Iterable[str] = (), held: str | Sequence[str] = (), then: Iterable[str] = ()
) -> Lines:
    """Lay out the parts of an error: `held` is what is still reserved, `then` what to do next.

    What the API said may begin like our own lines; then it is marked as a quotation.
    """
    held = [held] if isinstance(held, str) else held
    return in_lines(
        headline,
        *(f"  {'> ' if line.lstrip().startswith((_HELD, _NEXT)) else ''}{line}" for line in said),
        *_labelled_lines(_HELD, held),
        *_labelled_lines(_NEXT, then),
    )


def _labelled_lines(label: str, lines: Iterable[str]) -> list[str]:
    """The lines of one part, with its label before the first and the others below it."""
    return [f"  {' ' * len(label) if index else label}{line}" for index, line in enumerate(lines)]


def api_failure(
    doing: str, resource_name: str, claim_id: str | None, error: CoreweaveError, *, held: str
) -> ClaimError:
    """The error for a failed API call about one claim. `doing` is a verb, such as "creating"."""
    headline = f"{doing} {labelled(resource_name, claim_id)} failed: {meaning(error).summary}."
    return ClaimError(text(headline, said=_said(error), held=held, then=[_advice(error)]))


def lookup_failure(doing: str, error: CoreweaveError, *ways_out: str, held: str = "") -> ClaimError:
    """The error for a failed lookup. `doing` describes it, such as "looking up capacity claims"."""
    headline = f"{doing} failed: {meaning(error).summary}."
    return ClaimError(text(headline, said=_said(error), held=held or (), then=[_advice(error), *ways_out]))


def _advice(error: CoreweaveError) -> str:
    if isinstance(error, ResourceExhausted) and error.retry_after:
        return f"wait {error.retry_after:.0f} seconds and run the same command again"
    if isinstance(error, InvalidArgument) and error.operation == "get":
        return "pass the id of a claim: `capacity-claims list` shows all claims with their ids"
    return meaning(error).in_program


def _said(error: CoreweaveError) -> list[str]:
    if not isinstance(error, ApiError):
        return [str(error)]
    lines = [f"{error.code}: {error.message}" if error.message else error.code]
    lines += [f"{program_spelling(v.field)}: {v.description}" for v in error.violations]
    if isinstance(error, Unauthenticated) and error.history:
        lines.append(error.history)
    attempts = f"{error.attempts} attempt{'s' if error.attempts != 1 else ''}"
    request = f", request id {error.request_id}" if error.request_id else ""
    return [*lines, f"({attempts}{request})"]
