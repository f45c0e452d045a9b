from __future__ import annotations

import asyncio
import gc
import itertools
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

import coreweave_inference as api
from coreweave_inference import (
    CapacityClaim,
    CapacityClaimResources,
    ClaimState,
    CoreweaveError,
    MissingToken,
    NotFound,
    RequestTimedOut,
    Unauthenticated,
    Unavailable,
    UntrustedCertificate,
)
from coreweave_inference import InvalidSetting as UnusableSetting
from coreweave_inference.emulator import Emulator
from pulumi_coreweave_inference import InvalidReadiness, InvalidSetting, Progress, Readiness
from pulumi_coreweave_inference.capacity_claim import _Program
from pulumi_coreweave_inference.identity import Declaration, key_of
from pulumi_coreweave_inference.progress import progress
from pulumi_coreweave_inference.readiness import (
    Goal,
    Poller,
    Verdict,
    interrupted,
    judge,
    not_ready,
)

RESOURCES = {
    "instanceId": "gb200-4x",
    "instanceCount": 4,
    "zones": ["US-WEST-04A", "US-EAST-04A"],
    "capacityType": "CAPACITY_TYPE_MANAGED",
}
SHORT = [
    {
        "type": "Ready",
        "status": "STATUS_FALSE",
        "reason": "InsufficientCapacity",
        "message": "0 of 2 gb200-4x free",
        "zone": "US-EAST-04A",
    },
    {"type": "Ready", "status": "STATUS_TRUE", "reason": "AllAllocated", "zone": "US-WEST-04A"},
]


def claim(
    state: str = "STATUS_READY", allocated: int = 4, id: str = "c1", conditions: Any = (), **changes: Any
) -> CapacityClaim:
    return CapacityClaim.model_validate(
        {
            "spec": {"id": id, "name": "training", "resources": RESOURCES | changes},
            "status": {
                "status": state,
                "allocatedInstances": allocated,
                "conditions": list(conditions),
                "updatedAt": "2026-05-14T05:31:56.123456789Z",
            },
        }
    )


def goal(id: str = "c1", readiness: Readiness | None = Readiness(), **changes: Any) -> Goal:  # noqa: B008
    resources = CapacityClaimResources.model_validate(RESOURCES | changes)
    return Goal(
        "training", id, resources, readiness, "2026-05-14T05:31:56.123456789Z", "urn:…::a$b::training"
    )


def test_ready_means_ready_as_declared_with_all_instances() -> None:
    assert judge(claim(), goal()) is Verdict.READY
    assert judge(claim(allocated=3), goal()) is Verdict.WAITING
    assert judge(claim(instanceCount=2), goal()) is Verdict.WAITING
    assert judge(claim("STATUS_CREATING"), goal()) is Verdict.WAITING


def test_fewer_instances_suffice_where_fewer_are_asked_for() -> None:
    assert judge(claim(allocated=3), goal(readiness=Readiness(min_instances=3))) is Verdict.READY
    assert judge(claim(allocated=0), goal(readiness=Readiness(min_instances=0))) is Verdict.READY


def test_an_ignored_count_is_not_waited_for_but_the_living_one_is() -> None:
    ignoring = replace(goal(), ignored=frozenset({"instance_count"}))
    assert judge(claim(instanceCount=6, allocated=6), ignoring) is Verdict.READY
    assert judge(claim(instanceCount=2, allocated=2), ignoring) is Verdict.READY
    assert judge(claim(instanceCount=6, allocated=5), ignoring) is Verdict.WAITING
    assert judge(claim(instanceCount=6, allocated=6, zones=["RNO2A"]), ignoring) is Verdict.WAITING
    three = replace(ignoring, readiness=Readiness(min_instances=3))
    assert judge(claim(instanceCount=6, allocated=3), three) is Verdict.READY
    assert "5 of 6 gb200-4x instances allocated (" in not_ready(
        claim(instanceCount=6, allocated=5), ignoring, 5
    )


@pytest.mark.parametrize("state", ["STATUS_ERROR", "STATUS_UPDATING", "STATUS_PAUSED", "17", ""])
def test_error_and_unknown_states_are_waited_through(state: str) -> None:
    assert judge(claim(state), goal()) is Verdict.WAITING


@pytest.mark.parametrize("state", ["STATUS_FAILED", "STATUS_DELETING"])
def test_states_without_a_way_back_end_the_wait(state: str) -> None:
    assert judge(claim(state), goal()) is Verdict.FAILED


@given(st.sampled_from([*ClaimState]), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_nothing_short_of_the_goal_ever_counts_as_ready(
    state: ClaimState, allocated: int, count: int, minimum: int
) -> None:
    seen = claim(state, allocated, instanceCount=count)
    verdict = judge(seen, goal(readiness=Readiness(min_instances=minimum)))
    if verdict is Verdict.READY:
        assert (state, count) == (ClaimState.READY, 4)
        assert allocated >= minimum


def test_without_a_wait_one_look_suffices() -> None:
    assert judge(claim("STATUS_CREATING", 0), goal(readiness=None)) is Verdict.READY


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": "soon"},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"min_instances": -1},
        {"min_instances": 2.5},
        {"min_instances": True},
        {"on_timeout": "ignore"},
        {"on_progress": "print"},
        {"on_progress": asyncio.sleep},
    ],
)
def test_a_readiness_that_cannot_be_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidReadiness):
        Readiness(**arguments)


def test_a_timeout_is_given_in_seconds_as_text_or_as_a_timedelta() -> None:
    assert Readiness().seconds == 2700
    assert Readiness(timeout=90).seconds == 90
    assert Readiness(timeout="1h30m").seconds == 5400
    assert Readiness(timeout=timedelta(minutes=3)).seconds == 180


def test_progress_names_state_allocation_reasons_and_time_left() -> None:
    line = progress(claim("STATUS_CREATING", 2, conditions=SHORT), goal(), 2665)
    assert line == snapshot("2/4, 44m left, CREATING; US-EAST-04A: 0 of 2 gb200-4x free")


