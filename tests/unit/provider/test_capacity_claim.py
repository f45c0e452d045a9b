"""Users' own unit tests: a program with claims under `set_mocks`, without engine, API or token."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks, settings, stack
from support.sdk import SDK

import pulumi_coreweave_inference as inference
from pulumi_coreweave_inference import capacity_claim

# The SDK's mock monitor opens an event loop in each worker thread and closes none.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Recorder(pulumi.runtime.Mocks):
    """Answers every resource with its inputs and what the test adds."""

    def __init__(self, **added: Any) -> None:
        self.added = added
        self.seen: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.seen[args.name] = dict(args.inputs)
        return f"{args.name}-id", dict(args.inputs) | self.added

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COREWEAVE_API_TOKEN", raising=False)
    monkeypatch.delenv("CW_API_TOKEN", raising=False)

    def refuse(*_: Any) -> None:
        raise AssertionError("a program under set_mocks touched the network")

    monkeypatch.setattr("httpx.AsyncClient.send", refuse)


@pytest.fixture
def run() -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a program under mocks and answer the values of the outputs it returns."""

    def run(
        program: Callable[[], dict[str, pulumi.Output[Any]]],
        recorder: Recorder | None = None,
        preview: bool = False,
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}

        async def main() -> None:
            mocks.set_mocks(recorder or Recorder(), preview=preview)
            settings.ROOT.set(None)

            def inside() -> None:
                for name, output in program().items():
                    output.apply(lambda value, name=name: values.update({name: value}))

            await stack.run_pulumi_func(inside)

        asyncio.run(main())
        return values

    yield run
    settings.reset_options()
    gc.collect()


def claim(name: str = "training", **arguments: Any) -> inference.CapacityClaim:
    resources = inference.CapacityClaimResourcesArgs(
        instance_id="gb200-4x", instance_count=4, zones=["US-WEST-04A", "US-EAST-04A"]
    )
    return inference.CapacityClaim(name, **({"resources": resources} | arguments))


def test_a_claim_under_mocks_is_ready_with_all_its_instances(run: Callable[..., dict[str, Any]]) -> None:
    def program() -> dict[str, pulumi.Output[Any]]:
        training = claim()
        return {
            "id": training.id,
            "status": training.status,
            "allocated": training.allocated_instances,
            "pending": training.pending_instances,
            "conditions": training.conditions,
            "zones": training.resources.zones,
            "ready": training.ready.apply(lambda ready: ready is training),
        }

    assert run(program) == {
        "id": "training-id",
        "status": "STATUS_READY",
        "allocated": 4,
        "pending": 0,
        "conditions": [],
        "zones": ["US-WEST-04A", "US-EAST-04A"],
        "ready": True,
    }


def test_a_mock_may_say_what_the_api_reports(run: Callable[..., dict[str, Any]]) -> None:
    def program() -> dict[str, pulumi.Output[Any]]:
        training = claim()
        return {"status": training.status, "allocated": training.allocated_instances}

    recorder = Recorder(status="STATUS_CREATING", allocatedInstances=1, organizationId="cw0a1b")
    assert run(program, recorder) == {"status": "STATUS_CREATING", "allocated": 1}


@pytest.mark.parametrize(
    "resources",
    [
        {"instance_id": "gb200-4x", "instance_count": 4, "zones": ["RNO2A"]},
        {"instanceId": "gb200-4x", "instanceCount": 4, "zones": ["RNO2A"]},
        inference.CapacityClaimResourcesArgs(instance_id="gb200-4x", instance_count=4, zones=["RNO2A"]),
    ],
)
def test_resources_are_given_as_args_or_as_a_dict_in_either_spelling(
    run: Callable[..., dict[str, Any]], resources: Any
) -> None:
    recorder = Recorder()
    run(lambda: {"id": claim(resources=resources).id}, recorder)
    sent = recorder.seen["training"]
    assert sent["resources"] == {"instanceId": "gb200-4x", "instanceCount": 4, "zones": ["RNO2A"]}


