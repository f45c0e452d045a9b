"""A stack whose claims are native resources: the same declarations, without an SDK of the package."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from support.stack import PROJECT, Stack

TYPE: Final = "coreweave-inference:index:CapacityClaim"
PROVIDER: Final = "pulumi:providers:coreweave-inference"
PROGRAM: Final = """
import json
import os

import pulumi

with open("claims.json", encoding="utf-8") as file:
    declared = json.load(file)

CAMEL = {"instance_id": "instanceId", "instance_count": "instanceCount", "capacity_type": "capacityType"}
READINESS = {"min_instances": "minInstances", "on_timeout": "onTimeout"}
OUTPUTS = ("organizationId", "status", "allocatedInstances", "createdAt", "updatedAt")


class Settings(pulumi.ProviderResource):
    def __init__(self, props):
        super().__init__("coreweave-inference", "claims", props)


class Claim(pulumi.CustomResource):
    def __init__(self, name, props, opts):
        props = {"name": None, **props, **dict.fromkeys(OUTPUTS)}
        super().__init__("coreweave-inference:index:CapacityClaim", name, props, opts)


settings = json.loads(os.environ.get("NATIVE_PROVIDER", "null"))
provider = None if settings is None else Settings(settings)
claims = {}
for name, arguments in declared.items():
    options = {"provider": provider, **arguments.pop("opts", {})}
    if "depends_on" in options:
        options["depends_on"] = [claims[other] for other in options["depends_on"]]
    if "aliases" in options:
        options["aliases"] = [pulumi.Alias(**alias) for alias in options["aliases"]]
    if "custom_timeouts" in options:
        options["custom_timeouts"] = pulumi.CustomTimeouts(**options["custom_timeouts"])
    props = {"resources": {CAMEL.get(key, key): value for key, value in arguments["resources"].items()}}
    if arguments.get("readiness"):
        props["readiness"] = {READINESS.get(key, key): value for key, value in arguments["readiness"].items()}
    if "name" in arguments:
        props["name"] = arguments["name"]
    if arguments.get("secret_name"):
        props["name"] = pulumi.Output.secret(arguments["secret_name"])
    claims[name] = Claim(name, props, pulumi.ResourceOptions(**options))

pulumi.export("claims", {name: claim.id for name, claim in claims.items()})
"""


@dataclass
class NativeStack(Stack):
    """A `Stack` whose claims the native plugin serves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plugin = self.folder.parent / "plugin"
        plugin.mkdir(exist_ok=True)
        executable = plugin / "pulumi-resource-coreweave-inference"
        executable.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -m pulumi_coreweave_inference.native "$@"\n',
            encoding="utf-8",
        )
        executable.chmod(0o755)
        self.become_native()

    def become_native(self) -> None:
        """Let the program declare native claims."""
        self.use(PROGRAM)

    def use(self, program: str) -> None:
        """Let the stack run another program, with the plugin at hand."""
        (self.folder / "__main__.py").write_text(program, encoding="utf-8")
        (self.folder / "Pulumi.yaml").write_text(
            f"name: {PROJECT}\n"
            f"runtime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n"
            "plugins:\n  providers:\n    - {name: coreweave-inference, path: ../plugin}\n",
            encoding="utf-8",
        )
