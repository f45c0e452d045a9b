"""The API over HTTP: routes, tokens, responses in protobuf JSON, and the faults injected into them.

A bare ASGI function serves the six operations, because it is part of what benchmarks measure.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from coreweave_inference.emulator.claim import ClaimEdit
from coreweave_inference.emulator.claims import Claims
from coreweave_inference.emulator.decoding import (
    decode_create,
    decode_list_query,
    decode_update,
    is_uuid,
    refuse_query,
)
from coreweave_inference.emulator.errors import ApiError, Detail, Violation, error_body, invalid_argument
from coreweave_inference.emulator.faults import (
    PREFIX,
    ApiRequest,
    Fail,
    FaultProfile,
    FaultRule,
    FaultState,
    StatusChange,
    When,
)
from coreweave_inference.emulator.holds import Hold, Holds
from coreweave_inference.emulator.request_log import RequestLog, RequestRecord
from coreweave_inference.emulator.settings import EmulatorSettings, new_token
from coreweave_inference.emulator.visibility import Snapshot

_LOG = logging.getLogger("coreweave_inference.emulator")

Headers = list[tuple[bytes, bytes]]

_JSON: Headers = [(b"content-type", b"application/json")]
_HTML: Headers = [(b"content-type", b"text/html; charset=utf-8")]
_HTML_PAGE = b"<html><head><title>Gateway</title></head><body><h1>Please wait</h1></body></html>"
_COLLECTION = {"POST": "create", "GET": "list"}
_MEMBER = {"GET": "get", "PATCH": "update", "DELETE": "delete"}
_WRITES = ("create", "update", "delete")


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes
    headers: Headers


@dataclass(slots=True)
class _Exchange:
    """One request, and the connection to answer it on."""

    scope: Scope
    receive: Receive
    send: Send
    record: RequestRecord
    authorization: bytes = b""
    role: str | None = None
    """What the token allows; None without a valid one."""
    body: bytes | None = b""
    """None: larger than allowed, and discarded."""

    async def respond(self, response: _Response, *, only: int | None = None) -> None:
        """Send a response, or with `only` all headers and that many bytes of the body."""
        self.record.status = response.status
        body = response.body if only is None else response.body[:only]
        self.record.bytes_out = len(body)
        headers = [
            *response.headers,
            (b"content-length", str(len(response.body)).encode()),
            (b"x-request-id", self.record.request_id.encode()),
        ]
        if response.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await self.send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": only is not None})

    async def drop(self) -> None:
        """Close the connection at once, without a response."""
        self.scope["state"]["transport"].abort()
        await self._closed()

    async def close(self) -> None:
        """Close the connection after what was already sent."""
        self.scope["state"]["transport"].close()
        await self._closed()

    async def _closed(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


class EmulatorApp:
    """The ASGI application that serves the API."""

    def __init__(self, settings: EmulatorSettings, claims: Claims, faults: FaultProfile) -> None:
        self.settings = settings
        self.claims = claims
        self.log: RequestLog = RequestLog(settings.log_limit, settings.log_bytes)
        self.holds: Holds = Holds()
        self.faults: FaultState = FaultState(faults)
        self._first_faults = faults
        self.token: str = settings.token
        """The API token with the role Inference Admin that is valid now."""
        self._viewer = b"Bearer " + settings.viewer_token.encode()
        self._secrets = [
            token.encode() for token in (settings.token, settings.viewer_token, settings.control_token)
        ]
        self._closing = asyncio.Event()

    def set_faults(self, profile: FaultProfile) -> None:
        """Replace all fault rules and reset their counters. Safe to call from any thread."""
        self.faults = FaultState(profile)

    def add_faults(self, profile: FaultProfile) -> None:
        """Add fault rules after those that exist, which keep their counters."""
        self.faults = self.faults.extended(profile)

    def reset(self) -> None:
        """Remove all claims and logged requests, and restore the stock and the fault rules of the start.

        Requests that a rule holds are not answered. The clock and the tokens stay as they are.
        """
        self.faults = FaultState(self._first_faults)
        self.holds.drop()
        self.claims.reset()
        self.log.clear()

    def exchange_token(self) -> str:
        """Expire the API token with the role Inference Admin, and return the next one."""
        self.token = new_token("admin")
        self._secrets.append(self.token.encode())
        return self.token

    def close(self) -> None:
        """End what is held or delayed. Must be called in the server's event loop."""
        self._closing.set()
        self.holds.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = self._without_secrets(scope["query_string"]).decode("latin-1")
        record = self.log.open(scope["method"], scope["path"], query, self.claims.time() / 1e9)
        record.operation, record.claim = _route(record.method, record.path)
        exchange = _Exchange(scope, receive, send, record)
        has_body = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                exchange.authorization = value
            elif name == b"content-length" or name == b"transfer-encoding":
                has_body = True
            elif name == b"user-agent":
                record.user_agent = value.decode("latin-1")
        exchange.role = self._role(exchange.authorization)
        # What comes without a valid token is not kept and meets no fault rule; the answer is 401.
        if has_body:
            exchange.body = await _read(receive, self.settings.max_body_bytes if exchange.role else 0)
            if exchange.body:
                record.bytes_in = len(exchange.body)
                record.body = self._redacted(exchange.body)
                if record.operation == "create" and isinstance(record.body, dict):
                    given = record.body.get("id")
                    record.claim = given.lower() if isinstance(given, str) else None
        self.log.measure(record)
        decides = self.faults.active and exchange.role is not None
        rule = self.faults.decide(self._api_request(record)) if decides else None
        if rule is None:
            await exchange.respond(self._respond(exchange))
        else:
            record.fault = rule.name
            await self._respond_with_fault(rule, exchange)
        record.seconds = time.monotonic() - record.time
        if _LOG.isEnabledFor(logging.INFO):
            _LOG.info("%s", record)

    # The API

    def _respond(self, exchange: _Exchange) -> _Response:
        try:
            body = self._perform(exchange)
        except ApiError as error:
            headers = _JSON
            if error.code == "unimplemented":
                headers = [*_JSON, (b"allow", _allowed(exchange.record.path).encode())]
            text = error_body(self.settings.error_form, error.code, error.message, error.details)
            return _Response(error.status, text, headers)
        exchange.record.committed = True
        return _Response(200, body, _JSON)

    def _perform(self, exchange: _Exchange) -> bytes:
        """Perform one request; returns the body of the response, or raises ApiError."""
        record, body = exchange.record, exchange.body
        if exchange.role is None:
            raise ApiError("unauthenticated", "missing or invalid API access token")
        operation = record.operation
        if operation is None:
            if _allowed(record.path):
                raise ApiError("unimplemented", f"Method Not Allowed: {record.method}")
            raise ApiError("not_found", "Not Found")
        if operation in _WRITES and exchange.role != "admin":
            text = f'{operation} a capacity claim: needs the role "Inference Admin"'
            raise ApiError("permission_denied", text)
        if body is None:
            text = f"request body is larger than {self.settings.max_body_bytes} bytes"
            raise ApiError("invalid_argument", text)
        query: bytes = exchange.scope["query_string"]
        if operation == "list":
            return self._list(decode_list_query(query))
        refuse_query(query)
        if operation == "parameters":
            return self.claims.parameters()
        if operation == "create":
            wanted = decode_create(body, max_zones=self.settings.max_zones)
            return b'{"capacityClaim":' + self.claims.create(wanted) + b"}"
        claim_id = (record.claim or "").lower()
        if not is_uuid(claim_id):
            raise invalid_argument([Violation("id", "value must be a valid UUID")])
        if operation == "get":
            claim = self.claims.get(claim_id)
        elif operation == "update":
            resources = decode_update(body, claim_id, max_zones=self.settings.max_zones)
            claim = self.claims.update(claim_id, resources)
        else:
            claim = self.claims.delete(claim_id)
        return b'{"capacityClaim":' + claim + b"}"

    def _list(self, updated_after: int | None) -> bytes:
        claims = self.claims.list_claims(updated_after)
        if claims:
            return b'{"capacityClaims":[' + b",".join(claims) + b"]}"
        if self.settings.empty_list == "not_found":
            raise ApiError("not_found", "no capacity claims found")
        return b'{"capacityClaims":[]}' if self.settings.empty_list == "array" else b"{}"

    def _role(self, authorization: bytes) -> str | None:
        scheme, _, token = authorization.partition(b" ")
        given = b"Bearer " + token if scheme.lower() == b"bearer" else b""
        admin = hmac.compare_digest(given, b"Bearer " + self.token.encode())
        viewer = hmac.compare_digest(given, self._viewer)
        return "admin" if admin else "viewer" if viewer else None

    def _redacted(self, body: bytes) -> object:
        """The body for the log: as JSON if it is JSON, without the tokens."""
        text = self._without_secrets(body).decode("utf-8", errors="replace")
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value

    def _without_secrets(self, content: bytes) -> bytes:
        for secret in self._secrets:
            content = content.replace(secret, b"[token]")
        return content

    # Faults

    def _api_request(self, record: RequestRecord) -> ApiRequest:
        claim_id = record.claim.lower() if record.claim else None
        name: object = self.claims.name_of(claim_id) if claim_id else None
        if record.operation == "create" and isinstance(record.body, dict):
            name = record.body.get("name")
        claim_name = name if isinstance(name, str) else None
        return ApiRequest(record.method, record.path, record.operation, claim_id, claim_name)

    async def _respond_with_fault(self, rule: FaultRule, exchange: _Exchange) -> None:
        if rule.delay and await self._closes_within(rule.delay):
            await exchange.drop()
            return
        if await self._dropped(rule, "before", exchange):
            return
        instead = self._replacement(rule, "before")
        if instead is not None:
            await exchange.respond(instead)
            return
        response = self._commit(rule, exchange)
        if await self._dropped(rule, "after", exchange):
            return
        response = self._replacement(rule, "after") or response
        if rule.half_body:
            await exchange.respond(response, only=len(response.body) // 2)
            await exchange.close()
            return
        await exchange.respond(response)

    async def _dropped(self, rule: FaultRule, when: When, exchange: _Exchange) -> bool:
        """Hold the request if the rule says so; whether the connection was then closed."""
        released = True
        if rule.hold == when:
            record = exchange.record
            hold = Hold(record.sequence, rule.name, when, record.method, record.path, record.claim)
            released = await self.holds.wait(hold)
        if released and rule.drop != when:
            return False
        await exchange.drop()
        return True

    def _commit(self, rule: FaultRule, exchange: _Exchange) -> _Response:
        """Perform the request, then change the claim as the rule says."""
        record = exchange.record
        claim_id = record.claim.lower() if record.claim else None
        before = Snapshot(None, 0)
        if rule.stale_reads is not None and claim_id is not None:
            before = self.claims.snapshot(claim_id)
        response = self._respond(exchange)
        if response.status != 200 or record.operation in ("list", "parameters"):
            return response
        spec = json.loads(response.body)["capacityClaim"]["spec"]
        claim_id = claim_id or str(spec["id"])
        if rule.stale_reads is not None:
            self.claims.freeze(claim_id, before, rule.stale_reads.seconds, rule.stale_reads.reads)
        if self.claims.name_of(claim_id) is None:
            return response
        if rule.status is not None:
            declared = spec["resources"].get("instanceCount", 0)
            self.claims.edit(claim_id, _status_edit(rule.status, declared))
        if rule.foreign_edit is not None or rule.foreign_delete:
            edit = ClaimEdit.parse(rule.foreign_edit or {})
            self.claims.edit(claim_id, edit, delete=rule.foreign_delete)
        return response

    def _replacement(self, rule: FaultRule, when: When) -> _Response | None:
        """The response that takes the place of the API's own, if any."""
        if rule.redirect is not None and when == "before":
            return _Response(302, b"", [(b"location", rule.redirect.encode())])
        if rule.html_200 == when:
            return _Response(200, _HTML_PAGE, _HTML)
        if rule.fail is not None and rule.fail.when == when:
            return self._failure(rule.fail)
        return None

    def _failure(self, fail: Fail) -> _Response:
        status = fail.status or ApiError(fail.code, "").status
        extra: Headers = []
        retry_after = fail.retry_after_header(time.time())
        if retry_after is not None:
            extra.append((b"retry-after", retry_after.encode()))
        if fail.form == "html":
            return _Response(status, _HTML_PAGE, [*_HTML, *extra])
        if fail.form == "empty" or status in (204, 304):  # which have no body
            return _Response(status, b"", extra)
        details: Sequence[Detail] = [
            (
                str(each.get("@type", "")).rpartition("/")[2],
                {key: value for key, value in each.items() if key != "@type"},
            )
            for each in fail.details
        ]
        text = error_body(fail.form or self.settings.error_form, fail.code, fail.message, details)
        return _Response(status, text, [*_JSON, *extra])

    async def _closes_within(self, seconds: float) -> bool:
        """Let `seconds` pass; True if the server closes meanwhile."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return False
        return True


def _status_edit(change: StatusChange, declared: int) -> ClaimEdit:
    status: dict[str, object] = {"status": change.status}
    if change.allocated is not None:
        status["allocatedInstances"] = change.allocated
        status["pendingInstances"] = max(0, declared - change.allocated)
    return ClaimEdit(status=status, seconds=change.seconds)


def _route(method: str, path: str) -> tuple[str | None, str | None]:
    """The operation and the claim id. No operation for an unknown path or method."""
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
    """The methods of a path, for the `Allow` header. Empty for an unknown path."""
    return ", ".join(method for method in ("GET", "POST", "PATCH", "DELETE") if _route(method, path)[0])


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Read the whole body; returns None if it is larger than `limit` bytes."""
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
