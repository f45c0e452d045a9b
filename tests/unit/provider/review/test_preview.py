"""Rare previews, and what a reviewer sees of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from rich.console import Console
from typer.testing import CliRunner

from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.cli.review.document import Bullets, Document, Table, Verbatim, document
from pulumi_coreweave_inference.cli.review.json_report import json_report
from pulumi_coreweave_inference.cli.review.markdown import markdown
from pulumi_coreweave_inference.cli.review.plan import Kind, totals
from pulumi_coreweave_inference.cli.review.preview import parse
from pulumi_coreweave_inference.cli.review.review import review
from pulumi_coreweave_inference.cli.review.terminal import show
from pulumi_coreweave_inference.cli.tokens import DYNAMIC as CLAIM_TYPE

URN = f"urn:pulumi:prod::claims::{CLAIM_TYPE}::training"
ROOT = "urn:pulumi:prod::claims::pulumi:pulumi:Stack::claims-prod"


def resources(count: Any = 4, zones: Any = ("US-WEST-04A", "US-EAST-04A")) -> dict[str, Any]:
    return {"instanceId": "gb200-4x", "instanceCount": count, "zones": list(zones)}


def state(held: Any = None, **more: Any) -> dict[str, Any]:
    held = resources() if held is None else held
    return {"id": "id-1", "inputs": {"resources": held}, "outputs": {"resources": held}} | more


def step(op: str, old: Any = None, new: Any = None, urn: str = URN, **more: Any) -> dict[str, Any]:
    states = {"oldState": old, "newState": new}
    return {"op": op, "urn": urn} | {key: value for key, value in states.items() if value} | more


def preview(*steps: dict[str, Any], **more: Any) -> str:
    return json.dumps({"steps": list(steps)} | more)


def comment(*steps: dict[str, Any], **more: Any) -> str:
    """The comment, without its title and its fingerprint."""
    shown = markdown(document(review(parse(preview(*steps, **more)))))
    return shown.partition("`\n\n")[2].partition("\n\n<sub>")[0]


@pytest.mark.parametrize(
    ("op", "unknown"),
    [
        ("create", "after"),
        ("import", "after"),
        ("update", "both"),
        ("replace", "both"),
        ("delete", "before"),
        ("same", "both"),
    ],
)
def test_a_step_without_states_is_never_taken_for_harmless(op: str, unknown: str) -> None:
    plan = parse(preview(step(op)))
    (change,) = plan.changes
    assert (change.before is not None, change.after is not None) == (unknown != "after", unknown != "before")
    (amounts,) = totals(plan).values()
    assert amounts.peak.at_least
    assert "unknown" in markdown(document(review(plan)))
    assert not change.state_only


@pytest.mark.parametrize("value", ["[secret]", "3eeb2bf0-c639-47a8-9e75-3b44932eb421"])
def test_an_update_with_unknown_values_may_change_what_is_reserved(value: str) -> None:
    old, new = state(resources(value)), state(resources(value))
    assert "change only the state" not in comment(step("update", old, new))
    (change,) = parse(preview(step("update", old, new))).changes
    assert (change.kind, change.needs_capacity) == (Kind.CHANGE, True)


def test_an_update_that_reserves_the_same_changes_only_the_state() -> None:
    assert "change only the state" in comment(step("update", state(), state()))


def test_the_identity_of_a_claim_is_never_shown() -> None:
    """A rename by an alias changes the property that only the provider uses."""
    old, new = state(), state(resources(zones=("US-EAST-04A",)))
    for held, declaration in ((old, "Claim::training"), (new, "Claim::trainer")):
        for side in ("inputs", "outputs"):
            held[side] = held[side] | {"identity": {"declaration": declaration}}
    paths = {"identity.declaration": {"kind": "update", "inputDiff": True}, "identity": {"kind": "update"}}
    renamed = step("update", old, old, detailedDiff=paths, diffReasons=list(paths))
    replaced = step("replace", old, new, replaceReasons=[*paths, "resources.zones"], detailedDiff=paths)
    for each, reasons in ((renamed, ()), (replaced, ("resources.zones",))):
        found = review(parse(preview(each)))
        assert found.plan.changes[0].reasons == reasons
        shown = markdown(document(found)) + shown_on_a_terminal(document(found)) + json_report(found)
        assert "Claim::trainer" not in shown
    assert "change only the state" in comment(renamed)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"resources": {"instanceCount": 6}}, "update [`diff: ~resources`]: instance_count `4` → `6`"),
        (
            {"resources": {"zones": ["US-EAST-04A", "US-WEST-04A"]}},
            "update [`diff: ~resources`]: zones `US-WEST-04A, US-EAST-04A` → `US-EAST-04A, US-WEST-04A`",
        ),
        ({"name": "b"}, "update [`diff: +name`]: name `a` → `b`"),
        (
            {"name": "b", "resources": {"capacityType": "CAPACITY_TYPE_CUSTOMER"}},
            "update [`diff: +name~resources`]: capacity_type `CAPACITY_TYPE_MANAGED` → "
            "`CAPACITY_TYPE_CUSTOMER`, name `a` → `b`",
        ),
        (
            {"identity": {"declaration": "x"}},
            "update [`diff: ~identity`]: the claim's new resource name, in the state only",
        ),
    ],
)
def test_a_line_says_what_a_row_of_pulumi_hides(changed: dict[str, Any], line: str) -> None:
    old, new = state(), state(resources() | changed.get("resources", {}))
    old["outputs"]["name"] = "a"
    new["inputs"] |= {key: value for key, value in changed.items() if key != "resources"}
    paths = {f"resources.{key}": {"kind": "update"} for key in changed.get("resources", {})}
    paths |= {"name": {"kind": "add-replace"}} if "name" in changed else {}
    paths |= {"identity.declaration": {"kind": "update"}} if "identity" in changed else {}
    assert f"- `training` {line}\n" in comment(step("update", old, new, detailedDiff=paths)) + "\n"


def test_zones_beyond_the_shown_ones_still_have_a_line() -> None:
    many = [f"Z{number}" for number in range(9)]
    old, new = state(resources(zones=many)), state(resources(zones=[*many[:-1], "Z"]))
    paths = {"resources.zones[8]": {"kind": "update"}}
    assert "zones `Z0, Z1, Z2, Z3, Z4, Z5 and 3 more` → " in comment(
        step("update", old, new, detailedDiff=paths)
    )


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("halves", [False, True])
def test_a_preview_that_failed_calls_no_claim_gone(left: bool, halves: bool) -> None:
    """The refreshes come first; a failure ends the preview before it says what becomes of a claim."""
    steps = [step("refresh", state(delete=left), state(delete=left))]
    other = URN.replace("training", "batch")
    steps += [step("create-replacement", state(id="id-2"), state(), urn=other)] if halves else []
    found = parse(preview(*steps, diagnostics=[{"severity": "error", "message": "error: wrong type"}]))
    assert (found.drift, [change.name for change in found.changes]) == ((), ["batch"] if halves else [])
    assert found.errors == ("wrong type",)


def test_a_long_message_has_the_same_beginning_on_each_line_of_a_terminal() -> None:
    message = f"{'word ' * 40}\n\nFingerprint 12"
    plan = parse(preview(diagnostics=[{"severity": "error", "message": message}]))
    shown = shown_on_a_terminal(document(review(plan)))
    quoted = shown.partition("applied.\n")[2].partition("Until it failed")[0].splitlines()
    assert len(quoted) >= 4
    assert all(line.startswith("│ ") or line == "│" for line in quoted)


def test_a_replacement_that_retains_the_old_claim_holds_both_forever() -> None:
    old, new = state(retainOnDelete=True), state(resources(zones=("US-EAST-04A",)))
    steps = [
        step("create-replacement", old, new),
        step("replace", old, new, replaceReasons=["resources.zones"]),
        step("delete-replaced", old),
    ]
    assert [amount.known for amount in totals(parse(preview(*steps)))["gb200-4x"]] == [4, 8, 8, 4]
    assert comment(*steps) == snapshot("""\