def test_the_text_of_a_timeout() -> None:
    waiting = claim("STATUS_CREATING", 2, conditions=SHORT)
    assert not_ready(waiting, goal(), 2700) == snapshot("""\
capacity claim 'training' (id c1) is not ready after 45m: 2 of 4 gb200-4x instances allocated (STATUS_CREATING).
  US-EAST-04A: 0 of 2 gb200-4x free
  Still reserved: 2 of 4 gb200-4x instances; the claim stays in the state.
  Next: run `pulumi up` again to keep waiting; nothing is created twice
        or accept fewer instances: lower instance_count
        or change the zones, which replaces the claim
        or give up: remove the claim from the program; `pulumi preview` shows what that releases
        or set coreweave:wait to false, which does not wait and releases the claim that this one replaces, if any\
""")


def test_fewer_instances_are_proposed_where_the_api_calls_them_ready() -> None:
    assert "lower instance_count, or Readiness(min_instances=…)\n" in not_ready(claim(allocated=2), goal(), 5)


def test_the_text_of_a_failed_claim() -> None:
    assert not_ready(claim("STATUS_FAILED", 0, conditions=SHORT), goal(), 5) == snapshot("""\
capacity claim 'training' (id c1) failed: the API reports STATUS_FAILED, which is final, with 0 of 4 gb200-4x instances allocated.
  US-EAST-04A: 0 of 2 gb200-4x free
  Still reserved: 0 of 4 gb200-4x instances; the claim stays in the state.
  Next: change the declaration (instance type or zones), or create the claim again with `pulumi up --replace 'urn:…::a$b::training'`
        or give up: remove the claim from the program; `pulumi preview` shows what that releases\
""")


URN = "urn:pulumi:test::claims::pulumi-python:dynamic/capacityClaim:CapacityClaim::training"
NAMESPACE = "6f9f9c3e-1f0a-4f0e-9d3f-3f1d1c1b1a10"
STACK = "-9d3f-3f1d1c1b1a10"  # the half of its claims' ids


def replacing(zones: list[str], **changes: Any) -> tuple[Goal, CapacityClaim]:
    """A goal, and the claim that the same declaration with these zones has created."""
    new = replace(goal(**changes), urn=URN, namespace=NAMESPACE)
    earlier = CapacityClaimResources.model_validate(RESOURCES | {"zones": zones})
    declared = Declaration(NAMESPACE, key_of(URN), earlier)
    return new, named(declared.claim_id(0), declared.claim_name(declared.claim_id(0)), zones=zones)


def named(id: str, name: str, **changes: Any) -> CapacityClaim:
    one = claim(id=id, **changes)
    return one.model_copy(update={"spec": one.spec.model_copy(update={"name": name})})


def test_the_text_of_a_timeout_names_the_claim_that_is_kept() -> None:
    new, old = replacing(["US-EAST-04A"])
    waiting = named("c1", "training-c1", state="STATUS_CREATING", allocated=0)
    other = named(f"11111111-1111-5111{STACK}", "serving-1111111")
    assert not_ready(waiting, new, 2700, others=[other, old]) == snapshot("""\
capacity claim 'training' (id c1) is not ready after 45m: 0 of 4 gb200-4x instances allocated (STATUS_CREATING).
  Still reserved: 0 of 4 gb200-4x instances; the claim stays in the state.
                  'training-f3e437a' (id f3e437aa-2fad-55e0-9d3f-3f1d1c1b1a10), which it may replace: 4 of 4 gb200-4x instances, STATUS_READY.
  Next: run `pulumi up` again to keep waiting; nothing is created twice
        or accept fewer instances: lower instance_count
        or change the zones, which replaces the claim
        or give up: declare what 'training-f3e437a' has (4 gb200-4x in US-EAST-04A (CAPACITY_TYPE_MANAGED)) and run `pulumi up`, which keeps that claim and releases this one
        but keep coreweave:wait at true: without the wait, `pulumi up` releases 'training-f3e437a'\
""")


def test_the_way_back_is_the_declaration_that_made_the_claim_that_is_kept() -> None:
    new, _ = replacing(["US-WEST-04A"])
    waiting = claim("STATUS_CREATING", 0)
    earlier = CapacityClaimResources.model_validate(RESOURCES | {"zones": ["US-WEST-04A", "RNO2A"]})
    shown = {
        "zones": ["RNO2A", "US-WEST-04A"],
        "capacityType": "CAPACITY_TYPE_UNSPECIFIED",
    }  # as an API sorts them
    for name, said in (("gpu-a", ", name 'gpu-a')"), (None, ", no name)")):
        declared = Declaration(NAMESPACE, key_of(URN), earlier, name)
        claim_id = declared.claim_id(0)
        old = named(claim_id, declared.claim_name(claim_id), **shown)
        text = not_ready(waiting, new, 2700, others=[old])
        assert f"(4 gb200-4x in US-WEST-04A, RNO2A (CAPACITY_TYPE_MANAGED){said}" in text


