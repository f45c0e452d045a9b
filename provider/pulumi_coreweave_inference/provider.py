"""What the engine calls: check, diff, create, read, update and delete of a claim.

The engine stores a provider in every user's state by its class's module and name, so both are promises,
as are the names of the properties kept in the state. Providers have no attributes of their own: what a
process needs (settings, client, which claims it has seen alive) lies in `_process`.

A provider never waits for instances: create and update return when the API has taken the claim. What is
waited for is the end of a deletion: by delete, and by a create whose id is not free yet.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)

import coreweave_inference as api
from coreweave_inference.errors import CoreweaveError, NotFound, Unauthenticated, Unavailable

from . import catalogue
from .delete_guard import DeleteGuard
from .errors import (
    MISSING_TOKEN,
    ClaimError,
    api_failure,
    held_resources,
    labelled,
    lookup_failure,
    text,
)
from .identity import (
    Declaration,
    HeldByOther,
    NameTaken,
    Obtained,
    OutOfAttempts,
    StillLeaving,
    Unreadable,
    obtain,
    resource_name_of,
)
from .inputs import (
    DECLARATION,
    EXPLICIT_NAME,
    IDENTITY,
    INCARNATION,
    NAMESPACE,
    RESOURCE_FIELDS,
    Problem,
    compare,
    identity_of,
    is_unknown,
    normalize,
)
from .lifeline import end_with_the_engine
from .obstacles import (
    changed_elsewhere,
    create_failed,
    foreign_token,
    left_alive,
    left_behind,
    not_looked_through,
    obstructed,
    without_effect,
)
from .orphans import claims_of_stack, find_orphans
from .plugin import (
    keep_event_loops,
    pass_over_what_stays,
    serve_more_at_once,
    show_without_traceback,
)
from .reads import BulkReader, DeletionWaiter, SingleFlight, is_late
from .settings import CATALOGUE_DEADLINE, Settings, settings_from

if TYPE_CHECKING:
    from coreweave_inference import (
        CapacityClaim,
        CapacityClaimParameters,
        CapacityClaimResources,
        CapacityClaims,
        Client,
    )

Properties = dict[str, Any]

_OF_LATE: Final = timedelta(days=7)
_LISTS_LAG: Final = 5.0  # seconds; assumed of lists in the API's normal state


class CapacityClaimProvider(ResourceProvider):
    """Creates, reads, changes and releases capacity claims through CoreWeave's inference API."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Read the settings of the stack, once per process."""
        _begin(req)

    def check(self, _olds: Properties, news: Properties) -> CheckResult:
        """Validate what the program declares, and bring it into the shape that is kept."""
        inputs, problems = normalize(news)
        token = _process.settings.token
        if token and all(problem.property.startswith("resources.zones[") for problem in problems):
            problems += _not_offered(_olds, inputs, {problem.property for problem in problems})
        # With a property of its own the engine would print that property's value, which it only finds
        # for properties of the first level.
        failures = [CheckFailure("", f"{problem.property}: {problem.reason}") for problem in problems]
        if not token:
            failures.append(CheckFailure("", MISSING_TOKEN))
        if "resources" in _olds and IDENTITY in inputs:
            # A namespace that was made anew, or after an import, changes nothing for a claim that exists.
            kept = {name: value for name, value in identity_of(_olds).items() if name == NAMESPACE and value}
            own = {name: value for name, value in identity_of(inputs).items() if name != NAMESPACE}
            inputs[IDENTITY] = own | kept
        return CheckResult(inputs, failures)

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        """Tell what changes in place and what replaces the claim."""
        _process.incarnations.compared(_id, _olds, _news)
        difference = compare(_olds, _news, _process.settings.patchable)
        if not difference.changed:
            return DiffResult(changes=False)
        # `None` leaves the detailed diff to the engine, which compares the inputs property by property.
        return DiffResult(changes=None, replaces=list(difference.replaces))

    def create(self, props: Properties) -> CreateResult:
        """Post the claim, or take over the one that an unfinished create has left."""
        declaration = _declaration(props)
        settings, client = _process.connected()
        made = _process.made_of_late(declaration.namespace)
        _must_be_of_the_stacks_organization(declaration)
        try:
            obtained = obtain(
                client.capacity_claims,
                declaration,
                owner=_process.incarnations.owner,
                grace=settings.read_grace,
                patience=settings.delete_timeout,
                clock=time.monotonic,
                sleep=time.sleep,
            )
        except CoreweaveError as error:
            raise create_failed(declaration, error) from None
        except (NameTaken, HeldByOther, Unreadable, StillLeaving, OutOfAttempts) as obstacle:
            raise obstructed(declaration, obstacle) from None
        _say_if_adopted(declaration, obtained)
        _say_if_left(declaration, obtained, made)
        identity = identity_of(props) | {INCARNATION: uuid.uuid4().hex, EXPLICIT_NAME: bool(declaration.name)}
        outputs = outputs_of(obtained.claim, identity)
        _process.reads.wrote(obtained.claim.id)
        _process.incarnations.created(obtained.claim.id, outputs)
        return CreateResult(obtained.claim.id, outputs)

    def read(self, id_: str, props: Properties) -> ReadResult:
        """The claim as the API holds it now; after drift with the inputs that would declare it so."""
        _process.connected()
        try:
            claim = _found(id_, props)
        except CoreweaveError as error:
            raise api_failure(
                "reading", _resource_name(props), id_, error, held="the state is left as it was."
            ) from None
        if claim is None or claim.state == "STATUS_DELETING":
            return _gone(id_, props)
        _process.incarnations.read(id_)
        identity = identity_of(props)
        outputs = outputs_of(claim, identity)
        if DECLARATION in identity and all(
            outputs[name] == props.get(name) for name in ("name", "resources")
        ):
            return ReadResult(id_, outputs)  # the inputs in the state still declare it
        declared = {name: identity[name] for name in (NAMESPACE, DECLARATION) if name in identity}
        inputs: Properties = {"resources": outputs["resources"]}
        inputs |= {IDENTITY: declared} if declared else {}
        inputs |= {"name": claim.name} if identity.get(EXPLICIT_NAME) else {}
        return ReadResult(id_, outputs, inputs)

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        """Change the claim in place: its count, and what else the API is said to accept.

        What somebody else has changed since the state was written is not overwritten unseen.
        """
        settings, client = _process.connected()
        declared = _resources(_news)
        wanted = declared.to_wire()
        resource_name = _resource_name(_olds)
        try:
            claim = _process.reads.read(_id, _olds.get("updatedAt"))
            live = claim.resources.to_wire()
            # What is older than the state tells neither what is there nor that somebody has changed it.
            late = is_late(claim, api.parse_timestamp(_olds.get("updatedAt")))
            if late or live != wanted:
                if not late and live != _olds.get("resources") and not settings.overwrite:
                    raise changed_elsewhere(resource_name, claim, _olds["resources"], declared)
                claim = client.capacity_claims.update(_id, declared)
                _process.reads.wrote(_id)
                if claim.resources.to_wire() != wanted:
                    raise without_effect(resource_name, claim, declared)
        except CoreweaveError as error:
            before = "the claim as it was before"
            if isinstance(error, Unavailable):
                before += ", or changed if only the answer was lost; `pulumi refresh` tells"
            elif isinstance(error, NotFound):
                before = "nothing, as far as the API knows; the claim is still in the state"
            raise api_failure("changing", resource_name, _id, error, held=f"{before}.") from None
        carried = identity_of(_olds) | {EXPLICIT_NAME: bool(_news.get("name"))}
        return UpdateResult(outputs_of(claim, carried))

    def delete(self, _id: str, _props: Properties) -> None:
        """Release the claim and wait until it is gone; a claim that lives on in the state is kept."""
        resource_name = _resource_name(_props)
        if _process.incarnations.lives_on(_id, _props):
            _say(
                f"{labelled(resource_name, _id)} is kept: the entry removed from the state was an "
                "earlier one of a claim that lives on."
            )
            return
        settings, client = _process.connected()
        updated_at = _props.get("updatedAt")
        last = None
        try:
            known = _process.reads.shows(_id, updated_at)
            try:
                client.capacity_claims.delete(_id)
            except NotFound:
                _must_be_of_the_organization("releasing", _id, _props)
            else:
                _process.reads.wrote(_id)
                last = _process.departures.wait(_id, updated_at, known, settings.delete_timeout)
        except CoreweaveError as error:
            raise api_failure(
                "releasing", resource_name, _id, error,
                held="the claim, as far as is known; it stays in the state.",
            ) from None  # fmt: skip
        if last is not None:
            raise ClaimError(
                text(
                    f"releasing {labelled(resource_name, _id)} is not finished: the API still shows it "
                    f"after {settings.delete_timeout:g} s.",
                    held=f"{held_resources(last)}; it stays in the state.",
                    then=["run the same command again to go on waiting (coreweave:deleteTimeout is "
                          "for how long)"],
                )
            )  # fmt: skip
        _process.incarnations.released(_id, shown=known)


