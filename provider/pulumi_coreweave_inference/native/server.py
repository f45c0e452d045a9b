"""What the engine calls of the native plugin, as far as it differs from the dynamic provider.

The core is that of provider.py. This module translates: it adds what the core calls the identity of a claim
(the URN, the namespace, which inputs are secret), and waits for readiness in `Create` and `Update`, where the
dynamic provider leaves that to the program.

    Check, Diff, Create, Read, Update, Delete ──► CapacityClaimProvider ──► Operation
    Create, Update ──► Poller ──► ready, or `ErrorResourceInitFailed`: in the state, and the next `up` goes on

The namespace is the setting `namespace`, or the id of the provider in the state. One process serves one
provider, so it has one `Operation`.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import shlex
import threading
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from pulumi.output import UNKNOWN
from pulumi.runtime import rpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

import coreweave_inference as api
from coreweave_inference.errors import CoreweaveError
from pulumi_coreweave_inference import lookups, operation
from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.delete_guard import kept
from pulumi_coreweave_inference.errors import (
    ClaimError,
    InvalidReadiness,
    InvalidSetting,
    api_failure,
    labelled,
    lookup_failure,
    text,
)
from pulumi_coreweave_inference.foreign_text import Lines
from pulumi_coreweave_inference.identity import Declaration, has_default_name, resource_name_of
from pulumi_coreweave_inference.inputs import (
    DECLARATION,
    EXPLICIT_NAME,
    IDENTITY,
    INCARNATION,
    NAMESPACE,
    SECRET,
    compare,
    identity_of,
    is_unknown,
    is_unknown_within,
)
from pulumi_coreweave_inference.operation import Operation
from pulumi_coreweave_inference.progress import display
from pulumi_coreweave_inference.provider import CapacityClaimProvider, Outputs
from pulumi_coreweave_inference.readiness import Goal, Poller, Readiness, Verdict, judge, not_ready
from pulumi_coreweave_inference.rounds import Clock
from pulumi_coreweave_inference.secrecy import held_resources, secrets_of, unless_secret, without_values
from pulumi_coreweave_inference.settings import misspelt, settings_from

from .siblings import Siblings
from .wire import Properties, plain, status_with, struct
from .words import said

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim

T = TypeVar("T")

PACKAGE: Final = "coreweave-inference"
TYPE: Final = f"{PACKAGE}:index:CapacityClaim"
AWAIT: Final = f"{PACKAGE}:index:awaitCapacityClaim"
GET_CLAIM: Final = f"{PACKAGE}:index:getCapacityClaim"
GET_CLAIMS: Final = f"{PACKAGE}:index:getCapacityClaims"
GET_PARAMETERS: Final = f"{PACKAGE}:index:getCapacityClaimParameters"

_READINESS: Final = "readiness"
_READINESS_FIELDS: Final = ("wait", "timeout", "minInstances", "onTimeout")
_STATUS: Final = "status"  # of the outputs
_READY: Final = "STATUS_READY"  # as `ClaimState`, whose import takes a tenth of a second
_LOG_SECONDS: Final = 5.0  # for one line to the engine
_ALL_WAIT: Final = 3.0  # seconds for which all slots must wait before that is said
_urn: contextvars.ContextVar[str] = contextvars.ContextVar("urn", default="")


class Context(Protocol):
    """What gRPC gives to each call, as far as it is used."""

    async def abort(
        self, code: object, details: str, trailing_metadata: tuple[tuple[str, bytes], ...] = ()
    ) -> NoReturn:
        """End the call with an error."""


class TwinExists(ClaimError):
    """The declaration has made a living claim under another namespace.

    The state does not hold it, or its replacement is forced: then the engine compares nothing and names no
    id.
    """


class _Interrupted(RuntimeError):
    """A pause has ended because the operation ends."""


class SuccessorNotReady(ClaimError):
    """A replaced claim is kept, because this operation has not seen its successor ready."""


class ReplacedWhileMoving(ClaimError):
    """A claim would move from the dynamic resource and be replaced in one operation."""


@dataclass(frozen=True)
class _Given:
    """The properties of one resource in one call: plain values, with the claim's identity."""

    values: Properties
    secrets: frozenset[str]

    @property
    def sent(self) -> Properties:
        """Without what only the core needs."""
        return {name: value for name, value in self.values.items() if name != IDENTITY}


