"""The six operations: what they send, how they read responses, and what they refuse to send."""

import asyncio
import copy
import inspect
import json
import pickle
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from inline_snapshot import snapshot

from coreweave_inference import (
    AlreadyExists,
    ApiError,
    AsyncCapacityClaims,
    AsyncClient,
    BrokenAnswer,
    CapacityClaimResources,
    CapacityClaims,
    CapacityType,
    Client,
    InvalidArgument,
    InvalidEndpoint,
    InvalidSetting,
    MissingToken,
    NotFound,
    RetryPolicy,
    Unimplemented,
    WrongEndpoint,
)

TOKEN = "CW-SECRET-0123456789"
ID = "9f0c8a52-0000-4000-8000-000000000001"
PATH = "/v1alpha1/inference/capacityclaims"
RESOURCES = CapacityClaimResources(
    instance_id="gb200-4x", instance_count=4, zones=("B", "A"), capacity_type=CapacityType.MANAGED
)
CLAIM: dict[str, Any] = {
    "spec": {"id": ID, "name": "train", "resources": RESOURCES.to_wire()},
    "status": {"status": 6},
}
Handler = Callable[[httpx.Request], httpx.Response]
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COREWEAVE_API_TOKEN", "CW_API_TOKEN", "COREWEAVE_API_ENDPOINT", "COREWEAVE_HTTP_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls one operation of either client against a handler or a fixed response, without retries."""

    def ask(response: Handler | httpx.Response, operation: str, *given: Any, **named: Any) -> Any:
        def same_again(_: httpx.Request) -> httpx.Response:
            assert isinstance(response, httpx.Response)
            return httpx.Response(response.status_code, headers=response.headers, content=response.content)

        handler = response if callable(response) else same_again
        http = httpx.MockTransport(handler)
        retry = RetryPolicy(deadline=0)
        if request.param == "sync":
            with Client(TOKEN, transport=http, retry=retry) as client:
                return getattr(client.capacity_claims, operation)(*given, **named)

        async def ask_async() -> Any:
            async with AsyncClient(TOKEN, transport=http, retry=retry) as client:
                awaited: Awaitable[Any] = getattr(client.capacity_claims, operation)(*given, **named)
                return await awaited

        return asyncio.run(ask_async())

    return ask


def recording(seen: list[httpx.Request], body: object) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=body)

    return handler


@pytest.mark.parametrize(
    ("operation", "given", "named", "method", "path", "body"),
    [
        (
            "create",
            ("train", RESOURCES),
            {"id": ID},
            "POST",
            PATH,
            {"id": ID, "name": "train", "resources": RESOURCES.to_wire()},
        ),
        (
            "create",
            ("train", RESOURCES),
            {},
            "POST",
            PATH,
            {"name": "train", "resources": RESOURCES.to_wire()},
        ),
        ("get", (ID,), {}, "GET", f"{PATH}/{ID}", None),
        ("list", (), {}, "GET", PATH, None),
        (
            "list",
            (),
            {"updated_after": "2026-05-14T05:31:56+02:00"},
            "GET",
            f"{PATH}?updatedAfter=2026-05-14T05%3A31%3A56%2B02%3A00",
            None,
        ),
        (
            "list",
            (),
            {"updated_after": datetime(2026, 5, 14, 5, 31, 56, tzinfo=timezone(timedelta(hours=2)))},
            "GET",
            f"{PATH}?updatedAfter=2026-05-14T03%3A31%3A56Z",
            None,
        ),
        (
            "update",
            (ID, RESOURCES),
            {},
            "PATCH",
            f"{PATH}/{ID}",
            {"id": ID, "resources": RESOURCES.to_wire()},
        ),
        ("delete", (ID,), {}, "DELETE", f"{PATH}/{ID}", None),
        ("parameters", (), {}, "GET", f"{PATH}/parameters", None),
    ],
)
def test_each_operation_sends_the_documented_request(
    ask: Ask, operation: str, given: Any, named: Any, method: str, path: str, body: object
) -> None:
    seen: list[httpx.Request] = []
    ask(recording(seen, {"capacityClaim": CLAIM, "capacityClaims": [CLAIM]}), operation, *given, **named)
    assert seen[0].method == method
    assert seen[0].url.raw_path.decode() == path
    assert (json.loads(seen[0].content) if seen[0].content else None) == body
    assert ("content-type" in seen[0].headers) == (body is not None)


@pytest.mark.parametrize(
    ("operation", "given"),
    [("create", ("n", RESOURCES)), ("get", (ID,)), ("update", (ID, RESOURCES)), ("delete", (ID,))],
)
@pytest.mark.parametrize("name", ["capacityClaim", "capacity_claim"])
def test_a_claim_is_read_from_its_envelope(ask: Ask, operation: str, given: Any, name: str) -> None:
    claim = ask(httpx.Response(200, json={name: CLAIM, "new": 1}), operation, *given)
    assert (claim.id, claim.state.short, claim.resources) == (ID, "READY", RESOURCES)


@pytest.mark.parametrize("name", ["capacityClaims", "capacity_claims", "items"])
def test_a_list_is_read_under_any_of_its_field_names(ask: Ask, name: str) -> None:
    assert [claim.id for claim in ask(httpx.Response(200, json={name: [CLAIM]}), "list")] == [ID]


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, json={"capacityClaims": []}),
        httpx.Response(200, json={"capacityClaims": None}),
        httpx.Response(200, json={}),
        httpx.Response(404, json={"code": "not_found", "message": "none"}),
        httpx.Response(404, json={"code": 5}),
    ],
)
def test_an_empty_list_is_read_in_every_form(ask: Ask, response: httpx.Response) -> None:
    assert ask(served_by_the_api(response), "list") == []


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(404, content=b""),
        httpx.Response(404, content=b"<html>not found</html>"),
        httpx.Response(404, json={}),
        httpx.Response(404, json={"message": "no Route matched with those values"}),
        httpx.Response(200, content=b""),
        httpx.Response(200, content=b"<html>Sign in</html>"),
        httpx.Response(200, content=b'{"capacityClaims": [{"spec": {"id": "a"}'),
        httpx.Response(200, json=[]),
        httpx.Response(200, json=None),
        httpx.Response(200, json={"code": "unavailable"}),
        httpx.Response(200, json={"message": "try again"}),
        httpx.Response(200, json={"error": "login"}),
        httpx.Response(302, headers={"Location": "https://sso.example"}),
    ],
    ids=lambda response: f"{response.status_code} {response.text}",
)
@pytest.mark.parametrize(("operation", "given"), [("list", ()), ("get", (ID,)), ("delete", (ID,))])
def test_a_response_not_from_the_api_is_an_outage_never_gone(
    ask: Ask, response: httpx.Response, operation: str, given: Any
) -> None:
    with pytest.raises(BrokenAnswer):
        ask(response, operation, *given)


@pytest.mark.parametrize("body", [{}, {"message": "no Route matched with those values"}])
def test_a_gateways_404_is_not_an_empty_list(ask: Ask, body: dict[str, str]) -> None:
    with pytest.raises(BrokenAnswer):
        ask(served_by_the_api(httpx.Response(404, json=body)), "list")


def test_only_a_404_with_the_code_not_found_means_gone(ask: Ask) -> None:
    response = httpx.Response(404, json={"code": "not_found", "message": "no such claim"})
    with pytest.raises(NotFound, match=f"get of claim {ID}: not_found: no such claim"):
        ask(served_by_the_api(response), "get", ID)
    with pytest.raises(Unimplemented):
        ask(httpx.Response(404, json={"code": "unimplemented"}), "list")


@pytest.mark.parametrize(("operation", "given"), [("list", ()), ("get", (ID,)), ("delete", (ID,))])
def test_not_found_for_everything_means_a_wrong_endpoint(ask: Ask, operation: str, given: Any) -> None:
    # the exact response of a gateway to a path without a route
    response = httpx.Response(404, json={"code": 5, "message": "Not Found", "details": []})
    with pytest.raises(WrongEndpoint) as caught:
        ask(response, operation, *given)
    assert str(caught.value) == snapshot(
        "https://api.coreweave.com does not serve CoreWeave's inference API: not even"
        " /v1alpha1/inference/capacityclaims/parameters exists there (HTTP 404)"
    )


def test_a_404_needs_no_confirmation_once_the_api_has_responded() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path.removeprefix(PATH))
        if request.url.path == PATH:
            return httpx.Response(200, json={})
        return httpx.Response(404, json={"code": "not_found"})

    with Client(TOKEN, transport=httpx.MockTransport(handler)) as client:
        assert client.capacity_claims.list() == []
        for _ in range(2):
            with pytest.raises(NotFound):
                client.capacity_claims.get(ID)
    assert asked == ["", f"/{ID}", f"/{ID}"]


def test_a_first_404_is_confirmed_once_and_a_denial_confirms_it() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path.removeprefix(PATH))
        if request.url.path.endswith("/parameters"):
            return httpx.Response(403, json={"code": "permission_denied"})
        return httpx.Response(404, json={"code": "not_found"})

    with Client(TOKEN, transport=httpx.MockTransport(handler)) as client:
        for _ in range(2):
            with pytest.raises(NotFound):
                client.capacity_claims.get(ID)
    assert asked == [f"/{ID}", "/parameters", f"/{ID}"]


def served_by_the_api(response: httpx.Response) -> Handler:
    """Responds like this to everything except a request for the parameters."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/parameters"):
            return httpx.Response(200, json={"zoneInstanceTypes": {}})
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)

    return handler


