"""The clients: ``Client`` and ``AsyncClient``, each with the operations in ``.capacity_claims``.

Every operation retries according to its ``RetryPolicy``. It raises a subclass of ``ApiError`` when it gives
up, and ``MissingToken`` if there is no token. Paths, request bodies and responses follow the API's docs pages
and its published schema (2026-06-29).
"""

from __future__ import annotations

import asyncio
import re
from builtins import list as List  # noqa: N812 - the method `list` shadows the type below
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import NoReturn, Self, TypeAlias, TypeVar

from pydantic import AliasChoices, BaseModel, Field, ValidationError
from pydantic.alias_generators import to_snake

from .errors import FieldViolation, InvalidArgument, NotFound, PermissionDenied, WrongEndpoint
from .models import (
    CapacityClaim,
    CapacityClaimParameters,
    CapacityClaimResources,
    CreateCapacityClaimRequest,
    UpdateCapacityClaimRequest,
)
from .retry import RetryPolicy
from .settings import (
    DEFAULT_ENDPOINT,
    DEFAULT_TIMEOUT,
    endpoint_from,
    timeout_from,
    validate_endpoint,
)
from .tokens import Token, TokenFile, token_from
from .transport import (
    AsyncBaseTransport,
    AsyncTransport,
    BaseTransport,
    Call,
    Connection,
    Steps,
    Transport,
    UnexpectedAnswer,
)

__all__ = ["AsyncCapacityClaims", "AsyncClient", "CapacityClaims", "Client", "Resources"]

_T = TypeVar("_T")

# a model, or a dict of its fields in camelCase or snake_case
Resources: TypeAlias = "CapacityClaimResources | Mapping[str, object]"


class Client:
    """A synchronous client. It is thread-safe: share one between threads.

    Proxies and CA bundles come from the environment (HTTPS_PROXY, SSL_CERT_FILE), except for a loopback
    endpoint. The client ignores ``.netrc`` and does not follow redirects.

    :param token: the API token, or a ``TokenFile`` that holds it; defaults to COREWEAVE_API_TOKEN, then
        CW_API_TOKEN, then the file that COREWEAVE_API_TOKEN_FILE names. A missing token raises
        ``MissingToken`` at the first call, a malformed one ``InvalidToken`` here. A file is read here, and
        again when the API refuses its token, once for each call; with another token, the call goes on.
    :param endpoint: the base URL; defaults to COREWEAVE_API_ENDPOINT, then https://api.coreweave.com. It must
        be https, or http on a loopback address; anything else raises ``InvalidEndpoint``.
    :param timeout: seconds that each attempt may take, from connecting to the last byte; defaults to
        COREWEAVE_HTTP_TIMEOUT, then 10
    :param retry: when and how often to retry a failed attempt
    :param transport: an httpx transport, for tests
    :param user_agent: text to append to the User-Agent header
    :param max_connections: the maximum number of open connections; further calls wait for a free one
    :param sleep: how to pause for so many seconds before an attempt is repeated; what it raises ends the call
    """

    def __init__(
        self,
        token: str | TokenFile | None = None,
        *,
        endpoint: str | None = None,
        timeout: float | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        transport: BaseTransport | None = None,
        user_agent: str | None = None,
        max_connections: int = 32,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        # as a Token, the frame of an error below does not show it
        token = Token(token) if isinstance(token, str) and token else token
        self._connection = _connection(token, endpoint, timeout, user_agent, max_connections)
        self._transport = Transport(self._connection, http=transport, sleep=sleep)
        self.capacity_claims: CapacityClaims = CapacityClaims(self._transport, retry)

    @property
    def endpoint(self) -> str:
        """The base URL of all calls, without a trailing slash."""
        return self._connection.endpoint

    def close(self) -> None:
        """Closes the connections. The client cannot be used afterwards."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.endpoint}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client holds the API token and cannot be pickled or copied; create another one")


class AsyncClient:
    """An asyncio client. Use it in one event loop only.

    It takes the arguments of ``Client`` and raises the same errors.
    """

    def __init__(
        self,
        token: str | TokenFile | None = None,
        *,
        endpoint: str | None = None,
        timeout: float | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        transport: AsyncBaseTransport | None = None,
        user_agent: str | None = None,
        max_connections: int = 32,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # as a Token, the frame of an error below does not show it
        token = Token(token) if isinstance(token, str) and token else token
        self._connection = _connection(token, endpoint, timeout, user_agent, max_connections)
        self._transport = AsyncTransport(self._connection, http=transport, sleep=sleep)
        self.capacity_claims: AsyncCapacityClaims = AsyncCapacityClaims(self._transport, retry)

    @property
    def endpoint(self) -> str:
        """The base URL of all calls, without a trailing slash."""
        return self._connection.endpoint

    async def aclose(self) -> None:
        """Closes the connections. The client cannot be used afterwards."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.endpoint}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AsyncClient holds the API token and cannot be pickled or copied; create another")


