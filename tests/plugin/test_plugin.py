"""What this software changes in the SDK's plugin process."""

from __future__ import annotations

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from support.plugin import Plugin, claim_inputs

from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference.plugin import (
    AT_ONCE,
    keep_event_loops,
    pass_over_what_stays,
    serve_more_at_once,
)

ACCOUNT = """
import asyncio, atexit, gc

opened, open_one = [], asyncio.new_event_loop
asyncio.new_event_loop = lambda: opened.append(open_one()) or opened[-1]
atexit.register(lambda: print("loops:", len(opened), "passed over:", gc.get_freeze_count() > 10_000))
"""


def test_more_than_four_calls_are_served_at_a_time(namespace: str) -> None:
    with Emulator(EmulatorSettings(delete_delay=1)) as emulator, Plugin(emulator.environment()) as plugin:
        entries = []
        for index in range(24):
            inputs = plugin.check(
                {}, claim_inputs(namespace, key=f"a::claim-{index}", instanceCount=1.0)
            ).inputs
            entries.append(plugin.create(inputs))
        emulator.clear_requests()
        emulator.set_faults([{"path": "delete", "hold": "before"}])
        with ThreadPoolExecutor(len(entries)) as engine:
            ended = engine.map(lambda entry: plugin.delete(*entry), entries)
            assert len(emulator.wait_for_hold(30, count=len(entries))) == len(entries)
            emulator.clear_faults()
            emulator.release()
            list(ended)
        assert emulator.claims() == []
        reads = [record for record in emulator.requests() if record.method == "GET"]
    assert len(reads) < len(entries)  # by itself each would have read its claim several times


def test_the_limit_is_found_in_the_worker_that_asks_and_nowhere_else() -> None:
    serve_more_at_once()
    with ThreadPoolExecutor(1) as untouched, ThreadPoolExecutor(1) as executor:
        executor.submit(serve_more_at_once).result()
        assert executor._max_workers == AT_ONCE
        assert untouched._max_workers == 1


def test_answers_share_an_event_loop_and_what_was_imported_is_not_collected(
    emulator: Emulator, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ACCOUNT)
    with Plugin(emulator.environment() | {"PYTHONPATH": str(tmp_path)}) as plugin:
        entry = plugin.create(plugin.check({}, claim_inputs(namespace)).inputs)
        for _ in range(20):
            plugin.read(*entry)
        account = plugin.close()
    assert "loops: 1 passed over: True" in account


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What looks like the SDK's plugin, but for what a test changes about it."""
    module = ModuleType("__main__")
    module.__dict__.update(DynamicResourceProviderServicer=object, asyncio=asyncio)
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def test_a_loop_is_lent_to_one_at_a_time_and_used_again(main_module: ModuleType) -> None:
    keep_event_loops()
    lending = main_module.__dict__["asyncio"]
    first, second = lending.new_event_loop(), lending.new_event_loop()
    assert first.run_until_complete(asyncio.sleep(0, "an answer")) == "an answer"
    assert first._loop is not second._loop
    first.close()
    first.close()  # it is lent to one all the same
    assert lending.new_event_loop()._loop is first._loop
    third = lending.new_event_loop()
    assert third._loop is not first._loop
    assert not first.is_closed()
    assert lending.Future is asyncio.Future
    for lent in (first, second, third):
        lent._loop.close()


def test_another_plugin_is_left_as_it_is(main_module: ModuleType) -> None:
    del main_module.__dict__["DynamicResourceProviderServicer"]
    frozen = gc.get_freeze_count()
    keep_event_loops()
    pass_over_what_stays()
    assert main_module.__dict__["asyncio"] is asyncio
    assert gc.get_freeze_count() == frozen


def test_a_plugin_without_asyncio_is_left_as_it_is(main_module: ModuleType) -> None:
    del main_module.__dict__["asyncio"]
    keep_event_loops()
    assert "asyncio" not in main_module.__dict__
