"""Who may use the page: sessions of people who know the control token, and requests of the page itself."""

from __future__ import annotations

import hmac
import re
import secrets
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

_MOST_SESSIONS = 20


class Sessions:
    """The sessions that are signed in. They end with the emulator."""

    def __init__(self, control_token: str) -> None:
        self._token = control_token.encode()
        self._keys: deque[str] = deque(maxlen=_MOST_SESSIONS)

    def sign_in(self, token: str) -> str | None:
        """The key of a new session, or None if the token is not the control token."""
        if not hmac.compare_digest(token.encode(errors="replace"), self._token):
            return None
        key = secrets.token_urlsafe(24)
        self._keys.append(key)
        return key

    def holds(self, key: str) -> bool:
        """Whether a session is signed in."""
        given = key.encode(errors="replace")
        return any(hmac.compare_digest(given, known.encode()) for known in self._keys)

    def sign_out(self, key: str) -> None:
        """End a session."""
        if key in self._keys:
            self._keys.remove(key)


def cookie_name(host: str) -> str:
    """The session cookie for a Host header. Cookies do not tell ports apart, so the name does."""
    port = re.search(r":([0-9]{1,5})$", host)
    return f"coreweave-emulator-{port[1] if port else 'default'}"


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent by a page of this server, as the browser says. Without its word: no.

    A page on another port of this machine counts as the same site, so the cookie alone does not tell.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        return False
    if site not in (None, "same-origin"):
        return False
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host", "")
    except ValueError:
        return False