def test_the_text_of_a_timeout_names_what_the_stack_holds_besides() -> None:
    new, _ = replacing(["US-EAST-04A"])
    waiting = claim("STATUS_CREATING", 0)
    others = [named(f"1111111{index % 10}-1111-5111{STACK}", f"serving-{index}") for index in range(12)]
    assert "'serving-9' (id" in not_ready(waiting, new, 2700, others=others)
    assert "2 more claims of this stack." in not_ready(waiting, new, 2700, others=others)
    assert not_ready(waiting, new, 2700, others=others[:1]) == snapshot("""\
capacity claim 'training' (id c1) is not ready after 45m: 0 of 4 gb200-4x instances allocated (STATUS_CREATING).
  Still reserved: 0 of 4 gb200-4x instances; the claim stays in the state.
                  'serving-0' (id 11111110-1111-5111-9d3f-3f1d1c1b1a10), which this run has not looked at: 4 of 4 gb200-4x instances, STATUS_READY.
  Next: run `pulumi up` again to keep waiting; nothing is created twice
        or accept fewer instances: lower instance_count
        or change the zones, which replaces the claim
        or give up: return to the earlier declaration, or remove the claim from the program if there is none; `pulumi preview` shows what that keeps and releases
        but keep coreweave:wait at true: without the wait, `pulumi up` releases the claim that this one replaces, if any\
""")
    assert not_ready(waiting, new, 2700, others=None) == snapshot("""\
capacity claim 'training' (id c1) is not ready after 45m: 0 of 4 gb200-4x instances allocated (STATUS_CREATING).
  Still reserved: 0 of 4 gb200-4x instances; the claim stays in the state.
                  The claim that it replaces, if any, is reserved too: the list of claims cannot be read.
  Next: run `pulumi up` again to keep waiting; nothing is created twice
        or accept fewer instances: lower instance_count
        or change the zones, which replaces the claim
        or give up: return to the earlier declaration, or remove the claim from the program if there is none; `pulumi preview` shows what that keeps and releases
        but keep coreweave:wait at true: without the wait, `pulumi up` releases the claim that this one replaces, if any\
""")


@pytest.mark.parametrize("others", [None, [], [claim(id=f"11111111-1111-5111{STACK}")]])
@pytest.mark.parametrize("state", ["STATUS_CREATING", "STATUS_FAILED", "STATUS_DELETING", "STATUS_READY"])
def test_no_text_names_a_command_that_releases_a_replaced_claim(
    state: str, others: list[CapacityClaim] | None
) -> None:
    for seen in (claim(state, 0), claim(state, 2, instanceCount=2), None):
        shown = not_ready(seen, replace(goal(), urn=URN, namespace=NAMESPACE), 60, others=others)
        assert "destroy" not in shown
    assert "destroy" not in interrupted([(claim(state), goal())])


def test_the_text_of_a_changed_claim() -> None:
    assert not_ready(claim(instanceCount=2, allocated=2), goal(), 60) == snapshot("""\
capacity claim 'training' (id c1) differs from the declaration: it was changed outside of Pulumi.
  declared:      4 gb200-4x in US-WEST-04A, US-EAST-04A (CAPACITY_TYPE_MANAGED)
  the API holds: 2 gb200-4x in US-WEST-04A, US-EAST-04A (CAPACITY_TYPE_MANAGED)
  Still reserved: 2 of 2 gb200-4x instances; the claim stays in the state.
  Next: run `pulumi refresh` to record the change, then `pulumi preview` to see how to undo it
        or leave the count to whatever has changed it: ResourceOptions(ignore_changes=["resources.instanceCount"])\
""")


def test_the_text_of_a_vanished_claim() -> None:
    assert not_ready(None, goal(), 60) == snapshot("""\
capacity claim 'training' (id c1) is in the state, but no longer exists: the API does not find it.
  Still reserved: nothing of it, according to the API.
  Next: run `pulumi refresh` to remove it from the state, then `pulumi up` to create a new claim\
""")


def test_the_text_of_an_outage() -> None:
    assert not_ready(None, goal(), 60, "the API does not respond at the moment (unavailable)") == snapshot("""\
capacity claim 'training' (id c1) could not be read for 1m.
  the API does not respond at the moment (unavailable)
  Still reserved: the claim, as far as we know; it stays in the state.
  Next: run `pulumi up` again when the API responds; nothing is created twice\
""")


def test_the_text_of_a_claim_being_deleted() -> None:
    assert not_ready(claim("STATUS_DELETING", 4), goal(), 60) == snapshot("""\
capacity claim 'training' (id c1) is being deleted outside of Pulumi.
  Still reserved: its instances, until the deletion completes; the claim stays in the state.
  Next: run `pulumi refresh` to record it, then `pulumi up` to create a new claim\
""")


