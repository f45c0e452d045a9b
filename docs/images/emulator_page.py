"""Draws the image of the emulator's page.

make browser                                                # installs playwright; needs chromium on PATH
.venv/bin/python docs/images/emulator_page.py               # or with a file and a width in pixels
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from coreweave_inference import CapacityClaimResources, Client, ResourceExhausted, RetryPolicy
from coreweave_inference.emulator import Emulator, EmulatorSettings

HERE = Path(__file__).parent
INVENTORY = {
    "US-WEST-04A": {"gb200-4x": 3, "h100-80gb-sxm5": 8},
    "US-EAST-04A": {"gb200-4x": 1, "h200-141gb-8x": 16},
    "RNO2A": {"l40s-8x": 32},
}
START = 1_788_000_000_000_000_000  # nanoseconds since 1970; the clock moves only when it is moved
RATE_LIMIT = {"name": "rate-limit", "path": "list", "every": 2, "fail": {"code": "resource_exhausted"}}
HEIGHT = 830


def main(file: Path = HERE / "emulator-page.png", width: int = 1300) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not on PATH")
    settings = EmulatorSettings(allocation_delay=20, allocation_spread=15, inventory=INVENTORY)
    with Emulator(settings, clock=lambda: START) as emulator, sync_playwright() as playwright:
        act(emulator)
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme="light")
        page.goto(f"{emulator.url}/")
        page.get_by_label("Control token").fill(emulator.admin_token)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Zones").wait_for()
        page.screenshot(path=file, full_page=width < 1300)
        browser.close()


def act(emulator: Emulator) -> None:
    """A claim that has grown, one that waits, and requests that fail."""
    with Client(emulator.token, endpoint=emulator.url) as client:
        claims = client.capacity_claims
        serving = claims.create("serving-77d01ce", resources("l40s-8x", 3, "RNO2A"))
        emulator.advance_clock(90)
        claims.create("training-4a975a7", resources("gb200-4x", 6, "US-WEST-04A", "US-EAST-04A"))
        emulator.advance_clock(90)
        claims.update(serving.id, resources("l40s-8x", 6, "RNO2A"))
        emulator.advance_clock(150)
        emulator.add_faults([RATE_LIMIT])
        for _ in range(2):
            claims.list(retry=RetryPolicy(deadline=0))
            try:
                claims.list(retry=RetryPolicy(deadline=0))
            except ResourceExhausted:
                continue


def resources(instance_id: str, count: int, *zones: str) -> CapacityClaimResources:
    return CapacityClaimResources(
        instance_id=instance_id,
        instance_count=count,
        zones=list(zones),
        capacity_type="CAPACITY_TYPE_MANAGED",
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]), *map(int, sys.argv[2:3]))
