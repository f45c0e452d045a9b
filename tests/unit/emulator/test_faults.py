"""Fault rules: which requests they hit, and how they are read."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from coreweave_inference.emulator.faults import (
    ApiRequest,
    Fail,
    FaultProfile,
    FaultRule,
    FaultState,
    StaleReads,
    StatusChange,
)

CREATE = ApiRequest("POST", "/v1alpha1/inference/capacityclaims", "create", "id-1", "train")
GET = ApiRequest("GET", "/v1alpha1/inference/capacityclaims/id-1", "get", "id-1", "train")
LIST = ApiRequest("GET", "/v1alpha1/inference/capacityclaims", "list")


def hits(rules: list[dict[str, object]], calls: list[ApiRequest]) -> list[str | None]:
    state = FaultState(FaultProfile.from_json(rules))
    return [rule.name if (rule := state.decide(call)) else None for call in calls]


@pytest.mark.parametrize(
    ("matcher", "hit"),
    [
        ({"path": "create"}, [True, False, False]),
        ({"method": "get"}, [False, True, True]),
        ({"path": "*/capacityclaims/*"}, [False, True, False]),
        ({"claim": "train"}, [True, True, False]),
        ({"claim": "id-1", "method": "GET"}, [False, True, False]),
        ({}, [True, True, True]),
    ],
)
def test_a_rule_hits_the_requests_it_matches(matcher: dict[str, object], hit: list[bool]) -> None:
    found = hits([{**matcher, "drop": "before"}], [CREATE, GET, LIST])
    assert [name is not None for name in found] == hit


@pytest.mark.parametrize(
    ("limit", "hit"),
    [
        ({"nth": 2}, [2]),
        ({"every": 2}, [2, 4, 6]),
        ({"every": 3}, [3, 6]),
        ({"times": 2}, [1, 2]),
        ({"every": 2, "times": 1}, [2]),
        ({"probability": 0}, []),
        ({"probability": 1}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_rule_hits_as_often_as_its_limits_say(limit: dict[str, object], hit: list[int]) -> None:
    found = hits([{"path": "get", **limit, "drop": "before"}], [LIST, *[GET] * 6])
    assert [number for number, name in enumerate(found) if name] == hit


def test_the_first_rule_that_hits_decides_and_all_count() -> None:
    rules: list[dict[str, object]] = [
        {"name": "first", "path": "get", "times": 1, "drop": "before"},
        {"name": "second", "path": "get", "nth": 2, "drop": "after"},
    ]
    assert hits(rules, [GET, GET, GET]) == ["first", "second", None]


def test_a_probability_is_repeatable_with_the_same_seed() -> None:
    def drawn(seed: int) -> list[str | None]:
        return hits([{"probability": 0.5, "seed": seed, "drop": "before"}], [GET] * 64)

    assert drawn(1) == drawn(1) != drawn(2)


def test_random_faults_are_repeatable_and_hit_the_given_share() -> None:
    def drawn(seed: int) -> list[str | None]:
        state = FaultState(FaultProfile.random(seed, rate=0.3))
        return [rule.name if (rule := state.decide(GET)) else None for _ in range(2000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 500 < sum(name is not None for name in drawn(1)) < 700
    kinds = {name.split("-", 2)[2] for name in drawn(1) if name}
    assert {"503-before", "503-after", "drop-before", "drop-after", "html-200"} <= kinds


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule(name="a", fail=Fail(when="after", code="internal", retry_after="date:3")),
        FaultRule(name="b", hold="before", claim="x", nth=3),
        FaultRule(name="c", stale_reads=StaleReads(seconds=2, reads="list")),
        FaultRule(name="d", status=StatusChange(status=17, seconds=1, allocated=0)),
        FaultRule(name="e", probability=0.0, seed=9, half_body=True),
        FaultRule(name="f", foreign_edit={"spec": {"resources": {"instanceCount": 1}}}),
        FaultRule(name="g", fail=Fail(details=({"@type": "x/google.rpc.ErrorInfo"},))),
    ],
)
def test_a_rule_survives_a_round_trip_through_json(rule: FaultRule) -> None:
    assert FaultRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_short_forms_mean_the_same() -> None:
    rule = FaultRule.from_json(
        {"drop": {"when": "after"}, "html_200": True, "stale_reads": 2, "status": "STATUS_ERROR"}
    )
    assert rule == FaultRule(
        drop="after",
        html_200="before",
        stale_reads=StaleReads(seconds=2),
        status=StatusChange(status="STATUS_ERROR"),
    )


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"dorp": "before"}, "rule 1: no such field: dorp; the fields are name, method,"),
        ({"drop": "during"}, "rule 1: drop: must be 'before' or 'after', not 'during'"),
        ({"fail": {"code": "teapot"}}, "rule 1: fail.code: must be one of canceled, unknown,"),
        ({"fail": {"status": 9}}, "rule 1: fail.status: must be at least 200, not 9"),
        ({"fail": {"when": "before", "why": 1}}, "rule 1: fail: no such field: why"),
        ({"fail": {"retry_after": "soon"}}, 'rule 1: fail.retry_after: must be a number of seconds, "date"'),
        ({"nth": 0}, "rule 1: nth: must be at least 1, not 0"),
        ({"nth": True}, "rule 1: nth: must be a valid integer, not True"),
        ({"delay": "1"}, "rule 1: delay: must be a valid number, not '1'"),
        ({"probability": 2}, "rule 1: probability: must be at most 1, not 2"),
        ({"fail": {"details": {}}}, "rule 1: fail.details: must be a list, not {}"),
        ({"status": {"status": []}}, "rule 1: status.status: must be the name or the number of an enum"),
        ({"status": {"status": 1, "seconds": -1}}, "rule 1: status.seconds: must be at least 0, not -1"),
        ({"stale_reads": True}, "rule 1: stale_reads.seconds: must be a valid number, not True"),
        ({"stale_reads": {"reads": "get"}}, "rule 1: stale_reads.seconds: is required"),
        (
            {"foreign_edit": {"name": "x"}},
            "rule 1: foreign_edit: no such field: name; the fields are spec, status, seconds",
        ),
        ({"foreign_edit": {"spec": 3}}, "rule 1: foreign_edit.spec: must be an object"),
        ({"foreign_edit": {"spec": {"name": None}}}, "rule 1: foreign_edit.spec.name: must not be null"),
        (
            {"foreign_edit": {"spec": {"resources": []}}},
            "rule 1: foreign_edit.spec.resources: must be an object",
        ),
        (
            {"foreign_edit": {"spec": {"resources": {"instances": 3}}}},
            "rule 1: foreign_edit.spec.resources: no such field: instances; the fields are instanceId,",
        ),
        (
            {"foreign_edit": {"spec": {"resources": {"instanceCount": "4"}}}},
            "rule 1: foreign_edit.spec.resources.instanceCount: must be a valid integer, not '4'",
        ),
        (
            {"foreign_edit": {"spec": {"resources": {"zones": "RNO2A"}}}},
            "rule 1: foreign_edit.spec.resources.zones: must be a list, not 'RNO2A'",
        ),
        (
            {"foreign_edit": {"spec": {"resources": {"capacityType": True}}}},
            "rule 1: foreign_edit.spec.resources.capacityType: must be the name or the number of an enum value",
        ),
        ({"foreign_edit": {"status": "STATUS_READY"}}, "rule 1: foreign_edit.status: must be an object"),
        ({"foreign_edit": 3}, "rule 1: foreign_edit: must be an object"),
        ({"fail": {"details": [3]}}, "rule 1: fail.details[0]: must be an object"),
        ({"foreign_edit": {"status": {}, "seconds": -1}}, "rule 1: foreign_edit.seconds: must be at least 0"),
        (
            {"foreign_edit": {"status": {"createdAt": date(2026, 1, 1)}}},
            "rule 1: foreign_edit: cannot be written",
        ),
        ({"redirect": "http://x/\ny"}, "rule 1: redirect: must be a URL of visible ASCII characters"),
        ({"redirect": "\ud800"}, "rule 1: redirect: must be "),
        ({"fail": {"retry_after": "date:99999999999999"}}, "rule 1: fail.retry_after: must be a number of"),
        ("drop", "rule 1: must be an object, not 'drop'"),
    ],
)
def test_an_invalid_rule_is_refused_with_its_number_and_field(wrong: object, complaint: str) -> None:
    with pytest.raises(ValueError) as refused:
        FaultProfile.from_json([wrong])
    assert str(refused.value).startswith(complaint)


def test_a_profile_is_read_from_toml_or_json(tmp_path: Path) -> None:
    toml, plain = tmp_path / "faults.toml", tmp_path / "faults.json"
    toml.write_text('[random]\nseed = 1\n[[rules]]\npath = "create"\ndrop = "after"\n')
    plain.write_text('{"random": {"seed": 1}, "rules": [{"path": "create", "drop": "after"}]}')
    profile = FaultProfile.load(toml)
    assert profile == FaultProfile.load(plain)
    assert profile.rules == (FaultRule(name="rule-1", path="create", drop="after"),)
    plain.write_text('[{"drop": "never"}]')
    with pytest.raises(
        ValueError, match=r"faults\.json: rule 1: drop: must be 'before' or 'after', not 'never'"
    ):
        FaultProfile.load(plain)


def test_retry_after_is_seconds_or_a_date() -> None:
    def header(value: float | str | None) -> str | None:
        return Fail(retry_after=value).retry_after_header(0.0)

    assert header(None) is None
    assert header(0) == "0"
    assert header(1.5) == "1.5"
    assert header("date") == "Thu, 01 Jan 1970 00:00:01 GMT"
    assert header("date:60") == "Thu, 01 Jan 1970 00:01:00 GMT"