class Clock:
    """Time that passes only where the poller pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def pause(self, joined: asyncio.Event, seconds: float) -> None:
        if not joined.is_set():
            self.now += seconds
        await asyncio.sleep(0)


class Script:
    """An API whose answer at a moment is a function of the time."""

    def __init__(self, clock: Clock, at: Callable[[float], list[CapacityClaim] | CoreweaveError]) -> None:
        self.clock, self.at = clock, at
        self.calls: list[tuple[str, Any]] = []
        self.hidden_from_list: set[str] = set()

    def _now(self) -> list[CapacityClaim]:
        answer = self.at(self.clock.now)
        if isinstance(answer, CoreweaveError):
            raise answer
        return answer

    async def get(self, id: str) -> CapacityClaim:
        self.calls.append(("GET", id))
        for found in self._now():
            if found.id == id:
                return found
        raise NotFound("gone")

    async def list(self, *, updated_after: str | datetime | None = None) -> list[CapacityClaim]:
        self.calls.append(("LIST", updated_after))
        return [found for found in self._now() if found.id not in self.hidden_from_list]


class Shown:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.said: list[str] = []


def wait_for(
    at: Callable[[float], list[CapacityClaim] | CoreweaveError],
    *goals: Goal,
    hidden: frozenset[str] = frozenset(),
) -> tuple[list[Any], Script, Shown, Clock]:
    async def main() -> tuple[list[Any], Script, Shown, Clock]:
        clock = Clock()
        script = Script(clock, at)
        script.hidden_from_list |= hidden
        shown = Shown()
        poller = Poller(lambda: script, clock, clock.pause)
        waits: list[Coroutine[Any, Any, CapacityClaim]] = [
            poller.wait(goal, shown.lines.append, shown.warnings.append, shown.said.append) for goal in goals
        ]
        async with asyncio.timeout(30):  # the clock's time is not that of a wait that hangs
            return await asyncio.gather(*waits, return_exceptions=True), script, shown, clock

    return asyncio.run(main())


def creating_until(moment: float, *ids: str) -> Callable[[float], list[CapacityClaim]]:
    return lambda now: [claim(id=id) if now >= moment else claim("STATUS_CREATING", 1, id=id) for id in ids]


def test_the_client_is_closed_when_nothing_reads_and_opened_again() -> None:
    async def main() -> list[str]:
        clock, events = Clock(), []
        script = Script(clock, creating_until(3, "c1", "c2", "c3"))

        def reader() -> Script:
            events.append("open")
            return script

        async def close() -> None:
            events.append("close")
            if late is None:
                join()
            await asyncio.sleep(0)

        def join() -> None:  # while the client is being closed
            nonlocal late
            late = asyncio.create_task(poller.wait(goal("c3"), shown, shown))
            joined.set()

        joined = asyncio.Event()
        late: asyncio.Task[CapacityClaim] | None = None
        shown = Shown().lines.append
        poller = Poller(reader, clock, clock.pause, close=close)
        async with asyncio.timeout(30):
            await asyncio.gather(*(poller.wait(goal(id), shown, shown) for id in ("c1", "c2")))
            await joined.wait()
            assert late is not None
            await late
            await poller.peek(goal("c4"))
            await asyncio.sleep(0)
        return events

    events = asyncio.run(main())
    assert events == ["open", "close"] * (len(events) // 2)
    assert len(events) >= 4


@pytest.mark.filterwarnings("error")
def test_no_connection_is_open_when_a_program_has_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator() as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        with api.Client(emulator.token, endpoint=emulator.url) as client:
            made = client.capacity_claims.create("training", {**RESOURCES, "zones": ["US-WEST-04A"]})

        async def main() -> None:
            program = _Program()
            goal = Goal("training", made.id, made.resources, Readiness(timeout="30s"), None, "urn")
            await program.poller.wait(goal, Shown().lines.append, Shown().lines.append)
            await asyncio.sleep(0.01)

        asyncio.run(main())
        gc.collect()


def test_a_base_url_that_is_not_read_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COREWEAVE_API_ENDPOINT", raising=False)
    monkeypatch.setenv("CW_BASE_URL", "https://staging.example")
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    program = _Program()
    assert program.settings is program.settings
    assert [text.partition(":")[0] for text in warnings] == ["CW_BASE_URL is not read"]


def test_a_ready_claim_is_one_read_and_shows_nothing() -> None:
    (result,), script, shown, _ = wait_for(creating_until(0, "c1"), goal())
    assert result.id == "c1"
    assert [call for call, _ in script.calls] == ["GET"]
    assert not shown.lines


@pytest.mark.parametrize("goals", [(goal(), goal(readiness=None)), (goal(readiness=None), goal())])
def test_a_claim_that_is_waited_for_twice_answers_both(goals: tuple[Goal, Goal]) -> None:
    results, _, _, clock = wait_for(creating_until(30, "c1"), *goals)
    assert [result.id for result in results] == ["c1", "c1"]
    managed = results[0 if goals[0].readiness else 1]
    assert managed.state is ClaimState.READY
    assert clock.now >= 30


def test_an_outage_is_no_time_that_a_claim_has_been_missing() -> None:
    def at(now: float) -> list[CapacityClaim] | CoreweaveError:
        if now < 1 or 120 <= now < 130:
            return []
        return Unavailable("down") if now < 120 else [claim()]

    (result,), *_ = wait_for(at, goal())
    assert result.id == "c1"


def test_many_claims_are_one_list_a_round_bounded_by_the_servers_own_time() -> None:
    results, script, _, clock = wait_for(creating_until(30, "c1", "c2", "c3"), *map(goal, ["c1", "c2", "c3"]))
    assert [result.id for result in results] == ["c1", "c2", "c3"]
    assert {call for call, _ in script.calls} == {"LIST"}
    assert {after.isoformat() for _, after in script.calls} == {"2026-05-14T05:31:46.123456+00:00"}
    assert len(script.calls) <= 3 + clock.now / 3


def test_a_claim_that_list_does_not_show_is_read_by_itself() -> None:
    results, script, _, _ = wait_for(
        creating_until(0, "c1", "c2"), goal("c1"), goal("c2"), hidden=frozenset({"c2"})
    )
    assert [result.id for result in results] == ["c1", "c2"]
    assert ("GET", "c2") in script.calls
    assert ("GET", "c1") not in script.calls


def test_an_outage_does_not_end_the_wait_and_is_shown() -> None:
    def at(now: float) -> list[CapacityClaim] | CoreweaveError:
        return Unavailable("no backend") if 5 < now < 300 else creating_until(400, "c1")(now)

    (result,), _, shown, clock = wait_for(at, goal())
    assert result.id == "c1"
    assert clock.now >= 400
    assert any("no backend" in line for line in shown.lines)


@pytest.mark.parametrize("secrets", [frozenset({"name"}), frozenset({"instanceCount"})])
@pytest.mark.parametrize("error", [Unavailable("hush-name wants 37"), Unauthenticated("hush-name wants 37")])
def test_no_outage_and_no_reason_says_a_secret(secrets: frozenset[str], error: CoreweaveError) -> None:
    told = {
        "type": "Ready",
        "status": "STATUS_FALSE",
        "message": "no room for hush-name",
        "zone": "US-EAST-04A",
    }

    def at(now: float) -> list[CapacityClaim] | CoreweaveError:
        return error if now > 30 else [claim("STATUS_CREATING", 1, conditions=[told])]

    hidden = replace(goal(readiness=Readiness(timeout="2m")), secrets=secrets)
    (failure,), _, shown, _ = wait_for(at, hidden)
    for text in (str(failure), *shown.lines):
        assert "hush-name" not in text
        assert " 37" not in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unauthenticated("token expired"), "reading 20 capacity claims (a0, a1, "),
        (Unavailable("down"), "20 capacity claims are not ready after 45m: 20/80 instances allocated."),
    ],
)
def test_one_cause_of_many_failures_is_told_once(error: CoreweaveError, said: str) -> None:
    goals = [replace(goal(f"c{index}"), resource_name=f"a{index}") for index in range(20)]

    def at(now: float) -> list[CapacityClaim] | CoreweaveError:
        return error if now > 60 else [claim("STATUS_CREATING", 1, id=each.claim_id) for each in goals]

    failures, _, _, _ = wait_for(at, *goals)
    text = str(failures[0])
    assert text.startswith(said)
    assert text.count(str(error.args[0])) == 1
    assert text.count("Next: ") == 1


def test_a_refused_token_ends_the_wait_at_once() -> None:
    (error,), script, _, _ = wait_for(lambda _: Unauthenticated("token expired"), goal())
    assert isinstance(error, pulumi.RunError)
    assert "token expired" in str(error)
    assert "Next: check that COREWEAVE_API_TOKEN or coreweave:token holds a token" in str(error)
    assert len(script.calls) == 1


@pytest.mark.parametrize(
    ("error", "variable"),
    [
        (UnusableSetting("SSL_CERT_FILE: is missing"), "SSL_CERT_FILE"),
        (UntrustedCertificate("expired"), "SSL_CERT_FILE"),
        (MissingToken(), "COREWEAVE_API_TOKEN"),
    ],
)
def test_what_looking_again_does_not_change_ends_the_wait(error: CoreweaveError, variable: str) -> None:
    (failure,), script, _, _ = wait_for(lambda _: error, goal())
    assert isinstance(failure, pulumi.RunError)
    assert variable in str(failure)
    assert len(script.calls) == 1


def test_an_api_slower_than_an_attempt_is_told_with_the_variable() -> None:
    at = lambda _: RequestTimedOut("no complete response from api.example within 10 s")  # noqa: E731
    (error,), _, shown, _ = wait_for(at, goal(readiness=Readiness(timeout="2m")))
    for told in (str(error), shown.lines[0]):
        assert "within 10 s; set COREWEAVE_HTTP_TIMEOUT (or coreweave:httpTimeout), such as 60s" in told


def test_progress_is_shown_on_change_and_at_least_every_fifteen_seconds() -> None:
    _, _, shown, clock = wait_for(creating_until(300, "c1"), goal())
    assert 300 / 21 <= len(shown.lines) <= 2 + 300 / 15
    assert shown.said == ["READY after 5m2s, 4 of 4 gb200-4x instances"]
    assert clock.now < 310


def progress_of(
    at: Callable[[float], list[CapacityClaim] | CoreweaveError], secrets: str = "", **readiness: Any
) -> list[Progress]:
    """What the program's own callback sees of a wait."""
    seen: list[Progress] = []
    watched = goal(readiness=Readiness(on_progress=seen.append, **readiness))
    wait_for(at, replace(watched, secrets=frozenset(secrets.split())))
    return seen