class Server(provider_pb2_grpc.ResourceProviderServicer):
    """Serves one provider of the native package to one engine."""

    def __init__(self, engine: str) -> None:
        # never by a proxy: the engine is on this machine
        channel = grpc.insecure_channel(engine, options=[("grpc.enable_http_proxy", 0)])
        self._engine = engine_pb2_grpc.EngineStub(channel)
        self._siblings = Siblings(engine)
        self._provider = CapacityClaimProvider()
        self._namespace = ""
        self._declared_as = ""  # the URN of the provider if the program declares it
        self._declared: set[str] = set()  # the URNs that the program has declared in this operation
        self._cancelled = threading.Event()
        self._waiting = 0  # calls of the engine that wait for readiness
        self._all_wait_said = False

    # The provider itself

    async def Handshake(  # noqa: N802 - the names are the protocol's
        self, request: provider_pb2.ProviderHandshakeRequest, context: Context
    ) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    async def GetPluginInfo(self, request: Empty, context: Context) -> plugin_pb2.PluginInfo:  # noqa: N802
        return plugin_pb2.PluginInfo(version=__version__)

    async def GetSchema(  # noqa: N802
        self, request: provider_pb2.GetSchemaRequest, context: Context
    ) -> provider_pb2.GetSchemaResponse:
        return provider_pb2.GetSchemaResponse(schema=schema())

    async def CheckConfig(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: Context
    ) -> provider_pb2.CheckResponse:
        """Validate the settings."""
        self._declared_as = _declared_as(request.urn)
        given, _ = plain(request.news)
        failures = [
            provider_pb2.CheckFailure(property="", reason=self._said(reason))
            for reason in misspelt(f"coreweave:{name}" for name in given)
        ]
        namespace = given.get("namespace")
        if namespace is not None and not is_unknown(namespace) and not _is_uuid(str(namespace)):
            failures.append(provider_pb2.CheckFailure(property="namespace", reason="must be a UUID"))
        try:
            settings_from(_config(given))
        except InvalidSetting as error:
            failures.append(provider_pb2.CheckFailure(property="", reason=self._said(str(error))))
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    async def DiffConfig(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: Context
    ) -> provider_pb2.DiffResponse:
        """A changed setting never replaces the provider."""
        same = request.olds == request.news
        changes = provider_pb2.DiffResponse.DIFF_NONE if same else provider_pb2.DiffResponse.DIFF_SOME
        return provider_pb2.DiffResponse(changes=changes)

    async def Configure(  # noqa: N802
        self, request: provider_pb2.ConfigureRequest, context: Context
    ) -> provider_pb2.ConfigureResponse:
        self._declared_as = _declared_as(request.urn)
        given, _ = plain(request.args)
        try:
            settings = settings_from(_config(given))
        except InvalidSetting as error:
            await _abort(context, self._said(str(error)))
        chosen = given.get("namespace")
        self._namespace = chosen if isinstance(chosen, str) and _is_uuid(chosen) else _uuid_in(request.id)
        self._op = Operation(
            settings,
            Clock(sleep=self._pause),
            connect=lambda settings: settings.client(self._pause),
            show=self._say,
            warn=lambda line: self._log(line, _urn.get(), warning=True),
            lists_all=True,
        )
        operation.begin(self._op)
        argument = given.get("token")
        if (
            self._declared_as
            and isinstance(argument, str)
            and argument.strip() not in ("", rpc.UNKNOWN, settings.token)
        ):
            self._op.warn(
                f"the provider '{resource_name_of(self._declared_as)}' uses the token of the environment, "
                "not its argument token; unset COREWEAVE_API_TOKEN and the like to use that"
            )
        loop = asyncio.get_running_loop()
        self._client: api.AsyncClient | None = None
        self._poller = Poller(
            self._reader,
            loop.time,
            settings=settings,
            close=self._close,
            display=display(self._say, lambda line: self._log(line, "", ephemeral=True)),
            one_by_one=True,
        )
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    async def Cancel(self, request: Empty, context: Context) -> Empty:  # noqa: N802
        """The engine ends, by Ctrl-C or because all is done.

        All waits and retries end. What has been sent gets its answer: without it, the state would lack a
        claim that has been created.
        """
        self._end_waits()
        return Empty()

    def abandon(self) -> None:
        """The engine is gone: nobody receives any answer."""
        self._end_waits()
        operation.abandon()

    def forget(self) -> None:
        """The process ends after its engine, or with it."""
        self._siblings.forget()

    def _end_waits(self) -> None:
        self._cancelled.set()
        if hasattr(self, "_poller"):  # not before `Configure`
            self._poller.end_all()

    def _pause(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise _Interrupted

    # Claims

    async def Check(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: Context
    ) -> provider_pb2.CheckResponse:
        self._declared.add(request.urn)
        self._siblings.note_declared()
        news, secrets = plain(request.news)
        olds = self._given(request.olds, request.urn)
        readiness, failures = _readiness_problems(news)
        if failures and _READINESS in secrets:
            failures = ["readiness: is secret and not valid"]
        given = self._with_identity(news, secrets, request.urn, news)

        def check() -> tuple[Properties, list[str]]:
            result = self._provider.check(olds.values if request.olds.fields else {}, given.values)
            found = [failure.reason for failure in result.failures]
            if not request.olds.fields and not found:
                found += self._twin_problems(result.inputs)
            return result.inputs, found

        inputs, found = await self._run(context, request.urn, check)
        if readiness is not None and not found:
            failures += _never_ready(readiness, inputs, secrets)
        return provider_pb2.CheckResponse(
            inputs=struct(_Given(inputs, secrets).sent, secrets),
            failures=[
                provider_pb2.CheckFailure(property="", reason=self._said(each)) for each in found + failures
            ],
        )

    async def Diff(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: Context
    ) -> provider_pb2.DiffResponse:
        inputs = plain(request.old_inputs)[0]
        olds = self._given(request.olds, request.urn, inputs)
        news = _ignoring(request.ignoreChanges, self._given(request.news, request.urn), olds)
        difference = compare(olds.values, news.values, self._op.settings.patchable)

        def diff() -> None:
            self._provider.diff(request.id, olds.values, news.values)
            if difference.replaces and DECLARATION in identity_of(plain(request.olds)[0]):
                raise ReplacedWhileMoving(
                    _replaced_while_moving(request.urn, request.id, difference.replaces)
                )

        await self._run(context, request.urn, diff)
        # whether a name is declared or left out changes nothing for a claim that has it
        changed = [path for path in difference.changed if path != "name" or path in difference.replaces]
        # a refresh compares as well, what it has read with what was declared
        if not changed and request.urn in self._declared and self._is_to_be_waited_for(olds, news):
            changed = [_STATUS]
        if not changed:
            return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)
        kinds = provider_pb2.PropertyDiff
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME,
            replaces=list(difference.replaces),
            diffs=sorted({path.partition(".")[0] for path in changed}),
            detailedDiff={
                path: kinds(
                    kind=kinds.UPDATE_REPLACE if path in difference.replaces else kinds.UPDATE,
                    inputDiff=path != _STATUS,
                )
                for path in changed
            },
            hasDetailedDiff=True,
        )

    def _is_to_be_waited_for(self, olds: _Given, news: _Given) -> bool:
        """Whether an unchanged claim was not ready when it was last seen, and has not been waited for."""
        declared = news.values.get(_READINESS) or {}
        status, held = olds.values.get("status"), olds.values.get("resources")
        if (
            not self._op.settings.wait
            or not isinstance(declared, Mapping)
            or is_unknown_within(declared)
            or declared.get("wait") is False
            or declared.get("onTimeout") == "warn"
            or not isinstance(held, Mapping)
            or status is None  # the entry of a dynamic resource
        ):
            return False
        minimum = declared.get("minInstances")
        allocated = olds.values.get("allocatedInstances")
        enough = held.get("instanceCount") if minimum is None else minimum
        return status != _READY or (
            isinstance(allocated, int | float) and isinstance(enough, int | float) and allocated < enough
        )

    async def Create(  # noqa: N802
        self, request: provider_pb2.CreateRequest, context: Context
    ) -> provider_pb2.CreateResponse:
        given = self._given(request.properties, request.urn)
        if request.preview:
            return provider_pb2.CreateResponse(properties=struct(_expected(given.sent, {}), given.secrets))

        def create() -> tuple[str, Outputs]:
            self._refuse_without_namespace(request.urn)
            self._refuse_twin(given.values)
            created = self._provider.create(given.values)
            outputs = _outputs(created.outs)
            self._siblings.note_entry(created.id, identity_of(outputs)[INCARNATION])
            return created.id, outputs

        claim_id, outputs = await self._run(context, request.urn, create)
        claim = await self._ready(context, request.urn, claim_id, outputs, given, request.timeout)
        properties = struct(_kept(outputs, claim), given.secrets)
        return provider_pb2.CreateResponse(id=claim_id, properties=properties)

    async def Read(  # noqa: N802
        self, request: provider_pb2.ReadRequest, context: Context
    ) -> provider_pb2.ReadResponse:
        """The claim as it is. One that is not ready is reported again, or the state would forget that."""
        inputs, secrets = plain(request.inputs)
        olds = self._given(request.properties, request.urn, inputs)
        is_lookup = "organizationId" not in olds.values
        result = await self._run(context, request.urn, lambda: self._provider.read(request.id, olds.values))
        if not result.id:
            return provider_pb2.ReadResponse()
        outputs = _outputs(result.outs)
        claim = outputs.claim
        live: Properties = {"resources": outputs["resources"]}
        if "name" in inputs or (is_lookup and not has_default_name(claim)):
            live["name"] = claim.name
        if _READINESS in inputs:
            live[_READINESS] = inputs[_READINESS]
        secrets |= olds.secrets
        properties = struct(_kept(outputs, claim), secrets)
        goal = self._goal(request.urn, request.id, outputs, _Given(live, secrets), 0, waits=True)
        if not is_lookup and goal is not None and _must_be_ready(goal):
            goal = replace(
                goal, resources=claim.resources
            )  # a refresh records a drift, and does not judge it
            if judge(claim, goal) is not Verdict.READY:
                detail = provider_pb2.ErrorResourceInitFailed(
                    id=request.id, properties=properties, inputs=struct(live, secrets)
                )
                await _fail_init(context, detail, self._said(_unready(claim, goal)))
        return provider_pb2.ReadResponse(id=request.id, properties=properties, inputs=struct(live, secrets))

    async def Update(  # noqa: N802
        self, request: provider_pb2.UpdateRequest, context: Context
    ) -> provider_pb2.UpdateResponse:
        inputs = plain(request.old_inputs)[0]
        olds = self._given(request.olds, request.urn, inputs)
        news = _ignoring(request.ignoreChanges, self._given(request.news, request.urn), olds)
        if request.preview:
            expected = struct(_expected(news.sent, olds.sent), news.secrets)
            return provider_pb2.UpdateResponse(properties=expected)
        self._siblings.note_unready(request.urn, request.id)  # as far as we know
        result = await self._run(
            context, request.urn, lambda: self._provider.update(request.id, olds.values, news.values)
        )
        outputs = _outputs(result.outs)
        claim = await self._ready(context, request.urn, request.id, outputs, news, request.timeout)
        return provider_pb2.UpdateResponse(properties=struct(_kept(outputs, claim), news.secrets))

    async def Delete(self, request: provider_pb2.DeleteRequest, context: Context) -> Empty:  # noqa: N802
        props = self._given(request.properties, request.urn, plain(request.old_inputs)[0])

        def delete() -> None:
            incarnation = identity_of(props.values).get(INCARNATION)
            if self._siblings.current_entry(request.id) not in (None, incarnation):
                self._say(kept(request.id, resource_name_of(request.urn)))
                return
            successor = self._unready_successor(request.urn, request.id, props)
            if successor is not None:
                raise SuccessorNotReady(
                    text(
                        f"{labelled(resource_name_of(request.urn), request.id)} is kept: the claim that "
                        "replaces it is not ready.",
                        said=[f"the new claim has the id {successor}"],
                        held="both claims; they stay in the state.",
                        then=["run `pulumi up` again: it goes on waiting, and then releases the old claim"],
                    )
                )
            self._provider.delete(request.id, props.values, request.timeout or None)

        await self._run(context, request.urn, delete)
        return Empty()

    def _unready_successor(self, urn: str, claim_id: str, props: _Given) -> str | None:
        """The claim that replaces another one and is not known to be ready; None if there is none.

        The engine deletes the old entry of a replacement also in a later run, which may not even have asked
        about the new one, as when a resource that it depends on has failed.
        """
        unready = self._siblings.unready(urn)
        if unready not in (None, "", claim_id):
            return unready
        if unready == "" or not self._namespace or not self._siblings.any_declared():
            return None
        declaration = _declaration(props.values)
        for claim in _asking("looking for the claim that replaces this one", self._op.listed):
            if (
                claim.id != claim_id
                and claim.state not in (api.ClaimState.READY, api.ClaimState.DELETING, api.ClaimState.FAILED)
                and not self._op.guard.has_released(claim.id)
                and declaration.as_made(claim, anywhere=True) is not None
            ):
                return claim.id
        return None

    # Functions

    async def Invoke(  # noqa: N802
        self, request: provider_pb2.InvokeRequest, context: Context
    ) -> provider_pb2.InvokeResponse:
        given, secrets = plain(request.args)
        if request.tok == AWAIT:
            found: Mapping[str, Any] = _result(await self._await(context, request, given))
        else:
            found = await self._run(context, "", lambda: self._look_up(request.tok, given, secrets))
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(struct(found))
        return response

    def _look_up(self, token: str, given: Properties, secrets: frozenset[str]) -> Mapping[str, Any]:
        claims = self._op.claims
        if token == GET_CLAIM:
            return _result(self._one(given.get("id"), given.get("name"), secrets))
        if token == GET_CLAIMS:
            after = None if given.get("updatedAfter") is None else str(given["updatedAfter"])
            listed = _asking("looking up capacity claims", lambda: claims.list(updated_after=after))
            return {"claims": [_result(claim) for claim in listed]}
        if token == GET_PARAMETERS:
            offered = _asking("looking up what the API offers", claims.parameters)
            return {
                "zoneInstanceTypes": {zone: list(ids) for zone, ids in offered.zone_instance_types.items()}
            }
        raise ClaimError(f"{token} is no function of this version of the provider, {__version__}")

    def _one(self, claim_id: str | None, name: str | None, secrets: Collection[str]) -> CapacityClaim:
        claims = self._op.claims
        if (claim_id is None) == (name is None):
            raise ClaimError("getCapacityClaim takes either id or name")
        by, given = ("id", claim_id) if claim_id is not None else ("name", name)
        shown = unless_secret(given, by, secrets)
        hidden = [str(given)] if by in secrets else []
        if claim_id is not None:
            doing = f"looking up the capacity claim {shown}"
            return _asking(doing, lambda: lookups.by_id(claims, claim_id, shown), hidden)
        listed = _asking(f"looking up the capacity claim named '{shown}'", claims.list, hidden)
        return lookups.only([claim for claim in listed if claim.name == name], shown)

    async def _await(
        self, context: Context, request: provider_pb2.InvokeRequest, given: Properties
    ) -> CapacityClaim:
        claim_id = str(given.get("id") or "")
        claim = await self._run(context, "", lambda: self._one(claim_id, None, ()))
        if getattr(request, "preview", False):
            return claim
        try:
            readiness = Readiness(
                timeout=given.get("timeout") or "45m", min_instances=given.get("minInstances")
            )
        except InvalidReadiness as error:
            await _abort(context, self._said(f"awaitCapacityClaim: {error}"))
        # a name that a program has declared may be secret in its state, which this call does not see
        is_default = has_default_name(claim)
        goal = Goal(
            claim.name if is_default else claim_id,
            claim_id,
            claim.resources,
            readiness,
            claim.status.updated_at,
            secrets=frozenset() if is_default else frozenset({"name"}),
        )
        try:
            return await self._wait(goal)
        except (ClaimError, CoreweaveError) as error:
            await _abort(context, self._said(_wait_failed(error, goal, "the claim, as far as we know.")))

    # Waiting

    async def _ready(
        self,
        context: Context,
        urn: str,
        claim_id: str,
        outputs: Outputs,
        given: _Given,
        seconds: float,
    ) -> CapacityClaim:
        """The claim once it is ready. Otherwise the call fails, with what the state is to hold."""
        goal = self._goal(urn, claim_id, outputs, given, seconds)
        if goal is None:
            self._siblings.note_ready(urn)
            return outputs.claim
        self._siblings.note_unready(urn, claim_id)
        self._waiting += 1
        hint = asyncio.get_running_loop().call_later(_ALL_WAIT, self._say_that_all_wait)
        try:
            claim = await self._wait(goal)
        except Exception as error:  # noqa: BLE001  # whatever it is: the claim exists, and must be in the state
            last = self._poller.last_seen(claim_id) or outputs.claim
            detail = provider_pb2.ErrorResourceInitFailed(
                id=claim_id,
                properties=struct(_kept(outputs, last), given.secrets),
                inputs=struct(given.sent, given.secrets),
            )
            held = "the claim, as far as we know; it stays in the state."
            await _fail_init(context, detail, self._said(_wait_failed(error, goal, held)))
        finally:
            hint.cancel()
            self._waiting -= 1
        self._siblings.note_ready(urn)
        return claim

    async def _wait(self, goal: Goal) -> CapacityClaim:
        urn = goal.urn or ""
        lines = (self._line(urn, ephemeral=True), self._line(urn, warning=True), self._line(urn))
        return await self._poller.wait(goal, *lines)

    def _goal(
        self, urn: str, claim_id: str, outputs: Outputs, given: _Given, seconds: float, *, waits: bool = False
    ) -> Goal | None:
        """What to wait for; None if nothing is to be waited for."""
        declared = given.values.get(_READINESS)
        declared = declared if isinstance(declared, Mapping) else {}
        if not (waits or self._op.settings.wait) or declared.get("wait") is False:
            return None
        return Goal(
            resource_name=resource_name_of(urn),
            claim_id=claim_id,
            resources=api.CapacityClaimResources.model_validate(outputs["resources"]),
            readiness=_readiness_or_default(declared, seconds),
            updated_at=outputs.get("updatedAt"),
            urn=urn,
            key=urn,
            namespace=self._namespace or None,
            secrets=given.secrets,
        )

    def _say_that_all_wait(self) -> None:
        """Say once that the engine may hold claims back: each wait occupies one of its slots."""
        slots = _slots()
        if self._waiting != slots or self._all_wait_said:
            return
        self._all_wait_said = True
        self._say(
            Lines(
                f"{slots} claims are waited for, as many as Pulumi handles at a time; if there are more, "
                "they are not requested yet. To request more at a time, set "
                f"PULUMI_PARALLEL={slots * 4}, or pass --parallel."
            )
        )

    # Identity

    def _given(self, struct_: Any, urn: str, inputs: Mapping[str, Any] | None = None) -> _Given:
        values, secrets = plain(struct_)
        return self._with_identity(values, secrets, urn, values if inputs is None else inputs)

    def _with_identity(
        self, values: Properties, secrets: frozenset[str], urn: str, inputs: Mapping[str, Any]
    ) -> _Given:
        """The properties with the claim's identity; `inputs` tell whether the name is declared."""
        identity = identity_of(values) | {
            DECLARATION: urn,
            NAMESPACE: self._namespace or None,
            SECRET: sorted(secrets) or None,
            EXPLICIT_NAME: inputs.get("name") is not None,
        }
        known = {name: value for name, value in identity.items() if value}
        return _Given(values | {IDENTITY: known}, secrets)

    def _refuse_without_namespace(self, urn: str) -> None:
        if not self._namespace:
            raise ClaimError(
                text(
                    f"creating {labelled(resource_name_of(urn), None)} failed: its provider has no id that "
                    "claims can be derived from.",
                    held="nothing new.",
                    then=["set `namespace` of the provider to a UUID, such as the output of `uuidgen`"],
                )
            )

    def _twin_problems(self, inputs: Mapping[str, Any]) -> list[str]:
        if not self._namespace or is_unknown_within(inputs):
            return []
        try:
            self._refuse_twin(inputs)
        except ClaimError as error:
            return [str(error)]
        return []

    def _refuse_twin(self, props: Mapping[str, Any]) -> None:
        """Raise `TwinExists` if the declaration has made a living claim under another namespace.

        A default provider gets a new id with another version of its SDK, so a create that was interrupted
        before cannot be taken over by its id.
        """
        declaration = _declaration(props)
        claims = _asking("looking for claims that this declaration has made before", self._op.listed)
        for claim in declaration.made_elsewhere(claims):
            if claim.state in (api.ClaimState.DELETING, api.ClaimState.FAILED):
                continue
            if not self._op.guard.is_accounted_for(claim.id):
                raise TwinExists(_twin(declaration, claim, self._declared_as))

    # To the engine

    def _said(self, text: str) -> Lines:
        return said(text, declared=bool(self._declared_as))

    def _line(self, urn: str, ephemeral: bool = False, *, warning: bool = False) -> Callable[[Lines], None]:
        return lambda line: self._log(line, urn, ephemeral=ephemeral, warning=warning)

    def _say(self, line: Lines) -> None:
        self._log(line, _urn.get())

    def _log(self, line: Lines, urn: str, *, ephemeral: bool = False, warning: bool = False) -> None:
        request = engine_pb2.LogRequest(
            severity=engine_pb2.WARNING if warning else engine_pb2.INFO,
            message=self._said(line),
            urn=urn,
            ephemeral=ephemeral,
        )
        try:
            self._engine.Log(request, timeout=_LOG_SECONDS)
        except grpc.RpcError:
            return  # the engine is gone, and with it whoever would read the line

    async def _run(self, context: Context, urn: str, call: Callable[[], T]) -> T:
        """What the call returns, in a thread; its error ends the call of the engine."""
        token = _urn.set(urn)
        try:
            return await asyncio.to_thread(call)
        except ClaimError as error:
            await _abort(context, self._said(str(error)))
        except RuntimeError:
            if not self._cancelled.is_set():  # a pause that was ended, or a closed client
                raise
            await _abort(context, self._said(_interrupted(urn)))
        finally:
            _urn.reset(token)

    def _reader(self) -> api.AsyncCapacityClaims:
        if self._client is None:
            self._client = self._op.settings.polling_client()
        return self._client.capacity_claims

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def schema() -> str:
    """The schema of the package, as the engine and the generators of SDKs read it."""
    return resources.files(__package__).joinpath("schema.json").read_text(encoding="utf-8")