class ClaimNamespaceProvider(ResourceProvider):
    """Gives a stack its namespace: a random UUID that the ids of its claims are computed from.

    The state holds the namespace before the first claim is posted and until the last one is released: it
    does not go while a claim lives that was made with it and that the state does not hold.
    """

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Read the settings of the stack, once per process."""
        _begin(req)

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        """A namespace never changes."""
        return DiffResult(changes=False)

    def create(self, props: Properties) -> CreateResult:
        """Draw the namespace."""
        namespace = str(uuid.uuid4())
        _process.drew(namespace)
        return CreateResult(namespace, {})

    def delete(self, _id: str, _props: Properties) -> None:
        """Let the namespace go, unless a claim that the stack has made is still alive."""
        settings, client = _process.connected()
        if settings.orphans == "leave":
            return
        claims = client.capacity_claims
        grace = settings.read_grace
        released, shown = _process.incarnations.releases()
        # Where the state held no claim, all that the stack has ever begun may have been cut off just now.
        not_before = _process.began + (min(_LISTS_LAG, grace) if released else grace)
        wait = not_before - time.monotonic()
        if wait > _LISTS_LAG:
            _say(
                f"waiting {wait:.0f} s before looking for a claim that a cut-off creation may have left: "
                "lists may not show it yet"
            )
        until = max(not_before, time.monotonic()) + grace
        try:
            left = find_orphans(
                _id, _process.incarnations.settled, claims.get, _listing(claims), shown,
                not_before, until, time.monotonic, time.sleep,
            )  # fmt: skip
        except CoreweaveError as error:
            raise not_looked_through(error) from None
        if left:
            raise left_alive(left)


class _Process:
    """What one provider process knows: settings, client, and what it has seen of the claims."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settings: Settings | None = None
        self._client: Client | None = None
        self.began: float
        """When the first call was made, by the monotonic clock."""
        self.reads: BulkReader
        self.departures: DeletionWaiter
        self.incarnations = DeleteGuard()
        self._asking = threading.Lock()
        self._asked = False
        self._offered: CapacityClaimParameters | None = None
        self._together: SingleFlight
        self.organization: str | None = None
        """The organization that the token is of, as far as a claim has told; empty when none tells."""
        self._looking = threading.Lock()
        self._made: dict[str, list[CapacityClaim]] = {}
        self._said: set[str] = set()

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            raise ClaimError("the provider was called before it was configured")
        return self._settings

    def configure(self, settings: Settings) -> None:
        with self._lock:
            if settings == self._settings:
                return  # each class of providers is configured, and all share this process
            self._settings = settings
            if self._client is not None:
                self._client.close()
            self._client = None
            self.incarnations = DeleteGuard()
            self._asked, self._offered = False, None
            self.organization = None
            self._made.clear()

    def connected(self) -> tuple[Settings, Client]:
        with self._lock:
            settings = self.settings
            if self._client is None:
                self._client = settings.client()
                self.began = time.monotonic()
                self._together = SingleFlight(time.monotonic)
                claims = self._client.capacity_claims
                self.reads = BulkReader(
                    claims.get, _listing(claims), time.monotonic, time.sleep, settings.read_grace
                )
                self.departures = DeletionWaiter(claims.get, _listing(claims), time.monotonic, time.sleep)
            return settings, self._client

    def abandon(self) -> None:
        """Make every further call to the API fail: nobody is left to hear of it."""
        with self._lock:
            if self._client is not None:
                self._client.close()

    def offered(self) -> CapacityClaimParameters | None:
        """What the API offers, asked for once; None where it does not say, which is told once.

        Raises `ClaimError` where the setting insists on the answer.
        """
        settings, client = self.connected()
        with self._asking:
            if not self._asked:
                try:
                    policy = replace(settings.retry, deadline=CATALOGUE_DEADLINE)
                    self._offered = client.capacity_claims.parameters(retry=policy)
                except CoreweaveError as error:
                    failure = lookup_failure("looking up what the API offers", error)
                    refused = settings.catalogue is None and isinstance(error, Unauthenticated)
                    if settings.catalogue == "error" or refused:
                        raise failure from None
                    self.say_once(f"warning: zones and instance types are not checked: {failure}")
                self._asked = True
            return self._offered

    def find_organization(self) -> str:
        """The organization that the token is of; empty where no claim tells. Raises what the API answers."""
        _, client = self.connected()
        with self._together.asking():
            if self.organization is None:
                claim = self.reads.any_claim() or next(iter(client.capacity_claims.list()), None)
                self.organization = claim.spec.organization_id if claim is not None else ""
            return self.organization

    def drew(self, namespace: str) -> None:
        """Remember that a namespace is new: no claim can have been made with it before."""
        with self._looking:
            self._made[namespace] = []

    def made_of_late(self, namespace: str) -> list[CapacityClaim]:
        """The living claims that the stack has made before this operation; asked for once.

        Only those of the last days, since nobody needs a list of all the claims of an organization, and
        none where the API does not tell, which is told once, or where they are meant to live on.
        """
        settings, client = self.connected()
        if settings.orphans == "leave":
            return []
        with self._looking:
            if namespace not in self._made:
                try:
                    claims = client.capacity_claims.list(
                        updated_after=datetime.fromtimestamp(time.time_ns() / 1e9, UTC) - _OF_LATE,
                        retry=replace(settings.retry, deadline=CATALOGUE_DEADLINE),
                    )
                except CoreweaveError as error:
                    claims = []
                    failure = lookup_failure("looking for claims that a cut-off creation has left", error)
                    self.say_once(f"warning: {failure}")
                self._made[namespace] = claims_of_stack(namespace, claims)
                if claims:
                    self.organization = claims[0].spec.organization_id
            return self._made[namespace]

    def say_once(self, line: str) -> None:
        """Show a line to the user, but once only in this process."""
        with self._lock:
            if line in self._said:
                return
            self._said.add(line)
        _say(line)