def test_the_programs_callback_sees_each_change_and_the_end() -> None:
    def at(now: float) -> list[CapacityClaim] | CoreweaveError:
        if 100 <= now < 200:
            return Unavailable("down")
        return [claim() if now >= 300 else claim("STATUS_CREATING", 1 + (now > 50), conditions=SHORT)]

    seen = progress_of(at)
    short = ("US-EAST-04A: 0 of 2 gb200-4x free",)
    assert [(p.outcome, p.state, p.allocated, p.requested, p.reasons, bool(p.outage)) for p in seen] == [
        ("waiting", "STATUS_CREATING", 1, 4, short, False),
        ("waiting", "STATUS_CREATING", 2, 4, short, False),
        ("waiting", "STATUS_CREATING", 2, 4, short, True),
        ("waiting", "STATUS_CREATING", 2, 4, short, False),
        ("ready", "STATUS_READY", 4, 4, (), False),
    ]
    assert {(p.resource_name, p.claim_id, p.urn, round(p.waited + p.left)) for p in seen} == {
        ("training", "c1", "urn:…::a$b::training", 2700)
    }
    assert seen[-1].waited >= 300


@pytest.mark.parametrize(
    ("at", "readiness", "outcome"),
    [
        (creating_until(0, "c1"), {}, "ready"),
        (creating_until(90, "c1"), {"timeout": 30}, "timed_out"),
        (creating_until(90, "c1"), {"timeout": 30, "on_timeout": "warn"}, "timed_out"),
        (lambda _: [claim("STATUS_FAILED", 0)], {}, "failed"),
        (lambda _: [], {}, "failed"),
        (lambda _: Unauthenticated("expired"), {}, "failed"),
    ],
)
def test_the_last_call_says_how_the_wait_ended(at: Any, readiness: dict[str, Any], outcome: str) -> None:
    outcomes = [progress.outcome for progress in progress_of(at, **readiness)]
    assert outcomes == ["waiting"] * (len(outcomes) - 1) + [outcome]


def test_the_callback_does_not_see_a_secret() -> None:
    at = lambda now: [claim() if now > 9 else claim("STATUS_CREATING", 1, conditions=SHORT)]  # noqa: E731
    for seen in progress_of(at, "instanceCount"):
        assert (seen.allocated, seen.requested, seen.reasons) == (None, None, ())


def test_a_callback_that_fails_is_named_once_and_the_wait_goes_on() -> None:
    calls = []

    def fail(seen: Progress) -> None:
        calls.append(seen)
        raise OSError("no \x1b[31mroom")

    (found,), _, shown, _ = wait_for(creating_until(60, "c1"), goal(readiness=Readiness(on_progress=fail)))
    assert found.state == ClaimState.READY
    assert len(calls) == 1
    (warning,) = shown.warnings
    assert warning.startswith("on_progress failed and is not called again: OSError: no ")
    assert "\x1b" not in warning


