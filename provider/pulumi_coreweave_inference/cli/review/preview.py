"""The parser: from the output of `pulumi preview --json` to a `Plan`.

The engine (CLI 3.259) prints `steps` in the order in which it takes them, `diagnostics`, and
`changeSummary`. Without `--show-sames`, unchanged resources appear only as a number in the summary. Without
`--show-replacement-steps`, a replacement is one step that does not show which half comes first, and nothing
shows whether a claim that an unfinished replacement left still exists. The two states of a `refresh` step are
equal; what the refresh found appears in the old state of a later step.

While a replacement is unfinished, the state holds two claims under one URN, the older one with
`delete: true`. Their ids tell their steps apart. If one of them has changed, the preview of a `refresh` shows
that one twice, and nothing of the other one.

A claim may be declared with the dynamic resource or with the native one. An alias moves it from one to the
other: the step has the new URN, and its old state the old type.

Parsing is tolerant: unknown fields are ignored, and a value of the wrong type counts as not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pulumi_coreweave_inference.cli.tokens import CLAIMS, DYNAMIC_NAMESPACE, NATIVE, NATIVE_PROVIDER
from pulumi_coreweave_inference.inputs import IDENTITY, NAMESPACE, RESOURCE_FIELDS

from .plan import WAIT_ALONE, Change, Drift, Evidence, Existing, Kind, Order, Plan, Spec, Unknown
from .takeover import Entries, Reports, native_identity, reports, taken_over

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
_HALVES: Final = (*_CREATES, "delete-replaced")
_LOGICAL: Final = ("same", "create", "import", "update", "replace", "delete")
_IGNORED: Final = (
    "read", "read-replacement", "discard", "discard-replaced", "remove-pending-replace", "diff",
)  # fmt: skip
_STEP_KEYS: Final = ("op", "urn", "replaceReasons")
_STATE_KEYS: Final = (
    "id", "importID", "type", "provider", "protect", "delete", "retainOnDelete", "deletedWith", "initErrors",
)  # fmt: skip
_PROPERTIES: Final = ("resources", "name", IDENTITY)
_START: Final = re.compile(r"^[{\[]", re.MULTILINE)  # of a document: lines within one are indented
_ANOTHER: Final = re.compile(r"(\A\s*|^)\{", re.MULTILINE)
_SIGNS: Final = {"add": "+", "delete": "-"}
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")


class NotAPreview(Exception):
    """The input is not the output of `pulumi preview --json`. The message says why, in one line."""


def parse(text: str) -> Plan:
    """Parse a preview. Raises `NotAPreview`."""
    if not text.strip():
        raise NotAPreview("the input is empty; pipe `pulumi preview --json` into it")
    # The engine prints lines of its own around the document, such as "Installing policy pack …".
    starts = [found.start() for found in _START.finditer(text)] or [len(text) - len(text.lstrip())]
    for start in starts:
        try:
            # Cut down steps while decoding, so that a large preview is never in memory as objects.
            document, end = json.JSONDecoder(object_hook=_cut).raw_decode(text, start)
        except json.JSONDecodeError as error:
            if start != starts[-1] and error.pos < starts[-1]:
                continue  # a line of the engine that begins with a brace
            raise NotAPreview(
                f"the input is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
                "expected the output of `pulumi preview --json`"
            ) from None
        except (ValueError, RecursionError):
            raise NotAPreview("the input is not JSON that a preview can contain") from None
        if _ANOTHER.search(text[end:]):
            raise NotAPreview(
                "the input is more than one JSON document, but a preview is only one "
                "(is PULUMI_ENABLE_STREAMING_JSON_PREVIEW set?)"
            )
        break
    return plan_of(document)


def plan_of(document: object) -> Plan:
    """The plan in a decoded preview. Raises `NotAPreview`."""
    if not isinstance(document, dict) or not ("steps" in document or "diagnostics" in document):
        raise NotAPreview("the input is JSON, but not a preview: it has no steps and no diagnostics")
    steps = document.get("steps") or []
    diagnostics = document.get("diagnostics") or []
    if not isinstance(steps, list) or not isinstance(diagnostics, list):
        raise NotAPreview("the input is JSON, but not a preview: steps and diagnostics are not lists")
    said = {severity: _texts(diagnostics, severity) for severity in ("error", "warning", "info")}
    reading = _Reading(reports(said["info"]))
    for index, step in enumerate(steps):
        reading.take(index, step)
    summary = document.get("changeSummary")
    same = summary.get("same", 0) if isinstance(summary, dict) else 0
    return reading.plan(
        same if isinstance(same, int) else 0,
        errors=_messages(said["error"], "error"),
        warnings=_messages([*said["warning"], *_printed_warnings(said["info"])], "warning"),
    )


_Step = Mapping[str, Any]


@dataclass(slots=True)
class _Claim:
    """The steps of one URN."""

    steps: list[_Step] = field(default_factory=list)
    refresh: _Step | None = None  # of the current claim
    left: dict[str | None, _Step] = field(default_factory=dict)  # refreshes of claims with `delete: true`
    logical: _Step | None = None
    created_at: int | None = None
    deletions: list[tuple[int, _Step]] = field(default_factory=list)

    @property
    def order(self) -> Order:
        """Which half of the replacement of this URN comes first."""
        if self.created_at is None or self.logical is None:
            return Order.UNKNOWN
        own = [index for index, deletion in self.deletions if _id(deletion) == _id(self.logical)]
        return Order.DELETE_FIRST if own and own[0] < self.created_at else Order.CREATE_FIRST


class _Reading:
    """Collects the steps of a preview."""

    def __init__(self, reported: Reports) -> None:
        self.reported = reported
        self.claims: dict[str, _Claim] = {}
        self.stack = self.project = ""
        self.root_steps: set[str] = set()
        self.others: set[str] = set()
        self.refreshed: set[str] = set()
        self.followed: set[str] = set()  # URNs with a step other than `refresh`
        self.shown_same = self.refresh_steps = 0
        self.replaced: set[str] = set()
        self.deleted: set[str] = set()  # URNs, also of replacements that delete last
        self.failed = False  # whether the preview ended before all steps were planned
        self.shows_halves = False  # whether there are separate steps for the two halves of a replacement
        self.holders: dict[str, set[str]] = {}  # the URNs of each claim's id
        self.refreshes: dict[str | None, _Step] = {}  # of current claims, by id
        self.accounted: set[str] = set()  # ids of claims of which it is known what happens to them
        self.changes: list[Change] = []
        self.drift: list[Drift] = []
        self.half_shown: list[str] = []
        self.imports: dict[str, str] = {}  # the URN that imports a claim, by the claim's id
        self.spaces: dict[str, str] = {}  # what providers of the native resource set as their namespace

    def take(self, index: int, step: object) -> None:
        if not isinstance(step, dict) or not all(isinstance(step.get(key), str) for key in ("op", "urn")):
            raise NotAPreview(f"the input is JSON, but not a preview: step {index} has no op and urn")
        op, urn = step["op"], step["urn"]
        stack, project, kind, _ = _parts(urn)
        self.stack, self.project = self.stack or stack, self.project or project
        self.shown_same += op == "same"
        if op == "refresh":
            self.refresh_steps += 1
            self.refreshed.add(urn)
        elif op != "delete-replaced":  # that may be of another claim than the refreshed one
            self.followed.add(urn)
        self.shows_halves = self.shows_halves or op in _HALVES
        if op == "replace":
            self.replaced.add(urn)
        elif op == "delete" or (op == "delete-replaced" and _is_left(step)):
            self.deleted.add(urn)
        if kind == NATIVE_PROVIDER:
            space = _object(_new(step), "inputs").get(NAMESPACE)
            if isinstance(space, str) and space not in _UNKNOWN:
                self.spaces[urn] = space
        if kind in CLAIMS:
            self._take_claim(index, op, urn, step)
        elif kind == _STACK_TYPE:
            self.root_steps.add(op)
        elif kind != DYNAMIC_NAMESPACE and op not in ("same", "refresh", *_IGNORED):
            self.others.add(urn)

    def _take_claim(self, index: int, op: str, urn: str, step: _Step) -> None:
        if op in _IGNORED:
            return
        claim = self.claims.setdefault(urn, _Claim())
        claim.steps.append(step)
        claim_id = _id(step)
        if claim_id is not None:
            self.holders.setdefault(claim_id, set()).add(urn)
        if op == "refresh" and _is_left(step):
            claim.left[claim_id] = step
        elif op == "refresh":
            claim.refresh = self.refreshes[claim_id] = step
        elif op in _CREATES:
            claim.created_at = index
            claim.logical = claim.logical or {**step, "op": "replace"}
            self._account_for(claim_id)
        elif op == "delete-replaced" or (op == "delete" and _is_left(step)):
            claim.deletions.append((index, step))
        elif op in _LOGICAL:
            claim.logical = step
            self._account_for(claim_id)
            if op == "import" and (imported := _new(step).get("importID")):
                self.imports[str(imported)] = urn
        else:
            raise NotAPreview(f"step {index} of the preview is {op!r}, which this version does not support")

    def plan(self, same: int, errors: tuple[str, ...], warnings: tuple[str, ...]) -> Plan:
        self.failed = bool(errors)
        refresh = self.root_steps == {"refresh"} and not self.failed
        # A claim that was renamed by an alias is refreshed under its old URN.
        self.followed |= {
            step["urn"] for claim_id, step in self.refreshes.items() if claim_id in self.accounted
        }
        only_refreshed = len(self.refreshed - self.followed)
        unseen = max(0, same - self.shown_same)
        if not self.shows_halves:
            self.deleted |= self.replaced  # unless they delete first, which the preview does not show
        for urn, claim in self.claims.items():
            if refresh:
                self._read_refreshed(urn, claim)
            else:
                # Without `--show-sames`, an unchanged claim has no step after its refresh.
                self._read_planned(urn, claim, gone=unseen < only_refreshed)
                self._read_left(urn, claim)
        released = self._settle_moves()
        order = list(Kind)
        self.changes.sort(key=lambda change: (order.index(change.kind), change.urn, change.claim_id or ""))
        self.drift.sort(key=lambda found: (found.urn, found.by_unfinished_replacement))
        return Plan(
            project=self.project,
            stack=self.stack,
            changes=tuple(self.changes),
            drift=tuple(self.drift),
            errors=errors,
            warnings=warnings,
            others=0 if refresh else len(self.others),
            # A refresh counts claims; an update counts URNs.
            hidden=max(
                0, unseen - (self.refresh_steps + len(self.half_shown) if refresh else only_refreshed)
            ),
            half_shown=tuple(sorted(self.half_shown)),
            imported_and_released=released,
            refresh=refresh,
        )

    def _settle_moves(self) -> tuple[str, ...]:
        """Make a move by an import one change, and return the names of claims that such a move releases.

        The program declares a claim with the other resource and imports it; the old entry leaves the state.
        Unless the engine keeps the claim, the provider of the old entry releases it: it does not know the new
        one.
        """
        settled: dict[str, str | None] = {}  # the ids of claims that move, by the URN that imports them
        kept: list[Change] = []
        released: list[str] = []
        for each in self.changes:
            urn = self.imports.get(each.claim_id) if each.claim_id is not None else None
            crosses = urn is not None and _is_native(urn) != each.native
            if urn is not None and crosses and each.kind is Kind.FORGET:
                settled[urn] = each.claim_id
                continue
            if crosses and each.kind is Kind.RELEASE:
                released.append(each.name)
            kept.append(each)
        self.changes = [
            replace(each, moved=True, claim_id=settled[each.urn])
            if each.kind is Kind.IMPORT and each.urn in settled
            else each
            for each in kept
        ]
        return tuple(sorted(released))

    def _read_refreshed(self, urn: str, claim: _Claim) -> None:
        """A URN in the preview of a refresh, where `update` and `delete` show what the API holds."""
        shown = {(_id(step), _is_left(step)): step for step in claim.steps}
        changed = [(_id(step), _is_left(step)) for step in claim.steps if step["op"] != "refresh"]
        if len(set(changed)) < len(changed):
            self.half_shown.append(_name(urn))
        for (claim_id, left), step in shown.items():
            if left and (claim_id, False) in shown:
                continue  # an outdated entry of the same claim
            state = _before(step)
            gone = step["op"] == "delete"
            live = None if gone else (_before({"oldState": step.get("newState")}) or state)
            self._compare(urn, step, live)
            if live:
                self.changes.append(_unchanged(urn, live, step))

    def _read_planned(self, urn: str, claim: _Claim, *, gone: bool) -> None:
        """The current claim of a URN in the preview of an update or a destroy."""
        step, refreshed = claim.logical, claim.refresh
        if step is not None:
            change = self._change(urn, step, claim)
            self.changes.append(change)
            self._account_for(change.takes_over.claim_id if change.takes_over else None)
            live = _before(step)
            refreshed = refreshed or (self.refreshes.get(_id(step)) if _id(step) else None)
        elif refreshed is None or self.failed or _id(refreshed) in self.accounted:
            return  # only claims that are left, not planned before a failure, or with another URN now
        else:
            self._account_for(_id(refreshed))
            live = None if gone else _before(refreshed)
            if live:
                self.changes.append(_unchanged(urn, live, refreshed))
        if refreshed:
            self._compare(urn, refreshed, live)

    def _read_left(self, urn: str, claim: _Claim) -> None:
        """The claims of a URN that an unfinished replacement left, in such a preview."""
        for _, deletion in claim.deletions:
            claim_id = _id(deletion)
            if refreshed := claim.left.pop(claim_id, None):
                self._compare(urn, refreshed, _before(deletion))
            if claim_id not in self.accounted:
                self.changes.append(self._release(urn, deletion, left=True))
                self._account_for(claim_id)
        for claim_id, refreshed in claim.left.items():
            if claim_id in self.accounted or self.failed:
                continue
            if self.shows_halves:
                self._compare(urn, refreshed, None)
            else:
                self.changes.append(replace(self._release(urn, refreshed, left=True), if_it_exists=True))

    def _account_for(self, claim_id: str | None) -> None:
        if claim_id is not None:
            self.accounted.add(claim_id)

    def _compare(self, urn: str, step: _Step, live: Spec | None) -> None:
        """Note the drift between the state as a step shows it and what the API holds."""
        state = _before(step)
        if state and state != live:
            self.drift.append(Drift(urn, _name(urn), state, live, _id(step), _is_left(step)))

    def _change(self, urn: str, step: _Step, claim: _Claim) -> Change:
        op, before, after = step["op"], _before(step), _after(step) or _ALL_UNKNOWN
        if op == "delete":
            return self._release(urn, step, left=False)
        if op == "same":
            return _unchanged(urn, before or _ALL_UNKNOWN, step)
        existing = self._taken_over(urn, step, claim, after) if op in ("create", "replace") else None
        if existing and (op == "create" or existing.evidence is Evidence.SAME_ID):
            kind, before = Kind.TAKEOVER, existing.spec
        elif op in ("create", "import"):
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
            order=claim.order if kind is Kind.REPLACE else None,
            reasons=_reasons(step),
            claim_id=existing.claim_id if existing and kind is Kind.TAKEOVER else _id(step),
            protected=_new(step).get("protect") is True,
            retained=kind is not Kind.TAKEOVER and self._is_kept(_old(step)),
            takes_over=existing,
            diff=_diff(step),
            native=_is_native(urn),
            moved=_is_moved(urn, step),
            unready=_is_unready(step),
        )

    def _taken_over(self, urn: str, step: _Step, claim: _Claim, declared: Spec) -> Existing | None:
        own_id = _id(step)
        own = {_id(deletion): _before(deletion) for _, deletion in claim.deletions}
        own[own_id] = _before(step)
        first = {_id(deletion) for index, deletion in claim.deletions if index < (claim.created_at or 0)}
        if claim.order is not Order.CREATE_FIRST:
            first.add(own_id)  # possibly, if the order is not shown
        entries = Entries(
            own={claim_id: spec for claim_id, spec in own.items() if claim_id is not None and spec},
            released={claim_id for claim_id in first if claim_id is not None},
            is_held_elsewhere=lambda claim_id: bool(self.holders.get(claim_id, set()) - {urn}),
        )
        inputs = _object(_new(step), "inputs")
        if _is_native(urn):
            inputs = native_identity(urn, self._namespace(step), self.reported)
        existing = taken_over(inputs, declared, entries, self.reported)
        if existing and existing.claim_id == own_id:
            return replace(existing, evidence=Evidence.SAME_ID)
        return existing

    def _namespace(self, step: _Step) -> str | None:
        """The namespace of a native claim that is about to be created, if the preview shows it."""
        provider = _new(step).get("provider")
        urn, _, id_ = provider.rpartition("::") if isinstance(provider, str) else ("", "", "")
        return self.spaces.get(urn) or (id_ if id_ not in _UNKNOWN else None)

    def _release(self, urn: str, step: _Step, *, left: bool) -> Change:
        state = _old(step)
        kept = self._is_kept(state)
        return Change(
            urn=urn,
            name=_name(urn),
            kind=Kind.FORGET if kept else Kind.RELEASE,
            before=_before(step) or _ALL_UNKNOWN,
            after=None,
            claim_id=_id(step),
            protected=state.get("protect") is True,
            retained=kept,
            by_unfinished_replacement=left,
            native=_is_native(urn),
        )

    def _is_kept(self, state: _Step) -> bool:
        """Whether the engine removes a claim only from the state: the options in the state decide."""
        host = state.get("deletedWith")
        return state.get("retainOnDelete") is True or (isinstance(host, str) and host in self.deleted)


def _unchanged(urn: str, spec: Spec, step: _Step) -> Change:
    protected = (_new(step) or _old(step)).get("protect") is True
    return Change(
        urn, _name(urn), Kind.SAME, spec, spec,
        claim_id=_id(step), protected=protected, by_unfinished_replacement=_is_left(step),
        native=_is_native(urn), moved=_is_moved(urn, step),
    )  # fmt: skip


def _reasons(step: Mapping[str, Any]) -> tuple[str, ...]:
    """The properties that require a replacement, without those that only the provider uses.

    The native resource names `resources` alone, and what changes within it in the detailed difference.
    """
    within = [
        f"resources.{name}"
        for name in RESOURCE_FIELDS
        if any(
            re.split(r"[\[]", path, maxsplit=1)[0] == f"resources.{name}" and _replaces(detail)
            for path, detail in _object(step, "detailedDiff").items()
        )
    ]
    reasons: list[str] = []
    for reason in step.get("replaceReasons") or ():
        if isinstance(reason, str) and reason.split(".")[0] != IDENTITY:
            reasons += within if reason == "resources" and within else [reason]
    return tuple(dict.fromkeys(reasons))


def _replaces(detail: object) -> bool:
    return isinstance(detail, dict) and str(detail.get("kind")).endswith("-replace")


def _diff(step: Mapping[str, Any]) -> tuple[str, ...]:
    """The changed properties as Pulumi's row names them: the top level only, each with its sign."""
    changed: dict[str, str] = {}
    for path, detail in _object(step, "detailedDiff").items():
        name = re.split(r"[.\[]", path, maxsplit=1)[0]
        kind = str(detail.get("kind")) if isinstance(detail, dict) and name == path else ""
        changed[name] = _SIGNS.get(kind.removesuffix("-replace"), "~")
    return tuple(sign + name for name, sign in sorted(changed.items(), key=lambda each: (each[1], each[0])))


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
    kept: dict[str, Any] = {key: decoded[key] for key in _STEP_KEYS if key in decoded}
    type_ = _parts(decoded["urn"])[2] if isinstance(decoded["urn"], str) else ""
    is_claim = type_ in CLAIMS
    if is_claim and "detailedDiff" in decoded:
        kept["detailedDiff"] = decoded["detailedDiff"]
    for side in ("oldState", "newState"):
        state = decoded.get(side)
        if isinstance(state, dict):
            kept[side] = _cut_state(state) if is_claim else {"delete": state.get("delete")}
            if type_ == NATIVE_PROVIDER:
                kept[side]["inputs"] = {NAMESPACE: _object(state, "inputs").get(NAMESPACE)}
    return kept


