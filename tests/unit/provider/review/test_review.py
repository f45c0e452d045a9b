"""Rules, prices, writers and limits, on synthetic previews."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pulumi_coreweave_inference.cli.review.document import document
from pulumi_coreweave_inference.cli.review.json_report import json_report
from pulumi_coreweave_inference.cli.review.markdown import LIMIT, markdown, quoted
from pulumi_coreweave_inference.cli.review.plan import Plan, totals
from pulumi_coreweave_inference.cli.review.preview import parse
from pulumi_coreweave_inference.cli.review.prices import PriceBook, cost
from pulumi_coreweave_inference.cli.review.review import review
from pulumi_coreweave_inference.cli.review.rules import Rules
from pulumi_coreweave_inference.cli.review.terminal import show
from pulumi_coreweave_inference.cli.review.toml_model import InvalidToml, load_toml
from pulumi_coreweave_inference.cli.tokens import DYNAMIC as CLAIM_TYPE

Step = dict[str, Any]
WEST, EAST = "US-WEST-04A", "US-EAST-04A"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def resources(count: Any = 4, kind: Any = "gb200-4x", zones: Any = (WEST, EAST)) -> dict[str, Any]:
    zones = list(zones) if isinstance(zones, tuple) else zones
    return {"instanceId": kind, "instanceCount": count, "zones": zones}


def steps(
    op: str, name: str = "training", old: Any = None, new: Any = None, first: str = "create", **state: Any
) -> list[Step]:
    """The steps of one claim, as the engine prints them with both flags."""
    urn = f"urn:pulumi:prod::claims::{CLAIM_TYPE}::{name}"
    step: Step = {"op": op, "urn": urn}
    if old is not None:
        step["oldState"] = {"id": f"id-{name}", "outputs": {"resources": old}, **state}
    if new is not None:
        step["newState"] = {"inputs": {"resources": new}, **state}
    if op != "replace":
        return [step]
    step["replaceReasons"] = ["resources.zones"]
    created = {**step, "op": "create-replacement"}
    deleted = {"op": "delete-replaced", "urn": urn, "oldState": step["oldState"] | {"delete": True}}
    return [created, step, deleted] if first == "create" else [deleted, step, created]


def preview(*claims: list[Step], same: int = 0, **more: Any) -> str:
    return json.dumps({"steps": list(itertools.chain(*claims)), "changeSummary": {"same": same}} | more)


def plan(*claims: list[Step], **more: Any) -> Plan:
    return parse(preview(*claims, **more))


# A model: each claim is the list of what it holds from moment to moment, as (type, count) pairs.
Holding = tuple[tuple[str, int], ...]
sizes = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5))


@st.composite
def claims(draw: st.DrawFn) -> tuple[list[list[Step]], list[list[Holding]]]:
    """Up to four claims: their steps, and their holdings from moment to moment."""
    all_steps, all_moments = [], []
    for index in range(draw(st.integers(0, 4))):
        op = draw(st.sampled_from(["create", "delete", "same", "update", "replace first", "replace last"]))
        old, new = draw(sizes), draw(sizes)
        if op == "same":
            new = old
        before, after = resources(old[1], old[0]), resources(new[1], new[0], (EAST,))
        name = f"claim-{index}"
        if op == "create":
            all_steps.append(steps("create", name, new=after))
            all_moments.append([(), (new,)])
        elif op == "delete":
            all_steps.append(steps("delete", name, old=before))
            all_moments.append([(old,), ()])
        elif op in ("same", "update"):
            all_steps.append(steps(op, name, old=before, new=before if op == "same" else after))
            all_moments.append([(old,), (new,)])
        else:
            first = "delete" if op == "replace first" else "create"
            all_steps.append(steps("replace", name, old=before, new=after, first=first))
            all_moments.append([(old,), () if first == "delete" else (old, new), (new,)])
    return all_steps, all_moments


def brute_force(moments: list[list[Holding]], weight: dict[str, int]) -> tuple[int, int, int]:
    """Before, after and the most of every combination of moments, weighted by type."""

    def weigh(combination: tuple[Holding, ...]) -> int:
        counted: Counter[str] = Counter()
        for holding in combination:
            for kind, count in holding:
                counted[kind] += count
        return sum(weight.get(kind, 0) * count for kind, count in counted.items())

    every = [weigh(combination) for combination in itertools.product(*moments)]
    return every[0], every[-1], max(every)


@given(claims())
def test_totals_and_costs_hold_for_every_order_of_events(
    made: tuple[list[list[Step]], list[list[Holding]]],
) -> None:
    all_steps, moments = made
    found = plan(*all_steps)
    sums = totals(found)
    for kind in ("a", "b"):
        total = sums.get(kind)
        expected = brute_force(moments, {kind: 1})
        assert ((total.before.known, total.after.known, total.peak.known) if total else (0, 0, 0)) == expected
    money = cost(found, load_toml(PriceBook, "[per_hour]\na = 3\nb = 7\n")).per_hour
    assert money[:3] == brute_force(moments, {"a": 3, "b": 7})
    assert not money.partial


@given(claims(), st.randoms(use_true_random=False))
def test_equal_plans_have_equal_fingerprints_in_any_step_order(
    made: tuple[list[list[Step]], list[list[Holding]]], random: Any
) -> None:
    all_steps, _ = made
    mark = review(plan(*all_steps)).fingerprint
    shuffled = list(all_steps)
    random.shuffle(shuffled)
    assert review(plan(*shuffled)).fingerprint == mark
    extra = steps("create", "another", new=resources(1))
    assert review(plan(*all_steps, extra)).fingerprint != mark
    assert (
        review(plan(*all_steps, extra)).fingerprint
        != review(plan(*all_steps, steps("create", "another", new=resources(2)))).fingerprint
    )


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (resources(4), resources(5)),
        (resources(4), resources(4, zones=(EAST, WEST))),
        (resources(4), resources(4, kind="h100")),
        (resources(4), resources(UNKNOWN)),
        (resources("[secret]"), resources(UNKNOWN)),
    ],
)
def test_the_fingerprint_covers_every_part_of_a_claim(change: Any, other: Any) -> None:
    marks = {review(plan(steps("create", new=declared))).fingerprint for declared in (change, other)}
    assert len(marks) == 2


def test_the_fingerprint_covers_stack_order_and_protection() -> None:
    old, new = resources(4), resources(4, zones=(EAST,))
    plans = [
        preview(steps("replace", old=old, new=new)),
        preview(steps("replace", old=old, new=new, first="delete")),
        preview(steps("replace", old=old, new=new, protect=True)),
        preview(steps("replace", old=old, new=new)).replace(":prod::", ":dev::"),
    ]
    assert len({review(parse(text)).fingerprint for text in plans}) == 4


@pytest.mark.parametrize("value", ["[secret]", UNKNOWN])
@pytest.mark.parametrize(
    ("unseen", "property"),
    [
        (lambda value: steps("create", new=resources(value)), "instance count"),
        (lambda value: steps("update", old=resources(4), new=resources(value)), "instance count"),
        (lambda value: steps("update", old=resources(value), new=resources(4)), "instance count before"),
        (lambda value: steps("delete", old=resources(value)), "instance count before"),
        (lambda value: steps("create", new=resources(4, value)), "instance type"),
        (lambda value: steps("create", new=resources(4, zones=(WEST, value))), "a zone"),
    ],
)
def test_no_fingerprint_approves_a_value_that_is_not_shown(
    unseen: Callable[[str], list[Step]], property: str, value: str
) -> None:
    found = plan(unseen(value))
    approved = review(found, expected=review(found).fingerprint)
    assert approved.exit_code == 1
    (violation,) = approved.violations
    assert (violation.rule, violation.claim) == ("expect-fingerprint", "training")
    assert violation.value.startswith(f"{property} is ")
    assert "cannot be approved by fingerprint" in markdown(document(review(found)))
    assert json.loads(json_report(review(found)))["unseenValues"][0]["property"] == property


def test_an_unchanged_claim_with_a_secret_does_not_prevent_an_approval() -> None:
    found = plan(steps("same", "other", old=resources("[secret]"), new=resources("[secret]")), REPLACED)
    assert review(found, expected=review(found).fingerprint).exit_code == 0
    assert "cannot be approved" not in markdown(document(review(found)))


REPLACED = steps("replace", old=resources(4), new=resources(4, zones=(EAST,)))


@pytest.mark.parametrize(
    ("rules", "passing", "failing", "violation"),
    [
        ('instance_types = ["gb200-4x"]', steps("create", new=resources()),
         steps("create", new=resources(kind="h100")), ("training", "h100", "one of gb200-4x")),
        (f'zones = ["{WEST}"]', steps("create", new=resources(zones=(WEST,))),
         steps("create", new=resources()), ("training", EAST, f"one of {WEST}")),
        ("min_zones = 2", steps("create", new=resources()),
         steps("create", new=resources(zones=(WEST,))), ("training", "1", "at least 2")),
        ("max_scale_down = 2", steps("update", old=resources(4), new=resources(2)),
         steps("update", old=resources(4), new=resources(1)), ("training", "3 fewer", "at most 2 fewer")),
        ("max_scale_down = 3", steps("delete", old=resources(3)),
         steps("delete", old=resources(4)), ("training", "4 fewer", "at most 3 fewer")),
        ("max_scale_down = 3", REPLACED,
         steps("replace", old=resources(4), new=resources(4, kind="h100")), ("training", "4 fewer", "at most 3 fewer")),
        ('protected = ["train*"]', steps("create", new=resources(), protect=True),
         steps("create", new=resources()), ("training", "not protected", "train* is protected")),
        ('protected = ["train*"]', steps("delete", "batch", old=resources()),
         steps("delete", old=resources()), ("training", "released", "train* stays and is protected")),
        ('replace = "forbid"', steps("update", old=resources(4), new=resources(5)), REPLACED,
         ("training", "replaced because of resources.zones", "no replacement")),
        ('replace = "create-first"', REPLACED,
         steps("replace", old=resources(), new=resources(), first="delete"),
         ("training", "replaced because of resources.zones, released first", "the new claim first")),
        ("[max_instances]\nclaim = 4", steps("create", new=resources(4)),
         steps("create", new=resources(5)), ("training", "5", "at most 4")),
        ("[max_instances]\nstack = 4", steps("create", new=resources(4)),
         steps("create", new=resources(5)), (None, "5", "at most 4")),
        ("[max_instances.type]\n\"gb200-4x\" = 4", steps("create", new=resources(9, kind="h100")),
         steps("create", new=resources(5)), (None, "5 of gb200-4x", "at most 4")),
        ("[max_peak]\nstack = 7", steps("update", old=resources(4), new=resources(7)), REPLACED,
         (None, "8 during the update", "at most 7")),
        ("[max_peak.type]\n\"gb200-4x\" = 7", steps("replace", old=resources(), new=resources(), first="delete"),
         REPLACED, (None, "8 of gb200-4x during the update", "at most 7")),
    ],
)  # fmt: skip
def test_a_rule_passes_and_fails_with_claim_value_and_limit(
    rules: str, passing: list[Step], failing: list[Step], violation: tuple[str | None, str, str]
) -> None:
    loaded = load_toml(Rules, rules)
    assert review(plan(passing), loaded).exit_code == 0
    found = review(plan(failing), loaded)
    assert found.exit_code == 1
    (row,) = found.violations
    assert (row.claim, row.value, row.limit) == violation
    assert row.rule.partition(".")[0] in rules
    shown = markdown(document(found))
    for part in (row.rule, row.value, row.limit, row.claim or "all"):
        assert part in shown or quoted(part) in shown


@pytest.mark.parametrize(
    ("rule", "limit", "passing", "failing", "value", "said"),
    [
        ("after", "40", steps("create", new=resources(4)), steps("create", new=resources(5)),
         "50 EUR per hour", "at most 40 EUR per hour"),
        ("peak", "70", steps("update", old=resources(4), new=resources(7)), REPLACED,
         "80 EUR per hour", "at most 70 EUR per hour"),
        ("increase", "20.5", steps("update", old=resources(4), new=resources(6)),
         steps("update", old=resources(4), new=resources(7)), "30 EUR per hour", "at most 20.5 EUR per hour"),
        ("increase_percent", "50", steps("update", old=resources(4), new=resources(6)),
         steps("update", old=resources(4), new=resources(7)), "75 % more", "at most 50 % more"),
        ("increase_percent", "50", steps("update", old=resources(4), new=resources(1)),
         steps("create", new=resources(1)), "more than nothing", "at most 50 % more"),
    ],
)  # fmt: skip
def test_a_cost_has_limits(
    rule: str, limit: str, passing: list[Step], failing: list[Step], value: str, said: str
) -> None:
    loaded = load_toml(Rules, f"[max_cost]\n{rule} = {limit}")
    prices = load_toml(PriceBook, 'currency = "EUR"\n[per_hour]\n"gb200-4x" = 10')
    assert review(plan(passing), loaded, prices).exit_code == 0
    (row,) = review(plan(failing), loaded, prices).violations
    assert (row.rule, row.claim, row.value, row.limit) == (f"max_cost.{rule}", None, value, said)


def test_a_cost_that_is_not_known_violates_its_limit() -> None:
    rules = load_toml(Rules, "[max_cost]\nafter = 1000")
    unpriced = load_toml(PriceBook, '[per_hour]\n"h100" = 1')
    found = plan(steps("create", new=resources(4)))
    values = [review(found, rules, prices).violations[0].value for prices in (None, unpriced)]
    assert values == ["no prices are given", "no price for gb200-4x"]
    secret = plan(steps("create", new=resources("[secret]")))
    prices = load_toml(PriceBook, '[per_hour]\n"gb200-4x" = 1')
    assert review(secret, rules, prices).violations[0].value == "a number that is not shown"
    assert review(found, load_toml(Rules, "min_zones = 1"), None).violations == ()


@pytest.mark.parametrize(
    "rules",
    [
        'instance_types = ["gb200-4x"]', f'zones = ["{WEST}"]', "min_zones = 1", "[max_instances]\nclaim = 9",
        "[max_instances]\nstack = 9", "[max_instances.type]\nx = 9", "[max_peak]\nstack = 9",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [UNKNOWN, "[secret]", {"4dabf18193072939515e22adb298388d": "1b47"}])
def test_a_rule_that_cannot_be_checked_is_violated(rules: str, value: Any) -> None:
    unknown = steps("create", new=resources(value, value, value))
    assert review(plan(unknown), load_toml(Rules, rules)).exit_code == 1
    assert review(plan(steps("create", new=value)), load_toml(Rules, rules)).exit_code == 1


def test_limits_of_a_stack_require_all_claims_to_be_shown() -> None:
    rules = load_toml(Rules, "[max_instances]\nstack = 100")
    (row,) = review(plan(steps("create", new=resources()), same=3), rules).violations
    assert "--show-sames" in row.limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_zone = 2", "unknown key min_zone;"),
        ("[max_instances]\nstak = 2", "unknown key max_instances.stak;"),
        ("min_zones = -1", "min_zones must be greater than or equal to 0, not -1"),
        ("min_zones = true", "min_zones must be a valid integer, not true"),
        ("max_peak = 2", "max_peak must be a table with the keys stack, type"),
        ("[max_peak]\ntype = 2", "max_peak.type must be a table"),
        ('[max_peak.type]\nx = "2"', 'max_peak.type.x must be a valid integer, not "2"'),
        ('zones = "RNO2A"', 'zones must be a valid list, not "RNO2A"'),
        ('replace = "no"', "replace must be 'allow', 'create-first' or 'forbid'"),
        ("zones = [", "not TOML"),
    ],
)
def test_a_rules_file_with_a_mistake_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(InvalidToml) as caught:
        load_toml(Rules, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[perhour]", "unknown key perhour"),
        ("per_hour = 2", "per_hour must be a table"),
        ("[per_hour]\nx = -1", "per_hour.x must be greater than or equal to 0, not -1"),
        ("[per_hour]\nx = nan", "per_hour.x must be a finite number, not NaN"),
        ("[per_hour]\nx = true", "per_hour.x must be a number, not true"),
        ("[gpus]\nx = 1.5", "gpus.x must be a valid integer, not 1.5"),
        ("currency = 2", "currency must be a valid string, not 2"),
        ("[", "not TOML"),
    ],
)
def test_a_price_book_with_a_mistake_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(InvalidToml) as caught:
        load_toml(PriceBook, text)
    assert message in str(caught.value)


def test_cost_is_exact_and_types_without_a_price_are_listed() -> None:
    book = load_toml(PriceBook, 'currency = "EUR"\n[per_hour]\n"gb200-4x" = 0.1\n')
    found = review(plan(REPLACED, steps("create", "other", new=resources(1, "h100"))), prices=book)
    assert found.cost is not None
    assert found.cost.per_hour[:3] == (Decimal("0.4"), Decimal("0.4"), Decimal("0.8"))
    assert found.cost.per_hour.per_month().peak == Decimal("584.0")
    assert (found.cost.unpriced, found.cost.per_hour.partial) == (("h100",), True)
    shown = markdown(document(found))
    assert "No price for `h100`" in shown
    assert "at least 0.80 during the update" in shown


HOSTILE = [
    "a|b", "a`b``c", "<img src=x onerror=alert(1)>", "@octocat", "#1", "line\nbreak\r\nand more",
    "[x](http://evil.example)", "http://evil.example", "</details></td>", "\x1b[31mred", "\u202egnirts",
    "**bold** _it_ ~~no~~", "\\", "-->", "&lt;", "", " ", "a::b::c", "\ud800", "x" * 5000, "| --- |", "$(id)",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_stays_in_its_cell(text: str) -> None:
    found = review(
        plan(
            steps("create", text, new=resources(1, text or "x", (text, WEST))),
            steps("replace", "b" + text, old=resources(1), new=resources(2)),
            diagnostics=[{"severity": "error", "message": f"{text} ```\n@octocat"}],
        ),
        load_toml(Rules, 'instance_types = ["x"]'),
    )
    shown = markdown(document(found))
    outside = "\n".join(line for line in _outside_of_code(shown))
    for sign in ("@octocat", "<img", "evil", "\x1b", "\u202e", "[x]", "**bold", "#1\n"):
        assert sign not in outside
    rows = [line for line in shown.splitlines() if line.startswith("| ") and line.endswith(" |")]
    assert {line.replace("\\|", "").count(" | ") for line in rows} <= {3, 4, 5}
    shown.encode("utf-8", "replace")
    terminal = io.StringIO()
    show(document(found), Console(file=terminal, width=200))
    assert "\x1b" not in terminal.getvalue()
    assert "\u202e" not in terminal.getvalue()
    assert json.loads(json_report(found))["claims"][1]["name"] == text


def _outside_of_code(shown: str) -> list[str]:
    """What a renderer would read as Markdown: CommonMark's own parser says so."""
    from markdown_it import MarkdownIt

    texts = []
    inside = False
    for token in MarkdownIt("commonmark").enable("table").parse(shown):
        for child in token.children or []:
            if child.type == "html_inline":
                inside = child.content == "<code>" or (inside and child.content != "</code>")
                texts.append(child.content)
            elif child.type == "text" and not inside:
                texts.append(child.content)
            elif child.type in ("link_open", "image"):
                texts.append(str(child.attrs))
    return texts


