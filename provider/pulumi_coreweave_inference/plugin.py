"""What this software changes in the SDK's plugin process, and how each falls back where it is not as known.

The plugin (`python -m pulumi.dynamic`) is the SDK's own. It was looked at in version 3.272.0; in one that
looks different nothing is changed, and what is described here is missing.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import FrameType, ModuleType
from typing import Final

from .errors import ClaimError

AT_ONCE: Final = 512  # calls; the engine's own limit (`pulumi up --parallel`) is what counts then


def show_without_traceback() -> None:
    """Make the engine's plugin show a `ClaimError` as its text alone.

    The plugin of the Python SDK answers every exception with `traceback.format_exc()`. Its module's name
    `traceback` is put in front by one that leaves the frames of a `ClaimError` out and passes everything
    else on. In a plugin that does not look like that, nothing is done: then the text has frames above it.
    """
    _put_in_front(traceback, _PlainTraceback())


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


def keep_event_loops() -> None:
    """Let the plugin use its event loops again.

    The SDK opens an event loop (a selector and a pair of sockets) for each answer that it writes, and closes
    it afterwards: half of what an answer costs. Its module's name `asyncio` is put in front by one that
    lends a loop that is idle. Fallback: a new loop for each answer.
    """
    _put_in_front(asyncio, _LendingAsyncio())


class _LendingAsyncio:
    """The module `asyncio`, but for event loops that come back."""

    def __init__(self) -> None:
        self._idle: list[asyncio.AbstractEventLoop] = []

    def new_event_loop(self) -> _LentLoop:
        try:
            return _LentLoop(self._idle.pop(), self._idle)
        except IndexError:
            return _LentLoop(asyncio.new_event_loop(), self._idle)

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)


class _LentLoop:
    """An event loop that waits for its next use when it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: list[asyncio.AbstractEventLoop]) -> None:
        self._loop = loop
        self._idle = idle
        self._lent = True

    def close(self) -> None:
        if self._lent:
            self._lent = False
            self._idle.append(self._loop)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)


def pass_over_what_stays() -> None:
    """Let the garbage collector no longer look at what has been imported so far.

    The SDK and gRPC are some forty thousand objects, and what is made afterwards lets the collector go
    through all of them again and again: a twentieth of what a refresh takes. Fallback: it does.
    """
    if is_plugin() and not gc.get_freeze_count():
        gc.freeze()


def _put_in_front(module: ModuleType, front: object) -> None:
    """Give the SDK's plugin `front` where it says `module`, if it has that under its own name."""
    name = module.__name__
    plugin = sys.modules["__main__"]
    if is_plugin() and getattr(plugin, name, None) is module:
        plugin.__dict__[name] = front


def is_plugin() -> bool:
    """Whether this process is the SDK's plugin."""
    return hasattr(sys.modules.get("__main__"), "DynamicResourceProviderServicer")
