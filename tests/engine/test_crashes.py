"""Death at every point of a claim's life: the next `pulumi up` repairs everything.

The emulator holds a call, so every point is exact. `docs/reference/crash-matrix.md` records what these tests saw.
`CRASH_MATRIX=write` runs every death at every point and writes the page; `CRASH_MATRIX=all` runs the same and
compares. Without it, SIGKILL of everything runs at every point, and the other deaths only where they differ.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from support.crash import (
    Operation,
    assert_settled,
    entries,
    locked,
    mend_torn_state,
    pending,
    until,
)
from support.native import NativeStack
from support.stack import BACKWARD, FORWARD, ROOT, Stack, claim

Start = Callable[..., Stack]
Claims = Mapping[str, Mapping[str, Any]]

MODE: Final = os.environ.get("CRASH_MATRIX", "")
MATRIX: Final = ROOT / "docs" / "reference" / "crash-matrix.md"
UP: Final = ("up", "--yes", "--skip-preview")

DEATHS: Final = {
    "kill": "SIGKILL of everything",
    "kill-cli": "SIGKILL of the CLI",
    "kill-provider": "SIGKILL of the provider",
    "interrupt": "Ctrl-C",
    "interrupt-twice": "Ctrl-C twice",
}


@dataclass(frozen=True, eq=False)
class Point:
    """A call that is held, and the claims declared when it is made.

    `nth`: which of the operation's calls of this kind; None holds all of them. `frozen`: the CLI is
    stopped, then the call is answered. `waits`: the call is one of a wait for readiness.
    """

    title: str
    call: str
    when: str
    declared: Claims
    holds: int = 1
    nth: int | None = None
    frozen: bool = False
    waits: bool = False


@dataclass(frozen=True)
class Life:
    """Points that one stack goes through, one death after the other."""

    first: Claims
    points: tuple[Point, ...]


A, B = {"a": claim(1), "b": claim(2)}, {"c": claim(1), "d": claim(2)}
LIVES: Final = {
    "create": Life(
        {},
        (
            Point("POST sent, not processed", "create", "before", A, holds=2),
            Point("POST processed, not answered", "create", "after", A | B, holds=2),
            Point(
                "POST answered, state not written",
                "create",
                "after",
                A | B | {"e": claim(1)},
                frozen=True,
            ),
        ),
    ),
    "change": Life(
        {},
        (
            Point("state written, waiting for instances", "get", "before", {"a": claim(1)}, waits=True),
            Point("PATCH sent, not processed", "update", "before", {"a": claim(2)}),
            Point("PATCH processed, not answered", "update", "after", {"a": claim(3)}),
            Point("PATCH answered, state not written", "update", "after", {"a": claim(4)}, frozen=True),
        ),
    ),
    "delete": Life(
        A | B,
        (
            Point("DELETE sent, not processed", "delete", "before", {"b": claim(2)} | B, holds=1),
            Point("DELETE processed, not answered", "delete", "after", B),
            Point("DELETE answered, state not written", "delete", "after", {"d": claim(2)}, frozen=True),
        ),
    ),
    "replace": Life(
        {"a": claim(2, FORWARD)},
        (
            Point("replacement: POST processed, not answered", "create", "after", {"a": claim(2, BACKWARD)}),
            Point(
                "replacement: waiting for the new claim",
                "get",
                "before",
                {"a": claim(2, FORWARD[:1])},
                nth=2,  # the first one looks for a claim that the new one would take over
                waits=True,
            ),
            Point(
                "replacement: DELETE of the old claim sent, not processed",
                "delete",
                "before",
                {"a": claim(2, BACKWARD[:1])},
            ),
            Point(
                "replacement: DELETE of the old claim processed, not answered",
                "delete",
                "after",
                {"a": claim(2, FORWARD)},
            ),
        ),
    ),
}


def native_lives() -> dict[str, Life]:
    """The points of native claims: `Create` and `Update` wait, so the engine writes the state after the wait."""
    change, replacement = LIVES["change"].points, LIVES["replace"].points
    wait_of_create = replace(change[0], title="POST answered, waiting for instances")
    wait_of_update = Point(
        "PATCH answered, waiting for instances", "get", "before", {"a": claim(5)}, nth=2, waits=True
    )
    return LIVES | {
        "change": Life({}, (wait_of_create, *change[1:], wait_of_update)),
        "replace": replace(
            LIVES["replace"],
            points=tuple(replace(each, nth=1) if each.waits else each for each in replacement),
        ),
    }


@dataclass(frozen=True)
class Face:
    """What claims are to the engine: the lives of such claims, and where other deaths leave something else."""

    stack: type[Stack]
    lives: Mapping[str, Life]
    different: Collection[tuple[str, str, str]]  # than SIGKILL of everything: life, point, death
    in_every_run: Collection[str]


FACES: Final = {
    "dynamic": Face(
        Stack,
        LIVES,
        different={
            ("change", "state written, waiting for instances", "interrupt"),
            ("create", "POST processed, not answered", "interrupt-twice"),
            ("replace", "replacement: POST processed, not answered", "interrupt"),
        },
        in_every_run={"create-kill", "replace-interrupt"},
    ),
    "native": Face(
        NativeStack,
        native_lives(),
        different={
            ("change", "POST answered, waiting for instances", "kill-provider"),
            ("change", "POST answered, waiting for instances", "interrupt"),
            ("change", "PATCH answered, waiting for instances", "interrupt"),
            ("create", "POST processed, not answered", "kill-provider"),
            ("create", "POST processed, not answered", "interrupt-twice"),
            ("replace", "replacement: waiting for the new claim", "interrupt"),
        },
        in_every_run={"create-kill", "replace-interrupt"},
    ),
}


def cases() -> list[Any]:
    """The face, what is declared at first, the points that are run, and the death."""
    chosen = []
    for face_name, face in FACES.items():
        for name, life in face.lives.items():
            before = dict(
                zip(life.points, (life.first, *(point.declared for point in life.points)), strict=False)
            )
            for death in DEATHS:
                points = tuple(point for point in life.points if is_run(face, name, point, death))
                if points:
                    marks = () if f"{name}-{death}" in face.in_every_run else pytest.mark.thorough
                    case = f"{face_name}-{name}-{death}"
                    chosen.append(
                        pytest.param(face_name, before[points[0]], points, death, id=case, marks=marks)
                    )
    return chosen


def is_run(face: Face, life: str, point: Point, death: str) -> bool:
    """Whether this run has the cell of the matrix. A frozen CLI can only be killed."""
    if death == "kill":
        return True
    return not point.frozen and (MODE in ("all", "write") or (life, point.title, death) in face.different)


@pytest.mark.parametrize(("face", "first", "points", "death"), cases())
def test_the_next_up_repairs_everything_after_any_death(
    start: Start, face: str, first: Claims, points: tuple[Point, ...], death: str
) -> None:
    stack = start(environment={"COREWEAVE_HTTP_TIMEOUT": "120s"}, kind=FACES[face].stack)
    if first:
        stack.declare(**first)
        stack.pulumi(*UP)
    for point in points:
        check(face, point, death, die_and_recover(stack, point, death))

    if "creating" in pending(stack):
        # Only this clears a create that was interrupted; until then each command warns of it.
        stack.pulumi("refresh", "--yes", "--clear-pending-creates", "--skip-preview")
        assert pending(stack) == []
        assert_settled(stack, points[-1].declared)
    stack.pulumi("destroy", "--yes", "--skip-preview")
    assert stack.emulator.claims() == []
    assert entries(stack) == []


def die_and_recover(stack: Stack, point: Point, death: str) -> tuple[str, ...]:
    """Let an `up` die, run the next one, check all invariants; answers the row of the matrix."""
    emulator = stack.emulator
    settled, warned_of = live(stack), Counter(pending(stack))
    emulator.clear_requests()
    rule = {"path": point.call, "hold": point.when}
    emulator.set_faults([rule if point.nth is None else rule | {"nth": point.nth}])
    stack.declare(**point.declared)
    with Operation(stack, *UP) as operation:
        emulator.wait_for_hold(60, count=point.holds)
        if point.waits:
            assert len(stack.writes()) == 1, "only the POST or PATCH comes before the wait for readiness"
        if point.frozen:
            operation.freeze_cli()
            answer_all(stack)
        ended = DYING[death](operation, stack, point)
        emulator.clear_faults()
        at_death, known = live(stack), {entry["id"] for entry in entries(stack)}
        left, commands = left_behind(stack, warned_of), recover(stack)
    assert_settled(stack, point.declared)
    after = live(stack)
    emulator.release()  # what the dead one has sent is taken only now
    until(lambda: all(each.seconds is not None for each in emulator.requests()))
    assert_settled(stack, point.declared)
    taken = [each.claim for each in emulator.requests() if each.method == "POST" and each.committed]
    assert sorted(map(str, taken)) == sorted(after - settled)
    fate = {
        "adopted": len((after & at_death) - known),
        "created": len(after - at_death),
        "kept": len(after & at_death & known),
        "released": len(at_death - after),
        "already gone": len((known - at_death) - after),
    }
    return ended, left, commands, ", ".join(f"{count} {what}" for what, count in fate.items() if count)


def live(stack: Stack) -> set[str]:
    """The ids of the claims that the API holds."""
    return {held.id for held in stack.emulator.live_claims()}


def answer_all(stack: Stack) -> None:
    """Let the held calls go on, and wait until each has its answer."""
    emulator = stack.emulator
    emulator.clear_faults()
    held = {hold.sequence for hold in emulator.holds()}
    emulator.release()
    until(lambda: all(each.seconds is not None for each in emulator.requests() if each.sequence in held))


def left_behind(stack: Stack, before: Counter[str]) -> str:
    """What the dead operation has left: its lock, pending operations, entries that wait for deletion."""
    parts = ["lock"] if locked(stack) else []
    parts += [f"{count} {kind}" for kind, count in sorted((Counter(pending(stack)) - before).items())]
    doomed = sum(1 for entry in entries(stack) if entry.get("delete"))
    return ", ".join(parts + ([f"{doomed} to be deleted"] if doomed else [])) or "nothing"


def recover(stack: Stack) -> str:
    """Run the commands that a person has to run to repair everything."""
    commands = []
    if locked(stack):
        stack.pulumi("cancel", "--yes")
        commands.append("`pulumi cancel`")
    stack.pulumi(*UP)
    commands.append("`pulumi up`")
    return ", ".join(commands)


def _kill(operation: Operation, stack: Stack, point: Point) -> str:
    operation.kill()
    return "at once"


def _kill_cli(operation: Operation, stack: Stack, point: Point) -> str:
    operation.kill_cli()
    if not point.waits:
        answer_all(stack)
    return "at once" if point.waits else "at once; the provider got its response"


def _kill_provider(operation: Operation, stack: Stack, point: Point) -> str:
    operation.kill_provider()
    if point.waits:
        answer_all(stack)
    return f"exit {operation.wait()}"


def _interrupt(operation: Operation, stack: Stack, point: Point) -> str:
    operation.interrupt()
    if not point.waits:
        answer_all(stack)
    status = operation.wait()
    return f"exit {status}, " + ("the wait ended" if point.waits else "after the call finished")


def _interrupt_twice(operation: Operation, stack: Stack, point: Point) -> str:
    operation.interrupt()
    operation.interrupt_again()
    status = operation.wait()
    # The first Ctrl-C ends a wait by itself: then the second one may find nothing left to cut off.
    return "exit 1 or 8" if point.waits and status in (1, 8) else f"exit {status}"


DYING: Final[Mapping[str, Callable[[Operation, Stack, Point], str]]] = {
    "kill": _kill,
    "kill-cli": _kill_cli,
    "kill-provider": _kill_provider,
    "interrupt": _interrupt,
    "interrupt-twice": _interrupt_twice,
}

HEAD: Final = """---
hide: [toc]
---

