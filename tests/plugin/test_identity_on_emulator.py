"""How a claim gets its id, against the emulator: the three meanings of `already_exists` and then 404, two
declarations that must not share a claim, and the texts of the errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from inline_snapshot import snapshot
from support.plugin import Plugin, PluginError, claim_inputs, plain

from coreweave_inference import Client
from coreweave_inference.emulator import Emulator, EmulatorSettings

PARENT = "my:index:Team$pulumi-python:dynamic/capacityClaim:CapacityClaim::training"
TYPE = "pulumi-python:dynamic/capacityClaim:CapacityClaim"
ANSWER_LOST = {"path": "create", "nth": 1, "fail": {"when": "after"}}

Start = Callable[..., tuple[Emulator, Plugin]]
Again = Callable[[Emulator], Plugin]


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


@pytest.fixture
def again(running: ExitStack) -> Again:
    """Start a provider process, as every operation has one of its own."""

    def again(emulator: Emulator, grace: str = "1s") -> Plugin:
        settings = {
            "COREWEAVE_CATALOGUE_CHECK": "off",
            "COREWEAVE_DELETE_TIMEOUT": "2s",
            "COREWEAVE_READ_GRACE": grace,
            "COREWEAVE_RETRY_DEADLINE": "3s",
        }
        return running.enter_context(Plugin(emulator.environment() | settings))

    return again


@pytest.fixture
def start(running: ExitStack, again: Callable[..., Plugin]) -> Start:
    """Start an emulator with the given settings, and a provider process against it."""

    def start(grace: str = "1s", **settings: Any) -> tuple[Emulator, Plugin]:
        emulator = running.enter_context(Emulator(EmulatorSettings(**settings)))
        return emulator, again(emulator, grace)

    return start


def create(plugin: Plugin, namespace: str, **changes: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Create a claim as the engine does: its id, inputs and outputs."""
    checked = plugin.check({}, claim_inputs(namespace, **changes))
    assert checked.failures == []
    claim_id, outputs = plugin.create(checked.inputs)
    return claim_id, checked.inputs, outputs


def create_error(plugin: Plugin, namespace: str, **changes: Any) -> str:
    """The text of the error that a create ends with; ids are numbered by order of appearance."""
    with pytest.raises(PluginError) as error:
        create(plugin, namespace, **changes)
    return plain(str(error.value))


def refusal(again: Again, emulator: Emulator, namespace: str, **changes: Any) -> str:
    """The error that both a preview and a create of a process that skips the preview end with."""
    inputs = claim_inputs(namespace, **changes)
    [failure] = again(emulator).check({}, inputs).failures
    checked = again(emulator).check(inputs, inputs)  # with old inputs nothing is foreseen
    with pytest.raises(PluginError) as error:
        again(emulator).create(checked.inputs)
    assert str(error.value) == failure
    return plain(failure)


def posts(emulator: Emulator) -> list[str | None]:
    """The ids that were posted, one after the other."""
    return list(dict.fromkeys(record.claim for record in emulator.requests() if record.method == "POST"))


# `already_exists`, and then 404


@pytest.mark.parametrize("reads", ["get", "list", "both"])
def test_a_stale_read_after_a_lost_response_creates_no_second_claim(
    start: Start, namespace: str, reads: str
) -> None:
    emulator, plugin = start(grace="20s")
    emulator.set_faults([ANSWER_LOST | {"stale_reads": {"seconds": 0.5, "reads": reads}}])
    claim_id, _, outputs = create(plugin, namespace)
    assert posts(emulator) == [claim_id]
    assert [claim.id for claim in emulator.claims()] == [claim_id]
    assert outputs["resources"]["instanceCount"] == 4


