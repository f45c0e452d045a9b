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


def test_the_entry_that_a_claim_was_adopted_into_is_the_living_one(seen: DeleteGuard) -> None:
    seen.compared(ID, entry("older"), entry("older"))
    seen.created(ID, entry("newer"))
    assert seen.lives_on(ID, entry("older"))
    assert not seen.lives_on(ID, entry("newer"))


def test_what_was_never_met_does_not_live_on(seen: DeleteGuard) -> None:
    assert not seen.lives_on(ID, entry("older"))
    assert not seen.settled(ID)
    assert seen.owner(ID) is None


def test_an_imported_entry_without_an_incarnation_is_the_living_one_when_it_was_compared(
    seen: DeleteGuard,
) -> None:
    seen.compared(ID, {}, {"identity": {"declaration": "a::training"}})
    assert not seen.lives_on(ID, {})
    assert seen.owner(ID) == "a::training"


def test_a_program_that_declares_a_claim_under_two_keys_is_refused(seen: DeleteGuard) -> None:
    seen.compared(ID, entry("one", "a::training"), entry("one", "a::training"))
    with pytest.raises(ClaimError, match="serving"):
        seen.compared(ID, entry("two", "a::serving"), entry("two", "a::serving"))


def test_what_only_a_refresh_has_met_may_be_declared_under_another_key(seen: DeleteGuard) -> None:
    seen.read(ID)
    seen.compared(ID, entry("one", "a::renamed"), entry("one", "a::renamed"))
    seen.compared(ID, entry("two", "a::training"), entry("two", "a::training"))
    assert seen.owner(ID) == "a::training"


def test_a_released_claim_is_settled_and_nobodys(seen: DeleteGuard) -> None:
    seen.created(ID, entry("one"))
    seen.released(ID, shown=True)
    assert seen.settled(ID)
    assert seen.owner(ID) is None
    assert seen.releases() == (1, {ID})
    seen.created(ID, entry("two"))
    assert seen.releases() == (0, set())
