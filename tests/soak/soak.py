"""Random work on a stack of the real engine, in random weather, with random deaths.

    python tests/soak/soak.py --minutes 20 --seed 1 --face native

Every step is drawn from the seed alone, so a run is replayed by its seed and number of steps. After each
step that ends in a clean `pulumi up`, the invariants are checked; the first violation ends the run
with the list of all steps.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import invariants
from support.crash import Operation, assert_settled, entries, locked, mend_torn_state, until
from support.native import TYPE as NATIVE_TYPE
from support.native import NativeStack
from support.stack import Stack

from coreweave_inference.emulator import ClaimRecord, Emulator, EmulatorSettings, FaultProfile

ZONES: Final = ("US-WEST-04A", "US-EAST-04A", "US-EAST-02A")
TYPES: Final = ("gb200-4x", "h100-80gb-sxm5")
NAMES: Final = tuple("abcdef")
STOCK: Final = {zone: dict.fromkeys(TYPES, 1000) for zone in ZONES}
NO_STOCK: Final = {zone: dict.fromkeys(TYPES, 0) for zone in ZONES}
DEATHS: Final = ("kill", "kill-cli", "kill-provider", "interrupt", "interrupt-twice")
PATIENCE: Final = {"calm": "30s", "faults": "30s", "death": "30s", "shortage": "2s"}
_REFUSED: Final = "namespace is kept"
_TWIN_ID: Final = re.compile(r"^ +([0-9a-f-]{36}): \d+ of ", re.MULTILINE)
_TWIN: Final = "this declaration has made a claim before"
_OTHER_COUNT: Final = re.compile(
    r"creating capacity claim '(\w+)' \(id \S+\) failed: a claim with this id exists with (\d+) instances"
)
OF_ONE_CLAIM: Final = ("up --replace", "up --target", "up --exclude", "taint", "state delete")

Claims = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One thing that is done, and what happens meanwhile."""

    changes: tuple[str, ...]
    declared: Claims
    command: str
    weather: str
    seed: int
    call: str = ""
    nth: int = 1
    when: str = ""
    death: str = ""
    settle: bool = True

    def __str__(self) -> str:
        text = f"{', '.join(self.changes) or 'nothing'}; {self.command}; {self.weather}"
        if self.weather == "death":
            text += f": {self.death} at {self.call} call {self.nth}, {self.when} it is taken"
        return text + ("" if self.settle else "; no clean up after it")


@dataclass
class Program:
    """What the program declares, as it is edited over time."""

    draw: random.Random
    claims: Claims = field(default_factory=dict)
    renamed: set[str] = field(default_factory=set)

    def edit(self) -> str:
        """One random edit; answers what it was."""
        draw, claims = self.draw, self.claims
        free = [name for name in NAMES if name not in claims and name not in self.renamed]
        kinds = ["declare"] * 2 * bool(free) + ["scale", "reorder", "retype", "remove"] * bool(claims)
        if claims and len(self.renamed) < len(NAMES) - 3:
            kinds.append("rename")
        kind = draw.choice(kinds)
        if kind == "declare":
            name = draw.choice(free)
            claims[name] = {
                "resources": {
                    "instance_id": draw.choice(TYPES),
                    "instance_count": draw.randint(0, 4),
                    "zones": draw.sample(ZONES, draw.randint(1, 3)),
                }
            }
            return f"declare {name}"
        name = draw.choice(sorted(claims))
        resources = dict(claims[name]["resources"])
        if kind == "remove":
            del claims[name]
            return f"remove {name}"
        if kind == "rename":
            # The old name is not used again: then its aliases would claim what somebody else declares.
            new = f"{name[0]}{len(self.renamed) + 1}"
            old = claims.pop(name)
            self.renamed.add(name)
            aliases = [*old.get("opts", {}).get("aliases", []), name]
            claims[new] = old | {"opts": {"aliases": aliases}}
            return f"rename {name} to {new}"
        if kind == "scale":
            resources["instance_count"] = draw.randint(0, 6)
        elif kind == "reorder":
            resources["zones"] = draw.sample(ZONES, draw.randint(1, 3))
        else:
            resources["instance_id"] = draw.choice(TYPES)
        claims[name] = claims[name] | {"resources": resources}
        return f"{kind} {name}"