def _listing(claims: CapacityClaims) -> Callable[[datetime | None], list[CapacityClaim]]:
    return lambda since: claims.list(updated_after=since)


_process: Final = _Process()


def _begin(req: ConfigureRequest) -> None:
    """What a process does first."""
    show_without_traceback()
    serve_more_at_once()
    keep_event_loops()
    pass_over_what_stays()
    end_with_the_engine(_process.abandon)
    _process.configure(settings_from(lambda key: req.config.get(f"coreweave:{key}")))


def _not_offered(olds: Mapping[str, Any], inputs: Mapping[str, Any], told: Collection[str]) -> list[Problem]:
    """What of a declaration the API does not offer; what only deserves a warning is said.

    `told` are the properties that are known to be wrong. Where there are some, an API that does not answer
    is no reason to say nothing of them.
    """
    settings = _process.settings
    resources, before = inputs.get("resources"), olds.get("resources")
    if settings.catalogue == "off" or not isinstance(resources, Mapping):
        return []
    if isinstance(before, Mapping) and all(
        before.get(name) == resources.get(name) for name in ("instanceId", "zones")
    ):
        return []  # a claim that exists has been accepted already
    try:
        offered = _process.offered()
    except ClaimError:
        if not told:
            raise
        return []
    if offered is None:
        return []
    findings = catalogue.check(resources, offered)
    problems = [problem for problem in findings.problems if problem.property not in told]
    warnings = findings.warnings
    if settings.catalogue == "warn":
        problems, warnings = [], problems + warnings
    for warning in warnings:
        label = labelled(_resource_name(inputs), None)
        _process.say_once(f"warning: {label}: {warning.property}: {warning.reason}")
    return problems