@pytest.mark.parametrize(
    "response", [httpx.Response(200, json={}), httpx.Response(200, json={"capacityClaim": None})]
)
def test_a_delete_response_may_omit_the_claim(ask: Ask, response: httpx.Response) -> None:
    assert ask(response, "delete", ID) is None


def test_a_delete_response_may_have_no_content(ask: Ask) -> None:
    assert ask(httpx.Response(204), "delete", ID) is None


@pytest.mark.parametrize("claims", [{}, [{}], [{"spec": {"id": ""}}], "none", [None]])
def test_a_list_with_one_invalid_entry_fails_instead_of_skipping_it(ask: Ask, claims: object) -> None:
    with pytest.raises(BrokenAnswer, match="not a valid list response"):
        ask(httpx.Response(200, json={"capacityClaims": claims}), "list")


def test_a_get_response_must_contain_a_claim(ask: Ask) -> None:
    for body in ({}, {"capacityClaim": None}, {"capacityClaim": {"spec": {"name": "x"}}}):
        with pytest.raises(BrokenAnswer, match="not a valid get response"):
            ask(httpx.Response(200, json=body), "get", ID)


@pytest.mark.parametrize(
    ("operation", "given", "named"),
    [
        ("create", ("train", RESOURCES), {"id": ID}),
        ("get", (ID,), {}),
        ("update", (ID, RESOURCES), {}),
        ("delete", (ID,), {}),
    ],
)
def test_a_response_about_another_claim_is_an_outage(
    ask: Ask, operation: str, given: Any, named: dict[str, Any]
) -> None:
    other = {**CLAIM, "spec": {**CLAIM["spec"], "id": ID[:-1] + "2"}}
    with pytest.raises(BrokenAnswer, match=f"the response is about another claim, {ID[:-1]}2"):
        ask(httpx.Response(200, json={"capacityClaim": other}), operation, *given, **named)
    same = {**CLAIM, "spec": {**CLAIM["spec"], "id": ID.upper()}}
    assert ask(httpx.Response(200, json={"capacityClaim": same}), operation, *given, **named).id == ID.upper()


