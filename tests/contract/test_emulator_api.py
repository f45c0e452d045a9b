"""The emulator over real HTTP: every operation, every refusal, and every setting for an unknown."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from coreweave_inference.emulator import Emulator, EmulatorSettings, load_inventory
from coreweave_inference.emulator.server import serve

CLAIMS = "/v1alpha1/inference/capacityclaims"
ID = "79504dc3-e7f7-47f6-bbe2-519ea1fd9e5d"
OTHER = "6ffb9fce-42ae-4638-add8-09ea8e43ce50"
STOCK = {"US-WEST-04A": {"gb200-4x": 4, "h100-80gb-sxm5": 2}, "US-EAST-04A": {"gb200-4x": 2}}
SECOND = 1_000_000_000


class Clock:
    """A clock that only moves in `sleep`."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class Api:
    """The API of one emulator, as raw HTTP."""

    def __init__(self, emulator: Emulator, clock: Clock) -> None:
        self.emulator = emulator
        self.clock = clock
        self.http = httpx.Client(base_url=emulator.url, headers={"Authorization": f"Bearer {emulator.token}"})

    def post(self, body: object, **options: Any) -> httpx.Response:
        return self.http.post(CLAIMS, json=body, **options)

    def patch(self, body: object, claim: str = ID) -> httpx.Response:
        return self.http.patch(f"{CLAIMS}/{claim}", json=body)

    def read(self, claim: str = ID) -> httpx.Response:
        return self.http.get(f"{CLAIMS}/{claim}")

    def delete(self, claim: str = ID) -> httpx.Response:
        return self.http.delete(f"{CLAIMS}/{claim}")

    def list(self, query: str = "") -> httpx.Response:
        return self.http.get(CLAIMS + query)

    def status(self, claim: str = ID) -> tuple[str, int, int]:
        status = self.read(claim).json()["capacityClaim"]["status"]
        return (
            status["status"],
            status.get("allocatedInstances", 0),
            status.get("pendingInstances", 0),
        )

    def names(self, query: str = "") -> list[str]:
        return [each["spec"]["name"] for each in self.list(query).json().get("capacityClaims", [])]


