from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import (
    AlreadyExists,
    CapacityClaim,
    CapacityClaimResources,
    FailedPrecondition,
    NotFound,
    Unavailable,
)
from pulumi_coreweave_inference.identity import (
    MAXIMUM_ATTEMPTS,
    Declaration,
    HeldByOther,
    NameTaken,
    Obtained,
    OutOfAttempts,
    StillLeaving,
    Unreadable,
    is_made_by,
    key_of,
    obtain,
)

NAMESPACE = "6f9f9c3e-1f0a-4f0e-9d3f-3f1d1c1b1a10"
KEY = "pulumi-python:dynamic/capacityClaim:CapacityClaim::training"


def resources(**changes: Any) -> CapacityClaimResources:
    return CapacityClaimResources.model_validate(
        {
            "instanceId": "gb200-4x",
            "instanceCount": 4,
            "zones": ["US-WEST-04A", "US-EAST-04A"],
            "capacityType": "CAPACITY_TYPE_MANAGED",
        }
        | changes
    )


def declare(key: str = KEY, name: str | None = None, **changes: Any) -> Declaration:
    return Declaration(NAMESPACE, key, resources(**changes), name)


class Api:
    """Claims in a dict; what differs from one unknown of the API to the other is set by the test."""

    def __init__(self) -> None:
        self.claims: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.posted = 0  # the answers of so many creates are lost with the process
        self.burnt: set[str] = set()
        self.unique_names = False
        self.deletion_takes: float | None = 0  # seconds; None: it never ends
        self.reuse_ids = True
        self.now = 0.0
        self.unreadable_looks = 0  # how many GETs and LISTs answer as if the claim was not there

    def put(self, declaration: Declaration, attempt: int = 0, **changes: Any) -> str:
        claim_id = declaration.claim_id(attempt)
        self.claims[claim_id] = {
            "name": declaration.claim_name(claim_id),
            "resources": declaration.resources.to_wire(),
            "status": "STATUS_READY",
            "allocatedInstances": declaration.resources.instance_count,
        } | changes
        return claim_id

    def create(self, name: str, resources: CapacityClaimResources, *, id: str | None = None) -> CapacityClaim:
        self._pass()
        self.calls.append("POST")
        assert id
        taken = self.unique_names and any(claim["name"] == name for claim in self.claims.values())
        if id in self.claims or id in self.burnt or taken:
            raise AlreadyExists("it exists")
        self.claims[id] = {"name": name, "resources": resources.to_wire(), "status": "STATUS_CREATING"}
        return self._read(id)

    def get(self, id: str) -> CapacityClaim:
        self._pass()
        self.calls.append("GET")
        if self._unreadable() or id not in self.claims:
            raise NotFound("it is not there")
        return self._read(id)

    def list(self) -> list[CapacityClaim]:
        self.calls.append("LIST")
        return [] if self._unreadable() else [self._read(claim_id) for claim_id in self.claims]

    def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
        self.calls.append("PATCH")
        self.claims[id]["resources"] = resources.to_wire()
        return self._read(id)

    def delete(self, id: str) -> CapacityClaim | None:
        self.calls.append("DELETE")
        self.leave(id)
        return None

    def leave(self, id: str) -> None:
        self.claims[id] |= {"status": "STATUS_DELETING", "since": self.now}

    def _pass(self) -> None:
        for id, claim in list(self.claims.items()):
            if (
                "since" in claim
                and self.deletion_takes is not None
                and (self.now >= claim["since"] + self.deletion_takes)
            ):
                del self.claims[id]
                if not self.reuse_ids:
                    self.burnt.add(id)

    def _unreadable(self) -> bool:
        self.unreadable_looks -= 1
        return self.unreadable_looks >= 0

    def _read(self, id: str) -> CapacityClaim:
        claim = self.claims[id]
        return CapacityClaim.model_validate(
            {
                "spec": {"id": id, "name": claim["name"], "resources": claim["resources"]},
                "status": {
                    "status": claim["status"],
                    "allocatedInstances": claim.get("allocatedInstances", 0),
                },
            }
        )


