"""The type tokens of capacity claims in states and previews, for the dynamic resource and the native one."""

from __future__ import annotations

from typing import Final

DYNAMIC: Final = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
DYNAMIC_NAMESPACE: Final = "pulumi-python:dynamic/claimNamespace:ClaimNamespace"
NATIVE: Final = "coreweave-inference:index:CapacityClaim"
NATIVE_PROVIDER: Final = "pulumi:providers:coreweave-inference"
CLAIMS: Final = frozenset({DYNAMIC, NATIVE})
