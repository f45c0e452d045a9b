"""Fault rules: which requests fail, and how.

A rule says which requests it matches (`method`, `path`, `claim`), which of those it hits (`nth`,
`every`, `probability`, `times`) and what happens to them. Every rule counts all requests it matches;
the first rule that hits a request decides. This module only decides: `app` delays, answers and
closes connections.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from coreweave_inference.emulator.claim import ClaimEdit
from coreweave_inference.emulator.errors import CODES
from coreweave_inference.emulator.settings import LONGEST, read_json_or_toml
from coreweave_inference.emulator.validation import EnumValue, StrictModel
from coreweave_inference.emulator.visibility import Reads

When = Literal["before", "after"]
"""Before the request takes effect, or after it was committed, when its response is lost."""
OPERATIONS: Mapping[str, str] = {
    "create": "POST",
    "get": "GET",
    "list": "GET",
    "update": "PATCH",
    "delete": "DELETE",
    "parameters": "GET",
}
"""The operations and their methods."""
PREFIX = "/v1alpha1/inference/capacityclaims"

_Positive = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(ge=0, le=LONGEST)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Fail(StrictModel):
    """Respond with an error."""

    when: When = "before"
    code: str = "unavailable"
    """The name of the code. It determines the HTTP status, unless `status` is given."""
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    form: Literal["connect", "status", "html", "empty"] | None = None
    """None: the error form of the emulator's settings. `html`: the page of a proxy. `empty`: no body."""
    message: str = "injected fault"
    details: Annotated[tuple[dict[str, object], ...], Field(strict=False)] = ()
    """Details as in a google.rpc.Status: objects with `@type`."""
    retry_after: float | str | None = None
    """The `Retry-After` header: a number of seconds, `"date"` (one second from now) or `"date:N"`."""

    @field_validator("code")
    @classmethod
    def _check_code(cls, value: str) -> str:
        if value not in CODES:
            raise ValueError(f"must be one of {', '.join(CODES)}, not {value!r}")
        return value

    @field_validator("retry_after", mode="before")
    @classmethod
    def _check_retry_after(cls, value: object) -> object:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        date = isinstance(value, str) and re.fullmatch(r"date(:[0-9]{1,9})?", value)
        if not (value is None or number or date):
            raise ValueError(f'must be a number of seconds, "date" or "date:N", not {value!r}')
        return value

    def retry_after_header(self, now: float) -> str | None:
        """The value of the header; `now` is seconds since 1970."""
        if isinstance(self.retry_after, str):
            return formatdate(now + int(self.retry_after[5:] or 1), usegmt=True)
        return None if self.retry_after is None else f"{self.retry_after:g}"


class StaleReads(StrictModel):
    """After the write, answer reads of the claim as if the write had not happened yet."""

    seconds: _Seconds
    reads: Reads = "both"


class StatusChange(StrictModel):
    """Show another status than the claim has: `STATUS_ERROR`, `STATUS_FAILED`, a name or number that
    no schema knows, or STATUS_READY with fewer `allocated` instances than declared."""

    status: EnumValue
    seconds: _Seconds | None = None
    """For how long. None: permanently."""
    allocated: int | None = None