def run(api: Api, declaration: Declaration, owner: Callable[[str], str | None] = lambda _: None) -> Obtained:
    def sleep(seconds: float) -> None:
        api.now += seconds

    return obtain(api, declaration, owner=owner, grace=20, patience=60, clock=lambda: api.now, sleep=sleep)


def test_the_derivation_of_ids_is_a_promise_to_every_state_file() -> None:
    assert declare().claim_id(0) == "fecf4d12-8aeb-53a9-9d3f-3f1d1c1b1a10"
    assert declare().claim_id(1) == "3a01d8ad-e535-5c01-9d3f-3f1d1c1b1a10"
    assert declare(name="training").claim_id(0) == "e7274f6e-e7e7-5c06-9d3f-3f1d1c1b1a10"


def test_the_id_is_a_uuid_that_tells_the_stack_and_whether_a_declaration_has_made_it() -> None:
    claim_id = uuid.UUID(declare().claim_id(0))
    assert (claim_id.version, claim_id.variant) == (5, uuid.RFC_4122)
    other = NAMESPACE[:-1] + ("0" if NAMESPACE[-1] != "0" else "1")
    assert is_made_by(NAMESPACE, str(claim_id))
    assert not is_made_by(other, str(claim_id))
    assert not is_made_by(NAMESPACE, "no uuid")

    api = Api()
    for made in (declare(), declare(zones=["US-EAST-04A"]), declare(name="training")):
        claim = api.get(api.put(made, attempt=1))
        assert declare().has_made(claim)
        assert not declare(key=KEY + "2").has_made(claim)
        assert not Declaration(other, KEY, resources()).has_made(claim)
    renamed = api.get(api.put(declare(), name="somebody-else-s"))
    assert not Declaration(NAMESPACE, KEY, resources(instanceId="other")).is_content_of(renamed)


def test_the_id_depends_on_everything_immutable_and_on_nothing_else() -> None:
    other = [
        declare(key=KEY + "2"),
        declare(name="training"),
        declare(instanceId="h100-80gb-sxm5"),
        declare(zones=["US-EAST-04A", "US-WEST-04A"]),
        declare(zones=["US-WEST-04A"]),
        declare(capacityType="CAPACITY_TYPE_CUSTOMER"),
        Declaration(NAMESPACE.replace("6", "7"), KEY, resources()),
    ]
    ids = {declaration.claim_id(0) for declaration in [declare(), *other]}
    assert len(ids) == len(other) + 1
    assert declare(instanceCount=99).claim_id(0) == declare().claim_id(0)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.text(max_size=5), st.text(max_size=5))
def test_no_two_contents_share_an_id_by_the_way_they_are_joined(
    zones: list[str], instance: str, name: str
) -> None:
    one = declare(zones=zones, instanceId=instance, name=name)
    joined = declare(zones=[",".join(zones)], instanceId=instance, name=name)
    assert len(zones) == 1 or one.claim_id(0) != joined.claim_id(0)
    assert (
        declare(key=KEY + instance, instanceId="").claim_id(0)
        != declare(key=KEY, instanceId=instance).claim_id(0)
        or not instance
    )


def test_a_claim_without_a_name_of_its_own_is_named_after_the_resource_and_its_id() -> None:
    declaration = declare(key="x::My Training!")
    assert declaration.claim_name("0123456789") == "my-training-0123456"
    assert declare(key="x::日本").claim_name("0123456789") == "claim-0123456"
    assert declare(name="given").claim_name("0123456789") == "given"


@given(st.text(max_size=400), st.uuids())
def test_every_made_name_obeys_the_apis_rule(resource_name: str, claim_id: Any) -> None:
    import re

    name = declare(key=f"x::{resource_name}").claim_name(str(claim_id))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 100


def test_the_key_is_the_urn_without_stack_and_project() -> None:
    urn = "urn:pulumi:dev::shop::my:comp:Team$pulumi-python:dynamic/capacityClaim:CapacityClaim::a::b"
    assert key_of(urn) == "my:comp:Team$pulumi-python:dynamic/capacityClaim:CapacityClaim::a::b"


