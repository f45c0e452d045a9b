"""Texts of the core in the words of a program in any language.

The core's texts are about a Python program: they name properties in snake case, options as Python writes
them, and the config of the stack, which a declared provider does not read. Everything that the native plugin
shows passes through `said`.
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
)
_CONFIG: Final = ((r"\bcoreweave:(?=\w)", "coreweave-inference:"),)
_ARGUMENTS: Final = (
    (r"run `pulumi config set --secret coreweave:(\w+)`", r"set the provider's argument \1"),
    (r"the stack's coreweave:(\w+)", r"the provider's argument \1"),
    (r"\bcoreweave:(\w+)", r"the provider's argument \1"),
)


def said(text: str, *, declared: bool = False) -> Lines:
    """The text as the native plugin shows it. `declared`: the program declares the provider."""
    lines = shown(text)
    for pattern, word in (*_WORDS, *(_ARGUMENTS if declared else _CONFIG)):
        lines = Lines(re.sub(pattern, word, lines))
    return lines
