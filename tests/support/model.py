"""A small model of the Pulumi engine: it drives a provider through the operations of the CLI, and can die.

Which calls the engine makes in which case was read off the real one: a replacement checks twice, the second
time without the old inputs; `--replace` and a taint check once, without them, and never diff; `refresh`
reads and diffs entries that wait for their deletion, too; deletions come after the program has ended well;
every operation has one provider process, and a preview has another. `--target` checks and diffs nothing but
its targets, and keeps the entries of all others, with their old names. A protected claim is not replaced,
and not deleted unless a replacement has left it; a claim that is retained, or deleted with another one that
is deleted, leaves the state without a call; all of that is decided by the options in the state.

An `Engine` is one stack. Several can share an emulator, as the stacks of an organization do.

The provider is reached over gRPC in a process of its own (`Grpc`), or called in this process with the
values gRPC would deliver and a memory made anew per operation (`InProcess`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any, Final, Protocol

import httpx
from pulumi.dynamic import ResourceProvider
from pulumi.output import Unknown

from coreweave_inference.client import CapacityClaims
from coreweave_inference.emulator import ClaimRecord, Emulator, FaultProfile, FaultRule
from coreweave_inference.transport import Connection, Transport
from pulumi_coreweave_inference import CapacityClaimProvider, ClaimNamespaceProvider, operation
from pulumi_coreweave_inference.errors import ClaimError
from pulumi_coreweave_inference.rounds import Clock
from pulumi_coreweave_inference.settings import Settings, settings_from
from support import invariants
from support.plugin import UNKNOWN, Checked, Diff, Plugin, PluginError, Properties

TYPE: Final = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
_URN: Final = f"urn:pulumi:test::claims::{TYPE}::"
_READY_WITHIN: Final = 120.0  # seconds of the emulator's time


class Failed(Exception):
    """The operation ended with this error."""


class Died(Exception):
    """The operation was killed: what it did last is not in the state."""


class Killed(BaseException):
    """The provider process is dead."""


@dataclass(frozen=True)
class Death:
    """When everything is killed: at the nth API call of a kind, before or after it took effect, or when the
    provider has answered and the CLI has not written the state yet (`answered`)."""

    operation: str  # create, get, list, update, delete
    nth: int = 1
    when: str = "after"


@dataclass(frozen=True)
class Declared:
    """One claim of the program; its name is the key it has in the program."""

    resources: Mapping[str, Any]
    name: str | None = None
    alias: str | None = None
    delete_before_replace: bool = False
    protect: bool = False
    retain: bool = False
    deleted_with: str | None = None


Program = Mapping[str, Declared]


@dataclass
class Entry:
    """One claim in the state."""

    name: str
    id: str
    inputs: Properties
    outputs: Properties
    delete: bool = False
    pending_replacement: bool = False
    tainted: bool = False
    protect: bool = False
    retain: bool = False
    deleted_with: str | None = None
    number: int = field(default_factory=count().__next__)
    """Its place in the order in which entries were made."""

    def options(self, declared: Declared) -> None:
        """Note the options of the program, as every step that registers a resource does."""
        self.protect, self.retain = declared.protect, declared.retain
        self.deleted_with = declared.deleted_with

    def exported(self) -> dict[str, Any]:
        """The entry as `pulumi stack export` shows it."""
        return {"urn": _URN + self.name, "type": TYPE, "id": self.id, "delete": self.delete}


@dataclass
class State:
    """What the stack's state file holds."""

    namespace: str | None = None
    entries: list[Entry] = field(default_factory=list)

    def current(self, name: str) -> Entry | None:
        """The entry of a declaration, unless it only waits for its deletion."""
        return next((entry for entry in self.entries if entry.name == name and not entry.delete), None)

    def exported(self) -> list[dict[str, Any]]:
        return [entry.exported() for entry in self.entries]


