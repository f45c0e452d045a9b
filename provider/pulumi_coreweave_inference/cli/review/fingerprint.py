"""A fingerprint of what a plan does to claims, which ties an approval to the plan.

It covers, for every claim that changes: its URN (and with it stack and project), what happens and in which
order, the id of the existing claim, what it holds before and is declared to hold after, its protection, and
the claim that it takes over. It does not cover unchanged claims, other resources, drift, times, how many
instances a claim has been given, or the order of the printed steps.

A value that the preview does not show is covered only as such: whatever it is, the fingerprint is the same.
An approval by fingerprint would hold for any value, so `review` accepts none while there is such a value.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from .plan import Existing, Plan, Spec, Unknown

_VERSION: Final = 1  # of what is covered; an approval of another version never matches


def fingerprint(plan: Plan) -> str:
    """64 hexadecimal digits, equal for equal plans."""
    changes = sorted(
        (
            [
                change.urn,
                change.kind.value,
                change.order.value if change.order else None,
                change.claim_id,
                _covered(change.before),
                _covered(change.after),
                change.protected,
                change.retained,
                change.by_unfinished_replacement,
                *_taken(change.takes_over),
            ]
            for change in plan.altered
        ),
        key=json.dumps,
    )
    text = json.dumps([_VERSION, plan.refresh, changes], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _taken(existing: Existing | None) -> list[object]:
    # Nothing is added for other claims, whose fingerprints were the same before claims were taken over.
    return [existing.claim_id, _covered(existing.spec)] if existing else []


def _covered(spec: Spec | None) -> list[object] | None:
    if spec is None:
        return None
    zones = spec.zones if isinstance(spec.zones, Unknown) else [_value(zone) for zone in spec.zones]
    return [
        _value(zones),
        *map(_value, (spec.instance_type, spec.count, spec.capacity_type, spec.name)),
    ]


def _value(value: object) -> object:
    # An object, so that no text equals an unknown value.
    return {"unsaid": value.value.upper()} if isinstance(value, Unknown) else value