def _declaration(props: Mapping[str, Any]) -> Declaration:
    identity = identity_of(props)
    namespace, key = identity.get(NAMESPACE), identity.get(DECLARATION)
    if not isinstance(namespace, str) or not isinstance(key, str):
        raise ClaimError(
            "a capacity claim needs a namespace and a key to get its id from, and this one has none; "
            "declare it with pulumi_coreweave_inference.CapacityClaim"
        )
    return Declaration(namespace, key, _resources(props), props.get("name"))


def _resources(props: Mapping[str, Any]) -> CapacityClaimResources:
    return api.CapacityClaimResources.model_validate(
        {name: props["resources"][name] for name in RESOURCE_FIELDS}
    )


def _resource_name(props: Mapping[str, Any]) -> str:
    key = identity_of(props).get(DECLARATION)
    return resource_name_of(key) if isinstance(key, str) else str(props.get("name") or "unnamed")


def outputs_of(claim: CapacityClaim, identity: Mapping[str, Any]) -> Properties:
    """What the state holds of a claim: what does not change by itself, and what this software remembers.

    How far a claim has come is left out. It would be out of date as soon as it is written, and with a
    file as its backend the engine writes the whole state anew with each step. The state of earlier
    versions has it (`status`, `allocatedInstances`, `pendingInstances`, `conditions`): nothing reads it, and
    the next update or refresh drops it.
    """
    status = claim.status
    outputs: Properties = {
        "name": claim.name,
        "resources": claim.resources.to_wire(),
        "organizationId": claim.spec.organization_id,
        "createdAt": status.created_at,
        "updatedAt": status.updated_at,
    }
    known = {name: value for name, value in identity.items() if value and not is_unknown(value)}
    return outputs | ({IDENTITY: known} if known else {})


