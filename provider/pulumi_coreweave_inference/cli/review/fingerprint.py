"""A fingerprint of what a plan does to claims, so that an approval can be tied to it.

It covers, for every claim that something happens to: its URN (so stack and project, too), what happens,
in which order, to which claim id, what it holds before and is declared to hold after, its protection. It
does not cover unchanged claims, other resources, drift, times, or the order in which steps are printed.
"""

from __future__ import annotations

import hashlib
import json

from .plan import Plan, Spec, Unsaid

_VERSION = 1  # of what is covered; an approval of another version never matches


def fingerprint(plan: Plan) -> str:
    """64 hexadecimal digits; equal for equal plans."""
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
                change.earlier,
            ]
            for change in plan.altered
        ),
        key=json.dumps,
    )
    text = json.dumps([_VERSION, plan.refresh, changes], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _covered(spec: Spec | None) -> list[object] | None:
    if spec is None:
        return None
    zones = spec.zones if isinstance(spec.zones, Unsaid) else [_value(zone) for zone in spec.zones]
    return [
        _value(zones),
        *map(_value, (spec.instance_type, spec.count, spec.capacity_type, spec.name)),
    ]


def _value(value: object) -> object:
    # A text is set apart from what is not said, whatever the text is.
    return {"unsaid": value.name} if isinstance(value, Unsaid) else value
