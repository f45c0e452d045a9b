"""The SQLite file that keeps the claims across restarts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from coreweave_inference.emulator.claim import Claim
from coreweave_inference.emulator.validation import explain

MOST_OFFSET = 10**20  # nanoseconds; with more, timestamps leave the calendar
_VERSION = 1  # of the tables and what they hold; a file from before there was one says 0
_TABLES = {
    "claims": "CREATE TABLE IF NOT EXISTS claims (id TEXT PRIMARY KEY, sequence INTEGER, claim TEXT)",
    "removed": "CREATE TABLE IF NOT EXISTS removed (id TEXT PRIMARY KEY, body TEXT)",
    "meta": "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)",
}


@dataclass(slots=True)
class Meta:
    """What is kept besides the claims."""

    clock_offset: Annotated[int, Field(ge=0, le=MOST_OFFSET)] = 0
    """Nanoseconds that the clock was advanced by."""
    inventory: dict[str, dict[str, int]] | None = None
    """The stock, if it was changed while the emulator ran."""


@dataclass(slots=True)
class Saved:
    """The content of a state file."""

    claims: list[Claim] = field(default_factory=list)
    """In the order they were created."""
    removed: dict[str, bytes] = field(default_factory=dict)
    """The last JSON of each claim that is gone, by id."""
    meta: Meta = field(default_factory=Meta)


_CLAIM = TypeAdapter(Claim)
_META = TypeAdapter(Meta)


class StateFile:
    """A state file, open for this process alone: two emulators on one file would lose claims."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it. Raises ValueError with its name if that is not possible."""
        self._path = path
        try:
            self._database = sqlite3.connect(path, timeout=0.5, check_same_thread=False)
            try:
                self._refuse_other_content()  # before anything is written
                self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=NORMAL")
                with self._database:
                    for table in _TABLES.values():
                        self._database.execute(table)
                    self._database.execute(f"PRAGMA user_version={_VERSION}")
            except (sqlite3.Error, ValueError):
                self._database.close()
                raise
        except sqlite3.Error as error:
            raise ValueError(f"{path}: cannot keep claims here: {error}") from error

    def load(self) -> Saved:
        """Read everything. Raises ValueError with the file's name for content of another version."""
        place = "claims"
        saved = Saved()
        try:
            for claim_id, text in self._rows("SELECT id, claim FROM claims ORDER BY sequence"):
                place = f"claim {claim_id}"
                saved.claims.append(_CLAIM.validate_python(json.loads(text)))
            place = "meta"
            meta = {key: json.loads(value) for key, value in self._rows("SELECT key, value FROM meta")}
            saved.meta = _META.validate_python(meta)
            place = "removed"
            for claim_id, body in self._rows("SELECT id, body FROM removed"):
                saved.removed[claim_id] = body.encode()
        except (sqlite3.Error, ValueError, RecursionError) as error:
            self.close()
            reason = explain(error) if isinstance(error, ValidationError) else error
            raise ValueError(f"{self._path}: cannot read {place}: {reason}") from error
        return saved

    def save_claims(self, claims: Iterable[Claim], removed: Mapping[str, bytes]) -> None:
        """Write changed and removed claims in one transaction."""
        with self._database:
            for claim_id, body in removed.items():
                self._database.execute("DELETE FROM claims WHERE id = ?", (claim_id,))
                row = (claim_id, body.decode())
                self._database.execute("INSERT OR REPLACE INTO removed VALUES (?, ?)", row)
            for claim in claims:
                self._database.execute("DELETE FROM removed WHERE id = ?", (claim.id,))
                values = (claim.id, claim.sequence, json.dumps(_CLAIM.dump_python(claim)))
                self._database.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", values)

    def clear_claims(self) -> None:
        """Remove all claims, and those that are gone."""
        with self._database:
            self._database.execute("DELETE FROM claims")
            self._database.execute("DELETE FROM removed")

    def save_meta(self, meta: Meta) -> None:
        """Write what is kept besides the claims."""
        with self._database:
            for key, value in _META.dump_python(meta).items():
                row = (key, json.dumps(value))
                self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def close(self) -> None:
        self._database.close()

    def refuse(self, reason: object) -> ValueError:
        """Close the file; returns the error for content that cannot be used."""
        self.close()
        return ValueError(f"{self._path}: cannot go on with the claims in it: {reason}")

    def _rows(self, query: str) -> list[tuple[str, str]]:
        rows = self._database.execute(query).fetchall()
        if not all(isinstance(value, str) for row in rows for value in row):
            raise ValueError("not text")
        return rows

    def _refuse_other_content(self) -> None:
        tables = {
            name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if tables - _TABLES.keys():
            raise ValueError(f"{self._path}: is a database of another program; it is left as it is")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise ValueError(f"{self._path}: was written by a later version of the emulator")
