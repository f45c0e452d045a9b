"""What a program marks as secret, on the real engine."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
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


SECRET_COUNT = "1234567"  # more than there are
WAITING = """
import pulumi
import pulumi_coreweave_inference as inference

config = pulumi.Config()
inference.CapacityClaim(
    "training",
    name=config.require_secret("name"),
    resources={"instance_id": "gb200-4x", "instance_count": config.require_secret("count").apply(int),
               "zones": ["US-WEST-04A"]},
    readiness=inference.Readiness(timeout="3s"),
)
"""


@pytest.mark.thorough
def test_a_secret_count_and_name_are_said_in_no_text(start: Start) -> None:
    stack = start()
    (stack.folder / "__main__.py").write_text(WAITING, encoding="utf-8")
    shown = []

    def run(*command: str, code: int) -> None:
        done = stack.pulumi(*command, "--yes", check=False)
        shown.append(stack.output.replace("[secret]", "(unsaid)"))
        assert (done.returncode != 0) == (code != 0), stack.output

    # The engine hides the secrets of the config by themselves; each value is another one here.
    stack.pulumi("config", "set", "--secret", "count", f"{SECRET_COUNT}.0")
    program = WAITING.replace(".apply(int)", '.apply(lambda text: int(text.split(".")[0]))').replace(
        'config.require_secret("name")', f'pulumi.Output.secret("{SECRET_NAME}")'
    )
    (stack.folder / "__main__.py").write_text(program, encoding="utf-8")
    run("up", "--skip-preview", code=1)
    assert "0 of" not in shown[-1].replace("0 of (unsaid)", "")
    assert "(unsaid) of (unsaid) gb200-4x instances allocated" in shown[-1]
    (claim,) = stack.emulator.claims()
    stack.emulator.edit_claim(claim.id, spec={"resources": {"instanceCount": 7654321}})
    stack.pulumi("config", "set", "--secret", "count", "2345678.0")
    run("up", "--skip-preview", code=1)
    assert "was changed since the state was written" in shown[-1]
    (stack.folder / "__main__.py").write_text(program.replace(SECRET_NAME, "Not_A_Name"), encoding="utf-8")
    run("up", "--skip-preview", code=1)
    assert "name: is secret and not valid" in shown[-1]
    state = json.dumps(stack.export())
    for value in (SECRET_NAME, SECRET_COUNT, "7654321", "2345678", "Not_A_Name", "not-a-name"):
        assert value not in state
        assert [text for text in shown if value in text] == []
