"""The exceptions of this package: one class for each error code of the API.

    CoreweaveError
    ├── MissingToken                  no API token
    ├── InvalidSetting                an unusable setting (also a ValueError)
    │   ├── InvalidEndpoint           neither https nor http on a loopback address
    │   ├── InvalidToken              not allowed in an HTTP header
    │   └── WrongEndpoint             responds, but does not serve the inference API
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
        ├── UnknownCode               any other code, kept as received
        └── Unavailable               unavailable          503
            ├── ConnectionFailed      no connection, or lost before the response
            │   ├── ProxyFailed           the proxy is unreachable, or refuses
            │   └── UntrustedCertificate  the certificate of the server is not trusted
            ├── RequestTimedOut       no response within the timeout
            └── BrokenAnswer          not a response of the API: HTML, a truncated body, a redirect

The code in the body decides the class; the HTTP status decides only if there is no code. Both published forms
of an error are read: Connect (``{"code": "not_found"}``) and google.rpc.Status (``{"code": 5}``), with either
form of details.

Only the API can say that a claim does not exist: a 404 is ``NotFound`` if its JSON body carries the API's
code. Any other 404 (a proxy's page, an empty body, JSON without a code) is an outage.

No exception holds the token or the request, so all of them are safe to log and to pickle.
"""

from __future__ import annotations

from datetime import UTC, datetime
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
    "ProxyFailed",
    "RequestTimedOut",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownCode",
    "UntrustedCertificate",
    "WrongEndpoint",
]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


class FieldViolation(NamedTuple):
    """A field that the API rejects. ``field`` is its path in snake_case, such as ``resources.zones``."""

    field: str
    description: str


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


class CoreweaveError(Exception):
    """The base class of all exceptions of this package.

    Its text controls no terminal, whatever the API has sent: a sign replaces what is not printable.
    """

    def __str__(self) -> str:
        return _printable(super().__str__())


