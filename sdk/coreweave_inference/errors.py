"""One exception per error code of the API, and how an answer becomes one.

    CoreweaveError
    ├── MissingToken                  no API token was given
    ├── InvalidSetting                a setting that cannot be used (also a ValueError)
    │   ├── InvalidEndpoint           neither https nor http on a loopback address
    │   ├── InvalidToken              a token that cannot be sent in a header
    │   └── WrongEndpoint             it answers, and does not serve the inference API
    └── ApiError                      an operation of the API failed
        ├── Canceled                  canceled             499
        ├── InvalidArgument           invalid_argument     400
        ├── DeadlineExceeded          deadline_exceeded    504
        ├── NotFound                  not_found            404
        ├── AlreadyExists             already_exists       409
        ├── PermissionDenied          permission_denied    403
        ├── ResourceExhausted         resource_exhausted   429
        ├── FailedPrecondition        failed_precondition  400 or 412
        ├── Aborted                   aborted              409
        ├── OutOfRange                out_of_range         400
        ├── Unimplemented             unimplemented        501
        ├── Internal                  internal             500
        ├── DataLoss                  data_loss            500
        ├── Unauthenticated           unauthenticated      401
        ├── UnknownCode               any other code, kept as given
        └── Unavailable               unavailable          503
            ├── ConnectionFailed      no connection, or it broke before the answer
            ├── RequestTimedOut       no answer within the timeout
            └── BrokenAnswer          an answer that is not the API's: HTML, half a body, a redirect

The code in the body decides first, the HTTP status second. Both published forms are read: Connect
(``{"code": "not_found"}``) and google.rpc.Status (``{"code": 5}``), with either form of details.

"Gone" is said by the API only: a 404 is ``NotFound`` when its JSON body carries the API's code. Any
other 404 (a proxy's page, no body, JSON without a code) is an outage.

No exception holds the token or the request, so each may be logged and pickled.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, TypeAlias

__all__ = [
    "Aborted",
    "AlreadyExists",
    "ApiError",
    "BrokenAnswer",
    "Canceled",
    "ConnectionFailed",
    "CoreweaveError",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "Internal",
    "InvalidArgument",
    "InvalidEndpoint",
    "InvalidSetting",
    "InvalidToken",
    "MissingToken",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "RequestTimedOut",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownCode",
    "WrongEndpoint",
]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


class FieldViolation(NamedTuple):
    """One field the API refuses; ``field`` is its path in snake_case: ``resources.zones``."""

    field: str
    description: str


class CoreweaveError(Exception):
    """The root of every exception this package raises on purpose."""


class MissingToken(CoreweaveError):
    """No API token was given; raised at the first call, not when the client is made."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or "no CoreWeave API token: set COREWEAVE_API_TOKEN (or CW_API_TOKEN) in the"
            " environment, or pass one to the client; in a Pulumi project:"
            " pulumi config set --secret coreweave:token"
        )


class InvalidSetting(CoreweaveError, ValueError):
    """A setting that cannot be used; the text names it."""


class InvalidEndpoint(InvalidSetting):
    """An endpoint the token must not be sent to: neither https nor http on a loopback address."""


class WrongEndpoint(InvalidSetting):
    """An endpoint that answers, and where nothing of the inference API is found."""


class InvalidToken(InvalidSetting):
    """A token that cannot stand in an HTTP header; the text does not show it."""


