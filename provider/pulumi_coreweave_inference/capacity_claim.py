"""What a program declares, and the outputs that it can read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, Final, NotRequired, TypedDict, cast

import pulumi
from pulumi.dynamic import Resource
from pulumi.output import UNKNOWN, contains_unknowns
from pulumi.resource import DependencyResource

import coreweave_inference as api

from . import mocks, provider_python
from .errors import MISSING_TOKEN, ClaimError, InvalidReadiness, labelled, text
from .identity import key_of
from .inputs import (
    DECLARATION,
    DELETE_FIRST,
    IDENTITY,
    NAMESPACE,
    RESOURCE_FIELDS,
    RUN,
    SECRET,
    api_spelling,
    identity_of,
    program_spelling,
    spelled_twice,
    unsendable,
)
from .options import KEPT, covers, refuse_void_options, refuse_void_path
from .participation import Participants
from .progress import display
from .provider import CapacityClaimProvider, ClaimNamespaceProvider
from .readiness import Goal, Poller, Readiness
from .secrecy import may_hold_secrets, secrets_among, secrets_of, unless_secret
from .settings import Settings, program_settings, unread_endpoint

TYPE: Final = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
_DEFAULT_READINESS: Final = Readiness()


class CapacityClaimResourcesArgsDict(TypedDict):
    """`CapacityClaimResourcesArgs` as a dict, whose keys a type checker knows."""

    instance_id: pulumi.Input[str]
    """The instance type, such as `gb200-4x`."""
    instance_count: pulumi.Input[int]
    """How many instances."""
    zones: pulumi.Input[Sequence[pulumi.Input[str]]]
    """The zones in order of preference."""
    capacity_type: NotRequired[pulumi.Input[str]]
    """`CAPACITY_TYPE_MANAGED`, the default."""


@pulumi.input_type
class CapacityClaimResourcesArgs:
    """What to reserve, and where."""

    def __init__(
        self,
        *,
        instance_id: pulumi.Input[str],
        instance_count: pulumi.Input[int],
        zones: pulumi.Input[Sequence[pulumi.Input[str]]],
        capacity_type: pulumi.Input[str] | None = None,
    ) -> None:
        """The rules come from the API's schema of 2026-06-29 and its docs page "Create capacity claim".

        :param instance_id: The instance type, such as `gb200-4x`. At least one of the zones must offer it;
               `capacity-claims zones` lists which zone offers what. A change replaces the claim.
        :param instance_count: How many instances, 0 to 4294967295. A change is made in place.
        :param zones: The zones in order of preference, such as `["US-WEST-04A", "US-EAST-04A"]`: at least
               one, no duplicates. A change, also of the order alone, replaces the claim.
        :param capacity_type: `CAPACITY_TYPE_MANAGED`, the default, and the only type that the API accepts
               since 2026-07-21. A change replaces the claim.
        """
        pulumi.set(self, "instance_id", instance_id)
        pulumi.set(self, "instance_count", instance_count)
        pulumi.set(self, "zones", zones)
        if capacity_type is not None:
            pulumi.set(self, "capacity_type", capacity_type)

    @property
    @pulumi.getter(name="instanceId")
    def instance_id(self) -> pulumi.Input[str]:
        """The instance type."""
        return _got(self, "instance_id")

    @property
    @pulumi.getter(name="instanceCount")
    def instance_count(self) -> pulumi.Input[int]:
        """How many instances."""
        return _got(self, "instance_count")

    @property
    @pulumi.getter
    def zones(self) -> pulumi.Input[Sequence[pulumi.Input[str]]]:
        """The zones in order of preference."""
        return _got(self, "zones")

    @property
    @pulumi.getter(name="capacityType")
    def capacity_type(self) -> pulumi.Input[str] | None:
        """The capacity type; None for the default."""
        return _got(self, "capacity_type")


@pulumi.output_type
class CapacityClaimResources(dict[str, Any]):
    """What a claim reserves, and where."""

    instance_id: str = pulumi.property("instanceId")
    """The instance type."""
    instance_count: int = pulumi.property("instanceCount")
    """How many instances are requested."""
    zones: Sequence[str] = pulumi.property("zones")
    """The zones in order of preference."""
    capacity_type: str = pulumi.property("capacityType")
    """The capacity type, such as `CAPACITY_TYPE_MANAGED`."""


@pulumi.output_type
class CapacityClaimCondition(dict[str, Any]):
    """One observation of the API about a claim, often about a single zone."""

    type: str = pulumi.property("type")
    """What was observed, such as `Ready`; free text."""
    status: str = pulumi.property("status")
    """`STATUS_TRUE`, `STATUS_FALSE`, or any other value of the API."""
    reason: str = pulumi.property("reason")
    """A one-word reason; free text."""
    message: str = pulumi.property("message")
    """A human-readable explanation."""
    zone: str = pulumi.property("zone")
    """The zone; empty for a condition of the whole claim."""
    last_update_time: str | None = pulumi.property("lastUpdateTime")
    """When it was last updated, in RFC 3339."""

    @classmethod
    def of(cls, claim: api.CapacityClaim) -> list[CapacityClaimCondition]:
        """All conditions of a claim."""
        return [
            cls(
                type=condition.type,
                status=str(condition.status),
                reason=condition.reason,
                message=condition.message,
                zone=condition.zone or "",
                last_update_time=condition.last_update_time,
            )
            for condition in claim.status.conditions
        ]


class ClaimNamespace(Resource, module="claimNamespace", name="ClaimNamespace"):
    """A random UUID in the stack's state from which the ids of the stack's claims are derived.

    Every program that declares a claim gets one automatically; do not declare it yourself.
    """

    def __init__(self, resource_name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ClaimNamespaceProvider(), resource_name, {}, opts)


class CapacityClaim(Resource, module="capacityClaim", name="CapacityClaim"):
    """A number of GPU instances of one type, reserved across an ordered list of zones.

    These are known as soon as the claim exists: `id`, `name`, `resources`, `organization_id`, `created_at`.
    These are read live, and resolve when the claim is ready: `status`, `allocated_instances`,
    `pending_instances`, `conditions`, `updated_at`, and `ready`.

    A resource that depends on the claim itself waits until it is ready: with `depends_on` (also on a
    component that contains the claim), `parent`, `deleted_with` or `replace_with`, or because the claim is
    one of its arguments. A resource that only uses an output known at once does not wait.
    """

    def __init__(
        self,
        resource_name: str,
        opts: pulumi.ResourceOptions | None = None,
        *,
        resources: pulumi.Input[CapacityClaimResourcesArgs | CapacityClaimResourcesArgsDict],
        name: pulumi.Input[str] | None = None,
        readiness: Readiness | None = _DEFAULT_READINESS,
    ) -> None:
        """An invalid declaration fails in the preview. Raises `InvalidReadiness`.

        :param resource_name: The name of the resource in the stack. The claim's id depends on it.
        :param opts: Options that control the resource's behaviour.
        :param resources: What to reserve, and where: an object or a dict. At runtime a dict may also use the
               API's camelCase names.
        :param name: The claim's name at the API, 1 to 100 lower-case letters, digits and dashes. The
               default is the resource's name plus seven digits of the id, so that the old and the new
               claim of a replacement have different names. A change replaces the claim.
        :param readiness: When the claim counts as ready, and how long to wait for that: 45 minutes by
               default. With None the program does not wait, and the live outputs describe the claim shortly
               after its creation.
        """
        if readiness is not None and not isinstance(readiness, Readiness):
            raise InvalidReadiness(
                f"{labelled(resource_name, None)}: readiness must be a Readiness, such as "
                f'Readiness(timeout="45m"), or None, not {readiness!r}'
            )
        self._resource_name = resource_name
        self._readiness = readiness
        opts = opts or pulumi.ResourceOptions()
        refuse_void_options(resource_name, opts)
        self._ignored = _ignored_fields(opts)
        program = _program()
        problems, declared = [], cast("Any", resources)
        if isinstance(declared, Mapping):
            problems = spelled_twice(declared)
            declared = api_spelling(declared)
        for problem in [*problems, *unsendable(declared, name)]:
            raise ClaimError(f"{labelled(resource_name, None)}: {problem.property} {problem.reason}")
        outputs = (*KEPT, *mocks.REPORTED) if mocks.are_active() else KEPT
        props: dict[str, Any] = {"resources": declared, "name": name, **dict.fromkeys(outputs)}
        self._word = None
        if opts.id is None:
            # The namespace's id as an input makes the claim depend on it, so a destroy deletes it last.
            namespace = program.namespace_of(resource_name, opts.parent)
            props[IDENTITY] = {DECLARATION: _key(resource_name, opts.parent), NAMESPACE: namespace.id}
            if opts.delete_before_replace and not mocks.are_active():
                props[IDENTITY][DELETE_FIRST] = True
            if not pulumi.runtime.is_dry_run() and not mocks.are_active() and not _ignores(opts, IDENTITY):
                self._word = program.participants.word()
                props[IDENTITY][RUN] = self._word
            if not mocks.are_active() and may_hold_secrets(declared, name):
                props[IDENTITY][SECRET] = secrets_among(declared, name)
        else:
            opts = pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(id=_existing_id(resource_name, opts.id))
            )
        with _few_frames():
            super().__init__(CapacityClaimProvider(), resource_name, props, opts)
        self._registered = _Registered(self.urn)
        if opts.id is None and _is_in_apply() and not mocks.are_active():
            pulumi.log.warn(_DECLARED_IN_APPLY, resource=self._registered)
        self._observed = self._live_output(self._mocked() if mocks.are_active() else self._observe(program))
        if readiness is not None and not pulumi.runtime.is_dry_run():
            self.__dict__["urn"] = self._urn_when_ready()
        if _is_served():
            # The component's process is not asked for anything later, so the component waits for its claims.
            waiting = pulumi.runtime.settings._get_rpc_manager().do_rpc("readiness", self._observed.future)
            self._waiting = asyncio.ensure_future(waiting())

    @classmethod
    def get(
        cls, resource_name: str, id: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None
    ) -> CapacityClaim:
        """An existing claim that this program only reads: it is never changed or released.

        :param resource_name: The name of the resource in the stack.
        :param id: The claim's id, a UUID. If no claim has this id, the preview fails.
        :param opts: Options that control the resource's behaviour.
        """
        if id is None:
            raise _not_an_id(resource_name, id)
        reading = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(id=id))
        return cls(resource_name, reading, resources=cast("Any", {}), readiness=None)

    def translate_input_property(self, prop: str) -> str:
        """The name of a property as the engine knows it. Raises `ClaimError` for a path to none.

        The SDK calls this for each key of the inputs, and, once the transformations have run, for each path
        in the options.
        """
        refuse_void_path(self._resource_name, prop)
        return prop

    @property
    def id(self) -> pulumi.Output[str]:
        """The claim's id, a UUID."""
        return self._at_once("id")

    @property
    @pulumi.getter
    def name(self) -> pulumi.Output[str]:
        """The claim's name at the API."""
        return self._at_once("name")

    @property
    @pulumi.getter
    def resources(self) -> pulumi.Output[CapacityClaimResources]:
        """What is reserved, and where."""
        return self._at_once("resources")

    @property
    @pulumi.getter(name="organizationId")
    def organization_id(self) -> pulumi.Output[str]:
        """The organization that holds the claim."""
        return self._at_once("organizationId")

    @property
    @pulumi.getter(name="createdAt")
    def created_at(self) -> pulumi.Output[str]:
        """When the claim was created, in RFC 3339."""
        return self._at_once("createdAt")

    @property
    def status(self) -> pulumi.Output[str]:
        """The claim's state once it is ready, such as `STATUS_READY`."""
        return self._observed.apply(lambda observed: observed.status)

    @property
    def allocated_instances(self) -> pulumi.Output[int]:
        """How many instances are allocated, once the claim is ready."""
        return self._observed.apply(lambda observed: observed.allocated_instances)

    @property
    def pending_instances(self) -> pulumi.Output[int]:
        """How many instances are still pending, once the claim is ready."""
        return self._observed.apply(lambda observed: observed.pending_instances)

    @property
    def conditions(self) -> pulumi.Output[Sequence[CapacityClaimCondition]]:
        """The claim's conditions, zone by zone, once it is ready."""
        return self._observed.apply(lambda observed: observed.conditions)

    @property
    def updated_at(self) -> pulumi.Output[str]:
        """When the claim was last changed, in RFC 3339."""
        return self._observed.apply(lambda observed: observed.updated_at)

    @property
    def ready(self) -> pulumi.Output[CapacityClaim]:
        """The claim itself, once it is ready, for programs that need an output to wait for."""
        return self._observed.apply(lambda _: self)

    def _at_once(self, name: str) -> pulumi.Output[Any]:
        """An output that is known before the claim is ready; neither does its user wait for that.

        The SDK lets the user of an output wait for the URNs of the resources that the output depends on.
        """
        outputs = self._registered.outputs
        if name not in outputs:
            output: pulumi.Output[Any] = self.__dict__[name]
            known, secret = (
                asyncio.ensure_future(output.is_known()),
                asyncio.ensure_future(output.is_secret()),
            )
            value = output.future(with_unknowns=True)  # if it fails, the SDK awaits neither of the others
            if mocks.are_active():
                value = self._never_none(name, value)
            outputs[name] = pulumi.Output({self._registered}, value, known, secret)
        return outputs[name]

    def _urn_when_ready(self) -> pulumi.Output[str]:
        """The claim's URN once it is ready: the SDK awaits the URNs of a resource's dependencies."""

        known = asyncio.get_event_loop().create_future()
        known.set_result(True)

        async def value() -> str:
            urn = await self._registered.urn.future()
            await self._observed.future()
            return urn or ""

        return pulumi.Output({self}, value(), known)

    def _live_output(self, observing: Coroutine[Any, Any, _Observed | None]) -> pulumi.Output[_Observed]:
        """The observed claim as one output; unknown if `observing` returns None.

        An output consists of the resources that it depends on, its value, and whether that is known and
        secret. This one is secret if the claim's resources are. `Output.all` and `apply` would do the same,
        but add some thirty outputs per claim to the program.
        """
        loop = asyncio.get_event_loop()
        known, secret = loop.create_future(), loop.create_future()
        known.set_result(True)  # an UNKNOWN among the values counts as well

        async def value() -> Any:
            secret.set_result(await self.__dict__["resources"].is_secret())
            seen = await observing
            return UNKNOWN if seen is None else seen

        return pulumi.Output({self}, value(), known, secret)

    async def _observe(self, program: _Program) -> _Observed | None:
        claim_id = await self.__dict__["id"].future()
        resources = await self.__dict__["resources"].future()
        identity = await self._identity()
        secrets = await self._secrets(identity)
        if resources is not None and self._readiness is not None:
            self._refuse_what_is_never_ready(claim_id, resources, secrets)
        if not claim_id or resources is None:
            return None
        # A provider that has not dropped the word is an older version, which does not report either.
        takes_part = RUN in identity or Participants.include(self._word)
        waits = pulumi.runtime.is_dry_run() or (takes_part and program.settings.wait)
        goal = Goal(
            resource_name=self._resource_name,
            claim_id=claim_id,
            resources=api.CapacityClaimResources.model_validate(dict(resources)),
            readiness=self._readiness if waits else None,
            updated_at=await self.__dict__["updatedAt"].future(),  # as in the state; `updated_at` is live
            urn=await self._registered.urn.future(),
            namespace=identity.get(NAMESPACE),
            secrets=secrets,
            ignored=self._ignored,
            takes_part=takes_part,
        )
        if pulumi.runtime.is_dry_run():
            return await _peek(program, goal)
        claim = await program.poller.wait(
            goal,
            show=lambda line: pulumi.log.info(line, resource=self._registered, ephemeral=True),
            warn=lambda line: pulumi.log.warn(line, resource=self._registered),
            say=lambda line: pulumi.log.info(line, resource=self._registered),
        )
        return _Observed(claim)

    async def _identity(self) -> dict[str, Any]:
        """The identity as the state has it; empty for a lookup."""
        output = self.__dict__.get(IDENTITY)
        return identity_of({IDENTITY: await output.future()}) if output is not None else {}

    async def _secrets(self, identity: Mapping[str, Any]) -> frozenset[str]:
        """The inputs that no text shows: those that the program marks as secret, as the state names them.

        An option or a transform may mark all of `resources`.
        """
        named = secrets_of({IDENTITY: identity})
        whole = {"resources": RESOURCE_FIELDS, "name": ("name",)}
        marked = [
            field
            for output, fields in whole.items()
            if not set(fields) & set(named) and await self.__dict__[output].is_secret()
            for field in fields
        ]
        return frozenset([*named, *marked])

    def _refuse_what_is_never_ready(
        self, claim_id: str | None, resources: Mapping[str, Any], secrets: frozenset[str]
    ) -> None:
        readiness = self._readiness or Readiness()
        count = None if "instance_count" in self._ignored else api_spelling(resources).get("instanceCount")
        if readiness.min_instances and isinstance(count, (int, float)) and readiness.min_instances > count:
            raise ClaimError(
                text(
                    f"{labelled(self._resource_name, claim_id)} can never be ready: min_instances is "
                    f"{readiness.min_instances}, and instance_count is "
                    f"{unless_secret(f'{count:.0f}', 'instanceCount', secrets)}.",
                    then=["lower min_instances in the Readiness, or raise instance_count"],
                )
            )

    async def _never_none(self, name: str, value: Coroutine[Any, Any, Any]) -> Any:
        known = await value
        if contains_unknowns(known):
            return known
        if name == "resources":
            return CapacityClaimResources(**mocks.whole(known))
        return mocks.stand_in(name, self._resource_name) if known is None else known

    async def _mocked(self) -> _Observed | None:
        state = {name: self.__dict__[name] for name in ("id", "resources", *KEPT, *mocks.REPORTED)}
        if not all([await output.is_known() for output in state.values()]):
            return None
        return _Observed(mocks.claim_from({name: await output.future() for name, output in state.items()}))


