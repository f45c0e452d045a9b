"""`/_emulator`: the calls with which tests and people control an emulator, and a client for them.

`ControlApi` performs the calls, for requests over HTTP and for `Emulator` in the same process.
`EmulatorControl` makes them.
"""

from __future__ import annotations

import hmac
import http.client
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, cast
from urllib.parse import quote, urlencode, urlsplit

from pydantic import Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coreweave_inference.emulator.app import EmulatorApp
from coreweave_inference.emulator.claim import ClaimEdit, ClaimRecord
from coreweave_inference.emulator.decoding import format_timestamp, parse_timestamp
from coreweave_inference.emulator.faults import FaultProfile, FaultRule
from coreweave_inference.emulator.holds import Hold
from coreweave_inference.emulator.request_log import RequestRecord
from coreweave_inference.emulator.settings import LONGEST, Inventory, Stock, check_inventory
from coreweave_inference.emulator.validation import StrictModel

CONTROL_PREFIX = "/_emulator"
HEALTH_PATH = "/healthz"
EMULATOR_NAME = "coreweave-inference"
"""What the health answer and the control answer call this emulator."""

Faults = FaultProfile | Iterable[FaultRule | Mapping[str, object]]
"""A profile, or rules as `FaultRule` or as JSON objects."""

_REQUESTS = TypeAdapter(list[RequestRecord])
_HOLDS = TypeAdapter(list[Hold])
_CLAIMS = TypeAdapter(list[ClaimRecord])
_STOCK = TypeAdapter(dict[str, dict[str, Stock]])


class ControlTokenRefused(RuntimeError):
    """The emulator does not accept the control token."""


_ERRORS: Mapping[int, type[Exception]] = {400: ValueError, 401: ControlTokenRefused, 404: KeyError}
_TIMEOUT = 30.0  # seconds without a byte
_SHORT = 1_000  # of an answer: bytes that say what serves at an address, characters that an error shows