class CapacityClaims:
    """The operations on capacity claims. The ``retry`` of a call overrides the client's policy.

    An endpoint that does not serve this API may answer not_found to everything. So if the first response is
    not_found, the client also requests ``parameters``, and raises ``WrongEndpoint`` if that is not found.
    """

    def __init__(self, transport: Transport, retry: RetryPolicy) -> None:
        self._transport = transport
        self._operations = _Operations(transport, retry)

    @property
    def clock_skew(self) -> timedelta:
        """How far the clock of the API is ahead of this machine's, as the last response showed it."""
        return self._transport.clock_skew

    def create(
        self,
        name: str,
        resources: Resources,
        *,
        id: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> CapacityClaim:
        """Reserves instances. Returns at once; allocation continues in the background.

        With an ``id`` (a UUID that you choose), the call is safe to retry, and is retried if its outcome is
        unknown. ``AlreadyExists`` may then mean that an earlier attempt succeeded: get the claim and compare.
        Without an ``id``, the API chooses one, and the call is retried only if it certainly had no effect.
        """
        return self._run(_create(name, resources, id), retry)

    def get(self, id: str, *, retry: RetryPolicy | None = None) -> CapacityClaim:
        """Returns one claim. ``NotFound`` comes from the API itself, never from a proxy."""
        return self._run(_get(id), retry)

    def update(self, id: str, resources: Resources, *, retry: RetryPolicy | None = None) -> CapacityClaim:
        """Replaces all of a claim's resources. The API accepts at least a new ``instance_count``."""
        return self._run(_update(id, resources), retry)

    def delete(self, id: str, *, retry: RetryPolicy | None = None) -> CapacityClaim | None:
        """Releases a claim. Returns its last state, or None if the response omits it.

        The claim may stay readable with the state DELETING until ``get`` raises ``NotFound``.
        """
        return self._run(_delete(id), retry)

    def parameters(self, *, retry: RetryPolicy | None = None) -> CapacityClaimParameters:
        """Returns the instance types that each zone currently offers."""
        return self._run(_parameters(), retry)

    def list(
        self, *, updated_after: str | datetime | None = None, retry: RetryPolicy | None = None
    ) -> List[CapacityClaim]:
        """Returns all claims of the organization, or those updated after a time.

        The time is an RFC 3339 string or a datetime with a time zone.
        """
        return self._transport.drive(self._operations.list(updated_after, retry))

    def _run(self, call: Call[_T], retry: RetryPolicy | None) -> _T:
        return self._transport.drive(self._operations.run(call, retry))


class AsyncCapacityClaims:
    """The operations on capacity claims as coroutines; see ``CapacityClaims`` for each."""

    def __init__(self, transport: AsyncTransport, retry: RetryPolicy) -> None:
        self._transport = transport
        self._operations = _Operations(transport, retry)

    @property
    def clock_skew(self) -> timedelta:
        """How far the clock of the API is ahead of this machine's, as the last response showed it."""
        return self._transport.clock_skew

    async def create(
        self,
        name: str,
        resources: Resources,
        *,
        id: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> CapacityClaim:
        """Reserves instances. Returns at once; allocation continues in the background."""
        return await self._run(_create(name, resources, id), retry)

    async def get(self, id: str, *, retry: RetryPolicy | None = None) -> CapacityClaim:
        """Returns one claim. ``NotFound`` comes from the API itself, never from a proxy."""
        return await self._run(_get(id), retry)

    async def update(
        self, id: str, resources: Resources, *, retry: RetryPolicy | None = None
    ) -> CapacityClaim:
        """Replaces all of a claim's resources. The API accepts at least a new ``instance_count``."""
        return await self._run(_update(id, resources), retry)

    async def delete(self, id: str, *, retry: RetryPolicy | None = None) -> CapacityClaim | None:
        """Releases a claim. Returns its last state, or None if the response omits it."""
        return await self._run(_delete(id), retry)

    async def parameters(self, *, retry: RetryPolicy | None = None) -> CapacityClaimParameters:
        """Returns the instance types that each zone currently offers."""
        return await self._run(_parameters(), retry)

    async def list(
        self, *, updated_after: str | datetime | None = None, retry: RetryPolicy | None = None
    ) -> List[CapacityClaim]:
        """Returns all claims of the organization, or those updated after a time.

        The time is an RFC 3339 string or a datetime with a time zone.
        """
        return await self._transport.drive(self._operations.list(updated_after, retry))

    async def _run(self, call: Call[_T], retry: RetryPolicy | None) -> _T:
        return await self._transport.drive(self._operations.run(call, retry))


class _Operations:
    """The logic of both clients, as steps for their transports to drive."""

    def __init__(self, transport: Transport | AsyncTransport, retry: RetryPolicy) -> None:
        self._transport = transport
        self._retry = retry
        self._api_confirmed = False

    def run(self, call: Call[_T], retry: RetryPolicy | None) -> Steps[_T]:
        """One operation. ``NotFound`` becomes ``WrongEndpoint`` if the endpoint does not serve the API."""
        policy = retry or self._retry
        started = self._transport.clock()
        try:
            result = yield from self._transport.attempts(call, policy)
        except NotFound as error:
            if not self._api_confirmed and call.operation != "parameters":
                left = max(0.0, policy.deadline - (self._transport.clock() - started))
                yield from self._confirm_api(error, replace(policy, deadline=left))
            raise
        self._api_confirmed = True
        return result

    def list(
        self, updated_after: str | datetime | None, retry: RetryPolicy | None
    ) -> Steps[List[CapacityClaim]]:
        """The claims. The API may answer not_found if there are none."""
        try:
            return (yield from self.run(_list(updated_after), retry))
        except NotFound:
            return []

    def _confirm_api(self, missing: NotFound, policy: RetryPolicy) -> Steps[None]:
        try:
            yield from self._transport.attempts(_parameters(), policy)
        except NotFound:
            raise _wrong_endpoint(self._transport.endpoint, missing) from None
        except PermissionDenied:
            pass  # only the API itself would deny it
        self._api_confirmed = True


_PATH = "/v1alpha1/inference/capacityclaims"
_ID = re.compile(r"[A-Za-z0-9][-_A-Za-z0-9]{0,99}")


def _create(name: str, resources: Resources, id: str | None) -> Call[CapacityClaim]:
    if id == "":  # neither chosen nor left to the API
        raise _rejected("create", None, (FieldViolation("id", "is empty"),))
    try:
        request = CreateCapacityClaimRequest.model_validate({"id": id, "name": name, "resources": resources})
    except ValidationError as error:
        violations = _violations(error)
    else:
        return Call(
            operation="create",
            method="POST",
            path=_PATH,
            read=partial(_read_claim, id=id),
            claim_id=id,
            body=request.to_wire(),
            repeatable=bool(id),
        )
    raise _rejected("create", id if isinstance(id, str) else None, violations)


def _get(id: str) -> Call[CapacityClaim]:
    return Call("get", "GET", _path_of("get", id), partial(_read_claim, id=id), claim_id=id)


def _list(updated_after: str | datetime | None) -> Call[List[CapacityClaim]]:
    query = None
    if updated_after is not None:
        query = {"updatedAfter": _rfc3339(updated_after)}
    return Call("list", "GET", _PATH, _read_claims, query=query)


def _update(id: str, resources: Resources) -> Call[CapacityClaim]:
    path = _path_of("update", id)
    try:
        request = UpdateCapacityClaimRequest.model_validate({"id": id, "resources": resources})
    except ValidationError as error:
        violations = _violations(error)
    else:
        read = partial(_read_claim, id=id)
        return Call("update", "PATCH", path, read, claim_id=id, body=request.to_wire())
    raise _rejected("update", id, violations)


def _delete(id: str) -> Call[CapacityClaim | None]:
    return Call("delete", "DELETE", _path_of("delete", id), partial(_read_deleted, id=id), claim_id=id)


def _parameters() -> Call[CapacityClaimParameters]:
    return Call("parameters", "GET", f"{_PATH}/parameters", _read_parameters)


def _wrong_endpoint(endpoint: str, missing: NotFound) -> WrongEndpoint:
    request = f", request id {missing.request_id}" if missing.request_id else ""
    return WrongEndpoint(
        f"{endpoint} does not serve CoreWeave's inference API: not even {_PATH}/parameters exists there"
        f" (HTTP {missing.http_status}{request})"
    )


def _path_of(operation: str, id: object) -> str:
    # nothing that a server or a proxy on the way could read as another path; "parameters" is one of the API's
    if not isinstance(id, str) or not _ID.fullmatch(id) or id == "parameters":
        raise _rejected(operation, None, (FieldViolation("id", "is not a claim id"),))
    return f"{_PATH}/{id}"


def _rfc3339(moment: str | datetime) -> str:
    if isinstance(moment, str):
        if not (moment.isascii() and moment.isprintable()):
            raise _rejected("list", None, (FieldViolation("updated_after", "is not a time"),))
        return moment
    if moment.utcoffset() is None:
        violation = FieldViolation("updated_after", "the datetime needs a time zone")
        raise _rejected("list", None, (violation,))
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _violations(error: ValidationError) -> tuple[FieldViolation, ...]:
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{to_snake(part)}" for part in one["loc"])
        found.append(FieldViolation(path.removeprefix("."), one["msg"]))
    return tuple(found)


def _rejected(
    operation: str, claim_id: str | None, violations: tuple[FieldViolation, ...]
) -> InvalidArgument:
    return InvalidArgument(
        "invalid request",
        operation=operation,
        claim_id=claim_id,
        violations=violations,
        attempts=0,
    )


class _ClaimResponse(BaseModel):
    claim: CapacityClaim = Field(validation_alias=AliasChoices("capacityClaim", "capacity_claim"))


class _DeletedResponse(BaseModel):
    claim: CapacityClaim | None = Field(
        default=None, validation_alias=AliasChoices("capacityClaim", "capacity_claim")
    )
    # an error in a 2xx response must not read as "deleted"
    code: None = None
    error: None = None
    message: None = None


class _ClaimsResponse(BaseModel):
    claims: List[CapacityClaim] | None = Field(
        default=None, validation_alias=AliasChoices("capacityClaims", "capacity_claims", "items")
    )
    # an error in a 2xx response must not read as "no claims"
    code: None = None
    error: None = None
    message: None = None


def _read_claim(body: bytes, *, id: str | None) -> CapacityClaim:
    return _asked_for(_ClaimResponse.model_validate_json(body).claim, id)


def _asked_for(claim: CapacityClaim, id: str | None) -> CapacityClaim:
    """The claim; raises ``UnexpectedAnswer`` if it is another one than the call is about."""
    if id is not None and claim.id.casefold() != id.casefold():
        raise UnexpectedAnswer(f"the response is about another claim, {claim.id}")
    return claim


def _read_claims(body: bytes) -> List[CapacityClaim]:
    return _ClaimsResponse.model_validate_json(body).claims or []


def _read_deleted(body: bytes, *, id: str) -> CapacityClaim | None:
    claim = _DeletedResponse.model_validate_json(body).claim
    return None if claim is None else _asked_for(claim, id)


def _read_parameters(body: bytes) -> CapacityClaimParameters:
    return CapacityClaimParameters.from_wire(body)


def _connection(
    token: str | TokenFile | None,
    endpoint: str | None,
    timeout: float | None,
    user_agent: str | None,
    max_connections: int,
) -> Connection:
    seconds = timeout if timeout is not None else timeout_from()
    return Connection(
        endpoint=validate_endpoint(endpoint or endpoint_from() or DEFAULT_ENDPOINT),
        token=token or token_from(),
        timeout=DEFAULT_TIMEOUT if seconds is None else seconds,
        user_agent=user_agent,
        max_connections=max_connections,
    )