class _Registered(DependencyResource):
    """A claim as soon as it is in the state, which is what its outputs depend on and where progress is shown.

    The claim itself cannot take this part: to its dependents it is registered once it is ready.
    """

    def __init__(self, urn: pulumi.Output[str]) -> None:
        super().__init__("")
        self.__dict__["urn"] = urn
        self.outputs: dict[str, pulumi.Output[Any]] = {}


class _Observed:
    """A claim as the program has read it."""

    def __init__(self, claim: api.CapacityClaim) -> None:
        status = claim.status
        self.status = str(status.status)
        self.allocated_instances = status.allocated_instances
        self.pending_instances = status.pending_instances
        self.updated_at = status.updated_at or ""
        self.conditions = CapacityClaimCondition.of(claim)


class _Program:
    """What all claims of one running program share: the namespace, the client, the poller.

    Its counterpart in the provider process is `Operation`. It is attached to the program's root resource,
    because one process may run the programs of several stacks, one after the other.
    """

    def __init__(self) -> None:
        self._client: api.AsyncClient | None = None
        self._namespaces: dict[object, ClaimNamespace] = {}
        self._declared: set[tuple[str, str, str]] = set()  # under mocks

    @cached_property
    def settings(self) -> Settings:
        """The settings of the stack. Raises `InvalidSetting`."""
        settings = program_settings()
        if warning := unread_endpoint(settings):
            pulumi.log.warn(warning)
        return settings

    @cached_property
    def poller(self) -> Poller:
        """Waits for all claims. Raises `InvalidSetting`."""
        clock = asyncio.get_event_loop().time
        view = display(pulumi.log.info, lambda line: pulumi.log.info(line, ephemeral=True))
        return Poller(self._reader, clock, settings=self.settings, close=self._close, display=view)

    @cached_property
    def participants(self) -> Participants:
        """Which claims take part in this run of the engine."""
        return Participants()

    def namespace_of(self, resource_name: str, parent: pulumi.Resource | None) -> ClaimNamespace:
        """The namespace of a claim, declared with the first claim that needs it.

        A program has one. A component that a provider process serves (`component_provider_host`) does not
        know what the program, or another component, has declared, so it has one of its own, below it.
        """
        place: object = None
        name = "claims"
        if mocks.are_active():
            self._begin_again_where_repeated(resource_name, parent)
        if _is_served():
            # Its URN is as unique as that of the component, or of the claim if that has no parent.
            place = resource_name if parent is None else parent
            name = f"{getattr(parent, 'pulumi_resource_name', resource_name)}-claims"
        if place not in self._namespaces:
            opts = None if place is None else pulumi.ResourceOptions(parent=parent)
            self._namespaces[place] = ClaimNamespace(name, opts)
        return self._namespaces[place]

    def _begin_again_where_repeated(self, resource_name: str, parent: pulumi.Resource | None) -> None:
        """Tests may share mocks. A program declares a name once, so a repeated one is of the next test."""
        place = (parent.pulumi_resource_type, parent.pulumi_resource_name) if parent else ("", "")
        if (*place, resource_name) in self._declared:
            self._declared.clear()
            self._namespaces.clear()
        self._declared.add((*place, resource_name))

    def _reader(self) -> api.AsyncCapacityClaims:
        """The operations of the client that all claims of the program share."""
        if self._client is None:
            self._client = self.settings.polling_client()
        return self._client.capacity_claims

    async def _close(self) -> None:
        """Close the client; the next read opens another one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


_PROGRAM: Final = "_coreweave_inference_program"


def _program() -> _Program:
    """What the claims of the running program share; created with the first claim."""
    # The root resource under `set_mocks` is that of the first test. A served component has none.
    anchor: Any = (
        mocks.monitor() or pulumi.runtime.get_root_resource() or pulumi.runtime.settings.get_monitor()
    )
    program: _Program | None = getattr(anchor, _PROGRAM, None)
    if program is None:
        if not mocks.are_active() and not _is_served():
            _check_environment()
        program = _Program()
        setattr(anchor, _PROGRAM, program)
    return program


def _check_environment() -> None:
    """Say what the engine's error will not say. Raises `ClaimError` if an inline program has no token."""
    root: str | None = pulumi.runtime.get_root_directory()  # None for an inline program
    if root is None and not program_settings().token:
        raise ClaimError(
            text(
                "the program has no API token.",
                then=[
                    MISSING_TOKEN.partition(": ")[2],
                    "with the Automation API, set the variable in the environment of this process: the "
                    "workspace's env_vars reach the engine only",
                ],
            )
        )
    if warning := provider_python.warning(Path(root) if root else None, Path.cwd(), os.environ):
        pulumi.log.warn(warning)


