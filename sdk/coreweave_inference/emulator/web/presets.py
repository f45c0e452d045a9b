"""Faults that the page offers by name."""

from __future__ import annotations

from dataclasses import dataclass

from coreweave_inference.emulator.faults import Fail, FaultRule, StaleReads, StatusChange


@dataclass(frozen=True, slots=True)
class Preset:
    """A fault rule with a label for people."""

    label: str
    rule: FaultRule


_ALL = (
    Preset(
        "the next create fails with 503", FaultRule(name="create-503", path="create", times=1, fail=Fail())
    ),
    Preset(
        "the next create is done, but its response is lost",
        FaultRule(name="create-lost", path="create", times=1, drop="after"),
    ),
    Preset(
        "the next create is shown as STATUS_ERROR for 30 s",
        FaultRule(
            name="create-error",
            path="create",
            times=1,
            status=StatusChange(status="STATUS_ERROR", seconds=30),
        ),
    ),
    Preset(
        "after the next create, reads do not show the claim for 10 s",
        FaultRule(name="create-stale", path="create", times=1, stale_reads=StaleReads(seconds=10)),
    ),
    Preset("every request waits 2 s", FaultRule(name="slow", delay=2)),
    Preset("every request fails with 503", FaultRule(name="outage", fail=Fail())),
    Preset(
        "every second request gets 429, to retry after 1 s",
        FaultRule(name="rate-limit", every=2, fail=Fail(code="resource_exhausted", retry_after=1)),
    ),
    Preset(
        "every second connection is closed without a response", FaultRule(name="drop", every=2, drop="before")
    ),
)

PRESETS: dict[str, Preset] = {preset.rule.name: preset for preset in _ALL}
"""All presets, by the name of the rule."""