def _config(given: Mapping[str, Any]) -> Callable[[str], str | None]:
    """The settings of a provider, as texts: SDKs encode everything but strings as JSON, YAML does not."""

    def look_up(key: str) -> str | None:
        value = given.get(key)
        if value is None or is_unknown(value):
            return None
        return value if isinstance(value, str) else json.dumps(value)

    return look_up


def _declared_as(urn: str) -> str:
    """The URN of a provider that the program declares; empty for the default one, which the engine names."""
    return "" if resource_name_of(urn).startswith("default") else urn


def _is_uuid(given: str) -> bool:
    try:
        return bool(uuid.UUID(given))
    except ValueError:
        return False


def _uuid_in(provider_id: str) -> str:
    """The id of the provider; empty in the first preview of a stack, which does not know it yet."""
    return provider_id if _is_uuid(provider_id) and provider_id != rpc.UNKNOWN else ""


def _slots() -> int:
    """How many resources the engine handles at a time, unless `--parallel` says otherwise."""
    given = os.environ.get("PULUMI_PARALLEL", "")
    return int(given) if given.isdecimal() and int(given) else 4 * (os.cpu_count() or 1)


def _readiness(declared: Mapping[str, Any], seconds: float = 0) -> Readiness:
    return Readiness(
        timeout=seconds or ("45m" if declared.get("timeout") is None else declared["timeout"]),
        min_instances=declared.get("minInstances"),
        on_timeout=declared.get("onTimeout") or "fail",
    )


