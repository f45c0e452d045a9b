"""What this software changes in the SDK's plugin process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from support.plugin import Plugin, claim_inputs

from coreweave_inference.emulator import Emulator, EmulatorSettings
from pulumi_coreweave_inference.plugin import AT_ONCE, serve_more_at_once


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
