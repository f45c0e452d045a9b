"""A stack whose claims are native resources: the same declarations, without an SDK of the package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from support.stack import PROJECT, ROOT, Stack

TYPE: Final = "coreweave-inference:index:CapacityClaim"
PROVIDER: Final = "pulumi:providers:coreweave-inference"
PLUGIN_AT: Final = "plugins:\n  providers:\n    - {{name: coreweave-inference, path: {}}}\n"  # in Pulumi.yaml
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
        write_plugin(self.folder.parent / "plugin")
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
            + PLUGIN_AT.format("../plugin"),
            encoding="utf-8",
        )


def write_plugin(folder: Path) -> None:
    """Write the executable of the plugin, which runs this Python."""
    folder.mkdir(exist_ok=True)
    executable = folder / "pulumi-resource-coreweave-inference"
    executable.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m pulumi_coreweave_inference.native "$@"\n', encoding="utf-8"
    )
    executable.chmod(0o755)


SDK_PROGRAM: Final = """
import json
import sys

sys.path.insert(0, {sdk!r})

import pulumi

import pulumi_coreweave_inference_native as native

with open("claims.json", encoding="utf-8") as file:
    declared = json.load(file)

claims = {{}}
for name, arguments in declared.items():
    options = arguments.pop("opts", {{}})
    options.pop("aliases", None)  # the SDK has that of the dynamic resource
    if "custom_timeouts" in options:
        options["custom_timeouts"] = pulumi.CustomTimeouts(**options["custom_timeouts"])
    readiness = arguments.get("readiness")
    secret = arguments.get("secret_name")
    claims[name] = native.CapacityClaim(
        name,
        resources=native.CapacityClaimResourcesArgs(**arguments["resources"]),
        name=pulumi.Output.secret(secret) if secret else arguments.get("name"),
        readiness=native.ReadinessArgs(**readiness) if readiness else None,
        opts=pulumi.ResourceOptions(**options),
    )

pulumi.export("claims", {{name: claim.id for name, claim in claims.items()}})
"""


@dataclass
class SdkStack(NativeStack):
    """The same with the generated SDK for Python, installed beside the program."""

    def become_native(self) -> None:
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        installed = self.folder.parent / "sdk"
        command = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            installed,
            ROOT / "sdks" / "python",
        ]
        subprocess.run(command, check=True)
        self.use(SDK_PROGRAM.format(sdk=str(installed)))


_CAMEL: Final = {
    "instance_id": "instanceId",
    "instance_count": "instanceCount",
    "capacity_type": "capacityType",
    "min_instances": "minInstances",
    "on_timeout": "onTimeout",
    "custom_timeouts": "customTimeouts",
    "import_": "import",
}


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_CAMEL.get(name, name): value for name, value in values.items()}


@dataclass
class YamlStack(NativeStack):
    """The same as a program in YAML, whose language host lies beside the engine."""

    _declared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _is_native: bool = False

    def become_native(self) -> None:
        self._is_native = True
        # after a move, the engine deletes the ClaimNamespace by the dynamic provider, outside of its project
        self.environment["PULUMI_PYTHON_CMD"] = sys.executable
        self.declare(**self._declared)

    def use(self, program: str) -> None:
        self._is_native = False
        super().use(program)

    def declare(self, **claims: Mapping[str, Any]) -> None:
        super().declare(**claims)
        self._declared = claims
        if self._is_native:
            program = {
                "name": PROJECT,
                "runtime": "yaml",
                "plugins": {"providers": [{"name": "coreweave-inference", "path": "../plugin"}]},
                "resources": {name: _in_yaml(each) for name, each in claims.items()},
            }
            (self.folder / "Pulumi.yaml").write_text(json.dumps(program), encoding="utf-8")  # JSON is YAML


def _in_yaml(given: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {"resources": _camel(given["resources"])}
    if given.get("readiness"):
        properties["readiness"] = _camel(given["readiness"])
    if "name" in given:
        properties["name"] = given["name"]
    if "secret_name" in given:
        properties["name"] = {"fn::secret": given["secret_name"]}
    options = {name: each for name, each in _camel(given.get("opts", {})).items() if name != "aliases"}
    return {"type": "coreweave-inference:CapacityClaim", "properties": properties, "options": options}
