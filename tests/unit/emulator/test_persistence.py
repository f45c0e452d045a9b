"""The state file: what is written is read again, and what cannot be read is named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from coreweave_inference.emulator.allocation import Ask, Holding
from coreweave_inference.emulator.claim import Claim
from coreweave_inference.emulator.persistence import Meta, Saved, StateFile


def claim(claim_id: str, sequence: int) -> Claim:
    asks = [Ask(3, delayed=1, due=7, waiting=2, opened=True), Ask(4, delayed=0, due=None)]
    return Claim(
        id=claim_id,
        name="train",
        holding=Holding("gb200-4x", ("US-WEST-04A", "RNO2A"), 5, held={"RNO2A": 2}, asks=asks),
        capacity_type=17,
        organization_id="cw0a1b",
        created=1,
        updated=2**62,
        sequence=sequence,
        phase="STATUS_UPDATING",
        removed_at=9,
        short_since=8,
        failed=True,
        extra_spec={"priority": {"new": [True, None, 0.5]}},
        status_override={"status": "STATUS_PAUSED"},
        override_until=10,
        stale_status={"status": "STATUS_READY", "conditions": []},
        stale_until=11,
    )


def test_a_state_file_returns_what_was_saved(tmp_path: Path) -> None:
    first, second = claim("b", 1), claim("a", 2)
    meta = Meta(clock_offset=5, inventory={"RNO2A": {"gb200-4x": 0}})
    file = StateFile(tmp_path / "state.db")
    assert file.load() == Saved()
    file.save_claims([second, first, claim("c", 3)], {"d": b'{"spec": {}}'})
    file.save_claims([claim("d", 4)], {"c": b'{"spec": 1}'})
    file.save_meta(meta)
    file.close()
    with closing(StateFile(tmp_path / "state.db")) as again:
        saved = again.load()
    assert saved == Saved([first, second, claim("d", 4)], {"c": b'{"spec": 1}'}, meta)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE claims SET claim = '{'", "claim one: Expecting property name"),
        ("UPDATE claims SET claim = json_remove(claim, '$.holding')", "claim one: holding: is required"),
        ("UPDATE claims SET claim = json_set(claim, '$.created', 'soon')", "claim one: created: must be"),
        ("INSERT INTO meta VALUES ('clock_offset', '[]')", "meta: clock_offset: must be a valid integer"),
        ("ALTER TABLE claims RENAME COLUMN claim TO saved", "claims: no such column"),
    ],
)
def test_content_that_cannot_be_read_is_named(tmp_path: Path, statement: str, reason: str) -> None:
    path = tmp_path / "state.db"
    file = StateFile(path)
    file.save_claims([claim("one", 1)], {})
    file.close()
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()
    with pytest.raises(ValueError) as refused:
        StateFile(path).load()
    assert str(refused.value).startswith(f"{path}: cannot read {reason}")
