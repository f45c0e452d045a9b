from __future__ import annotations

from typing import Any

import pytest

from pulumi_coreweave_inference import ClaimError
from pulumi_coreweave_inference.delete_guard import DeleteGuard

ID = "c1"


def entry(incarnation: str, key: str = "a::training") -> dict[str, Any]:
    return {"identity": {"incarnation": incarnation, "declaration": key}}


@pytest.fixture
def seen() -> DeleteGuard:
    return DeleteGuard()


def test_the_entry_that_adopts_a_claim_is_the_current_one(seen: DeleteGuard) -> None:
    seen.on_diff(ID, entry("older"), entry("older"))
    seen.on_create(ID, entry("newer"))
    assert seen.is_superseded(ID, entry("older"))
    assert not seen.is_superseded(ID, entry("newer"))


def test_an_entry_that_was_never_met_is_not_superseded(seen: DeleteGuard) -> None:
    assert not seen.is_superseded(ID, entry("older"))
    assert not seen.is_accounted_for(ID)
    assert seen.owner(ID) is None


def test_an_imported_entry_is_the_current_one_once_it_was_compared(
    seen: DeleteGuard,
) -> None:
    seen.on_diff(ID, {}, {"identity": {"declaration": "a::training"}})
    assert not seen.is_superseded(ID, {})
    assert seen.owner(ID) == "a::training"


def test_a_program_that_declares_a_claim_under_two_keys_is_refused(seen: DeleteGuard) -> None:
    seen.on_diff(ID, entry("one", "a::training"), entry("one", "a::training"))
    with pytest.raises(ClaimError, match="serving"):
        seen.on_diff(ID, entry("two", "a::serving"), entry("two", "a::serving"))


def test_a_refreshed_entry_may_be_declared_under_another_key(seen: DeleteGuard) -> None:
    seen.on_read(ID)
    seen.on_diff(ID, entry("one", "a::renamed"), entry("one", "a::renamed"))
    seen.on_diff(ID, entry("two", "a::training"), entry("two", "a::training"))
    assert seen.owner(ID) == "a::training"


def test_a_released_claim_is_accounted_for_and_has_no_owner(seen: DeleteGuard) -> None:
    seen.on_create(ID, entry("one"))
    seen.on_delete(ID, listed_before=True)
    assert seen.is_accounted_for(ID)
    assert seen.owner(ID) is None
    assert seen.released == {ID: True}
    seen.on_create(ID, entry("two"))
    assert seen.released == {}


@pytest.mark.parametrize("refreshed", [False, True])
def test_a_takeover_of_a_claim_that_is_compared_later_is_refused(seen: DeleteGuard, refreshed: bool) -> None:
    if refreshed:  # which names the old key, as the entry was renamed since it was written
        seen.on_read(ID)
        seen.on_diff(ID, entry("one", "a::old"), entry("one", "a::old"))
    seen.on_takeover(ID, "a::old")
    with pytest.raises(ClaimError, match="would take over the claim of the resource 'new'"):
        seen.on_diff(ID, entry("one", "a::old"), entry("one", "a::new"))
    assert seen.owner(ID) == "a::new"
    with pytest.raises(ClaimError, match="would take over the claim of the resource 'new'"):
        seen.refuse_held(ID, "a::old")  # by a create that runs at the same time
    seen.refuse_held(ID, "a::new")


def test_only_a_comparison_is_evidence_of_a_declaration(seen: DeleteGuard) -> None:
    seen.on_read(ID)
    seen.on_diff(ID, entry("one"), entry("one"))
    assert not seen.is_declared_by(ID, "a::training")
    seen.on_diff(ID, entry("one"), entry("one"))
    assert seen.is_declared_by(ID, "a::training")
    assert not seen.is_declared_by(ID, "a::other")