def test_a_count_that_protobuf_does_not_have_is_rejected(ask: Ask) -> None:
    huge = {**CLAIM, "status": {"allocatedInstances": 10**400}}
    with pytest.raises(BrokenAnswer, match="not a valid get response"):
        ask(httpx.Response(200, json={"capacityClaim": huge}), "get", ID)


def test_parameters_are_read(ask: Ask) -> None:
    body = {"zoneInstanceTypes": {"A": {"instanceIds": ["x"]}}}
    assert ask(httpx.Response(200, json=body), "parameters").zones_offering("x") == ("A",)


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
@pytest.mark.parametrize(
    "wrong",
    [
        "",
        " ",
        ".",
        "..",
        "parameters",
        None,
        5,
        "a/b",
        "a%2Fb",
        "a?b",
        "a\\b",
        "a\n",
        "\ud800",
        "a" * 101,
        "\u0660",
    ],
)
def test_an_id_that_would_address_something_else_is_not_sent(ask: Ask, operation: str, wrong: Any) -> None:
    given = (wrong, RESOURCES) if operation == "update" else (wrong,)
    with pytest.raises(InvalidArgument, match="is not a claim id") as caught:
        ask(lambda _: pytest.fail("was sent"), operation, *given)
    assert caught.value.attempts == 0
    assert caught.value.violations[0].field == "id"


