"""What fault rules and control calls do, as a client sees it over real HTTP."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coreweave_inference.emulator import (
    Emulator,
    EmulatorControl,
    EmulatorSettings,
    Fail,
    FaultProfile,
    FaultRule,
)

CLAIMS = "/v1alpha1/inference/capacityclaims"
ID = "79504dc3-e7f7-47f6-bbe2-519ea1fd9e5d"
STOCK = {"US-WEST-04A": {"gb200-4x": 8}, "US-EAST-04A": {"gb200-4x": 8}}
RESOURCES = {
    "instanceId": "gb200-4x",
    "instanceCount": 2,
    "zones": ["US-WEST-04A", "US-EAST-04A"],
    "capacityType": 3,
}
CLAIM = {"id": ID, "name": "train", "resources": RESOURCES}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorSettings(inventory=STOCK)) as running:
        yield running


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {emulator.token}"}
    with httpx.Client(base_url=emulator.url, headers=headers, timeout=5) as client:
        yield client


@pytest.fixture(params=["in process", "over http"])
def control(request: pytest.FixtureRequest, emulator: Emulator) -> Emulator | EmulatorControl:
    """The same methods, in this process and over HTTP."""
    if request.param == "in process":
        return emulator
    return EmulatorControl(emulator.url, emulator.admin_token)


def create(http: httpx.Client, **changes: object) -> httpx.Response:
    return http.post(CLAIMS, json={**CLAIM, **changes})


def status(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"{CLAIMS}/{ID}").json()["capacityClaim"]["status"]
    return found


def listed(http: httpx.Client) -> list[str]:
    claims = http.get(CLAIMS).json().get("capacityClaims", [])
    return [each["spec"]["id"] for each in claims]


def test_a_failure_before_the_commit_takes_no_effect(emulator: Emulator, http: httpx.Client) -> None:
    emulator.set_faults([FaultRule(path="create", times=1, fail=Fail())])
    response = create(http)
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert emulator.claims() == []
    assert create(http).status_code == 200


def test_a_delete_can_be_answered_once_as_if_the_claim_were_gone(
    emulator: Emulator, http: httpx.Client
) -> None:
    create(http)
    emulator.set_faults([{"path": "delete", "nth": 1, "fail": {"code": "not_found"}}])
    response = http.delete(f"{CLAIMS}/{ID}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert listed(http) == [ID]
    assert http.delete(f"{CLAIMS}/{ID}").status_code == 200
    assert listed(http) == []


def test_a_patch_can_be_refused_as_invalid(emulator: Emulator, http: httpx.Client) -> None:
    create(http)
    emulator.set_faults([{"path": "update", "times": 1, "fail": {"code": "invalid_argument"}}])
    body = {"resources": RESOURCES | {"instanceCount": 3}}
    response = http.patch(f"{CLAIMS}/{ID}", json=body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_argument")
    assert emulator.claims()[0].instance_count == 2
    assert http.patch(f"{CLAIMS}/{ID}", json=body).status_code == 200


def test_a_failure_after_the_commit_leaves_the_claim(emulator: Emulator, http: httpx.Client) -> None:
    emulator.set_faults([FaultRule(path="create", fail=Fail(when="after"))])
    assert create(http).status_code == 503
    assert [each.id for each in emulator.claims()] == [ID]
    (record,) = emulator.requests()
    assert (record.status, record.fault, record.committed) == (503, "rule-1", True)


@pytest.mark.parametrize(
    ("fail", "expected", "kind", "start"),
    [
        (Fail(form="connect"), 503, "application/json", '{"code": "unavailable"'),
        (Fail(form="status", code="internal"), 500, "application/json", '{"code": 13'),
        (Fail(form="html", status=502), 502, "text/html; charset=utf-8", "<html>"),
        (Fail(form="empty", status=504), 504, None, ""),
        (Fail(code="failed_precondition", status=400), 400, "application/json", '{"code": "fail'),
    ],
)
def test_a_failure_has_the_form_of_its_rule(
    emulator: Emulator,
    http: httpx.Client,
    fail: Fail,
    expected: int,
    kind: str | None,
    start: str,
) -> None:
    emulator.set_faults([FaultRule(fail=fail)])
    response = http.get(CLAIMS)
    assert (response.status_code, response.headers.get("content-type")) == (expected, kind)
    assert response.text.startswith(start)
    assert response.headers["x-request-id"]


def test_a_failure_carries_message_details_and_retry_after(emulator: Emulator, http: httpx.Client) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}
    fail = {"code": "resource_exhausted", "message": "slow down", "details": [detail]}
    emulator.set_faults(
        [
            {"nth": 1, "fail": {**fail, "form": "status", "retry_after": 2}},
            {"fail": {**fail, "retry_after": "date:60"}},
        ]
    )
    first, second = http.get(CLAIMS), http.get(CLAIMS)
    assert first.json() == {"code": 8, "message": "slow down", "details": [detail]}
    assert (first.status_code, first.headers["retry-after"]) == (429, "2")
    assert second.json()["details"] == [
        {"type": "google.rpc.RetryInfo", "value": "CgIIAg", "debug": {"retryDelay": "2s"}}
    ]
    wait = parsedate_to_datetime(second.headers["retry-after"]).timestamp() - time.time()
    assert 50 < wait < 61


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
def test_a_dropped_connection_is_closed_without_a_response(
    emulator: Emulator, http: httpx.Client, when: str, kept: int
) -> None:
    http.get(CLAIMS)
    emulator.set_faults([{"path": "create", "drop": {"when": when}, "times": 1}])
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        create(http)
    assert len(emulator.claims()) == kept
    record = emulator.requests()[-1]
    assert (record.status, record.committed, record.bytes_out) == (None, bool(kept), 0)
    assert http.get(CLAIMS).status_code == 200


def test_half_a_body_is_followed_by_a_closed_connection(emulator: Emulator, http: httpx.Client) -> None:
    emulator.set_faults([{"path": "create", "half_body": True}])
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        create(http)
    assert len(emulator.claims()) == 1
    assert http.get(CLAIMS).status_code == 200


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
def test_the_page_of_a_proxy_can_have_status_200(
    emulator: Emulator, http: httpx.Client, when: str, kept: int
) -> None:
    emulator.set_faults([{"path": "create", "html_200": when}])
    response = create(http)
    assert (response.status_code, response.text[:6]) == (200, "<html>")
    assert len(emulator.claims()) == kept


def test_a_redirected_request_takes_no_effect(emulator: Emulator, http: httpx.Client) -> None:
    emulator.set_faults([{"redirect": "https://login.example.com/"}])
    response = create(http)
    assert (response.status_code, response.headers["location"]) == (
        302,
        "https://login.example.com/",
    )
    assert emulator.claims() == []


def test_a_delayed_request_does_not_delay_others(emulator: Emulator, http: httpx.Client) -> None:
    emulator.set_faults([{"path": "create", "delay": 0.3}])
    with ThreadPoolExecutor() as pool:
        begun = time.monotonic()
        slow = pool.submit(create, http)
        while not emulator.requests():
            time.sleep(0.001)
        assert http.get(CLAIMS).json() == {}
        assert not slow.done()
        assert slow.result().status_code == 200
        assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
def test_a_held_request_waits_until_it_is_released(
    control: Emulator | EmulatorControl, http: httpx.Client, when: str, kept: int
) -> None:
    control.set_faults([{"name": "stop", "path": "create", "hold": when}])
    with ThreadPoolExecutor() as pool:
        held: Future[httpx.Response] = pool.submit(create, http)
        (hold,) = control.wait_for_hold(5)
        assert (hold.rule, hold.when, hold.claim) == ("stop", when, ID)
        assert control.holds() == [hold]
        assert len(control.claims()) == len(listed(http)) == kept
        assert control.release("another") == 0
        assert not held.done()
        assert control.release("stop") == 1
        assert held.result().status_code == 200
    assert control.holds() == []


def test_waiting_for_a_hold_times_out(control: Emulator | EmulatorControl) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests held"):
        control.wait_for_hold(0.05)


@pytest.mark.parametrize(
    ("reads", "get", "in_list"), [("get", 404, [ID]), ("list", 200, []), ("both", 404, [])]
)
def test_reads_can_be_stale_after_a_create(
    emulator: Emulator, http: httpx.Client, reads: str, get: int, in_list: list[str]
) -> None:
    emulator.set_faults([{"path": "create", "stale_reads": {"seconds": 30, "reads": reads}}])
    assert create(http).status_code == 200
    assert create(http).status_code == 409
    assert http.get(f"{CLAIMS}/{ID}").status_code == get
    assert listed(http) == in_list
    emulator.advance_clock(30)
    assert http.get(f"{CLAIMS}/{ID}").status_code == 200
    assert listed(http) == [ID]


def test_reads_can_be_stale_after_an_update_or_a_delete(emulator: Emulator, http: httpx.Client) -> None:
    create(http)
    before = http.get(f"{CLAIMS}/{ID}").json()
    emulator.set_faults([{"claim": "train", "stale_reads": 5, "method": "PATCH"}])
    http.patch(f"{CLAIMS}/{ID}", json={"resources": {**RESOURCES, "instanceCount": 3}})
    assert http.get(f"{CLAIMS}/{ID}").json() == before
    emulator.advance_clock(5)
    after = http.get(f"{CLAIMS}/{ID}").json()
    assert after["capacityClaim"]["spec"]["resources"]["instanceCount"] == 3
    emulator.set_faults([{"path": "delete", "stale_reads": 5}])
    http.delete(f"{CLAIMS}/{ID}")
    assert http.get(f"{CLAIMS}/{ID}").json() == after
    emulator.advance_clock(5)
    assert http.get(f"{CLAIMS}/{ID}").status_code == 404


def test_a_status_can_change_for_a_while(emulator: Emulator, http: httpx.Client) -> None:
    emulator.set_faults([{"path": "create", "status": {"status": "STATUS_ERROR", "seconds": 9}}])
    create(http)
    assert status(http)["status"] == "STATUS_ERROR"
    emulator.advance_clock(9)
    assert status(http)["status"] == "STATUS_READY"


def test_ready_can_come_with_too_few_instances(emulator: Emulator, http: httpx.Client) -> None:
    change = {"status": "STATUS_READY", "allocated": 1}
    emulator.set_faults([{"path": "create", "status": change}])
    create(http)
    shown = status(http)
    assert (shown["status"], shown["allocatedInstances"], shown["pendingInstances"]) == (
        "STATUS_READY",
        1,
        1,
    )


@pytest.mark.parametrize("unknown", ["STATUS_PAUSED", 17])
def test_a_status_can_be_unknown_to_the_schema(
    control: Emulator | EmulatorControl, http: httpx.Client, unknown: str | int
) -> None:
    control.set_faults([{"path": "create", "status": {"status": unknown}}])
    create(http)
    assert status(http)["status"] == unknown
    control.edit_claim(ID, status={"status": None})
    assert status(http)["status"] == "STATUS_READY"


def test_a_claim_can_be_edited_or_removed_right_after_a_request(
    emulator: Emulator, http: httpx.Client
) -> None:
    edit = {"spec": {"resources": {"instanceCount": 5}}}
    emulator.set_faults(
        [{"path": "create", "foreign_edit": edit}, {"path": "update", "foreign_delete": True}]
    )
    answer = create(http).json()["capacityClaim"]
    assert answer["spec"]["resources"]["instanceCount"] == 2
    assert status(http)["allocatedInstances"] == 5
    http.patch(f"{CLAIMS}/{ID}", json={"resources": RESOURCES})
    assert http.get(f"{CLAIMS}/{ID}").status_code == 404


def test_an_invalid_foreign_edit_is_refused_when_the_rule_is_set(
    control: Emulator | EmulatorControl, http: httpx.Client
) -> None:
    rule = {"path": "create", "foreign_edit": {"spec": {"resources": {"zones": "RNO2A"}}}}
    with pytest.raises(ValueError, match=r"rule 1: foreign_edit\.spec\.resources\.zones: must be a list"):
        control.set_faults([rule])
    assert create(http).status_code == 200


ANYTHING = st.none() | st.booleans() | st.integers(-1, 5) | st.just(1e400) | st.text(max_size=3) | st.just([])
RESOURCE_FIELDS = ("instanceId", "instanceCount", "zones", "capacityType", "other")
EDITS = st.fixed_dictionaries(
    {},
    optional={
        "spec": ANYTHING
        | st.fixed_dictionaries(
            {},
            optional={
                "name": ANYTHING,
                "organizationId": ANYTHING,
                "priority": ANYTHING,
                "resources": ANYTHING
                | st.fixed_dictionaries({}, optional=dict.fromkeys(RESOURCE_FIELDS, ANYTHING)),
            },
        ),
        "status": ANYTHING
        | st.fixed_dictionaries({}, optional=dict.fromkeys(("status", "allocatedInstances"), ANYTHING)),
        "seconds": ANYTHING,
    },
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(EDITS)
def test_an_accepted_foreign_edit_never_breaks_a_request(
    emulator: Emulator, http: httpx.Client, edit: dict[str, Any]
) -> None:
    claim_id, refused = str(uuid.uuid4()), ""
    try:
        emulator.set_faults([{"path": "create", "foreign_edit": edit}])
    except ValueError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("rule 1: foreign_edit")
        return
    assert create(http, id=claim_id).status_code == 200
    assert http.get(f"{CLAIMS}/{claim_id}").status_code == 200
    emulator.set_faults([])
    emulator.edit_claim(claim_id, delete=True)


def test_an_edit_reaches_every_field(control: Emulator | EmulatorControl, http: httpx.Client) -> None:
    create(http)
    control.edit_claim(
        ID,
        spec={
            "name": "theirs",
            "resources": {"zones": ["US-EAST-04A"], "capacityType": "CAPACITY_TYPE_CUSTOMER"},
            "priority": {"new": True},
        },
        status={"allocatedInstances": 1, "reservedUntil": "later"},
    )
    (record,) = control.claims()
    assert (record.name, record.allocation, record.zones) == (
        "theirs",
        {"US-EAST-04A": 2},
        ("US-EAST-04A",),
    )
    claim = http.get(f"{CLAIMS}/{ID}").json()["capacityClaim"]
    assert claim["spec"]["priority"] == {"new": True}
    assert claim["spec"]["resources"]["capacityType"] == "CAPACITY_TYPE_CUSTOMER"
    assert (claim["status"]["allocatedInstances"], claim["status"]["reservedUntil"]) == (1, "later")
    control.edit_claim(ID, delete=True)
    assert http.get(f"{CLAIMS}/{ID}").status_code == 404
    with pytest.raises(KeyError):
        control.edit_claim(ID, delete=True)
    assert control.claims() == control.live_claims() == []


def test_new_stock_is_allocated_at_once(control: Emulator | EmulatorControl, http: httpx.Client) -> None:
    create(http, resources={**RESOURCES, "instanceCount": 20})
    assert status(http)["pendingInstances"] == 4
    control.set_inventory({"RNO2A": {"l40s-8x": 1}, "US-EAST-04A": {"gb200-4x": 12}}, merge=True)
    assert status(http)["status"] == "STATUS_READY"
    assert control.inventory()["US-WEST-04A"] == {"gb200-4x": 8}
    assert "RNO2A" in http.get(f"{CLAIMS}/parameters").json()["zoneInstanceTypes"]
    with pytest.raises(ValueError, match=r"RNO2A\.l40s-8x: must be at least 0, not -1"):
        control.set_inventory({"RNO2A": {"l40s-8x": -1}})


def test_the_clock_can_be_advanced(control: Emulator | EmulatorControl) -> None:
    before = control.now()
    assert control.advance_clock(3600) - before >= 3600 * 10**9
    with pytest.raises(ValueError, match="forward"):
        control.advance_clock(-1)


def test_log_and_counts_are_the_same_over_http(
    control: Emulator | EmulatorControl, emulator: Emulator, http: httpx.Client
) -> None:
    control.set_faults([{"name": "first", "path": "list", "nth": 1, "fail": {}}])
    http.get(CLAIMS)
    create(http)
    assert control.requests() == emulator.requests()
    assert [each.fault for each in control.requests()] == ["first", None]
    assert control.faults()["counts"] == {"first": {"met": 1, "hit": 1}}
    control.clear_faults()
    control.clear_requests()
    assert control.requests() == []
    assert control.faults() == {"rules": [], "calls": 0, "counts": {}}


def test_an_invalid_rule_is_refused_and_the_old_rules_stay(
    control: Emulator | EmulatorControl,
) -> None:
    control.set_faults([{"name": "old", "drop": "after"}])
    with pytest.raises(ValueError, match="no such field: dorp"):
        control.set_faults([{"dorp": "after"}])
    assert control.faults()["rules"] == [{"name": "old", "drop": "after"}]


def test_the_control_api_requires_its_own_token(emulator: Emulator) -> None:
    for token in (emulator.token, emulator.viewer_token, "-"):
        for method, path in (("GET", "/requests"), ("PUT", "/faults"), ("POST", "/clock")):
            response = httpx.request(
                method,
                f"{emulator.url}/_emulator{path}",
                headers={"Authorization": f"Bearer {token}"},
            )
            assert response.status_code == 401
    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/faults", b"{"),
        ("PUT", "/faults", b'{"rule": []}'),
        ("GET", "/requests?since=x", b""),
        ("POST", "/clock", b'{"advance": "1"}'),
        ("POST", "/release", b"[]"),
        ("POST", f"/claims/{ID}", b'{"status": 1}'),
        ("PUT", "/inventory", b"[]"),
    ],
)
def test_an_invalid_control_call_is_refused_with_a_reason(
    emulator: Emulator, method: str, path: str, body: bytes
) -> None:
    headers = {"Authorization": f"Bearer {emulator.admin_token}"}
    response = httpx.request(method, f"{emulator.url}/_emulator{path}", headers=headers, content=body)
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("PUT", "/claims"), ("DELETE", "")])
def test_an_unknown_control_call_is_not_found(emulator: Emulator, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {emulator.admin_token}"}
    response = httpx.request(method, f"{emulator.url}/_emulator{path}", headers=headers)
    assert response.status_code == 404
    assert response.json()["error"] == f"no such call: {method} /_emulator{path}"


def test_a_control_with_the_wrong_token_is_refused(emulator: Emulator) -> None:
    with pytest.raises(RuntimeError, match="missing or invalid control token"):
        EmulatorControl(emulator.url, emulator.token).claims()


def test_an_unknown_claim_is_named_whatever_its_id(control: Emulator | EmulatorControl) -> None:
    with pytest.raises(KeyError, match="capacity claim a%2f b not found"):
        control.edit_claim("a%2F b")


def test_random_faults_hit_a_share_of_requests_and_never_hang(emulator: Emulator, http: httpx.Client) -> None:
    emulator.set_faults(FaultProfile.random(seed=3, rate=0.4))
    answered = 0
    for _ in range(200):
        try:
            response = http.get(CLAIMS)
        except httpx.TransportError:
            continue
        answered += response.status_code == 200 and response.text == "{}"
    assert 90 < answered < 150
    faults = [each.fault for each in emulator.requests() if each.fault]
    assert len(faults) == 200 - answered


def test_concurrent_clients_do_not_corrupt_the_accounting(emulator: Emulator) -> None:
    headers = {"Authorization": f"Bearer {emulator.token}"}
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        with httpx.Client(base_url=emulator.url, headers=headers) as http:
            barrier.wait()
            for turn in range(10):
                claim = f"{number:08d}-0000-4000-8000-{turn:012d}"
                create(http, id=claim, resources={**RESOURCES, "instanceCount": 1})
                if turn % 2:
                    http.delete(f"{CLAIMS}/{claim}")

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(4)))
    claims = emulator.claims()
    assert len(claims) == 20
    assert sum(sum(each.allocation.values()) for each in claims) == 16
    assert sum(each.waiting for each in claims) == 4
