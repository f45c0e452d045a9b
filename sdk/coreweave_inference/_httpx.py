"""httpx, imported without its command line, and httpcore, which it depends on."""

import sys

# httpx imports its command line, and with it click and rich where they are installed. Marked as not
# importable, it is skipped as if they were missing: importing our client takes 0.29 s instead of 0.44 s.
# If a program has imported httpx already, or a later httpx has no such module, this changes nothing.
_COMMAND_LINE = "httpx._main"
_ALREADY_IMPORTED = "httpx" in sys.modules

if not _ALREADY_IMPORTED:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # how Python marks a module as missing
try:
    import httpcore
    import httpx
finally:
    if not _ALREADY_IMPORTED:
        del sys.modules[_COMMAND_LINE]

__all__ = ["httpcore", "httpx"]