def test_a_new_claim_is_one_post_and_nothing_else() -> None:
    api = Api()
    obtained = run(api, declare())
    assert (obtained.how, obtained.claim.id, api.calls) == ("posted", declare().claim_id(0), ["POST"])


def test_a_claim_whose_answer_was_lost_is_taken_over() -> None:
    api = Api()
    claim_id = api.put(declare())
    obtained = run(api, declare())
    assert (obtained.how, obtained.claim.id, api.calls) == ("adopted", claim_id, ["POST", "GET", "PATCH"])


def test_a_claim_taken_over_with_another_count_is_scaled() -> None:
    api = Api()
    api.put(declare())
    obtained = run(api, declare(instanceCount=6))
    assert obtained.how == "adopted and scaled"
    assert obtained.claim.resources.instance_count == 6


@pytest.mark.parametrize("reuse_ids", [True, False])
def test_a_claim_being_deleted_is_waited_for_and_its_id_used_again_if_it_may_be(reuse_ids: bool) -> None:
    api = Api()
    api.reuse_ids, api.deletion_takes = reuse_ids, 30
    api.leave(api.put(declare()))
    assert run(api, declare()).claim.id == declare().claim_id(0 if reuse_ids else 1)
    assert len(api.claims) == 1


def test_a_deletion_that_does_not_end_is_an_error_and_makes_no_second_claim() -> None:
    api = Api()
    api.deletion_takes = None
    api.leave(api.put(declare()))
    with pytest.raises(StillLeaving):
        run(api, declare())
    assert set(api.claims) == {declare().claim_id(0)}


@pytest.mark.parametrize("death", [1, 2])
@pytest.mark.parametrize("reuse_ids", [True, False])
def test_a_create_that_died_while_an_earlier_claim_was_leaving_makes_no_twin_when_repeated(
    reuse_ids: bool, death: int
) -> None:
    class Killed(Api):
        def create(
            self, name: str, resources: CapacityClaimResources, *, id: str | None = None
        ) -> CapacityClaim:
            claim = super().create(name, resources, id=id)
            if self.posted:
                self.posted -= 1
                raise KeyboardInterrupt
            return claim

    api = Killed()
    api.posted = death
    api.reuse_ids, api.deletion_takes = reuse_ids, 5
    api.leave(api.put(declare()))
    for _ in range(death):
        with suppress(KeyboardInterrupt):
            run(api, declare())
        api.now += 60
    run(api, declare())
    assert len(api.claims) == 1


@pytest.mark.parametrize("reuse_ids", [True, False])
def test_a_failed_claim_without_instances_is_released_and_made_anew(reuse_ids: bool) -> None:
    api = Api()
    api.reuse_ids = reuse_ids
    api.put(declare(), status="STATUS_FAILED", allocatedInstances=0)
    assert run(api, declare()).claim.id == declare().claim_id(0 if reuse_ids else 1)
    assert [claim["status"] for claim in api.claims.values()] == ["STATUS_CREATING"]


def test_a_failed_claim_that_is_gone_by_its_release_is_made_anew() -> None:
    class Quick(Api):
        def delete(self, id: str) -> CapacityClaim | None:
            del self.claims[id]  # somebody else was quicker
            raise NotFound("it is not there")

    api = Quick()
    api.put(declare(), status="STATUS_FAILED", allocatedInstances=0)
    assert run(api, declare()).how == "posted"


def test_a_failed_claim_that_holds_instances_is_kept() -> None:
    api = Api()
    failed = api.put(declare(), status="STATUS_FAILED", allocatedInstances=2)
    assert run(api, declare()).claim.id == failed
    assert "DELETE" not in api.calls


def test_a_stale_read_is_looked_through_and_never_taken_for_a_burnt_id() -> None:
    for looks in range(1, 30):
        api = Api()
        claim_id = api.put(declare())
        api.unreadable_looks = looks
        assert run(api, declare()).claim.id == claim_id
        assert api.calls.count("POST") == 1


