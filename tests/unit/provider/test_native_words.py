"""The words of the native plugin: no text of the core is left in those of a Python program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pulumi_coreweave_inference
from pulumi_coreweave_inference.foreign_text import Lines, in_lines
from pulumi_coreweave_inference.native.words import said

PACKAGE = Path(pulumi_coreweave_inference.__file__).parent
OF_A_PROGRAM = re.compile(
    r"\b(instance|capacity|min)_(id|count|type|instances)\b|ResourceOptions|Readiness\(|depends_on|on_timeout"
    r"|\bcoreweave:\w"
)
# What only a Python program sees.
ONLY_PYTHON = {"capacity_claim", "options", "lookups", "mocks", "participation", "provider_python"}
OWN_NAMES = {"instance_id", "instance_count", "capacity_type", "min_instances"}  # as keys, not in a text


def texts() -> list[tuple[str, str]]:
    found = []
    for file in sorted(PACKAGE.glob("*.py")):
        if file.stem in ONLY_PYTHON:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documents = {id(statement.value) for statement in ast.walk(tree) if isinstance(statement, ast.Expr)}
        found += [
            (file.stem, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents
        ]
    return found


def test_no_text_of_the_core_stays_in_the_words_of_a_python_program() -> None:
    about = [(where, text) for where, text in texts() if OF_A_PROGRAM.search(text)]
    assert len(about) > 20
    left = [
        (where, text)
        for where, text in about
        if text not in OWN_NAMES and OF_A_PROGRAM.search(said(text)) and " " in text
    ]
    assert left == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("set coreweave:overwrite to true", "set coreweave-inference:overwrite to true"),
        (
            "lower instance_count, or Readiness(min_instances=…)",
            "lower instanceCount, or readiness.minInstances",
        ),
        ("with ResourceOptions(delete_before_replace=True)", "with the option deleteBeforeReplace"),
        ("a coreweave-inference:index:CapacityClaim", "a coreweave-inference:index:CapacityClaim"),
    ],
)
def test_a_text_is_said_in_the_words_of_any_language(text: str, shown: str) -> None:
    assert said(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("or set coreweave:wait to false", "or set the provider's argument wait to false"),
        (
            "or run `pulumi config set --secret coreweave:token`",
            "or set the provider's argument token",
        ),
        ("(coreweave:deleteTimeout sets how long)", "(the provider's argument deleteTimeout sets how long)"),
    ],
)
def test_a_declared_provider_has_arguments_and_no_config(text: str, shown: str) -> None:
    assert said(text, declared=True) == shown


def test_a_text_stays_laid_out() -> None:
    assert (
        said(in_lines("set coreweave:wait", "and\x1b[2J wait"))
        == "set coreweave-inference:wait\nand�[2J wait"
    )
    assert isinstance(said("one"), Lines)