def _is_served() -> bool:
    """Whether this process serves a component to the engine, and so has no root resource."""
    return pulumi.runtime.get_root_resource() is None and not mocks.are_active()


_FRAMES: Final = 8  # five of the SDK, one of this module, two of the program
_LIMITED: Final = threading.RLock()  # the limit is the process's, and programs may run in several threads


@contextlib.contextmanager
def _few_frames() -> Iterator[None]:
    """Let the SDK store only the innermost frames of a declaration.

    All of them are a third of a claim's entry in the state, which a backend of files writes again at each
    step: with N = 400, `up` took 20.1 instead of 17.0 s, `destroy` 15.5 instead of 11.8 s. The SDK asks
    `traceback`, which respects `sys.tracebacklimit`. Fallback: all frames are stored.
    """
    with _LIMITED:
        before: int | None = getattr(sys, "tracebacklimit", None)
        sys.tracebacklimit = _FRAMES if before is None else min(before, _FRAMES)
        try:
            yield
        finally:
            if before is None:
                del sys.tracebacklimit
            else:
                sys.tracebacklimit = before


def _key(resource_name: str, parent: pulumi.Resource | None) -> pulumi.Input[str]:
    """What identifies the declaration within its stack: its URN without stack and project."""
    if parent is None:
        return f"{TYPE}::{resource_name}"
    return _key_below(resource_name, parent)