def _ignoring(paths: Collection[str], news: _Given, olds: _Given) -> _Given:
    """The declaration with what the state holds for each path that the program ignores.

    The engine puts the old inputs there, which lag behind the outputs after an update that was not ready.
    """
    values = dict(news.values)
    held, declared = olds.values.get("resources"), values.get("resources")
    for path in paths:
        if path == "name" and "name" in values:
            values["name"] = olds.values.get("name")
        elif isinstance(held, Mapping) and isinstance(declared, Mapping):
            fields = (
                list(held) if path == "resources" else [path.removeprefix("resources.").partition("[")[0]]
            )
            declared = dict(declared) | {field: held[field] for field in fields if field in held}
    if declared is not None:
        values["resources"] = declared
    return _Given(values, news.secrets)


def _readiness_or_default(declared: Mapping[str, Any], seconds: float) -> Readiness:
    """The declared readiness; the default for one in the state that this version does not accept."""
    try:
        return _readiness(declared, seconds)
    except InvalidReadiness:
        return Readiness()


def _readiness_problems(news: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, list[str]]:
    """The declared readiness, and what is wrong with it."""
    declared = news.get(_READINESS)
    if declared is None or is_unknown_within(declared):
        return None, []
    if not isinstance(declared, Mapping):
        return None, [f"readiness: must be an object with {', '.join(_READINESS_FIELDS)}"]
    problems = [
        f"readiness.{name}: is not a field of readiness; the fields are {', '.join(_READINESS_FIELDS)}"
        for name in declared
        if name not in _READINESS_FIELDS
    ]
    if not isinstance(declared.get("wait", True), bool):
        problems.append("readiness.wait: must be true or false")
    try:
        _readiness(declared)
    except InvalidReadiness as error:
        problems.append(f"readiness: {error}")
    return (declared if not problems else None), problems