def test_a_timeout_fails_with_all_that_is_known() -> None:
    at = lambda _: [claim("STATUS_CREATING", 2, conditions=SHORT)]  # noqa: E731
    (error,), _, _, clock = wait_for(at, goal(readiness=Readiness(timeout="2m")))
    assert isinstance(error, pulumi.RunError)
    for part in ("'training'", "(id c1)", "2 of 4 gb200-4x", "US-EAST-04A: 0 of 2", "2m"):
        assert part in str(error)
    assert 120 <= clock.now < 126


def test_one_list_at_the_end_finds_the_claim_that_is_kept() -> None:
    new, old = replacing(["US-EAST-04A"], readiness=Readiness(timeout="2m"))
    known = f"22222222-2222-5222{STACK}"
    foreign = "33333333-3333-4333-8333-333333333333"

    def at(now: float) -> list[CapacityClaim]:
        return [claim("STATUS_CREATING", 0), old, named(known, "known"), named(foreign, "foreign")]

    (error, _), script, _, _ = wait_for(at, new, replace(goal(known), namespace=NAMESPACE))
    assert f"'{old.name}' (id {old.id}), which it may replace: 4 of 4 gb200-4x" in str(error)
    assert "foreign" not in str(error)
    assert known not in str(error)
    assert [call for call in script.calls if call == ("LIST", None)] == [("LIST", None)]


def test_a_list_that_fails_at_the_end_is_said() -> None:
    new, _ = replacing(["US-EAST-04A"], readiness=Readiness(timeout="2m"))

    async def main() -> Any:
        clock = Clock()

        class Half(Script):
            async def list(self, *, updated_after: str | datetime | None = None) -> list[CapacityClaim]:
                raise Unavailable("no list")

        poller = Poller(lambda: Half(clock, lambda _: [claim("STATUS_CREATING", 0)]), clock, clock.pause)
        await poller.wait(new, Shown().lines.append, Shown().lines.append)

    with pytest.raises(pulumi.RunError, match="The claim that it replaces, if any, is reserved too"):
        asyncio.run(main())


def test_a_claim_that_joins_during_the_list_at_the_end_is_waited_for() -> None:
    async def main() -> list[Any]:
        clock = Clock()
        late: list[asyncio.Task[CapacityClaim]] = []
        ignore = Shown().lines.append

        class Joining(Script):
            async def list(self, *, updated_after: str | datetime | None = None) -> list[CapacityClaim]:
                if updated_after is None and not late:
                    late.append(asyncio.create_task(poller.wait(goal("c2"), ignore, ignore)))
                    await asyncio.sleep(0)
                return await super().list(updated_after=updated_after)

        def at(now: float) -> list[CapacityClaim]:
            return [
                claim("STATUS_FAILED", 0),
                claim("STATUS_READY" if now > 50 else "STATUS_CREATING", id="c2"),
            ]

        poller = Poller(lambda: script, clock, clock.pause)
        script = Joining(clock, at)
        failed = asyncio.create_task(poller.wait(goal("c1"), ignore, ignore))
        return await asyncio.gather(failed, return_exceptions=True) + [(await late[0]).id]

    failed, late = asyncio.run(main())
    assert "(id c1) failed" in str(failed)
    assert late == "c2"


def test_a_timeout_that_only_warns_goes_on_with_what_is_there() -> None:
    at = lambda _: [claim("STATUS_CREATING", 2)]  # noqa: E731
    (result,), _, shown, _ = wait_for(at, goal(readiness=Readiness(timeout=10, on_timeout="warn")))
    assert result.status.allocated_instances == 2
    assert "2 of 4" in shown.warnings[0]


def test_all_failures_are_told_together_after_the_other_claims_are_done() -> None:
    def at(now: float) -> list[CapacityClaim]:
        return [
            claim("STATUS_FAILED", 0, id="c1"),
            claim("STATUS_READY" if now > 100 else "STATUS_CREATING", id="c2"),
            claim("STATUS_FAILED" if now > 50 else "STATUS_CREATING", 0, id="c3"),
        ]

    (first, second, third), _, _, clock = wait_for(at, goal("c1"), goal("c2"), goal("c3"))
    assert second.id == "c2"
    assert clock.now > 100
    assert first is third
    assert "(id c1)" in str(first)
    assert "(id c3)" in str(first)


def test_a_claim_that_is_gone_fails_after_a_while_not_at_one_stale_read() -> None:
    def at(now: float) -> list[CapacityClaim]:
        return [] if now < 10 else [claim()]

    (result,), *_ = wait_for(at, goal())
    assert result.id == "c1"


@pytest.mark.parametrize("readiness", [Readiness(), None])
def test_a_claim_that_is_gone_fails_after_the_read_grace(readiness: Readiness | None) -> None:
    (error,), _, _, clock = wait_for(lambda _: [], goal(readiness=readiness))
    assert "no longer exists" in str(error)
    assert "run `pulumi refresh` to remove it from the state" in str(error)
    assert 20 <= clock.now < 25


def test_without_a_wait_an_outage_lasts_as_long_as_calls_are_retried() -> None:
    (error,), _, _, clock = wait_for(lambda _: Unavailable("no backend"), goal(readiness=None))
    assert "could not be read for 2m" in str(error)
    assert "no backend" in str(error)
    assert 120 <= clock.now < 126


def test_a_claim_changed_outside_fails_before_its_timeout() -> None:
    (error,), _, _, clock = wait_for(lambda _: [claim(instanceCount=2, allocated=2)], goal())
    assert "it was changed outside of Pulumi" in str(error)
    assert 20 <= clock.now < 25


def test_an_answer_from_before_the_last_change_is_waited_through() -> None:
    def at(now: float) -> list[CapacityClaim]:
        return [claim(instanceCount=2, allocated=2)] if now < 15 else [claim()]

    (result,), *_ = wait_for(at, goal())
    assert result.resources.instance_count == 4


def test_an_unforeseen_error_reaches_every_wait() -> None:
    def at(_: float) -> list[CapacityClaim]:
        raise ZeroDivisionError

    results, *_ = wait_for(at, goal("c1"), goal("c2"))
    assert all(isinstance(result, ZeroDivisionError) for result in results)
    assert [progress.outcome for progress in progress_of(at)] == ["failed"]