class EmulatorControl:
    """Controls an emulator in another process, over HTTP."""

    def __init__(self, url: str, control_token: str) -> None:
        """`url` is the endpoint of the emulator, `control_token` that of its settings."""
        self._url = urlsplit(url)
        self._token = control_token

    def requests(self, since: int = 0) -> list[RequestRecord]:
        """Requests to the API after number `since`, oldest first."""
        return _REQUESTS.validate_python(self._call("GET", "/requests", since=since)["requests"])

    def clear_requests(self) -> None:
        """Clear the log of requests. The numbering continues."""
        self._call("DELETE", "/requests")

    def faults(self) -> dict[str, object]:
        """The rules as JSON, and in `counts` how many requests each matched (`met`) and hit (`hit`)."""
        return self._call("GET", "/faults")

    def set_faults(self, faults: Faults) -> None:
        """Replace all rules and reset their counters. Raises ValueError for an invalid rule."""
        self._call("PUT", "/faults", FaultProfile.of(faults).to_json())

    def add_faults(self, rules: Iterable[FaultRule | Mapping[str, object]]) -> None:
        """Add rules after those that exist, which keep their counters. A rule replaces one of the same
        name. Raises ValueError for an invalid rule."""
        written = [rule.to_json() if isinstance(rule, FaultRule) else rule for rule in rules]
        self._call("PATCH", "/faults", written)

    def clear_faults(self) -> None:
        """Remove all rules. Held requests stay held."""
        self._call("DELETE", "/faults")

    def holds(self) -> list[Hold]:
        """The requests held now, oldest first."""
        return _HOLDS.validate_python(self._call("GET", "/holds")["holds"])

    def wait_for_hold(self, timeout: float = 10.0, *, count: int = 1) -> list[Hold]:
        """Wait until `count` requests are held. Raises TimeoutError after `timeout` seconds."""
        end = time.monotonic() + timeout
        while len(holds := self.holds()) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(holds)} of {count} requests held after {timeout:g} s")
            time.sleep(0.02)
        return holds

    def release(self, rule: str | None = None) -> int:
        """Release all held requests, or those of one rule; returns how many."""
        return int(self._call("POST", "/release", {"rule": rule})["released"])

    def inventory(self) -> dict[str, dict[str, int]]:
        """The stock, by zone and instance type."""
        return check_inventory(self._call("GET", "/inventory"))

    def set_inventory(self, inventory: Inventory, *, merge: bool = False) -> None:
        """Replace the stock, or with `merge` only the counts named. Waiting claims are served at once."""
        self._call("PATCH" if merge else "PUT", "/inventory", inventory)

    def stock(self) -> dict[str, dict[str, Stock]]:
        """Total and available instances, by zone and instance type."""
        return _STOCK.validate_python(self._call("GET", "/stock"))

    def claims(self) -> list[ClaimRecord]:
        """All claims with internals, including those that are DELETING, oldest first."""
        return _CLAIMS.validate_python(self._call("GET", "/claims")["claims"])

    def live_claims(self) -> list[ClaimRecord]:
        """The claims that are not being deleted: those that cost money."""
        return [claim for claim in self.claims() if claim.status != "STATUS_DELETING"]

    def edit_claim(
        self,
        claim_id: str,
        *,
        spec: Mapping[str, object] | None = None,
        status: Mapping[str, object] | None = None,
        seconds: float | None = None,
        delete: bool = False,
    ) -> None:
        """Change a claim from outside, without the checks of the API.

        `spec` holds fields as the API names them: `name`, `organizationId`, `resources` (instances
        are allocated accordingly), or any other, which the API then shows as it is. `status` replaces
        fields of the computed status block, for `seconds` or permanently; None restores a field. `delete`
        removes the claim at once, without DELETING.

        `edit_claim(id, spec={"resources": {"instanceCount": 2}})` is drift,
        `status={"status": "STATUS_PAUSED"}` an unknown status, `delete=True` a claim that is gone.

        Raises KeyError if the claim does not exist, ValueError for an invalid value.
        """
        edit = {"spec": spec, "status": status, "seconds": seconds, "delete": delete}
        self._call("POST", f"/claims/{claim_id}", edit)

    def exchange_token(self) -> str:
        """Let the API token with the role Inference Admin expire; returns the next one."""
        return str(self._call("POST", "/token")["token"])

    def now(self) -> int:
        """The emulator's time, in nanoseconds since 1970."""
        return parse_timestamp(self._call("GET", "/clock")["now"])

    def advance_clock(self, seconds: float) -> int:
        """Advance the clock; returns the new time in nanoseconds since 1970."""
        return parse_timestamp(self._call("POST", "/clock", {"advance": seconds})["now"])

    def reset(self) -> None:
        """Remove all claims and logged requests, and restore the stock and the fault rules of the start.

        Requests that a rule holds are not answered. The clock and the tokens stay as they are.
        """
        self._call("POST", "/reset")

    def _call(self, method: str, path: str, body: object = None, **query: object) -> dict[str, Any]:
        """Make one call. Raises ValueError, KeyError or RuntimeError with the emulator's message."""
        connection = self._connection()
        try:
            connection.request(
                method,
                f"{self._url.path}{CONTROL_PREFIX}{quote(path)}?{urlencode(query)}",
                body=None if body is None else json.dumps(body),
                headers={"Authorization": f"Bearer {self._token}"},
            )
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        if response.status == 200:
            answer: dict[str, Any] = json.loads(text)
            return answer
        try:
            message = json.loads(text)["error"]
        except (ValueError, LookupError):
            message = f"HTTP {response.status}: {text[:_SHORT]}"
        raise _ERRORS.get(response.status, RuntimeError)(message)

    def is_emulator(self) -> bool:
        """Whether the server says that it is an emulator. Does not send the control token."""
        connection = self._connection()
        try:
            connection.request("GET", f"{self._url.path}{HEALTH_PATH}")
            response = connection.getresponse()
            if response.status != 200:
                return False
            answer: object = json.loads(response.read(_SHORT))
        except (ValueError, RecursionError):
            return False
        finally:
            connection.close()
        return isinstance(answer, dict) and answer.get("emulator") == EMULATOR_NAME

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT)
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)