# When a run dies

This page shows what is left when a `pulumi up` dies, and what the next one does about it. `make crash-matrix` writes it by
running every row on the real engine. CI checks a part of the rows.

For each row, a `pulumi up` died at an exact point, because the emulator held that call. The commands under *then* repaired
everything: there were as many claims as declared, each was in the state once under its id, and no POST was processed twice.
No row needed anything else. Where an operation was killed while its call was `sent, not processed`, the API processed the
call after the recovery, and everything still had to be right.

- *Left*: `lock` is the lock of the dead CLI, which `pulumi cancel` removes. `creating`, `updating` and `deleting` are
  operations that the state lists as pending. `to be deleted` is the old claim of a replacement that is still in the state.
- *Claims*: an `adopted` claim existed but was not in the state, and was found by its id. A `created` claim did not exist yet.
  A `kept` claim was in the state, which includes the claims of other declarations. A `released` claim was released by the
  recovery, as it should be. An `already gone` claim was released before that, and only the state had to catch up.

A plain `pulumi up` repairs everything. Pulumi keeps warning about an interrupted create until you run
`pulumi refresh --clear-pending-creates`.

Two things cannot be repaired by `pulumi up` alone. `make soak` runs into both and counts them:

- **An interrupted create** (`creating`, or an error that says that a response was lost) has to be adopted by an `up` of
  the *same* declaration. If the declaration is changed or removed first, or the stack is destroyed, nothing in the state
  refers to the claim. Its id still shows which stack created it: an `up` that creates another claim for that declaration
  names it, `pulumi destroy` names it and fails while it exists, and `capacity-claims orphans` finds it.