def _cut_state(state: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: state[key] for key in _STATE_KEYS if key in state}
    for block in ("inputs", "outputs"):
        properties = state.get(block)
        if isinstance(properties, dict):
            kept[block] = {key: properties[key] for key in _PROPERTIES if key in properties}
    return kept


def _texts(diagnostics: Iterable[object], severity: str) -> list[str]:
    """The messages of one severity, without colors."""
    return [
        _ANSI.sub("", str(diagnostic.get("message", "")))
        for diagnostic in diagnostics
        if isinstance(diagnostic, dict) and diagnostic.get("severity") == severity
    ]


def _printed_warnings(lines: Iterable[str]) -> list[str]:
    """The provider's warnings. What it prints becomes one message per line; further lines are indented."""
    found: list[str] = []
    inside = False
    for line in map(str.rstrip, lines):
        if inside and line.startswith("  "):
            found[-1] += f"\n{line}"
            continue
        inside = line.startswith("warning: ")
        if inside:
            found.append(line)
    return found


def _messages(texts: Iterable[str], severity: str) -> tuple[str, ...]:
    """The messages of one severity, each once, without the engine's prefix."""
    found = dict.fromkeys(
        text.strip().removeprefix(f"{severity}: ") or f"{severity} without a message" for text in texts
    )
    if len(found) > 1:
        found.pop("preview failed", None)  # adds nothing to the other messages
    return tuple(found)


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


def _is_native(urn: str) -> bool:
    return _parts(urn)[2] == NATIVE


def _is_moved(urn: str, step: Mapping[str, Any]) -> bool:
    """Whether a step moves a claim between the dynamic and the native resource."""
    before = _old(step).get("type")
    return isinstance(before, str) and before in CLAIMS and before != _parts(urn)[2]


def _is_unready(step: Mapping[str, Any]) -> bool:
    """Whether the state says that a claim is not ready yet, for which alone it is updated."""
    return bool(_old(step).get("initErrors")) or _diff(step) == WAIT_ALONE


def _is_left(step: Mapping[str, Any]) -> bool:
    """Whether a step is of a claim that a replacement has yet to delete."""
    return _old(step).get("delete") is True


def _old(step: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(step, "oldState")


def _new(step: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(step, "newState")


def _object(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}
