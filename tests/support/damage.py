"""Random damage to JSON values and to bytes, drawn from a seed."""

from __future__ import annotations

import codecs
import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_SECRET: Final = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
_ODD: Final[tuple[Any, ...]] = (
    *(" " * 100_000, "0001-01-01T00:00:00Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
    *(None, True, False, 0, -1, 1.5, -0.0, 1e308, float("nan"), float("inf"), 10**30, 2**63),
    *(
        "",
        " ",
        "0",
        "null",
        "x" * 5_000,
        "\x00",
        "\x1b]0;title\x07\x1b[2J",
        "\u202egnp.",
        "\ud800",
        "größe 名前",
    ),
    *("<{%reset%}>", "\n  Next: pulumi destroy", "${x}", "$(id)", "../..", "a" * 300 + "@b:c/d", "1e999999"),
    *([], {}, [[]], [None], {"": None}, {"id": {}}, UNKNOWN, {**_SECRET, "value": '"hidden"'}, _SECRET),
    *("2026-11-27T00:00:00Z", "0000-00-00T99:99:99Z", "STATUS_READY", "CAPACITY_TYPE_MANAGED", "US-WEST-04A"),
)


def damaged_json(value: Any, random: Random) -> Any:
    """A copy with one to four changes at random places."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, 4)):
        value = _changed(value, random)
    return value


def _changed(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        match random.randrange(8):
            case 0:
                del value[key]
            case 1:
                value[str(random.choice(_ODD))[:60]] = value.pop(key)
            case 2:
                value[random.choice(("extra", "id", "zones", key.upper()))] = copy.deepcopy(value[key])
            case _:
                value[key] = _changed(value[key], random)
        return value
    if isinstance(value, list) and value and random.random() < 0.8:
        index = random.randrange(len(value))
        match random.randrange(8):
            case 0:
                del value[index]
            case 1:
                value.insert(index, copy.deepcopy(value[index]))
            case 2:
                value.insert(index, random.choice(_ODD))
            case _:
                value[index] = _changed(value[index], random)
        return value
    match random.randrange(6):
        case 0:
            return [value]
        case 1:
            return {"value": value}
        case 2:
            return _nested(random)
        case _:
            return copy.deepcopy(random.choice(_ODD))


def _nested(random: Random) -> Any:
    value: Any = "x"
    for _ in range(random.choice((3, 50, 400))):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def damaged_bytes(data: bytes, random: Random) -> bytes:
    """The bytes, most often as they are, else cut, changed, doubled, or in another encoding."""
    if random.random() < 0.6:
        return data
    cut = random.randrange(len(data) + 1)
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: data[:cut],
        lambda: data[cut:],
        lambda: data[:cut] + random.randbytes(random.randint(1, 8)) + data[cut:],
        lambda: data[:cut] + random.randbytes(1) + data[cut + 1 :],
        lambda: data[:cut] + random.choice((b"[" * 50_000, b'{"a":' * 20_000, b"9" * 5_000)) + data[cut:],
        lambda: data + data,
        lambda: b"",
        lambda: codecs.BOM_UTF8 + data,
        lambda: _text(data).encode("utf-16"),
        lambda: _text(data).encode("latin-1", "replace"),
        lambda: data.replace(b"\n", b"\r\n"),
        lambda: random.randbytes(200),
    )
    return random.choice(changes)()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def dumped(value: Any) -> bytes:
    """JSON as careless programs write it: NaN and lone surrogates included."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def odd_text(random: Random) -> str:
    """A text that a person or a machine may give for a name, a number or a path."""
    odd = random.choice(_ODD)
    return odd if isinstance(odd, str) else json.dumps(odd)