def _never_ready(
    readiness: Mapping[str, Any], inputs: Mapping[str, Any], secrets: frozenset[str]
) -> list[str]:
    minimum, declared = readiness.get("minInstances"), inputs.get("resources")
    count = declared.get("instanceCount") if isinstance(declared, Mapping) else None
    if not isinstance(minimum, int) or not isinstance(count, int) or minimum <= count:
        return []
    return [
        f"readiness.minInstances: is {unless_secret(minimum, _READINESS, secrets)}, more than the instances "
        "that are reserved, so the claim can never be ready"
    ]


def _must_be_ready(goal: Goal) -> bool:
    return goal.readiness is not None and goal.readiness.on_timeout == "fail"


def _declaration(props: Mapping[str, Any]) -> Declaration:
    identity = identity_of(props)
    return Declaration(
        identity[NAMESPACE],
        identity[DECLARATION],
        api.CapacityClaimResources.model_validate(props["resources"]),
        props.get("name"),
        frozenset(secrets_of(props)),
    )


def _twin(declaration: Declaration, claim: CapacityClaim, provider: str) -> Lines:
    by = f" --provider {shlex.quote(f'{resource_name_of(provider)}={provider}')}" if provider else ""
    return text(
        f"creating {labelled(declaration.resource_name, None)} is refused: this declaration has made a claim "
        "before, under another id of its provider.",
        said=[f"{claim.id}: {held_resources(claim, declaration.secrets)}"],
        held="that claim; nothing new.",
        then=[
            "if the state holds it (`pulumi stack --show-ids`), do not force its replacement: run "
            "`pulumi up` without --replace, and if it is tainted, first run `pulumi state untaint "
            f"{shlex.quote(declaration.key)}`",
            "if the state does not hold it, import it: `pulumi import "
            f"{TYPE} {declaration.resource_name} {claim.id}{by}`, then run `pulumi up`",
            f"or release it: `capacity-claims release --all-stacks {claim.id}`, which refuses if a stack "
            "has it",
        ],
    )