**1 replaced**.

- **Instances:** 4 → 8 (+4), at most 8 during the update
- **Requested first in:** `US-EAST-04A` 4 × `gb200-4x`
- **Capacity released before new capacity is granted:** no

| Claim | Change | Instances | Peak | Zones (preferred first) | If no capacity is found |
|---|---|---|--:|---|---|
| `training` | **replace**, old claim stays at CoreWeave, in no state: zones | 4 × `gb200-4x` | 8 | `US-WEST-04A, US-EAST-04A` → `US-EAST-04A` | keeps the old 4 × `gb200-4x` |

| Instance type | Before | After | Peak | If no capacity is found |
|---|--:|--:|--:|--:|
| `gb200-4x` | 4 | 8 (+4) | 8 | 4 |

- A claim that stays in no state (retain_on_delete, deleted_with) stays reserved until it is released by its id.\
""")


def test_a_renamed_claim_shows_its_new_name() -> None:
    renamed = state() | {"outputs": {"resources": resources(), "name": "theirs"}}
    root = step("refresh", {"id": "s"}, {"id": "s"}, ROOT)
    ours = state() | {"outputs": {"resources": resources(), "name": "ours"}}
    assert comment(root, step("refresh", ours, ours), step("update", ours, renamed)) == snapshot("""\
