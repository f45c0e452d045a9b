"""What goes wrong, and when: fault rules, matched against the calls as they come.

A rule says which calls it means (`method`, `path`, `claim`), which of them it hits (`nth`, `every`,
`probability`, `times`) and what then happens. Every rule counts every call it means; the first rule
that hits a call decides it. Nothing here waits, closes or answers: `app` does.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from email.utils import formatdate
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeVar, cast

from coreweave_inference.emulator.edits import check_edit
from coreweave_inference.emulator.failures import CODES
from coreweave_inference.emulator.settings import read_json_or_toml

When = Literal["before", "after"]
"""Before the call takes effect, or after it was committed (and its answer is lost)."""
OPERATIONS = ("create", "get", "list", "update", "delete", "parameters")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Answer with an error."""

    when: When = "before"
    code: str = "unavailable"
    """The code's name; its HTTP status is the contract's unless `status` is given."""
    status: int | None = None
    form: Literal["connect", "status", "html", "empty"] | None = None
    """None: the form the emulator is set to. `html`: a proxy's page. `empty`: no body."""
    message: str = "injected fault"
    details: tuple[Mapping[str, object], ...] = ()
    """Details as a google.rpc.Status has them: objects with `@type`."""
    retry_after: float | str | None = None
    """`Retry-After`: a number of seconds, or `"date"` (a second from now), or `"date:N"`."""

    def __post_init__(self) -> None:
        _one_of("fail.when", self.when, ("before", "after"))
        _one_of("fail.code", self.code, CODES)
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"fail.status: {self.status!r} is not an HTTP status")
        if self.form is not None:
            _one_of("fail.form", self.form, ("connect", "status", "html", "empty"))
        if isinstance(self.retry_after, str) and not re.fullmatch(r"date(:\d+)?", self.retry_after):
            raise ValueError('fail.retry_after: must be seconds, "date" or "date:N"')

    def retry_after_header(self, now: float) -> str | None:
        """The header's value; `now` is seconds since 1970."""
        if isinstance(self.retry_after, str):
            return formatdate(now + int(self.retry_after[5:] or 1), usegmt=True)
        return None if self.retry_after is None else f"{self.retry_after:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleReads:
    """After the write, answer reads of the claim as before it."""

    seconds: float
    reads: Literal["get", "list", "both"] = "both"

    def __post_init__(self) -> None:
        _one_of("stale_reads.reads", self.reads, ("get", "list", "both"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """The claim shows another status than it has: `STATUS_ERROR`, `STATUS_FAILED`, a name or
    number no schema knows, or STATUS_READY with fewer `allocated` instances than declared."""

    status: str | int
    seconds: float | None = None
    """How long; None is for good."""
    allocated: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """Which calls, and what happens to them. Several actions of one rule happen in this order:
    delay, hold/fail/drop before, the call itself, foreign edits, hold/fail/drop after."""

    name: str = ""
    """Shown in the request log; a rule without one is called by its place, `rule-1`."""
    method: str | None = None
    path: str | None = None
    """An operation (`create`, `get`, `list`, `update`, `delete`, `parameters`) or a glob over the
    path (`*/capacityclaims/*`)."""
    claim: str | None = None
    """A claim's id or name."""
    nth: int | None = None
    """Only the nth call, from 1."""
    every: int | None = None
    """Only every kth call."""
    probability: float | None = None
    """Each call with this probability, drawn from `seed` and the call's number."""
    seed: int = 0
    times: int | None = None
    """At most so often."""

    delay: float | None = None
    """Seconds before anything happens."""
    hold: When | None = None
    """Keep the call waiting there until it is released."""
    fail: Fail | None = None
    drop: When | None = None
    """Close the connection without an answer."""
    half_body: bool = False
    """Answer with all headers and half the body, then close the connection."""
    html_200: When | None = None
    """Answer 200 with an HTML page."""
    redirect: str | None = None
    """Answer 302 to this URL instead of taking the call."""
    stale_reads: StaleReads | None = None
    status: StatusChange | None = None
    foreign_edit: Mapping[str, object] | None = None
    """Somebody else changes the claim right after the call: `{"spec": …, "status": …}`."""
    foreign_delete: bool = False
    """Somebody else removes the claim right after the call."""

    def __post_init__(self) -> None:
        for name in ("hold", "drop", "html_200"):
            value = getattr(self, name)
            if value is not None:
                _one_of(name, value, ("before", "after"))
        for name in ("nth", "every", "times"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: must be at least 1")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError("probability: must be between 0 and 1")
        if self.delay is not None and self.delay < 0:
            raise ValueError("delay: must not be negative")
        if self.foreign_edit is not None:
            check_edit(self.foreign_edit, "foreign_edit")

    @classmethod
    def from_json(cls, value: object) -> FaultRule:
        """Read a rule; ValueError names the field that is wrong.

        The fields are those of the class. `hold`, `drop` and `html_200` may also be written
        `{"when": "after"}`, `stale_reads` as a number of seconds, `status` as a name.
        """
        given = dict(_mapping("rule", value))
        for name in ("hold", "drop", "html_200"):
            if isinstance(given.get(name), Mapping):
                given[name] = _parse(_Moment, name, given[name]).when
        if "html_200" in given and given["html_200"] is True:
            given["html_200"] = "before"
        if "fail" in given:
            given["fail"] = _parse(Fail, "fail", given["fail"])
        stale = given.get("stale_reads")
        if isinstance(stale, (int, float)):
            given["stale_reads"] = StaleReads(seconds=stale)
        elif stale is not None:
            given["stale_reads"] = _parse(StaleReads, "stale_reads", stale)
        status = given.get("status")
        if isinstance(status, (str, int)):
            given["status"] = StatusChange(status=status)
        elif status is not None:
            given["status"] = _parse(StatusChange, "status", status)
        return _parse(cls, "rule", given)

    def to_json(self) -> dict[str, object]:
        """The rule as `from_json` reads it, without what is not set."""
        return {
            each.name: value if isinstance(value, (int, float, str)) else asdict(self)[each.name]
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomFaults:
    """Makes a share of all calls fail, each in a way that a client may retry."""

    seed: int
    rate: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError("random.rate: must be between 0 and 1")

    def rule(self, number: int) -> FaultRule | None:
        """What happens to call `number`: the same for the same seed, whatever the call is."""
        draw = random.Random(f"{self.seed}:{number}")  # noqa: S311  repeatable, not secret
        if draw.random() >= self.rate:
            return None
        chosen = draw.choice(_RANDOM_FAULTS)
        return replace(chosen, name=f"random-{number}-{chosen.name}")


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """Rules, tried in order, and random faults for the calls that no rule hits."""

    rules: tuple[FaultRule, ...] = ()
    random_faults: RandomFaults | None = None

    @classmethod
    def random(cls, seed: int, rate: float = 0.3) -> FaultProfile:
        """A profile that makes the share `rate` of all calls fail in retryable ways: 503 in both
        forms, before and after the commit, dropped connections, half bodies, HTML, 429."""
        return cls(random_faults=RandomFaults(seed=seed, rate=rate))

    @classmethod
    def load(cls, path: Path) -> FaultProfile:
        """Read a profile from a `.toml` file, or from JSON under any other name; see `from_json`.

        Raises ValueError with the file's name, the rule and the field that is wrong.
        """
        try:
            return cls.from_json(read_json_or_toml(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def of(cls, faults: FaultProfile | Iterable[FaultRule | Mapping[str, object]]) -> FaultProfile:
        """A profile from a profile, or from rules in either shape."""
        if isinstance(faults, FaultProfile):
            return faults
        return cls.from_json([each.to_json() if isinstance(each, FaultRule) else each for each in faults])

    @classmethod
    def from_json(cls, value: object) -> FaultProfile:
        """Read `[rule, …]` or `{"rules": [rule, …], "random": {"seed": 1, "rate": 0.3}}`.

        ValueError says which rule and field is wrong.
        """
        if isinstance(value, list):
            value = {"rules": value}
        given = _mapping("profile", value)
        if unknown := given.keys() - {"rules", "random"}:
            raise ValueError(f"profile: no such field: {', '.join(sorted(unknown))}")
        listed = given.get("rules", [])
        if not isinstance(listed, list):
            raise ValueError("rules: must be a list")
        rules: list[FaultRule] = []
        for number, each in enumerate(listed, 1):
            try:
                rule = FaultRule.from_json(each)
            except ValueError as error:
                raise ValueError(f"rule {number}: {error}") from error
            rules.append(rule if rule.name else replace(rule, name=f"rule-{number}"))
        drawn = given.get("random")
        faults = None if drawn is None else _parse(RandomFaults, "random", drawn)
        return cls(tuple(rules), faults)

    def to_json(self) -> dict[str, object]:
        written: dict[str, object] = {"rules": [rule.to_json() for rule in self.rules]}
        if self.random_faults is not None:
            written["random"] = asdict(self.random_faults)
        return written


@dataclass(frozen=True, slots=True)
class Call:
    """What rules look at."""

    method: str
    path: str
    operation: str | None
    claim_id: str | None = None
    claim_name: str | None = None


@dataclass(slots=True)
class FaultCounts:
    """How often a rule has met the calls it means, and how often it hit."""

    met: int = 0
    hit: int = 0


@dataclass(slots=True)
class FaultState:
    """A profile and what it has counted so far."""

    profile: FaultProfile = field(default_factory=FaultProfile)
    counts: list[FaultCounts] = field(init=False)
    calls: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.counts = [FaultCounts() for _ in self.profile.rules]

    @property
    def active(self) -> bool:
        return bool(self.profile.rules) or self.profile.random_faults is not None

    def decide(self, call: Call) -> FaultRule | None:
        """Count a call; returns the rule that hits it."""
        self.calls += 1
        decided: FaultRule | None = None
        for rule, counts in zip(self.profile.rules, self.counts, strict=True):
            if not _means(rule, call):
                continue
            counts.met += 1
            if decided is None and _hits(rule, counts):
                counts.hit += 1
                decided = rule
        if decided is None and self.profile.random_faults is not None:
            return self.profile.random_faults.rule(self.calls)
        return decided

    def to_json(self) -> dict[str, object]:
        """The profile, and per rule's name its counts."""
        return {
            **self.profile.to_json(),
            "calls": self.calls,
            "counts": {
                rule.name: asdict(counts)
                for rule, counts in zip(self.profile.rules, self.counts, strict=True)
            },
        }


def _means(rule: FaultRule, call: Call) -> bool:
    if rule.method is not None and rule.method.upper() != call.method:
        return False
    if rule.path is not None:
        if rule.path in OPERATIONS:
            if rule.path != call.operation:
                return False
        elif not fnmatchcase(call.path, rule.path):
            return False
    return rule.claim is None or rule.claim in (call.claim_id, call.claim_name)


def _hits(rule: FaultRule, counts: FaultCounts) -> bool:
    if rule.times is not None and counts.hit >= rule.times:
        return False
    if rule.nth is not None and counts.met != rule.nth:
        return False
    if rule.every is not None and counts.met % rule.every:
        return False
    if rule.probability is None:
        return True
    drawn = random.Random(f"{rule.seed}:{counts.met}").random()  # noqa: S311  repeatable, not secret
    return drawn < rule.probability


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    when: When = "before"


_NUMBER = (int, float)
_FIELD_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "method": str,
    "path": str,
    "claim": str,
    "nth": int,
    "every": int,
    "probability": _NUMBER,
    "seed": int,
    "times": int,
    "delay": _NUMBER,
    "hold": str,
    "fail": Fail,
    "drop": str,
    "half_body": bool,
    "html_200": str,
    "redirect": str,
    "stale_reads": StaleReads,
    "status": (int, str, StatusChange),
    "foreign_edit": Mapping,
    "foreign_delete": bool,
    "when": str,
    "code": str,
    "form": str,
    "message": str,
    "details": (list, tuple),
    "retry_after": (int, float, str),
    "seconds": _NUMBER,
    "reads": str,
    "allocated": int,
    "rate": _NUMBER,
}
"""The JSON type of each field of the classes above; no two classes disagree about a name."""


def _parse(kind: type[_T], where: str, value: object) -> _T:
    """Make a `kind` of a JSON object, refusing fields it does not have and values it cannot be."""
    given = dict(_mapping(where, value))
    known = {each.name for each in fields(cast("type[Fail]", kind))}
    for name, item in given.items():
        if name not in known:
            raise ValueError(f"{where}: no such field: {name}")
        wanted = _FIELD_TYPES[name]
        if item is None:
            continue
        if not isinstance(item, wanted) or (isinstance(item, bool) and wanted is not bool):
            raise ValueError(f"{where}.{name}: {item!r} is not of the right type")
        if isinstance(item, list):
            given[name] = tuple(item)
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _mapping(where: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: must be an object")
    return cast("Mapping[str, object]", value)


def _one_of(where: str, value: object, allowed: Iterable[str]) -> None:
    listed = list(allowed)
    if value not in listed:
        raise ValueError(f"{where}: {value!r} is not one of {', '.join(listed)}")


_RANDOM_FAULTS = (
    FaultRule(name="503-before", fail=Fail(form="connect")),
    FaultRule(name="503-after", fail=Fail(form="status", when="after")),
    FaultRule(name="503-connect-after", fail=Fail(form="connect", when="after")),
    FaultRule(name="502-html", fail=Fail(form="html", status=502)),
    FaultRule(name="504-empty-after", fail=Fail(form="empty", status=504, when="after")),
    FaultRule(name="500-status", fail=Fail(form="status", code="internal", when="after")),
    FaultRule(name="drop-before", drop="before"),
    FaultRule(name="drop-after", drop="after"),
    FaultRule(name="half-body", half_body=True),
    FaultRule(name="html-200", html_200="after"),
    FaultRule(name="429-at-once", fail=Fail(code="resource_exhausted", retry_after=0)),
    FaultRule(name="429-soon", fail=Fail(code="resource_exhausted", retry_after=1)),
    FaultRule(name="slow-503", delay=0.05, fail=Fail()),
)
