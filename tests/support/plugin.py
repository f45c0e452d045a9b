"""The provider process as the engine runs it: `python -m pulumi.dynamic`, spoken to over gRPC."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import grpc
from google.protobuf import struct_pb2
from pulumi.dynamic import ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from pulumi_coreweave_inference import CapacityClaimProvider, ClaimNamespaceProvider
from support.forked import ForkedPlugin

UNKNOWN: Final = rpc.UNKNOWN
"""How a value that is not known yet is written in properties sent to the plugin."""

Properties = dict[str, Any]
BY_GRPC: Final = "Exception calling application: "


class PluginError(Exception):
    """What the plugin answered instead of a result, as the engine would show it."""


@dataclass(frozen=True)
class Diff:
    """The plugin's answer to a diff: `changes` is "none", "some" or "unknown"."""

    changes: str
    replaces: list[str]


@dataclass(frozen=True)
class Checked:
    """The plugin's answer to a check."""

    inputs: Properties
    failures: list[str] = field(default_factory=list)


class Plugin:
    """One provider process, from its start to its end.

    `fork`: start it from a process that has made its imports. Otherwise it starts as the engine starts it.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        config: Mapping[str, str] | None = None,
        provider: type[ResourceProvider] = CapacityClaimProvider,
        *,
        fork: bool = True,
    ) -> None:
        self.printed = ""
        """What the process has shown to the user, once it has ended."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("COREWEAVE", "CW_"))}
        environment = inherited | dict(environment or {})
        # Only a process of its own is measured by coverage.
        self._process = (
            ForkedPlugin(environment)
            if fork and "COVERAGE_PROCESS_CONFIG" not in os.environ
            else subprocess.Popen(
                [sys.executable, "-u", "-m", "pulumi.dynamic"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
        )
        assert self._process.stdout
        port = int(self._process.stdout.readline())
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        self._provider = serialize_provider(provider())
        self._stub.Configure(
            provider_pb2.ConfigureRequest(args=_struct(dict(config or {}))), wait_for_ready=True
        )

    def __enter__(self) -> Plugin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def of(self, provider: type[ResourceProvider]) -> Plugin:
        """The same process, asked for another kind of resource."""
        other = copy.copy(self)
        other._provider = serialize_provider(provider())
        return other

    def close(self) -> str:
        """End the process as the engine does, and answer what it printed."""
        return self._end(signal.SIGINT)

    def kill(self) -> str:
        """End the process without a warning."""
        return self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> str:
        self._channel.close()
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            out, err = self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
        self.printed = out.decode()
        return (out + err).decode()

    def check(self, olds: Properties, news: Properties) -> Checked:
        """Validate inputs."""
        answer = self._call(
            self._stub.Check,
            provider_pb2.CheckRequest(olds=self._sent(olds), news=self._sent(news)),
        )
        failures = [failure.reason for failure in answer.failures]
        return Checked(_properties(answer.inputs), failures)

    def diff(self, id: str, olds: Properties, news: Properties) -> Diff:
        """Compare outputs with inputs."""
        answer = self._call(
            self._stub.Diff,
            provider_pb2.DiffRequest(id=id, olds=self._sent(olds), news=self._sent(news)),
        )
        changes = {0: "unknown", 1: "none", 2: "some"}[answer.changes]
        return Diff(changes, list(answer.replaces))

    def create(self, props: Properties) -> tuple[str, Properties]:
        """Create; the id and the outputs."""
        answer = self._call(self._stub.Create, provider_pb2.CreateRequest(properties=self._sent(props)))
        return answer.id, _properties(answer.properties)

    def read(self, id: str, props: Properties) -> tuple[str, Properties, Properties]:
        """Read; the id (empty: gone), the outputs and the inputs (empty: as they were)."""
        answer = self._call(self._stub.Read, provider_pb2.ReadRequest(id=id, properties=self._sent(props)))
        return answer.id, _properties(answer.properties), _properties(answer.inputs)

    def update(self, id: str, olds: Properties, news: Properties) -> Properties:
        """Update in place; the outputs."""
        answer = self._call(
            self._stub.Update,
            provider_pb2.UpdateRequest(id=id, olds=self._sent(olds), news=self._sent(news)),
        )
        return _properties(answer.properties)

    def delete(self, id: str, props: Properties) -> None:
        """Delete."""
        self._call(self._stub.Delete, provider_pb2.DeleteRequest(id=id, properties=self._sent(props)))

    def _sent(self, props: Properties) -> struct_pb2.Struct:
        return _struct(props | {"__provider": self._provider})

    @staticmethod
    def _call(method: Any, request: Any) -> Any:
        try:
            return method(request)
        except grpc.RpcError as error:
            # Older SDKs leave exceptions to gRPC, which puts a few words before them.
            raise PluginError((error.details() or "").removeprefix(BY_GRPC)) from None


def _struct(props: Properties) -> struct_pb2.Struct:
    return asyncio.run(rpc.serialize_properties(props, {}))


def _properties(struct: struct_pb2.Struct) -> Properties:
    props = rpc.deserialize_properties(struct, True)
    props.pop("__provider", None)
    return props


def claim_inputs(
    namespace: str = "6f9f9c3e-1f0a-4f0e-9d3f-3f1d1c1b1a10",
    *,
    key: str = "pulumi-python:dynamic/capacityClaim:CapacityClaim::training",
    name: str | None = None,
    **resources: Any,
) -> Properties:
    """The inputs of a claim as a program sends them: four gb200-4x in two zones, unless said."""
    inputs: Properties = {
        "resources": {
            "instanceId": "gb200-4x",
            "instanceCount": 4,
            "zones": ["US-WEST-04A", "US-EAST-04A"],
        }
        | resources,
        "identity": {"declaration": key, "namespace": namespace},
    }
    return inputs if name is None else inputs | {"name": name}


def plain(text: str) -> str:
    """A text with what differs from run to run replaced: ids by order of appearance, and so on."""
    seen: dict[str, str] = {}
    text = re.sub(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        lambda found: seen.setdefault(found[0], f"<id {len(seen) + 1}>"),
        text,
    )
    text = re.sub(r"\d+ attempts?, request id emulator-\d+", "<n> attempts, request id <request>", text)
    return re.sub(r"\b(training|renamed|a)-[0-9a-f]{7}\b", r"\1-<digits>", text)


__all__ = [
    "UNKNOWN",
    "Checked",
    "ClaimNamespaceProvider",
    "Diff",
    "Plugin",
    "PluginError",
    "claim_inputs",
    "plain",
]
