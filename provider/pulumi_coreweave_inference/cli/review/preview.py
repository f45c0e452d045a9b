"""The parser: from the output of `pulumi preview --json` to a `Plan`.

The engine (CLI 3.259) prints `steps` in the order in which it takes them, `diagnostics`, and
`changeSummary`. Without `--show-sames`, unchanged resources appear only as a number in the summary. Without
`--show-replacement-steps`, a replacement is one step that does not show which half comes first. The two
states of a `refresh` step are equal; what the refresh found appears in the old state of a later step.

Parsing is tolerant: unknown fields are ignored, and a value of the wrong type counts as not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final

from pulumi_coreweave_inference.inputs import IDENTITY

from .plan import Change, Drift, Kind, Order, Plan, Spec, Unknown

CLAIM_TYPE: Final = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
_NAMESPACE_TYPE: Final = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
_STACK_TYPE: Final = "pulumi:pulumi:Stack"
_MANAGED: Final = "CAPACITY_TYPE_MANAGED"

_SECRET: Final = "[secret]"
_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"  # marks secrets, assets and references
_UNKNOWN: Final = frozenset(
    {
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # string
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # list
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)

_CREATES: Final = ("create-replacement", "import-replacement")
_LOGICAL: Final = ("same", "create", "import", "update", "replace", "delete")
_IGNORED: Final = (
    "read", "read-replacement", "discard", "discard-replaced", "remove-pending-replace", "diff",
)  # fmt: skip
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")


class NotAPreview(Exception):
    """The input is not the output of `pulumi preview --json`. The message says why, in one line."""


def read(stream: IO[bytes]) -> Plan:
    """Read a preview in any JSON encoding. Raises `NotAPreview`."""
    data = stream.read()
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise NotAPreview(f"the input is not text: {error.reason} at byte {error.start}") from None
    del data
    return parse(text)


def parse(text: str) -> Plan:
    """Parse a preview. Raises `NotAPreview`."""
    if not text.strip():
        raise NotAPreview("the input is empty; pipe `pulumi preview --json` into it")
    try:
        # Cut down steps while decoding, so that a large preview is never in memory as objects.
        document = json.loads(text, object_hook=_cut)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise NotAPreview(
                "the input is more than one JSON document, but a preview is only one "
                "(is PULUMI_ENABLE_STREAMING_JSON_PREVIEW set?)"
            ) from None
        raise NotAPreview(
            f"the input is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "expected the output of `pulumi preview --json`"
        ) from None
    except (ValueError, RecursionError):
        raise NotAPreview("the input is not JSON that a preview can contain") from None
    return plan_of(document)


def plan_of(document: object) -> Plan:
    """The plan in a decoded preview. Raises `NotAPreview`."""
    if not isinstance(document, dict) or not ("steps" in document or "diagnostics" in document):
        raise NotAPreview("the input is JSON, but not a preview: it has no steps and no diagnostics")
    steps = document.get("steps") or []
    diagnostics = document.get("diagnostics") or []
    if not isinstance(steps, list) or not isinstance(diagnostics, list):
        raise NotAPreview("the input is JSON, but not a preview: steps and diagnostics are not lists")
    reading = _Reading()
    for index, step in enumerate(steps):
        reading.take(index, step)
    summary = document.get("changeSummary")
    same = summary.get("same", 0) if isinstance(summary, dict) else 0
    errors, warnings = (_messages(diagnostics, severity) for severity in ("error", "warning"))
    return reading.plan(same if isinstance(same, int) else 0, errors, warnings)


@dataclass(slots=True)
class _Claim:
    """The steps of one URN."""

    refresh: Mapping[str, Any] | None = None
    logical: Mapping[str, Any] | None = None
    created_at: int | None = None
    deletions: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


class _Reading:
    """Collects the steps of a preview."""

    def __init__(self) -> None:
        self.claims: dict[str, _Claim] = {}
        self.stack = self.project = ""
        self.root_steps: set[str] = set()
        self.others: set[str] = set()
        self.refreshed: set[str] = set()
        self.followed: set[str] = set()  # URNs with a step other than `refresh`
        self.shown_same = 0

    def take(self, index: int, step: object) -> None:
        if not isinstance(step, dict) or not all(isinstance(step.get(key), str) for key in ("op", "urn")):
            raise NotAPreview(f"the input is JSON, but not a preview: step {index} has no op and urn")
        op, urn = step["op"], step["urn"]
        stack, project, kind, _ = _parts(urn)
        self.stack, self.project = self.stack or stack, self.project or project
        self.shown_same += op == "same"
        (self.refreshed if op == "refresh" else self.followed).add(urn)
        if kind == CLAIM_TYPE:
            self._take_claim(index, op, urn, step)
        elif kind == _STACK_TYPE:
            self.root_steps.add(op)
        elif kind != _NAMESPACE_TYPE and op not in ("same", "refresh", *_IGNORED):
            self.others.add(urn)

    def _take_claim(self, index: int, op: str, urn: str, step: Mapping[str, Any]) -> None:
        if op in _IGNORED:
            return
        claim = self.claims.setdefault(urn, _Claim())
        if op == "refresh":
            claim.refresh = step
        elif op in _CREATES:
            claim.created_at = index
            claim.logical = claim.logical or {**step, "op": "replace"}
        elif op == "delete-replaced" or (op == "delete" and _old(step).get("delete") is True):
            claim.deletions.append((index, step))
        elif op in _LOGICAL:
            claim.logical = step
        else:
            raise NotAPreview(f"step {index} of the preview is {op!r}, which this version does not support")

    def plan(self, same: int, errors: tuple[str, ...], warnings: tuple[str, ...]) -> Plan:
        refresh = self.root_steps == {"refresh"} and not errors
        changes: list[Change] = []
        drift: list[Drift] = []
        only_refreshed = len(self.refreshed - self.followed)
        unseen = max(0, same - self.shown_same)
        for urn, claim in self.claims.items():
            if refresh:
                _read_refreshed(urn, claim, changes, drift)
            else:
                # Without `--show-sames`, an unchanged claim has no step after its refresh.
                _read_planned(urn, claim, changes, drift, gone=unseen < only_refreshed)
        order = list(Kind)
        changes.sort(key=lambda change: (order.index(change.kind), change.urn, change.claim_id or ""))
        drift.sort(key=lambda found: found.urn)
        return Plan(
            project=self.project,
            stack=self.stack,
            changes=tuple(changes),
            drift=tuple(drift),
            errors=errors,
            warnings=warnings,
            others=0 if refresh else len(self.others),
            hidden=max(0, unseen - only_refreshed),
            refresh=refresh,
        )


def _read_refreshed(urn: str, claim: _Claim, changes: list[Change], drift: list[Drift]) -> None:
    """A claim in the preview of a refresh, where `update` and `delete` show what the API holds."""
    step = claim.logical or claim.refresh
    if step is None:
        return
    state = _before(step)
    gone = step["op"] == "delete"
    live = None if gone else (_before({"oldState": step.get("newState")}) or state)
    if state and state != live:
        drift.append(Drift(urn, _name(urn), state, live))
    if live:
        changes.append(_unchanged(urn, live, step))


def _read_planned(urn: str, claim: _Claim, changes: list[Change], drift: list[Drift], *, gone: bool) -> None:
    """A claim in the preview of an update or a destroy."""
    step = claim.logical
    recorded = _before(claim.refresh) if claim.refresh else None
    if step is not None:
        live = _before(step)
        changes.append(_change(urn, step, claim))
    else:
        live = None if gone else recorded
        if live and claim.refresh:
            changes.append(_unchanged(urn, live, claim.refresh))
    if recorded and recorded != live:
        drift.append(Drift(urn, _name(urn), recorded, live))
    replaced_id = _id(step) if step is not None and step["op"] == "replace" else None
    for _, deletion in claim.deletions:
        if replaced_id is None or _id(deletion) != replaced_id:
            changes.append(_release(urn, deletion, by_unfinished_replacement=True))


def _change(urn: str, step: Mapping[str, Any], claim: _Claim) -> Change:
    op, before, after = step["op"], _before(step), _after(step) or _ALL_UNKNOWN
    if op == "delete":
        return _release(urn, step, by_unfinished_replacement=False)
    if op == "same":
        return _unchanged(urn, before or _ALL_UNKNOWN, step)
    if op in ("create", "import"):
        kind = Kind(op)
    else:
        before = before or _ALL_UNKNOWN
        kind = Kind.REPLACE if op == "replace" else _in_place(before, after)
    return Change(
        urn=urn,
        name=_name(urn),
        kind=kind,
        before=before,
        after=_named(after, before if kind is not Kind.REPLACE else None),
        order=_order(step, claim) if kind is Kind.REPLACE else None,
        reasons=_reasons(step),
        claim_id=_id(step),
        protected=_new(step).get("protect") is True,
        retained=_old(step).get("retainOnDelete") is True,
    )


def _unchanged(urn: str, spec: Spec, step: Mapping[str, Any]) -> Change:
    protected = (_new(step) or _old(step)).get("protect") is True
    return Change(urn, _name(urn), Kind.SAME, spec, spec, claim_id=_id(step), protected=protected)


def _release(urn: str, step: Mapping[str, Any], *, by_unfinished_replacement: bool) -> Change:
    state = _old(step)
    retained = state.get("retainOnDelete") is True
    return Change(
        urn=urn,
        name=_name(urn),
        kind=Kind.FORGET if retained else Kind.RELEASE,
        before=_before(step) or _ALL_UNKNOWN,
        after=None,
        claim_id=_id(step),
        protected=state.get("protect") is True,
        retained=retained,
        by_unfinished_replacement=by_unfinished_replacement,
    )


def _reasons(step: Mapping[str, Any]) -> tuple[str, ...]:
    """The properties that require a replacement, without those that only the provider uses."""
    return tuple(
        reason
        for reason in step.get("replaceReasons") or ()
        if isinstance(reason, str) and reason.split(".")[0] != IDENTITY
    )


def _in_place(before: Spec, after: Spec) -> Kind:
    def rest(spec: Spec) -> tuple[object, ...]:
        return (spec.instance_type, spec.zones, spec.capacity_type)

    renamed = after.name is not None and after.name != before.name
    only_count = rest(before) == rest(after) and not renamed and before.count != after.count
    return Kind.SCALE if only_count else Kind.CHANGE


def _named(after: Spec, before: Spec | None) -> Spec:
    """A claim that changes in place keeps its name unless the program sets one."""
    if before is None or after.name is not None:
        return after
    return Spec(after.instance_type, after.count, after.zones, after.capacity_type, before.name)


def _order(step: Mapping[str, Any], claim: _Claim) -> Order:
    if claim.created_at is None:
        return Order.UNKNOWN
    own = [index for index, deletion in claim.deletions if _id(deletion) == _id(step)]
    return Order.DELETE_FIRST if own and own[0] < claim.created_at else Order.CREATE_FIRST


def _before(step: Mapping[str, Any]) -> Spec | None:
    """What the state holds: the outputs from the API, or the inputs if there are none."""
    state = _old(step)
    if not state:
        return None
    return _spec(_object(state, "outputs")) or _spec(_object(state, "inputs")) or _ALL_UNKNOWN


def _after(step: Mapping[str, Any]) -> Spec | None:
    """What the program declares."""
    state = _new(step)
    return (_spec(_object(state, "inputs")) or _ALL_UNKNOWN) if state else None


_ALL_UNKNOWN: Final = Spec(Unknown.COMPUTED, Unknown.COMPUTED, Unknown.COMPUTED, Unknown.COMPUTED)


def _spec(properties: Mapping[str, Any]) -> Spec | None:
    if "resources" not in properties:
        return None
    given = properties["resources"]
    hidden = _unknown(given)
    if hidden or not isinstance(given, dict):
        all_ = hidden or Unknown.COMPUTED
        return Spec(all_, all_, all_, all_, name=_word(properties["name"]) if "name" in properties else None)
    return Spec(
        instance_type=_word(given.get("instanceId")),
        count=_count(given.get("instanceCount")),
        zones=_zones(given.get("zones")),
        capacity_type=_word(given.get("capacityType", _MANAGED)),
        name=_word(properties["name"]) if "name" in properties else None,
    )


def _word(value: object) -> str | Unknown:
    return _unknown(value) or (value if isinstance(value, str) else Unknown.COMPUTED)


def _count(value: object) -> int | Unknown:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value < 0:
        return _unknown(value) or Unknown.COMPUTED
    return int(value) if value != float("inf") and value == int(value) else Unknown.COMPUTED


def _zones(value: object) -> tuple[str | Unknown, ...] | Unknown:
    if not isinstance(value, list):
        return _unknown(value) or Unknown.COMPUTED
    return tuple(_word(zone) for zone in value)


def _unknown(value: object) -> Unknown | None:
    if value == _SECRET or (isinstance(value, dict) and _SIGNATURE in value):
        return Unknown.SECRET
    return Unknown.COMPUTED if isinstance(value, str) and value in _UNKNOWN else None


def _cut(decoded: dict[str, Any]) -> dict[str, Any]:
    """A step reduced to what a review reads; any other object unchanged."""
    if "op" not in decoded or "urn" not in decoded:
        return decoded
    kept: dict[str, Any] = {key: decoded[key] for key in ("op", "urn", "replaceReasons") if key in decoded}
    if isinstance(decoded["urn"], str) and _parts(decoded["urn"])[2] == CLAIM_TYPE:
        for side in ("oldState", "newState"):
            state = decoded.get(side)
            if isinstance(state, dict):
                kept[side] = _cut_state(state)
    return kept


def _cut_state(state: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: state[key] for key in ("id", "protect", "delete", "retainOnDelete") if key in state}
    for block in ("inputs", "outputs"):
        properties = state.get(block)
        if isinstance(properties, dict):
            kept[block] = {key: properties[key] for key in ("resources", "name") if key in properties}
    return kept


def _messages(diagnostics: Iterable[object], severity: str) -> tuple[str, ...]:
    """The messages of one severity, each once, without colors and the engine's prefix."""
    texts: dict[str, None] = {}
    for diagnostic in diagnostics:
        if isinstance(diagnostic, dict) and diagnostic.get("severity") == severity:
            text = _ANSI.sub("", str(diagnostic.get("message", ""))).strip().removeprefix(f"{severity}: ")
            texts[text or f"{severity} without a message"] = None
    if len(texts) > 1:
        texts.pop("preview failed", None)  # adds nothing to the other messages
    return tuple(texts)


def _parts(urn: str) -> tuple[str, str, str, str]:
    """Stack, project, type without its parents, and name of a URN. A name may contain any character."""
    parts = urn.split("::", 3)
    if len(parts) != 4:
        return "", "", "", urn
    stack, project, kinds, name = parts
    return stack.removeprefix("urn:pulumi:"), project, kinds.rpartition("$")[2], name


def _name(urn: str) -> str:
    return _parts(urn)[3]


def _id(step: Mapping[str, Any]) -> str | None:
    found = _old(step).get("id")
    return found if isinstance(found, str) else None


def _old(step: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(step, "oldState")


def _new(step: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(step, "newState")


def _object(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}
