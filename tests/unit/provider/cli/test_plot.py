"""The picture of all claims: what it shows, and that foreign text stays text."""

from __future__ import annotations

import random
from typing import Any
from xml.etree import ElementTree

import pytest
from inline_snapshot import external_file

from coreweave_inference import CapacityClaim
from pulumi_coreweave_inference.cli.plot import MOST_CLAIMS, WIDTH, svg

SPACE = "{http://www.w3.org/2000/svg}"


def claim(
    name: str, state: str = "READY", requested: int = 4, allocated: int | None = None, **status: Any
) -> CapacityClaim:
    return CapacityClaim.model_validate(
        {
            "spec": {
                "id": f"00000000-0000-4000-8000-{abs(hash_of(name)):012d}",
                "name": name,
                "resources": {
                    "instanceId": "gb200-4x",
                    "instanceCount": requested,
                    "zones": ["US-WEST-04A", "US-EAST-04A"],
                },
            },
            "status": {
                "status": f"STATUS_{state}",
                "allocatedInstances": requested if allocated is None else allocated,
                **status,
            },
        }
    )


def hash_of(name: str) -> int:
    return sum(index * ord(sign) for index, sign in enumerate(name, 1))


WAITING = {
    "conditions": [
        {"type": "Allocated", "status": "False", "reason": "no free instances", "zone": "US-WEST-04A"}
    ]
}
CLAIMS = [
    claim("training", "CREATING", 16, 9, **WAITING),
    claim("evaluation", requested=2),
    claim("serving-of-a-model-with-a-name-that-is-far-too-long", requested=12),
    claim("broken", "FAILED", 8, 0),
    claim("shrinking", "UPDATING", 4, 6),
    claim("研究チームの訓練", "DELETING", 1, 1),
    claim("later", "PREEMPTED", 3, 1),
]


def texts(picture: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(picture).iter(f"{SPACE}text")]


def bars(picture: str) -> list[tuple[str, float]]:
    found = ElementTree.fromstring(picture).iter(f"{SPACE}rect")
    return [
        (bar.attrib["class"], float(bar.attrib["width"])) for bar in found if bar.attrib["class"] != "back"
    ]


def test_the_picture_of_some_claims_is_as_recorded() -> None:
    assert svg(CLAIMS) == external_file("data/claims.svg", format=".txt")


def test_the_order_of_the_claims_does_not_change_the_picture() -> None:
    for seed in range(5):
        assert svg(random.Random(seed).sample(CLAIMS, len(CLAIMS))) == svg(CLAIMS)


def test_a_bar_is_as_long_as_its_instances() -> None:
    room = WIDTH - 28
    assert bars(svg([claim("a", "CREATING", 8, 2), claim("b", requested=4)])) == [
        ("creating", room / 4), ("asked", room), ("ready", room / 2), ("asked", room / 2),
    ]  # fmt: skip
    assert bars(svg([claim("a", "CREATING", 0, 0)])) == []
    assert bars(svg([claim("a", requested=10_000), claim("b", requested=1)]))[-1] == ("asked", 2)


def test_states_are_said_in_words_and_ready_comes_last() -> None:
    heads = [text for text in texts(svg(CLAIMS)) if text.endswith((": 1 claim", ": 2 claims"))]
    assert heads == [
        "FAILED: 1 claim",
        "CREATING: 1 claim",
        "UPDATING: 1 claim",
        "DELETING: 1 claim",
        "PREEMPTED: 1 claim",
        "READY: 2 claims",
    ]
    assert "9 of 16" in texts(svg(CLAIMS))
    assert "US-WEST-04A: no free instances" in texts(svg(CLAIMS))


def test_the_picture_has_a_title_and_a_description() -> None:
    root = ElementTree.fromstring(svg(CLAIMS))
    assert root.attrib["role"] == "img"
    named = {each.attrib["id"]: each.text for each in root if "id" in each.attrib}
    assert root.attrib["aria-labelledby"].split() == list(named)
    assert named["title"] == "Capacity claims"
    assert (named["description"] or "").startswith("7 claims; 31 of 46 instances allocated.")


@pytest.mark.parametrize(
    "name",
    [
        "</text><script>alert(1)</script>",
        "a & b < c",
        '" onload="x',
        "\x1b[31m\x00",
        "a\nb\u202ec",
        "]]>",
    ],
)
def test_foreign_text_stays_text(name: str) -> None:
    picture = svg([claim(name, f"<b>{name}", conditions=[{"status": "False", "reason": name, "zone": name}])])
    picture.encode()
    root = ElementTree.fromstring(picture)
    assert {each.tag.removeprefix(SPACE) for each in root.iter()} == {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "text",
    }
    assert not any(key.startswith("on") for each in root.iter() for key in each.attrib)
    assert not set(picture) & set("\x1b\x00\u202e")


def test_of_many_claims_the_rest_is_counted() -> None:
    picture = svg([claim(f"claim-{number}") for number in range(MOST_CLAIMS + 20)])
    assert len(bars(picture)) == 2 * MOST_CLAIMS
    assert texts(picture)[-1] == "… and 20 more claims, not shown"
    assert f"READY: {MOST_CLAIMS + 20} claims" in texts(picture)


def test_no_claims_are_a_picture_as_well() -> None:
    assert texts(svg([])) == ["0 claims, 0 of 0 instances allocated"]
