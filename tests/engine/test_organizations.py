"""Claims in two organizations: one stack for each, with a token of its own in its config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.stack import Stack, claim

from coreweave_inference.emulator import Emulator, EmulatorSettings

Start = Callable[..., Stack]
UNSET = {"COREWEAVE_API_TOKEN": "", "COREWEAVE_API_ENDPOINT": ""}


def configure(stack: Stack, emulator: Emulator) -> None:
    """Put the token and the endpoint of an organization into the stack's config."""
    stack.pulumi("config", "set", "coreweave:endpoint", emulator.url)
    stack.pulumi("config", "set", "--secret", "coreweave:token", emulator.token)


def test_two_stacks_of_one_program_hold_claims_in_two_organizations(start: Start, tmp_path: Path) -> None:
    first = start("first", environment=UNSET, organization_id="cw1111")
    with Emulator(EmulatorSettings(organization_id="cw2222")) as other:
        second = Stack(tmp_path / "program", other, UNSET, "second")
        for stack, emulator, count in ((first, first.emulator, 1), (second, other, 2)):
            configure(stack, emulator)
            stack.declare(training=claim(count))
            stack.up()
        held = [stack.resources()["training"]["outputs"]["organizationId"] for stack in (first, second)]
        assert held == ["cw1111", "cw2222"]
        assert [each.instance_count for each in first.emulator.claims()] == [1]
        assert [each.instance_count for each in other.claims()] == [2]

        second.environment |= first.emulator.environment()  # which comes before the stack's config
        refused = second.pulumi("refresh", "--yes", "--skip-preview", check=False)
        assert refused.returncode != 0
        assert "the token belongs to another organization" in second.output
        second.environment |= UNSET
        assert second.destroy() == {"delete": 3}
        assert [each.instance_count for each in first.emulator.claims()] == [1]
