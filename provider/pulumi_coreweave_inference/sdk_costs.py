"""What a declared claim costs in the SDK, kept low, and how each saving falls back.

The SDK was looked at in version 3.272.0; in one that looks different what is described here is missing, and a
program with many claims takes longer.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Final

_SDK_FRAMES: Final = 5  # from `_get_stack_trace` to `pulumi.dynamic.Resource.__init__`
_LIMITED: Final = threading.RLock()  # the limit is the process's, and programs may run in several threads
_STARTED_BY: Final = ("pulumi", "asyncio", "runpy")


@contextlib.contextmanager
def program_frames_only(declaring: FrameType | None) -> Iterator[None]:
    """Let the SDK record the program's own frames, from `declaring` outwards, and not who started it.

    With every resource the SDK stores the whole stack of its declaration. The frames that are the same
    for each (Pulumi's way into the program and `asyncio` below it) make up a third of a claim's entry, and
    an engine with a file or a bucket as its backend writes all entries anew with each step.

    The SDK asks `traceback`, which respects `sys.tracebacklimit`. Fallback: all frames are stored.
    """
    with _LIMITED:
        before: int | None = getattr(sys, "tracebacklimit", None)
        sys.tracebacklimit = _SDK_FRAMES + sum(1 for _ in _of_program(declaring))
        try:
            yield
        finally:
            if before is None:
                del sys.tracebacklimit
            else:
                sys.tracebacklimit = before


def _of_program(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] not in _STARTED_BY:
        yield frame
        frame = frame.f_back


def one_waited_for(outputs: Iterable[Any]) -> None:
    """Let the SDK wait for none of these outputs: another one that comes of them stands for all.

    A program ends when all of its outputs have resolved. Until then the SDK goes over those still open
    whenever one resolves: ten a claim make that the most that a program with hundreds of them does.

    The SDK does so itself with what `apply` gives. Fallback: all are waited for.
    """
    for output in outputs:
        untrack = getattr(output, "_untrack", None)
        if callable(untrack):
            untrack()