A refresh, which changes only the state. Claims with drift: 1 of 1.

| Instance type | Before | After | Peak |
|---|--:|--:|--:|
| `gb200-4x` | 4 | 4 | 4 |

**Drift:** changed outside of Pulumi since the state was written.

| Claim | State | CoreWeave |
|---|---|---|
| `training` | 4 × `gb200-4x` in `US-WEST-04A, US-EAST-04A` | 4 × `gb200-4x` in `US-WEST-04A, US-EAST-04A`, named `theirs` |\
""")


def test_a_refresh_without_drift_says_so() -> None:
    root = step("refresh", {"id": "s"}, {"id": "s"}, ROOT)
    assert comment(root, step("refresh", state(), state())) == snapshot("""\
A refresh, which changes only the state. Claims with drift: 0 of 1.

| Instance type | Before | After | Peak |
|---|--:|--:|--:|
| `gb200-4x` | 4 | 4 | 4 |\
""")


def test_a_refresh_shows_that_an_old_claim_is_gone() -> None:
    root = step("refresh", {"id": "s"}, {"id": "s"}, ROOT)
    assert comment(root, step("delete", state(delete=True))) == snapshot("""\
A refresh, which changes only the state. Claims with drift: 1 of 1.

**Drift:** changed outside of Pulumi since the state was written.

| Claim | State | CoreWeave |
|---|---|---|
| `training`, left by an unfinished replacement | 4 × `gb200-4x` in `US-WEST-04A, US-EAST-04A` | **gone** |\
""")


def held(claim_id: str, count: int | None, **more: Any) -> dict[str, Any]:
    return state(resources(count), id=claim_id, **more)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("old", [3, 4, None])
@pytest.mark.parametrize("current", [3, 4, None])
def test_drift_of_two_claims_under_one_urn_is_told_apart(
    current: int | None, old: int | None, turned: bool
) -> None:
    refreshes = [
        step("refresh", held("current", 4), held("current", 4)),
        step("refresh", held("old", 4, delete=True), held("old", 4, delete=True)),
    ]
    steps = refreshes[::-1] if turned else refreshes
    steps.append(step("same" if current == 4 else "update", held("current", current), held("current", 4)))
    if current is None:
        steps[-1] = step("create", None, held("current", 4))
    if old is not None:
        steps.append(step("delete-replaced", held("old", old, delete=True)))
    shown = step("delete-replaced", {"delete": True}, urn="urn:pulumi:prod::claims::aws:s3/bucket:Bucket::b")
    plan = parse(preview(*steps, shown))
    found = {
        (drift.by_unfinished_replacement, drift.live.count if drift.live else None) for drift in plan.drift
    }
    assert found == ({(False, current)} if current != 4 else set()) | ({(True, old)} if old != 4 else set())
    released = [
        change.before.count for change in plan.changes if change.kind is Kind.RELEASE and change.before
    ]
    assert released == ([] if old is None else [old])


def test_an_old_claim_without_a_step_is_released_if_it_still_exists() -> None:
    current, old = held("current", 4), held("old", 3, delete=True)
    steps = (step("refresh", old, old), step("refresh", current, current), step("same", current, current))
    assert comment(*steps) == snapshot("""\