def test_claims_of_a_run_share_a_namespace_and_have_their_own_keys(
    run: Callable[..., dict[str, Any]],
) -> None:
    recorder = Recorder()

    def program() -> dict[str, pulumi.Output[Any]]:
        team = pulumi.ComponentResource("acme:index:Team", "team")
        claims = [claim("a"), claim("b"), claim("c", opts=pulumi.ResourceOptions(parent=team))]
        return {str(index): one.id for index, one in enumerate(claims)}

    run(program, recorder)
    assert {recorder.seen[name]["identity"]["namespace"] for name in "abc"} == {"claims-id"}
    assert [recorder.seen[name]["identity"]["declaration"] for name in "abc"] == [
        "pulumi-python:dynamic/capacityClaim:CapacityClaim::a",
        "pulumi-python:dynamic/capacityClaim:CapacityClaim::b",
        "acme:index:Team$pulumi-python:dynamic/capacityClaim:CapacityClaim::c",
    ]


def test_served_components_have_namespaces_of_their_own(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity_claim, "_is_served", lambda: True)
    recorder = Recorder()

    def program() -> dict[str, pulumi.Output[Any]]:
        team = pulumi.ComponentResource("acme:index:Team", "team")
        parents = {"a": team, "b": team, "c": None}
        return {
            name: claim(name, opts=pulumi.ResourceOptions(parent=parent)).id
            for name, parent in parents.items()
        }

    run(program, recorder)
    namespaces = {name: recorder.seen[name]["identity"]["namespace"] for name in "abc"}
    assert namespaces == {"a": "team-claims-id", "b": "team-claims-id", "c": "c-claims-id"}


def test_each_run_in_one_process_has_a_namespace_of_its_own(run: Callable[..., dict[str, Any]]) -> None:
    for _ in range(2):
        recorder = Recorder()
        run(lambda: {"id": claim().id}, recorder)
        assert set(recorder.seen) == {"claims", "training"}


def under_test(program: Callable[[], pulumi.Output[Any]]) -> Any:
    """What the program's output is in a test as users write it: nothing of the last one is cleared."""
    seen: list[Any] = []
    pulumi.runtime.test(lambda: program().apply(seen.append))()
    return seen[0]


@pytest.mark.parametrize("shared", [False, True], ids=["mocks of its own", "shared mocks"])
def test_each_test_under_mocks_sees_its_own_namespace(shared: bool) -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    recorder = Recorder()
    mocks.set_mocks(recorder, preview=False)
    try:
        for _ in range(3):
            recorder.seen.clear()
            if not shared:
                mocks.set_mocks(recorder, preview=False)
            assert under_test(lambda: pulumi.Output.all(claim().id, claim("b").id)) == ["training-id", "b-id"]
            assert set(recorder.seen) == {"claims", "training", "b"}
    finally:
        asyncio.get_event_loop().close()
        asyncio.set_event_loop(None)
        settings.reset_options()


OUTPUTS = [
    name
    for name, member in vars(inference.CapacityClaim).items()
    if isinstance(member, property) and name != "ready"
]


@pytest.mark.parametrize("returned", ["nothing", "None", "inputs"])
def test_no_output_under_mocks_is_none(run: Callable[..., dict[str, Any]], returned: str) -> None:
    class Forgetful(Recorder):
        def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
            given = {"nothing": {}, "None": dict.fromkeys(args.inputs), "inputs": dict(args.inputs)}
            return f"{args.name}-id", given[returned]

    def program() -> dict[str, pulumi.Output[Any]]:
        claims = {
            "declared": claim(),
            "found": inference.CapacityClaim.get("found", "5f0a9d38-9c1d-4e53-8a55-7b6f0e1d2c3b"),
        }
        fields = inspect.get_annotations(inference.CapacityClaimResources)
        return {f"{kind}.{name}": getattr(one, name) for kind, one in claims.items() for name in OUTPUTS} | {
            f"{kind}.resources.{field}": getattr(one.resources, field)
            for kind, one in claims.items()
            for field in fields
        }

    values = run(program, Forgetful())
    assert len(values) == 2 * (10 + 4)
    assert [name for name, value in values.items() if value is None] == []
    assert values["declared.name"] == "training-0000000"
    assert values["declared.resources.instance_count"] == 4  # the SDK falls back to the inputs


