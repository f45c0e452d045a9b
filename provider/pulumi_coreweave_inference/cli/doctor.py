"""`capacity-claims doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import platform
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from typing import Final

import typer

from coreweave_inference import (
    Client,
    CoreweaveError,
    InvalidArgument,
    MissingToken,
    NotFound,
    PermissionDenied,
)
from pulumi_coreweave_inference._version import __version__
from pulumi_coreweave_inference.errors import ClaimError
from pulumi_coreweave_inference.foreign_text import in_lines
from pulumi_coreweave_inference.inputs import MANAGED
from pulumi_coreweave_inference.settings import settings_from, unread_endpoint

from .console import EXIT_FINDINGS, advice

OLDEST_ENGINE: Final = (3, 254, 0)
_CLOCKS_DIFFER: Final = 60.0  # seconds; Retry-After dates and "recently created" allow for more than that
_SLOW: Final = 30  # seconds for the answer of a program


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was found, and what to do if that is not good."""

    subject: str
    found: str
    advice: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing is to be done."""
        return not self.advice


def doctor() -> None:
    """Check engine, endpoint, token and clock.

    Reads only, but for one request to change a claim with a random id, which no claim has: the answer shows
    whether the token may write.

    Exit codes: 0 if all is well; 1 if something needs attention.

    Example: capacity-claims doctor
    """
    checks = []
    for check in chain(local_checks(), api_checks()):
        checks.append(check)
        lines = [f"{'✓' if check.is_good else '✗'} {check.subject}: {check.found}"]
        typer.echo(in_lines(*lines, *([f"  Next: {check.advice}"] if check.advice else [])))
    if not all(check.is_good for check in checks):
        raise typer.Exit(EXIT_FINDINGS)


def local_checks(run: Callable[[list[str]], str] | None = None) -> Iterator[Check]:
    """What can be seen without the API. `run` returns what a program prints, or raises OSError."""
    yield Check("Python", f"{platform.python_version()} ({sys.executable})")
    yield Check("pulumi-coreweave-inference", __version__)
    for package in ("coreweave-inference", "pulumi"):
        yield Check(package, metadata.version(package))
    yield _engine(run or _output)


def _output(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603  # fixed words
        command, capture_output=True, text=True, errors="replace", check=False, timeout=_SLOW
    )
    return done.stdout.strip()


def _engine(run: Callable[[list[str]], str]) -> Check:
    install = "install the Pulumi CLI: https://www.pulumi.com/docs/install/"
    try:
        said = run(["pulumi", "version"])
    except FileNotFoundError:
        return Check("Pulumi engine", "`pulumi` is not on PATH", install)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("Pulumi engine", f"`pulumi version` does not run: {error}", install)
    parts = said.removeprefix("v").partition("-")[0].split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return Check("Pulumi engine", f"`pulumi version` printed {said[:60]!a}", install)
    if tuple(map(int, parts)) < OLDEST_ENGINE:
        oldest = ".".join(map(str, OLDEST_ENGINE))
        return Check("Pulumi engine", said, f"update the Pulumi CLI: {oldest} is the oldest that works")
    return Check("Pulumi engine", said)


def api_checks() -> Iterator[Check]:
    """What the API says, with the settings of the environment."""
    try:
        settings = settings_from(lambda key: None)
    except ClaimError as error:
        yield Check("settings", str(error), "correct it in the environment")
        return
    yield Check("endpoint", settings.endpoint, unread_endpoint(settings).partition(". ")[2])
    try:
        with settings.client() as client:
            yield from _answers(client)
    except MissingToken as error:
        yield Check("token", "none", advice(error))
    except CoreweaveError as error:
        yield Check("API", str(error), advice(error) or "try again later")


def _answers(client: Client) -> Iterator[Check]:
    claims = client.capacity_claims
    offered = claims.parameters().zone_instance_types
    types = {each for there in offered.values() for each in there}
    yield Check("API", f"responds; offers {len(types)} instance types in {len(offered)} zones")
    held = claims.list()
    organizations = sorted({claim.spec.organization_id for claim in held if claim.spec.organization_id})
    shown = ", ".join(organizations) or "unknown, as it has no claims"
    yield Check("token", f"may read {len(held)} claims; organization: {shown}")
    yield _writes(client)
    skew = claims.clock_skew.total_seconds()
    if abs(skew) > _CLOCKS_DIFFER:
        yield Check("clock", f"differs from the API's by {skew:.0f} s", "set the clock of this machine")
    else:
        yield Check("clock", "agrees with the API's")


def _writes(client: Client) -> Check:
    """Whether the token may write: the API checks that before it looks for the claim (assumed)."""
    resources = {"instanceId": "none", "instanceCount": 0, "zones": ["none"], "capacityType": MANAGED}
    try:
        client.capacity_claims.update(str(uuid.uuid4()), resources)
    except PermissionDenied:
        to_do = "use a token with the role Inference Admin to create claims"
        return Check("role", "Inference Viewer: the token may read only", to_do)
    except (NotFound, InvalidArgument):
        return Check("role", "the token may write, as Inference Admin does")
    return Check("role", "unknown: the API has changed a claim that does not exist", "report it to CoreWeave")