def test_a_claim_that_only_the_list_still_shows_is_not_taken_over() -> None:
    class Lagging(Api):
        def get(self, id: str) -> CapacityClaim:
            self.calls.append("GET")
            raise NotFound("it is gone")

    api = Lagging()
    api.put(declare())
    with pytest.raises(Unreadable):
        run(api, declare())
    assert api.calls.count("POST") == 1


@pytest.mark.parametrize("looks", [0, 5])
def test_a_claim_that_reads_alive_and_refuses_a_write_is_looked_at_again(looks: int) -> None:
    class Dying(Api):
        def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
            self.calls.append("PATCH")
            raise FailedPrecondition("it is being deleted")

        def get(self, id: str) -> CapacityClaim:
            if self.calls.count("GET") == looks + 1:
                self.leave(id)
            return super().get(id)

    api = Dying()
    api.put(declare())
    assert run(api, declare()).claim.id == declare().claim_id(0)
    assert (api.calls.count("PATCH"), api.calls.count("POST")) == (1, 2)


def test_an_api_that_refuses_writes_that_change_nothing_gives_the_claim_up_to_be_taken_over() -> None:
    class Strict(Api):
        def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
            raise FailedPrecondition("nothing changes")

    api = Strict()
    claim_id = api.put(declare())
    assert run(api, declare()).claim.id == claim_id
    with pytest.raises(FailedPrecondition):
        run(api, declare(instanceCount=5))


def test_a_claim_that_vanishes_while_it_is_taken_over_makes_room_for_the_next_id() -> None:
    class Vanishing(Api):
        def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
            del self.claims[id]
            raise NotFound("it is gone")

    api = Vanishing()
    api.put(declare())
    assert run(api, declare()).how == "posted"


def test_an_id_that_cannot_be_used_again_is_passed_over_after_the_grace_period() -> None:
    api = Api()
    api.burnt.add(declare().claim_id(0))
    assert run(api, declare()).claim.id == declare().claim_id(1)
    assert api.calls.count("GET") >= 20


def test_a_taken_name_is_told_with_its_holder_and_makes_no_other_claim() -> None:
    api = Api()
    api.unique_names = True
    holder = api.put(declare(key="other::thing", name="training"))
    with pytest.raises(NameTaken) as error:
        run(api, declare(name="training"))
    assert error.value.holder.id == holder
    assert set(api.claims) == {holder}


def test_foreign_content_under_our_id_is_an_error_and_stays_untouched() -> None:
    api = Api()
    claim_id = api.put(declare(), resources=resources(zones=["RNO2A"]).to_wire())
    with pytest.raises(HeldByOther):
        run(api, declare())
    assert set(api.claims) == {claim_id}
    assert api.calls == ["POST", "GET"]


def test_the_changed_claim_that_is_being_replaced_makes_room_for_the_next_id() -> None:
    api = Api()
    changed = api.put(declare(), resources=resources(zones=["RNO2A"]).to_wire())
    obtained = run(api, declare(), owner=lambda claim_id: KEY if claim_id == changed else None)
    assert obtained.claim.id == declare().claim_id(1)


def test_a_claim_in_the_hands_of_another_declaration_is_not_taken_over() -> None:
    api = Api()
    renamed = api.put(declare())
    obtained = run(api, declare(), owner=lambda claim_id: "x::renamed" if claim_id == renamed else None)
    assert obtained.claim.id == declare().claim_id(1)
    assert api.calls == ["POST"]


def test_an_api_that_refuses_every_id_ends_in_an_error() -> None:
    api = Api()
    api.burnt = {declare().claim_id(attempt) for attempt in range(MAXIMUM_ATTEMPTS)}
    with pytest.raises(OutOfAttempts):
        run(api, declare())


def test_an_outage_is_passed_on_and_no_second_id_is_tried() -> None:
    class Down(Api):
        def get(self, id: str) -> CapacityClaim:
            raise Unavailable("down")

    api = Down()
    api.put(declare())
    with pytest.raises(Unavailable):
        run(api, declare())
    assert api.calls == ["POST"]
