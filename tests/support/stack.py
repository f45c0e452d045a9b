"""A stack on the real engine: a program that declares what a test says, against an emulator."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from coreweave_inference.emulator import Emulator

ROOT: Final = Path(__file__).resolve().parents[2]

PROJECT: Final = "claims"
PROGRAM: Final = """
import json

import pulumi

import pulumi_coreweave_inference as inference

with open("claims.json", encoding="utf-8") as file:
    declared = json.load(file)

claims = {}
for name, arguments in declared.items():
    options = arguments.pop("opts", {})
    if "depends_on" in options:
        options["depends_on"] = [claims[other].ready for other in options["depends_on"]]
    if "deleted_with" in options:
        options["deleted_with"] = claims[options["deleted_with"]]
    if "parent" in options:
        options["parent"] = pulumi.ComponentResource("test:index:" + options["parent"], options["parent"])
    if "aliases" in options:
        options["aliases"] = [pulumi.Alias(name=alias) for alias in options["aliases"]]
    if "readiness" in arguments:
        readiness = arguments.pop("readiness")
        arguments["readiness"] = None if readiness is None else inference.Readiness(**readiness)
    claims[name] = inference.CapacityClaim(name, pulumi.ResourceOptions(**options), **arguments)

pulumi.export("claims", {name: claim.id for name, claim in claims.items()})
pulumi.export("allocated", {name: claim.allocated_instances for name, claim in claims.items()})
pulumi.export("status", {name: claim.status for name, claim in claims.items()})
"""

FORWARD: Final = ["US-WEST-04A", "US-EAST-04A"]
BACKWARD: Final = FORWARD[::-1]


def claim(count: int = 4, zones: list[str] | None = None, **arguments: Any) -> dict[str, Any]:
    """The arguments of a claim: four gb200-4x in two zones, unless said."""
    resources = {"instance_id": "gb200-4x", "instance_count": count, "zones": zones or FORWARD}
    resources |= arguments.pop("resources", {})
    return {"resources": resources, "readiness": {"timeout": "60s"}} | arguments


class CommandFailed(AssertionError):
    """A command of the CLI ended with an error, which is the text of this one."""


@dataclass
class Stack:
    """One stack with a folder of its own. Its operations raise `CommandFailed`."""

    folder: Path
    emulator: Emulator
    environment: dict[str, str] = field(default_factory=dict)
    name: str = "test"
    output: str = ""  # what the last command printed

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._backend = self.folder.parent / "state"
        self._backend.mkdir(exist_ok=True)
        self.environment = {
            "PULUMI_HOME": str(self.folder.parent / "home"),
            "PULUMI_BACKEND_URL": self._backend.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            "PULUMI_SKIP_CONFIRMATIONS": "true",
            "COREWEAVE_READ_GRACE": "2s",
            "CI": "true",  # one way to show waits, whether or not the tests have a terminal
            **self.emulator.environment(),
            **self.environment,
        }
        (self.folder / "__main__.py").write_text(PROGRAM, encoding="utf-8")
        (self.folder / "Pulumi.yaml").write_text(
            f"name: {PROJECT}\nruntime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n",
            encoding="utf-8",
        )
        self.declare()
        self.pulumi("stack", "init")

    def declare(self, **claims: Mapping[str, Any]) -> None:
        """Make the program declare exactly these claims."""
        (self.folder / "claims.json").write_text(json.dumps(claims), encoding="utf-8")

    def up(self, *arguments: str) -> dict[str, int]:
        """`pulumi up`; the number of resources by what happened to them."""
        self.pulumi("up", "--yes", "--skip-preview", *arguments)
        return self._changes()

    def refresh(self) -> dict[str, int]:
        """`pulumi refresh`; the number of resources by what happened to them."""
        self.pulumi("refresh", "--yes", "--skip-preview")
        return self._changes()

    def destroy(self) -> dict[str, int]:
        """`pulumi destroy`; the number of resources by what happened to them."""
        self.pulumi("destroy", "--yes", "--skip-preview")
        return self._changes()

    def preview(self) -> dict[str, dict[str, Any]]:
        """The steps of `pulumi preview --json` by resource name, without those that change nothing."""
        steps = json.loads(self.pulumi("preview", "--json").stdout)["steps"]
        return {step["urn"].rpartition("::")[2]: step for step in steps if step["op"] != "same"}

    def pulumi(self, *arguments: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Any command of the CLI in the stack's folder."""
        if arguments[:2] != ("state", "move"):  # which takes two stacks
            arguments = (*arguments, "--stack", self.name)
        done = subprocess.run(
            ["pulumi", *arguments],
            cwd=self.folder,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **more,
        )
        self.output = done.stdout + done.stderr
        if check and done.returncode:
            raise CommandFailed(f"pulumi {' '.join(arguments)} ended with {done.returncode}:\n{self.output}")
        return done

    def command(self, line: str) -> subprocess.CompletedProcess[str]:
        """A command of this package in the stack's folder, written as for a POSIX shell."""
        programs = Path(sys.executable).parent
        done = subprocess.run(
            shlex.split(line),
            cwd=self.folder,
            env=os.environ | self.environment | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.output = done.stdout + done.stderr
        return done

    @property
    def state_file(self) -> Path:
        """Where the engine keeps the stack's state."""
        return self._backend / ".pulumi" / "stacks" / PROJECT / f"{self.name}.json"

    def export(self) -> dict[str, Any]:
        """The stack's state as it lies on the disk, which needs no command and no lock."""
        checkpoint = json.loads(self.state_file.read_text(encoding="utf-8"))["checkpoint"]
        return checkpoint["latest"] or {}

    def outputs(self) -> dict[str, Any]:
        """The outputs of the program."""
        (root,) = (each for each in self.export()["resources"] if each["type"] == "pulumi:pulumi:Stack")
        outputs: dict[str, Any] = root["outputs"]
        return outputs

    def resources(self) -> dict[str, dict[str, Any]]:
        """The claims in the state, by resource name."""
        return {
            resource["urn"].rpartition("::")[2]: resource
            for resource in self.export().get("resources", [])
            if resource["type"].endswith(":CapacityClaim") and not resource.get("delete")
        }

    def writes(self) -> list[str]:
        """The methods of the calls that changed something, since the log was cleared."""
        return [record.method for record in self.emulator.requests() if record.method != "GET"]

    def _changes(self) -> dict[str, int]:
        history = self._backend / ".pulumi" / "history" / PROJECT / self.name
        last = max(history.glob("*.history.json"))
        changes: dict[str, int] = json.loads(last.read_text(encoding="utf-8"))["resourceChanges"]
        return changes


__all__ = ["BACKWARD", "FORWARD", "CommandFailed", "Stack", "claim"]
