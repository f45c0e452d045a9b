"""Random histories of a stack: operations, deaths, faults, foreign hands, on an API drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Final

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings, FaultProfile
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
)


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
        return emulator, lambda death: InProcess(emulator, time, http, death)

    @initialize(settings=api, first=contents, second=contents)
    def begin(self, settings: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> None:
        self.emulator, start = self.open(settings)
        self.engine = Engine(self.emulator, start, watch=self._watch)
        self.program: dict[str, Declared] = {"a": Declared(first), "b": Declared(second)}
        self.before: list[dict[str, Declared]] = []
        self.touched: set[str] = set()  # claims somebody else has changed or released
        self.lists_lag = settings["list_lag"] > 0
        self.faulty = False  # whether the API fails, at random or by a rule
        self.stale = False  # whether reads may be behind what was written
        self.error = ""  # what the last operation ended with

    def teardown(self) -> None:
        with self._running:
            if hasattr(self, "engine"):
                self._end()

    # The program

    @rule(name=st.sampled_from(NAMES), resources=contents, named=st.integers(0, 3))
    def declare(self, name: str, resources: dict[str, Any], named: int) -> None:
        Histories.steps += 1
        explicit = f"{name}-claim" if named == 0 else None
        alias = self.program[name].alias if name in self.program else None
        self.program[name] = Declared(resources, explicit, alias, delete_before_replace=named == 1)

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def scale(self, name: str, count: int) -> None:
        Histories.steps += 1
        if name in self.program:
            old = self.program[name]
            resources = dict(old.resources) | {"instanceCount": count}
            self.program[name] = Declared(resources, old.name, old.alias, old.delete_before_replace)

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
            declared = self.program.pop(old)
            renamed = Declared(declared.resources, declared.name, old, declared.delete_before_replace)
            self.program = {"r": renamed, **self.program} if first else {**self.program, "r": renamed}
            self.touched.add(entry.id)
            # Claims left by its earlier creates now belong to neither name.
            self.engine.cut_off |= {
                id: f"{of}, renamed" for id, of in self.engine.cut_off.items() if of == old
            }
            # The old name is free for another declaration once the state knows the new one.
            self._up()

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
        with self._somebody_else() as client:
            if f"{name}-claim" in {claim.name for claim in client.capacity_claims.list()}:
                return
            managed = resources | {"capacityType": "CAPACITY_TYPE_MANAGED"}
            claim = client.capacity_claims.create(f"{name}-claim", managed)
        self.touched.add(claim.id)
        self.emulator.advance_clock(_STALE_FOR)
        record = next(record for record in self.emulator.claims() if record.id == claim.id)
        self.engine.adopt_by_import(name, record)
        self.program[name] = Declared(resources, f"{name}-claim")

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

    def _up(self, **options: Any) -> bool:
        self.before = [*self.before[-3:], dict(self.program)]
        shown = not (self.lists_lag or self.stale or self.faulty)
        ended = self._operate(
            lambda: self.engine.up(self.program, **options), reads=options.get("refresh", False)
        )
        if ended and options.get("targets") is None:
            state, left = self.engine.state.exported(), self.engine.cut_off
            invariants.settled(self.emulator.claims(), state, self.program, left, self.touched)
        if shown:
            assert not self.engine.unnamed, f"no warning names these living claims: {self.engine.unnamed}"
        return ended

    def _operate(self, operation: Callable[[], object], *, reads: bool = False) -> bool:
        """Run an operation; whether it ended well. Errors and deaths that may be are no failures."""
        Histories.operations += 1
        if reads or (self.stale and not self.engine.cut_off):
            # Only a repeated create meets reads that miss what was written a moment ago: a claim that
            # has just been created and cannot be read yet looks like one that is gone.
            self.emulator.advance_clock(_STALE_FOR)
        self.stale, self.error = False, ""
        try:
            operation()
        except Died:
            Histories.died += 1
            Histories.lost += bool(self.engine.cut_off)
            return False
        except Failed as error:
            self.error = str(error)
            assert any(text in self.error for text in _EXPECTED), self.error
            return False
        return True

    def _destroy(self, **options: Any) -> bool:
        """`pulumi destroy`, and what its refusal says to do; whether it ended well."""
        namespace, cut_off = self.engine.state.namespace, dict(self.engine.cut_off)
        if self.stale:
            self.emulator.advance_clock(_STALE_FOR)  # a destroy looks for what is unknown once only
        ended = self._operate(lambda: self.engine.destroy(**options), reads=options.get("refresh", False))
        if not ended and "namespace is kept" in self.error:
            left = {claim.id for claim in self.emulator.live_claims()}
            assert left <= cut_off.keys(), f"claims live that no create was cut off for: {left}"
            assert all(id in self.error and is_made_by(namespace or "", id) for id in left), self.error
            Histories.refused += 1
            for id in left:
                self._release(id)
            self.emulator.advance_clock(_STALE_FOR)
            ended = self._operate(self.engine.destroy)
        if ended:
            invariants.nothing_alive(self.emulator.claims(), self.engine.state.exported())
        return ended

    def _release(self, claim_id: str) -> None:
        """What `capacity-claims release` does."""
        self.touched.add(claim_id)
        self.emulator.edit_claim(claim_id, delete=True)

    def _watch(self) -> None:
        claims, state = self.emulator.claims(), self.engine.state.exported()
        invariants.one_claim_each(claims, state, self.engine.cut_off)
        invariants.nothing_known_was_deleted(claims, state, self.engine.released | self.touched)

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

    @contextmanager
    def _somebody_else(self) -> Iterator[Client]:
        with Client(self.emulator.token, endpoint=self.emulator.url) as client:
            yield client

    def _end(self) -> None:
        """The last clean `up`, a quiet one after it, and `destroy`."""
        self.emulator.set_inventory(STOCK)
        self.emulator.advance_clock(60)
        self.emulator.advance_clock(60)
        for _ in range(8):
            if self._up(refresh=True):
                break
            self._remedy()
        else:
            raise AssertionError(f"the stack never got well: {self.error}")
        for claim in self.emulator.claims():
            if claim.id in self.engine.cut_off:
                continue
            (name,) = [e.name for e in self.engine.state.entries if e.id == claim.id]
            assert claim.instance_count == self.program[name].resources["instanceCount"]
            assert list(claim.zones) == self.program[name].resources["zones"]
        before = len(self.emulator.requests())
        assert self.engine.preview(self.program) == {}
        self.engine.up(self.program)
        assert [record.method for record in self.emulator.requests()[before:] if record.method != "GET"] == []
        assert self._destroy(), self.error
        invariants.no_second_post(self.emulator.requests(), self.touched | self.engine.replaced)

    def _remedy(self) -> None:
        """What the error's text says, or what somebody who read it would do."""
        if "namespace is kept" in self.error:
            for claim_id in self.engine.cut_off:
                self._release(claim_id)
        for name in list(self.program):
            declared = self.program[name]
            if "is already held by the resource" in self.error and name != "r":
                self.engine.forget(name)
            elif f"'{name}'" in self.error and ("is taken" in self.error or "STATUS_FAILED" in self.error):
                if "STATUS_FAILED" in self.error and self.engine.state.current(name) is not None:
                    self.engine.taint(name)
                given = None if declared.delete_before_replace else declared.name
                self.program[name] = Declared(declared.resources, given, declared.alias, True)
        if "r" in self.program:
            self.program = {"r": self.program["r"], **self.program}
        self.emulator.advance_clock(30)


class ProcessHistories(Histories):
    """The same with provider processes, spoken to over gRPC, in real time."""

    def open(self, settings: dict[str, Any]) -> tuple[Emulator, Callable[[Death | None], Process]]:
        quick = {name: value / 20 if name in _TIMES else value for name, value in settings.items()}
        emulator = self._running.enter_context(Emulator(EmulatorSettings(inventory=STOCK, **quick)))
        environment = {"COREWEAVE_READ_GRACE": "10s", "COREWEAVE_RETRY_DEADLINE": "20s"}
        return emulator, lambda death: Grpc(emulator, environment, death)
