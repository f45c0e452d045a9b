"""What this software changes in the SDK's plugin process, and how each falls back where it is not as known.

The plugin (`python -m pulumi.dynamic`) is the SDK's own. It was looked at in version 3.272.0; in one that
looks different nothing is changed, and what is described here is missing.
"""

from __future__ import annotations

import sys
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final

from .errors import ClaimError

AT_ONCE: Final = 512  # calls; the engine's own limit (`pulumi up --parallel`) is what counts then


def show_without_traceback() -> None:
    """Make the engine's plugin show a `ClaimError` as its text alone.

    The plugin of the Python SDK answers every exception with `traceback.format_exc()`. Its module's name
    `traceback` is put in front by one that leaves the frames of a `ClaimError` out and passes everything
    else on. In a plugin that does not look like that, nothing is done: then the text has frames above it.
    """
    plugin = sys.modules.get("__main__")
    if hasattr(plugin, "DynamicResourceProviderServicer") and (
        getattr(plugin, "traceback", None) is traceback
    ):
        plugin.__dict__["traceback"] = _PlainTraceback()


class _PlainTraceback:
    """The module `traceback`, but for the text of a `ClaimError`."""

    def format_exc(self) -> str:
        error = sys.exception()
        return str(error) if isinstance(error, ClaimError) else traceback.format_exc()

    def __getattr__(self, name: str) -> object:
        return getattr(traceback, name)


def serve_more_at_once() -> None:
    """Let the plugin serve as many calls at a time as the engine makes.

    The SDK serves four at a time, for all dynamic resources together, and a claim that is being deleted
    takes one of the four for as long as that lasts. The limit belongs to the executor that runs this very
    call, and is found in the frame of its worker thread. Fallback: four at a time.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        reference = frame.f_locals.get("executor_reference")
        executor = reference() if isinstance(reference, weakref.ref) else None
        if isinstance(executor, ThreadPoolExecutor) and hasattr(executor, "_max_workers"):
            executor._max_workers = max(executor._max_workers, AT_ONCE)
            return
        frame = frame.f_back
