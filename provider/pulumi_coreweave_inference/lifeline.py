"""Ends the provider process when the engine that started it is gone.

An engine that is killed leaves its plugin behind, which waits for calls for ever, and may still be
repeating one. The engine holds the other end of the plugin's standard input: when that closes, nobody is
left to hear an answer.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import threading
from collections.abc import Callable

from .plugin import is_plugin


def end_with_the_engine(abandon: Callable[[], None]) -> None:
    """Call `abandon` and end the process, once calls that run have ended, when the engine is gone.

    Does nothing outside of the SDK's plugin, where standard input is no pipe, or where it has ended
    already: then it never was the engine's.
    """
    if not is_plugin():
        return
    try:
        if not stat.S_ISFIFO(os.fstat(0).st_mode) or select.select([0], [], [], 0)[0]:
            return
    except OSError:
        return
    threading.Thread(target=_watch, args=(abandon,), name="lifeline", daemon=True).start()


def _watch(abandon: Callable[[], None]) -> None:
    while os.read(0, 4096):
        pass
    abandon()
    main = threading.main_thread().ident
    if main is not None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The plugin's main thread waits for this signal, stops serving, and ends after the calls that run.
        signal.pthread_kill(main, signal.SIGINT)
    else:
        # What a shell starts in the background ignores it.
        os.kill(os.getpid(), signal.SIGTERM)