@given(st.text())
def test_quoting_leaves_no_character_that_ends_a_cell_or_a_span(text: str) -> None:
    shown = quoted(text)
    inner = shown.removeprefix("`").removesuffix("`").removeprefix("<code>").removesuffix("</code>")
    assert not set(inner) & set("|`<>@\n\r[]*\\\x1b\u2028")


@pytest.mark.parametrize("name", ["claim", "@|`<" * 60])
@pytest.mark.parametrize("op", ["create", "delete", "replace", "update", "same"])
def test_a_comment_stays_below_its_limit_and_counts_the_rest(name: str, op: str) -> None:
    many = 600
    old = None if op == "create" else resources(4, name, (name,) * 9)
    new = None if op == "delete" else resources(2, name, (name,) * 8)
    found = review(
        plan(
            *(steps(op, f"{name}{index}", old=old, new=new) for index in range(many)),
            *(steps("refresh", f"{name}{index}", old=resources(9, name)) for index in range(many)),
            diagnostics=[{"severity": level, "message": f"{n}{name}" * 99}
                         for level in ("error", "warning") for n in range(99)],
        ),
        load_toml(Rules, "min_zones = 10\n[max_instances]\nclaim = 1"),
    )  # fmt: skip
    shown = markdown(document(found))
    assert len(shown) < LIMIT
    assert "more" in shown
    assert found.fingerprint in shown


