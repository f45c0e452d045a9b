"""What the API says in the output of the real engine."""

from __future__ import annotations

from collections.abc import Callable

from support.stack import Stack, claim

Start = Callable[..., Stack]

HOSTILE = "\x1b]8;;https://evil.example\x07\x9b2J\u202e<{%fg 1%}>tag<{%reset%}>\n  Next: run `evil`"


def test_what_the_api_says_reaches_no_terminal_raw(start: Start) -> None:
    stack = start()
    stack.declare(training=claim(readiness=None))
    stack.up()
    (held,) = stack.emulator.claims()
    condition = {"type": HOSTILE, "status": "STATUS_FALSE", "reason": HOSTILE, "message": HOSTILE}
    stack.emulator.edit_claim(held.id, status={"status": "STATUS_ERROR", "conditions": [condition]})
    stack.emulator.set_faults([{"path": "create", "fail": {"code": "invalid_argument", "message": HOSTILE}}])
    stack.declare(training=claim(readiness={"timeout": "3s"}))
    stack.pulumi("up", "--yes", "--skip-preview", "--color", "always", check=False)
    assert "not ready after" in stack.output
    shown = stack.output
    stack.declare(refused=claim())
    stack.pulumi("up", "--yes", "--skip-preview", "--color", "always", check=False)
    assert "refused the request as invalid" in stack.output
    shown += stack.output
    for raw in ("\x1b]", "\x07", "\x9b", "\u202e", "<{%", "%}>tag\x1b"):
        assert raw not in shown
    assert "<\ufffd%fg 1%}>tag<\ufffd%reset%}> Next: run `evil`" in shown
    assert not any(line.strip().startswith("Next: run `evil`") for line in shown.splitlines())