class _EditBody(ClaimEdit):
    delete: bool = False


class _ReleaseBody(StrictModel):
    rule: str | None = None


class _AdvanceBody(StrictModel):
    advance: Annotated[float, Field(le=LONGEST)]


class ControlApi:
    """Performs the calls to `/_emulator`. As an ASGI application it requires the control token."""

    def __init__(self, app: EmulatorApp) -> None:
        self._app = app
        self._expected = b"Bearer " + app.settings.control_token.encode()

    def perform(self, method: str, path: str, body: object, query: Mapping[str, object]) -> dict[str, Any]:
        """Perform one call, given its path below `/_emulator`; returns the JSON object to answer with.

        Dataclasses in it stay as they are. Raises ValueError for an invalid body or query, KeyError
        for an unknown claim, LookupError for an unknown call.
        """
        app, claims = self._app, self._app.claims
        match method, path.split("/")[1:]:
            case "GET", []:
                return {"emulator": EMULATOR_NAME, "claims": len(claims.records())}
            case "GET", ["requests"]:
                since = str(query.get("since", 0))
                if not since.isdecimal():
                    raise ValueError(f"since: must be the number of a request, not {since!r}")
                return {"requests": app.log.since(int(since))}
            case "DELETE", ["requests"]:
                app.log.clear()
                return {}
            case "GET", ["faults"]:
                return app.faults.to_json()
            case "PUT", ["faults"]:
                app.set_faults(FaultProfile.from_json(body))
                return app.faults.to_json()
            case "PATCH", ["faults"]:
                app.add_faults(FaultProfile.from_json(body, after=len(app.faults.profile.rules)))
                return app.faults.to_json()
            case "DELETE", ["faults"]:
                app.set_faults(FaultProfile())
                return app.faults.to_json()
            case "GET", ["holds"]:
                return {"holds": app.holds.current()}
            case "POST", ["release"]:
                return {"released": app.holds.release(_ReleaseBody.parse(body).rule)}
            case "GET", ["inventory"]:
                return {**claims.inventory()}
            case "GET", ["stock"]:
                return {**claims.stock()}
            case "PUT" | "PATCH", ["inventory"]:
                claims.set_inventory(check_inventory(body), merge=method == "PATCH")
                return {**claims.inventory()}
            case "GET", ["claims"]:
                return {"claims": claims.records()}
            case "POST", ["claims", claim_id]:
                edit = _EditBody.parse(body)
                claims.edit(claim_id.lower(), edit, delete=edit.delete)
                return {}
            case "POST", ["token"]:
                return {"token": app.exchange_token()}
            case "GET", ["clock"]:
                return {"now": format_timestamp(claims.now())}
            case "POST", ["clock"]:
                return {"now": format_timestamp(claims.advance_clock(_AdvanceBody.parse(body).advance))}
            case "POST", ["reset"]:
                app.reset()
                return {}
        raise LookupError(f"no such call: {method} {CONTROL_PREFIX}{path}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, answer = await self._respond(Request(scope, receive))
        text = json.dumps(answer, default=lambda value: asdict(cast("Any", value)))
        await Response(text, status, media_type="application/json")(scope, receive, send)

    async def _respond(self, request: Request) -> tuple[int, dict[str, Any]]:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._expected):
            return 401, {"error": "missing or invalid control token"}
        path = str(request.scope["path"]).removeprefix(CONTROL_PREFIX).removesuffix("/")
        try:
            body = await request.body()
            value = json.loads(body) if body else {}
            return 200, self.perform(request.method, path, value, request.query_params)
        except RecursionError:
            return 400, {"error": "the body is nested too deep"}
        except (ValueError, OverflowError) as error:
            return 400, {"error": str(error)}
        except LookupError as error:
            return 404, {"error": str(error.args[0])}