Start = Callable[..., Api]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts emulators with a stopped clock, and stops them after the test."""
    running: list[Api] = []

    def start_one(clock: Clock | None = None, **settings: Any) -> Api:
        clock = clock or Clock()
        chosen = EmulatorSettings(**{"inventory": STOCK, **settings})
        emulator = Emulator(chosen, clock=clock)
        emulator.start()
        running.append(Api(emulator, clock))
        return running[-1]

    yield start_one
    for api in running:
        api.http.close()
        api.emulator.stop()


@pytest.fixture
def api(start: Start) -> Api:
    return start()


def resources(count: int = 2, **changes: object) -> dict[str, object]:
    return {
        "instanceId": "gb200-4x",
        "instanceCount": count,
        "zones": ["US-WEST-04A", "US-EAST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
        **changes,
    }


def claim(count: int = 2, *, id: str = ID, name: str = "train", **changes: object) -> object:
    return {"id": id, "name": name, "resources": resources(count, **changes)}


def refusal(response: httpx.Response) -> tuple[int, str, list[str]]:
    """Status, code and violated fields of an error in the Connect form."""
    body = response.json()
    fields = [
        violation["field"]
        for detail in body["details"]
        for violation in detail["debug"].get("fieldViolations", [])
    ]
    return response.status_code, body["code"], fields


# Operations


def test_a_claim_is_created_allocated_and_read(api: Api) -> None:
    created = api.post(claim()).json()["capacityClaim"]
    assert created["spec"] == {
        "id": ID,
        "name": "train",
        "organizationId": "cw0a1b",
        "resources": resources(2),
    }
    assert created["status"]["status"] == "STATUS_CREATING"
    assert created["status"]["pendingInstances"] == 2
    read = api.read().json()["capacityClaim"]
    assert read["spec"] == created["spec"]
    assert read["status"]["status"] == "STATUS_READY"
    assert read["status"]["conditions"][0] == {
        "type": "Ready",
        "status": "STATUS_TRUE",
        "lastUpdateTime": "2027-01-15T08:00:00Z",
        "reason": "AllAllocated",
        "message": "instances: AllAllocated",
        "zone": "US-WEST-04A",
    }


def test_a_create_without_an_id_gets_one(api: Api) -> None:
    body = {"name": "train", "resources": resources()}
    ids = {api.post(body).json()["capacityClaim"]["spec"]["id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(api.read(each).status_code == 200 for each in ids)


def test_a_taken_id_is_refused_even_while_its_claim_is_deleting(start: Start) -> None:
    api = start(delete_delay=10)
    api.post(claim())
    assert refusal(api.post(claim(name="other")))[:2] == (409, "already_exists")
    api.delete()
    assert refusal(api.post(claim()))[:2] == (409, "already_exists")
    api.clock.sleep(10)
    assert api.post(claim()).status_code == 200


def test_allocation_takes_time_and_sets_updated_at(start: Start) -> None:
    api = start(allocation_delay=10, allocation_spread=5)
    api.post(claim(3))
    seen = []
    for _ in range(5):
        seen.append(api.status())
        api.clock.sleep(6)
    assert seen == [
        ("STATUS_CREATING", 0, 3),
        ("STATUS_CREATING", 0, 3),
        ("STATUS_CREATING", 1, 2),
        ("STATUS_CREATING", 2, 1),
        ("STATUS_READY", 3, 0),
    ]
    updated = api.read().json()["capacityClaim"]["status"]["updatedAt"]
    assert updated == "2027-01-15T08:00:20Z"


def test_zones_are_filled_in_the_order_of_the_claim(api: Api) -> None:
    api.post(claim(5))
    api.post(claim(1, id=OTHER, zones=["US-EAST-04A", "US-WEST-04A"]))
    first, second = api.emulator.claims()
    assert first.allocation == {"US-WEST-04A": 4, "US-EAST-04A": 1}
    assert second.allocation == {"US-EAST-04A": 1}


def test_a_shortage_is_explained_by_zone_and_ends_with_free_instances(api: Api) -> None:
    api.post(claim(5))
    api.post(claim(4, id=OTHER, name="late"))
    assert api.status(OTHER) == ("STATUS_CREATING", 1, 3)
    conditions = api.read(OTHER).json()["capacityClaim"]["status"]["conditions"]
    assert [(each["reason"], each["message"], each["status"]) for each in conditions] == [
        ("InsufficientCapacity", "0 of 3 gb200-4x instances free", "STATUS_FALSE"),
        ("InsufficientCapacity", "0 of 3 gb200-4x instances free", "STATUS_FALSE"),
    ]
    api.patch({"id": ID, "resources": resources(2)})
    assert api.status(OTHER) == ("STATUS_READY", 4, 0)


def test_the_condition_of_a_zone_without_the_type_says_so(api: Api) -> None:
    api.post(claim(3, instanceId="h100-80gb-sxm5"))
    conditions = api.read().json()["capacityClaim"]["status"]["conditions"]
    assert [each["reason"] for each in conditions] == [
        "InsufficientCapacity",
        "InstanceTypeNotOffered",
    ]


def test_an_update_goes_through_updating(start: Start) -> None:
    api = start(allocation_delay=5)
    api.post(claim(1))
    api.clock.sleep(5)
    assert api.status() == ("STATUS_READY", 1, 0)
    answer = api.patch({"id": ID, "resources": resources(3)}).json()["capacityClaim"]
    assert answer["status"]["status"] == "STATUS_UPDATING"
    assert api.status() == ("STATUS_UPDATING", 1, 2)
    api.clock.sleep(5)
    assert api.status() == ("STATUS_READY", 3, 0)


def test_an_update_without_a_change_changes_nothing(api: Api) -> None:
    api.post(claim(1))
    before = api.read().json()
    api.clock.sleep(1)
    assert api.patch({"resources": resources(1)}).json() == before


def test_a_deleted_claim_is_deleting_and_then_gone(start: Start) -> None:
    api = start(delete_delay=10)
    api.post(claim(6))
    api.post(claim(1, id=OTHER))
    assert api.status(OTHER) == ("STATUS_CREATING", 0, 1)
    first = api.delete()
    assert first.json()["capacityClaim"]["status"]["status"] == "STATUS_DELETING"
    assert api.delete().json() == first.json()
    assert refusal(api.patch({"resources": resources(3)}))[:2] == (412, "failed_precondition")
    assert [each.id for each in api.emulator.live_claims()] == [OTHER]
    api.clock.sleep(10)
    assert refusal(api.read())[:2] == (404, "not_found")
    assert refusal(api.delete())[:2] == (404, "not_found")
    assert api.status(OTHER) == ("STATUS_READY", 1, 0)


def test_an_unknown_id_is_not_found(api: Api) -> None:
    assert refusal(api.read(OTHER))[:2] == (404, "not_found")
    assert refusal(api.delete(OTHER))[:2] == (404, "not_found")
    assert refusal(api.patch({"resources": resources()}, OTHER))[:2] == (404, "not_found")


def test_a_list_has_all_claims_or_those_updated_since(api: Api) -> None:
    assert api.list().json() == {}
    api.post(claim(1, name="first"))
    api.clock.sleep(1)
    api.post(claim(1, id=OTHER, name="second"))
    assert api.names() == ["first", "second"]
    bound = api.read(OTHER).json()["capacityClaim"]["status"]["updatedAt"]
    assert api.names(f"?updatedAfter={quote(bound)}") == ["second"]
    assert api.names("?updatedAfter=2027-01-15T09:00:01.000000001%2B01:00") == []


def test_parameters_include_types_that_are_out_of_stock(start: Start) -> None:
    api = start(inventory={"RNO2A": {"b": 0, "a": 1}, "US-EAST-02A": {}})
    assert api.http.get(f"{CLAIMS}/parameters").json() == {
        "zoneInstanceTypes": {"RNO2A": {"instanceIds": ["a", "b"]}, "US-EAST-02A": {}}
    }


# Refusals


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (claim(zones=["US-WEST-09Z"]), ["resources.zones[0]", "resources.instance_id"]),
        (claim(instanceId="gb200-4X"), ["resources.instance_id"]),
        (claim(instanceId="h100-80gb-sxm5", zones=["US-EAST-04A"]), ["resources.instance_id"]),
        (claim(capacityType=1), ["resources.capacity_type"]),
        (claim(name="Train"), ["name"]),
        (claim(id="1"), ["id"]),
        (claim(labels={}), ["resources.labels"]),
        ({}, ["name", "resources"]),
    ],
)
def test_an_invalid_create_is_refused_without_effect(api: Api, body: object, fields: list[str]) -> None:
    assert refusal(api.post(body)) == (400, "invalid_argument", fields)
    assert api.emulator.claims() == []


def test_a_create_in_some_zones_without_the_type_is_accepted(api: Api) -> None:
    assert api.post(claim(instanceId="h100-80gb-sxm5")).status_code == 200


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"id": ID}, ["resources"]),
        ({"id": OTHER, "resources": resources()}, ["id"]),
        ({"id": ID, "name": "x", "resources": resources()}, ["name"]),
        ({"id": ID, "resources": {"instanceCount": 3}}, None),
        ({"id": ID, "resources": resources(zones=["US-WEST-04A"])}, ["resources.zones"]),
        (
            {"id": ID, "resources": resources(zones=["US-EAST-04A", "US-WEST-04A"])},
            ["resources.zones"],
        ),
        (
            {"id": ID, "resources": resources(instanceId="h100-80gb-sxm5")},
            ["resources.instance_id"],
        ),
    ],
)
def test_an_invalid_update_is_refused_without_effect(
    api: Api, body: object, fields: list[str] | None
) -> None:
    api.post(claim())
    before = api.read().json()
    status, code, broken = refusal(api.patch(body))
    assert (status, code) == (400, "invalid_argument")
    assert fields is None or broken == fields
    assert api.read().json() == before


def test_a_body_that_is_too_large_is_refused(start: Start) -> None:
    api = start(max_body_bytes=1000)
    response = api.http.post(CLAIMS, content=b" " * 300_000)
    assert refusal(response)[:2] == (400, "invalid_argument")
    assert api.list().status_code == 200


@pytest.mark.parametrize("path", ["/other", f"{CLAIMS}/", f"{CLAIMS}/{ID}/x", f"{CLAIMS}x", "/v1"])
def test_an_unknown_path_is_answered_in_the_error_form_of_the_api(api: Api, path: str) -> None:
    assert refusal(api.http.get(path)) == (404, "not_found", [])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", CLAIMS, "GET, POST"),
        ("POST", f"{CLAIMS}/{ID}", "GET, PATCH, DELETE"),
        ("DELETE", f"{CLAIMS}/parameters", "GET"),
        ("QUERY", CLAIMS, "GET, POST"),
    ],
)
def test_an_unknown_method_is_unimplemented(api: Api, method: str, path: str, allowed: str) -> None:
    response = api.http.request(method, path)
    assert refusal(response) == (501, "unimplemented", [])
    assert response.headers["allow"] == allowed


def test_an_unknown_query_parameter_is_refused(api: Api) -> None:
    assert refusal(api.list("?pageSize=1"))[:2] == (400, "invalid_argument")
    assert refusal(api.http.get(f"{CLAIMS}/{ID}?view=full"))[:2] == (400, "invalid_argument")


def test_an_id_in_the_path_must_be_a_uuid(api: Api) -> None:
    assert refusal(api.read("train")) == (400, "invalid_argument", ["id"])


# Tokens


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nonsense", "Basic {token}"])
def test_a_wrong_or_missing_token_is_unauthenticated(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.format(token=api.emulator.token)}
    response = httpx.get(api.emulator.url + CLAIMS, headers=headers)
    assert refusal(response)[:2] == (401, "unauthenticated")


def test_a_viewer_can_read_but_not_write(api: Api) -> None:
    api.post(claim())
    api.http.headers["Authorization"] = f"bearer {api.emulator.viewer_token}"
    assert api.read().status_code == api.list().status_code == 200
    for response in (api.post(claim(id=OTHER)), api.patch({"resources": resources(1)})):
        assert refusal(response)[:2] == (403, "permission_denied")
    assert refusal(api.delete())[:2] == (403, "permission_denied")
    assert len(api.emulator.live_claims()) == 1


def test_tokens_are_distinct_random_and_never_logged(api: Api) -> None:
    settings = api.emulator.settings
    tokens = {settings.token, settings.viewer_token, settings.control_token}
    assert len(tokens) == 3
    assert EmulatorSettings().token not in tokens
    api.post(claim(name=settings.token))
    api.http.post(CLAIMS, content=settings.viewer_token)
    shown = repr(settings) + repr(api.emulator.requests())
    assert not any(token in shown for token in tokens)


# Headers, log and connections


def test_every_response_has_a_request_id_that_is_in_the_log(api: Api) -> None:
    answers = [api.list(), api.read(), api.http.put(CLAIMS), api.post(claim())]
    ids = [each.headers["x-request-id"] for each in answers]
    log = api.emulator.requests()
    assert [record.request_id for record in log] == ids
    assert [record.status for record in log] == [200, 404, 501, 200]
    assert {each.headers["server"] for each in answers} == {"coreweave-emulator"}


def test_the_log_records_request_and_response(api: Api) -> None:
    response = api.post(claim(1), headers={"User-Agent": "me/1"})
    api.list("?updatedAfter=2026-05-14T05:31:56Z")
    write, read = api.emulator.requests()
    assert (write.operation, write.claim, write.method, write.path) == (
        "create",
        ID,
        "POST",
        CLAIMS,
    )
    assert (write.body, write.user_agent) == (claim(1), "me/1")
    assert write.bytes_in == len(response.request.content)
    assert write.bytes_out == len(response.content)
    assert (read.operation, read.query) == ("list", "updatedAfter=2026-05-14T05:31:56Z")
    assert api.emulator.requests(since=write.sequence) == [read]
    api.emulator.clear_requests()
    assert api.emulator.requests() == []


def test_one_connection_serves_many_requests(api: Api) -> None:
    connections = set()
    for _ in range(5):
        response = api.list()
        connections.add(response.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(connections) == 1


def test_small_responses_are_sent_without_delay(api: Api) -> None:
    api.list()
    begun = time.monotonic()
    for _ in range(50):
        api.list()
    assert time.monotonic() - begun < 1, "40 ms per response would be Nagle's algorithm"


# Settings for what is unknown


def test_errors_can_have_the_status_form(start: Start) -> None:
    api = start(error_form="status")
    body = api.post(claim(name="")).json()
    assert body["code"] == 3
    assert body["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert api.read().json()["code"] == 5


def test_zeros_can_be_written(start: Start) -> None:
    api = start(omit_zeros=False)
    api.post(claim(0))
    read = api.read().json()["capacityClaim"]
    assert read["spec"]["resources"]["instanceCount"] == 0
    assert read["status"]["allocatedInstances"] == read["status"]["pendingInstances"] == 0


@pytest.mark.parametrize(
    ("form", "status", "body"),
    [("absent", 200, {}), ("array", 200, {"capacityClaims": []}), ("not_found", 404, None)],
)
def test_an_empty_list_has_three_forms(start: Start, form: str, status: int, body: object) -> None:
    response = start(empty_list=form).list()
    assert response.status_code == status
    assert body is None or response.json() == body


def test_names_can_be_unique_among_existing_claims(start: Start) -> None:
    api = start(unique_names=True)
    api.post(claim())
    assert refusal(api.post(claim(id=OTHER)))[:2] == (409, "already_exists")
    api.delete()
    assert api.post(claim(id=OTHER)).status_code == 200


def test_an_id_can_be_valid_for_one_use_only(start: Start) -> None:
    api = start(reuse_ids=False)
    api.post(claim())
    api.delete()
    assert api.read().status_code == 404
    assert refusal(api.post(claim()))[:2] == (409, "already_exists")


def test_a_patch_can_change_all_resources(start: Start) -> None:
    fields = frozenset({"instanceId", "instanceCount", "zones", "capacityType"})
    api = start(patchable_fields=fields)
    api.post(claim(2))
    wanted = resources(1, instanceId="h100-80gb-sxm5", zones=["US-WEST-04A"])
    assert api.patch({"resources": wanted}).status_code == 200
    assert api.read().json()["capacityClaim"]["spec"]["resources"] == wanted
    assert api.status() == ("STATUS_READY", 1, 0)


def test_a_refused_patch_can_be_a_failed_precondition(start: Start) -> None:
    api = start(patch_refusal="failed_precondition")
    api.post(claim(2))
    answer = api.patch({"resources": resources(zones=["US-WEST-04A"])})
    assert refusal(answer)[:2] == (412, "failed_precondition")


@pytest.mark.parametrize(
    ("how", "status"), [("accepted", 200), ("invalid_argument", 400), ("failed_precondition", 412)]
)
def test_a_patch_that_changes_nothing_can_be_refused(start: Start, how: str, status: int) -> None:
    api = start(unchanged_patch=how)
    api.post(claim(2))
    answer = api.patch({"resources": resources(2)})
    assert (answer.status_code, answer.json().get("code")) == (status, how if status != 200 else None)
    assert api.patch({"resources": resources(3)}).status_code == 200


def test_a_claim_can_be_ready_with_its_first_instance(start: Start) -> None:
    api = start(ready_when="any")
    api.post(claim(7))
    assert api.status() == ("STATUS_READY", 6, 1)


def test_a_shortage_may_show_as_an_error_that_recovers(start: Start) -> None:
    api = start(shortage="error")
    api.post(claim(7))
    assert api.status() == ("STATUS_ERROR", 6, 1)
    api.emulator.set_inventory({"US-EAST-04A": {"gb200-4x": 3}}, merge=True)
    assert api.status() == ("STATUS_READY", 7, 0)


def test_a_shortage_may_fail_for_good(start: Start) -> None:
    api = start(shortage="failed", shortage_failed_after=10)
    api.post(claim(7))
    assert api.status() == ("STATUS_CREATING", 6, 1)
    api.clock.sleep(10)
    assert api.status() == ("STATUS_FAILED", 6, 1)
    api.emulator.set_inventory({"US-EAST-04A": {"gb200-4x": 3}}, merge=True)
    assert api.status() == ("STATUS_FAILED", 6, 1)


def test_releasing_instances_in_use_can_be_refused(start: Start) -> None:
    api = start(refuse_release=True)
    api.post(claim(2))
    api.read()
    assert refusal(api.delete())[:2] == (412, "failed_precondition")
    assert refusal(api.patch({"resources": resources(1)}))[:2] == (412, "failed_precondition")
    assert api.patch({"resources": resources(3)}).status_code == 200


def test_the_status_can_be_stale_after_a_write(start: Start) -> None:
    api = start(stale_status_for=5, allocation_delay=2, delete_delay=60)
    api.post(claim(1))
    api.clock.sleep(2)
    assert api.status() == ("STATUS_READY", 1, 0)
    api.patch({"resources": resources(3)})
    read = api.read().json()["capacityClaim"]
    assert read["spec"]["resources"]["instanceCount"] == 3
    assert api.status() == ("STATUS_READY", 1, 0)
    api.clock.sleep(5)
    assert api.status() == ("STATUS_READY", 3, 0)
    api.delete()
    assert api.status()[0] == "STATUS_READY"
    api.clock.sleep(5)
    assert api.status()[0] == "STATUS_DELETING"


def test_a_list_can_lag_behind_get(start: Start) -> None:
    api = start(list_lag=3)
    api.post(claim())
    assert api.names() == []
    assert api.read().status_code == 200
    api.clock.sleep(3)
    assert api.names() == ["train"]
    api.delete()
    assert api.read().status_code == 404
    assert api.names() == ["train"]
    api.clock.sleep(3)
    assert api.names() == []


def test_the_number_of_zones_may_be_limited(start: Start) -> None:
    api = start(max_zones=1)
    assert refusal(api.post(claim())) == (400, "invalid_argument", ["resources.zones"])


def test_a_repeated_delete_can_be_answered_like_the_first(start: Start) -> None:
    api = start(repeated_delete="last_state")
    api.post(claim())
    first = api.delete()
    assert (api.delete().status_code, api.delete().json()) == (200, first.json())
    assert api.read().status_code == 404


@pytest.mark.parametrize("reads", ["read", "list", "create", "update", "delete"])
def test_zones_may_be_shown_sorted_but_are_filled_as_sent(start: Start, reads: str) -> None:
    api = start(zones_shown="sorted")
    created = api.post(claim(5)).json()
    found = {
        "read": lambda: api.read().json(),
        "list": lambda: {"capacityClaim": api.list().json()["capacityClaims"][0]},
        "create": lambda: created,
        "update": lambda: api.patch({"resources": resources(5)}).json(),
        "delete": lambda: api.delete().json(),
    }[reads]()
    assert found["capacityClaim"]["spec"]["resources"]["zones"] == ["US-EAST-04A", "US-WEST-04A"]
    if reads != "delete":
        (kept,) = api.emulator.claims()
        assert kept.zones == ("US-WEST-04A", "US-EAST-04A")
        assert kept.allocation == {"US-WEST-04A": 4, "US-EAST-04A": 1}


def test_a_patch_compares_with_the_zones_that_were_sent(start: Start) -> None:
    api = start(zones_shown="sorted")
    api.post(claim(2))
    assert api.patch({"resources": resources(3)}).status_code == 200
    swapped = resources(3, zones=["US-EAST-04A", "US-WEST-04A"])
    assert refusal(api.patch({"resources": swapped})) == (400, "invalid_argument", ["resources.zones"])


@pytest.mark.parametrize(
    ("shown", "omit_zeros", "expected"),
    [
        ("sent", True, "CAPACITY_TYPE_MANAGED"),
        ("unspecified", True, None),
        ("unspecified", False, "CAPACITY_TYPE_UNSPECIFIED"),
        ("customer", True, "CAPACITY_TYPE_CUSTOMER"),
    ],
)
def test_another_capacity_type_than_sent_may_be_shown(
    start: Start, shown: str, omit_zeros: bool, expected: str | None
) -> None:
    api = start(capacity_type_shown=shown, omit_zeros=omit_zeros)
    api.post(claim(2))
    assert api.read().json()["capacityClaim"]["spec"]["resources"].get("capacityType") == expected
    assert api.patch({"resources": resources(3)}).status_code == 200


# Start, stop and restart


def test_a_restart_keeps_claims_times_queues_and_progress(start: Start, tmp_path: Path) -> None:
    settings = {"state": tmp_path / "state.db", "allocation_delay": 10, "delete_delay": 10}
    clock = Clock()
    first = start(clock, **settings)
    first.post(claim(5))
    first.post(claim(4, id=OTHER, name="late"))
    clock.sleep(10)
    before = first.list().json()
    first.patch({"resources": resources(6)})
    clock.sleep(1)
    first.delete(OTHER)
    first.emulator.stop()
    clock.sleep(3)

    second = start(clock, **settings)
    now = {each["spec"]["id"]: each for each in second.list().json()["capacityClaims"]}
    assert before["capacityClaims"][0]["status"]["createdAt"] == now[ID]["status"]["createdAt"]
    assert second.status() == ("STATUS_UPDATING", 5, 1)
    assert second.status(OTHER)[:2] == ("STATUS_DELETING", 1)
    clock.sleep(6)
    assert second.status() == ("STATUS_UPDATING", 5, 1)
    clock.sleep(1)
    assert second.read(OTHER).status_code == 404
    assert second.status() == ("STATUS_READY", 6, 0)


def test_a_used_id_and_a_changed_inventory_survive_a_restart(start: Start, tmp_path: Path) -> None:
    settings = {"state": tmp_path / "state.db", "reuse_ids": False, "inventory": None}
    first = start(**settings)
    first.emulator.set_inventory(STOCK)
    first.post(claim())
    first.delete()
    first.read()
    first.emulator.stop()
    second = start(**settings)
    assert second.emulator.inventory() == STOCK
    assert refusal(second.post(claim()))[:2] == (409, "already_exists")


def test_an_answered_create_survives_a_kill(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    program = (
        "import pathlib, sys\n"
        "from coreweave_inference.emulator import EmulatorSettings, serve\n"
        "serve(EmulatorSettings(state=pathlib.Path(sys.argv[1]), token='t'),\n"
        "      started=lambda emulator: print(emulator.url, flush=True))\n"
    )
    command = [sys.executable, "-c", program, str(state)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answer = httpx.post(url + CLAIMS, json=claim(), headers={"Authorization": "Bearer t"})
        process.kill()
    assert answer.status_code == 200
    with Emulator(EmulatorSettings(state=state)) as emulator:
        assert [each.id for each in emulator.claims()] == [ID]


def test_a_state_file_belongs_to_one_emulator(start: Start, tmp_path: Path) -> None:
    start(state=tmp_path / "state.db")
    with pytest.raises(ValueError, match=r"state\.db: cannot keep claims here: .*locked"):
        start(state=tmp_path / "state.db")
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one " * 9)
    with pytest.raises(ValueError, match="text: cannot keep claims here"):
        start(state=tmp_path / "text")
    with pytest.raises(ValueError, match=r"state\.db: cannot keep claims here: .*unable to open"):
        start(state=tmp_path / "no folder" / "state.db")


def test_without_a_host_nothing_listens() -> None:
    with pytest.raises(ValueError, match="host: must not be empty"):
        EmulatorSettings(host="")


def test_an_address_of_the_network_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with Emulator(EmulatorSettings(host="0.0.0.0")) as emulator:
        assert emulator.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{emulator.url}/healthz").status_code == 200
    assert "can be reached from the NETWORK, at 0.0.0.0 and over plain http" in caplog.text


def test_a_loopback_address_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with Emulator(EmulatorSettings(host="127.0.0.2")) as emulator:
        assert emulator.url.startswith("http://127.0.0.2:")
    assert "NETWORK" not in caplog.text


def test_the_start_logs_a_warning_that_this_is_an_emulator(caplog: pytest.LogCaptureFixture) -> None:
    with Emulator() as emulator:
        assert f"EMULATOR of CoreWeave's inference API at {emulator.url}" in caplog.text
        assert emulator.environment() == {
            "COREWEAVE_API_ENDPOINT": emulator.url,
            "COREWEAVE_API_TOKEN": emulator.token,
        }
        assert emulator.token not in caplog.text


@pytest.mark.parametrize("action", [{"delay": 60}, {"hold": "before"}, {"hold": "after"}])
def test_stop_does_not_wait_for_a_delayed_or_held_request(
    action: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    emulator = Emulator(faults=[{"path": "list", **action}])
    with emulator, socket.create_connection(emulator.url[7:].split(":")) as client:
        token = f"Authorization: Bearer {emulator.token}"
        client.sendall(f"GET {CLAIMS} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n\r\n".encode())
        while not emulator.requests():
            time.sleep(0.001)
        begun = time.monotonic()
        emulator.stop()
        assert time.monotonic() - begun < 0.5
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_a_port_can_be_used_again_after_stop() -> None:
    with Emulator() as first:
        port = int(first.url.rpartition(":")[2])
    with Emulator(EmulatorSettings(port=port)) as second:
        assert second.url == first.url


def test_serve_runs_until_it_gets_a_signal() -> None:
    seen: list[int] = []

    def started(emulator: Emulator) -> None:
        headers = {"Authorization": f"Bearer {emulator.token}"}
        seen.append(httpx.get(emulator.url + CLAIMS, headers=headers).status_code)
        os.kill(os.getpid(), 15)

    serve(EmulatorSettings(), started=started)
    assert seen == [200]


def test_an_inventory_is_read_from_toml_or_json(tmp_path: Path) -> None:
    toml, json = tmp_path / "stock.toml", tmp_path / "stock.json"
    toml.write_text('[RNO2A]\n"l40s-8x" = 3\n')
    json.write_text('{"RNO2A": {"l40s-8x": 3}}')
    assert load_inventory(toml) == load_inventory(json) == {"RNO2A": {"l40s-8x": 3}}
    json.write_text('{"RNO2A": {"l40s-8x": -3}}')
    with pytest.raises(
        ValueError, match=r"stock\.json: inventory: RNO2A\.l40s-8x: must be at least 0, not -3"
    ):
        load_inventory(json)


pytest_plugins = ["coreweave_inference.emulator.pytest_plugin"]


def test_the_pytest_fixture_is_a_running_emulator(capacity_emulator: Emulator) -> None:
    assert capacity_emulator.claims() == []