def _replaced_while_moving(urn: str, claim_id: str, replaces: Collection[str]) -> Lines:
    """The dynamic provider would release the old claim, without knowing whether the new one is ready."""
    return text(
        f"{labelled(resource_name_of(urn), claim_id)} would move from the dynamic resource and be replaced "
        f"at once, because {', '.join(replaces)} changed.",
        held="the claim, unchanged.",
        then=["declare what the dynamic resource declared and run `pulumi up`, which moves it; then change "
              "it"],
    )  # fmt: skip


def _outputs(outs: Any) -> Outputs:
    """The outputs of a result of the core, which the SDK declares as any dict."""
    outputs: Outputs = outs
    return outputs


def _kept(outputs: Outputs, claim: CapacityClaim) -> Properties:
    """What the state holds: the outputs without what each call derives anew, and the claim's progress."""
    identity = {
        name: value
        for name, value in identity_of(outputs).items()
        if name not in (DECLARATION, NAMESPACE, SECRET)
    }
    kept = {name: value for name, value in outputs.items() if name != IDENTITY}
    kept |= {"status": str(claim.state), "allocatedInstances": claim.status.allocated_instances}
    kept["updatedAt"] = claim.status.updated_at or outputs.get("updatedAt")
    return kept | ({IDENTITY: identity} if identity else {})


