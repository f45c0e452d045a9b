"""`/_emulator`: what tests and people do to the emulator over HTTP."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from coreweave_inference.emulator.edits import check_edit
from coreweave_inference.emulator.failures import ApiError
from coreweave_inference.emulator.faults import FaultProfile
from coreweave_inference.emulator.settings import check_inventory
from coreweave_inference.emulator.strict import format_timestamp

if TYPE_CHECKING:
    from coreweave_inference.emulator.app import EmulatorApp

_Endpoint = Callable[[Request], Awaitable[JSONResponse]]


def control_routes(app: EmulatorApp) -> Starlette:
    """The control API of one emulator. All of it wants the control token."""
    expected = b"Bearer " + app.settings.control_token.encode()

    async def about(request: Request) -> JSONResponse:
        return JSONResponse({"emulator": "coreweave-inference", "claims": len(app.store.records())})

    async def requests(request: Request) -> JSONResponse:
        if request.method == "DELETE":
            app.log.clear()
            return JSONResponse({})
        since = int(request.query_params.get("since", "0"))
        return JSONResponse({"requests": [asdict(each) for each in app.log.since(since)]})

    async def faults(request: Request) -> JSONResponse:
        if request.method == "PUT":
            app.set_faults(FaultProfile.from_json(await _json(request)))
        elif request.method == "DELETE":
            app.set_faults(FaultProfile())
        return JSONResponse(app.faults.to_json())

    async def holds(request: Request) -> JSONResponse:
        return JSONResponse({"holds": [asdict(each) for each in app.holds.current()]})

    async def release(request: Request) -> JSONResponse:
        rule = _known(await _json(request), "rule").get("rule")
        if rule is not None and not isinstance(rule, str):
            raise ValueError("rule: must be a rule's name")
        return JSONResponse({"released": app.holds.release(rule)})

    async def inventory(request: Request) -> JSONResponse:
        if request.method in ("PUT", "PATCH"):
            wanted = check_inventory(await _json(request))
            app.store.set_inventory(wanted, merge=request.method == "PATCH")
        return JSONResponse(app.store.inventory())

    async def claims(request: Request) -> JSONResponse:
        return JSONResponse({"claims": [asdict(each) for each in app.store.records()]})

    async def claim(request: Request) -> JSONResponse:
        edit = dict(_known(await _json(request), "spec", "status", "seconds", "delete"))
        delete = edit.pop("delete", False) is True
        check_edit(edit, "edit")
        app.store.edit(request.path_params["id"].lower(), delete=delete, **cast("dict[str, Any]", edit))
        return JSONResponse({})

    async def clock(request: Request) -> JSONResponse:
        if request.method == "POST":
            seconds = _known(await _json(request), "advance").get("advance")
            if not isinstance(seconds, (int, float)):
                raise ValueError("advance: must be a number of seconds")
            app.store.advance_clock(seconds)
        return JSONResponse({"now": format_timestamp(app.store.now())})

    def guarded(endpoint: _Endpoint) -> _Endpoint:
        async def checked(request: Request) -> JSONResponse:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, expected):
                return JSONResponse({"error": "wants the control token"}, status_code=401)
            try:
                return await endpoint(request)
            except ValueError as error:
                return JSONResponse({"error": str(error)}, status_code=400)
            except ApiError as error:
                return JSONResponse({"error": str(error)}, status_code=error.status)

        return checked

    def route(path: str, endpoint: _Endpoint, *methods: str) -> Route:
        return Route(f"/_emulator{path}", guarded(endpoint), methods=list(methods))

    return Starlette(
        routes=[
            route("", about, "GET"),
            route("/requests", requests, "GET", "DELETE"),
            route("/faults", faults, "GET", "PUT", "DELETE"),
            route("/holds", holds, "GET"),
            route("/release", release, "POST"),
            route("/inventory", inventory, "GET", "PUT", "PATCH"),
            route("/claims", claims, "GET"),
            route("/claims/{id}", claim, "POST"),
            route("/clock", clock, "GET", "POST"),
        ]
    )


async def _json(request: Request) -> object:
    body = await request.body()
    value: object = json.loads(body) if body else {}
    return value


def _known(value: object, *names: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")
    if unknown := value.keys() - set(names):
        raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
    return value
