"""What the engine calls: check, diff, create, read, update and delete of a claim.

The engine stores a provider in every user's state by the module and name of its class, so both are promises,
and so are the names of the properties in the state. Providers have no attributes of their own: settings,
client, and what this run has seen of the claims are in the current `Operation`.

A provider never waits for instances: create and update return as soon as the API has accepted the claim. It
waits for the end of a deletion only: in delete, and in a create whose id is not free yet.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Collection, Mapping
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
from coreweave_inference.errors import (
    ApiError,
    CoreweaveError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)

from . import catalogue, operation
from .create import Created, create_or_adopt, takeover
from .delete_guard import kept
from .engine_process import prepare_process
from .errors import (
    MISSING_TOKEN,
    ClaimError,
    api_failure,
    labelled,
    lookup_failure,
    text,
)
from .foreign_text import led_by
from .identity import Declaration, resource_name_of
from .inputs import (
    DECLARATION,
    DELETE_FIRST,
    EXPLICIT_NAME,
    IDENTITY,
    INCARNATION,
    NAMESPACE,
    RESOURCE_FIELDS,
    REWRITTEN,
    SECRET,
    Problem,
    as_declared,
    compare,
    differing,
    identity_of,
    is_unknown,
    is_unknown_within,
    normalize,
    program_spelling,
    rewritten_fields,
)
from .operation import Operation
from .orphans import orphan_warning, refuse_to_leave_orphans
from .participation import reported
from .reads import is_stale
from .rounds import PAUSES
from .secrecy import described, held_resources, secrets_of, unless_secret, unsaid, without_secrets
from .settings import creation_refused, misspelt, settings_from

if TYPE_CHECKING:
    from coreweave_inference import CapacityClaim, CapacityClaimResources

Properties = dict[str, Any]


class Outputs(Properties):
    """What the state holds of a claim, and the claim itself as the API returned it."""

    def __init__(self, claim: CapacityClaim, outputs: Mapping[str, Any]) -> None:
        super().__init__(outputs)
        self.claim: CapacityClaim = claim


class CapacityClaimProvider(ResourceProvider):
    """Creates, reads, changes and releases capacity claims through CoreWeave's inference API."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Read the settings of the stack. Called once for each class of providers in a process."""
        _configure(req)

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Validate what the program declares, and bring it into the shape that the state keeps."""
        op = operation.current()
        inputs, problems = normalize(reported(news))
        if isinstance(inputs.get(IDENTITY), Mapping):
            inputs[IDENTITY] = _kept_identity(olds, inputs)
        token = op.settings.token
        # Misspelled zones are reported together with what is not offered; other errors make no call.
        if token and all(problem.property.startswith("resources.zones[") for problem in problems):
            problems += _not_offered(op, olds, inputs, {problem.property for problem in problems})
        # No property name: the engine knows only top-level ones, and would print their values.
        problems = [without_secrets(problem, secrets_of(inputs)) for problem in problems]
        failures = [CheckFailure("", led_by(f"{problem.property}: ", problem.reason)) for problem in problems]
        if not token:
            failures.append(CheckFailure("", MISSING_TOKEN))
        failures += [CheckFailure("", message) for message in op.misspelt]
        if "resources" not in olds and (refused := creation_refused(op.settings)):
            failures.append(CheckFailure("", refused))
        if "resources" not in olds and not failures and not identity_of(news).get(DELETE_FIRST):
            failures += _foresee_create(op, inputs)
        return CheckResult(inputs, failures)

    def diff(self, id: str, olds: Properties, news: Properties) -> DiffResult:
        """Determine what changes in place and what replaces the claim."""
        op = operation.current()
        op.guard.on_diff(id, olds, news)
        op.state_organization = olds.get("organizationId") or op.state_organization
        difference = compare(olds, news, op.settings.patchable)
        if not difference.changed:
            # an entry of the native resource is written anew, with what the SDK keeps in it; nothing is sent
            before = identity_of(olds)
            return DiffResult(changes=INCARNATION in before and DECLARATION not in before)
        _refuse_damaged(id, olds)  # only now: it takes a tenth of a second, the import of pydantic
        # `None` leaves the detailed diff to the engine, which compares the inputs property by property.
        return DiffResult(changes=None, replaces=list(difference.replaces))

    def create(self, props: Properties) -> CreateResult:
        """Create the claim, or adopt the one that an interrupted create left behind."""
        op = operation.current()
        declaration = _declaration(props)
        if refused := creation_refused(op.settings):
            raise ClaimError(f"{labelled(declaration.resource_name, None)}: {refused}")
        op.recently_created(declaration.namespace)  # also shows the token's organization
        op.refuse_second_organization(declaration.resource_name)
        created = create_or_adopt(op, declaration)
        claim = created.claim
        if created.scaled or (created.adopted and not op.guard.is_foreseen(claim.id)):
            op.say(_adopted(declaration, created))
        _warn_of_orphans(op, declaration, claim.id)
        identity = identity_of(props) | {
            INCARNATION: uuid.uuid4().hex,
            EXPLICIT_NAME: declaration.name is not None,
        }
        outputs = _written(op, claim, declaration.resources, identity)
        op.reads.invalidate(claim.id)
        op.guard.on_create(claim.id, outputs)
        return CreateResult(claim.id, outputs)

    def read(self, id: str, props: Properties) -> ReadResult:
        """Return the claim as the API holds it now; after drift, also the inputs that would declare it."""
        op = operation.current()
        try:
            claim = _read_or_none(op, id, props)
        except CoreweaveError as error:
            redacted = _unsaid(error, props)
            raise api_failure(
                "reading", _resource_name(props), id, redacted, held="as before; the state is unchanged."
            ) from None
        if claim is None or claim.state == api.ClaimState.DELETING:
            return _gone(id, props)
        op.guard.on_read(id)
        identity = identity_of(props)
        outputs = outputs_of(claim, identity, props.get("resources"))
        if DECLARATION in identity and all(
            outputs[name] == props.get(name) for name in ("name", "resources")
        ):
            return ReadResult(id, outputs)  # the inputs in the state still declare it
        declared = {name: identity[name] for name in (NAMESPACE, DECLARATION, SECRET) if name in identity}
        inputs: Properties = {"resources": outputs["resources"]}
        inputs |= {IDENTITY: declared} if declared else {}
        inputs |= {"name": claim.name} if identity.get(EXPLICIT_NAME) else {}
        return ReadResult(id, outputs, inputs)

    def update(self, id: str, olds: Properties, news: Properties) -> UpdateResult:
        """Change the claim in place: its count, and the other fields in `coreweave:patchableFields`.

        If the claim was changed outside of Pulumi since the state was written, this is an error by default.
        """
        op = operation.current()
        _refuse_damaged(id, olds)
        declared = _resources(news)
        resource_name = _resource_name(news)
        try:
            claim = _updated(op, id, olds, news)
        except CoreweaveError as error:
            held = "the claim as it was before"
            if isinstance(error, ApiError) and error.in_doubt:
                held += (
                    ", or already changed, if only the response was lost; run `pulumi refresh` to find out"
                )
            elif isinstance(error, NotFound):
                op.refuse_wrong_organization("changing", resource_name, id, olds)
                held = "nothing, according to the API; the claim is still in the state"
            redacted = unsaid(error, secrets_of(news), declared, news.get("name") or olds.get("name"))
            raise api_failure("changing", resource_name, id, redacted, held=f"{held}.") from None
        identity = {
            **identity_of(olds),
            SECRET: None,
            **identity_of(news),
            EXPLICIT_NAME: news.get("name") is not None,
        }
        return UpdateResult(_written(op, claim, declared, identity))

    def delete(self, id: str, props: Properties, timeout: float | None = None) -> None:
        """Release the claim and wait until it is gone; keep it if another entry of the state holds it.

        `timeout`: how many seconds to wait, if not as long as the settings say.
        """
        op = operation.current()
        timeout = timeout or op.settings.delete_timeout
        resource_name = _resource_name(props)
        if op.guard.is_superseded(id, props):
            op.say(kept(id, resource_name))
            return
        updated_at = props.get("updatedAt")
        accepted, last = False, None
        try:
            listed_before = op.reads.shows(id, updated_at)
            accepted = _release(op, id, props)
            if accepted:
                op.reads.invalidate(id)
                last = op.deletions.wait(id, updated_at, listed_before=listed_before, timeout=timeout)
        except CoreweaveError as error:
            held = (
                "the claim, until the deletion that the API has accepted completes"
                if accepted
                else "the claim, as far as we know"
            )
            redacted = _unsaid(error, props)
            raise api_failure(
                "releasing", resource_name, id, redacted, held=f"{held}; it stays in the state."
            ) from None
        if last is not None:
            raise ClaimError(
                text(
                    f"releasing {labelled(resource_name, id)} is not finished: the API still shows it after "
                    f"{timeout:g} s.",
                    held=f"{held_resources(last, secrets_of(props))}; it stays in the state.",
                    then=["run the same command again to keep waiting (coreweave:deleteTimeout sets how "
                          "long)"],
                )
            )  # fmt: skip
        op.guard.on_delete(id, listed_before=listed_before)


class ClaimNamespaceProvider(ResourceProvider):
    """Gives a stack its namespace: a random UUID from which the ids of its claims are derived.

    The namespace is in the state from before the first claim is created until the last one is released. It
    cannot be deleted while a claim created with it exists, but is missing from the state.
    """

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Read the settings of the stack. Called once for each class of providers in a process."""
        _configure(req)

    def diff(self, id: str, olds: Properties, news: Properties) -> DiffResult:
        """A namespace never changes."""
        return DiffResult(changes=False)

    def create(self, props: Properties) -> CreateResult:
        """Create a new namespace."""
        namespace = str(uuid.uuid4())
        operation.current().namespace_created(namespace)
        return CreateResult(namespace, {})

    def delete(self, id: str, props: Properties) -> None:
        """Delete the namespace, unless a claim that the stack created still exists."""
        op = operation.current()
        if op.settings.orphans != "leave":
            refuse_to_leave_orphans(op, id)