def _expected(news: Properties, olds: Properties) -> Properties:
    """What a preview shows of a claim that is created or changed: what is not known yet is unknown."""
    names = ("name", "organizationId", "createdAt")
    kept = {name: olds.get(name, UNKNOWN) for name in names} | {"name": news.get("name") or olds.get("name")}
    kept = {name: UNKNOWN if value is None else value for name, value in kept.items()}
    progress = dict.fromkeys(("updatedAt", "status", "allocatedInstances"), UNKNOWN)
    return {"resources": news["resources"], **kept, **progress}


def _result(claim: CapacityClaim) -> dict[str, Any]:
    """A claim as the functions return it."""
    status = claim.status
    return {
        "id": claim.id,
        "name": claim.name,
        "organizationId": claim.spec.organization_id,
        "resources": claim.resources.to_wire(),
        "status": str(claim.state),
        "allocatedInstances": status.allocated_instances,
        "pendingInstances": status.pending_instances,
        "conditions": [
            {
                "type": each.type,
                "status": str(each.status),
                "reason": each.reason,
                "message": each.message,
                "zone": each.zone or "",
                "lastUpdateTime": each.last_update_time,
            }
            for each in status.conditions
        ],
        "createdAt": status.created_at,
        "updatedAt": status.updated_at,
    }