def test_a_preview_under_mocks_reads_nothing(run: Callable[..., dict[str, Any]]) -> None:
    assert run(lambda: {"id": claim().id, "status": claim("b").status}, preview=True) == {"id": "training-id"}


@pytest.mark.parametrize("readiness", ["45m", False, {"timeout": "45m"}])
def test_a_readiness_of_another_kind_is_refused_at_once(readiness: Any) -> None:
    with pytest.raises(inference.InvalidReadiness) as refused:
        inference.CapacityClaim("training", resources={}, readiness=readiness)
    assert str(refused.value) == (
        "capacity claim 'training': readiness must be a Readiness, such as "
        f'Readiness(timeout="45m"), or None, not {readiness!r}'
    )


@pytest.mark.parametrize("preview", [False, True])
def test_other_resources_can_wait_for_a_claim(run: Callable[..., dict[str, Any]], preview: bool) -> None:
    def program() -> dict[str, pulumi.Output[Any]]:
        training = claim()
        later = claim("later", opts=pulumi.ResourceOptions(depends_on=[training, training.ready]))
        child = claim("child", opts=pulumi.ResourceOptions(parent=training))
        return {"later": later.id, "child": child.id, "urn": training.urn.apply(lambda urn: urn[-10:])}

    assert run(program, preview=preview) == {"later": "later-id", "child": "child-id", "urn": "::training"}


def test_an_output_that_is_known_at_once_stays_secret(run: Callable[..., dict[str, Any]]) -> None:
    def program() -> dict[str, pulumi.Output[Any]]:
        training = inference.CapacityClaim("training", resources={}, name=pulumi.Output.secret("training"))
        assert training.name is training.name
        return {"name": pulumi.Output.from_input(training.name.is_secret()), "id": training.id}

    assert run(program) == {"name": True, "id": "training-id"}


def test_declarations_in_several_threads_leave_tracebacks_unlimited() -> None:
    def declare(_: int) -> None:
        for _ in range(300):
            with capacity_claim._few_frames():
                time.sleep(0)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(declare, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert not hasattr(sys, "tracebacklimit")


@pytest.mark.parametrize("limit", [None, 1])
def test_the_state_holds_the_innermost_frames_of_a_declaration(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    stacks: dict[str, list[str]] = {}
    register = mocks.MockMonitor.RegisterResource

    def record(monitor: Any, request: Any) -> Any:
        stacks[request.name] = [frame.pc.uri.rpartition("/")[2] for frame in request.stackTrace.frames]
        return register(monitor, request)

    monkeypatch.setattr(mocks.MockMonitor, "RegisterResource", record)
    if limit is not None:
        monkeypatch.setattr(sys, "tracebacklimit", limit, raising=False)
    run(lambda: {"id": claim("direct").id})
    here = Path(__file__).name
    assert stacks["direct"] == (["capacity_claim.py", here, here] if limit is None else [])
    assert getattr(sys, "tracebacklimit", None) == limit


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("resources.instanceCount", {"instance_count"}),
        ('resources["instanceCount"]', {"instance_count"}),
        ('["resources"]["instanceCount"]', {"instance_count"}),
        ("resources.zones[0]", {"zones"}),
        ("resources.*", {"instance_id", "instance_count", "zones", "capacity_type"}),
        ("resources", {"instance_id", "instance_count", "zones", "capacity_type"}),
        ("*", {"instance_id", "instance_count", "zones", "capacity_type"}),
        ("resources.instance_count", set()),
        ("name", set()),
        ("", set()),
    ],
)
def test_the_fields_that_ignore_changes_leaves_to_others(path: str, fields: set[str]) -> None:
    assert capacity_claim._ignored_fields(pulumi.ResourceOptions(ignore_changes=[path])) == fields


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_changes": ["resources.instance_count"]},
        {"custom_timeouts": pulumi.CustomTimeouts(create="2h")},
        {"import_": "5f0a9d38-9c1d-4e53-8a55-7b6f0e1d2c3b"},
    ],
)
def test_an_option_without_effect_fails_the_program(
    run: Callable[..., dict[str, Any]], options: dict[str, Any]
) -> None:
    recorder = Recorder()
    with pytest.raises(inference.ClaimError, match=rf"^capacity claim 'training': {next(iter(options))}"):
        run(lambda: {"id": claim(opts=pulumi.ResourceOptions(**options)).id}, recorder)
    assert recorder.seen == {}


