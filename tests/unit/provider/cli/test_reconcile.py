from __future__ import annotations

import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference import CapacityClaim
from pulumi_coreweave_inference.cli.pulumi_state import Entry, StackState
from pulumi_coreweave_inference.cli.reconcile import Origin, Origins, reconcile
from pulumi_coreweave_inference.identity import Declaration

TYPE = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
NAMESPACE = "3fbd2c6e-4f0b-4a33-9a3b-0d8e7b1f2c11"


def claim(
    claim_id: str, name: str = "training", state: str = "STATUS_READY", count: int = 4
) -> CapacityClaim:
    resources = {
        "instanceId": "gb200-4x",
        "instanceCount": count,
        "zones": ["US-WEST-04A", "US-EAST-04A"],
        "capacityType": "CAPACITY_TYPE_MANAGED",
    }
    return CapacityClaim.model_validate(
        {"spec": {"id": claim_id, "name": name, "resources": resources}, "status": {"status": state}}
    )


def entry(stack: str, claim_id: str, waits: bool = False, name: str | None = None) -> Entry:
    urn = f"urn:pulumi:{stack}::claims::{TYPE}::{name or claim_id}"
    return Entry(stack, urn, claim_id, f"{TYPE}::{name or claim_id}", name, pending_deletion=waits)


IDS = st.sampled_from([f"claim-{index}" for index in range(6)])
STATES = st.sampled_from(["STATUS_READY", "STATUS_CREATING", "STATUS_FAILED", "STATUS_DELETING"])


@given(
    st.dictionaries(IDS, STATES),
    st.lists(st.lists(st.tuples(IDS, st.booleans()), max_size=5), max_size=3),
)
def test_mismatches_are_those_that_a_count_of_every_pair_finds(
    held: dict[str, str], states: list[list[tuple[str, bool]]]
) -> None:
    stacks = [
        StackState(f"s{index}", tuple(entry(f"s{index}", *each) for each in entries))
        for index, entries in enumerate(states)
    ]
    found = reconcile([claim(id, state=state) for id, state in held.items()], stacks)

    flat = [(f"s{index}", *each) for index, entries in enumerate(states) for each in entries]
    unmanaged = {
        id for id, state in held.items() if state != "STATUS_DELETING" and all(each[1] != id for each in flat)
    }
    twice = {a[1] for a, b in itertools.combinations(flat, 2) if a[1] == b[1]}
    gone = [
        (stack, id)
        for stack, id, waits in flat
        if not waits and held.get(id, "STATUS_DELETING") == "STATUS_DELETING"
    ]
    settling = {
        id
        for id in twice
        if len({each[0] for each in flat if each[1] == id}) == 1
        and sum(not each[2] for each in flat if each[1] == id) <= 1
    }
    assert {each.claim.id for each in found.unmanaged} == unmanaged
    assert {each.claim_id for each in found.managed_twice} == twice
    assert {each.claim_id for each in found.managed_twice if each.resolves_itself} == settling
    assert sorted((each.entry.stack, each.entry.claim_id) for each in found.gone) == sorted(gone)
    assert bool(found) == bool(unmanaged or twice or gone)


@pytest.mark.parametrize("attempt", [0, 3])
def test_a_lost_claim_is_traced_to_its_stack_by_namespace_and_name(attempt: int) -> None:
    template = claim("x")
    declaration = Declaration(NAMESPACE, f"{TYPE}::Training_EU", template.resources, None)
    lost = claim(declaration.claim_id(attempt), declaration.claim_name(declaration.claim_id(attempt)))
    bystander = StackState("other", namespaces=(str(uuid.UUID(int=1)),))
    known = StackState("prod", (entry("prod", "older", name="Training_EU"),), ("unused", NAMESPACE))
    assert Origins([bystander, known]).of(lost) == Origin("prod", "Training_EU")
    interrupted = StackState("prod", namespaces=(NAMESPACE,), interrupted=(f"{TYPE}::Training_EU",))
    assert Origins([interrupted]).of(lost) == Origin("prod", "Training_EU", interrupted=True)
    assert Origins([bystander, StackState("empty")]).of(lost) is None


def test_a_claim_with_an_explicit_name_is_traced_if_its_key_is_known() -> None:
    declaration = Declaration(NAMESPACE, f"{TYPE}::trainer", claim("x").resources, "training")
    lost = claim(declaration.claim_id(0), "training")
    assert Origins([StackState("prod", namespaces=(NAMESPACE,))]).of(lost) == Origin("prod", None)
    interrupted = StackState("prod", namespaces=(NAMESPACE,), interrupted=(f"{TYPE}::trainer",))
    assert Origins([interrupted]).of(lost) == Origin("prod", "trainer", interrupted=True)


def test_a_claim_with_a_random_id_has_no_origin() -> None:
    random_id = "5f0a9d38-9c1d-4e53-8a55-7b6f0e1d2c3b"
    assert Origins([StackState("prod", namespaces=(NAMESPACE,))]).of(claim(random_id)) is None
    assert Origins([StackState("prod", namespaces=(NAMESPACE,))]).of(claim("no uuid")) is None
