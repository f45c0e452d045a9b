"""An organization that holds fifty thousand claims of others: which operations read only the stack's own, and which read all."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.plugin import Plugin, claim_inputs
from typer.testing import CliRunner

from coreweave_inference import AsyncClient, CapacityClaim, CapacityClaimResources
from coreweave_inference.emulator import Emulator, EmulatorSettings
from coreweave_inference.emulator.allocation import Holding
from coreweave_inference.emulator.claim import Claim
from pulumi_coreweave_inference import Readiness
from pulumi_coreweave_inference.cli.app import app
from pulumi_coreweave_inference.readiness import Goal, Poller

FOREIGN = 50_000
_A_MONTH = 30 * 86_400 * 1_000_000_000


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    zone = "US-WEST-04A"
    with Emulator(EmulatorSettings(inventory={zone: {"gb200-4x": 1000}})) as running:
        long_ago = running.now() - _A_MONTH
        assert running._app is not None
        claims = running._app.claims
        for number in range(FOREIGN):  # not by POST, which would take a minute
            claim_id = str(uuid.UUID(int=number))
            holding = Holding("gb200-4x", (zone,), 1, held={zone: 1})
            claims._claims[claim_id] = Claim(
                claim_id, f"foreign-{number}", holding, "CAPACITY_TYPE_MANAGED", "cw0a1b",
                long_ago, long_ago, -FOREIGN + number, phase="STATUS_READY",
            )  # fmt: skip
        yield running


def answered(emulator: Emulator) -> int:
    return sum(record.bytes_out for record in emulator.requests())


def test_the_life_of_ten_claims_does_not_read_the_claims_of_others(
    emulator: Emulator,
) -> None:
    emulator.clear_requests()
    inputs = [claim_inputs(key=f"claim-{number}", zones=["US-WEST-04A"]) for number in range(10)]
    with Plugin(emulator.environment()) as plugin:
        checked = [plugin.check({}, each).inputs for each in inputs]
        created = [plugin.create(each) for each in checked]
    assert len(wait_for(emulator, created)) == 10
    assert answered(emulator) < 100_000

    with Plugin(emulator.environment()) as plugin:
        for claim_id, outputs in created:
            plugin.read(claim_id, outputs)
        for (claim_id, outputs), old in zip(created, checked, strict=True):
            news = old | {"resources": old["resources"] | {"instanceCount": 5}}
            plugin.update(claim_id, outputs, news)
        for claim_id, outputs in created:
            plugin.delete(claim_id, outputs)
    assert len(emulator.claims()) == FOREIGN
    assert answered(emulator) < 1_000_000


def wait_for(emulator: Emulator, created: list[tuple[str, dict[str, object]]]) -> list[CapacityClaim]:
    """What a program does once its claims are in the state."""

    async def main() -> list[CapacityClaim]:
        client = AsyncClient(emulator.token, endpoint=emulator.url)
        poller = Poller(lambda: client.capacity_claims, asyncio.get_running_loop().time)
        goals = [
            Goal(
                str(outputs["name"]),
                claim_id,
                CapacityClaimResources.model_validate(outputs["resources"]),
                Readiness(timeout=10),
                str(outputs["updatedAt"]),
            )
            for claim_id, outputs in created
        ]
        try:
            return await asyncio.gather(*(poller.wait(goal, print, print) for goal in goals))
        finally:
            await client.aclose()

    return asyncio.run(main())


def test_list_and_orphans_read_all_claims_and_say_how_many(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    listed = CliRunner().invoke(app, ["list", "--name", "foreign-4999?", "--format", "json"])
    assert listed.exit_code == 0
    assert len(json.loads(listed.stdout)["claims"]) == 10
    assert "50,000 claims" in listed.stderr

    state = tmp_path / "empty.json"
    state.write_text(json.dumps({"version": 3, "deployment": {"resources": []}}), encoding="utf-8")
    found = CliRunner().invoke(app, ["orphans", "--state", str(state), "--format", "json"])
    assert found.exit_code == 1
    assert len(json.loads(found.stdout)["unmanaged"]) == FOREIGN
    assert "50,000 claims" in found.stderr
