"""The page over HTTP: sign-in, the forms, and the headers that keep other pages away."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from coreweave_inference.emulator.app import EmulatorApp
from coreweave_inference.emulator.control import ControlApi
from coreweave_inference.emulator.web.access import Sessions, cookie_name, is_same_origin
from coreweave_inference.emulator.web.forms import CALLS, Fields
from coreweave_inference.emulator.web.page import View, page, sign_in_page

_PREFIX = "/ui/"
_MOST_CLAIMS = 50
_MOST_REQUESTS = 50
_MOST_BYTES = 100_000  # of a form
_HERE = Path(__file__).parent
_ICON = (_HERE / "icon.svg").read_bytes()
_FILES = {
    "/favicon.ico": (_ICON, "image/svg+xml"),  # what browsers ask for on their own, and not the API
    f"{_PREFIX}page.css": ((_HERE / "page.css").read_bytes(), "text/css"),
    f"{_PREFIX}page.js": ((_HERE / "page.js").read_bytes(), "text/javascript"),
    f"{_PREFIX}icon.svg": (_ICON, "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send forms without an origin
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def is_page(path: str) -> bool:
    """Whether a path belongs to the page."""
    return path in ("/", "/favicon.ico") or path.startswith(_PREFIX)


class WebApp:
    """The ASGI application that serves the page."""

    def __init__(self, app: EmulatorApp, control: ControlApi) -> None:
        self._app = app
        self._control = control
        self._sessions = Sessions(app.settings.control_token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = str(request.scope["path"])
        cookie = cookie_name(request.headers.get("host", ""))
        session = request.cookies.get(cookie, "")
        form = path.removeprefix(_PREFIX)
        known = form in CALLS or form in ("sign-in", "sign-out")
        if request.method in ("GET", "HEAD"):
            if path in _FILES:
                content, kind = _FILES[path]
                return Response(content, media_type=kind)
            if known:  # the address after a form with an error
                return RedirectResponse("/", 303)
            if path != "/":
                return PlainTextResponse("There is no such page.\n", 404)
            return _html(self._page() if self._sessions.holds(session) else sign_in_page())
        if not known or request.method != "POST":
            return PlainTextResponse("This cannot be sent here.\n", 405 if known else 404)
        if not is_same_origin(request.headers):
            return PlainTextResponse("Only the emulator's own page can send forms to it.\n", 403)
        fields = await _fields(request)
        if fields is None:
            return PlainTextResponse("The form is too large.\n", 413)
        if form == "sign-in":
            return self._sign_in(fields, cookie)
        if not self._sessions.holds(session):
            return _html(sign_in_page("You are signed out. Sign in, then repeat what you did."), 403)
        if form == "sign-out":
            self._sessions.sign_out(session)
            response: Response = RedirectResponse("/", 303)
            response.delete_cookie(cookie, httponly=True, samesite="strict")
            return response
        return self._perform(form, fields)

    def _sign_in(self, fields: Fields, cookie: str) -> Response:
        key = self._sessions.sign_in(fields.get("token", "").strip())
        if key is None:
            return _html(sign_in_page("This is not the control token."), 403)
        response = RedirectResponse("/", 303)
        response.set_cookie(cookie, key, httponly=True, samesite="strict")
        return response

    def _perform(self, form: str, fields: Fields) -> Response:
        try:
            call = CALLS[form](fields)
            self._control.perform(call.method, call.path, call.body, {})
        except RecursionError:
            return _html(self._page(form, "The JSON is nested too deep.", fields), 400)
        except (ValueError, OverflowError) as error:
            return _html(self._page(form, str(error), fields), 400)
        return RedirectResponse(f"/#form-{form}", 303)

    def _page(self, form: str = "", error: str = "", fields: Fields | None = None) -> bytes:
        app = self._app
        return page(
            View(
                overview=app.claims.overview(_MOST_CLAIMS),
                requests=app.log.latest(_MOST_REQUESTS),
                faults=app.faults,
                held=len(app.holds.current()),
                errors={form: error} if error else {},
                values=fields or {},
            )
        )


def _html(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="text/html")


async def _fields(request: Request) -> Fields | None:
    """The fields of a form; None if it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            return None
    text = body.decode("utf-8", errors="replace")
    pairs = parse_qsl(text, keep_blank_values=True)
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
