"""What a program marks as secret, on the real engine."""

from __future__ import annotations

import json
from collections.abc import Callable

from support.stack import Stack

Start = Callable[..., Stack]

SECRET_NAME = "an-acquisition-nobody-knows-of"
PROGRAM = f"""
import pulumi
import pulumi_coreweave_inference as inference

inference.CapacityClaim(
    "training",
    name=pulumi.Output.secret({SECRET_NAME!r}),
    resources={{"instance_id": "gb200-4x", "instance_count": pulumi.Config().require_int("count"),
               "zones": ["US-WEST-04A"]}},
)
"""


def test_a_secret_name_is_never_in_clear_in_the_state(start: Start) -> None:
    stack = start()
    (stack.folder / "__main__.py").write_text(PROGRAM, encoding="utf-8")
    shown = ""
    for count in ("1", "2"):
        stack.pulumi("config", "set", "count", count)
        stack.pulumi("up", "--yes", "--diff")
        shown += stack.output
        stack.pulumi("refresh", "--yes", "--diff")
        shown += stack.output
    (claim,) = stack.emulator.claims()
    assert (claim.name, claim.instance_count) == (SECRET_NAME, 2)
    assert SECRET_NAME not in json.dumps(stack.export())
    assert SECRET_NAME not in shown
