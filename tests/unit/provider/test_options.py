"""Options of a claim that would be void, at the constructor and after transformations."""

from __future__ import annotations

import contextlib
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from pulumi_coreweave_inference import ClaimError
from pulumi_coreweave_inference.options import refuse_void_options

GOOD_PATHS = [
    "name",
    "resources",
    "resources.instanceCount",
    'resources["instanceCount"]',
    '["resources"].instanceCount',
    "resources.zones",
    "resources.zones[0]",
    "resources.zones[*]",
    "resources.*",
    '["*"]',
    "*",
    "*.instanceCount",
    "__provider",
]


def refusal(**options: Any) -> str:
    with pytest.raises(ClaimError) as refused:
        refuse_void_options("training", pulumi.ResourceOptions(**options))
    return str(refused.value)


@pytest.mark.parametrize("option", ["ignore_changes", "replace_on_changes"])
@pytest.mark.parametrize("path", GOOD_PATHS)
def test_paths_to_inputs_are_accepted_in_every_spelling_of_the_engine(option: str, path: str) -> None:
    refuse_void_options("training", pulumi.ResourceOptions(**{option: [path]}))


@pytest.mark.parametrize("option", ["ignore_changes", "replace_on_changes"])
@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("resources.instance_count", "resources.instanceCount"),
        ('resources["instance_count"]', "resources.instanceCount"),
        ("instance_count", "resources.instanceCount"),
        ("instanceCount", "resources.instanceCount"),
        ("Resources", "resources"),
        ("resources.Zones", "resources.zones"),
        ("capacity_type", "resources.capacityType"),
    ],
)
def test_a_misspelled_path_is_refused_with_the_right_spelling(option: str, path: str, meant: str) -> None:
    assert refusal(**{option: ["name", path]}) == (
        f"capacity claim 'training': {option} names {path!r}, which is not an input of a claim.\n"
        f'  Next: write "{meant}"'
    )


@pytest.mark.parametrize(
    "path", ["status", "resources.foo", "name.first", "resources.zones.first", "updatedAt"]
)
def test_a_path_to_something_else_is_refused_with_a_list(path: str) -> None:
    text = refusal(ignore_changes=[path])
    assert "which is not an input of a claim" in text
    assert text.endswith(
        "Next: write one of name, resources, resources.instanceId, resources.instanceCount, "
        "resources.zones, resources.capacityType"
    )


@pytest.mark.parametrize(
    "path", ["", ".name", "resources.zones[", "resources.zones[-1]", "resources..zones", 7]
)
def test_what_is_no_path_is_refused(path: Any) -> None:
    assert "which is not a property path" in refusal(ignore_changes=[path])


@given(st.lists(st.sampled_from([".", "[", "]", '"', "*", "0", "name", "resources", "zones", "\\"])))
def test_any_text_is_a_path_to_an_input_or_refused(parts: list[str]) -> None:
    with contextlib.suppress(ClaimError):
        refuse_void_options("training", pulumi.ResourceOptions(ignore_changes=["".join(parts)]))


@pytest.mark.parametrize("name", ["name", "resources", "organizationId", "createdAt", "updatedAt"])
def test_outputs_in_the_state_can_be_secret(name: str) -> None:
    refuse_void_options("training", pulumi.ResourceOptions(additional_secret_outputs=[name]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("organization_id", 'is not an output of a claim.\n  Next: write "organizationId"'),
        ("resources.instanceCount", 'is not an output of a claim.\n  Next: write "resources"'),
        ("resources.zones[0]", 'is not an output of a claim.\n  Next: write "resources"'),
        (
            "allocated_instances",
            "is read live and is not in the state.\n"
            "  Next: use pulumi.Output.secret() where the program uses it",
        ),
        ("*", "write one of name, resources, organizationId, createdAt, updatedAt"),
    ],
)
def test_a_secret_output_that_does_not_exist_is_refused(name: str, said: str) -> None:
    text = refusal(additional_secret_outputs=[name])
    assert text.startswith(f"capacity claim 'training': additional_secret_outputs names {name!r}, which ")
    assert text.endswith(said)


def test_custom_timeouts_are_refused_with_what_to_set_instead() -> None:
    timeouts = pulumi.CustomTimeouts(create="2h", delete="30m")
    assert refusal(custom_timeouts=timeouts) == snapshot("""\
capacity claim 'training': custom_timeouts has no effect on a claim, because Pulumi does not pass it on to the provider.
  Next: for create and update, set readiness=Readiness(timeout=…): how long `pulumi up` waits
        for delete, set coreweave:deleteTimeout or COREWEAVE_DELETE_TIMEOUT\
""")
    assert "for create and update" in refusal(custom_timeouts={"update": "2h"})
    refuse_void_options("training", pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts()))


def test_an_import_by_option_is_refused_with_the_command_that_does_it() -> None:
    assert refusal(import_="5f0a9d38-9c1d-4e53-8a55-7b6f0e1d2c3b") == snapshot("""\
capacity claim 'training': import_ cannot import a claim, because Pulumi cannot find out from an id alone which Python class provides it.
  Next: run `capacity-claims import 5f0a9d38-9c1d-4e53-8a55-7b6f0e1d2c3b` and follow its steps\
""")
    assert "`capacity-claims import 'a b'`" in refusal(import_="a b")