class MissingToken(CoreweaveError):
    """There is no API token. Raised at the first call, not when the client is created."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or "no CoreWeave API token: set COREWEAVE_API_TOKEN (or CW_API_TOKEN) in the"
            " environment, or pass one to the client; in a Pulumi project:"
            " pulumi config set --secret coreweave:token"
        )


class InvalidSetting(CoreweaveError, ValueError):
    """A setting that cannot be used; the message names it."""


class InvalidEndpoint(InvalidSetting):
    """An endpoint that is not safe for the token: neither https nor http on a loopback address."""


class WrongEndpoint(InvalidSetting):
    """An endpoint that responds, but does not serve the inference API."""


class InvalidToken(InvalidSetting):
    """A token that an HTTP header cannot carry; the message does not show it."""


class ApiError(CoreweaveError):
    """An operation failed. The subclass says why.

    ``code``         the API's code in Connect spelling, such as ``already_exists``
    ``http_status``  None if there was no response
    ``message``      the API's message, or the client's if the API did not respond
    ``violations``   the fields that the API rejects
    ``details``      all details as dicts with ``@type``, such as ``google.rpc.QuotaFailure``
    ``request_id``   identifies the request to CoreWeave's support
    ``attempts``     the number of requests sent; 0 if the client rejected the arguments
    ``operation``    create, get, list, update, delete or parameters
    ``claim_id``     the id of the claim, if the operation is about one
    ``retry_after``  the seconds that the API asks to wait, or None
    ``in_doubt``     whether one of the attempts may have taken effect, even if the last one was refused
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
        self.in_doubt = False

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
            notes.append(f"{self.attempts} attempts" if self.attempts else "not sent")
        if notes:
            text = f"{text} ({'; '.join(notes)})"
        return _printable(" ".join(text.split()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class Canceled(ApiError):
    """The API or a proxy canceled the request."""

    CODE: ClassVar[str] = "canceled"


class InvalidArgument(ApiError):
    """A field is invalid; see ``violations``. If ``attempts`` is 0, the client rejected it before sending."""

    CODE: ClassVar[str] = "invalid_argument"


class DeadlineExceeded(ApiError):
    """The API exceeded its own deadline. The operation may have taken effect."""

    CODE: ClassVar[str] = "deadline_exceeded"


class NotFound(ApiError):
    """The claim does not exist. Only the API itself says so; a proxy's 404 is a ``BrokenAnswer``."""

    CODE: ClassVar[str] = "not_found"


class AlreadyExists(ApiError):
    """The id or the name is taken. Get the claim with this id to see which."""

    CODE: ClassVar[str] = "already_exists"


class PermissionDenied(ApiError):
    """The token lacks the role: Inference Viewer to read, Inference Admin to write."""

    CODE: ClassVar[str] = "permission_denied"


class ResourceExhausted(ApiError):
    """Too many requests, or a quota is exhausted (then ``details`` contain a QuotaFailure)."""

    CODE: ClassVar[str] = "resource_exhausted"


class FailedPrecondition(ApiError):
    """The state of the claim does not allow the operation."""

    CODE: ClassVar[str] = "failed_precondition"


class Aborted(ApiError):
    """Another change to the same claim interfered. Safe to retry."""

    CODE: ClassVar[str] = "aborted"


class OutOfRange(ApiError):
    """A value is outside the range that the API accepts."""

    CODE: ClassVar[str] = "out_of_range"


class Unimplemented(ApiError):
    """The API does not support the operation. Never retried."""

    CODE: ClassVar[str] = "unimplemented"


class Internal(ApiError):
    """An internal error of the API. The operation may have taken effect."""

    CODE: ClassVar[str] = "internal"


class DataLoss(ApiError):
    """The API lost or corrupted data."""

    CODE: ClassVar[str] = "data_loss"


class Unauthenticated(ApiError):
    """The token is missing, invalid or expired.

    ``token_source``    where the token comes from, such as ``COREWEAVE_API_TOKEN``; empty if not known
    ``accepted_until``  when the client last used this token with success; None if it never did
    """

    CODE: ClassVar[str] = "unauthenticated"
    token_source: str = ""
    accepted_until: datetime | None = None

    def __str__(self) -> str:
        if self.accepted_until is None:
            return super().__str__()
        return f"{super().__str__()}; {self.history}"

    @property
    def history(self) -> str:
        """Until when the token was accepted, in words; empty if it never was."""
        if self.accepted_until is None:
            return ""
        until = f"{self.accepted_until.astimezone(UTC):%H:%M:%S} UTC"
        return f"the token from {self.token_source or 'the program'} was accepted until {until}"


class UnknownCode(ApiError):
    """A code that this version does not know; ``code`` keeps it as received."""

    CODE: ClassVar[str] = "unknown"


class Unavailable(ApiError):
    """The API is unreachable or gives no valid response. Says nothing about any claim."""

    CODE: ClassVar[str] = "unavailable"


class ConnectionFailed(Unavailable):
    """There was no connection, or it was lost before the response.

    ``sent`` is False only if the request certainly never reached the server.
    """

    sent: bool = True


class UntrustedCertificate(ConnectionFailed):
    """The server's certificate is not trusted, or has expired. Never retried.

    SSL_CERT_FILE names the certificates to trust instead of the usual ones.
    """

    sent: bool = False


class ProxyFailed(ConnectionFailed):
    """The proxy cannot be reached, or does not connect; the message names the variable that it comes from.

    ``refused`` is True if the proxy answered with a 4xx status, such as 407 without a password: then the call
    is not retried.
    """

    sent: bool = False
    refused: bool = False


class RequestTimedOut(Unavailable):
    """No complete response within the timeout of an attempt. The operation may have taken effect.

    If the server is slower than that, a longer timeout helps (COREWEAVE_HTTP_TIMEOUT), and retries do not.
    """


class BrokenAnswer(Unavailable):
    """Not a response of the API. Says nothing about any claim, whatever the HTTP status."""