def test_a_blank_id_creates_nothing(ask: Ask) -> None:
    with pytest.raises(InvalidArgument, match="id: is empty") as caught:
        ask(lambda _: pytest.fail("was sent"), "create", "train", RESOURCES, id="")
    assert caught.value.attempts == 0


@pytest.mark.parametrize("wrong", ["\ud800", "größe", "\n", "\x1b"])
def test_a_time_that_no_url_carries_is_not_sent(ask: Ask, wrong: str) -> None:
    with pytest.raises(InvalidArgument, match="updated_after: is not a time"):
        ask(lambda _: pytest.fail("was sent"), "list", updated_after=wrong)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"instanceCount": "4"}, "resources.instance_count"),
        ({"zones": {"A"}}, "resources.zones"),
        ({"zones": ["A", 5]}, "resources.zones[1]"),
        ({"instanceCnt": 4}, "resources.instance_cnt"),
    ],
)
def test_a_malformed_request_is_not_sent_and_names_the_field(
    ask: Ask, change: dict[str, object], field: str
) -> None:
    resources = {**RESOURCES.to_wire(), **change}
    for operation, given in (("create", ("train", resources)), ("update", (ID, resources))):
        with pytest.raises(InvalidArgument, match="; not sent") as caught:
            ask(lambda _: pytest.fail("was sent"), operation, *given)
        assert caught.value.attempts == 0
        assert [one.field for one in caught.value.violations] == [field]
        assert caught.value.__context__ is None


def test_a_time_without_a_zone_is_not_sent(ask: Ask) -> None:
    with pytest.raises(InvalidArgument, match="updated_after: the datetime needs a time zone"):
        ask(lambda _: pytest.fail("was sent"), "list", updated_after=datetime(2026, 5, 14))  # noqa: DTZ001


def succeeding_after(failures: int) -> tuple[Handler, list[bytes]]:
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        if len(seen) <= failures:
            return httpx.Response(503, json={"code": "unavailable"})
        return httpx.Response(200, json={"capacityClaim": CLAIM})

    return handler, seen


def test_a_create_is_retried_unchanged_only_if_it_has_an_id(ask: Ask) -> None:
    quick = RetryPolicy(initial=0.001)
    handler, seen = succeeding_after(2)
    assert ask(handler, "create", "train", RESOURCES, id=ID, retry=quick).id == ID
    assert len(seen) == 3
    assert len(set(seen)) == 1

    handler, seen = succeeding_after(2)
    with pytest.raises(ApiError, match="create: unavailable"):
        ask(handler, "create", "train", RESOURCES, retry=quick)
    assert len(seen) == 1