class ApiError(CoreweaveError):
    """An operation of the API failed; catch a subclass to tell why.

    ``code``         the API's code in Connect spelling: ``already_exists``
    ``http_status``  None when there was no answer
    ``message``      the API's own words, or ours when the API did not answer
    ``violations``   the fields it refuses
    ``details``      every other detail as a dict with ``@type``, e.g. ``google.rpc.QuotaFailure``
    ``request_id``   to quote to CoreWeave's support
    ``attempts``     how often the request was sent; 0 when it was refused here
    ``operation``    create, get, list, update, delete or parameters
    ``claim_id``     the claim the operation is about, if any
    ``retry_after``  seconds the API asks to wait, or None
    """

    CODE: ClassVar[str] = "unknown"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        http_status: int | None = None,
        violations: tuple[FieldViolation, ...] = (),
        details: tuple[dict[str, JSON], ...] = (),
        request_id: str | None = None,
        attempts: int = 1,
        operation: str = "",
        claim_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code: str = code or self.CODE
        self.http_status = http_status
        self.violations = violations
        self.details = details
        self.request_id = request_id
        self.attempts = attempts
        self.operation = operation
        self.claim_id = claim_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        about = f" of claim {self.claim_id}" if self.claim_id else ""
        operation = f"{self.operation}{about}: " if self.operation else ""
        text = f"{operation}{self.code}: {self.message or 'no message'}"
        notes = [
            f"{violation.field}: {violation.description}"
            for violation in self.violations
            if violation.description not in self.message or violation.field not in self.message
        ]
        if self.http_status is not None:
            notes.append(f"HTTP {self.http_status}")
        if self.retry_after:
            notes.append(f"the API asks to wait {self.retry_after:.0f} s")
        if self.request_id:
            notes.append(f"request id {self.request_id}")
        if self.attempts != 1:
            notes.append(f"{self.attempts} attempts" if self.attempts else "it was not sent")
        if notes:
            text = f"{text} ({'; '.join(notes)})"
        return " ".join(text.split())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class Canceled(ApiError):
    """The API or a proxy gave the request up."""

    CODE: ClassVar[str] = "canceled"


class InvalidArgument(ApiError):
    """A field is refused: see ``violations``. With ``attempts == 0`` it was refused here."""

    CODE: ClassVar[str] = "invalid_argument"


class DeadlineExceeded(ApiError):
    """The API ran out of its own time; the operation may have happened."""

    CODE: ClassVar[str] = "deadline_exceeded"


class NotFound(ApiError):
    """The API says there is no such claim (its own words, not a proxy's 404)."""

    CODE: ClassVar[str] = "not_found"


class AlreadyExists(ApiError):
    """The id is taken (get tells by whom), or the name is."""

    CODE: ClassVar[str] = "already_exists"


class PermissionDenied(ApiError):
    """The token is known and lacks the role: Inference Viewer to read, Inference Admin to write."""

    CODE: ClassVar[str] = "permission_denied"


class ResourceExhausted(ApiError):
    """Too many requests, or a quota is used up (then ``details`` has a QuotaFailure)."""

    CODE: ClassVar[str] = "resource_exhausted"


class FailedPrecondition(ApiError):
    """The claim's state forbids the operation."""

    CODE: ClassVar[str] = "failed_precondition"


class Aborted(ApiError):
    """Another change of the same claim came in between; safe to repeat."""

    CODE: ClassVar[str] = "aborted"


class OutOfRange(ApiError):
    """A value lies beyond what the API can take."""

    CODE: ClassVar[str] = "out_of_range"


class Unimplemented(ApiError):
    """The API has no such operation; never repeated."""

    CODE: ClassVar[str] = "unimplemented"


class Internal(ApiError):
    """The API failed within; the operation may have happened."""

    CODE: ClassVar[str] = "internal"


class DataLoss(ApiError):
    """The API lost or damaged data."""

    CODE: ClassVar[str] = "data_loss"


class Unauthenticated(ApiError):
    """The token is missing, wrong or expired."""

    CODE: ClassVar[str] = "unauthenticated"


class UnknownCode(ApiError):
    """A code this version does not know, kept as given in ``code``."""

    CODE: ClassVar[str] = "unknown"


class Unavailable(ApiError):
    """The API cannot be reached or does not make sense now; says nothing about any claim."""

    CODE: ClassVar[str] = "unavailable"


class ConnectionFailed(Unavailable):
    """There was no connection, or it broke before the answer.

    ``sent`` is False only when the request surely never reached the server. ``untrusted`` is True
    when the server's certificate was refused, which waiting does not mend.
    """

    sent: bool = True
    untrusted: bool = False


class RequestTimedOut(Unavailable):
    """No answer came within the timeout; the operation may have happened."""


class BrokenAnswer(Unavailable):
    """An answer that is not the API's; says nothing about any claim, whatever its HTTP status."""