def test_twenty_thousand_steps_are_read_and_written_in_seconds() -> None:
    noise = {"stackTrace": [{"sourcePosition": f"project:///program.py#{n}"} for n in range(10)]}
    text = preview(
        *(steps("update", f"c{n}", old=resources(4), new=resources(3), **noise) for n in range(20_000))
    )
    found = review(parse(text), load_toml(Rules, "[max_instances]\nclaim = 4"))
    assert found.totals["gb200-4x"].after.known == 60_000
    assert len(markdown(document(found))) < LIMIT
    json_report(found)


@pytest.mark.parametrize("index", range(3))
def test_a_preview_with_unusual_values_is_read_without_harm(index: int) -> None:
    odd: Any = [1e400, -1, 2.5, True, None, [], {}, "4", float("nan")]
    claims = [steps("create", f"c{n}", new=resources(value, value, value)) for n, value in enumerate(odd)]
    broken = steps("update", "x", old={"instanceId": 3}, new="resources")
    found = plan(*claims[index * 3 : index * 3 + 3], broken)
    assert all(total.after.known >= 0 for total in totals(found).values())
    markdown(document(review(found)))


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["op", "urn", "inputs", "outputs", "resources", "zones", "oldState", "newState"]), inner)))  # fmt: skip
def test_no_shape_of_a_state_makes_the_parser_fail(anything: Any) -> None:
    step = steps("update", old=anything, new=anything)[0]
    for side in ("oldState", "newState"):
        step[side] = {"outputs": anything, "inputs": {"resources": anything}, "id": anything}
    markdown(document(review(plan([step]))))


def test_a_claim_left_by_a_replacement_is_released_beside_the_next_one() -> None:
    urn = REPLACED[0]["urn"]
    left = {"id": "id-older", "delete": True, "outputs": {"resources": resources(3)}}
    found = plan(REPLACED, [{"op": "delete-replaced", "urn": urn, "oldState": left}])
    assert [(change.kind.value, change.by_unfinished_replacement) for change in found.changes] == [
        ("replace", False),
        ("release", True),
    ]
    assert [amount.known for amount in totals(found)["gb200-4x"]] == [7, 4, 11, 7]