def test_a_path_that_a_transformation_adds_is_checked_too(run: Callable[..., dict[str, Any]]) -> None:
    def ignore(path: str) -> Callable[[], dict[str, pulumi.Output[Any]]]:
        def add(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult:
            more = pulumi.ResourceOptions(ignore_changes=[path])
            return pulumi.ResourceTransformationResult(
                args.props, pulumi.ResourceOptions.merge(args.opts, more)
            )

        return lambda: {"id": claim(opts=pulumi.ResourceOptions(transformations=[add])).id}

    assert run(ignore("resources.instanceCount")) == {"id": "training-id"}
    with pytest.raises(inference.ClaimError, match=r'Next: write "resources\.instanceCount"'):
        run(ignore("resources.instance_count"))


def test_a_field_in_both_spellings_is_refused(run: Callable[..., dict[str, Any]]) -> None:
    both = {"instance_id": "gb200-4x", "instance_count": 8, "instanceCount": 2, "zones": ["RNO2A"]}
    with pytest.raises(inference.ClaimError) as refused:
        run(lambda: {"id": claim(resources=both).id})
    assert str(refused.value) == (
        "capacity claim 'training': resources.instance_count is the same field as resources.instanceCount; "
        "set only one of them"
    )


ORDER = 'write a list, such as ["US-WEST-04A", "US-EAST-04A"]'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zones": {"RNO2A"}}, f"zones must be in order of preference, and a set has no order; {ORDER}"),
        (
            {"zones": frozenset()},
            f"zones must be in order of preference, and a frozenset has no order; {ORDER}",
        ),
        (
            {"zones": {"RNO2A": 1}.keys()},
            f"zones must be in order of preference, and a dict_keys has no order; {ORDER}",
        ),
        (
            {"zones": (zone for zone in "a")},
            f"zones must be a list of zones in order of preference, not a generator; {ORDER}",
        ),
        (
            {"zones": map(str, "a")},
            f"zones must be a list of zones in order of preference, not a map; {ORDER}",
        ),
        ({"zones": [Path("a")]}, f"zones[0] must be a zone name, not {Path('a')!r}"),
        (
            {"instance_count": Decimal(4)},
            "instance_count must be an int, not Decimal('4'); write int(…) around it",
        ),
        (
            {"instance_count": Fraction(4)},
            "instance_count must be an int, not Fraction(4, 1); write int(…) around it",
        ),
        ({"instance_count": b"4"}, "instance_count must be a whole number, not b'4'"),
        (
            {"instance_count": 10**400},
            "instance_count must be between 0 and 4294967295, not a number of more than 20 digits",
        ),
        (
            {"instance_count": -(10**15)},
            "instance_count must be between 0 and 4294967295, not -1000000000000000",
        ),
        (
            {"instance_id": Path("x")},
            f"instance_id must be a string, not {Path('x')!r}; write str(…) around it",
        ),
        (
            {"capacity_type": object},
            "capacity_type must be a string, not <class 'object'>; write str(…) around it",
        ),
    ],
)
@pytest.mark.parametrize("as_args", [False, True])
def test_a_value_that_pulumi_cannot_send_is_refused_in_a_sentence(
    run: Callable[..., dict[str, Any]], arguments: dict[str, Any], message: str, as_args: bool
) -> None:
    given = {"instance_id": "gb200-4x", "instance_count": 4, "zones": ["RNO2A"]} | arguments
    resources = inference.CapacityClaimResourcesArgs(**given) if as_args else given
    with pytest.raises(inference.ClaimError) as refused:
        run(lambda: {"id": claim(resources=resources).id})
    assert str(refused.value) == f"capacity claim 'training': resources.{message}"


