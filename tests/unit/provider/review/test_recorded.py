"""Previews from the real engine, recorded by `record.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from inline_snapshot import external_file

from pulumi_coreweave_inference.capacity_claim import TYPE
from pulumi_coreweave_inference.cli.review.document import document
from pulumi_coreweave_inference.cli.review.json_report import json_report
from pulumi_coreweave_inference.cli.review.markdown import markdown
from pulumi_coreweave_inference.cli.review.plan import Kind, Plan, totals
from pulumi_coreweave_inference.cli.review.preview import parse
from pulumi_coreweave_inference.cli.review.prices import PriceBook
from pulumi_coreweave_inference.cli.review.review import Review, review
from pulumi_coreweave_inference.cli.review.rules import Rules
from pulumi_coreweave_inference.cli.review.toml_model import load_toml
from pulumi_coreweave_inference.cli.tokens import DYNAMIC as CLAIM_TYPE

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in DATA.glob("*.json"))
SCHEMA_FILE = Path(__file__).parents[4] / "docs" / "schemas" / "report.json"
SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))

PRICES = load_toml(PriceBook, 'currency = "USD"\n[per_hour]\n"gb200-4x" = 40.5\n[gpus]\n"gb200-4x" = 4\n')
RULES = load_toml(Rules, 'replace = "create-first"\nmin_zones = 2\n[max_peak]\nstack = 9\n')

GB200, H100 = "gb200-4x", "h100-80gb-sxm5"
# by preview and instance type: before, after, peak, held if no capacity is found
TOTALS: dict[str, dict[str, tuple[int, int, int, int]]] = {
    "add-zone": {GB200: (6, 6, 10, 6)},
    "change-type": {GB200: (6, 2, 6, 6), H100: (0, 4, 4, 0)},
    "create": {GB200: (0, 6, 6, 0)},
    "delete": {GB200: (6, 4, 6, 4)},
    "deleted-with": {GB200: (8, 4, 8, 4)},
    "drift": {GB200: (11, 6, 11, 6)},
    "drift-gone": {GB200: (9, 11, 11, 9)},
    "drift-only": {GB200: (11, 11, 11, 11)},
    "drift-renamed": {GB200: (9, 4, 9, 4)},
    "drift-unfinished": {GB200: (7, 4, 7, 4)},
    "forced-replacement": {GB200: (4, 4, 4, 4)},
    "going-back": {GB200: (8, 4, 8, 4)},
    "import": {GB200: (4, 4, 4, 4)},
    "left-behind": {GB200: (0, 4, 4, 0)},
    "mixed": {GB200: (6, 6, 6, 4)},
    "plain-flags": {GB200: (6, 7, 11, 2)},
    "protect": {GB200: (6, 2, 6, 2)},
    "refresh-only": {GB200: (9, 9, 9, 9)},
    "refresh-only-unfinished": {GB200: (3, 3, 3, 3)},
    "release-first": {GB200: (6, 7, 7, 2)},
    "rename": {GB200: (6, 6, 10, 6)},
    "reorder-zones": {GB200: (6, 6, 10, 6)},
    "retain": {GB200: (4, 4, 4, 4)},
    "retain-added": {GB200: (4, 4, 8, 4)},
    "retain-replaced": {GB200: (4, 8, 8, 4)},
    "scale-down": {GB200: (6, 3, 6, 3)},
    "scale-up": {GB200: (6, 8, 8, 6)},
    "take-over": {GB200: (4, 4, 4, 4)},
    "unfinished-replacement": {GB200: (8, 4, 8, 4)},
    "wrong-type": {},
}


def text_of(name: str) -> str:
    return (DATA / f"{name}.json").read_text(encoding="utf-8")


def plan_of(name: str) -> Plan:
    return parse(text_of(name))


def reviewed(name: str) -> Review:
    return review(plan_of(name), RULES, PRICES)


def test_the_type_of_a_claim_is_the_one_the_provider_registers() -> None:
    assert CLAIM_TYPE == TYPE


def test_every_recorded_preview_has_expected_totals() -> None:
    assert list(TOTALS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_comment_matches_its_snapshot(name: str) -> None:
    assert markdown(document(reviewed(name))) == external_file(f"data/{name}.md", format=".txt")


@pytest.mark.parametrize("name", NAMES)
def test_totals_match_a_count_by_hand(name: str) -> None:
    found = {kind: tuple(amount.known for amount in total) for kind, total in totals(plan_of(name)).items()}
    assert found == TOTALS[name]


KEPT = {
    "import",
    "retain",
    "retain-replaced",
    "deleted-with",
    "take-over",
    "forced-replacement",
    "going-back",
}
"""Previews in which a step that creates or deletes does nothing at the API."""


@pytest.mark.parametrize(
    "name",
    sorted({*NAMES} - KEPT - {"refresh-only", "refresh-only-unfinished", "protect", "wrong-type"}),
)
def test_totals_match_a_replay_of_the_steps(name: str) -> None:
    moments = list(replayed(json.loads(text_of(name))["steps"]))
    (total,) = [total for kind, total in totals(plan_of(name)).items() if kind == GB200]
    assert moments[0] == total.before.known
    if name != "plain-flags":  # where the steps that create and release are not shown
        assert moments[-1] == total.after.known
    assert max(moments) <= total.peak.known


def replayed(steps: list[dict[str, Any]]) -> Iterator[int]:
    """How many gb200-4x are held before the first step and after each."""

    def held(state: dict[str, Any]) -> int:
        resources = (state.get("outputs") or state["inputs"]).get("resources") or state["inputs"]["resources"]
        count = resources["instanceCount"]
        return int(count) if resources["instanceId"] == GB200 and isinstance(count, (int, float)) else 0

    steps = [step for step in steps if step["urn"].split("::")[2] == TYPE and step["op"] != "refresh"]
    holding = {step["oldState"]["id"]: held(step["oldState"]) for step in steps if "oldState" in step}
    yield sum(holding.values())
    for step in steps:
        if step["op"] in ("update", "same"):
            holding[step["oldState"]["id"]] = held(step["newState"])
        elif step["op"] in ("create", "create-replacement"):
            holding[f"new {step['urn']}"] = held(step["newState"])
        elif step["op"] in ("delete", "delete-replaced"):
            holding[step["oldState"]["id"]] = 0
        yield sum(holding.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_json_report_follows_its_schema(name: str) -> None:
    jsonschema_rs.Draft202012Validator(SCHEMA).validate(json.loads(json_report(reviewed(name))))
    jsonschema_rs.Draft202012Validator(SCHEMA).validate(json.loads(json_report(review(plan_of(name)))))


# The warning in `left-behind` says what the API holds.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"left-behind"}))
def test_only_the_claims_of_the_state_are_shown(name: str) -> None:
    shown = markdown(document(reviewed(name))) + json_report(reviewed(name))
    for hidden in ("gASV", "__", "cw0a1b", "sourcePosition", "STATUS_", "\x1b"):
        assert hidden not in shown


def test_a_secret_and_an_unknown_count_are_named() -> None:
    shown = markdown(document(reviewed("mixed")))
    assert "`sized-later`: instance count is unknown until apply" in shown
    assert "`sized-secretly`: instance count is secret" in shown


def test_step_order_and_unchanged_claims_do_not_change_the_fingerprint() -> None:
    document = json.loads(text_of("rename"))
    mark = review(parse(json.dumps(document))).fingerprint
    document["steps"].reverse()
    assert review(parse(json.dumps(document))).fingerprint == mark
    document["steps"] = [step for step in document["steps"] if step["op"] != "same"]
    document["duration"] = 1
    assert review(parse(json.dumps(document))).fingerprint == mark


def test_no_two_recorded_changes_have_one_fingerprint() -> None:
    changing = {name for name in NAMES if plan_of(name).altered} - {"forced-replacement"}
    # Both keep one claim as it is, and the two recordings are of one stack.
    assert reviewed("forced-replacement").fingerprint == reviewed("take-over").fingerprint
    assert len({reviewed(name).fingerprint for name in changing}) == len(changing)


def test_a_failed_preview_shows_its_errors_first_and_never_passes() -> None:
    found = reviewed("protect")
    assert found.exit_code == 2
    shown = markdown(document(found))
    assert shown.index("cannot be deleted") < shown.index("released")
    assert "preview failed\n" not in shown


def test_a_release_before_a_grant_differs_from_one_after_it() -> None:
    assert [c.name for c in plan_of("release-first").released_first()[0]] == ["training"]
    assert plan_of("reorder-zones").released_first() == ([], [])
    assert [c.name for c in plan_of("plain-flags").released_first()[1]] == ["training"]


def test_the_documentation_shows_what_the_example_says() -> None:
    root = DATA.parents[4]
    rules, prices = (
        (root / "examples" / "ci-review" / f"{name}.toml").read_text(encoding="utf-8")
        for name in ("rules", "prices")
    )
    found = review(plan_of("release-first"), load_toml(Rules, rules), load_toml(PriceBook, prices))
    comment = (root / "docs" / "images" / "review-comment.md").read_text(encoding="utf-8")
    assert markdown(document(found)) == comment
    pages = [root / "docs" / folder / "review.md" for folder in ("how-to", "reference")]
    guide, reference = (page.read_text(encoding="utf-8") for page in pages)
    assert found.fingerprint in guide
    for part in (rules.rstrip(), prices.rstrip()):
        assert part in reference


def test_drift_of_an_old_claim_is_not_taken_for_that_of_the_current_one() -> None:
    (drift,) = plan_of("drift-unfinished").drift
    assert drift.by_unfinished_replacement
    assert drift.live is not None
    assert (drift.state.count, drift.live.count) == (4, 3)


def test_a_refresh_that_shows_one_of_two_claims_says_so() -> None:
    plan = plan_of("refresh-only-unfinished")
    assert (plan.half_shown, plan.hidden) == (("training",), 0)
    assert [drift.by_unfinished_replacement for drift in plan.drift] == [True]
    assert "of which this preview shows one" in markdown(document(review(plan)))
    rules = load_toml(Rules, "[max_instances]\nstack = 100")
    (violation,) = review(plan, rules, PRICES).violations
    assert violation.value == "one of two claims is not shown: training"


def test_a_claim_renamed_by_an_alias_is_counted_once() -> None:
    plan = plan_of("drift-renamed")
    assert [change.name for change in plan.changes] == ["trainer"]
    assert [(drift.name, drift.live.count if drift.live else None) for drift in plan.drift] == [
        ("trainer", 9)
    ]


def test_going_back_takes_over_the_claim_of_the_earlier_declaration() -> None:
    plan = plan_of("going-back")
    (change,) = plan.altered
    assert (change.kind, change.peak.known) == (Kind.REPLACE, 8)
    assert change.takes_over is not None
    (state,) = [
        step["oldState"]
        for step in json.loads(text_of("going-back"))["steps"]
        if step["op"] == "delete-replaced" and step["oldState"]["id"] != change.claim_id
    ]
    assert change.takes_over.claim_id == state["id"]
    assert not change.needs_capacity


def test_a_forced_replacement_of_an_unchanged_claim_keeps_it() -> None:
    plan = plan_of("forced-replacement")
    (change,) = plan.altered
    assert (change.kind, change.peak.known, plan.needs_capacity) == (Kind.TAKEOVER, 4, False)
    assert change.takes_over is not None
    assert change.takes_over.claim_id == change.claim_id


def test_a_claim_that_exists_is_taken_over_and_not_created() -> None:
    found = reviewed("take-over")
    (change,) = found.plan.altered
    assert (change.kind, change.growth) == (Kind.TAKEOVER, 0)
    shown = markdown(document(found))
    assert "**1 taken over**" in shown
    assert f"takes over the claim `{change.claim_id}`: 4 of 4 × `gb200-4x`, `READY`" in shown


def test_a_claim_left_behind_is_warned_of_as_the_provider_says_it() -> None:
    found = reviewed("left-behind")
    (warning,) = found.plan.warnings
    first, *others = warning.splitlines()
    assert first == "another claim created for capacity claim 'training' still exists."
    assert len(others) > 3
    assert all(line.startswith("  ") for line in others)
    assert warning in markdown(document(found))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("retain-added", {"training": False}),
        ("retain-replaced", {"training": True}),
        ("deleted-with", {"with-a-host-that-stays": False, "with-a-host-that-goes": True}),
    ],
)
def test_the_options_in_the_state_decide_whether_a_claim_stays(name: str, kept: dict[str, bool]) -> None:
    found = reviewed(name)
    assert {change.name: change.retained for change in found.plan.altered} == kept
    shown = markdown(document(found))
    assert ("claim stays at CoreWeave, in no state" in shown) == any(kept.values())


@pytest.mark.parametrize("name", NAMES)
def test_each_row_that_pulumi_shows_as_changed_is_explained(name: str) -> None:
    """Pulumi's row shows the `diffReasons` of a step, which the engine keeps in the preview."""
    rows = {
        (step["urn"].split("::")[-1], step["op"], reason)
        for step in json.loads(text_of(name))["steps"]
        if step["urn"].split("::")[2] == TYPE and step["op"] in ("update", "replace")
        for reason in step.get("diffReasons") or ()
    }
    if plan_of(name).refresh:  # shows the state beside the API, under "Drift"
        return
    shown = markdown(document(reviewed(name)))
    lines = re.findall(r"^- `([^`]+)` (update|replace) \[`diff: ~([\w,]+)`\]: \S", shown, re.MULTILINE)
    assert {(name, op, each) for name, op, listed in lines for each in listed.split(",")} == rows


def test_a_wrong_instance_type_shows_the_suggestion_of_the_preview() -> None:
    found = reviewed("wrong-type")
    assert found.exit_code == 2
    assert 'did you mean "gb200-4x"' in markdown(document(found))
