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

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
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
    "decode_error",
    "error_class",
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


def error_class(code: str) -> type[ApiError]:
    """The exception class of a code in Connect spelling; ``UnknownCode`` for any other."""
    return _CLASSES.get(code, UnknownCode)


def decode_error(http_status: int, body: bytes, *, operation: str) -> ApiError:
    """The exception that an answer stands for whose status is not 2xx.

    Reads both error forms. ``attempts``, ``claim_id``, ``retry_after`` and a request id from the
    headers are for the caller to add.
    """
    if 300 <= http_status < 400:
        return BrokenAnswer(
            "the endpoint redirects, and redirects are not followed",
            http_status=http_status,
            operation=operation,
        )
    try:
        answer: JSON = json.loads(body)
    except (ValueError, RecursionError):
        if not body.strip() and http_status in _CLEAR_WITHOUT_BODY:
            return error_class(_CODE_OF_STATUS[http_status])(
                "answered without a body", http_status=http_status, operation=operation
            )
        return _not_the_api(http_status, body, operation)
    form = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(form, dict):
        return _not_the_api(http_status, body, operation)
    code = _code(form.get("code")) or _known_code(form.get("status"))
    if code is None:
        if http_status == 404:  # a gateway's router writes such a one: it must not read as "gone" or "none"
            return _not_the_api(http_status, body, operation)
        code = _code_of_status(http_status, operation)
    details = tuple(_details(form.get("details")))
    message = form.get("message")
    return error_class(code)(
        message if isinstance(message, str) else "",
        code=code,
        http_status=http_status,
        violations=tuple(_violations(details)),
        details=details,
        request_id=_request_id(details),
        operation=operation,
    )


