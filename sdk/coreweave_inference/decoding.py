"""Reads an error response of the API into the exception it stands for.

The code in the body decides first, the HTTP status second. A 404 is ``NotFound`` only if its JSON body
carries the API's code; any other 404 (a proxy's page, an empty body, JSON without a code) is an outage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from ._protobuf import decode_detail
from .errors import (
    JSON,
    Aborted,
    AlreadyExists,
    ApiError,
    BrokenAnswer,
    Canceled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UnknownCode,
)

__all__ = ["decode_error", "error_class", "excerpt", "redact", "without_token"]

_DIGITS = 20
_LEVELS = 50  # of nesting; the API's own errors have about six


def error_class(code: str) -> type[ApiError]:
    """The exception class of a code in Connect spelling; ``UnknownCode`` for any other."""
    return _CLASSES.get(code, UnknownCode)


def decode_error(http_status: int, body: bytes, *, operation: str, token: str = "") -> ApiError:
    """The exception for a response whose status is not 2xx, in either published form.

    A message that quotes the body leaves out the ``token``. The caller redacts everything else, and adds
    ``attempts``, ``claim_id``, ``retry_after`` and a request id found in the headers.
    """
    if 300 <= http_status < 400:
        return BrokenAnswer(
            "the endpoint redirects, and redirects are not followed",
            http_status=http_status,
            operation=operation,
        )
    try:
        response = _parse(body)
    except ValueError:
        if not body.strip() and http_status in _CLEAR_WITHOUT_BODY:
            return error_class(_CODE_OF_STATUS[http_status])(
                "the response has no body", http_status=http_status, operation=operation
            )
        return _not_the_api(http_status, excerpt(body, token), operation)
    form = response.get("error", response) if isinstance(response, dict) else response
    if not isinstance(form, dict):
        return _not_the_api(http_status, excerpt(body, token), operation)
    code = _code(form.get("code")) or _known_code(form.get("status"))
    if code is None:
        # a gateway without a matching route answers like this, which must not read as "gone" or "none"
        if http_status == 404:
            return _not_the_api(http_status, excerpt(body, token), operation)
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


def _parse(body: bytes) -> JSON:
    """The JSON of an error response, safe to walk, to print and to send on; raises ValueError.

    An integer of more digits than any number of the API stays a text. Half of a surrogate pair, which UTF-8
    cannot encode, becomes a replacement character. What is nested too deep becomes null.
    """
    try:
        value = json.loads(body, parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else digits)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return _each_text(value, _encodable)


def _each_text(value: JSON, change: Callable[[str], str], levels: int = _LEVELS) -> JSON:
    """The value with every text in it changed, names included, down to so many levels."""
    match value:
        case str():
            return change(value)
        case list() | dict() if not levels:
            return None
        case list():
            return [_each_text(item, change, levels - 1) for item in value]
        case dict():
            return {change(name): _each_text(item, change, levels - 1) for name, item in value.items()}
        case _:
            return value


def _encodable(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def excerpt(body: bytes, token: str = "", limit: int = 120) -> str:
    """The start of a body on one line, for an error message."""
    text = " ".join(body[: 4096 * limit].decode("utf-8", "replace").split())
    printable = "".join(character for character in text if character.isprintable())
    # the token goes before the text is cut, or half of it could stay: a leak too
    printable = without_token(printable, token)
    if not printable:
        return "no body" if not body else f"{len(body)} bytes"
    return printable if len(printable) <= limit else f"{printable[:limit]}…"


def without_token(text: str, token: str) -> str:
    """The text without the token, in whatever case, and with characters escaped as in JSON or in a URL."""
    return _remover_of(token)(text)


def _remover_of(token: str) -> Callable[[str], str]:
    """``without_token`` for many texts: preparing it takes longer than most of them."""
    if not token:
        return lambda text: text
    # a bounded number of backslashes: a server may send a million of them
    either = (
        rf"\\{{0,8}}(?:{re.escape(character)}|\\u00{ord(character):02x}|%{ord(character):02x})"
        for character in token
    )
    found = re.compile("".join(either), re.IGNORECASE)
    shortest = len(token)  # no way to write a character is shorter
    return lambda text: found.sub("[token]", text) if len(text) >= shortest else text


def redact(error: ApiError, token: str) -> None:
    """Removes the token from everything in ``error`` that the server may have echoed."""
    clean = _remover_of(token)

    error.message = clean(error.message)
    error.args = (error.message,)
    error.code = clean(error.code)
    error.violations = tuple(
        FieldViolation(clean(one.field), clean(one.description)) for one in error.violations
    )
    error.details = tuple(
        {clean(name): _each_text(item, clean) for name, item in detail.items()} for detail in error.details
    )
    error.request_id = None if error.request_id is None else clean(error.request_id)


# in the order of google.rpc.Code, which numbers them from 1
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
    if isinstance(value, str) and (digits := value.strip()).isdecimal():
        value = int(digits[:_DIGITS])  # with more digits it is no code either way
    if isinstance(value, int):
        if 1 <= value <= len(_CODES):
            return _CODES[value - 1]
        # 0 is "ok", and a number from 100 on is an HTTP status in the wrong place
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


def _not_the_api(http_status: int, start: str, operation: str) -> BrokenAnswer:
    return BrokenAnswer(
        f"not a response of the API: {start}",
        http_status=http_status,
        operation=operation,
    )


def _details(value: JSON) -> Iterator[dict[str, JSON]]:
    for detail in value if isinstance(value, list) else ():
        if isinstance(detail, dict):
            yield _detail(detail)


def _detail(detail: dict[str, JSON]) -> dict[str, JSON]:
    """The fields of one detail in either form, and its type as ``@type`` without the URL prefix."""
    name = detail.get("@type", detail.get("type"))
    if not isinstance(name, str):
        return detail
    name = name.rpartition("/")[2]
    fields = detail
    if "@type" not in detail:
        debug, value = detail.get("debug"), detail.get("value")
        fields = {key: item for key, item in detail.items() if key != "type"}
        if isinstance(debug, dict):
            fields = debug
        elif isinstance(value, str):
            with suppress(ValueError):  # then it is kept as it came
                fields = decode_detail(name, value)
    return {"@type": name, **{key: item for key, item in fields.items() if key != "@type"}}


def _violations(details: tuple[dict[str, JSON], ...]) -> Iterator[FieldViolation]:
    for detail in details:
        if detail.get("@type") == "google.rpc.BadRequest":
            for one in _objects(detail, "fieldViolations", "field_violations"):
                yield FieldViolation(_text(one.get("field")), _text(one.get("description")))
        elif detail.get("@type") == "buf.validate.Violations":
            for one in _objects(detail, "violations"):
                yield FieldViolation(_path(one), _text(one.get("message")))


def _path(violation: Mapping[str, JSON]) -> str:
    """The path in a protovalidate violation, in its older or newer form: ``resources.zones[0]``."""
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
