"""The API over HTTP: routes, token check, answers in protobuf JSON, injected faults.

The six operations are served by a bare ASGI function, because it is what benchmarks measure;
`/_emulator` is an ordinary Starlette application (`control`).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from coreweave_inference.emulator.control import control_routes
from coreweave_inference.emulator.failures import ApiError, Detail, Violation, error_body
from coreweave_inference.emulator.failures import invalid_argument as _invalid_argument
from coreweave_inference.emulator.faults import Call, Fail, FaultProfile, FaultRule, FaultState
from coreweave_inference.emulator.records import Hold, Holds, RequestLog, RequestRecord
from coreweave_inference.emulator.settings import EmulatorSettings, ErrorForm
from coreweave_inference.emulator.store import Store
from coreweave_inference.emulator.strict import (
    decode_create,
    decode_list_query,
    decode_update,
    is_uuid,
    refuse_query,
)

_LOG = logging.getLogger("coreweave_inference.emulator")
PREFIX = "/v1alpha1/inference/capacityclaims"
CONTROL_PREFIX = "/_emulator"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON: Headers = [(b"content-type", b"application/json")]
_HTML: Headers = [(b"content-type", b"text/html; charset=utf-8")]
_HTML_PAGE = b"<html><head><title>Gateway</title></head><body><h1>Please wait</h1></body></html>"
_COLLECTION = {"POST": "create", "GET": "list"}
_MEMBER = {"GET": "get", "PATCH": "update", "DELETE": "delete"}
_WRITES = ("create", "update", "delete")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: bytes
    operation: str | None
    claim_id: str | None
    authorization: bytes
    body: bytes | None
    """None: larger than allowed, and thrown away."""


class EmulatorApp:
    """The ASGI application. `faults` may be replaced at any time, from any thread."""

    def __init__(self, settings: EmulatorSettings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.log: RequestLog = RequestLog(settings.log_limit)
        self.holds: Holds = Holds()
        self.faults: FaultState = FaultState()
        self._admin = b"Bearer " + settings.token.encode()
        self._viewer = b"Bearer " + settings.viewer_token.encode()
        self._secrets = [
            token.encode() for token in (settings.token, settings.viewer_token, settings.control_token)
        ]
        self._closing = asyncio.Event()
        self._control = control_routes(self)

    def set_faults(self, profile: FaultProfile) -> None:
        """Replace all fault rules; counting starts anew."""
        self.faults = FaultState(profile)

    def close(self) -> None:
        """End what is held or delayed; to be called in the server's event loop."""
        self._closing.set()
        self.holds.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == CONTROL_PREFIX or path.startswith(CONTROL_PREFIX + "/"):
            await self._control(scope, receive, send)
            return
        method: str = scope["method"]
        query: bytes = scope["query_string"]
        record = self.log.open(method, path, query.decode("latin-1"))
        operation, claim_id = _route(method, path)
        record.operation, record.claim = operation, claim_id
        authorization = b""
        has_body = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length" or name == b"transfer-encoding":
                has_body = True
            elif name == b"user-agent":
                record.user_agent = value.decode("latin-1")
        body: bytes | None = b""
        if has_body:
            body = await _read(receive, self.settings.max_body_bytes)
            if body:
                record.bytes_in = len(body)
                record.body = self._loggable(body)
                if operation == "create" and isinstance(record.body, dict):
                    given = record.body.get("id")
                    record.claim = given.lower() if isinstance(given, str) else None
        request = _Request(method, path, query, operation, claim_id, authorization, body)
        rule = self.faults.decide(self._call(request, record)) if self.faults.active else None
        if rule is None:
            answer = self._respond(request, record)
            await self._send(answer, record, send)
        else:
            record.fault = rule.name
            await self._respond_with_fault(rule, request, record, scope, receive, send)
        record.seconds = time.monotonic() - record.time
        if _LOG.isEnabledFor(logging.INFO):
            _LOG.info("%s", record)

    # The API

    def _respond(self, request: _Request, record: RequestRecord) -> _Answer:
        try:
            body = self._perform(request)
        except ApiError as error:
            form = self.settings.error_form
            headers = _JSON
            if error.code == "unimplemented":
                headers = [*_JSON, (b"allow", _allowed(request.path).encode())]
            text = error_body(form, error.code, error.message, error.details)
            return _Answer(error.status, text, headers)
        record.committed = True
        return _Answer(200, body, _JSON)

    def _perform(self, request: _Request) -> bytes:
        role = self._role(request.authorization)
        operation, claim_id = request.operation, request.claim_id
        if operation is None:
            if _allowed(request.path):
                raise ApiError("unimplemented", f"Method Not Allowed: {request.method}")
            raise ApiError("not_found", "Not Found")
        if operation in _WRITES and role != "admin":
            text = f'{operation} a capacity claim: needs the role "Inference Admin"'
            raise ApiError("permission_denied", text)
        if request.body is None:
            text = f"request body is larger than {self.settings.max_body_bytes} bytes"
            raise ApiError("invalid_argument", text)
        if operation == "list":
            return self._list(decode_list_query(request.query))
        refuse_query(request.query)
        if operation == "parameters":
            return self.store.parameters()
        if operation == "create":
            wanted = decode_create(request.body, max_zones=self.settings.max_zones)
            return b'{"capacityClaim":' + self.store.create(wanted) + b"}"
        if claim_id is None or not is_uuid(claim_id):
            raise _invalid_argument([Violation("id", "value must be a valid UUID")])
        claim_id = claim_id.lower()
        if operation == "get":
            claim = self.store.get(claim_id)
        elif operation == "update":
            resources = decode_update(request.body, claim_id, max_zones=self.settings.max_zones)
            claim = self.store.update(claim_id, resources)
        else:
            claim = self.store.delete(claim_id)
        return b'{"capacityClaim":' + claim + b"}"

    def _list(self, updated_after: int | None) -> bytes:
        claims = self.store.list_claims(updated_after)
        if claims:
            return b'{"capacityClaims":[' + b",".join(claims) + b"]}"
        if self.settings.empty_list == "not_found":
            raise ApiError("not_found", "no capacity claims found")
        return b'{"capacityClaims":[]}' if self.settings.empty_list == "array" else b"{}"

    def _role(self, authorization: bytes) -> str:
        scheme, _, token = authorization.partition(b" ")
        given = b"Bearer " + token if scheme.lower() == b"bearer" else b""
        admin = hmac.compare_digest(given, self._admin)
        viewer = hmac.compare_digest(given, self._viewer)
        if admin or viewer:
            return "admin" if admin else "viewer"
        raise ApiError("unauthenticated", "missing or invalid API access token")

    # Faults

    async def _respond_with_fault(
        self,
        rule: FaultRule,
        request: _Request,
        record: RequestRecord,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if rule.delay and await self._closes_within(rule.delay):
            await _drop(scope, receive)
            return
        if rule.hold == "before" and not await self._hold(rule, record):
            await _drop(scope, receive)
            return
        if rule.drop == "before":
            await _drop(scope, receive)
            return
        instead = self._replacement(rule, "before")
        if instead is not None:
            await self._send(instead, record, send)
            return
        answer = self._commit(rule, request, record)
        if rule.hold == "after" and not await self._hold(rule, record):
            await _drop(scope, receive)
            return
        if rule.drop == "after":
            await _drop(scope, receive)
            return
        answer = self._replacement(rule, "after") or answer
        if rule.half_body:
            await self._send(answer, record, send, only=len(answer.body) // 2)
            await _close(scope, receive)
            return
        await self._send(answer, record, send)

    def _commit(self, rule: FaultRule, request: _Request, record: RequestRecord) -> _Answer:
        """Take the call, and do what the rule says about its claim."""
        claim_id = record.claim.lower() if record.claim else None
        before = self.store.snapshot(claim_id) if rule.stale_reads and claim_id else None
        answer = self._respond(request, record)
        if answer.status != 200:
            return answer
        if claim_id is None and request.operation == "create":
            claim_id = json.loads(answer.body)["capacityClaim"]["spec"]["id"]
            before = (None, 0)
        if claim_id is None:
            return answer
        if rule.stale_reads is not None and before is not None:
            stale = rule.stale_reads
            self.store.serve_stale(claim_id, before, stale.seconds, stale.reads)
        if self.store.name_of(claim_id) is None:
            return answer
        if rule.status is not None:
            change = rule.status
            forced: dict[str, object] = {"status": change.status}
            if change.allocated is not None:
                count = json.loads(answer.body)["capacityClaim"]["spec"]["resources"]
                forced["allocatedInstances"] = change.allocated
                missing = count.get("instanceCount", 0) - change.allocated
                forced["pendingInstances"] = max(0, missing)
            self.store.edit(claim_id, status=forced, seconds=change.seconds)
        if rule.foreign_edit is not None or rule.foreign_delete:
            edit: dict[str, Any] = dict(rule.foreign_edit or {})
            self.store.edit(claim_id, delete=rule.foreign_delete, **edit)
        return answer

    def _replacement(self, rule: FaultRule, when: str) -> _Answer | None:
        """What is answered instead of the API's own answer."""
        if rule.redirect is not None and when == "before":
            return _Answer(302, b"", [(b"location", rule.redirect.encode())])
        if rule.html_200 == when:
            return _Answer(200, _HTML_PAGE, _HTML)
        if rule.fail is not None and rule.fail.when == when:
            return self._failure(rule.fail)
        return None

    def _failure(self, fail: Fail) -> _Answer:
        status = fail.status or ApiError(fail.code, "").status
        extra: Headers = []
        retry_after = fail.retry_after_header(time.time())
        if retry_after is not None:
            extra.append((b"retry-after", retry_after.encode()))
        if fail.form == "html":
            return _Answer(status, _HTML_PAGE, [*_HTML, *extra])
        if fail.form == "empty":
            return _Answer(status, b"", extra)
        form: ErrorForm = fail.form or self.settings.error_form
        details: Sequence[Detail] = [
            (
                str(each.get("@type", "")).rpartition("/")[2],
                {key: value for key, value in each.items() if key != "@type"},
            )
            for each in fail.details
        ]
        return _Answer(status, error_body(form, fail.code, fail.message, details), [*_JSON, *extra])

    async def _hold(self, rule: FaultRule, record: RequestRecord) -> bool:
        when = rule.hold or "before"
        hold = Hold(record.sequence, rule.name, when, record.method, record.path, record.claim)
        return await self.holds.wait(hold)

    async def _closes_within(self, seconds: float) -> bool:
        """Let `seconds` pass; True if the server closes meanwhile."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _call(self, request: _Request, record: RequestRecord) -> Call:
        claim_id = record.claim.lower() if record.claim else None
        name: object = self.store.name_of(claim_id) if claim_id else None
        if request.operation == "create" and isinstance(record.body, dict):
            name = record.body.get("name")
        named = name if isinstance(name, str) else None
        return Call(request.method, request.path, request.operation, claim_id, named)

    # The wire

    async def _send(
        self, answer: _Answer, record: RequestRecord, send: Send, *, only: int | None = None
    ) -> None:
        """Send an answer, or with `only` all headers and so many bytes of the body."""
        record.status = answer.status
        body = answer.body if only is None else answer.body[:only]
        record.bytes_out = len(body)
        headers = [
            *answer.headers,
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-request-id", record.request_id.encode()),
        ]
        if answer.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": only is not None})

    def _loggable(self, body: bytes) -> object:
        for secret in self._secrets:
            body = body.replace(secret, b"[token]")
        text = body.decode("utf-8", errors="replace")
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value


def _route(method: str, path: str) -> tuple[str | None, str | None]:
    """The operation and the claim's id; no operation for an unknown path or method."""
    if not path.startswith(PREFIX):
        return None, None
    rest = path[len(PREFIX) :]
    if not rest:
        return _COLLECTION.get(method), None
    if rest == "/parameters":
        return ("parameters" if method == "GET" else None), None
    if rest[0] != "/" or len(rest) == 1 or "/" in rest[1:]:
        return None, None
    return _MEMBER.get(method), rest[1:]


def _allowed(path: str) -> str:
    """The methods a path has, for `Allow`; empty for an unknown path."""
    return ", ".join(method for method in ("GET", "POST", "PATCH", "DELETE") if _route(method, path)[0])


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The whole body; None, after reading it to its end, if it is larger than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if size <= limit else None


async def _drop(scope: Scope, receive: Receive) -> None:
    """Close the connection at once, without an answer."""
    scope["state"]["transport"].abort()
    await _until_closed(receive)


async def _close(scope: Scope, receive: Receive) -> None:
    """Close the connection after what was already sent."""
    scope["state"]["transport"].close()
    await _until_closed(receive)


async def _until_closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
