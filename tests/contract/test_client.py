"""Both clients against the emulator: the six operations, and retries under faults."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coreweave_inference import (
    AlreadyExists,
    ApiError,
    AsyncClient,
    BrokenAnswer,
    CapacityClaimResources,
    CapacityType,
    ClaimState,
    Client,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RetryPolicy,
    Unauthenticated,
)
from coreweave_inference.emulator import Emulator, EmulatorSettings, Fail, FaultProfile, FaultRule

QUICK = RetryPolicy(deadline=20, initial=0.01, maximum=0.1)
RESOURCES = CapacityClaimResources(
    instance_id="gb200-4x",
    instance_count=4,
    zones=("US-WEST-04A", "US-EAST-04A"),
    capacity_type=CapacityType.MANAGED,
)
Ask = Callable[..., Any]


@pytest.fixture(
    params=[
        EmulatorSettings(),
        EmulatorSettings(error_form="status", omit_zeros=False, empty_list="not_found"),
        EmulatorSettings(empty_list="array"),
    ],
    ids=["connect", "status", "array"],
)
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with Emulator(request.param) as emulator:
        yield emulator


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, emulator: Emulator) -> Ask:
    """Calls one operation of either client."""

    def ask(operation: str, *given: Any, token: str | None = None, **named: Any) -> Any:
        settings: dict[str, Any] = {"endpoint": emulator.url, "retry": QUICK, "timeout": 5}
        if request.param == "sync":
            with Client(token or emulator.token, **settings) as client:
                return getattr(client.capacity_claims, operation)(*given, **named)

        async def ask_async() -> Any:
            async with AsyncClient(token or emulator.token, **settings) as client:
                return await getattr(client.capacity_claims, operation)(*given, **named)

        return asyncio.run(ask_async())

    return ask


@pytest.fixture
def claim_id() -> str:
    return str(uuid.uuid4())


def faults(*rules: FaultRule) -> FaultProfile:
    return FaultProfile(rules=rules)


def test_a_claim_lives_through_all_operations(ask: Ask, claim_id: str) -> None:
    assert ask("list") == []
    created = ask("create", "train", RESOURCES, id=claim_id)
    assert (created.id, created.name, created.resources) == (claim_id, "train", RESOURCES)
    assert created.state.is_known
    assert created.spec.organization_id
    assert created.status.created_at
    assert ask("get", claim_id).resources.zones == RESOURCES.zones
    assert [claim.id for claim in ask("list")] == [claim_id]
    more = RESOURCES.model_copy(update={"instance_count": 5})
    assert ask("update", claim_id, more).resources == more
    assert ask("get", claim_id).resources.instance_count == 5
    gone = ask("delete", claim_id)
    assert gone is None or gone.id == claim_id


def test_parameters_name_the_zones_that_offer_an_instance_type(ask: Ask) -> None:
    assert "US-WEST-04A" in ask("parameters").zones_offering("gb200-4x")


def test_a_create_without_an_id_gets_one(ask: Ask) -> None:
    claim = ask("create", "train", RESOURCES)
    assert ask("get", claim.id).name == "train"


def test_a_claim_that_never_existed_is_not_found(ask: Ask, claim_id: str) -> None:
    with pytest.raises(NotFound) as caught:
        ask("get", claim_id)
    assert (caught.value.code, caught.value.http_status) == ("not_found", 404)
    assert caught.value.claim_id == claim_id


def test_a_create_with_a_taken_id_raises_already_exists(ask: Ask, claim_id: str) -> None:
    ask("create", "train", RESOURCES, id=claim_id)
    with pytest.raises(AlreadyExists):
        ask("create", "train", RESOURCES, id=claim_id)


def test_a_rejected_field_is_named(ask: Ask, claim_id: str) -> None:
    wrong = RESOURCES.model_copy(update={"instance_id": "gb2000-4x"})
    with pytest.raises(InvalidArgument) as caught:
        ask("create", "train", wrong, id=claim_id)
    assert "resources.instance_id" in str(caught.value)


def test_invalid_and_viewer_tokens_raise_different_errors(
    ask: Ask, emulator: Emulator, claim_id: str
) -> None:
    with pytest.raises(Unauthenticated):
        ask("list", token="wrong")
    assert ask("list", token=emulator.viewer_token) == []
    with pytest.raises(PermissionDenied):
        ask("create", "train", RESOURCES, id=claim_id, token=emulator.viewer_token)


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule(nth=1, fail=Fail(code="unavailable")),
        FaultRule(nth=1, fail=Fail(code="internal")),
        FaultRule(nth=1, fail=Fail(code="resource_exhausted", retry_after=0.1)),
        FaultRule(nth=1, fail=Fail(code="unavailable", status=502, form="html")),
        FaultRule(nth=1, fail=Fail(code="unavailable", form="empty")),
        FaultRule(nth=1, fail=Fail(code="not_found", form="html")),
        FaultRule(nth=1, drop="before"),
        FaultRule(nth=1, drop="after"),
        FaultRule(nth=1, half_body=True),
        FaultRule(nth=1, html_200="after"),
        FaultRule(times=3, fail=Fail(code="unavailable")),
    ],
    ids=lambda rule: ",".join(map(str, rule.to_json().values()))[:60],
)
@pytest.mark.parametrize("operation", ["get", "list", "update"])
def test_transient_faults_are_retried(
    ask: Ask, emulator: Emulator, claim_id: str, rule: FaultRule, operation: str
) -> None:
    ask("create", "train", RESOURCES, id=claim_id)
    emulator.set_faults(faults(rule))
    given = {"get": (claim_id,), "update": (claim_id, RESOURCES)}.get(operation, ())
    assert ask(operation, *given)


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule(method="POST", nth=1, drop="after"),
        FaultRule(method="POST", nth=1, html_200="after"),
        FaultRule(method="POST", nth=1, fail=Fail(code="unavailable", when="after")),
    ],
    ids=["drop", "html", "unavailable"],
)
def test_a_lost_create_response_never_makes_a_second_claim(
    ask: Ask, emulator: Emulator, claim_id: str, rule: FaultRule
) -> None:
    emulator.set_faults(faults(rule))
    with pytest.raises(AlreadyExists) as caught:
        ask("create", "train", RESOURCES, id=claim_id)
    assert caught.value.attempts == 2
    assert ask("get", claim_id).resources == RESOURCES
    assert len(ask("list")) == 1

    emulator.set_faults(faults(rule))
    with pytest.raises(ApiError) as unsure:
        ask("create", "other", RESOURCES)
    assert unsure.value.attempts == 1
    assert len(ask("list")) == 2


def test_a_date_in_retry_after_is_honored(ask: Ask, emulator: Emulator) -> None:
    emulator.set_faults(faults(FaultRule(nth=1, fail=Fail(code="resource_exhausted", retry_after="date:2"))))
    started = time.monotonic()
    assert ask("parameters")
    # the date has whole seconds
    assert 0.9 < time.monotonic() - started < 10


def test_a_redirect_is_not_followed(ask: Ask, emulator: Emulator) -> None:
    emulator.set_faults(faults(FaultRule(redirect=f"{emulator.url}/elsewhere")))
    with pytest.raises(BrokenAnswer, match="redirects are not followed"):
        ask("list")
    assert len([one for one in emulator.requests() if "elsewhere" in one.path]) == 0


def test_an_unknown_state_is_read_and_shown(ask: Ask, emulator: Emulator, claim_id: str) -> None:
    ask("create", "train", RESOURCES, id=claim_id)
    emulator.edit_claim(claim_id, status={"status": "STATUS_PAUSED"})
    state = ask("get", claim_id).state
    assert (state, state.is_known) == (ClaimState("STATUS_PAUSED"), False)


def test_a_client_shared_by_threads_makes_each_claim_once(emulator: Emulator) -> None:
    ids = [str(uuid.uuid4()) for _ in range(24)]
    small = RESOURCES.model_copy(update={"instance_count": 1})
    with Client(emulator.token, endpoint=emulator.url, retry=QUICK) as client:

        def work(mine: list[str]) -> None:
            for one in mine:
                client.capacity_claims.create(f"c-{one}", small, id=one)

        threads = [threading.Thread(target=work, args=(ids[start::6],)) for start in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {claim.id for claim in client.capacity_claims.list()} == set(ids)


def test_many_calls_of_the_async_client_run_at_once(emulator: Emulator) -> None:
    async def create_and_list() -> int:
        async with AsyncClient(emulator.token, endpoint=emulator.url, retry=QUICK) as client:
            claims = client.capacity_claims
            await asyncio.gather(*(claims.create(f"c-{number}", RESOURCES) for number in range(24)))
            return len(await claims.list())

    assert asyncio.run(create_and_list()) == 24