- **A torn state file.** An engine that keeps states in a folder does not write them atomically. If it is killed at that
  moment, every later command says `failed to load checkpoint`. If the state itself is torn, copy the previous one, which
  is next to it in `*.json.bak`, over it. In any case delete `*.json.attrs`, which the engine can do without: an empty one
  also prevents loading (`failed to load checkpoint: EOF`). An `up` from there adopts what has been created since.

| point | death | the CLI ended | left | then | claims |
|---|---|---|---|---|---|
"""


NATIVE_HEAD: Final = """
## Native claims

The native plugin waits for readiness inside `Create` and `Update`, so a claim that is waited for is in the state only when
the wait has ended. After a kill in between, its create counts as interrupted, and the next `up` adopts the claim. Ctrl-C
ends the wait and puts the claim into the state as not ready; the next `up` goes on waiting.

| point | death | the CLI ended | left | then | claims |
|---|---|---|---|---|---|
"""

HEADS: Final = {"dynamic": HEAD, "native": NATIVE_HEAD}


def check(face: str, point: Point, death: str, seen: tuple[str, ...]) -> None:
    """Compare a row with the committed matrix, or write it there."""
    row = (point.title, DEATHS[death], *seen)
    if MODE == "write":
        write(face, row)
    else:
        assert tables(MATRIX)[face][row[:2]] == row


def tables(file: Path) -> dict[str, dict[tuple[str, ...], tuple[str, ...]]]:
    """For each face the rows of the matrix, by point and death."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    dynamic, _, native = text.partition(NATIVE_HEAD.lstrip().partition("\n")[0])
    return {"dynamic": rows(dynamic), "native": rows(native)}


