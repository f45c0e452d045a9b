"""How the provider process tells a program which claims take part in a run."""

from __future__ import annotations

import gc
import os
import stat
import time
from pathlib import Path

import pytest

from pulumi_coreweave_inference import ClaimError
from pulumi_coreweave_inference.participation import PREFIX, Participants, reported


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def inputs(word: str | None) -> dict[str, object]:
    identity = {"namespace": "n", "declaration": "type::training"}
    return {"name": "training", "identity": identity | ({} if word is None else {"run": word})}


def test_a_claim_that_is_checked_takes_part_and_others_do_not() -> None:
    participants = Participants()
    words = [participants.word() for _ in range(12)]
    assert reported(inputs(words[10])) == inputs(None)
    assert reported(inputs(words[10])) == inputs(None)  # checked twice, as in a replacement
    assert [participants.include(word) for word in words] == [index == 10 for index in range(12)]


def test_two_programs_at_the_same_time_have_a_file_each() -> None:
    first, second = Participants(), Participants()
    reported(inputs(first.word()))
    assert not second.include(second.word())


def test_inputs_without_a_word_stay_as_they_are() -> None:
    assert reported(inputs(None)) == inputs(None)
    assert reported({"resources": {}}) == {"resources": {}}
    assert Participants.include(None)


def test_the_file_is_private_and_goes_with_the_program(folder: Path) -> None:
    participants = Participants()
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    word = participants.word()
    del participants
    gc.collect()
    assert list(folder.iterdir()) == []
    assert Participants.include(word)  # what cannot be read is waited for


def test_without_a_file_every_claim_takes_part(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder / "missing"))
    participants = Participants()
    assert participants.word() is None


def test_the_files_of_killed_programs_are_removed_after_a_month(folder: Path) -> None:
    old, other, recent = folder / f"{PREFIX}old", folder / "other", folder / f"{PREFIX}recent"
    for file in (old, other, recent):
        file.touch()
    for file in (old, other):
        os.utime(file, (0, time.time() - 31 * 24 * 3600))
    participants = Participants()
    assert participants.word()
    assert not old.exists()
    assert other.exists()
    assert recent.exists()


@pytest.mark.parametrize("kind", ["missing", "foreign name", "link", "pipe", "not a word", "read-only"])
def test_a_word_that_cannot_be_left_is_an_error_and_writes_nothing(folder: Path, kind: str) -> None:
    target = folder / "target"
    target.write_text("kept", encoding="ascii")
    file = folder / f"{PREFIX}x"
    word = f"1@{file}"
    if kind == "foreign name":
        word = f"1@{target}"
    elif kind == "link":
        file.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "not a word":
        word = "word"
    elif kind == "read-only":
        file.mkdir()
    with pytest.raises(ClaimError) as refused:
        reported(inputs(word))
    assert str(refused.value).startswith(
        "capacity claim 'training': the provider cannot tell the program that this run includes it.\n"
    )
    assert "Next: set TMPDIR" in str(refused.value)
    assert target.read_text(encoding="ascii") == "kept"
