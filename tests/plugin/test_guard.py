"""The delete guard in a provider process: deleting an earlier entry of a claim that is still in use keeps the
claim, and every other delete releases it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from support import invariants
from support.model import Death, Declared, Died, Engine, Failed, Grpc, InProcess, Start, Time
from support.plugin import Plugin, claim_inputs

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings

FORWARD = {"instanceId": "gb200-4x", "instanceCount": 4, "zones": ["US-WEST-04A", "US-EAST-04A"]}
BACKWARD = FORWARD | {"zones": ["US-EAST-04A", "US-WEST-04A"]}
CREATE_FIRST = Declared(FORWARD)
DELETE_FIRST = Declared(FORWARD, delete_before_replace=True)


@dataclass
class Stack:
    """One claim named `training`, and the calls that changed something for it."""

    emulator: Emulator
    start: Start
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = Engine(self.emulator, self.start, watch=self._watch)

    def up(self, declared: Declared, **options: Any) -> str:
        """Run `up`; the id the state then has."""
        self.emulator.clear_requests()
        self.engine.up({"training": declared}, **options)
        return self.id

    def fail(self, declared: Declared, **options: Any) -> None:
        """Run `up` and have readiness fail."""
        self.emulator.clear_requests()
        with pytest.raises(Failed, match="readiness"):
            self.engine.up({"training": declared}, unready={"training"}, **options)

    def die(self, declared: Declared, death: Death, **options: Any) -> None:
        """Run `up` and have everything killed."""
        with pytest.raises(Died):
            self.engine.up({"training": declared}, death=death, **options)

    def assert_settled(self) -> None:
        invariants.settled(self.emulator.claims(), self.engine.state.exported(), {"training"})

    @property
    def id(self) -> str:
        entry = self.engine.state.current("training")
        assert entry is not None
        return entry.id

    @property
    def ids(self) -> list[str]:
        """The ids of all entries, those that wait for their deletion included."""
        return [entry.id for entry in self.engine.state.entries]

    @property
    def writes(self) -> list[str]:
        return [record.method for record in self.emulator.requests() if record.method != "GET"]

    def _watch(self) -> None:
        claims, state = self.emulator.claims(), self.engine.state.exported()
        invariants.one_claim_each(claims, state, self.engine.cut_off)
        invariants.nothing_known_was_deleted(claims, state, self.engine.released)


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack whose operations each start a provider process."""
    with Emulator() as emulator:
        yield Stack(emulator, lambda death: Grpc(emulator, {"COREWEAVE_READ_GRACE": "1s"}, death))


@pytest.fixture
def quick_stack() -> Iterator[Stack]:
    """The same with the provider in this process, for variations of a case."""
    time = Time()
    with Emulator(clock=time.time_ns) as emulator, httpx.HTTPTransport(verify=False) as http:
        yield Stack(emulator, lambda death: InProcess(emulator, time, http, death))


@pytest.fixture
def double(stack: Stack) -> Stack:
    return hold_twice(stack)


@pytest.fixture
def quick_double(quick_stack: Stack) -> Stack:
    return hold_twice(quick_stack)


def hold_twice(stack: Stack) -> Stack:
    """Make the state hold its living claim twice, as a crash before the older entry was removed does."""
    stack.up(CREATE_FIRST)
    stack.fail(CREATE_FIRST, replaced={"training"})
    assert len(stack.ids) == 2
    assert len(set(stack.ids)) == 1
    return stack


@pytest.mark.parametrize("how", ["--replace", "taint"])
def test_a_forced_replacement_of_an_unchanged_claim_keeps_it(stack: Stack, how: str) -> None:
    first = stack.up(CREATE_FIRST)
    if how == "taint":
        stack.engine.taint("training")
    assert stack.up(CREATE_FIRST, replaced={"training"} if how == "--replace" else ()) == first
    assert "DELETE" not in stack.writes
    stack.assert_settled()


@pytest.mark.parametrize("how", ["--replace", "taint"])
def test_a_forced_replacement_that_deletes_first_creates_a_new_claim(stack: Stack, how: str) -> None:
    stack.up(DELETE_FIRST)
    if how == "taint":
        stack.engine.taint("training")
    stack.up(DELETE_FIRST, replaced={"training"} if how == "--replace" else ())
    assert stack.writes == ["DELETE", "POST"]
    stack.assert_settled()


def test_reverting_undoes_a_replacement_that_did_not_become_ready(stack: Stack) -> None:
    first = stack.up(CREATE_FIRST)
    capacity = stack.emulator.claims()[0].allocation
    stack.fail(Declared(BACKWARD))
    assert len(set(stack.ids)) == 2
    assert stack.up(CREATE_FIRST) == first
    assert stack.emulator.claims()[0].allocation == capacity
    assert stack.writes.count("DELETE") == 1
    stack.assert_settled()


def test_reverting_undoes_a_replacement_whose_first_attempt_was_killed(
    quick_stack: Stack,
) -> None:
    first = quick_stack.up(CREATE_FIRST)
    quick_stack.fail(Declared(BACKWARD))
    quick_stack.die(CREATE_FIRST, Death("create", when="answered"))
    quick_stack.die(CREATE_FIRST, Death("delete", when="after"))
    assert quick_stack.up(CREATE_FIRST) == first
    quick_stack.assert_settled()


