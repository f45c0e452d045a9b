from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
from inline_snapshot import snapshot
from pulumi.runtime import mocks, settings

from coreweave_inference import CapacityClaimResources, Client
from coreweave_inference.emulator import Emulator
from pulumi_coreweave_inference import (
    ClaimError,
    get_capacity_claim,
    get_capacity_claim_output,
    get_capacity_claim_parameters,
    get_capacity_claim_parameters_output,
    get_capacity_claims,
    get_capacity_claims_output,
)

RESOURCES = CapacityClaimResources.model_validate(
    {
        "instanceId": "gb200-4x",
        "instanceCount": 2,
        "zones": ["US-WEST-04A", "US-EAST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    with Client() as connected:
        yield connected


def test_a_claim_is_found_by_its_id_and_by_its_name(client: Client) -> None:
    made = client.capacity_claims.create("train", RESOURCES)
    by_id = get_capacity_claim(id=made.id)
    assert by_id.id == made.id
    assert by_id.resources.zones == ["US-WEST-04A", "US-EAST-04A"]
    assert (by_id.status, by_id.allocated_instances) == ("STATUS_READY", 2)
    assert by_id.conditions[0].zone == "US-WEST-04A"
    assert get_capacity_claim(name="train") == by_id


def test_a_name_that_fits_several_claims_is_an_error_that_lists_them(client: Client) -> None:
    ids = {client.capacity_claims.create("train", RESOURCES).id for _ in range(2)}
    with pytest.raises(ClaimError) as error:
        get_capacity_claim(name="train")
    assert "there are 2 capacity claims named 'train'" in str(error.value)
    assert all(claim_id in str(error.value) for claim_id in ids)


def test_what_does_not_exist_is_an_error_that_says_where_to_look(emulator: Emulator) -> None:
    with pytest.raises(ClaimError) as error:
        get_capacity_claim(id="00000000-0000-4000-8000-000000000000")
    assert str(error.value) == snapshot("""\
there is no capacity claim with the id 00000000-0000-4000-8000-000000000000.
  Next: run `capacity-claims list` to see the claims that exist\
""")
    with pytest.raises(ClaimError) as error:
        get_capacity_claim(name="nobody")
    assert str(error.value) == snapshot("""\
there is no capacity claim named 'nobody'.
  Next: run `capacity-claims list` to see the claims that exist\
""")


def test_either_an_id_or_a_name_is_needed() -> None:
    for arguments in ({}, {"id": "a", "name": "b"}):
        with pytest.raises(ClaimError, match="either id= or name="):
            get_capacity_claim(**arguments)


def test_all_claims_are_listed_and_those_changed_since_a_moment(client: Client) -> None:
    old = client.capacity_claims.create("old", RESOURCES)
    assert [claim.name for claim in get_capacity_claims()] == ["old"]
    assert get_capacity_claims(updated_after="2999-01-01T00:00:00Z") == []
    assert get_capacity_claims(updated_after=old.status.created_at)[0].id == old.id


def test_the_parameters_say_which_zone_offers_what(emulator: Emulator) -> None:
    assert "gb200-4x" in get_capacity_claim_parameters()["US-WEST-04A"]


def test_a_missing_token_names_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COREWEAVE_API_TOKEN", raising=False)
    monkeypatch.delenv("CW_API_TOKEN", raising=False)
    with pytest.raises(ClaimError, match="COREWEAVE_API_TOKEN"):
        get_capacity_claims()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("by", ["id", "name"])
def test_a_lookup_by_a_secret_says_it_in_no_error(emulator: Emulator, by: str) -> None:
    hidden = "c0ffee00-0000-4000-8000-000000000000"

    async def told(*, secret: bool, faults: list[dict[str, Any]]) -> str:
        emulator.set_faults(faults)
        given: Any = {by: pulumi.Output.secret(hidden) if secret else pulumi.Output.from_input(hidden)}
        with pytest.raises(ClaimError) as caught:
            await get_capacity_claim_output(**given).future()
        return re.sub("emulator-[0-9]+", "request", str(caught.value))

    quoting = {"fail": {"code": "permission_denied", "message": f"no right to see {hidden}"}}
    for faults in ([], [quoting]):
        shown = asyncio.run(told(secret=False, faults=faults))
        assert hidden in shown
        assert asyncio.run(told(secret=True, faults=faults)) == shown.replace(hidden, "[secret]")


class Answers(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return args.name, dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        self.calls.append((args.token, args.args))
        claim = {"id": "c1", "name": "train", "status": "STATUS_READY", "resources": RESOURCES.to_wire()}
        return {
            "coreweave:index:getCapacityClaim": claim,
            "coreweave:index:getCapacityClaims": {"claims": [claim]},
            "coreweave:index:getCapacityClaimParameters": {"RNO2A": ["gb200-4x"]},
        }[args.token]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_under_mocks_the_mocks_are_asked_and_not_the_api() -> None:
    answers = Answers()

    async def main() -> None:
        mocks.set_mocks(answers)
        assert get_capacity_claim(id="c1").resources.instance_count == 2
        assert [claim.name for claim in get_capacity_claims()] == ["train"]
        assert get_capacity_claim_parameters() == {"RNO2A": ["gb200-4x"]}
        found = await get_capacity_claim_output(name=pulumi.Output.from_input("train")).future()
        assert found is not None
        assert found.id == "c1"
        assert len(await get_capacity_claims_output().future() or []) == 1
        assert await get_capacity_claim_parameters_output().future() == {"RNO2A": ["gb200-4x"]}

    try:
        asyncio.run(main())
    finally:
        settings.reset_options()
    assert ("coreweave:index:getCapacityClaim", {"name": "train"}) in answers.calls
