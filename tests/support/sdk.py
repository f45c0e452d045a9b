"""Which version of Pulumi's SDK the tests run with."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

SDK: Final = tuple(int(part) for part in version("pulumi").split(".")[:3])