def test_the_error_about_a_taken_name_shows_its_holder_and_the_ways_out(start: Start, namespace: str) -> None:
    emulator, plugin = start(unique_names=True)
    claim_id, _, _ = create(plugin, namespace, name="training")
    assert create_error(plugin, namespace, name="training", zones=["US-WEST-04A"]) == snapshot("""\
creating capacity claim 'training' failed: the name 'training' is taken.
  it belongs to the claim <id 1> (4 of 4 gb200-4x instances, STATUS_READY)
  Still reserved: nothing new.
  Next: omit `name`, so that each claim gets a unique name, or choose another name
        or, if that claim is the one being replaced, release it first with ResourceOptions(delete_before_replace=True)\
""")
    assert [claim.id for claim in emulator.claims()] == [claim_id]


def test_a_claim_that_cannot_be_adopted_yet_is_said_to_be_reserved(
    start: Start, again: Again, namespace: str
) -> None:
    emulator, plugin = start()
    claim_id, _, _ = create(plugin, namespace)
    emulator.set_faults([{"path": "update", "fail": {"code": "resource_exhausted"}}])
    text = create_error(again(emulator), namespace)
    assert "Still reserved: the claim that already has this id, which is not in the state" in text
    assert "Still reserved: nothing" not in text
    assert [claim.id for claim in emulator.claims()] == [claim_id]


def test_an_id_that_cannot_be_used_again_is_passed_over(start: Start, namespace: str) -> None:
    emulator, plugin = start(reuse_ids=False)
    first, _, outputs = create(plugin, namespace)
    plugin.delete(first, outputs)
    second, _, _ = create(plugin, namespace)
    assert second != first
    assert posts(emulator) == [first, second]


def test_an_id_is_used_again_where_it_may_be(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    first, _, outputs = create(plugin, namespace)
    plugin.delete(first, outputs)
    second, _, _ = create(plugin, namespace)
    assert second == first
    assert [claim.id for claim in emulator.claims()] == [first]


def test_a_deleted_claim_that_the_list_still_shows_is_not_adopted(start: Start, namespace: str) -> None:
    emulator, plugin = start(reuse_ids=False, list_lag=3600)
    first, inputs, outputs = create(plugin, namespace)
    emulator.advance_clock(3601)
    plugin.delete(first, outputs)
    assert create_error(plugin, namespace) == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: a claim with this id exists, but cannot be read.
  the list of claims shows it as 'training-<digits>': 4 of 4 gb200-4x instances, STATUS_READY
  Still reserved: that claim, if the list is right; nothing new.
  Next: wait a minute and run `pulumi up` again: it adopts the claim, or creates a new one once the list no longer shows it\
""")
    emulator.advance_clock(3601)
    assert plugin.create(inputs)[0] != first
    assert len(emulator.claims()) == 1


def test_a_claim_that_is_being_deleted_but_reads_alive_is_not_adopted(
    start: Start, namespace: str, client_of: Callable[[Emulator], Client]
) -> None:
    emulator, plugin = start(delete_delay=1.0, stale_status_for=0.5)
    first, inputs, _ = create(plugin, namespace)
    client_of(emulator).capacity_claims.delete(first)
    assert plugin.create(inputs)[0] == first
    assert [claim.id for claim in emulator.live_claims()] == [first]
    assert posts(emulator) == [first]
    emulator.advance_clock(3600)
    assert [claim.id for claim in emulator.live_claims()] == [first]


def test_a_deletion_that_does_not_end_is_reported_and_creates_nothing(
    start: Start, namespace: str, client_of: Callable[[Emulator], Client]
) -> None:
    emulator, plugin = start(delete_delay=3600)
    first, _, _ = create(plugin, namespace)
    client_of(emulator).capacity_claims.delete(first)
    assert create_error(plugin, namespace) == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: the previous claim with this id is still being deleted.
  the API shows it as 4 of 4 gb200-4x instances, STATUS_DELETING
  Still reserved: nothing new.
  Next: run `pulumi up` again to keep waiting (coreweave:deleteTimeout sets how long)\
""")
    assert posts(emulator) == [first]


