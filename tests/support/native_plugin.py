"""The native plugin as the engine runs it, spoken to over gRPC, and an engine that keeps what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime import rpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc

Properties = dict[str, Any]

TYPE: Final = "coreweave-inference:index:CapacityClaim"
SECONDS: Final = 60.0  # for one call


def urn_of(name: str) -> str:
    return f"urn:pulumi:test::claims::{TYPE}::{name}"


def sent(values: Mapping[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(dict(values))
    return made


def received(struct: struct_pb2.Struct) -> Properties:
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return received(value.struct_value)
    if kind == "list_value":
        return [_value(part) for part in value.list_value.values]
    return getattr(value, kind) if kind and kind != "null_value" else None


def secret(value: Any) -> Properties:
    """A secret as the engine sends it."""
    return {rpc._special_sig_key: rpc._special_secret_sig, "value": value}


class InitFailed(Exception):
    """A resource that is to be in the state, though it is not ready."""

    def __init__(self, detail: provider_pb2.ErrorResourceInitFailed) -> None:
        super().__init__("\n".join(detail.reasons))
        self.id: str = detail.id
        self.properties = received(detail.properties)
        self.inputs = received(detail.inputs)


class Refused(Exception):
    """A call that ended with an error, which is its text."""


class Engine(engine_pb2_grpc.EngineServicer):
    """Keeps the lines that the plugin shows."""

    def __init__(self) -> None:
        self.lines: list[engine_pb2.LogRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        engine_pb2_grpc.add_EngineServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Log(self, request: engine_pb2.LogRequest, context: Any) -> Empty:  # noqa: N802 - the protocol's name
        self.lines.append(request)
        return Empty()

    def close(self) -> None:
        self._server.stop(0)


class NativePlugin:
    """One process of the native plugin, configured."""

    def __init__(
        self,
        environment: Mapping[str, str],
        config: Mapping[str, Any] | None = None,
        provider_id: str = "5e0f62a7-8b1f-4f0a-9c8e-2b8d6a1d7c10",
        engine: Engine | None = None,
        declared_as: str = "",
    ) -> None:
        inherited = {name: v for name, v in os.environ.items() if not name.startswith(("COREWEAVE", "CW_"))}
        self.engine = engine or Engine()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pulumi_coreweave_inference.native", self.engine.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=inherited | {"CI": "true"} | dict(environment),
        )
        assert self.process.stdout
        port = int(self.process.stdout.readline())
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        urn = f"urn:pulumi:test::claims::pulumi:providers:coreweave-inference::{declared_as or 'default'}"
        request = provider_pb2.ConfigureRequest(args=sent(config or {}), id=provider_id, urn=urn)
        self.call("Configure", request)

    def __enter__(self) -> NativePlugin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> str:
        """End the process as an engine that is gone; what it has written to stderr."""
        self._channel.close()
        assert self.process.stdin
        if self.process.stdin.closed:
            return ""
        self.process.stdin.close()
        try:
            self.process.wait(20)
        finally:
            self.process.send_signal(signal.SIGKILL)
            self.engine.close()
        assert self.process.stderr
        with self.process.stderr as stderr, self.process.stdout or stderr:
            return stderr.read().decode()

    def call(self, method: str, request: Any) -> Any:
        """The response; raises `InitFailed` or `Refused`."""
        try:
            return getattr(self.stub, method)(request, timeout=SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise failure(error) from None

    def later(self, method: str, request: Any) -> Any:
        """A call under way; `result()` of what this returns raises as `grpc` does."""
        return getattr(self.stub, method).future(request, timeout=SECONDS)

    def check(self, news: Mapping[str, Any], name: str = "training") -> tuple[Properties, list[str]]:
        response = self.call("Check", provider_pb2.CheckRequest(urn=urn_of(name), news=sent(news)))
        return received(response.inputs), [each.reason for each in response.failures]

    def creation(self, news: Mapping[str, Any], name: str = "training", **more: Any) -> Any:
        return provider_pb2.CreateRequest(urn=urn_of(name), properties=sent(news), **more)

    def create(self, news: Mapping[str, Any], name: str = "training", **more: Any) -> tuple[str, Properties]:
        response = self.call("Create", self.creation(news, name, **more))
        return response.id, received(response.properties)

    def read(
        self, id: str, properties: Mapping[str, Any], inputs: Mapping[str, Any], name: str = "training"
    ) -> tuple[str, Properties, Properties]:
        request = provider_pb2.ReadRequest(
            id=id, urn=urn_of(name), properties=sent(properties), inputs=sent(inputs)
        )
        response = self.call("Read", request)
        return response.id, received(response.properties), received(response.inputs)

    def diff(
        self,
        id: str,
        olds: Mapping[str, Any],
        news: Mapping[str, Any],
        old_inputs: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Any:
        request = provider_pb2.DiffRequest(
            id=id,
            urn=urn_of("training"),
            olds=sent(olds),
            news=sent(news),
            old_inputs=sent(old_inputs or news),
            **more,
        )
        return self.call("Diff", request)

    def delete(self, id: str, properties: Mapping[str, Any], name: str = "training") -> None:
        self.call("Delete", provider_pb2.DeleteRequest(id=id, urn=urn_of(name), properties=sent(properties)))

    def invoke(self, function: str, arguments: Mapping[str, Any]) -> Properties:
        token = f"coreweave-inference:index:{function}"
        response = self.call("Invoke", provider_pb2.InvokeRequest(tok=token, args=sent(arguments)))
        return received(getattr(response, "return"))


def failure(error: grpc.RpcError) -> Exception:
    """What the engine makes of an error."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            detail = provider_pb2.ErrorResourceInitFailed()
            assert _detail_in(value).Unpack(detail)
            return InitFailed(detail)
    return Refused(error.details())


def _detail_in(status: bytes) -> any_pb2.Any:
    """The detail of a `google.rpc.Status`, its field 3, which comes last."""
    start = status.index(b"\ntype.googleapis.com/".replace(b"\n", b""))
    return any_pb2.Any.FromString(status[start - 2 :])
