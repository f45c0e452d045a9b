"""What tests/engine/test_native.py proves, with programs in YAML and with the generated SDK for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from engine.test_native import (  # noqa: F401 - collected here as well
    test_a_claim_that_is_not_ready_stays_in_the_state_and_hinders_nothing_else,
    test_a_native_claim_lives_as_a_dynamic_one,
    test_a_scaled_claim_that_is_not_ready_shows_no_drift,
    test_a_secret_name_is_nowhere_in_clear,
    test_an_interrupted_wait_leaves_the_claim_in_the_state,
    test_claims_move_between_the_dynamic_and_the_native_resource,
    test_imported_claims_need_no_change,
    test_the_old_claim_stays_while_its_successor_is_not_ready,
)
from support.native import NativeStack, SdkStack, YamlStack

from coreweave_inference.emulator import Emulator, EmulatorSettings

pytestmark = pytest.mark.languages


@pytest.fixture(params=[YamlStack, SdkStack])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., NativeStack]]:
    """Start an emulator with the given settings, and a stack in the language against it."""
    with ExitStack() as running:

        def start(environment: dict[str, str] | None = None, **settings: object) -> NativeStack:
            emulator = running.enter_context(Emulator(EmulatorSettings(**settings)))  # type: ignore[arg-type]
            made: NativeStack = request.param(tmp_path / "program", emulator, environment or {})
            return made

        yield start