def test_a_name_that_pulumi_cannot_send_is_refused_in_a_sentence(run: Callable[..., dict[str, Any]]) -> None:
    arguments: dict[str, Any] = {"resources": {}, "name": b"training"}
    with pytest.raises(inference.ClaimError, match="name must be a string, not b'training'"):
        run(lambda: {"id": inference.CapacityClaim("training", **arguments).id})


@pytest.mark.parametrize("given", ["", " ", None, 7])
@pytest.mark.parametrize("kind", ["plain", "output"])
def test_a_lookup_without_an_id_names_the_resource(
    run: Callable[..., dict[str, Any]], given: Any, kind: str
) -> None:
    def program() -> dict[str, pulumi.Output[Any]]:
        wanted = given if kind == "plain" else pulumi.Output.from_input(given)
        return {"id": inference.CapacityClaim.get("shared", wanted).id}

    with pytest.raises(inference.ClaimError) as refused:
        run(program)
    assert str(refused.value) == (
        f"looking up capacity claim 'shared' needs the id of a claim, not {given!r}.\n"
        "  Next: run `capacity-claims list` to see the claims that exist"
    )


@pytest.mark.skipif(SDK < (3, 272), reason="older SDKs take an unknown id for a known one")
def test_a_lookup_of_an_id_that_is_not_known_yet_is_unknown(run: Callable[..., dict[str, Any]]) -> None:
    seen: list[bool] = []

    def program() -> dict[str, pulumi.Output[Any]]:
        unknown: pulumi.Output[Any] = pulumi.Output.from_input(pulumi.output.UNKNOWN)
        found = inference.CapacityClaim.get("shared", unknown)

        async def look() -> None:
            seen.append(await found.id.is_known())

        return {"done": pulumi.Output.from_input(look())}

    run(program, preview=True)
    assert seen == [False]


def declared_in(how: str) -> dict[str, pulumi.Output[Any]]:
    class Team(pulumi.ComponentResource):
        def __init__(self, name: str) -> None:
            super().__init__("acme:index:Team", name)
            claim(f"{name}-claim", opts=pulumi.ResourceOptions(parent=self))

    def build() -> None:
        Team("team")

    async def build_later() -> None:
        await asyncio.sleep(0)
        build()

    first = claim("first")
    if how == "program":
        build()
    elif how == "apply":
        first.id.apply(lambda _: build())
    elif how == "live":
        first.status.apply(lambda _: build())
    elif how == "all":
        pulumi.Output.all(first.id, first.name).apply(lambda _: build())
    elif how == "async":
        first.id.apply(lambda _: build_later())
    elif how == "lookup":
        first.id.apply(lambda id: inference.CapacityClaim.get("team-claim", id) and None)
    return {"id": first.id}


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        ("program", [False, False]),
        ("apply", [False, True]),
        ("live", [False, True]),
        ("all", [False, True]),
        ("async", [False, True]),
        ("lookup", [False]),
    ],
)
def test_a_claim_declared_inside_an_apply_is_seen(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, how: str, seen: list[bool]
) -> None:
    found: list[bool] = []
    look = capacity_claim._is_in_apply
    monkeypatch.setattr(capacity_claim, "_is_in_apply", lambda: found.append(look()) or found[-1])
    monkeypatch.setattr(pulumi.log, "warn", lambda *_, **__: pytest.fail("a unit test got a warning"))
    run(lambda: declared_in(how))
    assert found == seen