class Namespaces(Protocol):
    """What a provider process does for the namespace of a stack."""

    def diff(self, id: str, olds: Properties, news: Properties) -> Diff: ...
    def create(self, props: Properties) -> tuple[str, Properties]: ...
    def delete(self, id: str, props: Properties) -> None: ...


class Process(Protocol):
    """One provider process, as the engine uses it."""

    @property
    def namespaces(self) -> Namespaces: ...

    def check(self, olds: Properties, news: Properties) -> Checked: ...
    def diff(self, id: str, olds: Properties, news: Properties) -> Diff: ...
    def create(self, props: Properties) -> tuple[str, Properties]: ...
    def read(self, id: str, props: Properties) -> tuple[str, Properties, Properties]: ...
    def update(self, id: str, olds: Properties, news: Properties) -> Properties: ...
    def delete(self, id: str, props: Properties) -> None: ...
    def close(self) -> str: ...
    def kill(self) -> str: ...


Start = Callable[[Death | None], Process]
"""Starts a provider process that dies as the argument says."""


class Time:
    """Time that passes only when somebody sleeps, and a little when somebody looks."""

    def __init__(self) -> None:
        self._now = 1_780_000_000.0

    def time_ns(self) -> int:
        return int(self._now * 1e9)

    def today(self) -> datetime:
        return datetime.fromtimestamp(self._now, UTC)

    @property
    def clock(self) -> Clock:
        return Clock(now=self.monotonic, sleep=self.sleep, today=self.today)

    def monotonic(self) -> float:
        self._now += 1e-6  # no two looks at a clock are the same
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += max(seconds, 1e-3)