async def _key_below(resource_name: str, parent: pulumi.Resource) -> str:
    # Awaited, not returned as an output: for the SDK, a dependency on the parent's URN is one on all children
    # of the parent, including this resource.
    return key_of(await pulumi.create_urn(resource_name, TYPE, parent=parent).future() or "")


def _ignored_fields(opts: pulumi.ResourceOptions | None) -> frozenset[str]:
    """The fields of `resources` that `ignore_changes` leaves to somebody else, as Python spells them."""
    return frozenset(program_spelling(name) for name in RESOURCE_FIELDS if _ignores(opts, "resources", name))


def _ignores(opts: pulumi.ResourceOptions | None, *names: str) -> bool:
    """Whether `ignore_changes` makes the engine keep the value in the state for a property, or a part of it.

    What a transform adds to the options is not seen here.
    """
    return any(covers(path, *names) for path in (opts and opts.ignore_changes) or ())


def _existing_id(resource_name: str, claim_id: pulumi.Input[str]) -> pulumi.Input[str]:
    """The id of a claim to look up, which must not be blank. An unknown id stays unknown."""

    def check(known: object) -> str:
        if not isinstance(known, str) or not known.strip():
            raise _not_an_id(resource_name, known)
        return known

    return (
        check(claim_id)
        if isinstance(claim_id, str)
        else pulumi.Output.all(claim_id).apply(lambda ids: check(ids[0]))
    )


