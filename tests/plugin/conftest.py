from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from support.plugin import Plugin

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def plugin(emulator: Emulator) -> Iterator[Plugin]:
    with Plugin(emulator.environment()) as running:
        yield running


@pytest.fixture
def namespace() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    """Another user of the API."""
    with Client(emulator.token, endpoint=emulator.url) as connected:
        yield connected