def test_previewed_claims_share_one_read_and_survive_an_outage() -> None:
    async def main(at: Any) -> tuple[list[Any], list[Any]]:
        clock = Clock()
        script = Script(clock, at)
        poller = Poller(lambda: script, clock, clock.pause)
        seen = await asyncio.gather(*(poller.peek(goal(id)) for id in ("c1", "c2", "c4")))
        return list(seen), script.calls

    seen, calls = asyncio.run(main(creating_until(0, "c1", "c2")))
    assert [found and found.id for found in seen] == ["c1", "c2", None]
    assert [call for call, _ in calls] == ["LIST", "GET"]
    seen, _ = asyncio.run(main(lambda _: Unavailable("down")))
    assert seen == [None, None, None]


def test_an_interrupt_says_which_claims_are_still_reserved() -> None:
    seen = claim("STATUS_CREATING", 2)
    assert interrupted([(seen, goal("c1")), (None, goal("c2"))]) == snapshot("""\
interrupted (by Ctrl-C, or as another resource failed) while waiting for 2 capacity claims.
  capacity claim 'training' (id c1): CREATING, 2 of 4 gb200-4x
  capacity claim 'training' (id c2): not readable yet
  Still reserved: all of them, and the claims that they replace; they stay in the state. If Pulumi lists outputs as removed ("- name"), nothing was released: the program ended before they were known.
  Next: run `pulumi up` to keep waiting; nothing is created twice\
""")
    many = interrupted((None, goal(f"c{index}")) for index in range(12))
    assert "and 2 more" in many


def test_a_claim_that_a_list_has_shown_ready_needs_no_read_of_its_own() -> None:
    async def main() -> tuple[list[Any], list[Any]]:
        clock = Clock()
        script = Script(clock, creating_until(0, "c1", "c2", "c3"))
        poller = Poller(lambda: script, clock, clock.pause)
        ignore = Shown().lines.append
        first = await asyncio.gather(*(poller.wait(goal(name), ignore, ignore) for name in ("c1", "c2")))
        told = Readiness(on_progress=outcomes.append)
        later = await poller.wait(goal("c3", told), ignore, ignore)
        return [*first, later], script.calls

    outcomes: list[Progress] = []
    seen, calls = asyncio.run(main())
    assert [progress.outcome for progress in outcomes] == ["ready"]
    assert [found.id for found in seen] == ["c1", "c2", "c3"]
    assert [call for call, _ in calls] == ["LIST"]


def test_an_earlier_list_says_nothing_of_a_claim_that_was_changed_since() -> None:
    async def main() -> list[Any]:
        clock = Clock()
        script = Script(clock, creating_until(0, "c1", "c2", "c3"))
        poller = Poller(lambda: script, clock, clock.pause)
        ignore = Shown().lines.append
        await asyncio.gather(*(poller.wait(goal(name), ignore, ignore) for name in ("c1", "c2")))
        changed = Goal("c3", "c3", goal("c3").resources, Readiness(), "2026-05-14T06:00:00Z")
        await poller.wait(changed, ignore, ignore)
        return script.calls

    assert [call for call, _ in asyncio.run(main())] == ["LIST", "GET"]


def test_a_preview_reads_nothing_that_a_list_of_the_same_run_has_shown() -> None:
    async def main() -> tuple[CapacityClaim | None, list[Any]]:
        clock = Clock()
        script = Script(clock, creating_until(0, "c1", "c2"))
        poller = Poller(lambda: script, clock, clock.pause)
        ignore = Shown().lines.append
        await asyncio.gather(*(poller.wait(goal(name), ignore, ignore) for name in ("c1", "c2")))
        return await poller.peek(goal("c2")), script.calls

    seen, calls = asyncio.run(main())
    assert seen is not None
    assert seen.id == "c2"
    assert [call for call, _ in calls] == ["LIST"]


def test_ctrl_c_ends_every_wait_with_what_is_held() -> None:
    async def main() -> list[Any]:
        clock = Clock()
        script = Script(clock, creating_until(100, "c1", "c2"))

        async def pause(joined: asyncio.Event, seconds: float) -> None:
            await clock.pause(joined, seconds)
            if clock.now > 5:
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0.01)

        poller = Poller(lambda: script, clock, pause)
        ignore = Shown().lines.append
        waits = [poller.wait(goal(name), ignore, ignore) for name in ("c1", "c2")]
        return await asyncio.gather(*waits, return_exceptions=True)

    for ended in asyncio.run(main()):
        assert isinstance(ended, pulumi.RunError)
        assert str(ended).startswith(
            "interrupted (by Ctrl-C, or as another resource failed) while waiting for 2 capacity claims."
        )


@pytest.mark.parametrize("kind", ["signal", "loop", "ignored"])
def test_a_wait_puts_the_programs_own_handler_of_sigint_back(kind: str) -> None:
    interrupts: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if kind == "loop":
            loop.add_signal_handler(signal.SIGINT, interrupts.append, signal.SIGINT)
        elif kind == "signal":
            signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
        else:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        clock = Clock()
        poller = Poller(lambda: Script(clock, creating_until(3, "c1")), clock, clock.pause)
        await poller.wait(goal("c1"), Shown().lines.append, Shown().lines.append)
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.05)

    before = signal.getsignal(signal.SIGINT)
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupts == ([] if kind == "ignored" else [signal.SIGINT])