def _not_an_id(resource_name: str, given: object) -> ClaimError:
    return ClaimError(
        text(
            f"looking up {labelled(resource_name, None)} needs the id of a claim, not {given!r}.",
            then=["run `capacity-claims list` to see the claims that exist"],
        )
    )


_OUTPUT_SOURCE: Final = pulumi.Output.apply.__code__.co_filename
_DECLARED_IN_APPLY: Final = (
    "this claim is declared inside an apply, which does not run while its value is unknown: a preview then "
    "shows the claim as deleted, and if what the value comes from cannot be updated, "
    "`pulumi up --continue-on-error` releases the claim. Declare it outside of the apply; depends_on gives "
    "the order."
)


def _is_in_apply() -> bool:
    """Whether the code that runs was called by `Output.apply`, as the frames show."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "run" and code.co_filename == _OUTPUT_SOURCE:
            return True
        frame = frame.f_back
    return False


async def _peek(program: _Program, goal: Goal) -> _Observed | None:
    """An existing claim, for a preview; None if it cannot be read or is about to change."""
    try:
        claim = await program.poller.peek(goal)
    except ClaimError:
        return None  # an invalid setting, which the provider reports
    if claim is None or not goal.matches(claim):
        return None
    return _Observed(claim)


def _got(holder: Any, name: str) -> Any:
    """`pulumi.get`; the caller knows the type."""
    return pulumi.get(holder, name)