_CLASSES: dict[str, type[ApiError]] = {
    one.CODE: one
    for one in (
        Canceled,
        UnknownCode,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}
# google.rpc.Code numbers them from 1 in exactly this order
_CODES = tuple(_CLASSES)
_CODE_OF_STATUS = {
    400: "invalid_argument",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    408: "deadline_exceeded",
    412: "failed_precondition",
    429: "resource_exhausted",
    499: "canceled",
    501: "unimplemented",
    502: "unavailable",
    503: "unavailable",
    504: "deadline_exceeded",
}
_CLEAR_WITHOUT_BODY = frozenset({401, 403, 429})


def _code(value: JSON) -> str | None:
    """A code from a google.rpc number, a number in a string, or a name in any spelling."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int):
        if 1 <= value <= len(_CODES):
            return _CODES[value - 1]
        # 0 is "ok", and from 100 on it is an HTTP status that somebody wrote there
        return None if value == 0 or value >= 100 else str(value)
    if not isinstance(value, str):
        return None
    name = value.strip().lower().replace("cancelled", "canceled")
    return None if name in ("", "ok") else name


def _known_code(value: JSON) -> str | None:
    code = _code(value) if isinstance(value, str) else None
    return code if code in _CLASSES else None


def _code_of_status(http_status: int, operation: str) -> str:
    if http_status == 409:
        return "already_exists" if operation == "create" else "aborted"
    if http_status >= 500:
        return _CODE_OF_STATUS.get(http_status, "internal")
    return _CODE_OF_STATUS.get(http_status, "unknown")


def _not_the_api(http_status: int, body: bytes, operation: str) -> BrokenAnswer:
    return BrokenAnswer(
        f"an answer that is not the API's: {excerpt(body)}",
        http_status=http_status,
        operation=operation,
    )


def excerpt(body: bytes, limit: int = 120) -> str:
    """The start of a body, on one line, for an error text."""
    text = " ".join(body[: 4 * limit].decode("utf-8", "replace").split())
    printable = "".join(character for character in text if character.isprintable())
    if not printable:
        return "no body" if not body else f"{len(body)} bytes"
    return printable if len(printable) <= limit else f"{printable[:limit]}…"


# -- details -----------------------------------------------------------------------------------


def _details(value: JSON) -> Iterator[dict[str, JSON]]:
    for detail in value if isinstance(value, list) else ():
        if not isinstance(detail, dict):
            continue
        name = detail.get("@type", detail.get("type"))
        if not isinstance(name, str):
            yield detail
            continue
        name = name.rpartition("/")[2]
        debug = detail.get("debug")
        raw = detail.get("value")
        if "@type" in detail:
            fields = {key: item for key, item in detail.items() if key != "@type"}
        elif isinstance(debug, dict):
            fields = {key: item for key, item in debug.items() if key != "@type"}
        elif isinstance(raw, str) and name in _MESSAGES:
            try:
                fields = _protobuf(_base64(raw), _MESSAGES[name])
            except ValueError:
                fields = {"value": raw}
        else:
            fields = {key: item for key, item in detail.items() if key != "type"}
        yield {"@type": name, **fields}


def _violations(details: tuple[dict[str, JSON], ...]) -> Iterator[FieldViolation]:
    for detail in details:
        if detail.get("@type") == "google.rpc.BadRequest":
            for one in _objects(detail, "fieldViolations", "field_violations"):
                yield FieldViolation(_text(one.get("field")), _text(one.get("description")))
        elif detail.get("@type") == "buf.validate.Violations":
            for one in _objects(detail, "violations"):
                yield FieldViolation(_path(one), _text(one.get("message")))


def _path(violation: Mapping[str, JSON]) -> str:
    """``resources.zones[0]`` of a protovalidate violation, in its older or newer form."""
    field = violation.get("field")
    if not isinstance(field, dict):
        return _text(violation.get("fieldPath"))
    path = ""
    for element in _objects(field, "elements"):
        path += f".{_text(element.get('fieldName'))}"
        if "index" in element:
            path += f"[{_text(element['index'])}]"
    return path.lstrip(".")


def _request_id(details: tuple[dict[str, JSON], ...]) -> str | None:
    for detail in details:
        if detail.get("@type") == "google.rpc.RequestInfo":
            return _text(detail.get("requestId")) or None
    return None


def _objects(holder: Mapping[str, JSON], *names: str) -> Iterator[dict[str, JSON]]:
    for name in names:
        value = holder.get(name)
        for item in value if isinstance(value, list) else ():
            if isinstance(item, dict):
                yield item


def _text(value: JSON) -> str:
    return "" if value is None else str(value)


# -- Connect sends details as protobuf; `debug`, the readable copy, is optional ------------------

_Fields: TypeAlias = "dict[int, tuple[str, _Fields | None]]"
_VIOLATION: _Fields = {1: ("field", None), 2: ("description", None)}
# google/rpc/error_details.proto: number -> (JSON name, fields of the repeated message in it)
_MESSAGES: dict[str, _Fields] = {
    "google.rpc.BadRequest": {1: ("fieldViolations", _VIOLATION)},
    "google.rpc.ErrorInfo": {1: ("reason", None), 2: ("domain", None)},
    "google.rpc.PreconditionFailure": {
        1: ("violations", {1: ("type", None), 2: ("subject", None), 3: ("description", None)})
    },
    "google.rpc.QuotaFailure": {1: ("violations", {1: ("subject", None), 2: ("description", None)})},
    "google.rpc.RequestInfo": {1: ("requestId", None), 2: ("servingData", None)},
    "google.rpc.ResourceInfo": {
        1: ("resourceType", None),
        2: ("resourceName", None),
        3: ("owner", None),
        4: ("description", None),
    },
    "google.rpc.RetryInfo": {1: ("retryDelay", {})},
}


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _protobuf(data: bytes, fields: _Fields) -> dict[str, JSON]:
    """The known fields of a message; ValueError when the bytes are no message."""
    message: dict[str, JSON] = {}
    for number, value in _wire(data):
        if number not in fields or not isinstance(value, bytes):
            continue
        name, inner = fields[number]
        if inner is None:
            message[name] = value.decode()
        elif name == "retryDelay":
            message[name] = _protobuf_duration(value)
        else:
            items = message.setdefault(name, [])
            if isinstance(items, list):
                items.append(_protobuf(value, inner))
    return message


def _protobuf_duration(data: bytes) -> str:
    parts = {number: value for number, value in _wire(data) if isinstance(value, int)}
    return f"{parts.get(1, 0) + parts.get(2, 0) / 1_000_000_000:.9f}".rstrip("0").rstrip(".") + "s"


def _wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = _varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                length, at = _varint(data, at)
                value, at = data[at : at + length], at + length
            case 5:
                value, at = data[at : at + 4], at + 4
            case _:
                raise ValueError("no such protobuf wire type")
        if at > len(data):
            raise ValueError("the protobuf message is cut off")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("the protobuf message is cut off")
