"""A pytest fixture: `pytest_plugins = ["coreweave_inference.emulator.pytest_plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coreweave_inference.emulator.server import Emulator


@pytest.fixture
def capacity_emulator() -> Iterator[Emulator]:
    """A new emulator with the default settings for each test."""
    with Emulator() as emulator:
        yield emulator
