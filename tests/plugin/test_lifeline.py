"""A provider process whose engine was killed ends, and repeats no call for nobody."""

from __future__ import annotations

import signal
from concurrent import futures

import pytest
from support.plugin import Plugin, PluginError, claim_inputs

from coreweave_inference.emulator import Emulator


def end_the_engine(plugin: Plugin) -> None:
    """What the provider process sees of it: its standard input ends."""
    assert plugin._process.stdin is not None
    plugin._process.stdin.close()
    plugin._process.stdin = None


def test_a_process_without_an_engine_ends(plugin: Plugin) -> None:
    plugin.check({}, claim_inputs())
    end_the_engine(plugin)
    plugin._process.wait(timeout=10)


def test_a_process_that_was_started_in_the_background_ends_without_an_engine(emulator: Emulator) -> None:
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        plugin = Plugin(emulator.environment())
    finally:
        signal.signal(signal.SIGINT, interrupted)
    plugin.check({}, claim_inputs())
    end_the_engine(plugin)
    plugin._process.wait(timeout=10)
    plugin.close()


def test_a_process_without_an_engine_ends_its_call_and_repeats_it_no_more(
    emulator: Emulator, plugin: Plugin
) -> None:
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