class FaultRule(StrictModel):
    """Which requests, and what happens to them. Several actions of one rule happen in this order:
    delay, hold/drop/fail before, the request itself, edits by others, hold/drop/fail after."""

    name: str = ""
    """Shown in the request log. A rule without a name gets one from its position, such as `rule-1`."""
    method: str | None = None
    path: str | None = None
    """An operation (`create`, `get`, `list`, `update`, `delete`, `parameters`), or a glob pattern for
    the path (`*/capacityclaims/*`)."""
    claim: str | None = None
    """The id or name of a claim."""
    nth: _Positive | None = None
    """Only the nth request, counted from 1."""
    every: _Positive | None = None
    """Only every nth request."""
    probability: _Share | None = None
    """Each request with this probability, drawn from `seed` and the number of the request."""
    seed: int = 0
    times: _Positive | None = None
    """At most this many requests."""

    delay: _Seconds | None = None
    """Seconds before anything else happens."""
    hold: When | None = None
    """Hold the request at this point until it is released."""
    fail: Fail | None = None
    drop: When | None = None
    """Close the connection without a response."""
    half_body: bool = False
    """Send all headers and half of the body, then close the connection."""
    html_200: When | None = None
    """Answer with an HTML page and status 200."""
    redirect: str | None = None
    """Answer with a 302 redirect to this URL; the request takes no effect."""
    stale_reads: StaleReads | None = None
    status: StatusChange | None = None
    foreign_edit: dict[str, object] | None = None
    """Another client changes the claim right after the request: `{"spec": …, "status": …}`."""
    foreign_delete: bool = False
    """Another client removes the claim right after the request."""

    @field_validator("redirect")
    @classmethod
    def _check_redirect(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[!-~]+", value):
            raise ValueError("must be a URL of visible ASCII characters")
        return value

    @field_validator("hold", "drop", "html_200", mode="before")
    @classmethod
    def _unwrap_when(cls, value: object) -> object:
        return value["when"] if isinstance(value, Mapping) and value.keys() == {"when"} else value

    @field_validator("html_200", mode="before")
    @classmethod
    def _expand_html_200(cls, value: object) -> object:
        return "before" if value is True else value

    @field_validator("stale_reads", mode="before")
    @classmethod
    def _expand_stale_reads(cls, value: object) -> object:
        return {"seconds": value} if isinstance(value, (int, float)) else value

    @field_validator("status", mode="before")
    @classmethod
    def _expand_status(cls, value: object) -> object:
        return {"status": value} if isinstance(value, (int, str)) else value

    @field_validator("method")
    @classmethod
    def _check_method(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in OPERATIONS.values():
            raise ValueError(f"must be one of {', '.join(sorted({*OPERATIONS.values()}))}, not {value!r}")
        return value

    @field_validator("path")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None and value not in OPERATIONS and not _is_path_of_an_operation(value):
            raise ValueError(
                f"must be one of {', '.join(OPERATIONS)}, or a pattern for the path of an operation such as "
                f"{PREFIX}/*, not {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _fits_the_operation(self) -> Self:
        method = OPERATIONS.get(self.path or "")
        if self.method is not None and method not in (None, self.method.upper()):
            raise ValueError(f"method: {self.path} is a {method}, not a {self.method.upper()}")
        return self

    @field_validator("foreign_edit")
    @classmethod
    def _check_foreign_edit(cls, value: Mapping[str, object] | None) -> Mapping[str, object] | None:
        if value is not None:
            ClaimEdit.model_validate(value)
        return value

    @classmethod
    def from_json(cls, value: object) -> FaultRule:
        """Read a rule. Raises ValueError with the field that is wrong.

        The fields are those of the class. `hold`, `drop` and `html_200` may also be written as
        `{"when": "after"}`, `stale_reads` as a number of seconds, `status` as a name.
        """
        return cls.parse(value)

    def to_json(self) -> dict[str, object]:
        """The rule as `from_json` reads it, without the fields that have their default."""
        written = self.model_dump(mode="json")
        return {
            name: written[name]
            for name, info in type(self).model_fields.items()
            if getattr(self, name) != info.default
        }


class RandomFaults(StrictModel):
    """Makes a share of all requests fail, each in a way that a client may retry."""

    seed: int
    rate: _Share = 0.3

    def rule(self, number: int) -> FaultRule | None:
        """What happens to request `number`: the same for the same seed, whatever the request is."""
        draw = random.Random(f"{self.seed}:{number}")  # noqa: S311  repeatable, not secret
        if draw.random() >= self.rate:
            return None
        chosen = draw.choice(_RANDOM_FAULTS)
        return chosen.model_copy(update={"name": f"random-{number}-{chosen.name}"})


class FaultProfile(StrictModel):
    """Rules, tried in order, and random faults for the requests that no rule hits."""

    model_config: ClassVar[ConfigDict] = ConfigDict(populate_by_name=True)

    rules: Annotated[tuple[FaultRule, ...], Field(strict=False)] = ()
    random_faults: RandomFaults | None = Field(
        default=None, validation_alias="random", serialization_alias="random"
    )

    @classmethod
    def random(cls, seed: int, rate: float = 0.3) -> FaultProfile:
        """A profile that makes the share `rate` of all requests fail in retryable ways: 503 in both
        forms, before and after the commit, dropped connections, half bodies, HTML, 429."""
        return cls(random_faults=RandomFaults(seed=seed, rate=rate))

    @classmethod
    def load(cls, path: Path) -> FaultProfile:
        """Read a profile from a TOML file if its name ends in `.toml`, else from JSON; see `from_json`.

        Raises ValueError with the name of the file, the rule and the field that is wrong.
        """
        try:
            return cls.from_json(read_json_or_toml(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def of(cls, faults: FaultProfile | Iterable[FaultRule | Mapping[str, object]]) -> FaultProfile:
        """A profile from a profile, or from rules as objects or as JSON."""
        return faults if isinstance(faults, FaultProfile) else cls.from_json(list(faults))

    @classmethod
    def from_json(cls, value: object, *, after: int = 0) -> FaultProfile:
        """Read `[rule, …]` or `{"rules": [rule, …], "random": {"seed": 1, "rate": 0.3}}`.

        Rules without a name are numbered from `after` + 1. Raises ValueError with the rule and the field
        that is wrong.
        """
        if isinstance(value, list):
            value = {"rules": value}
        if isinstance(value, Mapping) and isinstance(value.get("rules"), list):
            rules = [_numbered(number, each, after) for number, each in enumerate(value["rules"], 1)]
            value = {**value, "rules": rules}
        return cls.parse(value)

    def to_json(self) -> dict[str, object]:
        """The profile as `from_json` reads it."""
        written: dict[str, object] = {"rules": [rule.to_json() for rule in self.rules]}
        if self.random_faults is not None:
            written["random"] = self.random_faults.model_dump(mode="json")
        return written


def _is_path_of_an_operation(pattern: str) -> bool:
    """Whether a glob matches the path of any operation; the last part of a claim's path is any text."""
    head = pattern.rpartition("/")[0]
    known = (PREFIX, f"{PREFIX}/parameters", f"{PREFIX}/00000000-0000-4000-8000-000000000000")
    return any(fnmatchcase(path, pattern) for path in known) or bool(head and fnmatchcase(PREFIX, head))


def _numbered(number: int, value: object, after: int) -> FaultRule:
    """Read rule `number`, and name it by its place after others if it has no name."""
    try:
        rule = FaultRule.from_json(value)
    except ValueError as error:
        raise ValueError(f"rule {number}: {error}") from error
    return rule if rule.name else rule.model_copy(update={"name": f"rule-{after + number}"})


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """The properties of a request that rules match."""

    method: str
    path: str
    operation: str | None
    claim_id: str | None = None
    claim_name: str | None = None


@dataclass(slots=True)
class FaultCounts:
    """How many requests a rule has matched (`met`), and how many of them it hit (`hit`)."""

    met: int = 0
    hit: int = 0


@dataclass(slots=True)
class FaultState:
    """A profile and its counters."""

    profile: FaultProfile = field(default_factory=FaultProfile)
    counts: list[FaultCounts] = field(init=False)
    calls: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.counts = [FaultCounts() for _ in self.profile.rules]

    def extended(self, profile: FaultProfile) -> FaultState:
        """The state with more rules after the others, which keep their counters.

        A rule replaces one of the same name; random faults replace random faults.
        """
        added = {rule.name: rule for rule in profile.rules}
        kept = [
            (rule, counts)
            for rule, counts in zip(self.profile.rules, self.counts, strict=True)
            if rule.name not in added
        ]
        all_rules = (*(rule for rule, _ in kept), *added.values())
        random_faults = profile.random_faults or self.profile.random_faults
        state = FaultState(FaultProfile(rules=all_rules, random_faults=random_faults))
        state.counts[: len(kept)] = [counts for _, counts in kept]
        state.calls = self.calls
        return state

    @property
    def active(self) -> bool:
        return bool(self.profile.rules) or self.profile.random_faults is not None

    def decide(self, request: ApiRequest) -> FaultRule | None:
        """Count a request; returns the rule that hits it, if any."""
        self.calls += 1
        decided: FaultRule | None = None
        for rule, counts in zip(self.profile.rules, self.counts, strict=True):
            if not _matches(rule, request):
                continue
            counts.met += 1
            if decided is None and _hits(rule, counts):
                counts.hit += 1
                decided = rule
        if decided is None and self.profile.random_faults is not None:
            return self.profile.random_faults.rule(self.calls)
        return decided

    def to_json(self) -> dict[str, object]:
        """The profile, the number of requests, and the counters of each rule by its name."""
        return {
            **self.profile.to_json(),
            "calls": self.calls,
            "counts": {
                rule.name: asdict(counts)
                for rule, counts in zip(self.profile.rules, self.counts, strict=True)
            },
        }


def _matches(rule: FaultRule, request: ApiRequest) -> bool:
    if rule.method is not None and rule.method.upper() != request.method:
        return False
    if rule.path is not None:
        if rule.path in OPERATIONS:
            if rule.path != request.operation:
                return False
        elif not fnmatchcase(request.path, rule.path):
            return False
    return rule.claim is None or rule.claim in (request.claim_id, request.claim_name)


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