def test_already_exists_names_the_claim_and_the_attempts(ask: Ask) -> None:
    with pytest.raises(AlreadyExists) as caught:
        ask(httpx.Response(409, json={"code": 6}), "create", "train", RESOURCES, id=ID)
    assert (caught.value.operation, caught.value.claim_id, caught.value.attempts) == ("create", ID, 1)


def test_a_missing_token_fails_the_first_call_not_the_constructor() -> None:
    for client in (
        Client(),
        Client(""),
        Client(transport=httpx.MockTransport(lambda _: pytest.fail("sent"))),
    ):
        with client, pytest.raises(MissingToken, match="COREWEAVE_API_TOKEN"):
            client.capacity_claims.list()


def test_arguments_override_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []
    http = httpx.MockTransport(recording(seen, {}))
    monkeypatch.setenv("CW_API_TOKEN", "from-environment")
    monkeypatch.setenv("COREWEAVE_API_ENDPOINT", "https://gateway.example/base/")
    monkeypatch.setenv("COREWEAVE_HTTP_TIMEOUT", "1m30s")
    with Client(transport=http) as client:
        client.capacity_claims.list()
    with Client("given", endpoint="http://localhost:1", timeout=3, transport=http) as client:
        client.capacity_claims.list()
    assert [str(request.url) for request in seen] == [
        f"https://gateway.example/base{PATH}",
        f"http://localhost:1{PATH}",
    ]
    assert [request.headers["Authorization"] for request in seen] == [
        "Bearer from-environment",
        "Bearer given",
    ]
    assert [request.extensions["timeout"]["read"] for request in seen] == [90, 3]


def test_invalid_settings_are_rejected_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidEndpoint):
        Client(TOKEN, endpoint="http://api.coreweave.com")
    with pytest.raises(InvalidSetting, match="timeout"):
        Client(TOKEN, timeout=0)
    monkeypatch.setenv("COREWEAVE_HTTP_TIMEOUT", "soon")
    with pytest.raises(InvalidSetting, match="COREWEAVE_HTTP_TIMEOUT"):
        AsyncClient(TOKEN)


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_a_client_never_reveals_its_token(make: type[Client] | type[AsyncClient]) -> None:
    client = make(TOKEN)
    assert client.endpoint == "https://api.coreweave.com"
    assert repr(client) == f"<{make.__name__} of https://api.coreweave.com>"
    for shown in (client, client.capacity_claims, vars(client)):
        assert TOKEN not in repr(shown)
    for give in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds the API token"):
            give(client)
    for give_operations in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            give_operations(client.capacity_claims)


def test_threads_may_share_a_client() -> None:
    barrier = threading.Barrier(8)
    found: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"capacityClaims": [CLAIM]})

    with Client(TOKEN, transport=httpx.MockTransport(handler)) as client:

        def work() -> None:
            barrier.wait()
            found.extend(len(client.capacity_claims.list()) for _ in range(20))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [1] * 160


def test_both_clients_have_the_same_operations_and_arguments() -> None:
    def signatures(of: type) -> dict[str, str]:
        return {
            name: str(inspect.signature(one))
            for name, one in vars(of).items()
            if inspect.isfunction(one) and not name.startswith("_")
        }

    assert signatures(CapacityClaims) == signatures(AsyncCapacityClaims)
    arguments = [set(inspect.signature(of).parameters) for of in (Client, AsyncClient)]
    assert arguments[0] == arguments[1]


def test_what_a_pause_raises_ends_the_call() -> None:
    class Stopped(Exception):
        pass

    def stop(seconds: float) -> None:
        raise Stopped

    http = httpx.MockTransport(lambda _: httpx.Response(503))
    with Client(TOKEN, transport=http, sleep=stop) as client, pytest.raises(Stopped):
        client.capacity_claims.list()


def test_a_list_of_fifty_thousand_claims_fits() -> None:
    body = json.dumps({"capacityClaims": [CLAIM] * 50_000}).encode()
    http = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    with Client(TOKEN, transport=http) as client:
        assert len(client.capacity_claims.list(updated_after=datetime.now(UTC))) == 50_000
