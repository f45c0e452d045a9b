"""A claim that no state holds: its create was cut off, and then its declaration changed."""

from __future__ import annotations

import json
from collections.abc import Callable

from support import invariants
from support.crash import Operation, until
from support.stack import BACKWARD, Stack, claim
from typer.testing import CliRunner

from pulumi_coreweave_inference.cli.app import app

Start = Callable[..., Stack]
UP = ("up", "--yes", "--skip-preview")


def test_destroy_fails_until_the_orphan_of_the_stack_is_released(start: Start) -> None:
    stack = start(environment={"COREWEAVE_READ_GRACE": "1s"})
    emulator = stack.emulator
    stack.declare(a=claim(1))
    stack.up()
    emulator.set_faults([{"path": "create", "hold": "after"}])
    stack.declare(a=claim(1), b=claim(2))
    with Operation(stack, *UP) as operation:
        until(lambda: bool(emulator.holds()))
        operation.kill()
    emulator.clear_faults()
    emulator.release()

    # With another declaration, the next `up` creates another claim and leaves this one alone.
    (held,) = stack.resources().values()
    (left,) = (each.id for each in emulator.live_claims() if each.id != held["id"])
    stack.declare(a=claim(1), b=claim(2, BACKWARD))
    stack.pulumi("cancel", "--yes")
    shown = stack.pulumi(*UP).stdout
    assert "another claim created for capacity claim 'b' still exists" in shown
    assert f"capacity-claims release --all-stacks {left}" in shown
    assert {each.id for each in emulator.live_claims()} == {left, *ids(stack)}
    assert left not in ids(stack)

    found = orphans(stack)
    assert found == {left: {"stack": "test", "resourceName": "b", "cutOff": True}}

    refused = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
    assert refused.returncode != 0
    assert f"capacity-claims release --all-stacks {left}" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert [each.id for each in emulator.live_claims()] == [left]

    assert "run `pulumi refresh --clear-pending-creates` first" in refused.stdout
    stack.pulumi("refresh", "--clear-pending-creates", "--yes", "--skip-preview")
    released = stack.command(f"capacity-claims release --all-stacks {left} --yes")
    assert released.returncode == 0, released.stdout + released.stderr
    stack.pulumi("destroy", "--yes", "--skip-preview")
    invariants.nothing_alive(emulator.claims(), stack.export().get("resources", []))


def orphans(stack: Stack) -> dict[str, object]:
    """The origins of unmanaged claims by their ids, as `capacity-claims orphans` shows them."""
    file = stack.folder / "test"
    file.write_text(stack.pulumi("stack", "export").stdout, encoding="utf-8")
    found = CliRunner().invoke(
        app, ["orphans", "--state", str(file), "--format", "json"], env=stack.environment
    )
    assert found.exit_code == 1, found.output
    origins = {each["id"]: each["origin"] for each in json.loads(found.stdout)["unmanaged"]}
    return {claim_id: origin | {"stack": "test"} for claim_id, origin in origins.items()}


def ids(stack: Stack) -> set[str]:
    """The ids of the claims in the state."""
    return {entry["id"] for entry in stack.resources().values()}