class InProcess:
    """The provider called in this process, with a memory of its own; sleeping lets `time` pass."""

    def __init__(
        self,
        emulator: Emulator,
        time: Time,
        http: httpx.BaseTransport,
        death: Death | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._time = time
        self._said: list[str] = []
        self._provider: ResourceProvider = CapacityClaimProvider()
        variables = emulator.environment() | {"COREWEAVE_CATALOGUE_CHECK": "off"} | dict(environment or {})
        settings = settings_from(lambda _: None, variables)
        self._http = _Mortal(http, death)
        self._operation = operation.Operation(settings, time.clock, self._connect, self._said.append)

    @property
    def namespaces(self) -> InProcess:
        other = copy.copy(self)
        other._provider = ClaimNamespaceProvider()
        return other

    def check(self, olds: Properties, news: Properties) -> Checked:
        with self._running():
            result = self._provider.check(_received(olds), _received(news))
        return Checked(_sent(result.inputs), [failure.reason for failure in result.failures])

    def diff(self, id: str, olds: Properties, news: Properties) -> Diff:
        with self._running():
            result = self._provider.diff(id, _received(olds), _received(news))
        changes = {None: "unknown", True: "some", False: "none"}[result.changes]
        return Diff(changes, list(result.replaces or []))

    def create(self, props: Properties) -> tuple[str, Properties]:
        with self._running():
            result = self._provider.create(_received(props))
        return result.id, _sent(result.outs)

    def read(self, id: str, props: Properties) -> tuple[str, Properties, Properties]:
        with self._running():
            result = self._provider.read(id, _received(props))
        return result.id or "", _sent(result.outs), _sent(result.inputs or {})

    def update(self, id: str, olds: Properties, news: Properties) -> Properties:
        with self._running():
            result = self._provider.update(id, _received(olds), _received(news))
        return _sent(result.outs)

    def delete(self, id: str, props: Properties) -> None:
        with self._running():
            self._provider.delete(id, _received(props))

    def close(self) -> str:
        return "".join(self._said)

    kill = close

    @contextmanager
    def _running(self) -> Iterator[None]:
        operation.begin(self._operation)
        try:
            yield
        except ClaimError as error:
            raise PluginError(str(error)) from None

    def _connect(self, settings: Settings) -> Any:
        """The client, on this process's network and in its time."""
        transport = Transport(
            Connection(settings.endpoint, settings.token, settings.timeout),
            http=self._http,
            clock=self._time.monotonic,
            sleep=self._time.sleep,
            random=lambda: 0.5,
        )
        return SimpleNamespace(capacity_claims=CapacityClaims(transport, settings.retry), close=lambda: None)


class _Mortal(httpx.BaseTransport):
    """Passes calls on until it is time to die."""

    def __init__(self, http: httpx.BaseTransport, death: Death | None) -> None:
        self._http = http
        self._death = death
        self._met = 0
        self._dead = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert not self._dead, "a dead process made a call"
        death = self._death
        if death is None or death.when == "answered" or _operation(request) != death.operation:
            return self._http.handle_request(request)
        self._met += 1
        if self._met != death.nth:
            return self._http.handle_request(request)
        self._dead = True
        if death.when == "after":
            with suppress(httpx.HTTPError):
                self._http.handle_request(request).close()
        raise Killed


def _operation(request: httpx.Request) -> str:
    collection = request.url.path.endswith("/capacityclaims")
    return {"POST": "create", "PATCH": "update", "DELETE": "delete", "GET": "list" if collection else "get"}[
        request.method
    ]


class Grpc:
    """The provider in a process of its own, killed while the emulator holds its call."""

    def __init__(self, emulator: Emulator, environment: Mapping[str, str], death: Death | None) -> None:
        self._emulator = emulator
        self._plugin = Plugin(emulator.environment() | {"COREWEAVE_CATALOGUE_CHECK": "off"} | environment)
        self._mortal = death is not None and death.when != "answered"
        if death is not None and self._mortal:
            rule = FaultRule(
                name="death",
                path=death.operation,
                nth=death.nth,
                hold=death.when,  # type: ignore[arg-type]
                drop=death.when,  # type: ignore[arg-type]
            )
            now = FaultProfile.from_json(
                {key: value for key, value in emulator.faults().items() if key in ("rules", "random")}
            )
            emulator.set_faults(FaultProfile(rules=(rule, *now.rules), random_faults=now.random_faults))

    @property
    def namespaces(self) -> Grpc:
        other = copy.copy(self)
        other._plugin = self._plugin.of(ClaimNamespaceProvider)
        return other

    def check(self, olds: Properties, news: Properties) -> Checked:
        return self._call(self._plugin.check, olds, news)

    def diff(self, id: str, olds: Properties, news: Properties) -> Diff:
        return self._call(self._plugin.diff, id, olds, news)

    def create(self, props: Properties) -> tuple[str, Properties]:
        return self._call(self._plugin.create, props)

    def read(self, id: str, props: Properties) -> tuple[str, Properties, Properties]:
        return self._call(self._plugin.read, id, props)

    def update(self, id: str, olds: Properties, news: Properties) -> Properties:
        return self._call(self._plugin.update, id, olds, news)

    def delete(self, id: str, props: Properties) -> None:
        self._call(self._plugin.delete, id, props)

    def close(self) -> str:
        return self._plugin.close()

    def kill(self) -> str:
        return self._plugin.kill()

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        if not self._mortal:
            return method(*arguments)
        with futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(method, *arguments)
            while not futures.wait([answer], timeout=0.02).done:
                if self._emulator.holds():
                    self._plugin.kill()
                    self._emulator.release("death")
                    answer.exception()
                    raise Killed
            return answer.result()


class Engine:
    """A stack: its state, and the CLI's operations on it.

    `watch` is called whenever something may have changed at the API or in the state.
    """

    def __init__(self, emulator: Emulator, start: Start, *, watch: Callable[[], None] = lambda: None) -> None:
        self.emulator = emulator
        self.state = State()
        self.others: Sequence[Engine] = ()
        """The organization's other stacks."""
        self.meddled: set[str] = set()
        """Claims that somebody else has changed or released."""
        self.cut_off: dict[str, str] = {}
        """Claims posted by a create that never reached the state: the resource's name by claim id."""
        self.let_go: set[str] = set()
        """Claims that live on though they left the state: retained, or removed from it by hand."""
        self.released: set[str] = set()
        """Claims whose deletion was asked for while the state held them as alive, and no other stack did."""
        self.replaced: set[str] = set()
        """Claims that a create-first replacement was begun for, or that were renamed: their content may be
        posted again."""
        self.unnamed: set[str] = set()
        """Cut-off claims that the last operation made another claim beside, and did not name."""
        self._start = start
        self._watch = watch
        self._death: Death | None = None
        self._answers = 0
        self._replacing: list[tuple[str, str | None, list[list[ClaimRecord]]]] = []
        self._declared: dict[str, Any] = {}  # by claim: what it was declared as, without the count

    # The CLI's operations

    def up(
        self,
        program: Program,
        *,
        refresh: bool = False,
        targets: Collection[str] | None = None,
        replaced: Collection[str] = (),
        unready: Collection[str] = (),
        death: Death | None = None,
    ) -> None:
        """`pulumi up`, with `--refresh`, `--target`, `--replace`; `unready` are never found ready."""
        with self._process(death) as process:
            if refresh:
                self._refresh(process, targets)
            if program:
                self._register_namespace(process)
            for name, declared in program.items():
                if targets is None or name in targets:
                    self._register(process, name, declared, replaced)
            for name in program:
                if targets is None or name in targets:
                    self._wait_until_ready(name, unready)
            self._note()
            self._delete_what_is_left(process, program, targets)
            if not program:
                self._delete_namespace(process)

    def preview(self, program: Program, *, replaced: Collection[str] = ()) -> dict[str, str]:
        """`pulumi preview`: what would happen to which resource, without what stays the same."""
        steps: dict[str, str] = {}
        with self._process(None) as process:
            for name, declared in program.items():
                old = self._find(name, declared)
                news = self._inputs(name, declared, self.state.namespace or UNKNOWN)
                forced = old is not None and (name in replaced or old.tainted)
                if old is None or old.pending_replacement or forced:
                    self._checked(process, {}, news)
                    steps[name] = "replace" if forced else "create"
                    continue
                inputs = self._checked(process, old.inputs, news)
                step = self._difference(process, old, inputs)
                if step == "replace":
                    self._checked(process, {}, news)
                if step != "same":
                    steps[name] = step
        for entry in self.state.entries:
            if entry.delete or (self._declaring(program, entry) is None):
                steps.setdefault(entry.name, "delete")
        return steps

    def refresh(self, death: Death | None = None) -> None:
        """`pulumi refresh`."""
        with self._process(death) as process:
            self._refresh(process, None)

    def destroy(self, *, refresh: bool = False, death: Death | None = None) -> None:
        """`pulumi destroy`."""
        with self._process(death) as process:
            if refresh:
                self._refresh(process, None)
            self._delete_what_is_left(process, {}, None)
            self._delete_namespace(process)

    def taint(self, name: str) -> None:
        """`pulumi state taint`."""
        entry = self.state.current(name)
        assert entry is not None
        entry.tainted = True

    def untaint(self, name: str) -> None:
        """`pulumi state untaint`."""
        entry = self.state.current(name)
        assert entry is not None
        entry.tainted = False

    def unprotect(self) -> None:
        """`pulumi state unprotect --all`."""
        for entry in self.state.entries:
            entry.protect = False

    def remove_namespace(self) -> None:
        """`pulumi state delete` of the namespace."""
        self.state.namespace = None

    def forget(self, name: str) -> None:
        """`pulumi state delete --force` of a claim: it lives on."""
        gone = [entry for entry in self.state.entries if entry.name == name]
        self.state.entries = [entry for entry in self.state.entries if entry.name != name]
        self._let_go_of(gone)

    def move(self, name: str, to: Engine) -> None:
        """`pulumi state move` of a claim: all its entries, with the namespace in their inputs."""
        to.state.entries += [entry for entry in self.state.entries if entry.name == name]
        self.state.entries = [entry for entry in self.state.entries if entry.name != name]
        to._declared |= self._declared
        to.replaced |= self.replaced

    def clone(self, to: Engine) -> None:
        """`pulumi stack export`, and `pulumi stack import` into another stack."""
        to.state = copy.deepcopy(self.state)
        to._declared |= self._declared

    def adopt_by_import(self, name: str, claim: ClaimRecord) -> None:
        """`pulumi import -f`: the claim enters the state without having been read by the provider."""
        spec: Any = claim.answer["spec"]
        declared = Declared(dict(spec["resources"]), claim.name)
        inputs = self._inputs(name, declared, "")
        del inputs["identity"]["namespace"]  # it arrives with the next `up`
        outputs = {"name": claim.name, "resources": dict(spec["resources"]), "organizationId": ""}
        outputs["identity"] = inputs["identity"] | {"explicitName": True}
        self.state.entries.append(Entry(name, claim.id, inputs, outputs))

    def holds(self, claim_id: str) -> bool:
        """Whether an entry of the state, not marked for deletion, holds a claim."""
        return any(entry.id == claim_id and not entry.delete for entry in self.state.entries)

    # One operation

    @contextmanager
    def _process(self, death: Death | None) -> Iterator[Process]:
        self._death, self._answers, self._replacing, self.unnamed = death, 0, [], set()
        process = self._start(death)
        try:
            yield process
        except Killed:
            process.kill()
            raise Died(str(death)) from None
        except PluginError as error:
            raise Failed(str(error)) from None
        finally:
            said = process.close()
            self.unnamed = {claim_id for claim_id in self.unnamed if claim_id not in said}
            self._note()

    def _answered(self, operation: str, process: Process) -> None:
        """The provider has answered; the CLI may die before it writes the state."""
        death = self._death
        if death is None or death.when != "answered" or death.operation != operation:
            return
        self._answers += 1
        if self._answers == death.nth:
            raise Killed

    def _note(self) -> None:
        """Look at the API and the state."""
        alive = self._alive()
        self.cut_off = {id: name for id, name in self.cut_off.items() if id in alive}
        for entry in self.state.entries:
            if not entry.pending_replacement:  # such an entry goes without a delete
                self.cut_off.pop(entry.id, None)
                self.let_go.discard(entry.id)
        self.let_go &= alive.keys()
        for old, new, samples in self._replacing:
            samples.append(self.emulator.claims())
            if new is not None and new != old:
                invariants.make_before_break(samples, old, new)
        self._watch()

    def _alive(self) -> dict[str, ClaimRecord]:
        return {claim.id: claim for claim in self.emulator.live_claims()}

    def _refresh(self, process: Process, targets: Collection[str] | None) -> None:
        for entry in list(self.state.entries):
            if targets is not None and entry.name not in targets:
                continue
            id, outputs, inputs = process.read(entry.id, entry.outputs)
            if id:
                process.diff(id, outputs, entry.inputs)
                entry.outputs, entry.inputs = outputs, inputs or entry.inputs
            else:
                self.state.entries.remove(entry)
        self._note()

    def _register_namespace(self, process: Process) -> None:
        if self.state.namespace is None:
            self.state.namespace, _ = process.namespaces.create({})
        else:
            assert process.namespaces.diff(self.state.namespace, {}, {}).changes == "none"

    def _delete_namespace(self, process: Process) -> None:
        if self.state.namespace is not None:
            process.namespaces.delete(self.state.namespace, {})
            self.state.namespace = None

    def _register(self, process: Process, name: str, declared: Declared, replaced: Collection[str]) -> None:
        assert self.state.namespace
        old = self._find(name, declared)
        news = self._inputs(name, declared, self.state.namespace)
        if old is None or old.pending_replacement:
            self._create(process, name, declared, self._checked(process, {}, news), old)
            return
        if old.name != name:
            self.replaced.add(old.id)
        forced = name in replaced or old.tainted
        inputs = self._checked(process, {} if forced else old.inputs, news)
        step = "replace" if forced else self._difference(process, old, inputs)
        if step == "same":
            old.name, old.inputs = name, inputs
            old.options(declared)
        elif step == "update":
            outputs = process.update(old.id, old.outputs, inputs)
            self._answered("update", process)
            old.name, old.inputs, old.outputs = name, inputs, outputs
            old.options(declared)
            self._declared[old.id] = _lasting(declared)
            self._note()
        elif old.protect and declared.protect:
            raise Failed(f"unable to replace '{name}' as it is currently marked for protection")
        else:
            if not forced:
                was = self._declared.get(old.id)
                assert was != _lasting(declared) or old.id in self.meddled, (
                    f"'{name}' ({old.id}) is to be replaced, though nothing but its count was declared anew"
                )
                inputs = self._checked(process, {}, news)
            if declared.delete_before_replace:
                self._delete(process, old)
                old.name, old.pending_replacement = name, True
            else:
                self.replaced.add(old.id)
                kept = [] if old.id in self.released else self.emulator.claims()
                self._replacing.append((old.id, None, [kept]))
            self._create(process, name, declared, inputs, old)

    def _create(
        self, process: Process, name: str, declared: Declared, inputs: Properties, old: Entry | None
    ) -> None:
        before = self._alive()
        try:
            id, outputs = process.create(inputs)
            self._answered("create", process)
        except BaseException as error:
            self._note_posts(name, before, str(error))
            raise
        alive = self._alive()
        assert id in alive, f"the provider answered that '{name}' is {id}, which does not live"
        self._nothing_was_taken(name, alive[id], before.get(id))
        self.unnamed |= {each for each, of in self.cut_off.items() if of == name and each in before} - {id}
        for engine in (self, *self.others):
            engine.released.discard(id)
        if old is not None and old.pending_replacement:
            self.state.entries.remove(old)
        elif old is not None:
            old.name, old.delete = name, True
            first, _, samples = self._replacing.pop()
            self._replacing.append((first, id, samples))
        entry = Entry(name, id, inputs, outputs)
        entry.options(declared)
        self.state.entries.append(entry)
        self._declared[id] = _lasting(declared)
        self._note()

    def _note_posts(self, name: str, before: Collection[str], error: str) -> None:
        """A create has failed, or was cut off: what it has posted is in no state."""
        posted = self._alive().keys() - set(before)
        self.cut_off |= dict.fromkeys(posted, name)
        assert not posted or "Still reserved: nothing new." not in error, f"{posted} live: {error}"

    def _nothing_was_taken(self, name: str, now: ClaimRecord, before: ClaimRecord | None) -> None:
        """A claim is taken over while it can be used, and scaled only if an entry of this name holds it."""
        if before is None or _created_at(before) != _created_at(now):
            return
        assert before.status != "STATUS_FAILED", f"'{name}' has taken over {now.id}, which had failed"
        own = any(entry.id == now.id and entry.name == name for entry in self.state.entries)
        if own or before.instance_count == now.instance_count:
            return
        others = [engine for engine in (self, *self.others) if engine.holds(now.id)]
        whose = "another entry" if self in others else "another stack" if others else "no state"
        raise AssertionError(
            f"'{name}' has taken over {now.id}, which {whose} holds, and changed its count from "
            f"{before.instance_count} to {now.instance_count}"
        )

    def _delete(self, process: Process, entry: Entry, going: Sequence[Entry] = ()) -> None:
        """Delete an entry in the course of deleting those that are `going`."""
        if entry.retain or entry.deleted_with in {each.name for each in going}:
            self._let_go_of([entry])
            return
        held = any(
            each.id == entry.id and not each.delete and each is not entry and each not in going
            for each in self.state.entries
        ) or any(other.holds(entry.id) for other in self.others)
        if not held:
            self.released.add(entry.id)
        process.delete(entry.id, entry.outputs)
        self._answered("delete", process)
        self._note()

    def _let_go_of(self, entries: Collection[Entry]) -> None:
        alive = self._alive()
        self.let_go |= {entry.id for entry in entries if entry.id in alive and not entry.pending_replacement}

    def _delete_what_is_left(
        self, process: Process, program: Program, targets: Collection[str] | None
    ) -> None:
        going = [
            entry
            for entry in reversed(self.state.entries)
            if (entry.delete or self._declaring(program, entry) is None)
            and (targets is None or entry.name in targets)
        ]
        for entry in going:
            if not entry.pending_replacement:
                if entry.protect and not entry.delete:
                    raise Failed(f"'{entry.name}' cannot be deleted because it is protected")
                self._delete(process, entry, going)
            self.state.entries.remove(entry)
            self._note()

    def _wait_until_ready(self, name: str, unready: Collection[str]) -> None:
        entry = self.state.current(name)
        assert entry is not None
        if name in unready:
            raise Failed(f"readiness: '{name}' is not ready in time")
        waited = 0.0
        while True:
            claim = next((c for c in self.emulator.claims() if c.id == entry.id), None)
            if claim is None or claim.status in ("STATUS_DELETING", "STATUS_FAILED"):
                shown = claim.status if claim else "gone"
                raise Failed(f"readiness: '{name}' ({entry.id}) is {shown}")
            wanted = entry.outputs["resources"]["instanceCount"]
            if claim.status == "STATUS_READY" and sum(claim.allocation.values()) >= wanted:
                return
            if waited >= _READY_WITHIN:
                raise Failed(f"readiness: '{name}' ({entry.id}) is {claim.status} after {waited:g} s")
            self.emulator.advance_clock(2.0)
            waited += 2.0
            self._note()

    # What the engine works out by itself

    def _find(self, name: str, declared: Declared) -> Entry | None:
        return self.state.current(name) or (self.state.current(declared.alias) if declared.alias else None)

    def _declaring(self, program: Program, entry: Entry) -> str | None:
        """The name under which the program declares what an entry holds."""
        if entry.name in program:
            return entry.name
        return next((name for name, each in program.items() if self._find(name, each) is entry), None)

    @staticmethod
    def _inputs(name: str, declared: Declared, namespace: str) -> Properties:
        inputs: Properties = {
            "resources": dict(declared.resources),
            "identity": {"declaration": f"{TYPE}::{name}", "namespace": namespace},
        }
        return inputs if declared.name is None else inputs | {"name": declared.name}

    @staticmethod
    def _checked(process: Process, olds: Properties, news: Properties) -> Properties:
        checked = process.check(olds, news)
        if checked.failures:
            raise Failed("; ".join(checked.failures))
        return checked.inputs

    @staticmethod
    def _difference(process: Process, old: Entry, inputs: Properties) -> str:
        diff = process.diff(old.id, old.outputs, inputs)
        # An unknown difference is one of the inputs, which the engine compares itself.
        if diff.changes == "none" or (diff.changes == "unknown" and inputs == old.inputs):
            return "same"
        return "replace" if diff.replaces else "update"


def _created_at(claim: ClaimRecord) -> object:
    status: Any = claim.answer["status"]
    return status["createdAt"]


def _lasting(declared: Declared) -> Any:
    """What is declared of a claim, without the count."""
    return declared.name, {k: v for k, v in declared.resources.items() if k != "instanceCount"}


def _received(value: Any) -> Any:
    """A value as the plugin hands it to a provider."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return float(value)
    if value == UNKNOWN:
        return Unknown()
    if isinstance(value, dict):
        return {key: _received(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_received(item) for item in value]
    return copy.deepcopy(value)


def _sent(value: Any) -> Any:
    """A value as the engine receives it from a plugin."""
    if isinstance(value, Unknown):
        return UNKNOWN
    if isinstance(value, dict):
        return {key: _sent(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_sent(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    assert value is None or isinstance(value, (str, float, bool)), f"{value!r} is no plain JSON"
    return value


__all__ = [
    "Death",
    "Declared",
    "Died",
    "Engine",
    "Entry",
    "Failed",
    "Grpc",
    "InProcess",
    "Program",
    "Start",
    "State",
    "Time",
]
