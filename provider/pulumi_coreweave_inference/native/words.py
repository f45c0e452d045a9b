"""Texts of the core in the words of a program in any language.

The core's texts are about a Python program: they name properties in snake case, options as Python writes
them, and the config of the stack. Everything that the native plugin shows passes through `said`.
"""

from __future__ import annotations

import re
from typing import Final

from pulumi_coreweave_inference.foreign_text import Lines, shown

_WORDS: Final = (
    (r"ResourceOptions\(delete_before_replace=True\)", "the option deleteBeforeReplace"),
    (r'ResourceOptions\(ignore_changes=\["([\w.]+)"\]\)', r"the option ignoreChanges for \1"),
    (r"ResourceOptions\(depends_on=\[…\]\)", "the option dependsOn"),
    (r"Readiness\(min_instances=…\)", "readiness.minInstances"),
    (r"lower min_instances in the Readiness", "lower readiness.minInstances"),
    (r"\bdepends_on\b", "dependsOn"),
    (r"\binstance_id\b", "instanceId"),
    (r"\binstance_count\b", "instanceCount"),
    (r"\bcapacity_type\b", "capacityType"),
    (r"\bmin_instances\b", "minInstances"),
    (r"\bon_timeout\b", "onTimeout"),
    (r"a CapacityClaimResourcesArgs or a dict", "an object"),
    (r"\bcoreweave:(?=\w)", "coreweave-inference:"),
)
_COMPILED: Final = tuple((re.compile(pattern), word) for pattern, word in _WORDS)


def said(text: str) -> Lines:
    """The text as the native plugin shows it."""
    lines = shown(text)
    for pattern, word in _COMPILED:
        lines = Lines(pattern.sub(word, lines))
    return lines