def steps(seed: int) -> Any:
    """The endless steps of a seed."""
    draw = random.Random(seed)
    program = Program(draw)
    first = True
    while True:
        changes = tuple(program.edit() for _ in range(3 if first else draw.choice((0, 1, 1, 1, 2, 3))))
        first = False
        command = draw.choices(
            ("up", "up with preview", "refresh", "preview", "destroy", *OF_ONE_CLAIM),
            (50, 12, 6, 4, 8, 8, 8, 5, 5, 5),
        )[0]
        if command in OF_ONE_CLAIM:
            command += f" {draw.choice(sorted(program.claims))}" if program.claims else " nothing"
        yield Step(
            changes,
            {name: dict(claim) for name, claim in program.claims.items()},
            command,
            weather=draw.choices(("death", "faults", "calm", "shortage"), (60, 20, 15, 5))[0],
            seed=draw.randrange(1 << 30),
            call=draw.choices(("any", "create", "get", "update", "delete"), (8, 3, 1, 2, 3))[0],
            nth=draw.choice((1, 1, 1, 2, 3, 4)),
            when=draw.choice(("before", "after")),
            death=draw.choices(DEATHS, (50, 15, 15, 15, 5))[0],
            settle=draw.random() < 0.6,
        )


class Violation(Exception):
    """Something that must always hold does not."""