def _asking(doing: str, call: Callable[[], T], hidden: Collection[str] = ()) -> T:
    try:
        return call()
    except CoreweaveError as error:
        raise lookup_failure(doing, without_values(error, hidden)) from None


def _wait_failed(error: Exception, goal: Goal, held: str) -> str:
    if isinstance(error, CoreweaveError):
        error = api_failure("reading", goal.resource_name, goal.claim_id, error, held=held)
    return str(error)


def _interrupted(urn: str) -> Lines:
    about = f"the work on {labelled(resource_name_of(urn), None)}" if urn else "the lookup"
    return text(
        f"{about} was interrupted.",
        held="what was held before, and what a request that was on its way may have changed.",
        then=["run the same command again; nothing is created twice"],
    )


def _unready(claim: CapacityClaim, goal: Goal) -> Lines:
    """What a refresh says of a claim that is not ready."""
    if judge(claim, goal) is Verdict.FAILED:
        return Lines(not_ready(claim, goal, 0).partition("\n")[0])
    label = labelled(goal.resource_name, goal.claim_id)
    return text(f"{label} is not ready yet: {held_resources(claim, goal.secrets)}.")


async def _abort(context: Context, message: Lines) -> NoReturn:
    await context.abort(grpc.StatusCode.UNKNOWN, str(message))  # gRPC takes no subclass


async def _fail_init(
    context: Context, detail: provider_pb2.ErrorResourceInitFailed, message: Lines
) -> NoReturn:
    """Fail a call whose resource is to be in the state all the same."""
    detail.reasons.append(message)
    trailer = (("grpc-status-details-bin", status_with(detail, message)),)
    await context.abort(grpc.StatusCode.UNKNOWN, str(message), trailer)