def rows(text: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The rows of a table without its head."""
    lines = [line for line in text.splitlines() if line[:1] == "|"]
    table = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return {row[:2]: row for row in table[2:]}


def write(face: str, row: tuple[str, ...]) -> None:
    """Put a row into the matrix; several processes may do so."""
    deaths = list(DEATHS.values())
    with exclusive(MATRIX.parent):
        known = tables(MATRIX)
        known[face][row[:2]] = row
        text = ""
        for name, table in known.items():
            titles = titles_of(FACES[name])
            valid = [each for each in table.values() if each[0] in titles and each[1] in deaths]
            valid.sort(key=lambda each: (titles.index(each[0]), deaths.index(each[1])))
            text += HEADS[name] + "".join(f"| {' | '.join(each)} |\n" for each in valid)
        MATRIX.write_text(text, encoding="utf-8")


def titles_of(face: Face) -> list[str]:
    """The points of a face, in the order of its table."""
    return [point.title for life in face.lives.values() for point in life.points]


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes out that ask for the same."""
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@pytest.mark.thorough
def test_an_up_from_a_backup_of_the_state_adopts_the_claims_created_since(start: Start) -> None:
    stack = start()
    wanted = {"a": claim(1)}
    stack.declare(**wanted)
    stack.emulator.set_faults([{"path": "get", "hold": "before"}])
    with Operation(stack, *UP) as operation:
        stack.emulator.wait_for_hold(60)
        operation.kill()
    stack.emulator.clear_faults()
    (made,) = live(stack)
    assert [entry["id"] for entry in entries(stack)] == [made]
    stack.state_file.write_bytes(b"")  # as the engine's death while it writes leaves it
    stack.pulumi("cancel", "--yes", check=False)
    assert stack.pulumi(*UP, check=False).returncode != 0
    assert "failed to load checkpoint" in stack.output

    assert mend_torn_state(stack)
    stack.pulumi(*UP)
    assert live(stack) == {made}
    assert_settled(stack, wanted)

    stack.state_file.with_name(f"{stack.state_file.name}.attrs").write_bytes(b"")
    assert stack.pulumi("stack", check=False).returncode != 0
    assert "failed to load checkpoint: EOF" in stack.output
    assert mend_torn_state(stack)
    stack.pulumi("stack")


@pytest.mark.thorough
@pytest.mark.parametrize("count", [1, 3])
def test_no_wait_begins_after_ctrl_c(start: Start, count: int) -> None:
    """A native claim whose POST is answered after Ctrl-C: the CLI would wait for `Create` to end."""
    none = {zone: {"gb200-4x": 0} for zone in FORWARD}
    stack = start(environment={"COREWEAVE_HTTP_TIMEOUT": "120s"}, kind=NativeStack, inventory=none)
    wanted = {f"team-{number}": claim(1) for number in range(count)}
    stack.declare(**wanted)
    stack.emulator.set_faults([{"path": "create", "hold": "after"}])
    with Operation(stack, *UP) as operation:
        stack.emulator.wait_for_hold(60, count=count)
        operation.interrupt()
        answer_all(stack)
        assert operation.wait(20) != 0
        assert "Traceback" not in operation.output
    assert {entry["id"] for entry in entries(stack)} == live(stack)
    stack.emulator.set_inventory({zone: {"gb200-4x": 64} for zone in FORWARD})
    stack.pulumi(*UP)
    assert_settled(stack, wanted)


@pytest.mark.parametrize("face", FACES)
def test_the_matrix_has_a_row_for_every_point_and_death(face: str) -> None:
    expected = {
        (point.title, text)
        for life in FACES[face].lives.values()
        for point in life.points
        for death, text in DEATHS.items()
        if not point.frozen or death == "kill"
    }
    assert tables(MATRIX)[face].keys() == expected
    text = MATRIX.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    assert NATIVE_HEAD in text