class Soak:
    """One stack against one emulator, and what is known of its claims, which are dynamic resources."""

    kind: type[Stack] = Stack
    type = "pulumi-python:dynamic/capacityClaim:CapacityClaim"

    def __init__(self, seed: int, folder: Path, emulator: Emulator, say: Callable[[str], None]) -> None:
        self._emulator = emulator
        self._say = say
        self._stack = self.kind(folder / "program", emulator, self.environment(seed))
        self._declared: Claims = {}
        self._settled: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
        self._left: set[str] = set()  # claims whose create was cut off and that are declared otherwise by now
        self._output = ""  # of the last command
        self.counts: Counter[str] = Counter()

    def environment(self, seed: int) -> dict[str, str]:
        """The settings of the stack."""
        return {
            "COREWEAVE_RETRY_DEADLINE": "10s",
            "COREWEAVE_READ_GRACE": "2s",
            "COREWEAVE_HTTP_TIMEOUT": "60s",
        }

    def take(self, step: Step) -> None:
        """Do a step, and a clean `up` after it where it says so; raises `Violation`."""
        self._before(step)
        self._declare(step.declared, PATIENCE[step.weather])
        if step.weather == "shortage":
            self._emulator.set_inventory(NO_STOCK)
        elif step.weather == "faults":
            self._emulator.set_faults(FaultProfile.random(step.seed, 0.25))
        elif step.weather == "death":
            which = {} if step.call == "any" else {"path": step.call}
            self._emulator.set_faults([which | {"nth": step.nth, "hold": step.when}])
        if step.command == "destroy":
            self._settled = {}
            self._left.update(self._cut_off())
        act, _, name = step.command.rpartition(" ")
        if act in ("up --replace", "taint", "state delete") and "opts" in step.declared.get(name, {}):
            # What was renamed is declared under another key: to replace it is to make another claim.
            self._settled.pop(name, None)
        ended = self._run(step)
        self._clear_up()
        self._say(f"      {ended}")
        if step.command == "destroy" and (ended == "exit 0" or _REFUSED in self._output):
            self._destroyed()
        if step.settle:
            self.settle()

    def _before(self, step: Step) -> None:
        """What happens before a step, besides the program's changes."""

    def settle(self) -> None:
        """A clean `up` mends whatever was left, and everything holds."""
        self._declare(self._declared, PATIENCE["calm"])
        if locked(self._stack):
            self._command("cancel", "--yes")
        status, output = self._command("up", "--yes", "--skip-preview")
        if status and _OTHER_COUNT.search(output):
            self._take_over(dict(_OTHER_COUNT.findall(output)))
            status, output = self._command("up", "--yes", "--skip-preview")
        if status and "`pulumi refresh`" in output:
            # A change that was taken and not written down, then another declaration: a person decides.
            self.counts["refreshes needed"] += 1
            self._command("refresh", "--yes", "--skip-preview")
            status, output = self._command("up", "--yes", "--skip-preview")
        while status and self._is_left_named(output):
            self._release_what_is_named()
            status, output = self._command("up", "--yes", "--skip-preview")
        if status:
            raise Violation(f"a clean `pulumi up` ended with {status}:\n{output}")
        left = self._cut_off().keys()
        self.counts["claims seen left by a change after a death"] += len(left)
        try:
            assert left <= self._left, (
                f"claims are alive whose declaration did not change: {left - self._left}"
            )
            assert_settled(self._stack, self._declared, left)
            invariants.no_second_post(self._emulator.requests(), self._left)
            self._nothing_was_lost()
        except AssertionError as error:
            raise Violation(str(error)) from error
        self.counts["clean ups"] += 1

    def _is_left_named(self, output: str) -> bool:
        """Whether an `up` refuses because of claims that are left, and names them all.

        With its last claim a program gives its namespace up, as `destroy` does.
        """
        return not self._declared and _REFUSED in output

    def _take_over(self, counts: Mapping[str, str]) -> None:
        """What the error about another count advises: declare the claim as it is, and change it afterwards."""
        self.counts["takeovers refused"] += 1
        as_they_are = {name: dict(claim) for name, claim in self._declared.items()}
        for name, count in counts.items():
            as_they_are[name]["resources"] = as_they_are[name]["resources"] | {"instance_count": int(count)}
        declared = self._declared
        self._declare(as_they_are, PATIENCE["calm"])
        self._command("up", "--yes", "--skip-preview")
        self._declare(declared, PATIENCE["calm"])

    def end(self) -> None:
        """A clean `up`, then `destroy` leaves nothing."""
        self.settle()
        self._left.update(self._cut_off())
        status, output = self._command("destroy", "--yes", "--skip-preview")
        if status and _REFUSED not in output:
            raise Violation(f"`pulumi destroy` ended with {status}:\n{output}")
        self._destroyed()

    def _destroyed(self) -> None:
        """`destroy` leaves nothing, or refuses to end and names what it would leave."""
        if _REFUSED in self._output:
            self._release_what_is_named()
            status, output = self._command("destroy", "--yes", "--skip-preview")
            if status:
                raise Violation(f"the second `pulumi destroy` ended with {status}:\n{output}")
        self._nothing_is_alive()

    def _nothing_is_alive(self) -> None:
        try:
            invariants.nothing_alive(self._emulator.claims(), self._stack.export().get("resources", []))
        except AssertionError as error:
            raise Violation(str(error)) from error

    def _release_what_is_named(self) -> None:
        """What a stack says that would not end while claims of it live: all of them, and no others."""
        self.counts["refusals to leave claims alive"] += 1
        left = self._cut_off()
        unnamed = [claim_id for claim_id in left if claim_id not in self._output]
        if unnamed or not left.keys() <= self._left:
            raise Violation(f"{left.keys()} are alive and not in the state; the output was:\n{self._output}")
        self._release(left)

    def _release(self, claim_ids: Collection[str]) -> None:
        for claim_id in claim_ids:
            self._say(f"      released: {claim_id}")
            self._emulator.edit_claim(claim_id, delete=True)

    def _nothing_was_lost(self) -> None:
        """A claim whose declaration is what it was keeps its id and its instances."""
        held = {claim.id: claim for claim in self._emulator.live_claims()}
        now: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
        for entry in entries(self._stack):
            name, claim = invariants.resource_name(entry), held[entry["id"]]
            created = claim.answer["status"]["createdAt"]  # type: ignore[index]
            kept = {k: v for k, v in self._declared[name]["resources"].items() if k != "instance_count"}
            now[name] = (entry["id"], created, kept)
        for name, before in self._settled.items():
            if name in now and now[name][2] == before[2]:
                assert now[name] == before, f"'{name}' was {before} and is {now[name]}"
        self._settled = now

    def _declare(self, claims: Claims, patience: str) -> None:
        self._note_what_is_left(claims)
        # A claim that is declared otherwise and then as before may have been replaced meanwhile.
        for name, claim in self._declared.items():
            if name not in claims or claims[name]["resources"] != claim["resources"]:
                self._settled.pop(name, None)
        self._declared = claims
        self._stack.declare(**{name: self._written(claim, patience) for name, claim in claims.items()})

    def _written(self, claim: Mapping[str, Any], patience: str) -> dict[str, Any]:
        """A claim as the program reads it."""
        return {**claim, "readiness": {"timeout": patience}}

    def _note_what_is_left(self, claims: Claims) -> None:
        """Claims that are in no state, and that no declaration would take over."""
        for claim_id, claim in self._cut_off().items():
            declared = claims.get(claim.name.rpartition("-")[0], {})
            resources = declared.get("resources", {})
            posted = (claim.instance_id, list(claim.zones))
            if (resources.get("instance_id"), resources.get("zones")) != posted:
                self._left.add(claim_id)

    def _cut_off(self) -> dict[str, ClaimRecord]:
        """The claims that were posted and are not in the state: the next `up` has to adopt them."""
        known = {entry["id"] for entry in entries(self._stack)}
        return {claim.id: claim for claim in self._emulator.live_claims() if claim.id not in known}

    def _run(self, step: Step) -> str:
        if locked(self._stack):
            self._command("cancel", "--yes")
        command, *rest = step.command.split(" ")
        if command in ("taint", "state"):
            self._operate_on_the_state(command, rest[-1])
            command, rest = "up", []
        arguments = [command, *(["--yes"] if command != "preview" else [])]
        if rest and rest[0].startswith("--"):
            arguments += [rest[0], self._urn(rest[1])]
        if command != "preview" and rest[:1] != ["with"]:
            arguments.append("--skip-preview")
        self.counts["operations"] += 1
        self._output = ""
        with Operation(self._stack, *arguments) as operation:
            if step.weather == "death":
                until(lambda: operation.ended or bool(self._emulator.holds()), timeout=180)
                if not operation.ended:
                    self.counts["deaths"] += 1
                    return self._die(operation, step)
            status = operation.wait(180)
            self._output = operation.output
            if "Traceback" in operation.output:
                raise Violation(f"a traceback:\n{operation.output}")
            return f"exit {status}"

    def _urn(self, name: str) -> str:
        return f"urn:pulumi:{self._stack.name}::claims::{self.type}::{name}"

    def _operate_on_the_state(self, command: str, name: str) -> None:
        """`pulumi state taint`, or `pulumi state delete` of all entries of a claim that has not been renamed."""
        if name not in self._stack.resources():
            return
        self.counts["acts on the state"] += 1
        if command == "taint":
            self._command("state", "taint", self._urn(name), "--yes")
            return
        made_as = {entry["id"] for entry in entries(self._stack) if entry["urn"] == self._urn(name)}
        renamed = "opts" in self._declared.get(name, {})
        if len(made_as) != 1 or renamed:
            return
        self._command("state", "delete", self._urn(name), "--yes", "--force")
        self._settled.pop(name, None)
        self._note_what_is_left(self._declared)

    def _die(self, operation: Operation, step: Step) -> str:
        if step.death == "kill":
            operation.kill()
        elif step.death == "kill-cli":
            operation.kill_cli()
        elif step.death == "kill-provider":
            operation.kill_provider()
        else:
            operation.interrupt()
            if step.death == "interrupt-twice":
                operation.interrupt_again()
        self._clear_up()
        if step.death in ("kill-provider", "interrupt"):
            operation.wait(180)
        if mend_torn_state(self._stack):
            self.counts["states torn by the engine's death"] += 1
            self._say("      the state was torn, and is taken from its backup")
        return f"died of {step.death}"

    def _clear_up(self) -> None:
        """Fair weather again; what was sent is taken now."""
        self._emulator.clear_faults()
        self._emulator.release()
        until(lambda: all(each.seconds is not None for each in self._emulator.requests()))
        self._emulator.set_inventory(STOCK)

    def _command(self, *arguments: str) -> tuple[int, str]:
        self.counts["operations"] += 1
        with Operation(self._stack, *arguments) as operation:
            status = operation.wait(240)
            self._output = operation.output
            return status, operation.output