_configuring: Final = threading.Lock()


def _configure(req: ConfigureRequest) -> None:
    with _configuring:
        prepare_process(operation.abandon)
        operation.configure(settings_from(lambda key: req.config.get(f"coreweave:{key}")))
        # The SDK offers no list of the keys. Fallback: misspelt ones have no effect.
        operation.current().misspelt = misspelt(getattr(req.config, "_props", ()))


def _not_offered(
    op: Operation, olds: Mapping[str, Any], inputs: Mapping[str, Any], known: Collection[str]
) -> list[Problem]:
    """The problems found by comparing a declaration with what the API offers; warnings are shown at once.

    `known` are the properties already known to be invalid, which are reported even if the API is down.
    """
    resources, before = inputs.get("resources"), olds.get("resources")
    if op.settings.catalogue == "off" or not isinstance(resources, Mapping):
        return []
    if isinstance(before, Mapping) and all(
        before.get(name) == resources.get(name) for name in ("instanceId", "zones")
    ):
        return []  # the API has accepted this claim already
    try:
        offered = op.offered()
    except ClaimError:
        if not known:
            raise
        return []
    if offered is None:
        return []
    found = catalogue.check(resources, offered)
    problems = [problem for problem in found.problems if problem.property not in known]
    warnings = found.warnings
    if op.settings.catalogue == "warn":
        problems, warnings = [], problems + warnings
    for warning in (without_secrets(warning, secrets_of(inputs)) for warning in warnings):
        label = labelled(_resource_name(inputs), None)
        op.warn(led_by(f"{label}: {warning.property}: ", warning.reason))
    return problems


