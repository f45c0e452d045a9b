"""The writer for programs: JSON by the schema in `review.schema.json`.

The version goes up when a field disappears or changes its meaning; new fields may come without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal

from .plan import Amount, Change, Drift, Kind, Spec, Unsaid, counts, sum_of
from .prices import Sum
from .review import Review

VERSION = 1


def json_report(review: Review) -> str:
    """A review as JSON text. Names are as they are: escape them where they are shown."""
    plan = review.plan
    found = counts(plan)
    asks = plan.asks
    certain, perhaps = plan.released_first()
    report = {
        "version": VERSION,
        "project": plan.project,
        "stack": plan.stack,
        "operation": "refresh" if plan.refresh else "update",
        "exitCode": review.exit_code,
        "fingerprint": review.fingerprint,
        "errors": list(plan.errors),
        "warnings": list(plan.warnings),
        "summary": {kind.value: found.get(kind, 0) for kind in Kind},
        "hiddenUnchangedResources": plan.hidden,
        "otherChangedResources": plan.others,
        "brokenRules": [
            {"rule": row.rule, "claim": row.claim, "value": row.value, "limit": row.limit}
            for row in review.broken
        ],
        "releasedFirst": {
            "certain": [change.urn for change in certain],
            "perhaps": [change.urn for change in perhaps],
        },
        "totals": [
            {
                "instanceType": _value(kind),
                "before": _amount(total.before),
                "after": _amount(total.after),
                "peak": _amount(total.peak),
                "ifNothingIsFound": _amount(total.on_failure),
            }
            for kind, total in review.totals.items()
        ],
        "claims": [_change(change, asks) for change in plan.altered],
        "drift": [_drift(drift) for drift in plan.drift],
        "cost": _cost(review),
    }
    return json.dumps(report, indent=2) + "\n"


def _change(change: Change, asks: bool) -> Mapping[str, object]:
    peak = Amount()
    for phase in change.phases:
        peak = peak.most(sum_of(phase))
    return {
        "name": change.name,
        "urn": change.urn,
        "id": change.claim_id,
        "kind": change.kind.value,
        "order": change.order.value if change.order else None,
        "replaceReasons": list(change.reasons),
        "protected": change.protected,
        "retained": change.retained,
        "leftByUnfinishedReplacement": change.earlier,
        "before": _spec(change.before),
        "after": _spec(change.after),
        "peak": _amount(peak),
        "ifNothingIsFound": _amount(sum_of(change.on_failure(asks))),
    }


def _drift(drift: Drift) -> Mapping[str, object]:
    return {
        "name": drift.name,
        "urn": drift.urn,
        "state": _spec(drift.state),
        "live": _spec(drift.live),
    }


def _cost(review: Review) -> Mapping[str, object] | None:
    cost = review.cost
    if cost is None:
        return None
    return {
        "currency": cost.currency,
        "perHour": _sum(cost.per_hour),
        "perMonth": _sum(cost.per_hour.per_month()),
        "gpus": _sum(cost.gpus) if cost.gpus else None,
        "unpriced": list(cost.unpriced),
    }


def _sum(sums: Sum) -> Mapping[str, object]:
    texts = {name: _decimal(getattr(sums, name)) for name in ("before", "after", "peak")}
    return {**texts, "partial": sums.partial, "partialBefore": sums.partial_before}


def _decimal(value: Decimal) -> str:
    return f"{value:f}"


def _spec(spec: Spec | None) -> Mapping[str, object] | None:
    if spec is None:
        return None
    zones = spec.zones if isinstance(spec.zones, Unsaid) else [_value(zone) for zone in spec.zones]
    return {
        "instanceType": _value(spec.instance_type),
        "instanceCount": _value(spec.count),
        "zones": _value(zones),
        "capacityType": _value(spec.capacity_type),
        "name": _value(spec.name),
    }


def _amount(amount: Amount) -> Mapping[str, object]:
    return {"known": amount.known, "more": amount.more}


def _value(value: object) -> object:
    return {"unsaid": value.name.lower()} if isinstance(value, Unsaid) else value