class NativeSoak(Soak):
    """The same with native resources: no resource of the stack refuses to end while claims are left.

    Half of the seeds declare a provider. The default one gets another id with another version of the SDK, and
    when a program has had no claim for an `up`; then a declaration whose claim was left is refused, and names
    that claim.
    """

    kind = NativeStack
    type = NATIVE_TYPE
    _sdk = 0  # the patch level of its version

    def environment(self, seed: int) -> dict[str, str]:
        is_declared = random.Random(f"provider {seed}").choice((True, False))
        self._say(f"the provider is {'declared' if is_declared else 'the default one'}")
        return super().environment(seed) | ({"NATIVE_PROVIDER": "{}"} if is_declared else {})

    def _before(self, step: Step) -> None:
        is_declared = "NATIVE_PROVIDER" in self._stack.environment
        if random.Random(f"sdk {step.seed}").random() < 0.15 and not is_declared:
            self._sdk += 1
            self.counts["upgrades of the SDK"] += 1
            self._say(f"      the SDK is 0.0.{self._sdk}")
            self._left.update(self._cut_off())

    def settle(self) -> None:
        """An `up` reads no claim that it does not change; that one is gone, a refresh tells."""
        alive = {claim.id for claim in self._emulator.live_claims()}
        if not {entry["id"] for entry in entries(self._stack)} <= alive:
            self.counts["refreshes of claims that are gone"] += 1
            if locked(self._stack):
                self._command("cancel", "--yes")
            self._command("refresh", "--yes", "--skip-preview")
        super().settle()

    def _written(self, claim: Mapping[str, Any], patience: str) -> dict[str, Any]:
        written = super()._written(claim, patience)
        aliases = claim.get("opts", {}).get("aliases", [])
        options = {"aliases": [{"name": name} for name in aliases], "version": f"0.0.{self._sdk}"}
        return written | {"opts": options}

    def _is_left_named(self, output: str) -> bool:
        return _TWIN in output

    def _release_what_is_named(self) -> None:
        self.counts["twins refused"] += 1
        left = self._cut_off()
        refused = set(_TWIN_ID.findall(self._output))
        held = [entry["urn"] for entry in entries(self._stack) if entry["id"] in refused]
        if held:  # its replacement is forced
            self.counts["forced replacements refused"] += 1
            self._command("state", "untaint", *held, "--yes")
            return
        if not refused or not refused <= left.keys():
            raise Violation(f"{left.keys()} are alive and not in the state; the output was:\n{self._output}")
        self._left |= refused  # made before an upgrade of the SDK, and taken out of the state after it
        self._release(refused)

    def _destroyed(self) -> None:
        """`destroy` leaves nothing but the claims of creates that were cut off."""
        left = self._cut_off().keys()
        if not left <= self._left:
            raise Violation(f"`pulumi destroy` has left {left - self._left}; the output was:\n{self._output}")
        self.counts["claims left by a destroy after a death"] += len(left)
        self._release(left)
        self._nothing_is_alive()