**1 released**; 1 unchanged.

- **Instances:** 7 → 4 (-3), at most 7 during the update
- **Capacity released before new capacity is granted:** no

| Claim | Change | Instances | Peak | Zones (preferred first) | If no capacity is found |
|---|---|---|--:|---|---|
| `training` | **release** of an old claim, left by an unfinished replacement, if it still exists | 3 → 0 × `gb200-4x` | 3 | `US-WEST-04A, US-EAST-04A` | – |

| Instance type | Before | After | Peak |
|---|--:|--:|--:|
| `gb200-4x` | 7 | 4 (-3) | 7 |

- No step of the preview releases the old claim that an unfinished replacement left: either it is gone, or pulumi preview ran without --show-replacement-steps. It is counted.\
""")


def test_a_refresh_counts_both_claims_of_an_unfinished_replacement() -> None:
    root = step("refresh", {"id": "s"}, {"id": "s"}, ROOT)
    current, old = held("current", 4), held("old", 3, delete=True)
    steps = (root, step("refresh", old, old), step("refresh", current, current))
    plan = parse(preview(*steps, changeSummary={"same": 3}))
    assert (totals(plan)["gb200-4x"].before.known, plan.hidden, plan.half_shown) == (7, 0, ())
    # A claim with an outdated entry is one claim.
    same = step("refresh", held("current", 4, delete=True), held("current", 4, delete=True))
    assert totals(parse(preview(root, same, steps[2])))["gb200-4x"].before.known == 4


@pytest.mark.parametrize("flags", ["both", "none"])
@pytest.mark.parametrize("host", ["delete", "delete-replaced", "replace", "same", "first"])
def test_a_claim_stays_if_the_engine_deletes_what_it_is_deleted_with(host: str, flags: str) -> None:
    urn = "urn:pulumi:prod::claims::aws:s3/bucket:Bucket::b"
    steps = [step("delete", state(deletedWith=urn))]
    if host == "first":
        steps += [step("delete-replaced", {"delete": False}, urn=urn), step("replace", urn=urn)]
    else:
        steps += [step(host, {"delete": host == "delete-replaced"}, urn=urn)]
    if flags == "both":
        steps += [step("create-replacement", urn=urn.replace("::b", "::other"))]
    (change,) = parse(preview(*steps)).altered
    stays = host in ("delete", "delete-replaced") or (host, flags) == ("replace", "none")
    assert (change.kind, change.retained) == ((Kind.FORGET, True) if stays else (Kind.RELEASE, False))


@pytest.mark.parametrize("host", [None, 3, [], {}])
def test_an_odd_host_of_a_claim_is_read_without_harm(host: Any) -> None:
    (change,) = parse(preview(step("delete", state(deletedWith=host)))).changes
    assert change.kind is Kind.RELEASE


def test_what_the_provider_prints_as_a_warning_is_one_message() -> None:
    lines = [
        "hello\n\n",
        "  indented, of the program\n\n",
        "warning: first\n\n",
        "  more of it\n\n",
        "        and more\n\n",
        "warning: second\n\n",
        "something else\n\n",
        "  of no warning\n\n",
        "warning: first\n\n",
        "  more of it\n\n",
        "        and more\n\n",
    ]
    printed = [{"severity": "info", "message": line} for line in lines]
    plan = parse(preview(diagnostics=[*printed, {"severity": "warning", "message": "warning: engine\n"}]))
    assert plan.warnings == ("engine", "first\n  more of it\n        and more", "second")


def test_a_hostile_warning_stays_in_its_block() -> None:
    lines = ["warning: ```", "  @octocat <img> \x1b[31m", "  ````"]
    printed = [{"severity": "info", "message": f"{line}\n"} for line in lines]
    shown = markdown(document(review(parse(preview(diagnostics=printed)))))
    assert "`````text\n```\n  @octocat <img>\n  ````\n`````" in shown


@pytest.mark.parametrize(("unchanged", "drifted"), [(1, False), (0, True)])
def test_a_refreshed_claim_without_a_second_step_is_unchanged_or_gone(unchanged: int, drifted: bool) -> None:
    # Without --show-sames an unchanged claim is only counted, and a gone one is not even counted.
    plan = parse(preview(step("refresh", state(), state()), changeSummary={"same": unchanged}))
    assert [change.kind for change in plan.changes] == [Kind.SAME] * unchanged
    assert [(drift.name, drift.live) for drift in plan.drift] == [("training", None)] * drifted


def test_a_claim_that_is_only_looked_up_is_not_part_of_the_plan() -> None:
    plan = parse(preview(step("read", None, state()), step("discard", state())))
    assert (plan.changes, plan.drift, plan.others) == ((), (), 0)


def shown_on_a_terminal(found: Document) -> str:
    terminal = io.StringIO()
    show(found, Console(file=terminal, width=100))
    return terminal.getvalue()


def test_a_terminal_counts_what_it_leaves_out() -> None:
    many = tuple((f"row {number}",) for number in range(1_234))
    found = Document(
        ("Title",),
        (
            Table(("Column",), tuple((cell,) for cell in many)),
            Bullets(many),
            Verbatim(tuple(cell for (cell,) in many)),
        ),
        (),
        "",
    )
    lines = shown_on_a_terminal(found).splitlines()
    assert [line for line in lines if "more" in line] == snapshot(
        [
            "… and 1,034 more, not shown",
            "… and 1,224 more, not shown",
            "… and 1,034 more, not shown",
        ]
    )
    assert sum("row" in line for line in lines) == 200 + 10 + 200


def test_a_review_on_a_terminal_looks_like_this() -> None:
    old, new = state(), state(resources(zones=("US-EAST-04A", "US-WEST-04A")))
    found = review(
        parse(
            preview(
                step("create-replacement", old, new),
                step("replace", old, new, replaceReasons=["resources.zones"]),
                step("delete-replaced", old),
                diagnostics=[{"severity": "warning", "message": "look here"}],
            )
        )
    )
    text = shown_on_a_terminal(document(found)).replace(found.fingerprint, "…")
    assert "\n".join(line.rstrip() for line in text.splitlines()) == snapshot("""\
