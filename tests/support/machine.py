"""Random histories of a stack: operations, deaths, faults, foreign hands, on an API drawn at random.

`people` adds what else people do, with two stacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from coreweave_inference import Client
from coreweave_inference.emulator import ClaimRecord, Emulator, EmulatorSettings, FaultProfile
from pulumi_coreweave_inference.identity import is_made_by
from support import invariants
from support.model import Death, Declared, Died, Engine, Failed, Grpc, InProcess, Process, Time

NAMES: Final = ("a", "b")
STOCK: Final = {
    "US-WEST-04A": {"gb200-4x": 40, "h100-80gb-sxm5": 40},
    "US-EAST-04A": {"gb200-4x": 40, "h100-80gb-sxm5": 40},
}
SCARCE: Final = {
    "US-WEST-04A": {"gb200-4x": 2, "h100-80gb-sxm5": 0},
    "US-EAST-04A": {"gb200-4x": 0, "h100-80gb-sxm5": 1},
}

api = st.fixed_dictionaries(
    {
        "error_form": st.sampled_from(["connect", "status"]),
        "omit_zeros": st.booleans(),
        "empty_list": st.sampled_from(["absent", "array", "not_found"]),
        "unique_names": st.booleans(),
        "reuse_ids": st.booleans(),
        "patch_refusal": st.sampled_from(["invalid_argument", "failed_precondition"]),
        "patchable_fields": st.sampled_from(
            [frozenset({"instanceCount"}), frozenset({"instanceCount", "zones"})]
        ),
        "ready_when": st.sampled_from(["all", "any"]),
        "shortage": st.sampled_from(["creating", "error", "failed"]),
        "shortage_failed_after": st.just(30.0),
        "repeated_delete": st.sampled_from(["not_found", "last_state"]),
        "stale_status_for": st.sampled_from([0.0, 3.0]),
        "zones_shown": st.sampled_from(["sent", "sent", "sorted"]),
        "capacity_type_shown": st.sampled_from(["sent", "sent", "unspecified", "customer"]),
        "unchanged_patch": st.sampled_from(
            ["accepted", "accepted", "invalid_argument", "failed_precondition"]
        ),
        "list_lag": st.sampled_from([0.0, 5.0]),
        "delete_delay": st.sampled_from([0.0, 6.0]),
        "allocation_delay": st.sampled_from([0.0, 4.0]),
    }
)
"""What only CoreWeave knows about the API."""
_TIMES: Final = ("stale_status_for", "list_lag", "delete_delay", "allocation_delay")

contents = st.builds(
    lambda zones, instance, count: {"zones": zones, "instanceId": instance, "instanceCount": count},
    st.sampled_from([["US-WEST-04A", "US-EAST-04A"], ["US-EAST-04A", "US-WEST-04A"], ["US-WEST-04A"]]),
    st.sampled_from(["gb200-4x", "gb200-4x", "h100-80gb-sxm5"]),
    st.integers(1, 3),
)
deaths = st.one_of(
    st.none(),
    st.builds(
        Death,
        st.sampled_from(["create", "create", "create", "delete", "delete", "get", "update"]),
        st.sampled_from([1, 1, 1, 2, 3]),
        st.sampled_from(["before", "after", "after", "answered"]),
    ),
)
_LOST: Final = {"path": "create", "nth": 1, "fail": {"when": "after"}}
_FAULTS: Final = {
    "none": FaultProfile(),
    "some": FaultProfile.random(1),
    "many": FaultProfile.random(2, 0.6),
    "answer lost": FaultProfile.of([_LOST]),
    "answer lost, reads stale": FaultProfile.of([_LOST | {"stale_reads": {"seconds": 8}}]),
    "answer lost, get stale": FaultProfile.of([_LOST | {"stale_reads": {"seconds": 8, "reads": "get"}}]),
    "reads stale": FaultProfile.of([{"path": "create", "stale_reads": {"seconds": 8}}]),
    "delete not found": FaultProfile.of(
        [{"path": "delete", "nth": nth, "fail": {"code": "not_found"}} for nth in (1, 3)]
    ),
    "delete's answer lost": FaultProfile.of([{"path": "delete", "nth": 1, "drop": "after"}]),
    "update's answer lost": FaultProfile.of([{"path": "update", "nth": 1, "drop": "after"}]),
}
faults = st.sampled_from(["none", "none", *_FAULTS])
_STALE_FOR: Final = 10.0

# Errors that a history may lead to; everything else is a bug.
_EXPECTED: Final = (
    "readiness:",
    "is not available",
    "cannot be reached",
    "did not respond in time",
    "rate limit of the API is exhausted",
    "responded with an error",
    "is taken",
    "was changed since the state was written",
    "was changed outside of Pulumi",
    "does not know the claim",
    "the claim's current state does not allow it",
    "refused the request as invalid",
    "differs from the declaration",
    "exists, but cannot be read",
    "is not finished",
    "is already held by the resource",
    "namespace is kept",
    "a claim with this id exists with",
    "would take over the claim of the resource",
    "marked for protection",
    "because it is protected",
)


@dataclass
class Stack:
    """A stack, and what its program declares."""

    engine: Engine
    program: dict[str, Declared] = field(default_factory=dict)


class Histories(RuleBasedStateMachine):
    """One stack and its API. Every rule checks every invariant."""

    steps: ClassVar[int] = 0
    operations: ClassVar[int] = 0
    died: ClassVar[int] = 0
    lost: ClassVar[int] = 0
    refused: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self._running = ExitStack()

    # What a backend decides

    def open(self, settings: dict[str, Any]) -> tuple[Emulator, Callable[[Death | None], Process]]:
        """An emulator with these settings, and how a provider process is started."""
        time = Time()
        emulator = self._running.enter_context(
            Emulator(EmulatorSettings(inventory=STOCK, **settings), clock=time.time_ns)
        )
        http = self._running.enter_context(httpx.HTTPTransport(verify=False))
        return emulator, lambda death: InProcess(emulator, time, http, death, self._environment())

    def _environment(self) -> dict[str, str]:
        return {"COREWEAVE_ORPHANS": "leave"} if self.leave_orphans else {}

    @initialize(settings=api, first=contents, second=contents)
    def begin(self, settings: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> None:
        self.settings = settings
        self.leave_orphans = False  # whether operations run with COREWEAVE_ORPHANS=leave
        self.touched: set[str] = set()  # claims somebody else has changed or released
        self.failed: set[str] = set()  # claims that have been STATUS_FAILED
        self.emulator, start = self.open(settings)
        self.stack = Stack(
            Engine(self.emulator, start, watch=self._watch), {"a": Declared(first), "b": Declared(second)}
        )
        self.other = Stack(Engine(self.emulator, start, watch=self._watch))
        self.stacks = (self.stack, self.other)
        for one, another in (self.stacks, self.stacks[::-1]):
            one.engine.others, one.engine.meddled = (another.engine,), self.touched
        self.before: list[dict[str, Declared]] = []
        self.lists_lag = settings["list_lag"] > 0
        self.faulty = False  # whether the API fails, at random or by a rule
        self.stale = False  # whether reads may be behind what the last operation wrote
        self.stale_until = 0  # whether they may be behind at all: nanoseconds of the emulator's time
        self.error = ""  # what the last operation ended with

    @property
    def engine(self) -> Engine:
        return self.stack.engine

    @property
    def program(self) -> dict[str, Declared]:
        return self.stack.program

    @program.setter
    def program(self, program: dict[str, Declared]) -> None:
        self.stack.program = program

    def teardown(self) -> None:
        with self._running:
            if hasattr(self, "stacks"):
                self._end()

    # The program

    @rule(name=st.sampled_from(NAMES), resources=contents, named=st.integers(0, 3))
    def declare(self, name: str, resources: dict[str, Any], named: int) -> None:
        Histories.steps += 1
        explicit = f"{name}-claim" if named == 0 else None
        old = self.program.get(name, Declared({}))
        self.program[name] = replace(
            old, resources=resources, name=explicit, delete_before_replace=named == 1
        )

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def scale(self, name: str, count: int) -> None:
        Histories.steps += 1
        if name in self.program:
            self._set_count(self.program, name, count)

    @rule(name=st.sampled_from(NAMES), sure=st.booleans())
    def drop(self, name: str, sure: bool) -> None:
        if not sure:
            return
        Histories.steps += 1
        self.program.pop(name, None)

    @rule(old=st.sampled_from(NAMES), first=st.booleans())
    def rename(self, old: str, first: bool) -> None:
        Histories.steps += 1
        # An explicit name would go with it, and two declarations could then post the same.
        if old in self.program and "r" not in self.program and self.program[old].name is None:
            entry = self.engine.state.current(old)
            if entry is None:
                return
            renamed = replace(self.program.pop(old), alias=old)
            self.program = {"r": renamed, **self.program} if first else {**self.program, "r": renamed}
            self.touched.add(entry.id)
            # Claims left by its earlier creates now belong to neither name.
            self.engine.cut_off |= {
                id: f"{of}, renamed" for id, of in self.engine.cut_off.items() if of == old
            }
            # The old name is free for another declaration once the state knows the new one.
            if self._up() and "r" in self.program:
                self.program["r"] = replace(self.program["r"], alias=None)

    @precondition(lambda self: self.before)
    @rule()
    def revert(self) -> None:
        Histories.steps += 1
        earlier = self.before.pop()
        if "r" in earlier or "r" in self.program:
            return
        self.program = earlier

    # The CLI

    @rule(
        refresh=st.booleans(),
        replaced=st.sets(st.sampled_from(NAMES), max_size=1),
        only=st.sampled_from([None, None, None, "a"]),
        unready=st.sets(st.sampled_from(NAMES), max_size=1),
        death=deaths,
        faults=faults,
    )
    def up(
        self,
        refresh: bool,
        replaced: set[str],
        only: str | None,
        unready: set[str],
        death: Death | None,
        faults: str,
    ) -> None:
        Histories.steps += 1
        targets = {only} if only in self.program else None
        with self._faults(faults):
            self._up(refresh=refresh, replaced=replaced, targets=targets, unready=unready, death=death)

    @rule(death=deaths, faults=faults)
    def plain_up(self, death: Death | None, faults: str) -> None:
        Histories.steps += 1
        with self._faults(faults):
            self._up(death=death)

    @rule(
        name=st.sampled_from(NAMES),
        resources=contents,
        named=st.integers(0, 3),
        death=deaths,
        faults=faults,
        unready=st.booleans(),
    )
    def change_and_up(
        self,
        name: str,
        resources: dict[str, Any],
        named: int,
        death: Death | None,
        faults: str,
        unready: bool,
    ) -> None:
        self.declare(name, resources, named)
        with self._faults(faults):
            self._up(death=death, unready={name} if unready else set())

    @rule(name=st.sampled_from(NAMES), death=deaths, faults=faults)
    def replace_and_up(self, name: str, death: Death | None, faults: str) -> None:
        Histories.steps += 1
        with self._faults(faults):
            self._up(replaced={name}, death=death)

    @rule(death=deaths)
    def revert_and_up(self, death: Death | None) -> None:
        Histories.steps += 1
        if len(self.before) > 1 and "r" not in self.before[-2] and "r" not in self.program:
            self.program = dict(self.before[-2])
        self._up(death=death)

    @rule(
        name=st.sampled_from(NAMES),
        resources=contents,
        death=st.sampled_from([None, Death("create", 2), Death("create", when="answered"), Death("delete")]),
        seconds=st.sampled_from([0.0, 20.0]),
    )
    def waver(self, name: str, resources: dict[str, Any], death: Death | None, seconds: float) -> None:
        """Replace a claim, be killed while the old one is being released, and want it back at once."""
        self.emulator.set_inventory(STOCK)
        self._up()
        earlier = dict(self.program)
        self.declare(name, resources, 2)
        self._up(death=Death("delete"))
        if self.engine.cut_off:
            return
        self.program = earlier
        self._up(death=death)
        self.emulator.advance_clock(seconds)
        self._up()

    @rule(name=st.sampled_from(NAMES), first=contents, second=contents)
    def abandon(self, name: str, first: dict[str, Any], second: dict[str, Any]) -> None:
        """Be killed while a claim is being posted, and declare another one instead."""
        self.declare(name, first, 2)
        self._up(death=Death("create"))
        self.declare(name, second, 2)
        self._up()

    @rule(replaced=st.sets(st.sampled_from(NAMES), max_size=1))
    def preview(self, replaced: set[str]) -> None:
        Histories.steps += 1
        before = len(self.emulator.requests())
        self._operate(lambda: self.engine.preview(self.program, replaced=replaced))
        methods = {record.method for record in self.emulator.requests()[before:]}
        assert methods <= {"GET"}, f"a preview wrote: {methods}"

    @rule(death=deaths)
    def refresh(self, death: Death | None) -> None:
        Histories.steps += 1
        self._operate(lambda: self.engine.refresh(death), reads=True)

    @rule(name=st.sampled_from(NAMES), tainted=st.booleans())
    def taint(self, name: str, tainted: bool) -> None:
        Histories.steps += 1
        if self.engine.state.current(name) is not None:
            (self.engine.taint if tainted else self.engine.untaint)(name)

    @rule(refresh=st.booleans(), death=deaths, faults=faults, sure=st.integers(0, 2))
    def destroy(self, refresh: bool, death: Death | None, faults: str, sure: int) -> None:
        if sure:
            return
        Histories.steps += 1
        with self._faults(faults):
            self._destroy(refresh=refresh, death=death)

    @rule()
    def lose_the_namespace(self) -> None:
        """`pulumi state delete`: with the namespace goes what claims that were cut off are found by."""
        Histories.steps += 1
        if self.engine.cut_off:
            self._up()
        for id in list(self.engine.cut_off):
            self._release(id)
        self.engine.remove_namespace()

    @rule(name=st.sampled_from(NAMES), resources=contents)
    def import_a_claim(self, name: str, resources: dict[str, Any]) -> None:
        Histories.steps += 1
        if any(entry.name == name for entry in self.engine.state.entries) or name in self.program:
            return
        if self.settings["capacity_type_shown"] != "sent":
            return  # an import declares what the API shows, and that could not be declared
        with self._somebody_else() as client:
            if f"{name}-claim" in {claim.name for claim in client.capacity_claims.list()}:
                return
            managed = resources | {"capacityType": "CAPACITY_TYPE_MANAGED"}
            claim = client.capacity_claims.create(f"{name}-claim", managed)
        self.touched.add(claim.id)
        self.emulator.advance_clock(_STALE_FOR)
        record = next(record for record in self.emulator.claims() if record.id == claim.id)
        self.engine.adopt_by_import(name, record)
        zones: Any = record.answer["spec"]
        shown = resources | {"zones": list(zones["resources"]["zones"])}
        self.program[name] = Declared(shown, f"{name}-claim")

    # Others

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def somebody_scales(self, name: str, count: int) -> None:
        Histories.steps += 1
        self._meddle(name, spec={"resources": {"instanceCount": count}})

    @rule(name=st.sampled_from(NAMES), zones=st.sampled_from([["US-EAST-04A"], ["US-WEST-04A"]]))
    def somebody_moves(self, name: str, zones: list[str]) -> None:
        Histories.steps += 1
        self._meddle(name, spec={"resources": {"zones": zones}})

    @rule(name=st.sampled_from(NAMES))
    def somebody_releases(self, name: str) -> None:
        Histories.steps += 1
        self._meddle(name, delete=True)

    @rule(seconds=st.sampled_from([1.0, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        Histories.steps += 1
        self.emulator.advance_clock(seconds)

    @rule(scarce=st.booleans())
    def stock_changes(self, scarce: bool) -> None:
        Histories.steps += 1
        self.emulator.set_inventory(SCARCE if scarce else STOCK)

    # How it is done

    def _meddle(self, name: str, **change: Any) -> None:
        entry = self.engine.state.current(name)
        if entry is not None and entry.id in {claim.id for claim in self.emulator.live_claims()}:
            self.touched.add(entry.id)
            self.emulator.edit_claim(entry.id, **change)

    @staticmethod
    def _set_count(program: dict[str, Declared], name: str, count: int) -> None:
        old = program[name]
        program[name] = replace(old, resources=dict(old.resources) | {"instanceCount": count})

    def _up(self, stack: Stack | None = None, **options: Any) -> bool:
        stack = stack or self.stack
        if stack is self.stack:
            self.before = [*self.before[-3:], dict(self.program)]
        stale = self.emulator.now() < self.stale_until
        shown = not (self.lists_lag or stale or self.faulty or self.leave_orphans)
        ended = self._operate(
            lambda: stack.engine.up(stack.program, **options), reads=options.get("refresh", False)
        )
        if ended and options.get("targets") is None:
            engine = stack.engine
            claims, left = self._claims_of(stack), engine.cut_off
            invariants.settled(claims, engine.state.exported(), stack.program, left, self.touched)
        if shown:
            unnamed = stack.engine.unnamed
            assert not unnamed, f"no warning names these living claims: {unnamed}"
        return ended

    def _operate(self, operation: Callable[[], object], *, reads: bool = False) -> bool:
        """Run an operation; whether it ended well. Errors and deaths that may be are no failures."""
        Histories.operations += 1
        if reads or (self.stale and not any(stack.engine.cut_off for stack in self.stacks)):
            # Only a repeated create meets reads that miss what was written a moment ago: a claim that
            # has just been created and cannot be read yet looks like one that is gone.
            self.emulator.advance_clock(_STALE_FOR)
        self.stale, self.error = False, ""
        before = self.emulator.claims()
        try:
            operation()
        except Died:
            Histories.died += 1
            Histories.lost += any(bool(stack.engine.cut_off) for stack in self.stacks)
            return False
        except Failed as error:
            self.error = str(error)
            assert any(text in self.error for text in _EXPECTED), self.error
            invariants.held_as_said(self.error, before, self.emulator.claims(), self.touched)
            return False
        return True

    def _destroy(self, stack: Stack | None = None, **options: Any) -> bool:
        """`pulumi destroy`, and what its refusal says to do; whether it ended well."""
        stack = stack or self.stack
        engine = stack.engine
        namespace, cut_off, let_go = engine.state.namespace, dict(engine.cut_off), set(engine.let_go)
        if self.stale:
            self.emulator.advance_clock(_STALE_FOR)  # a destroy looks for what is unknown once only
        ended = self._operate(lambda: engine.destroy(**options), reads=options.get("refresh", False))
        if not ended and "namespace is kept" in self.error:
            left = {claim.id for claim in invariants.live(self._claims_of(stack, outside=True))}
            left = {each for each in left if each not in engine.let_go or is_made_by(namespace or "", each)}
            known = cut_off.keys() | let_go | engine.let_go
            assert left <= known, f"claims live that no create was cut off for: {left - known}"
            assert all(id in self.error and is_made_by(namespace or "", id) for id in left), self.error
            Histories.refused += 1
            for id in left:
                self._release(id)
            self.emulator.advance_clock(_STALE_FOR)
            with self._leaving_orphans(stack):
                ended = self._operate(engine.destroy)
        if ended:
            # Claims that left the state with another namespace cannot be told from those of another stack.
            claims = [
                claim
                for claim in self._claims_of(stack, outside=True)
                if claim.id not in engine.let_go or is_made_by(namespace or "", claim.id)
            ]
            invariants.nothing_alive(claims, engine.state.exported())
        return ended

    @contextmanager
    def _leaving_orphans(self, stack: Stack) -> Iterator[None]:
        """COREWEAVE_ORPHANS=leave, where the error names claims that another stack manages."""
        named = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", self.error)
        self.leave_orphans = any(other.holds(id) for other in stack.engine.others for id in named)
        try:
            yield
        finally:
            self.leave_orphans = False

    def _release(self, claim_id: str) -> None:
        """What `capacity-claims release` does; it refuses if a stack manages the claim."""
        held = any(stack.engine.holds(claim_id) for stack in self.stacks)
        assert not held, f"a stack manages {claim_id}, which is to be released"
        self.touched.add(claim_id)
        self.emulator.edit_claim(claim_id, delete=True)

    def _claims_of(self, stack: Stack, *, outside: bool = False) -> list[ClaimRecord]:
        """All claims without those of another stack; with `outside` also what is in no state and may be.

        That is what was let go of, and what a create that was cut off had posted and has failed since.
        """
        mine = stack.engine
        own = {entry.id for entry in mine.state.entries}
        foreign: set[str] = set() if outside else mine.let_go | (mine.cut_off.keys() & self.failed)
        for engine in mine.others:
            foreign |= {entry.id for entry in engine.state.entries} | engine.cut_off.keys() | engine.let_go
        return [claim for claim in self.emulator.claims() if claim.id in own or claim.id not in foreign]

    def _watch(self) -> None:
        claims = self.emulator.claims()
        self.failed |= {claim.id for claim in claims if claim.status == "STATUS_FAILED"}
        released = self.touched.union(*(stack.engine.released for stack in self.stacks))
        for stack in self.stacks:
            state = stack.engine.state.exported()
            invariants.one_claim_each(self._claims_of(stack), state, stack.engine.cut_off)
            invariants.nothing_known_was_deleted(claims, state, released)

    @contextmanager
    def _faults(self, faults: str) -> Iterator[None]:
        self.emulator.set_faults(_FAULTS[faults])
        self.faulty = faults != "none"
        try:
            yield
        finally:
            self.emulator.clear_faults()
            self.faulty = False
            self.stale = "stale" in faults
            if self.stale:
                self.stale_until = self.emulator.now() + int(_STALE_FOR * 1e9)

    @contextmanager
    def _somebody_else(self) -> Iterator[Client]:
        with Client(self.emulator.token, endpoint=self.emulator.url) as client:
            yield client

    def _end(self) -> None:
        """The last clean `up`, a quiet one after it, and `destroy`."""
        self.emulator.set_inventory(STOCK)
        self.emulator.advance_clock(60)
        self.emulator.advance_clock(60)
        for stack in self.stacks:
            if stack.program or stack.engine.state.namespace or stack.engine.state.entries:
                self._get_well(stack)
        let_go = set[str]().union(*(stack.engine.let_go for stack in self.stacks))
        replaced = set[str]().union(*(stack.engine.replaced for stack in self.stacks))
        for stack in self.stacks:
            stack.engine.unprotect()
            assert self._destroy(stack), self.error
        invariants.no_second_post(self.emulator.requests(), self.touched | self.failed | let_go | replaced)

    def _get_well(self, stack: Stack) -> None:
        for _ in range(8):
            declared = dict(stack.program)
            if self._up(stack, refresh=True) and stack.program == declared:
                break
            self._remedy(stack)
        else:
            raise AssertionError(f"the stack never got well: {self.error}")
        claims = {claim.id: claim for claim in self.emulator.claims()}
        for entry in stack.engine.state.entries:
            claim, declared = claims[entry.id], stack.program[entry.name].resources
            assert claim.instance_count == declared["instanceCount"], f"{claim} is declared as {declared}"
            moved = list(claim.zones) != declared["zones"] and entry.id not in self.touched
            assert not moved, f"{claim} is declared as {declared}"
        before = len(self.emulator.requests())
        steps = stack.engine.preview(stack.program)
        assert not steps, f"nothing has changed, and a preview shows {steps}"
        stack.engine.up(stack.program)
        writes = [record.method for record in self.emulator.requests()[before:] if record.method != "GET"]
        assert not writes, f"nothing has changed, and an update made these calls: {writes}"

    def _remedy(self, stack: Stack) -> None:
        """What the error's text says, or what somebody who read it would do."""
        engine, program = stack.engine, stack.program
        if "namespace is kept" in self.error:
            for claim_id in [*engine.cut_off, *engine.let_go]:
                self._release(claim_id)
            with self._leaving_orphans(stack):
                self._up(stack)
        if "protect" in self.error:
            engine.unprotect()
            stack.program = program = {
                name: replace(declared, protect=False) for name, declared in program.items()
            }
        for name in list(program):
            declared = program[name]
            if "is already held by the resource" in self.error and name != "r":
                engine.forget(name)
            elif f"'{name}'" in self.error and "a claim with this id exists" in self.error:
                self._give_way(stack, name)
            elif f"'{name}'" in self.error and ("is taken" in self.error or "STATUS_FAILED" in self.error):
                if "STATUS_FAILED" in self.error and engine.state.current(name) is not None:
                    engine.taint(name)
                given = None if declared.delete_before_replace else declared.name
                program[name] = replace(declared, name=given, delete_before_replace=True)
        if "r" in program:
            stack.program = {"r": program["r"], **program}
        self.emulator.advance_clock(30)

    def _give_way(self, stack: Stack, name: str) -> None:
        """Another claim has the id: leave it to who holds it, release it, or declare its count."""
        (found,) = set(re.findall(r"\(id ([0-9a-f-]{36})\) failed", self.error))
        own = stack.engine.state.current(name)
        held = stack.engine.holds(found)
        if any(other.holds(found) for other in stack.engine.others):
            del stack.program[name]
        elif not held and "differs from the declaration" in self.error:
            self._release(found)
        elif not held or (own is not None and own.id == found):
            (claim,) = [claim for claim in self.emulator.live_claims() if claim.id == found]
            self._set_count(stack.program, name, claim.instance_count)


class ProcessHistories(Histories):
    """The same with provider processes, spoken to over gRPC, in real time."""

    def open(self, settings: dict[str, Any]) -> tuple[Emulator, Callable[[Death | None], Process]]:
        quick = {name: value / 20 if name in _TIMES else value for name, value in settings.items()}
        emulator = self._running.enter_context(Emulator(EmulatorSettings(inventory=STOCK, **quick)))
        environment = {"COREWEAVE_READ_GRACE": "10s", "COREWEAVE_RETRY_DEADLINE": "20s"}
        return emulator, lambda death: Grpc(emulator, environment | self._environment(), death)
