"""The generated SDKs are those of the schema at hand: noticed without Go, which generates them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
SDKS: Final = ROOT / "sdks"
LISTED: Final = {
    name: digest
    for digest, name in (
        line.split("  ", 1) for line in (SDKS / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    )
}
BY_PEOPLE: Final = {"README.md", "SHA256SUMS"}
BUILT: Final = {"node_modules", "bin", "build", "dist", "__pycache__", ".mypy_cache"}  # none is in git


def test_the_sdks_follow_from_the_schema_and_the_generator() -> None:
    stale = [
        name
        for name, digest in LISTED.items()
        if not (ROOT / name).is_file() or hashlib.sha256((ROOT / name).read_bytes()).hexdigest() != digest
    ]
    assert stale == [], "run `make sdks`"
    assert "provider/pulumi_coreweave_inference/native/schema.json" in LISTED


def test_no_file_of_an_sdk_was_made_by_hand() -> None:
    found = {
        file.relative_to(ROOT).as_posix()
        for file in SDKS.rglob("*")
        if file.is_file() and file.name not in BY_PEOPLE and not by_a_build(file)
    }
    listed = {name for name in LISTED if name.startswith("sdks/") and not name.endswith("/README.md")}
    assert found == listed


def by_a_build(file: Path) -> bool:
    parts = file.relative_to(SDKS).parts
    ends = (".egg-info",)
    return (
        bool(BUILT & set(parts))
        or any(part.endswith(ends) for part in parts)
        or file.name in ("package-lock.json", "go.sum")
    )
