"""CoreWeave's inference API for capacity claims, locally: it checks, keeps, allocates, and fails.

It shares no code with the client, so that the two do not share mistakes.

    with Emulator() as emulator:
        client = Client(endpoint=emulator.url, token=emulator.token)

What it cannot know about the API, it offers as a setting; `EmulatorSettings` lists them.
"""

from coreweave_inference.emulator.faults import (
    Fail,
    FaultProfile,
    FaultRule,
    StaleReads,
    StatusChange,
)
from coreweave_inference.emulator.records import Hold, RequestRecord
from coreweave_inference.emulator.server import Emulator, EmulatorControl, serve
from coreweave_inference.emulator.settings import (
    DEFAULT_INVENTORY,
    EmulatorSettings,
    Inventory,
    load_inventory,
)
from coreweave_inference.emulator.store import ClaimRecord

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
    "load_inventory",
    "serve",
]
