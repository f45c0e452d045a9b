"""How a create gets its claim, and where it ends when it cannot: the branches of create.py's drawing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from coreweave_inference import (
    AlreadyExists,
    ApiError,
    CapacityClaim,
    CapacityClaimResources,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from coreweave_inference.retry import RetryPolicy
from pulumi_coreweave_inference.create import (
    MAXIMUM_ATTEMPTS,
    AttemptsExhausted,
    Created,
    Creation,
    DeletionPending,
    IdConflict,
    ListedButNotReadable,
    NameTaken,
    TakeoverRefused,
    takeover,
)
from pulumi_coreweave_inference.delete_guard import DuplicateOwnership
from pulumi_coreweave_inference.identity import Declaration
from pulumi_coreweave_inference.operation import Operation
from pulumi_coreweave_inference.rounds import Clock
from pulumi_coreweave_inference.settings import Settings

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

    clock_skew = timedelta()

    def __init__(self) -> None:
        self.claims: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.posted = 0  # the answers of so many creates are lost with the process
        self.burnt: set[str] = set()
        self.unique_names = False
        self.deletion_takes: float | None = 0  # seconds; None: it never ends
        self.reuse_ids = True
        self.now = 0.0
        self.said: list[str] = []
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

    def get(self, id: str, *, retry: RetryPolicy | None = None) -> CapacityClaim:
        self._pass()
        self.calls.append("GET")
        if self._unreadable() or id not in self.claims:
            raise NotFound("it is not there")
        return self._read(id)

    def list(self, *, updated_after: Any = None, retry: RetryPolicy | None = None) -> list[CapacityClaim]:
        if updated_after is not None:  # what an operation asks for once, however many claims it creates
            self._pass()
            return [self._read(claim_id) for claim_id in self.claims]
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


def run(api: Any, declaration: Declaration, owners: dict[str, str] | None = None, **settings: Any) -> Created:
    """Run a create without the translation of what the API answers, in the time of the API."""
    op = operation(api, **settings)
    for claim_id, key in (owners or {}).items():
        op.guard.on_diff(claim_id, {}, {"identity": {"declaration": key}})
    return Creation(op, declaration).run()


def operation(api: Any, **settings: Any) -> Operation:
    """An operation in the time of the API; what it says is in `api.said`."""

    def sleep(seconds: float) -> None:
        api.now += seconds

    return Operation(
        replace(Settings(read_grace=20, delete_timeout=60), **settings),
        Clock(now=lambda: api.now, sleep=sleep),
        connect=lambda _: SimpleNamespace(capacity_claims=api, close=lambda: None),  # type: ignore[arg-type]
        show=api.said.append,
    )


def test_a_new_claim_is_one_post_and_nothing_else() -> None:
    api = Api()
    created = run(api, declare())
    assert created.claim.id == declare().claim_id(0)
    assert (created.adopted, created.scaled, api.calls) == (False, False, ["POST"])


def test_a_claim_whose_response_was_lost_is_adopted() -> None:
    api = Api()
    claim_id = api.put(declare())
    created = run(api, declare())
    assert created.claim.id == claim_id
    assert (created.adopted, created.scaled, api.calls) == (True, False, ["POST", "GET", "PATCH"])


@pytest.mark.parametrize("count", [2, 6])
def test_a_claim_with_another_count_is_not_taken_over_without_evidence(count: int) -> None:
    api = Api()
    api.put(declare())
    for create in (run, lambda api, declaration: takeover(operation(api), declaration)):
        with pytest.raises(TakeoverRefused, match=f"exists with 4 instances, and {count} are declared"):
            create(api, declare(instanceCount=count))
    assert set(api.calls) == {"POST", "GET"}  # and the POST was refused


def test_the_claim_being_replaced_is_adopted_and_scaled() -> None:
    api = Api()
    claim_id = api.put(declare())
    created = run(api, declare(instanceCount=6), owners={claim_id: KEY})
    assert (created.adopted, created.scaled) == (True, True)
    assert created.claim.resources.instance_count == 6


def test_a_claim_is_adopted_and_scaled_where_overwriting_is_allowed() -> None:
    api = Api()
    api.put(declare())
    assert run(api, declare(instanceCount=2), overwrite=True).scaled
    assert takeover(operation(api, overwrite=True), declare(instanceCount=1)) is not None


@pytest.mark.parametrize(
    "returned",
    [
        {"zones": ["US-EAST-04A", "US-WEST-04A"]},
        {"capacityType": "CAPACITY_TYPE_UNSPECIFIED"},
        {"capacityType": "CAPACITY_TYPE_OF_TOMORROW"},
    ],
)
def test_a_claim_is_adopted_in_the_form_that_the_api_gave_it(returned: dict[str, Any]) -> None:
    api = Api()
    claim_id = api.put(declare(), resources=resources(**returned).to_wire())
    found = takeover(operation(api), declare())
    assert found is not None
    assert run(api, declare()).claim.id == found.id == claim_id


@pytest.mark.parametrize("returned", [{"zones": ["US-WEST-04A"]}, {"instanceId": "h100-80gb-sxm5"}])
def test_content_that_the_declaration_excludes_is_not_taken_over(returned: dict[str, Any]) -> None:
    api = Api()
    api.put(declare(), resources=resources(**returned).to_wire())
    with pytest.raises(IdConflict):
        takeover(operation(api), declare())
    with pytest.raises(IdConflict):
        run(api, declare())
    assert "PATCH" not in api.calls


def test_a_takeover_is_foreseen_along_the_same_way_as_a_create() -> None:
    api = Api()
    assert takeover(operation(api), declare()) is None
    first = api.put(declare(), status="STATUS_FAILED", allocatedInstances=2)
    second = api.put(declare(), attempt=1)
    found = takeover(operation(api), declare())
    assert found is not None
    assert found.id == second == run(api, declare()).claim.id
    del api.claims[second]
    assert takeover(operation(api), declare()) is None  # a second claim beside the failed one
    for state in ("STATUS_DELETING", "STATUS_FAILED"):
        api.claims[first] |= {"status": state, "allocatedInstances": 0}
        found = takeover(operation(api), declare())
        assert found is not None  # it makes room first
        assert found.id == first
    op = operation(api)
    op.guard.on_diff(first, {}, {"identity": {"declaration": "another"}})
    assert takeover(op, declare()) is None


@pytest.mark.parametrize("reuse_ids", [True, False])
def test_a_deletion_is_awaited_and_the_id_reused_if_the_api_allows(reuse_ids: bool) -> None:
    api = Api()
    api.reuse_ids, api.deletion_takes = reuse_ids, 30
    api.leave(api.put(declare()))
    assert run(api, declare()).claim.id == declare().claim_id(0 if reuse_ids else 1)
    assert len(api.claims) == 1


def test_an_endless_deletion_is_an_error_and_makes_no_second_claim() -> None:
    api = Api()
    api.deletion_takes = None
    api.leave(api.put(declare()))
    with pytest.raises(DeletionPending):
        run(api, declare())
    assert set(api.claims) == {declare().claim_id(0)}


@pytest.mark.parametrize("death", [1, 2])
@pytest.mark.parametrize("reuse_ids", [True, False])
def test_a_create_that_died_during_a_deletion_makes_no_twin_when_repeated(
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
def test_a_failed_claim_without_instances_is_released_and_created_again(reuse_ids: bool) -> None:
    api = Api()
    api.reuse_ids = reuse_ids
    api.put(declare(), status="STATUS_FAILED", allocatedInstances=0)
    assert run(api, declare()).claim.id == declare().claim_id(0 if reuse_ids else 1)
    assert [claim["status"] for claim in api.claims.values()] == ["STATUS_CREATING"]


def test_a_failed_claim_that_is_already_gone_is_created_again() -> None:
    class Quick(Api):
        def delete(self, id: str) -> CapacityClaim | None:
            del self.claims[id]  # somebody else was quicker
            raise NotFound("it is not there")

    api = Quick()
    api.put(declare(), status="STATUS_FAILED", allocatedInstances=0)
    assert not run(api, declare()).adopted


def test_a_failed_claim_that_holds_instances_is_kept_beside_a_new_one() -> None:
    api = Api()
    failed = api.put(declare(), status="STATUS_FAILED", allocatedInstances=2)
    created = run(api, declare())
    assert (created.claim.id, created.adopted) == (declare().claim_id(1), False)
    assert failed in api.claims
    assert "DELETE" not in api.calls
    assert run(api, declare()).claim.id == declare().claim_id(1)  # and it is the same one the next time


@pytest.mark.parametrize("then", ["it holds nothing", "it is gone"])
def test_a_create_that_died_beside_a_failed_claim_makes_no_twin_when_repeated(then: str) -> None:
    api = Api()
    failed = api.put(declare(), status="STATUS_FAILED", allocatedInstances=2)
    second = run(api, declare()).claim.id  # and it dies before the state is written
    if then == "it is gone":
        del api.claims[failed]
    else:
        api.claims[failed]["allocatedInstances"] = 0
    found = takeover(operation(api), declare())
    assert found is not None
    assert run(api, declare()).claim.id == found.id == second
    assert set(api.claims) - {failed} == {second}


def test_a_claim_that_this_operation_has_released_is_not_looked_for() -> None:
    api = Api()
    released = api.put(declare(), attempt=1)
    op = operation(api)
    op.recently_created(NAMESPACE)
    del api.claims[released]
    op.guard.on_delete(released, listed_before=True)
    assert Creation(op, declare()).run().claim.id == declare().claim_id(0)


def test_a_claim_that_another_resource_holds_by_now_is_not_adopted() -> None:
    class Late(Api):
        def get(self, id: str, *, retry: RetryPolicy | None = None) -> CapacityClaim:
            op.guard.on_diff(id, {}, {"identity": {"declaration": "other"}})  # while the create runs
            return super().get(id)

    api = Late()
    api.put(declare())
    op = operation(api)
    with pytest.raises(DuplicateOwnership):
        Creation(op, declare()).run()
    assert "PATCH" not in api.calls


def test_a_refresh_alone_is_no_evidence_for_another_count() -> None:
    api = Api()
    claim_id = api.put(declare())
    op = operation(api)
    op.guard.on_read(claim_id)
    op.guard.on_diff(claim_id, {}, {"identity": {"declaration": KEY}})
    with pytest.raises(TakeoverRefused):
        Creation(op, declare(instanceCount=2)).run()
    assert "PATCH" not in api.calls


def test_a_failed_claim_is_deleted_again_after_a_wrong_not_found() -> None:
    class Wrong(Api):
        def delete(self, id: str) -> CapacityClaim | None:
            if self.calls.count("DELETE") < 2:
                self.calls.append("DELETE")
                raise NotFound("it is not there")
            return super().delete(id)

    api = Wrong()
    api.put(declare(), status="STATUS_FAILED", allocatedInstances=0)
    assert not run(api, declare()).adopted
    assert api.now < 10


def test_a_long_wait_says_what_it_waits_for_and_for_how_long() -> None:
    api = Api()
    api.deletion_takes = 90
    api.leave(api.put(declare()))
    run(api, declare(), delete_timeout=1200)
    assert [line.partition("; at most ")[2] for line in api.said] == [
        "19m58s more",
        "19m28s more",
        "18m58s more",
    ]
    assert all("waiting until the previous claim" in line for line in api.said)
    assert all("(4 of 4 gb200-4x instances, STATUS_DELETING)" in line for line in api.said)


def test_a_name_that_an_invisible_claim_holds_is_tried_twice() -> None:
    class Invisible(Api):
        def create(self, name: str, resources: Any, *, id: str | None = None) -> CapacityClaim:
            self.calls.append("POST")
            raise AlreadyExists("it exists")

    api = Invisible()
    with pytest.raises(NameTaken, match="shows no claim with such an id or the name"):
        run(api, declare(name="production"))
    assert api.calls.count("POST") == 2


def test_a_stale_read_is_looked_through_and_never_taken_for_a_burnt_id() -> None:
    for looks in range(1, 30):
        api = Api()
        claim_id = api.put(declare())
        api.unreadable_looks = looks
        assert run(api, declare()).claim.id == claim_id
        assert api.calls.count("POST") == 1


def test_a_claim_that_only_the_list_still_shows_is_not_adopted() -> None:
    class Lagging(Api):
        def get(self, id: str) -> CapacityClaim:
            self.calls.append("GET")
            raise NotFound("it is gone")

    api = Lagging()
    api.put(declare())
    with pytest.raises(ListedButNotReadable):
        run(api, declare())
    assert api.calls.count("POST") == 1


def test_adopting_a_claim_sends_back_fields_that_nobody_here_knows() -> None:
    class Later(Api):
        def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
            assert resources.unknown_fields() == {"reservationId": "r-7"}
            return super().update(id, resources)

    api = Later()
    claim_id = api.put(declare())
    api.claims[claim_id]["resources"]["reservationId"] = "r-7"
    assert run(api, declare()).adopted
    assert api.calls.count("PATCH") == 1


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


@pytest.mark.parametrize("refusal", [FailedPrecondition, InvalidArgument])
def test_a_claim_is_adopted_where_writes_without_a_change_are_refused(refusal: type[ApiError]) -> None:
    class Strict(Api):
        def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
            raise refusal("nothing changes")

    api = Strict()
    claim_id = api.put(declare())
    assert run(api, declare()).claim.id == claim_id
    with pytest.raises(refusal):
        run(api, declare(instanceCount=5), owners={claim_id: KEY})


def test_a_claim_that_vanishes_while_it_is_adopted_is_created_again() -> None:
    class Vanishing(Api):
        def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
            del self.claims[id]
            raise NotFound("it is gone")

    api = Vanishing()
    api.put(declare())
    assert not run(api, declare()).adopted


def test_an_id_that_cannot_be_reused_is_skipped_after_the_grace_period() -> None:
    api = Api()
    api.burnt.add(declare().claim_id(0))
    assert run(api, declare()).claim.id == declare().claim_id(1)
    assert api.calls.count("GET") >= 20


def test_a_taken_name_names_its_holder_and_makes_no_other_claim() -> None:
    api = Api()
    api.unique_names = True
    holder = api.put(declare(key="other::thing", name="training"))
    with pytest.raises(NameTaken) as error:
        run(api, declare(name="training"))
    assert holder in str(error.value)
    assert set(api.claims) == {holder}


def test_foreign_content_under_our_id_is_an_error_and_stays_untouched() -> None:
    api = Api()
    claim_id = api.put(declare(), resources=resources(zones=["RNO2A"]).to_wire())
    with pytest.raises(IdConflict):
        run(api, declare())
    assert set(api.claims) == {claim_id}
    assert api.calls == ["POST", "GET"]


def test_the_claim_being_replaced_makes_room_for_the_next_id() -> None:
    api = Api()
    changed = api.put(declare(), resources=resources(zones=["RNO2A"]).to_wire())
    created = run(api, declare(), owners={changed: KEY})
    assert created.claim.id == declare().claim_id(1)


def test_a_claim_of_another_declaration_is_not_adopted() -> None:
    api = Api()
    renamed = api.put(declare())
    created = run(api, declare(), owners={renamed: "x::renamed"})
    assert created.claim.id == declare().claim_id(1)
    assert api.calls == ["POST"]


def test_an_api_that_refuses_every_id_ends_in_an_error() -> None:
    api = Api()
    api.burnt = {declare().claim_id(attempt) for attempt in range(MAXIMUM_ATTEMPTS)}
    with pytest.raises(AttemptsExhausted):
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


class OneClaim:
    """One claim that exists; what a write answers, and what a read shows afterwards, is set by the test."""

    clock_skew = timedelta()

    def __init__(self, refusal: Exception, ends: bool = False, leaves: float = 0) -> None:
        self.refusal = refusal
        self.ends = ends  # the claim, `leaves` seconds after the write that it refuses
        self.leaves = leaves
        self.refused_at: float | None = None
        self.now = 0.0
        self.calls: list[str] = []
        self.posted: list[str] = []
        self.said: list[str] = []

    def create(self, name: str, resources: CapacityClaimResources, *, id: str | None = None) -> CapacityClaim:
        assert id
        self.calls.append("POST")
        self.posted.append(id)
        if self._is_gone():
            return CapacityClaim.model_validate({"spec": {"id": id, "name": name}})
        raise AlreadyExists("it exists")

    def get(self, id: str) -> CapacityClaim:
        self.calls.append("GET")
        if self._is_gone():
            raise NotFound("it is not there")
        return CapacityClaim.model_validate(
            {
                "spec": {"id": id, "name": declare().claim_name(id), "resources": resources().to_wire()},
                "status": {"status": self._status(), "allocatedInstances": 4},
            }
        )

    def list(self, *, updated_after: Any = None, retry: Any = None) -> Sequence[CapacityClaim]:
        if updated_after is not None:
            return []
        raise AssertionError("a claim that can be read is not looked for")

    def update(self, id: str, resources: CapacityClaimResources) -> CapacityClaim:
        self.calls.append("PATCH")
        self.refused_at = self.now
        raise self.refusal

    def delete(self, id: str) -> CapacityClaim | None:
        raise AssertionError("nothing here may be deleted")

    def _is_gone(self) -> bool:
        return self.ends and self.refused_at is not None and self.now >= self.refused_at + self.leaves

    def _status(self) -> str:
        return "STATUS_DELETING" if self.ends and self.refused_at is not None else "STATUS_READY"


GRACE, PATIENCE = 20, 60


def test_a_claim_that_reads_alive_and_takes_no_write_is_awaited() -> None:
    api = OneClaim(NotFound("it is gone"))
    with pytest.raises(DeletionPending) as error:
        run(api, declare())
    assert declare().claim_id(0) in str(error.value)
    assert PATIENCE <= api.now <= PATIENCE + 1
    assert set(api.posted) == {declare().claim_id(0)}


@pytest.mark.parametrize("leaves", [0, 5, 40])
def test_a_claim_that_refuses_a_write_as_it_goes_is_posted_again(leaves: float) -> None:
    api = OneClaim(FailedPrecondition("it is being deleted"), ends=True, leaves=leaves)
    assert not run(api, declare()).adopted
    assert set(api.posted) == {declare().claim_id(0)}
    assert leaves <= api.now <= leaves + GRACE + 1
    assert api.calls.count("PATCH") == 1


def test_ids_that_all_belong_to_others_end_in_an_error_without_a_call() -> None:
    api = OneClaim(NotFound("never asked"))
    with pytest.raises(AttemptsExhausted) as error:
        run(
            api, declare(), owners=dict.fromkeys(map(declare().claim_id, range(MAXIMUM_ATTEMPTS)), "x::other")
        )
    assert f"none of the {MAXIMUM_ATTEMPTS} ids" in str(error.value)
    assert api.calls == []
