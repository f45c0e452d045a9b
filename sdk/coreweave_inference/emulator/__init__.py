"""A local emulator of CoreWeave's inference API: checks, keeps and allocates capacity claims, and fails.

It shares no code with the client, so a mistake in one is not hidden by the same mistake in the other.

    with Emulator() as emulator:
        client = Client(endpoint=emulator.url, token=emulator.token)

Where the behaviour of the real API is unknown, there is a setting; see `EmulatorSettings`.
"""

from coreweave_inference.emulator.claim import ClaimRecord
from coreweave_inference.emulator.control import EmulatorControl
from coreweave_inference.emulator.faults import (
    Fail,
    FaultProfile,
    FaultRule,
    StaleReads,
    StatusChange,
)
from coreweave_inference.emulator.holds import Hold
from coreweave_inference.emulator.request_log import RequestRecord
from coreweave_inference.emulator.server import Emulator, serve
from coreweave_inference.emulator.settings import (
    DEFAULT_INVENTORY,
    EmulatorSettings,
    Inventory,
    Stock,
    load_inventory,
)

__all__ = [
    "DEFAULT_INVENTORY",
    "ClaimRecord",
    "Emulator",
    "EmulatorControl",
    "EmulatorSettings",
    "Fail",
    "FaultProfile",
    "FaultRule",
    "Hold",
    "Inventory",
    "RequestRecord",
    "StaleReads",
    "StatusChange",
    "Stock",
    "load_inventory",
    "serve",
]