# Who may have which id


def test_two_stacks_with_the_same_names_have_claims_of_their_own(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    ours, _, outputs = create(plugin, namespace)
    theirs, _, _ = create(plugin, "0" * 8 + namespace[8:])
    assert ours != theirs
    plugin.delete(ours, outputs)
    assert [claim.id for claim in emulator.claims()] == [theirs]


def test_the_same_name_below_another_parent_is_another_claim(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    assert create(plugin, namespace)[0] != create(plugin, namespace, key=PARENT)[0]
    assert len(emulator.claims()) == 2


def test_a_rename_by_an_alias_is_no_difference_and_no_call(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    claim_id, inputs, outputs = create(plugin, namespace)
    emulator.clear_requests()
    plugin = again(emulator)
    renamed = plugin.check(inputs, claim_inputs(namespace, key=f"{TYPE}::renamed"))
    assert plugin.diff(claim_id, outputs, renamed.inputs).changes == "none"
    assert emulator.requests() == []


def test_a_new_claim_with_a_freed_name_leaves_the_renamed_claim_alone(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    first, inputs, outputs = create(plugin, namespace)
    plugin = again(emulator)
    renamed = plugin.check(inputs, claim_inputs(namespace, key=f"{TYPE}::renamed"))
    plugin.diff(first, outputs, renamed.inputs)
    second, _, second_outputs = create(plugin, namespace)
    assert second != first
    plugin.delete(second, second_outputs)
    assert [claim.id for claim in emulator.claims()] == [first]


def test_a_renamed_claim_that_a_new_one_adopted_is_an_error_until_repaired(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    first, inputs, outputs = create(plugin, namespace)
    plugin = again(emulator)
    # The new claim comes first, so the process does not know about the rename yet.
    _, new_inputs, new_outputs = create(plugin, namespace)
    renamed = plugin.check(inputs, claim_inputs(namespace, key=f"{TYPE}::renamed"))
    with pytest.raises(PluginError) as error:
        plugin.diff(first, outputs, renamed.inputs)
    assert plain(str(error.value)) == snapshot("""\
capacity claim 'renamed' (id <id 1>) is already held by the resource 'training'.
  this happens when a resource is renamed and a new claim is declared with the old name
  Still reserved: the claim; the state lists it under 'renamed' and under 'training'.
  Next: remove the newer of the two from the state with `pulumi state delete URN`, then declare it again with depends_on the renamed resource, or under a name that was never used\
""")
    assert [claim.id for claim in emulator.claims()] == [first]

    plugin = again(emulator)
    for entry in (outputs, new_outputs):  # a refresh reads both, which is no error
        _, read, _ = plugin.read(first, entry)
        plugin.diff(first, read, inputs)
    plugin.diff(first, new_outputs, new_inputs)
    with pytest.raises(PluginError, match="is already held by the resource 'training'"):
        plugin.diff(first, outputs, renamed.inputs)


def test_a_claim_with_our_id_and_other_content_is_reported_and_unchanged(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    claim_id, _, _ = create(plugin, namespace)
    emulator.edit_claim(claim_id, spec={"resources": {"zones": ["US-EAST-04A"]}})
    emulator.clear_requests()
    assert refusal(again, emulator, namespace) == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: a claim with this id exists, but differs from the declaration.
  it is named 'training-<digits>': 4 of 4 gb200-4x instances, STATUS_READY, zones US-EAST-04A
  Still reserved: that claim, unchanged.
  Next: if it belongs to this stack and was changed outside of Pulumi, run `pulumi up --refresh`, which creates a new claim and then releases this one
        if nothing needs it, release it with `capacity-claims release --all-stacks <id 1>`, which refuses if a stack manages it
        if this stack's state is a copy of another stack's, remove the copied ClaimNamespace, and all that depends on it, from the state with `pulumi state delete --target-dependents URN`; the stack then creates claims of its own\
""")
    operations = [record.operation for record in emulator.requests()]
    assert operations == ["list", "get", "list", "create", "get"]


def test_a_claim_that_may_be_in_another_state_is_not_scaled_unseen(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    claim_id, _, _ = create(plugin, namespace)
    assert refusal(again, emulator, namespace, instanceCount=2.0) == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: a claim with this id exists with 4 instances, and 2 are declared.
  it is named 'training-<digits>': 4 of 4 gb200-4x instances, STATUS_READY
  an interrupted create may have left it behind, or a replacement that was given up; or another resource or stack holds it
  Still reserved: that claim, unchanged.
  Next: if it is this resource's own, run `pulumi up` without `--replace`, or first declare instance_count=4, which takes the claim over as it is, and then change the count
        if another resource or stack holds it, give this resource a name that was never used
        if nothing needs it, release it with `capacity-claims release --all-stacks <id 1>`, which refuses if a stack manages it
        if this stack's state is a copy of another stack's, remove the copied ClaimNamespace, and all that depends on it, from the state with `pulumi state delete --target-dependents URN`; the stack then creates claims of its own\
""")
    assert [(claim.id, claim.instance_count) for claim in emulator.claims()] == [(claim_id, 4)]


def test_a_preview_says_that_a_new_claim_takes_over_an_existing_one(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    create(plugin, namespace)
    plugin = again(emulator)
    assert plugin.check({}, claim_inputs(namespace)).failures == []
    plugin.close()
    assert plain(plugin.printed) == snapshot(
        "capacity claim 'training' (id <id 1>) already exists (4 of 4 gb200-4x instances, STATUS_READY); it is taken over, not created.\n"
    )


def test_an_update_says_once_that_it_takes_over_a_claim(start: Start, namespace: str, again: Again) -> None:
    emulator, plugin = start()
    claim_id, _, _ = create(plugin, namespace)
    plugin = again(emulator)
    assert create(plugin, namespace)[0] == claim_id
    plugin.close()
    assert plugin.printed.count("taken over") == 1


def test_a_preview_says_what_a_cut_off_create_left_behind(start: Start, namespace: str, again: Again) -> None:
    emulator, plugin = start()
    left, _, _ = create(plugin, namespace, zones=["US-EAST-04A"])
    plugin = again(emulator)
    assert plugin.check({}, claim_inputs(namespace)).failures == []
    plugin.close()
    assert f"(id {left}): 4 of 4" in plugin.printed
    assert "another claim created for capacity claim 'training' still exists" in plugin.printed


def test_a_preview_that_cannot_look_for_existing_claims_warns(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, _ = start()
    emulator.set_faults([{"path": "get", "fail": {"code": "permission_denied"}}])
    plugin = again(emulator)
    for number in range(3):
        assert plugin.check({}, claim_inputs(namespace, key=f"{TYPE}::{number}")).failures == []
    plugin.close()
    assert plugin.printed.count("warning: looking for claims that a new resource would take over failed") == 1
    assert [record.operation for record in emulator.requests()].count("get") == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_preview_says_what_becomes_of_the_count(
    start: Start, namespace: str, again: Again, overwrite: bool
) -> None:
    emulator, plugin = start()
    create(plugin, namespace)
    with Plugin(emulator.environment() | {"COREWEAVE_OVERWRITE": str(overwrite).lower()}) as another:
        failures = another.check({}, claim_inputs(namespace, instanceCount=1.0)).failures
    assert bool(failures) is not overwrite
    assert ("taken over and scaled to 1, not created" in another.printed) is overwrite


def test_a_claim_that_is_deleted_first_is_not_said_to_be_taken_over(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    claim_id, _, outputs = create(plugin, namespace)
    inputs = claim_inputs(namespace, instanceCount=1.0)
    plugin = again(emulator)
    checked = plugin.check({}, inputs | {"identity": inputs["identity"] | {"deleteFirst": True}})
    assert checked.failures == []
    assert checked.inputs["identity"] == inputs["identity"]
    plugin.delete(claim_id, outputs)
    assert plugin.create(checked.inputs)[0] == claim_id
    plugin.close()
    assert "taken over" not in plugin.printed


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("STATUS_FAILED", "has failed and holds no instances; it is deleted and created again"),
        ("STATUS_DELETING", "is being deleted (0 of 4 gb200-4x instances, STATUS_DELETING); it is created"),
    ],
)
def test_a_preview_says_that_a_claim_makes_room_first(
    start: Start, namespace: str, again: Again, status: str, said: str
) -> None:
    emulator, plugin = start()
    claim_id, _, _ = create(plugin, namespace)
    emulator.edit_claim(claim_id, status={"status": status, "allocatedInstances": 0})
    plugin = again(emulator)
    assert plugin.check({}, claim_inputs(namespace)).failures == []
    plugin.close()
    assert said in plugin.printed


def test_an_update_after_a_rename_names_the_resource_as_it_is_now(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    claim_id, inputs, outputs = create(plugin, namespace)
    plugin = again(emulator)
    more = claim_inputs(namespace, key=f"{TYPE}::renamed", instanceCount=6.0)
    renamed = plugin.check(inputs, more).inputs
    plugin.diff(claim_id, outputs, renamed)
    updated = plugin.update(claim_id, outputs, renamed)
    assert updated["identity"]["declaration"] == f"{TYPE}::renamed"
    assert updated["identity"]["incarnation"] == outputs["identity"]["incarnation"]


def test_taking_over_the_claim_of_a_renamed_resource_fails_the_preview(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    claim_id, inputs, outputs = create(plugin, namespace)
    plugin = again(emulator)  # a preview
    assert plugin.check({}, claim_inputs(namespace)).failures == []
    renamed = plugin.check(inputs, claim_inputs(namespace, key=f"{TYPE}::renamed"))
    with pytest.raises(PluginError) as error:
        plugin.diff(claim_id, outputs, renamed.inputs)
    assert plain(str(error.value)) == snapshot("""\
capacity claim 'training' (id <id 1>) would take over the claim of the resource 'renamed'.
  'renamed' was created under the name 'training', so both compute the same id
  Still reserved: the claim, unchanged.
  Next: declare 'training' with ResourceOptions(depends_on=[…]) on the resource 'renamed', or give it a name that was never used\
""")


# an API that does not return what was sent


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (
            {"zones_shown": "sorted"},
            "shows resources.zones as US-EAST-04A, US-WEST-04A instead of US-WEST-04A, US-EAST-04A",
        ),
        (
            {"capacity_type_shown": "unspecified"},
            "shows resources.capacity_type as CAPACITY_TYPE_UNSPECIFIED instead of",
        ),
    ],
)
def test_what_an_api_makes_of_a_declaration_is_said_once_and_is_no_change(
    start: Start, namespace: str, again: Again, form: dict[str, Any], said: str
) -> None:
    emulator, plugin = start(**form)
    claim_id, inputs, outputs = create(plugin, namespace)
    declared = claim_inputs(namespace)["resources"]
    plugin.close()
    assert plugin.printed.count(said) == 1

    plugin = again(emulator)
    assert outputs["resources"] == declared | {"capacityType": "CAPACITY_TYPE_MANAGED"}
    assert plugin.diff(claim_id, outputs, inputs).changes == "none"
    _, read, read_inputs = plugin.read(claim_id, outputs)
    assert read["resources"] == outputs["resources"]
    assert read_inputs == {}
    more = plugin.check(inputs, claim_inputs(namespace, instanceCount=6.0)).inputs
    assert plugin.diff(claim_id, read, more).replaces == []
    scaled = plugin.update(claim_id, read, more)
    assert scaled["resources"] == outputs["resources"] | {"instanceCount": 6.0}
    assert plugin.diff(claim_id, scaled, more).changes == "none"
    plugin.close()
    assert plugin.printed == ""

    emulator.edit_claim(claim_id, spec={"resources": {"instanceCount": 7}})
    _, drifted, _ = again(emulator).read(claim_id, scaled)
    assert drifted["resources"] == scaled["resources"] | {"instanceCount": 7.0}


def test_a_create_whose_response_was_lost_is_adopted_in_another_form(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start(zones_shown="sorted", capacity_type_shown="unspecified")
    claim_id, inputs, _ = create(plugin, namespace)  # and its response is lost
    adopted, _, outputs = create(again(emulator), namespace)
    assert adopted == claim_id
    assert again(emulator).diff(claim_id, outputs, inputs).changes == "none"


def test_the_order_of_zones_is_kept_as_drift_where_the_api_keeps_it(
    start: Start, namespace: str, again: Again
) -> None:
    emulator, plugin = start()
    claim_id, inputs, outputs = create(plugin, namespace)
    assert "rewritten" not in outputs["identity"]
    emulator.edit_claim(claim_id, spec={"resources": {"zones": ["US-EAST-04A", "US-WEST-04A"]}})
    plugin = again(emulator)
    _, read, _ = plugin.read(claim_id, outputs)
    assert plugin.diff(claim_id, read, inputs).replaces == ["resources.zones"]


# a wrong answer to a delete


def test_a_claim_is_deleted_again_after_a_wrong_not_found(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    claim_id, _, outputs = create(plugin, namespace)
    emulator.set_faults([{"path": "delete", "nth": 1, "fail": {"code": "not_found"}}])
    plugin.delete(claim_id, outputs)
    assert emulator.claims() == []


def test_a_delete_that_is_never_found_fails_while_the_claim_lives(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    claim_id, _, outputs = create(plugin, namespace)
    emulator.set_faults([{"path": "delete", "fail": {"code": "not_found"}}])
    with pytest.raises(PluginError, match="releasing capacity claim 'training'"):
        plugin.delete(claim_id, outputs)
    assert [claim.id for claim in emulator.claims()] == [claim_id]


def test_a_claim_that_is_gone_is_confirmed_before_its_entry_is_removed(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    claim_id, _, outputs = create(plugin, namespace)
    with Client(emulator.settings.token, endpoint=emulator.url) as client:
        client.capacity_claims.delete(claim_id)
    emulator.clear_requests()
    plugin.delete(claim_id, outputs)
    assert [record.operation for record in emulator.requests()][-1] == "get"


def test_an_accepted_delete_whose_end_cannot_be_read_says_so(start: Start, namespace: str) -> None:
    emulator, plugin = start(delete_delay=1.5)
    claim_id, _, outputs = create(plugin, namespace)
    emulator.set_faults([{"path": "get", "fail": {"code": "permission_denied"}}])
    with pytest.raises(PluginError, match="Still reserved: the claim, until the deletion that the API has"):
        plugin.delete(claim_id, outputs)


def test_a_namespace_removed_by_hand_does_not_change_existing_claims(start: Start, namespace: str) -> None:
    _, plugin = start()
    claim_id, inputs, outputs = create(plugin, namespace)
    other = "0" * 8 + namespace[8:]
    checked = plugin.check(inputs, claim_inputs(other))
    assert checked.inputs == inputs
    assert plugin.diff(claim_id, outputs, checked.inputs).changes == "none"


# What the API's errors look like


@pytest.mark.parametrize("form", ["connect", "status"])
def test_a_refused_field_is_named_in_the_programs_spelling(start: Start, namespace: str, form: str) -> None:
    emulator, plugin = start(error_form=form, max_zones=1)
    assert create_error(plugin, namespace, instanceId="b300-8x") == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: the API refused the request as invalid.
  invalid_argument: validation error: resources.zones: value must contain no more than 1 item(s)
  resources.zones: value must contain no more than 1 item(s)
  (<n> attempts, request id <request>)
  Still reserved: nothing new.
  Next: change the declaration as described above and run `pulumi up` again\
""")
    assert emulator.claims() == []


def test_the_error_of_an_outage_says_that_nothing_is_done_twice(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    emulator.set_faults([{"path": "create", "fail": {"when": "after", "message": "try later"}}])
    assert create_error(plugin, namespace) == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: the API is not available.
  unavailable: try later
  (<n> attempts, request id <request>)
  Still reserved: nothing, as far as we know. If only the response was lost, the claim exists; the next `pulumi up` adopts it, unless the declaration changes.
  Next: run the same command again when the API responds; nothing is done twice\
""")
    emulator.clear_faults()
    create(plugin, namespace)
    assert len(emulator.claims()) == 1


def test_the_error_of_an_exhausted_quota_says_how_long_to_wait(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    refusal = {"code": "resource_exhausted", "message": "quota of gb200-4x", "retry_after": 300}
    emulator.set_faults([{"path": "create", "fail": refusal}])
    assert create_error(plugin, namespace) == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: a quota or rate limit of the API is exhausted.
  resource_exhausted: quota of gb200-4x
  (<n> attempts, request id <request>)
  Still reserved: nothing new.
  Next: wait 300 seconds and run the same command again\
""")


def test_the_error_of_a_viewers_token_names_the_role_it_needs(namespace: str) -> None:
    with Emulator() as emulator:
        token = {"COREWEAVE_API_TOKEN": emulator.settings.viewer_token}
        with Plugin(emulator.environment() | token) as plugin:
            assert create_error(plugin, namespace) == snapshot("""\
creating capacity claim 'training' (id <id 1>) failed: the token lacks the required role.
  permission_denied: create a capacity claim: needs the role "Inference Admin"
  (<n> attempts, request id <request>)
  Still reserved: nothing new.
  Next: use a token with the role Inference Admin, which may write; Inference Viewer may only read\
""")


def test_scaling_a_deleted_claim_fails_and_suggests_a_refresh(start: Start, namespace: str) -> None:
    emulator, plugin = start()
    claim_id, inputs, outputs = create(plugin, namespace)
    emulator.edit_claim(claim_id, delete=True)
    scaled = plugin.check(inputs, claim_inputs(namespace, instanceCount=6)).inputs
    with pytest.raises(PluginError) as error:
        plugin.update(claim_id, outputs, scaled)
    assert plain(str(error.value)) == snapshot("""\
changing capacity claim 'training' (id <id 1>) failed: the API does not know the claim.
  not_found: capacity claim <id 1> not found
  (<n> attempts, request id <request>)
  Still reserved: nothing, according to the API; the claim is still in the state.
  Next: run `pulumi refresh` to see what the API holds, then `pulumi up`\
""")


def test_a_claim_that_may_not_be_released_stays_in_the_state(start: Start, namespace: str) -> None:
    emulator, plugin = start(refuse_release=True)
    claim_id, _, outputs = create(plugin, namespace)
    emulator.advance_clock(1)
    with pytest.raises(PluginError) as error:
        plugin.delete(claim_id, outputs)
    assert plain(str(error.value)) == snapshot("""\
releasing capacity claim 'training' (id <id 1>) failed: the claim's current state does not allow it.
  failed_precondition: a capacity claim with instances in use cannot be deleted
  (<n> attempts, request id <request>)
  Still reserved: the claim, as far as we know; it stays in the state.
  Next: the claim may be in use: stop what runs on it, then run the same command again\
""")
    assert len(emulator.live_claims()) == 1


@pytest.fixture
def client_of() -> Iterator[Callable[[Emulator], Client]]:
    """Another user of an emulator's API."""
    with ExitStack() as running:
        yield lambda emulator: running.enter_context(Client(emulator.token, endpoint=emulator.url))
