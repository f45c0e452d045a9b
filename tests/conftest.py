from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let the processes under test be interrupted: what a shell starts in the background cannot be."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