def test_a_handler_that_is_set_during_a_wait_stays() -> None:
    def own(number: int, frame: Any) -> None: ...

    async def main() -> object:
        clock = Clock()

        async def pause(joined: asyncio.Event, seconds: float) -> None:
            await clock.pause(joined, seconds)
            signal.signal(signal.SIGINT, own)

        poller = Poller(lambda: Script(clock, creating_until(3, "c1")), clock, pause)
        await poller.wait(goal("c1"), Shown().lines.append, Shown().lines.append)
        await asyncio.sleep(0)
        return signal.getsignal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    try:
        assert asyncio.run(main()) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_before_anything_is_waited_for_changes_nothing() -> None:
    async def main() -> CapacityClaim:
        clock = Clock()
        poller = Poller(lambda: Script(clock, creating_until(0, "c1")), clock, clock.pause)
        poller._interrupted()
        return await poller.wait(goal("c1"), Shown().lines.append, Shown().lines.append)

    assert asyncio.run(main()).id == "c1"


def test_a_claim_that_joins_as_the_last_wait_ends_is_looked_at() -> None:
    async def main() -> list[str]:
        clock = Clock()
        poller = Poller(lambda: Script(clock, creating_until(0, "c1", "c2")), clock, clock.pause)
        ignore = Shown().lines.append
        async with asyncio.timeout(5):  # in this very task, so that the second wait begins in the same pass
            return [(await poller.wait(goal(name), ignore, ignore)).id for name in ("c1", "c2")]

    assert asyncio.run(main()) == ["c1", "c2"]


def test_a_setting_that_cannot_be_understood_ends_the_wait() -> None:
    async def main() -> None:
        def reader() -> Script:
            raise InvalidSetting("COREWEAVE_API_ENDPOINT", "must be https")

        await Poller(reader, lambda: 0.0).wait(goal(), Shown().lines.append, Shown().lines.append)

    with pytest.raises(InvalidSetting, match="must be https"):
        asyncio.run(main())


def test_a_wait_in_another_thread_goes_without_the_signal() -> None:
    with ThreadPoolExecutor(1) as threads:
        (result,), *_ = threads.submit(wait_for, creating_until(3, "c1"), goal()).result()
    assert result.id == "c1"


def test_a_claim_that_joins_a_wait_is_looked_at_before_the_pause_is_over() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        looks = 0
        thrice = asyncio.Event()  # from then on the pauses are seconds

        def at(_: float) -> list[CapacityClaim]:
            nonlocal looks
            looks += 1
            if looks == 3:
                thrice.set()
            return [claim("STATUS_CREATING", 1, id="c1"), claim(id="c2")]

        script = Script(Clock(), at)
        poller = Poller(lambda: script, loop.time)
        ignore = Shown().lines.append
        first = asyncio.create_task(poller.wait(goal("c1"), ignore, ignore))
        await thrice.wait()
        begun = loop.time()
        await poller.wait(goal("c2"), ignore, ignore)
        first.cancel()
        return loop.time() - begun

    assert asyncio.run(main()) < 1


def test_a_wait_that_was_given_up_does_not_disturb_the_end_of_the_others() -> None:
    async def main() -> list[Any]:
        clock = Clock()
        given_up: list[asyncio.Task[CapacityClaim]] = []

        def at(now: float) -> list[CapacityClaim] | CoreweaveError:
            if now > 5:
                given_up[0].cancel()
                return Unauthenticated("the token is refused")
            return [claim("STATUS_CREATING", 1, id=id) for id in ("c1", "c2")]

        poller = Poller(lambda: Script(clock, at), clock, clock.pause)
        ignore = Shown().lines.append
        waits = [asyncio.create_task(poller.wait(goal(name), ignore, ignore)) for name in ("c1", "c2")]
        given_up.append(waits[0])
        return await asyncio.gather(*waits, return_exceptions=True)

    first, second = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, pulumi.RunError)


def test_an_error_that_is_not_the_apis_is_shown_and_the_wait_goes_on() -> None:
    (result,), _, shown, _ = wait_for(lambda now: CoreweaveError("not yet") if now < 3 else [claim()], goal())
    assert result.id == "c1"
    assert "the API does not respond at the moment (not yet)" in shown.lines[0]


def test_claims_that_join_one_by_one_are_seen_by_ever_fewer_lists() -> None:
    async def main() -> tuple[list[tuple[str, float]], float]:
        clock = Clock()
        read: list[tuple[str, float]] = []
        ids = [f"c{index}" for index in range(400)]
        poller = Poller(lambda: script, clock, pause=lambda joined, seconds: pause(joined, seconds))
        ignore = Shown().lines.append
        waits: list[asyncio.Task[CapacityClaim]] = []

        def at(now: float) -> list[CapacityClaim]:
            read.append((script.calls[-1][0], now))
            return [claim(id=id) for id in ids[: len(waits)]]

        async def pause(joined: asyncio.Event, seconds: float) -> None:
            if len(waits) < len(ids) and seconds >= 0.05:  # twenty claims a second
                clock.now += 0.05
                join()
            else:
                await clock.pause(joined, seconds)
            await asyncio.sleep(0)

        def join() -> None:
            one = Goal("training", ids[len(waits)], goal().resources, Readiness(), str(clock.now))
            waits.append(asyncio.create_task(poller.wait(one, ignore, ignore)))

        script = Script(clock, at)
        while len(waits) < len(ids):
            join()  # whenever all were ready, the wait has ended
            await asyncio.gather(*waits)
        return read, clock.now

    read, ended = asyncio.run(main())
    moments = [moment for _, moment in read]
    assert len(read) <= 10
    assert [call for call, _ in read].count("GET") <= 1
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) >= 0.5
    assert ended <= 400 * 0.05 + 1


def test_a_waiter_that_gives_up_does_not_end_the_other_waits() -> None:
    async def main() -> CapacityClaim:
        clock = Clock()
        script = Script(clock, creating_until(5, "c1", "c2"))
        poller = Poller(lambda: script, clock, clock.pause)
        ignore = Shown().lines.append
        waits = [asyncio.create_task(poller.wait(goal(name), ignore, ignore)) for name in ("c1", "c2")]
        await asyncio.sleep(0)
        waits[0].cancel()
        return await waits[1]

    assert asyncio.run(main()).id == "c2"
