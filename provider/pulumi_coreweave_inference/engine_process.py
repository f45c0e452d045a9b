"""What this package changes in the SDK's plugin process (`python -m pulumi.dynamic`), once per process.

    plain_claim_errors   a `ClaimError` is shown as its text, without a traceback
    raise_worker_limit   more than four calls run at a time, so that slow deletions do not block others
    exit_with_engine     the process ends with its engine, so that it cannot create a claim afterwards

The plugin belongs to the SDK. Each change was written against version 3.272.0; if the SDK differs, the change
is skipped.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final

from .errors import ClaimError
from .foreign_text import visible

WORKERS: Final = 512  # calls at a time, so that the engine's own limit (`pulumi up --parallel`) applies


def prepare_process(abandon: Callable[[], None]) -> None:
    """Make the changes above. When the engine is gone, `abandon` makes the running calls fail.

    The SDK configures each provider class; only the first call has an effect. Not safe between threads.
    """
    global _is_prepared
    if is_plugin() and not _is_prepared:
        _is_prepared = True
        plain_claim_errors()
        raise_worker_limit()
        exit_with_engine(abandon)


_is_prepared = False


def is_plugin() -> bool:
    """Whether this process is the SDK's plugin."""
    return hasattr(sys.modules.get("__main__"), "DynamicResourceProviderServicer")


def plain_claim_errors() -> None:
    """Show a `ClaimError` as its text alone. Fallback: the text comes below a traceback.

    The plugin answers every exception with `traceback.format_exc()`. Its name `traceback` is replaced by an
    object that leaves out the frames of a `ClaimError` and passes everything else on.
    """
    plugin = sys.modules["__main__"]
    if getattr(plugin, "traceback", None) is traceback:
        plugin.__dict__["traceback"] = _PlainTraceback()


class _PlainTraceback:
    """The module `traceback`, except for a `ClaimError`."""

    def format_exc(self) -> str:
        error = sys.exception()
        return str(error) if isinstance(error, ClaimError) else visible(traceback.format_exc(), keep="\n")

    def __getattr__(self, name: str) -> object:
        return getattr(traceback, name)


def raise_worker_limit() -> None:
    """Let the plugin run as many calls at a time as the engine makes. Fallback: four at a time.

    The limit belongs to the executor that runs this very call. It is found in the frame of its worker thread.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        reference = frame.f_locals.get("executor_reference")
        executor = reference() if isinstance(reference, weakref.ref) else None
        if isinstance(executor, ThreadPoolExecutor) and hasattr(executor, "_max_workers"):
            executor._max_workers = max(executor._max_workers, WORKERS)
            return
        frame = frame.f_back


def exit_with_engine(abandon: Callable[[], None]) -> None:
    """End the process when the engine is gone, after the running calls have ended.

    The engine holds the other end of the plugin's standard input. If that is not a pipe, or has already
    ended, it does not belong to the engine, and nothing is done.
    """
    try:
        if not stat.S_ISFIFO(os.fstat(0).st_mode) or select.select([0], [], [], 0)[0]:
            return
    except OSError:
        return
    threading.Thread(target=_wait_for_engine, args=(abandon,), name="exit-with-engine", daemon=True).start()


def _wait_for_engine(abandon: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    abandon()
    main = threading.main_thread().ident
    if main is not None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The plugin's main thread waits for this signal, stops serving, and exits after the running calls.
        signal.pthread_kill(main, signal.SIGINT)
    else:
        # A process that a shell starts in the background ignores SIGINT.
        os.kill(os.getpid(), signal.SIGTERM)
