"""Foreign text in every text for people: it never controls a display, and never forges a line."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pulumi
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coreweave_inference import (
    CapacityClaim,
    CapacityClaimParameters,
    ConnectionFailed,
    FieldViolation,
    InvalidArgument,
)
from pulumi_coreweave_inference import ClaimError, InvalidSetting, Readiness, catalogue, create, orphans
from pulumi_coreweave_inference.delete_guard import DeleteGuard
from pulumi_coreweave_inference.errors import api_failure, lookup_failure, text
from pulumi_coreweave_inference.foreign_text import in_lines, led_by, one_line, paragraphs, shown
from pulumi_coreweave_inference.identity import Declaration
from pulumi_coreweave_inference.lookups import only
from pulumi_coreweave_inference.operation import Operation, show
from pulumi_coreweave_inference.options import refuse_void_options
from pulumi_coreweave_inference.progress import progress
from pulumi_coreweave_inference.readiness import Goal, interrupted, not_ready
from pulumi_coreweave_inference.settings import Settings

HOSTILE = (
    "\x1b]8;;https://evil.example\x07gone\x1b]8;;\x07",  # a link
    "\x1b[2J\x1b[H\x1b[32mall is well",
    "\x9b31m \x9d0;title\x9c",  # the same in C1
    "US-WEST-04A\n  Next: run `rm -rf /`",
    "a\r\nb\vc\fd\x85e\u2028f\u2029g\x1c",
    "\u202eA40-TSEW-SU\u202c\u2066\u200f",
    "<{%reset%}><{%fg 1%}>",
    "\x1b<{%underline%}>\x00\x7f\x08\udc9b",
    "<\x1b{%bold%}>",
)
FOREIGN = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from([*HOSTILE, "\n", "<", "{%", "<{%", "x", " "]), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=())),
)
NAMESPACE = "8d0c4c0a-5b5e-4c6b-9a6f-1d2e3f405162"


def claim(foreign: str, state: str = "STATUS_CREATING") -> CapacityClaim:
    """A claim of which the API says nothing that is harmless."""
    foreign = foreign.encode("utf-8", "replace").decode()  # the client accepts no lone surrogate
    unknown = f"not known: {foreign}"  # a known state would change what a text says
    return CapacityClaim.model_validate(
        {
            "spec": {
                "id": f"c{foreign}",
                "name": foreign,
                "organizationId": foreign,
                "resources": {
                    "instanceId": foreign,
                    "instanceCount": 4,
                    "zones": ["US-WEST-04A", foreign],
                    "capacityType": foreign,
                },
            },
            "status": {
                "status": state or unknown,
                "allocatedInstances": 1,
                "createdAt": foreign,
                "conditions": [
                    {"type": foreign, "status": unknown, "reason": foreign, "message": foreign, "zone": zone}
                    for zone in ("", foreign)
                ],
            },
        }
    )


def goal(foreign: str) -> Goal:
    return Goal(foreign, foreign, claim(foreign).resources, Readiness(), urn=f"urn:pulumi:s::p::t::{foreign}")


def api_error(foreign: str) -> InvalidArgument:
    return InvalidArgument(
        foreign or "no",
        violations=(FieldViolation(f"resources.{foreign}", foreign),),
        request_id=f"r{foreign}",
        attempts=3,
        operation="create",
        claim_id=f"c{foreign}",
    )


def declaration(foreign: str) -> Declaration:
    resources = claim("gb200-4x").resources
    return Declaration(NAMESPACE, f"t::{foreign}", resources, f"n{foreign}")


def raised(call: Callable[[], object]) -> str:
    with pytest.raises(ClaimError) as caught:
        call()
    return str(caught.value)


def held_twice(foreign: str) -> str:
    guard = DeleteGuard()
    identities = [{"identity": {"declaration": f"t::{name}{foreign}"}} for name in "ab"]
    guard.on_diff("id", identities[0], identities[0])
    return raised(lambda: guard.on_diff("id", identities[1], identities[1]))


def not_offered(foreign: str) -> str:
    offered = CapacityClaimParameters(zone_instance_types={f"z{foreign}": (f"i{foreign}",)})
    found = catalogue.check({"instanceId": f"j{foreign}", "zones": [f"y{foreign}"]}, offered)
    return paragraphs([led_by(f"{each.property}: ", each.reason) for each in found.problems])


def said(foreign: str) -> str:
    lines: list[str] = []
    op = Operation(Settings(), show=lines.append)
    op.say(f"one{foreign}")
    op.warn(f"two{foreign}")
    op.warn(str(lookup_failure("looking", api_error(foreign))))
    return "\n".join(lines)


TEXTS: dict[str, Callable[[str], str]] = {
    "text": lambda foreign: text(f"a{foreign}", said=[foreign], held=[foreign, foreign], then=[foreign] * 2),
    "ClaimError": lambda foreign: str(ClaimError(f"a{foreign}")),
    "InvalidSetting": lambda foreign: str(InvalidSetting(f"coreweave:{foreign}", foreign)),
    "api_failure": lambda foreign: str(
        api_failure("creating", foreign, foreign, api_error(foreign), held=foreign)
    ),
    "lookup_failure": lambda foreign: str(lookup_failure(f"a{foreign}", ConnectionFailed(foreign), foreign)),
    "progress": lambda foreign: progress(claim(foreign, ""), goal(foreign), 60.0, f"outage {foreign}"),
    "not_ready": lambda foreign: not_ready(
        claim(foreign), goal(foreign), 60.0, f"o{foreign}", [claim(foreign)]
    ),
    "not_ready, failed": lambda foreign: not_ready(claim(foreign, "STATUS_FAILED"), goal(foreign), 1.0),
    "not_ready, changed": lambda foreign: not_ready(claim(f"not {foreign}"), goal(foreign), 1.0),
    "not_ready, unread": lambda foreign: not_ready(None, goal(foreign), 1.0, f"outage {foreign}"),
    "interrupted": lambda foreign: interrupted([(claim(foreign), goal(foreign))]),
    "orphan_warning": lambda foreign: orphans.orphan_warning(declaration(foreign), claim(foreign)),
    "OrphansRemain": lambda foreign: str(
        orphans.OrphansRemain(orphans._orphans_remain([claim(foreign)] * 2))
    ),
    "IdConflict": lambda foreign: str(create._id_conflict(declaration(foreign), claim(foreign))),
    "TakeoverRefused": lambda foreign: str(create._takeover_refused(declaration(foreign), claim(foreign))),
    "NameTaken": lambda foreign: str(create._name_taken(declaration(foreign), foreign, foreign, foreign)),
    "create failed": lambda foreign: str(create._create_failed(declaration(foreign), api_error(foreign))),
    "DuplicateOwnership": held_twice,
    "options": lambda foreign: raised(
        lambda: refuse_void_options(
            foreign, pulumi.ResourceOptions(ignore_changes=[f"resources.zonesss{foreign}."])
        )
    ),
    "options, import": lambda foreign: raised(
        lambda: refuse_void_options(foreign, pulumi.ResourceOptions(import_=f"i{foreign}"))
    ),
    "lookup": lambda foreign: raised(lambda: only([claim(foreign)] * 2, foreign)),
    "catalogue": not_offered,
    "say and warn": said,
    "led_by": lambda foreign: led_by(f"a{foreign}", f"b{foreign}"),
    "in_lines": lambda foreign: in_lines(foreign, foreign),
    "shown": lambda foreign: shown(f"a{foreign}"),
}


@pytest.mark.parametrize("name", TEXTS)
@given(foreign=FOREIGN)
@example(foreign="".join(HOSTILE))
@example(foreign="Next: run `rm -rf /`")
@example(foreign="Still reserved: nothing")
def test_foreign_text_controls_no_display_and_adds_no_line(name: str, foreign: str) -> None:
    lines = TEXTS[name](foreign).split("\n")
    assert [line for line in lines if not line.isprintable() or "<{%" in line] == []
    plain = TEXTS[name]("x" if foreign else "").split("\n")
    assert len(lines) == len(plain)
    heads = [(line[:8] == "  Next: ", line[:18] == "  Still reserved: ") for line in lines]
    assert heads == [(line[:8] == "  Next: ", line[:18] == "  Still reserved: ") for line in plain]


def test_plain_text_stays_as_it_is() -> None:
    ours = "declared:      4 gb200-4x in US-WEST-04A; „größer“ — 名前 …"
    assert one_line(ours) == ours


def test_each_control_character_leaves_a_sign() -> None:
    assert one_line("a\x1b[31mb \n\t c\u202e\u00a0d") == "a\ufffd[31mb c\ufffd d"
    assert one_line("<{%fg 1%}>") == "<\ufffd%fg 1%}>"


def test_an_error_in_an_error_keeps_its_lines() -> None:
    inner = lookup_failure("looking", ConnectionFailed("refused"))
    assert str(ClaimError(str(inner))) == str(inner)
    assert str(inner).count("\n") > 1


def test_a_locale_without_a_character_does_not_fail_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="latin-1"))
    show(in_lines("größer …", "\ud800"))
    assert buffer.getvalue().decode("latin-1") == "größer ?\n?\n"


def test_a_long_run_of_blanks_is_no_work() -> None:
    for blanks in (" " * 1_000_000, " " * 500_000 + "x" + " \t" * 500_000, "\n" * 1_000_000):
        assert len(one_line(f"a{blanks}b")) <= len(blanks) + 2
