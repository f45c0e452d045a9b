"""`capacity-claims wait`: for scripts, until claims are ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from coreweave_inference import CapacityClaim, Client, CoreweaveError, NotFound, RetryPolicy
from pulumi_coreweave_inference.errors import InvalidReadiness
from pulumi_coreweave_inference.inputs import RESOURCE_FIELDS, program_spelling
from pulumi_coreweave_inference.progress import Log, Waiting
from pulumi_coreweave_inference.readiness import FATAL, Goal, Readiness, Verdict, judge

from .claims import find_claim
from .console import EXIT_FINDINGS, CommandError, all_claims, connected, note, report_errors
from .table import allocation

ONE_LOOK: Final = RetryPolicy(deadline=0)  # the loop looks again
_ANY: Final = frozenset(map(program_spelling, RESOURCE_FIELDS))  # nothing is declared here
PAUSES: Final = (1.0, 2.0, 3.0, 5.0, 10.0)  # seconds between looks; the last one repeats


def wait(
    claim: Annotated[list[str], typer.Argument(metavar="CLAIM...", help="Ids or names of claims.")],
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait at most.")] = "45m",
    min_instances: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Enough instances of each claim; default: all.")
    ] = None,
) -> None:
    """Wait until claims are READY with their instances.

    Prints a line when something changes. An outage of the API does not end the wait.

    Exit codes: 0 if all are ready; 1 if one is not ready in time, has failed or is gone; 2 if the claims
    cannot be looked up at first, or the API refuses the token.

    Example: capacity-claims wait training-4a975a7 --timeout 10m && ./start-training
    """
    with report_errors(), connected() as (client, _):
        try:
            readiness = Readiness(timeout=timeout, min_instances=min_instances)
        except InvalidReadiness as error:
            raise CommandError(f"--{error}") from None
        known = all_claims(client)
        found = {each.id: each for each in (find_claim(text, known, client) for text in claim)}
        late = wait_for(client, list(found.values()), readiness)
        if late:
            raise CommandError(*late, code=EXIT_FINDINGS)


def wait_for(
    client: Client,
    claims: Sequence[CapacityClaim],
    readiness: Readiness,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Wait until all are ready; returns a line for each that is not."""
    log, started = Log(note), clock()
    waits = [
        Waiting(
            goal=Goal(each.name, each.id, each.resources, readiness, ignored=_ANY),
            show=note, say=note, started=started, timeout=readiness.seconds, seen=each,
        )
        for each in claims
    ]  # fmt: skip
    late, looks, outage = list[str](), 0, ""
    try:
        while True:
            for wait in list(waits):
                seen = wait.seen
                verdict = Verdict.FAILED if seen is None else judge(seen, wait.goal)
                if seen is not None and verdict is Verdict.READY:
                    log.ready(wait, seen, clock())
                    waits.remove(wait)
                elif verdict is Verdict.FAILED:
                    late.append(_told(wait, "is gone" if seen is None else "has ended"))
                    log.failed(wait, late[-1])
                    waits.remove(wait)
            if not waits:
                log.ended(clock())
                return late
            if looks:
                log.waiting(waits, outage, clock())
            left = min(wait.left(clock()) for wait in waits)
            if left <= 0:
                return late + [_told(wait, "is not ready in time", outage) for wait in waits]
            sleep(min(left, PAUSES[min(looks, len(PAUSES) - 1)]))
            looks += 1
            outage = _look(client, waits)
    except FATAL:
        for line in late:
            note(line)
        raise


def _told(wait: Waiting, what: str, outage: str = "") -> str:
    parts = [f"{wait.goal.resource_name} ({wait.goal.claim_id}) {what}"]
    if wait.seen is not None:
        parts.append(f"{wait.seen.state.short}, {allocation(wait.seen)} instances")
    return ": ".join([*parts, *([outage] if outage else [])])


def _look(client: Client, waits: Sequence[Waiting]) -> str:
    """Read the claims again; returns an outage."""
    for wait in waits:
        try:
            wait.seen = client.capacity_claims.get(wait.goal.claim_id, retry=ONE_LOOK)
        except NotFound:
            wait.seen = None
        except FATAL:
            raise
        except CoreweaveError as error:
            return f"the API does not respond at the moment ({error})"
    return ""