FACES: Final[dict[str, type[Soak]]] = {"dynamic": Soak, "native": NativeSoak}


def soak(
    seed: int,
    say: Callable[[str], None],
    minutes: float = 1e9,
    maximum: int = sys.maxsize,
    face: str = "dynamic",
) -> Counter[str]:
    """Work for so long, or so many steps; answers the counts. Raises `Violation`."""
    draw = random.Random(f"emulator {seed}")
    settings = EmulatorSettings(
        inventory=STOCK,
        allocation_delay=draw.choice((0.0, 0.3, 1.0)),
        delete_delay=draw.choice((0.0, 0.0, 0.5)),
        error_form=draw.choice(("connect", "status")),
        omit_zeros=draw.choice((True, False)),
        reuse_ids=draw.choice((True, True, False)),
        list_lag=draw.choice((0.0, 0.0, 1.0)),
        stale_status_for=draw.choice((0.0, 0.0, 1.0)),
    )
    say(f"seed {seed}: {settings}")
    until_ = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Emulator(settings) as emulator:
        work = FACES[face](seed, Path(folder), emulator, say)
        try:
            for number, step in enumerate(steps(seed), 1):
                say(f"{number:4}  {step}")
                work.take(step)
                if number >= maximum or time.monotonic() > until_:
                    break
            work.end()
        except (Violation, TimeoutError) as error:
            work.counts["violations"] += 1
            log = "\n".join(
                f"  {each.sequence} {each.method} {each.claim} {each.status} {each.fault or ''} "
                f"{'committed' if each.committed else ''}"
                for each in emulator.requests()[-60:]
            )
            say(f"the last requests:\n{log}")
            raise Violation(f"seed {seed}, step {number}: {error}") from error
        finally:
            work.counts["faults"] = sum(1 for each in emulator.requests() if each.fault)
            work.counts["steps"] = number
    return work.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--steps", type=int, default=sys.maxsize, help="at most so many")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--face", choices=FACES, default="dynamic", help="which resource the claims are")
    given = parser.parse_args()
    # The engine may be shared with other clones; its language host runs with this one's Python.
    os.environ.setdefault("PULUMI_COREWEAVE_HOST_PYTHON", sys.executable)
    os.environ["PATH"] = f"{os.environ.get('PULUMI_ENGINE_DIR', '')}{os.pathsep}{os.environ['PATH']}"

    def say(line: str) -> None:
        print(line, flush=True)  # a script that talks to a terminal

    try:
        counts = soak(given.seed, say, given.minutes, given.steps, given.face)
    except Violation as violation:
        say(
            f"\nVIOLATION: {violation}\n\nreplay: python tests/soak/soak.py --seed {given.seed} --face {given.face}"
        )
        sys.exit(1)
    say("\n" + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + ", 0 violations")


if __name__ == "__main__":
    main()
