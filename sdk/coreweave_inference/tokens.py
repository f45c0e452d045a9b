"""API tokens: from the environment or a file, and what is known of the one in use.

Tokens may live for an hour. A file is read again when the API refuses its token, so that whatever writes the
file can exchange the token while a call or a wait goes on.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from ._text_files import UnreadableText, decode_text
from .errors import InvalidSetting, InvalidToken, Unauthenticated

__all__ = [
    "TOKEN_FILE_VARIABLE",
    "TOKEN_VARIABLES",
    "Credentials",
    "Token",
    "TokenFile",
    "token_from",
    "validate_token",
]

TOKEN_VARIABLES: Final = ("COREWEAVE_API_TOKEN", "CW_API_TOKEN")
TOKEN_FILE_VARIABLE: Final = "COREWEAVE_API_TOKEN_FILE"  # a name, not a token

_TOKEN = re.compile(r"[\x21-\x7e]+")
_LONGEST: Final = 64 * 1024  # bytes of a token file


class Token(str):
    """A token that neither a ``repr``, such as of the variables of a frame, nor a pickle shows.

    ``source`` says where it comes from, such as ``COREWEAVE_API_TOKEN``; empty if that is not known.
    """

    __slots__ = ("source",)

    source: str

    def __new__(cls, text: str, source: str = "") -> Token:
        token = super().__new__(cls, text)
        token.source = source or getattr(text, "source", "")
        return token

    def __repr__(self) -> str:
        return "'[token]'"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an API token cannot be pickled or copied")


@dataclass(frozen=True)
class TokenFile:
    """A file that holds the API token alone, in UTF-8 or UTF-16. White space around the token is ignored.

    The client reads it again when the API refuses the token, once for each call.
    """

    path: str | os.PathLike[str]
    source: str = ""
    """What errors call the file: ``COREWEAVE_API_TOKEN_FILE``, or else its path."""

    def read(self) -> Token:
        """The token. Raises ``InvalidSetting`` if there is no such file, ``InvalidToken`` if it has none."""
        name = f"the token file {os.fspath(self.path)!a}"
        try:
            with Path(self.path).open("rb") as file:
                data = file.read(_LONGEST + 1)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidSetting(f"{name} cannot be read: {reason}") from None
        try:
            text = decode_text(data[:_LONGEST])
        except UnreadableText as error:
            raise InvalidSetting(f"{name} cannot be read: {error}") from None
        token = Token(text.strip(), self.source or name)
        text = ""  # a frame of the errors below would show it
        if not token:
            raise InvalidToken(f"{name} is empty")
        if len(data) > _LONGEST:
            data = b""
            raise InvalidToken(f"{name} holds more than a token")
        data = b""
        return validate_token(token)


def token_from(environment: Mapping[str, str] = os.environ) -> Token | TokenFile | None:
    """The API token from COREWEAVE_API_TOKEN, then CW_API_TOKEN, then the file of COREWEAVE_API_TOKEN_FILE.

    A blank value counts as unset.
    """
    for name in TOKEN_VARIABLES:
        if token := environment.get(name, "").strip():
            return Token(token, name)
    path = environment.get(TOKEN_FILE_VARIABLE, "").strip()
    return TokenFile(path, TOKEN_FILE_VARIABLE) if path else None


def validate_token(token: str) -> Token:
    """Returns the token; raises ``InvalidToken``, without showing it, if an HTTP header cannot carry it."""
    token = Token(token)
    if token.lower().startswith("bearer "):
        raise InvalidToken("the API token must not include the prefix 'Bearer '")
    if not _TOKEN.fullmatch(token):
        raise InvalidToken(
            "the API token contains characters that are not allowed in an HTTP header"
            " (often a line break or a space copied along with it)"
        )
    return token


class Credentials:
    """The token that the calls of a client carry, and until when the API has accepted it. Thread-safe."""

    def __init__(self, given: Token | TokenFile | None) -> None:
        self._file = given if isinstance(given, TokenFile) else None
        self._lock = threading.Lock()
        self._token = given.read() if isinstance(given, TokenFile) else given
        self._accepted: datetime | None = None

    @property
    def token(self) -> Token | None:
        """The token for the next attempt."""
        return self._token

    def accepted(self, token: Token | None, at: datetime) -> None:
        """Notes that the API has accepted a token."""
        with self._lock:
            if token == self._token:
                self._accepted = at

    def renewed(self, refused: Token | None) -> bool:
        """Whether another token than the refused one is at hand; reads the file again to find out."""
        with self._lock:
            if self._file is None:
                return False
            if self._token == refused:
                try:
                    token = self._file.read()
                except InvalidSetting:  # the refusal says more, and the file may be about to be replaced
                    return False
                if token == refused:
                    return False
                self._token, self._accepted = token, None
            return True

    def explain(self, refusal: Unauthenticated) -> None:
        """Adds what is known of the token to the API's refusal of it."""
        with self._lock:
            refusal.token_source = self._token.source if self._token is not None else ""
            refusal.accepted_until = self._accepted
