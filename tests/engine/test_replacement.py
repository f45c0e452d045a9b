"""Replacements on the real engine: the old GPUs are released when the new ones are ready, not before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import invariants
from support.crash import Operation, assert_settled, entries
from support.stack import BACKWARD, FORWARD, Stack, claim

from coreweave_inference.emulator import ClaimRecord, Emulator

Start = Callable[..., Stack]

SCARCE = {"US-WEST-04A": {"gb200-4x": 4}, "US-EAST-04A": {"gb200-4x": 0}}
AMPLE = {"US-WEST-04A": {"gb200-4x": 8}, "US-EAST-04A": {"gb200-4x": 8}}
IMPATIENT = {"timeout": "2s"}


def up(stack: Stack, *arguments: str, check: bool = True, **claims: dict[str, Any]) -> int:
    """`pulumi up` of these claims; answers the exit status."""
    stack.declare(**claims)
    return stack.pulumi("up", "--yes", "--skip-preview", *arguments, check=check).returncode


def urn(stack: Stack, name: str) -> str:
    return str(stack.resources()[name]["urn"])


@pytest.mark.thorough
def test_a_replacement_without_capacity_keeps_the_old_claim_until_reverted(start: Start) -> None:
    stack = start(inventory=SCARCE)
    before = {"training": claim(4, FORWARD, readiness=IMPATIENT)}
    up(stack, **before)
    (old,) = stack.emulator.claims()

    assert up(stack, check=False, training=claim(4, BACKWARD, readiness=IMPATIENT)) != 0
    assert "0 of 4 gb200-4x" in stack.output
    assert "Traceback" not in stack.output
    held = {each.id: each for each in stack.emulator.claims()}
    assert len(held) == 2
    assert held[old.id] == old
    assert old.status == "STATUS_READY"

    stack.emulator.clear_requests()
    up(stack, **before)
    assert [each.id for each in stack.emulator.claims()] == [old.id]
    assert stack.emulator.claims()[0].allocation == old.allocation
    posts = [each for each in stack.emulator.requests() if each.method == "POST"]
    assert [each.committed for each in posts] in ([], [False])
    assert_settled(stack, before)
    assert stack.preview() == {}


@pytest.mark.thorough
def test_the_next_up_finishes_a_replacement_once_capacity_is_free(start: Start) -> None:
    stack = start(inventory=SCARCE)
    up(stack, training=claim(4, FORWARD))
    (old,) = stack.emulator.claims()
    wanted = {"training": claim(4, BACKWARD, readiness=IMPATIENT)}
    assert up(stack, check=False, **wanted) != 0
    (new,) = (each.id for each in stack.emulator.claims() if each.id != old.id)

    stack.emulator.set_inventory(AMPLE)
    stack.emulator.clear_requests()
    up(stack, **wanted)
    assert [each.id for each in stack.emulator.claims()] == [new]
    assert stack.writes() == ["DELETE"]
    assert_settled(stack, wanted)


def test_a_replacement_never_has_fewer_ready_instances_than_before(start: Start) -> None:
    stack = start(allocation_delay=1.0, allocation_spread=0.3)
    up(stack, training=claim(4, FORWARD))
    old = stack.resources()["training"]["id"]
    with looks(stack.emulator) as seen:
        up(stack, training=claim(4, BACKWARD))
    new = stack.resources()["training"]["id"]
    invariants.make_before_break(seen, old, new)
    ready = [sum(sum(each.allocation.values()) for each in look if is_ready(each)) for look in seen]
    assert (min(ready), max(ready), ready[-1]) == (4, 8, 4)


def is_ready(held: ClaimRecord) -> bool:
    return held.status == "STATUS_READY"


@contextmanager
def looks(emulator: Emulator) -> Iterator[list[list[ClaimRecord]]]:
    """All claims, looked at every 20 ms while the `with` runs, and once at its end."""
    seen = [emulator.claims()]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            seen.append(emulator.claims())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        seen.append(emulator.claims())


@pytest.mark.thorough
def test_a_forced_replacement_of_an_unchanged_claim_keeps_the_claim(start: Start) -> None:
    stack = start()
    wanted = {"training": claim(4)}
    up(stack, **wanted)
    (old,) = stack.emulator.claims()
    stack.emulator.clear_requests()
    up(stack, "--replace", urn(stack, "training"), **wanted)
    (kept,) = stack.emulator.claims()
    assert (kept.id, kept.allocation, kept.status) == (old.id, old.allocation, "STATUS_READY")
    writes = [(each.method, each.committed) for each in stack.emulator.requests() if each.method != "GET"]
    assert writes == [("POST", False), ("PATCH", True)]  # refused, then adopted by a PATCH without a change
    assert "is kept" in stack.output
    assert_settled(stack, wanted)

    up(stack, **wanted)
    assert_settled(stack, wanted)
    stack.destroy()
    assert stack.emulator.claims() == []


@pytest.mark.thorough
def test_a_forced_replacement_that_deletes_first_creates_a_new_claim(start: Start) -> None:
    stack = start()
    wanted = {"training": claim(4, opts={"delete_before_replace": True})}
    up(stack, **wanted)
    created = stack.emulator.claims()[0].answer["status"]["createdAt"]  # type: ignore[index]
    stack.emulator.clear_requests()
    up(stack, "--replace", urn(stack, "training"), **wanted)
    assert stack.writes() == ["DELETE", "POST"]
    assert stack.emulator.claims()[0].answer["status"]["createdAt"] > created  # type: ignore[index]
    assert_settled(stack, wanted)


@pytest.mark.thorough
def test_a_targeted_up_clears_the_double_entry_that_a_crash_has_left(start: Start) -> None:
    stack = start()
    wanted = {"training": claim(4), "serving": claim(1)}
    up(stack, **wanted)
    target = urn(stack, "training")
    (old,) = (each for each in stack.emulator.claims() if each.instance_count == 4)
    # Between the two entries' creation and the older one's deletion, the program waits for readiness.
    stack.emulator.set_faults([{"method": "GET", "hold": "before"}])
    # The create that adopts the claim reads it, too: the first held call is the provider's.
    with Operation(stack, "up", "--yes", "--skip-preview", "--replace", target) as replacing:
        while len(entries(stack)) < 3:
            stack.emulator.wait_for_hold(60)
            stack.emulator.release()
        replacing.kill()
    stack.emulator.clear_faults()
    stack.emulator.release()
    assert [each["id"] for each in entries(stack)].count(old.id) == 2

    stack.pulumi("cancel", "--yes")
    up(stack, "--target", target, **wanted)
    assert old in stack.emulator.claims()
    assert_settled(stack, wanted)
    stack.emulator.clear_requests()
    up(stack, **wanted)
    assert stack.writes() == []


def test_a_rename_with_an_alias_changes_nothing_at_the_api(start: Start) -> None:
    stack = start()
    up(stack, training=claim(4))
    (old,) = stack.emulator.claims()
    stack.emulator.clear_requests()
    renamed = {"pretraining": claim(4, opts={"aliases": ["training"]})}
    up(stack, **renamed)
    assert stack.writes() == []
    assert stack.emulator.claims() == [old]
    assert_settled(stack, renamed)


@pytest.mark.thorough
def test_replacing_a_claim_whose_explicit_name_is_taken_says_what_to_do(start: Start) -> None:
    stack = start(unique_names=True, environment={"COREWEAVE_READ_GRACE": "1s"})
    up(stack, training=claim(4, FORWARD, name="train"))
    (old,) = stack.emulator.claims()
    assert up(stack, check=False, training=claim(4, BACKWARD, name="train")) != 0
    for part in ("the name 'train' is taken", old.id, "delete_before_replace=True", "omit `name`"):
        assert part in stack.output
    assert "Traceback" not in stack.output
    assert stack.emulator.claims() == [old]

    wanted = {"training": claim(4, BACKWARD, name="train", opts={"delete_before_replace": True})}
    stack.emulator.clear_requests()
    up(stack, **wanted)
    assert stack.writes() == ["DELETE", "POST"]
    assert [each.name for each in stack.emulator.claims()] == ["train"]
    assert_settled(stack, wanted)


@pytest.mark.thorough
def test_two_stacks_with_the_same_names_have_claims_of_their_own(start: Start, tmp_path: Path) -> None:
    first = start("first")
    second = Stack(tmp_path / "other" / "program", first.emulator, name="second")
    wanted = {"training": claim(4), "serving": claim(1)}
    up(first, **wanted)
    mine = {each.id for each in first.emulator.claims()}
    up(second, **wanted)
    theirs = {each.id for each in first.emulator.claims()} - mine
    assert_settled(first, wanted, others=theirs)
    assert_settled(second, wanted, others=mine)

    first.destroy()
    assert {each.id for each in first.emulator.claims()} == theirs
    assert_settled(second, wanted)


@pytest.mark.thorough
def test_the_next_up_repeats_a_failed_deletion_of_the_old_claim(start: Start) -> None:
    stack = start(environment={"COREWEAVE_RETRY_DEADLINE": "1s"})
    up(stack, training=claim(4, FORWARD))
    wanted = {"training": claim(4, BACKWARD)}
    stack.emulator.set_faults([{"path": "delete", "fail": {"code": "unavailable"}}])
    assert up(stack, check=False, **wanted) != 0
    assert len(stack.emulator.claims()) == 2
    stack.emulator.clear_faults()
    up(stack, **wanted)
    assert_settled(stack, wanted)