Capacity claims of claims/prod
1 replaced.
• Instances: 4 → 4, at most 8 during the update
• Requested first in: US-EAST-04A 4 × gb200-4x
• Capacity released before new capacity is granted: no

                                                      Zones (preferred       If no capacity is
 Claim     Change                 Instances     Peak  first)                 found
 ──────────────────────────────────────────────────────────────────────────────────────────────────
 training  replace, new claim     4 × gb200-4x     8  US-WEST-04A,           keeps the old 4 ×
           created first: zone                        US-EAST-04A →          gb200-4x
           order                                      US-EAST-04A,
                                                      US-WEST-04A


 Instance type  Before  After  Peak  If no capacity is found
 ───────────────────────────────────────────────────────────
 gb200-4x            4      4     8                        4

Warnings of the preview:
│ look here
• An old claim is released after the program succeeds. By then the new claim is ready, unless the
program sets readiness=None, which a preview does not show.
Fingerprint …\
""")


@pytest.mark.parametrize("option", ["--rules", "--prices"])
def test_a_file_that_is_not_text_is_refused_in_one_line(option: str, tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(b"\xff\xfe\xff")
    done = CliRunner().invoke(app, ["review", option, str(file)], input=preview())
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{file} is not TOML: it is not text in UTF-8 or UTF-16; save it as UTF-8" in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_resources_are_counted_whatever_their_urn_and_states() -> None:
    odd = step("create", new=state(), urn="not a urn")
    plain = step("update", state(), state(), urn="urn:pulumi:prod::claims::aws:s3/bucket:Bucket::b")
    plan = parse(preview(odd, plain))
    assert (plan.changes, plan.others) == ((), 2)


def test_a_state_without_outputs_is_read_from_its_inputs() -> None:
    from_inputs = parse(preview(step("delete", {"id": "id-1", "inputs": {"resources": resources(3)}})))
    assert totals(from_inputs)["gb200-4x"].before.known == 3
    (change,) = parse(preview(step("delete", {"id": "id-1", "inputs": {}, "outputs": {}}))).changes
    assert change.before is not None
    assert [field for field, _ in change.before.unknowns()] == [
        "instance type",
        "instance count",
        "zones",
        "capacity type",
    ]