def _declaration(props: Mapping[str, Any]) -> Declaration:
    identity = identity_of(props)
    namespace, key = identity.get(NAMESPACE), identity.get(DECLARATION)
    if not isinstance(namespace, str) or not isinstance(key, str):
        raise ClaimError(
            "this capacity claim has no namespace and key to compute its id from; "
            "declare it with pulumi_coreweave_inference.CapacityClaim"
        )
    try:
        uuid.UUID(namespace)
    except ValueError:
        raise ClaimError(
            text(
                f"{labelled(resource_name_of(key), None)} has a namespace that is no UUID: {namespace}",
                then=["restore the id of the ClaimNamespace in the state; all ids are computed from it"],
            )
        ) from None
    return Declaration(namespace, key, _resources(props), props.get("name"), frozenset(secrets_of(props)))


def _kept_identity(olds: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The identity as the state keeps it: the namespace never changes, and what is meant for a run goes."""
    before, now = identity_of(olds), identity_of(inputs)
    # A namespace that was created again, or after an import, changes nothing for an existing claim.
    namespace = (before.get(NAMESPACE) if "resources" in olds else None) or now.get(NAMESPACE)
    kept = {DECLARATION: now.get(DECLARATION), NAMESPACE: namespace, SECRET: now.get(SECRET)}
    return {name: value for name, value in kept.items() if value is not None}


def _foresee_create(op: Operation, inputs: Properties) -> list[CheckFailure]:
    """Say what a create of this declaration would do with claims that exist already; fail if it would.

    The provider cannot tell a preview from an update, so an update looks as well.
    """
    namespace = identity_of(inputs).get(NAMESPACE)
    if not isinstance(namespace, str) or op.is_new(namespace) or is_unknown_within(inputs):
        return []
    try:
        declaration = _declaration(inputs)
        claim = takeover(op, declaration)
        if claim is not None:
            op.guard.on_takeover(claim.id, declaration.key)
            op.say(_foreseen(declaration, claim))
    except ClaimError as error:
        return [CheckFailure("", str(error))]
    except CoreweaveError as error:
        op.warn(str(lookup_failure("looking for claims that a new resource would take over", error)))
        return []
    _warn_of_orphans(op, declaration, claim.id if claim is not None else None)
    return []


def _warn_of_orphans(op: Operation, declaration: Declaration, own_id: str | None) -> None:
    if op.settings.orphans == "leave":
        return
    for claim in op.recently_created(declaration.namespace):
        if claim.id != own_id and not op.guard.is_accounted_for(claim.id) and declaration.has_made(claim):
            op.warn(orphan_warning(declaration, claim))


def _resources(props: Mapping[str, Any]) -> CapacityClaimResources:
    return api.CapacityClaimResources.model_validate(
        {name: props["resources"][name] for name in RESOURCE_FIELDS}
    )


def _unsaid(error: CoreweaveError, props: Mapping[str, Any]) -> CoreweaveError:
    """An error about a claim of the state, without the secrets of the claim that its texts quote."""
    try:
        resources = api.CapacityClaimResources.model_validate(props.get("resources"))
    except ValueError:  # a damaged state
        resources = api.CapacityClaimResources()
    name = props.get("name")
    return unsaid(error, secrets_of(props), resources, name if isinstance(name, str) else None)


def _refuse_damaged(claim_id: str, olds: Mapping[str, Any]) -> None:
    """Raises `ClaimError` for a state that does not say what is declared, as one edited by hand may not."""
    try:
        api.CapacityClaimResources.model_validate(olds.get("resources"))
    except ValueError:
        pass
    else:
        return
    raise ClaimError(
        text(
            f"the state of {labelled(_resource_name(olds), claim_id)} is damaged: its `resources` are not "
            "what the provider writes.",
            held="the claim, as the API holds it.",
            then=["run `pulumi refresh`, which records what the API holds, then `pulumi up`"],
        )
    )


def _resource_name(props: Mapping[str, Any]) -> str:
    key = identity_of(props).get(DECLARATION)
    return resource_name_of(key) if isinstance(key, str) else str(props.get("name") or "")


def outputs_of(
    claim: CapacityClaim, identity: Mapping[str, Any], declared: Mapping[str, object] | None = None
) -> Outputs:
    """What the state holds of a claim: what does not change by itself, and its identity.

    `declared`: the resources as declared, for the fields that the API is known to rewrite. Progress is
    omitted: it would be outdated as soon as it is written, and with a file backend the engine rewrites the
    whole state at each step.
    """
    status = claim.status
    resources = claim.resources.to_wire()
    outputs: Properties = {
        "name": claim.name,
        "resources": as_declared(resources, declared or {}, identity.get(REWRITTEN) or ()),
        "organizationId": claim.spec.organization_id,
        "createdAt": status.created_at,
        "updatedAt": status.updated_at,
    }
    known = {name: value for name, value in identity.items() if value and not is_unknown(value)}
    return Outputs(claim, outputs | ({IDENTITY: known} if known else {}))


def _written(
    op: Operation, claim: CapacityClaim, declared: CapacityClaimResources, identity: Mapping[str, Any]
) -> Outputs:
    """The outputs after a write. Warns once where the API did not return what was declared."""
    ours, theirs = declared.to_wire(), claim.resources.to_wire()
    rewritten = rewritten_fields(theirs, ours)
    secrets = secrets_of({IDENTITY: identity})
    for name in rewritten:
        if name not in (identity.get(REWRITTEN) or ()):
            op.warn(
                f"{labelled(_resource_name({IDENTITY: identity}), claim.id)}: the API shows "
                f"{program_spelling(f'resources.{name}')} as "
                f"{unless_secret(_shown(theirs[name]), name, secrets)} instead of "
                f"{unless_secret(_shown(ours[name]), name, secrets)}. The state keeps what is declared, so "
                "this is not a change."
            )
    return outputs_of(claim, {**identity, REWRITTEN: rewritten}, ours)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_or_none(op: Operation, claim_id: str, props: Mapping[str, Any]) -> CapacityClaim | None:
    """The claim, or None if it is gone. Raises `WrongOrganization` if the token cannot see it."""
    try:
        return op.reads.read(claim_id, props.get("updatedAt"))
    except NotFound:
        op.refuse_wrong_organization("reading", _resource_name(props), claim_id, props)
        return None


def _release(op: Operation, claim_id: str, props: Mapping[str, Any]) -> bool:
    """Ask the API to delete a claim. False if the claim is gone already.

    A `not_found` from DELETE is believed only if GET repeats it for the grace period. If GET shows the claim
    alive, it is deleted again. Raises `WrongOrganization` if the token cannot see the claim.
    """
    until = op.clock.now() + op.settings.delete_timeout
    while True:
        try:
            op.claims.delete(claim_id)
            return True
        except NotFound as error:
            refusal = error
        if op.guard.has_released(claim_id):
            return False  # the state held the claim twice
        resource_name = _resource_name(props)
        op.refuse_wrong_organization("releasing", resource_name, claim_id, props)
        claim = _found_within(op, claim_id, op.settings.read_grace)
        if claim is None:
            return False
        if claim.state == api.ClaimState.DELETING:
            return True
        if op.clock.now() >= until:
            raise refusal
        op.clock.sleep(PAUSES[0])


def _found_within(op: Operation, claim_id: str, seconds: float) -> CapacityClaim | None:
    """The claim as soon as GET finds it; None if it does not for so many seconds."""
    for _ in op.clock.poll_until(op.clock.now() + seconds):
        with contextlib.suppress(NotFound):
            return op.claims.get(claim_id)
    return None


def _gone(claim_id: str, props: Mapping[str, Any]) -> ReadResult:
    if "organizationId" in props:  # an entry of the state, not a lookup
        return ReadResult("", {})
    raise ClaimError(
        text(
            f"there is no capacity claim with the id {claim_id!r}.",
            then=["run `capacity-claims list` to see the claims that exist"],
        )
    )


def _foreseen(declaration: Declaration, claim: CapacityClaim) -> str:
    label = labelled(declaration.resource_name, claim.id)
    held = held_resources(claim, declaration.secrets)
    if claim.state == api.ClaimState.DELETING:
        return f"{label} is being deleted ({held}); it is created again once it is gone."
    if claim.state == api.ClaimState.FAILED:
        return f"{label} has failed and holds no instances; it is deleted and created again."
    declared = declaration.resources.instance_count
    scaled = ""
    if declared != claim.resources.instance_count:
        scaled = f" and scaled to {unless_secret(declared, 'instanceCount', declaration.secrets)}"
    return f"{label} already exists ({held}); it is taken over{scaled}, not created."


def _adopted(declaration: Declaration, created: Created) -> str:
    claim = created.claim
    count = unless_secret(claim.resources.instance_count, "instanceCount", declaration.secrets)
    scaled = f" and scaled to {count}" if created.scaled else ""
    return (
        f"{labelled(declaration.resource_name, claim.id)} already existed; it is taken over{scaled}, not "
        "created twice."
    )


def _updated(op: Operation, claim_id: str, olds: Mapping[str, Any], news: Mapping[str, Any]) -> CapacityClaim:
    """The claim with what is declared. Raises `ClaimError` if that cannot be written, and API errors."""
    declared, secrets = _resources(news), {*secrets_of(olds), *secrets_of(news)}
    wanted = declared.to_wire()
    claim = op.reads.read(claim_id, olds.get("updatedAt"))
    live = as_declared(claim.resources.to_wire(), olds["resources"], identity_of(olds).get(REWRITTEN) or ())
    # A read older than the state shows neither what the claim is now nor a change made outside of Pulumi.
    stale = is_stale(claim, api.parse_timestamp(olds.get("updatedAt")))
    if live == wanted and not stale:
        return claim
    resource_name = _resource_name(news)
    if not stale and live != olds.get("resources") and not op.settings.overwrite:
        before = api.CapacityClaimResources.model_validate(olds["resources"])
        raise ClaimError(
            text(
                f"{labelled(resource_name, claim.id)} was changed since the state was written, outside of "
                "Pulumi or by an interrupted update; it is left unchanged.",
                said=[
                    f"the state last saw: {described(before, secrets)}",
                    f"the API holds now:  {described(claim.resources, secrets)}",
                    f"declared:           {described(declared, secrets)}",
                ],
                held=f"{held_resources(claim, secrets)}.",
                then=[
                    "run `pulumi refresh` to record the change, then `pulumi up` to decide about it",
                    "or set coreweave:overwrite to true to overwrite it with what is declared",
                ],
            )
        )
    claim = _patched(op, claim_id, claim.resources.changed_to(declared), stale=stale)
    op.reads.invalidate(claim_id)
    if differing(claim.resources.to_wire(), wanted):
        raise ClaimError(
            text(
                f"changing {labelled(resource_name, claim.id)} had no effect, though the API accepted the "
                "request.",
                said=[
                    f"the API holds: {described(claim.resources, secrets)}",
                    f"declared:      {described(declared, secrets)}",
                ],
                held=f"{held_resources(claim, secrets)}.",
                then=[
                    "if coreweave:patchableFields names the field, remove it there, so that a change "
                    "replaces the claim",
                    "or run `pulumi refresh`, then `pulumi up` to try the change again",
                ],
            )
        )
    return claim


def _patched(op: Operation, claim_id: str, declared: CapacityClaimResources, *, stale: bool) -> CapacityClaim:
    """Write what is declared. If the API refuses that, the claim may hold it already.

    An earlier attempt whose response was lost may have taken effect, or what was read was outdated (`stale`);
    an API may refuse to write what changes nothing.
    """
    try:
        return op.claims.update(claim_id, declared)
    except (FailedPrecondition, InvalidArgument) as error:
        refusal = error
    if refusal.attempts > 1 or stale:
        for _ in op.clock.poll_until(op.clock.now() + op.settings.read_grace):
            claim = op.claims.get(claim_id)
            if not differing(claim.resources.to_wire(), declared.to_wire()):
                return claim
    raise refusal
