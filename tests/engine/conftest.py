from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.stack import Stack

from coreweave_inference.emulator import Emulator, EmulatorSettings


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Put the engine first on PATH; `make test` says where it is."""
    directory = os.environ.get("PULUMI_ENGINE_DIR")
    if not directory:
        pytest.fail("set PULUMI_ENGINE_DIR to what `make engine` prints, or run `make test`")
    os.environ["PATH"] = f"{directory}{os.pathsep}{os.environ['PATH']}"
    # The engine lies in a cache that clones share, and remembers the Python of the one that installed last.
    os.environ["PULUMI_COREWEAVE_HOST_PYTHON"] = sys.executable


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start an emulator with the given settings, and a stack against it."""
    with ExitStack() as running:

        def start(
            name: str = "test",
            environment: dict[str, str] | None = None,
            kind: type[Stack] = Stack,
            **settings: object,
        ) -> Stack:
            emulator = running.enter_context(Emulator(EmulatorSettings(**settings)))  # type: ignore[arg-type]
            return kind(tmp_path / "program", emulator, environment or {}, name)

        yield start
