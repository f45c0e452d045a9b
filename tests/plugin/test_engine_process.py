"""What this package changes in the SDK's plugin process."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from types import ModuleType

import pytest
from support.plugin import Plugin, PluginError, claim_inputs

from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference import ClaimNamespaceProvider
from pulumi_coreweave_inference.engine_process import WORKERS, prepare_process, raise_worker_limit

COUNT_WATCHERS = """
import atexit, threading

started, start = [], threading.Thread.start
threading.Thread.start = lambda thread: started.append(thread.name) or start(thread)
atexit.register(lambda: print("watchers:", started.count("exit-with-engine")))
"""


@pytest.fixture
def plugin(emulator: Emulator) -> Iterator[Plugin]:
    """A process that starts as the engine starts it."""
    with Plugin(emulator.environment(), fork=False) as running:
        yield running


def end_the_engine(plugin: Plugin) -> None:
    """Do what the death of the engine does to its provider process: end its standard input."""
    assert plugin._process.stdin is not None
    plugin._process.stdin.close()
    plugin._process.stdin = None


def test_more_than_four_calls_run_at_a_time(namespace: str) -> None:
    with (
        Emulator(EmulatorSettings(delete_delay=1)) as emulator,
        Plugin(emulator.environment(), fork=False) as plugin,
    ):
        entries = []
        for index in range(24):
            inputs = plugin.check(
                {}, claim_inputs(namespace, key=f"a::claim-{index}", instanceCount=1.0)
            ).inputs
            entries.append(plugin.create(inputs))
        emulator.clear_requests()
        emulator.set_faults([{"path": "delete", "hold": "before"}])
        with futures.ThreadPoolExecutor(len(entries)) as engine:
            ended = engine.map(lambda entry: plugin.delete(*entry), entries)
            assert len(emulator.wait_for_hold(30, count=len(entries))) == len(entries)
            emulator.clear_faults()
            emulator.release()
            list(ended)
        assert emulator.claims() == []
        reads = [record for record in emulator.requests() if record.method == "GET"]
    assert len(reads) < len(entries)  # alone, each would have read its claim several times


def test_the_limit_is_raised_in_the_calling_executor_and_nowhere_else() -> None:
    raise_worker_limit()
    with futures.ThreadPoolExecutor(1) as untouched, futures.ThreadPoolExecutor(1) as executor:
        executor.submit(raise_worker_limit).result()
        assert executor._max_workers == WORKERS
        assert untouched._max_workers == 1


def test_another_process_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("__main__")
    module.__dict__.update(traceback=traceback)
    monkeypatch.setitem(sys.modules, "__main__", module)
    prepare_process(lambda: None)
    assert module.__dict__["traceback"] is traceback


def test_a_process_without_an_engine_ends(plugin: Plugin) -> None:
    plugin.check({}, claim_inputs())
    end_the_engine(plugin)
    plugin._process.wait(timeout=10)


def test_a_background_process_ends_without_an_engine(emulator: Emulator) -> None:
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        plugin = Plugin(emulator.environment(), fork=False)
    finally:
        signal.signal(signal.SIGINT, interrupted)
    plugin.check({}, claim_inputs())
    end_the_engine(plugin)
    plugin._process.wait(timeout=10)
    plugin.close()


def test_a_process_without_an_engine_does_not_retry_its_call(emulator: Emulator, plugin: Plugin) -> None:
    inputs = plugin.check({}, claim_inputs()).inputs
    emulator.set_faults([{"path": "create", "hold": "before", "fail": {"code": "unavailable"}}])
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(plugin.create, inputs)
        emulator.wait_for_hold()
        end_the_engine(plugin)
        with pytest.raises(PluginError):
            answer.result()
    emulator.clear_faults()
    emulator.release()
    plugin._process.wait(timeout=20)
    assert [record.operation for record in emulator.requests()].count("create") == 1
    assert emulator.claims() == []


@pytest.mark.parametrize("round", range(int(os.environ.get("ENGINE_DEATHS", "3"))))
def test_an_engine_that_dies_during_a_call_leaves_no_traceback(
    emulator: Emulator, namespace: str, tmp_path: Path, round: int
) -> None:
    """Both provider classes are configured, as in every stack: only one thread may watch for the engine."""
    (tmp_path / "sitecustomize.py").write_text(COUNT_WATCHERS)
    with Plugin(emulator.environment() | {"PYTHONPATH": str(tmp_path)}, fork=False) as plugin:
        plugin.of(ClaimNamespaceProvider).diff(namespace, {}, {})
        inputs = plugin.check({}, claim_inputs(namespace)).inputs
        emulator.set_faults([{"path": "create", "hold": "after"}])
        with futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(plugin.create, inputs)
            emulator.wait_for_hold()
            end_the_engine(plugin)
            emulator.clear_faults()
            emulator.release()
            answer.exception()
        assert plugin._process.wait(timeout=20) == 0
        printed = plugin.close()
    assert "Traceback" not in printed
    assert "watchers: 1" in printed
