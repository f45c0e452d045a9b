"""Properties as the engine sends them, and as plain values.

Secrets arrive wrapped, because the server accepts them: so it knows which inputs no text may show, and wraps
the same ones in what it returns. Values that are not known yet are `pulumi.output.Unknown`, at any depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import Message
from pulumi.output import UNKNOWN, Unknown
from pulumi.runtime import rpc

from pulumi_coreweave_inference.inputs import RESOURCE_FIELDS

Properties = dict[str, Any]

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"  # the protocol's key for values that are wrapped
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # and its value for secrets
_CODE: Final = 2  # UNKNOWN, with which the engine looks for details


def plain(struct: struct_pb2.Struct) -> tuple[Properties, frozenset[str]]:
    """The values without their wraps, and which inputs are secret: `name`, and fields of `resources`."""
    secrets: set[str] = set()
    values = {name: _plain(value, (name,), secrets) for name, value in struct.fields.items()}
    return values, frozenset(secrets)


def _plain(value: struct_pb2.Value, path: tuple[str, ...], secrets: set[str]) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            fields = value.struct_value.fields
            if _SIGNATURE in fields:
                if fields[_SIGNATURE].string_value != _SECRET:
                    return None  # assets, archives, resources: no input here takes one
                secrets.update(_named(path))
                return _plain(fields["value"], path, secrets)
            return {name: _plain(part, (*path, name), secrets) for name, part in fields.items()}
        case "list_value":
            return [_plain(part, path, secrets) for part in value.list_value.values]
        case "string_value":
            return UNKNOWN if value.string_value == rpc.UNKNOWN else value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _named(path: tuple[str, ...]) -> Iterable[str]:
    if path == ("resources",):
        return RESOURCE_FIELDS
    return [path[1] if path[0] == "resources" else path[0]]


def struct(values: Mapping[str, Any], secrets: Iterable[str] = ()) -> struct_pb2.Struct:
    """The values as the engine takes them, with the secret ones wrapped."""
    secret = set(secrets)
    sent = {name: _sent(value) for name, value in values.items()}
    secret |= {"allocatedInstances"} if "instanceCount" in secret else set()
    for name in {"name", "readiness", "allocatedInstances"} & secret & sent.keys():
        sent[name] = _wrapped(sent[name])
    if isinstance(values.get("resources"), Mapping):
        sent["resources"] = {
            name: _wrapped(value) if name in secret else value for name, value in sent["resources"].items()
        }
    result = struct_pb2.Struct()
    result.update(sent)
    return result


def _sent(value: object) -> Any:
    if isinstance(value, Unknown):
        return rpc.UNKNOWN
    if isinstance(value, Mapping):
        return {name: _sent(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sent(part) for part in value]
    return value


def _wrapped(value: Any) -> dict[str, Any]:
    return {_SIGNATURE: _SECRET, "value": value}


def status_with(detail: Message, message: str) -> bytes:
    """A serialized `google.rpc.Status` with one detail, which gRPC carries in its trailers.

    Written by hand, because the package with its class is no dependency of the SDK.
    """
    packed = any_pb2.Any()
    packed.Pack(detail)
    text, content = message.encode(), packed.SerializeToString()
    return b"".join(
        (b"\x08", _varint(_CODE), b"\x12", _varint(len(text)), text, b"\x1a", _varint(len(content)), content)
    )


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
