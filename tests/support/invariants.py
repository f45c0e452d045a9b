"""What must hold of claims whatever dies when; each function raises AssertionError with the evidence.

They take plain data: the emulator's `claims()` and `requests()`, the state's resources as `pulumi stack
export` has them (only `urn`, `type`, `id`, `delete` and `outputs` are looked at), and what is declared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from coreweave_inference.emulator import ClaimRecord, RequestRecord

StateEntry = Mapping[str, Any]
DELETING = "STATUS_DELETING"


def resource_name(entry: StateEntry) -> str:
    """The name of the Pulumi resource of an entry of the state."""
    return str(entry["urn"]).rpartition("::")[2]


def claims_of(state: Iterable[StateEntry]) -> list[StateEntry]:
    """The entries of the state that are capacity claims."""
    return [entry for entry in state if str(entry["type"]).endswith(":CapacityClaim")]


def live(claims: Iterable[ClaimRecord]) -> list[ClaimRecord]:
    """The claims that are not on their way out: what costs money."""
    return [claim for claim in claims if claim.status != DELETING]


def settled(
    claims: Sequence[ClaimRecord],
    state: Iterable[StateEntry],
    declared: Collection[str],
    left: Mapping[str, str] | None = None,
    foreign: Collection[str] = (),
) -> None:
    """After the last clean `up`: the live claims are the declared ones, one to one, under the state's ids.

    `declared` holds the names of the resources the program declares. `left` says, by claim id, for which
    resource a create was cut off; those that are declared otherwise by now may live, too. So may those
    whose namespace was removed by hand: the ids of another one do not lead to them. `foreign` are the ids of
    claims that somebody else has changed, so that a claim was made beside them and not needed later.
    """
    left = left or {}
    entries = claims_of(state)
    waiting = [f"{resource_name(entry)} = {entry['id']}" for entry in entries if entry.get("delete")]
    assert not waiting, f"after a clean up the state still waits for deletions: {waiting}"
    held = {resource_name(entry): entry["id"] for entry in entries}
    alive = {claim.id: claim for claim in live(claims)}
    evidence = f"\n  declared: {sorted(declared)}\n  state:    {held}\n  alive:    {_shown(alive.values())}"
    assert len(entries) == len(held), f"the state holds a declaration twice: {evidence}"
    assert set(held) == set(declared), f"the state is not what is declared: {evidence}"
    assert len(set(held.values())) == len(held), f"two declarations share one claim: {evidence}"
    lost = {name: id for name, id in held.items() if id not in alive}
    assert not lost, f"declared claims are not alive: {lost}{evidence}"
    twins = [claim for id, claim in alive.items() if id not in held.values() and id not in left]
    assert not twins, f"undeclared claims are alive: {_shown(twins)}{evidence}"
    doubled = [
        alive[id] for id, of in left.items()
        if id in alive and of in held and id != held[of] and held[of] not in foreign
        and _declares(alive[id]) == _declares(alive[held[of]]) and _stack(id) == _stack(held[of])
    ]  # fmt: skip
    assert not doubled, f"claims live twice: {_shown(doubled)}{evidence}"


def one_claim_each(
    claims: Sequence[ClaimRecord],
    state: Iterable[StateEntry],
    cut_off: Mapping[str, str] | None = None,
) -> None:
    """At any time: no two live claims stand for one declaration, except old and new of a replacement.

    The old one is what the state holds marked for deletion, or what a create that was cut off is to
    replace. `cut_off` says, by claim id, for which resource a create was cut off before the state was
    written; the next `up` has to adopt them, if their declaration is unchanged.
    """
    cut_off = cut_off or {}
    entries = claims_of(state)
    known = {entry["id"] for entry in entries}
    alive = {claim.id: claim for claim in live(claims)}
    strangers = [claim for id, claim in alive.items() if id not in known and id not in cut_off]
    assert not strangers, f"claims live that no state and no cut-off create knows: {_shown(strangers)}"
    for name in {resource_name(entry) for entry in entries} | set(cut_off.values()):
        current = {
            e["id"] for e in entries if resource_name(e) == name and not e.get("delete") and e["id"] in alive
        }
        assert len(current) <= 1, f"the state holds '{name}' twice: {_shown(alive[id] for id in current)}"
        pending = [alive[id] for id, of in cut_off.items() if of == name and id in alive and id not in known]
        contents = [_declares(claim) for claim in pending]
        assert len(set(contents)) == len(contents), f"'{name}' was posted twice: {_shown(pending)}"


def make_before_break(samples: Sequence[Sequence[ClaimRecord]], old: str, new: str) -> None:
    """During a replacement: instances of READY claims never fall below the old claim's before the new one
    is ready.

    `samples` are looks at all claims, in order of time; the first shows the old claim as it was before.
    """
    floor = sum(sum(claim.allocation.values()) for claim in live(samples[0]) if claim.id == old)
    for index, sample in enumerate(samples):
        claims = {claim.id: claim for claim in live(sample) if claim.id in (old, new)}
        if new in claims and claims[new].status == "STATUS_READY":
            return
        ready = sum(sum(claim.allocation.values()) for id, claim in claims.items() if id == old)
        assert ready >= floor, (
            f"look {index}: {ready} of {floor} instances are left of {old}, and {new} is not ready: "
            f"{_shown(claims.values())}"
        )


def nothing_known_was_deleted(
    claims: Sequence[ClaimRecord], state: Iterable[StateEntry], released: Collection[str] = ()
) -> None:
    """At any time: a claim that the state holds, not marked for deletion, is alive.

    `released` are the ids whose deletion was asked for: by the program, a delete-before-replace, or by
    somebody else.
    """
    alive = {claim.id for claim in live(claims)}
    gone = {
        resource_name(entry): entry["id"]
        for entry in claims_of(state)
        if not entry.get("delete") and entry["id"] not in alive and entry["id"] not in released
    }
    assert not gone, f"the state holds claims that were deleted: {gone}; alive: {sorted(alive)}"


def no_second_post(requests: Iterable[RequestRecord], removed: Collection[str] = ()) -> None:
    """No claim was ever posted a second time under another id while the first one lived.

    `removed` are the ids that somebody else released or changed.
    """
    posted: dict[str, tuple[str, int]] = {}
    for record in requests:
        if not record.committed or record.claim is None:
            continue
        if record.operation == "delete":
            posted = {content: first for content, first in posted.items() if first[0] != record.claim}
        elif record.operation == "create":
            content = _content(record)
            first = posted.get(content)
            if first is not None and first[0] != record.claim and first[0] not in removed:
                raise AssertionError(
                    f"request {record.sequence} posted as {record.claim} what request {first[1]} had posted "
                    f"as {first[0]}, which lived: {content}"
                )
            posted[content] = (record.claim, record.sequence)


def held_as_said(
    error: str,
    before: Iterable[ClaimRecord],
    after: Iterable[ClaimRecord],
    foreign: Collection[str] = (),
) -> None:
    """After an error: the claim that its text calls reserved lives, and unchanged where it says so.

    `foreign` are the ids of claims that somebody else has changed or released.
    """
    said = re.search(r"Still reserved: (?!nothing)(.*)", error)
    named = re.search(r"\(id ([0-9a-f-]{36})\)", error)
    if said is None or named is None or "as far as we know" in said[1] or named[1] in foreign:
        return
    counts = {claim.id: claim.instance_count for claim in live(before)}
    now = {claim.id: claim.instance_count for claim in live(after)}
    assert named[1] in now, f"{named[1]} is said to be reserved, and does not live: {error}"
    if "unchanged" in said[1] or said[1].startswith("the claim as it was before."):
        assert now[named[1]] == counts.get(named[1]), f"{named[1]} has another count than before: {error}"


def nothing_alive(claims: Sequence[ClaimRecord], state: Iterable[StateEntry]) -> None:
    """After `destroy`: no claim lives, and the state holds none."""
    left = claims_of(state)
    assert not left, f"the state still holds {[resource_name(entry) for entry in left]}"
    assert not live(claims), f"claims live after destroy: {_shown(live(claims))}"


def _declares(claim: ClaimRecord) -> tuple[str, ...]:
    """What a claim declares for good: without the count and the digits of its id in its name."""
    return (claim.name.removesuffix(f"-{claim.id[:7]}"), claim.instance_id, *claim.zones)


def _stack(claim_id: str) -> str:
    """The half of a claim's id that shows the namespace."""
    return claim_id[18:]


def _content(record: RequestRecord) -> str:
    """What a create declares and for which stack, without the digits of the id in the name, and the count."""
    body: Any = record.body
    id = str(body["id"])
    name = str(body["name"]).removesuffix(f"-{id[:7]}")
    resources = {key: value for key, value in body["resources"].items() if key != "instanceCount"}
    return f"{_stack(id)} {name} {sorted(resources.items())}"


def _shown(claims: Iterable[ClaimRecord]) -> str:
    return ", ".join(
        f"{claim.name} ({claim.id}, {sum(claim.allocation.values())} of {claim.instance_count} "
        f"{claim.instance_id} in {'/'.join(claim.zones)}, {claim.status})"
        for claim in claims
    )