@pytest.mark.parametrize("targets", [None, {"training"}])
def test_the_next_up_keeps_a_claim_that_the_state_holds_twice(
    double: Stack, targets: set[str] | None
) -> None:
    claim_id = double.id
    assert double.up(CREATE_FIRST, targets=targets) == claim_id
    assert double.writes == []
    double.assert_settled()


def test_replacing_a_claim_that_the_state_holds_twice_keeps_it(quick_double: Stack) -> None:
    claim_id = quick_double.id
    assert quick_double.up(CREATE_FIRST, replaced={"training"}) == claim_id
    assert "DELETE" not in quick_double.writes
    quick_double.assert_settled()


@pytest.mark.parametrize("refresh", [False, True])
def test_destroy_releases_a_claim_the_state_holds_twice(double: Stack, refresh: bool) -> None:
    double.emulator.clear_requests()
    double.engine.destroy(refresh=refresh)
    assert "DELETE" in double.writes
    invariants.nothing_alive(double.emulator.claims(), double.engine.state.exported())


@pytest.mark.parametrize("refresh", [False, True])
def test_dropping_a_claim_that_the_state_holds_twice_releases_it(quick_double: Stack, refresh: bool) -> None:
    quick_double.engine.up({}, refresh=refresh)
    invariants.nothing_alive(quick_double.emulator.claims(), quick_double.engine.state.exported())


def test_an_imported_claim_has_no_incarnation_and_can_be_released(stack: Stack) -> None:
    with Client(stack.emulator.token, endpoint=stack.emulator.url) as client:
        client.capacity_claims.create("legacy", FORWARD | {"capacityType": "CAPACITY_TYPE_MANAGED"})
    (record,) = stack.emulator.claims()
    stack.engine.adopt_by_import("training", record)
    assert stack.up(Declared(FORWARD, "legacy")) == record.id
    assert stack.writes == []
    stack.engine.up({})
    invariants.nothing_alive(stack.emulator.claims(), stack.engine.state.exported())


def test_an_imported_claim_is_replaced_and_then_released(quick_stack: Stack) -> None:
    with Client(quick_stack.emulator.token, endpoint=quick_stack.emulator.url) as client:
        client.capacity_claims.create("legacy", FORWARD | {"capacityType": "CAPACITY_TYPE_MANAGED"})
    (record,) = quick_stack.emulator.claims()
    quick_stack.engine.adopt_by_import("training", record)
    assert quick_stack.up(Declared(BACKWARD, "legacy")) != record.id
    assert quick_stack.writes == ["POST", "DELETE"]
    quick_stack.assert_settled()


def test_a_claim_held_twice_is_kept_by_an_up_that_refreshes_first(double: Stack) -> None:
    claim_id = double.id
    # A refresh goes through the state from its beginning: now the entry that waits comes last.
    double.engine.state.entries.sort(key=lambda entry: entry.delete)
    assert double.up(CREATE_FIRST, refresh=True) == claim_id
    assert double.writes == []
    double.assert_settled()


def test_a_reverted_claim_survives_a_refresh_that_reads_the_old_entry_last(
    quick_stack: Stack,
) -> None:
    first = quick_stack.up(CREATE_FIRST)
    quick_stack.fail(Declared(BACKWARD))
    quick_stack.fail(CREATE_FIRST)
    quick_stack.engine.refresh()
    assert quick_stack.up(CREATE_FIRST, refresh=True) == first
    quick_stack.assert_settled()


def test_the_next_up_finishes_a_delete_killed_after_it_took_effect(quick_stack: Stack) -> None:
    quick_stack.up(CREATE_FIRST)
    quick_stack.die(Declared(BACKWARD), Death("delete", when="after"))
    assert len(quick_stack.ids) == 2
    quick_stack.up(Declared(BACKWARD))
    quick_stack.assert_settled()


@pytest.mark.parametrize("when", ["before", "after", "answered"])
def test_the_next_up_adopts_a_claim_whose_create_was_killed(stack: Stack, when: str) -> None:
    stack.die(CREATE_FIRST, Death("create", when=when))
    stack.up(CREATE_FIRST)
    stack.assert_settled()
    stack.engine.destroy()
    invariants.nothing_alive(stack.emulator.claims(), stack.engine.state.exported())


def test_a_delete_does_not_trust_a_list_that_lags_behind() -> None:
    with Emulator(EmulatorSettings(list_lag=1.5, delete_delay=0.6)) as emulator:
        with Plugin(emulator.environment()) as plugin:
            keys = [f"x::{name}" for name in ("a", "b", "c")]
            made = [plugin.create(plugin.check({}, claim_inputs(key=key)).inputs) for key in keys]
            emulator.advance_clock(3600)
            for claim_id, outputs in made:
                plugin.read(claim_id, outputs)
            for claim_id, outputs in made:
                plugin.delete(claim_id, outputs)
                assert claim_id not in {claim.id for claim in emulator.claims()}