def _found(claim_id: str, props: Mapping[str, Any]) -> CapacityClaim | None:
    """The claim, or None where it is gone. Raises `ClaimError` where the token cannot tell."""
    try:
        return _process.reads.read(claim_id, props.get("updatedAt"))
    except NotFound:
        _must_be_of_the_organization("reading", claim_id, props)
        return None


def _must_be_of_the_organization(doing: str, claim_id: str, props: Mapping[str, Any]) -> None:
    """Raise `ClaimError` where the API does not know a claim because the token is of another organization."""
    made_in = props.get("organizationId")
    shown = _process.find_organization() if made_in else ""
    if shown and made_in != shown:
        raise foreign_token(doing, _resource_name(props), claim_id, str(made_in), shown)


def _must_be_of_the_stacks_organization(declaration: Declaration) -> None:
    """Raise `ClaimError` rather than create a claim beside those that the stack has elsewhere."""
    made_in, shown = _process.incarnations.organization, _process.organization
    if made_in and shown and made_in != shown:
        raise foreign_token("creating", declaration.resource_name, None, made_in, shown)


def _gone(claim_id: str, props: Mapping[str, Any]) -> ReadResult:
    if "organizationId" in props:
        return ReadResult("", {})
    raise ClaimError(
        text(
            f"there is no capacity claim with the id {claim_id!r}.",
            then=["look at `capacity-claims list` for the claims there are"],
        )
    )


def _say_if_adopted(declaration: Declaration, obtained: Obtained) -> None:
    if obtained.how == "posted":
        return
    scaled = (
        f" and scaled to {obtained.claim.resources.instance_count}"
        if obtained.how == "adopted and scaled"
        else ""
    )
    _say(
        f"{labelled(declaration.resource_name, obtained.claim.id)} existed already; "
        f"it is taken over{scaled}, not created twice."
    )


def _say_if_left(declaration: Declaration, obtained: Obtained, made: Sequence[CapacityClaim]) -> None:
    """Tell of living claims that were made for this declaration and that this operation has not met."""
    for claim in made:
        if (
            claim.id != obtained.claim.id
            and not _process.incarnations.settled(claim.id)
            and declaration.has_made(claim)
        ):
            _say(f"warning: {left_behind(declaration, claim)}")


def _say(line: str) -> None:
    """Show a line to the user: the engine shows what its plugins print."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
