"""API tokens: from the environment or a file, and what is known of the one in use.

Tokens may live for an hour. A file is read again when the API refuses its token, so that whatever writes the
file can exchange the token while a call or a wait goes on.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

from ._text_files import decode_text
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
            token = Token(_content(self.path), self.source or name)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or no text
            reason = getattr(error, "strerror", None) or str(error)
        else:
            if not token:
                raise InvalidToken(f"{name} is empty")
            return validate_token(token)
        raise InvalidSetting(f"{name} cannot be read: {reason}")


def _content(path: str | os.PathLike[str]) -> str:
    """The text of a file, without white space around it. Raises OSError or ValueError."""
    # a pipe could be read once only, and one that nobody writes to would never end
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file, and could not be read again")
        if os.fstat(descriptor).st_size > _LONGEST:
            raise ValueError("it holds more than a token")
        return decode_text(file.read(_LONGEST)).strip()


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

    def explain(self, refusal: Unauthenticated, refused: Token | None) -> None:
        """Adds what is known of the refused token to the API's refusal of it."""
        refusal.token_source = refused.source if refused is not None else ""
        with self._lock:
            refusal.accepted_until = self._accepted if refused == self._token else None

    def forget_lock(self) -> None:
        """For a child process: a thread of the parent may have held it."""
        self._lock = threading.Lock()
