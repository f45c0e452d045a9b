"""Tokens from the environment and from files that are read again, and what is known of the one in use."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from coreweave_inference import (
    AsyncClient,
    Client,
    InvalidSetting,
    TokenFile,
    Unauthenticated,
)
from coreweave_inference.tokens import Credentials, Token, token_from

CLAIMS = b'{"capacityClaims": []}'
REFUSAL = {"code": "unauthenticated", "message": "token expired"}


@pytest.mark.parametrize(
    ("environment", "token"),
    [
        ({}, None),
        ({"COREWEAVE_API_TOKEN": " \n"}, None),
        ({"COREWEAVE_API_TOKEN": "one\n"}, "one"),
        ({"CW_API_TOKEN": "two"}, "two"),
        ({"COREWEAVE_API_TOKEN": "one", "CW_API_TOKEN": "two"}, "one"),
        ({"COREWEAVE_API_TOKEN": " ", "CW_API_TOKEN": "two"}, "two"),
        ({"CW_API_TOKEN": "two", "COREWEAVE_API_TOKEN_FILE": "/token"}, "two"),
        ({"COREWEAVE_API_TOKEN_FILE": " /token "}, TokenFile("/token", "COREWEAVE_API_TOKEN_FILE")),
    ],
)
def test_the_token_comes_from_the_first_variable_that_is_not_blank(
    environment: dict[str, str], token: str | TokenFile | None
) -> None:
    assert token_from(environment) == token


def test_a_token_is_in_no_repr_and_no_pickle() -> None:
    token = token_from({"COREWEAVE_API_TOKEN": "s3cret"})
    assert token == "s3cret"
    assert repr([token]) == "['[token]']"
    for give in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            give([token] if give is copy.deepcopy else token)


def test_a_token_file_may_come_from_any_editor(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content in (b"one", b"one\n", b"\r\n one\r\n", "one\r\n".encode("utf-16"), b"\xef\xbb\xbfone\n"):
        file.write_bytes(content)
        assert TokenFile(file).read() == "one"
    assert TokenFile(file, "COREWEAVE_API_TOKEN_FILE").read().source == "COREWEAVE_API_TOKEN_FILE"
    assert TokenFile(file).read().source == f"the token file {str(file)!r}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b" \n", "is empty"),
        (b"s3cret\nand more", "characters that are not allowed"),
        (b"Bearer s3cret", "must not include the prefix"),
        (b"s3cret\xff", "cannot be read: it is not text in UTF-8 or UTF-16"),
        (b"s3cret" + b" " * 70_000, "cannot be read: it holds more than a token"),
        (b"s3cret" * 20_000, "cannot be read: it holds more than a token"),
    ],
)
def test_a_file_without_a_token_is_named_without_showing_it(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "token\x1b[2J"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidSetting, match=reason) as caught:
        TokenFile(file).read()
    assert "s3cret" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    with pytest.raises(InvalidSetting, match=reason):
        Client(TokenFile(file))


@pytest.mark.parametrize("path", [".", "\0", "/dev/null/x"])
def test_a_path_that_is_no_file_is_one_error(path: str) -> None:
    with pytest.raises(InvalidSetting, match="cannot be read: "):
        TokenFile(path).read()


def test_a_pipe_is_no_token_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/null", tmp_path):
        with pytest.raises(InvalidSetting, match=r"it is no regular file|Is a directory"):
            TokenFile(path).read()


class Api:
    """Accepts one token, and remembers what came with which."""

    def __init__(self, valid: str) -> None:
        self.valid = valid
        self.seen: list[tuple[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.seen.append((request.method, token))
        if token != self.valid:
            return httpx.Response(401, json={**REFUSAL, "message": f"token {token} expired"})
        return httpx.Response(200, content=CLAIMS)


List = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def list_claims(request: pytest.FixtureRequest) -> List:
    """Lists the claims `times` times through one client of either kind, and calls `between` each time."""

    def run(api: Api, token: Any, times: int = 1, between: Callable[[], None] = lambda: None) -> None:
        transport = httpx.MockTransport(api)
        if request.param == "sync":
            with Client(token, transport=transport) as client:
                for _ in range(times):
                    client.capacity_claims.list()
                    between()
            return

        async def run_async() -> None:
            async with AsyncClient(token, transport=transport) as client:
                for _ in range(times):
                    await client.capacity_claims.list()
                    between()

        asyncio.run(run_async())

    return run


def test_a_call_goes_on_with_the_next_token_of_a_file(list_claims: List, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    api = Api("one")

    def exchange() -> None:
        api.valid = "two"
        file.write_text("two\n")

    list_claims(api, TokenFile(file), times=2, between=exchange)
    assert [token for _, token in api.seen] == ["one", "one", "two"]


def test_a_file_is_read_again_once_for_each_call(list_claims: List, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    api = Api("none of them")
    reads = iter(range(2, 100))
    original = api.__call__

    def answer(request: httpx.Request) -> httpx.Response:
        file.write_text(f"number-{next(reads)}")
        return original(request)

    with pytest.raises(Unauthenticated) as caught:
        list_claims(answer, TokenFile(file))
    assert [token for _, token in api.seen] == ["one", "number-2"]
    assert caught.value.attempts == 2
    assert "number-2" not in str(caught.value)


@pytest.mark.parametrize("content", ["one", "", "two words", None])
def test_a_file_without_another_token_leaves_the_refusal(
    list_claims: List, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    api = Api("two")

    def take_away(request: httpx.Request) -> httpx.Response:
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        return api(request)

    with pytest.raises(Unauthenticated, match="expired") as caught:
        list_claims(take_away, TokenFile(file, "COREWEAVE_API_TOKEN_FILE"))
    assert len(api.seen) == 1
    assert caught.value.token_source == "COREWEAVE_API_TOKEN_FILE"


def test_a_refusal_says_whose_token_it_was_and_until_when_it_was_accepted(
    list_claims: List, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CW_API_TOKEN", "one")
    api = Api("one")
    before = datetime.now(UTC)

    def expire() -> None:
        api.valid = "two"

    with pytest.raises(Unauthenticated) as caught:
        list_claims(api, None, times=2, between=expire)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.token_source == "CW_API_TOKEN"
    assert before <= error.accepted_until <= datetime.now(UTC)
    assert f"CW_API_TOKEN was accepted until {error.accepted_until:%H:%M:%S} UTC" in str(error)

    with pytest.raises(Unauthenticated) as caught:
        list_claims(api, None)
    assert caught.value.accepted_until is None
    assert "accepted until" not in str(caught.value)


def test_threads_that_meet_a_refusal_together_read_the_file_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    credentials = Credentials(TokenFile(file))
    one = credentials.token
    credentials.accepted(one, datetime.now(UTC))
    file.write_text("two")
    assert credentials.renewed(one)
    file.unlink()
    assert credentials.renewed(one), "the other thread's refusal is of the old token"
    assert credentials.token == "two"
    credentials.accepted(one, datetime.now(UTC) + timedelta(days=1))
    credentials.accepted(credentials.token, datetime.now(UTC))
    refusal = Unauthenticated()
    credentials.explain(refusal, one)
    assert refusal.accepted_until is None, "the new token says nothing of the old one"
    assert not Credentials(Token("x")).renewed(Token("x"))
    assert not Credentials(None).renewed(None)
