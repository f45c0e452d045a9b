"""The forms of the page: what they look like, and which control calls they make."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coreweave_inference.emulator.claims import Overview
from coreweave_inference.emulator.faults import FaultState
from coreweave_inference.emulator.web.markup import Html, join, tag
from coreweave_inference.emulator.web.presets import PRESETS

Fields = Mapping[str, str]
"""What was entered, by the name of the field."""

_UNITS = {"seconds": 1, "minutes": 60, "hours": 3_600}
_UNIT_LABELS = {unit: unit for unit in _UNITS}
_EXAMPLE = '[{"path": "create", "nth": 2, "drop": "after"}]'


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the control API."""

    method: str
    path: str
    body: object = None


def _set_stock(fields: Fields) -> Call:
    zone, name, total = (fields.get(key, "").strip() for key in ("zone", "type", "total"))
    if not zone or not name:
        raise ValueError("Enter a zone and an instance type.")
    if not re.fullmatch("[0-9]{1,9}", total):
        raise ValueError(f"The number of instances must be a whole number, not {reprlib.repr(total)}.")
    return Call("PATCH", "/inventory", {zone: {name: int(total)}})


def _inject_preset(fields: Fields) -> Call:
    preset = PRESETS.get(fields.get("preset", ""))
    if preset is None:
        raise ValueError("Choose a fault.")
    return Call("PATCH", "/faults", [preset.rule.to_json()])


def _inject_rules(fields: Fields) -> Call:
    text = fields.get("rules", "")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"This is not JSON: {error}") from None
    if isinstance(value, dict) and not {"rules", "random"} & value.keys():
        value = [value]  # a single rule
    return Call("PATCH", "/faults", value)


def _move_clock(fields: Fields) -> Call:
    amount, unit = fields.get("amount", "").strip(), fields.get("unit", "")
    if unit not in _UNITS or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", amount):
        raise ValueError(f"Enter a positive number of seconds, minutes or hours, not {reprlib.repr(amount)}.")
    return Call("POST", "/clock", {"advance": float(amount) * _UNITS[unit]})


def _reset(fields: Fields) -> Call:
    if not fields.get("sure"):
        raise ValueError("Confirm that all claims shall be removed.")
    return Call("POST", "/reset")


CALLS: Mapping[str, Callable[[Fields], Call]] = {
    "stock": _set_stock,
    "preset": _inject_preset,
    "rules": _inject_rules,
    "clear-faults": lambda fields: Call("DELETE", "/faults"),
    "release": lambda fields: Call("POST", "/release", {}),
    "clock": _move_clock,
    "reset": _reset,
}
"""What each form does, by its name. Each raises ValueError, with the text for the page, for bad input."""


def controls(
    overview: Overview, faults: FaultState, held: int, errors: Mapping[str, str], values: Fields
) -> Html:
    """All forms. Only what is marked as live changes while somebody fills them in."""

    def form(name: str, button: str, *content: Html) -> Html:
        error = errors.get(name)
        shown = tag("p", error, class_="error", role="alert") if error else None
        return tag(
            "form",
            *content,
            tag("button", button),
            shown,
            method="post",
            action=f"/ui/{name}",
            id=f"form-{name}",
        )

    def entry(label: str, name: str, **attributes: str | int | bool | None) -> Html:
        given = {"value": values.get(name), **attributes}
        return tag("label", label, tag("input", name=name, required=True, **given))

    return tag(
        "aside",
        tag("h2", "Stock"),
        form(
            "stock",
            "Set stock",
            entry("Zone", "zone", list="zone-names"),
            entry("Instance type", "type", list="type-names"),
            entry("Instances in total", "total", type="number", min=0),
        ),
        tag("div", _names(overview), id="names", data_live=True),
        tag("h2", "Faults"),
        tag("div", _rules(faults, held), id="rules", data_live=True),
        form("preset", "Inject", tag("label", "Fault", _options("preset", _presets(), values.get("preset")))),
        form(
            "rules",
            "Inject",
            tag(
                "label",
                "Rules as JSON",
                tag("textarea", Html("\n"), values.get("rules", ""), name="rules", rows=4, required=True,
                    spellcheck="false", placeholder=_EXAMPLE),
            ),
        ),
        tag(
            "div",
            form("clear-faults", "Clear faults"),
            form("release", "Release held requests"),
            class_="row",
        ),
        tag("h2", "Clock"),
        form(
            "clock",
            "Move forward",
            entry("By", "amount", type="number", min=0, step="any"),
            tag("label", "Unit", _options("unit", _UNIT_LABELS, values.get("unit", "minutes"))),
        ),
        tag("h2", "Reset"),
        form(
            "reset",
            "Reset",
            tag(
                "label",
                tag("input", type="checkbox", name="sure", value="yes", required=True),
                "Remove all claims and the request log; restore the stock and the faults of the start",
                class_="check",
            ),
        ),
        id="controls",
    )  # fmt: skip


def _names(overview: Overview) -> Html:
    """The zones and types that the form for the stock suggests."""
    types = sorted({name for of_zone in overview.stock.values() for name in of_zone})
    return join(
        tag("datalist", *(tag("option", value=zone) for zone in overview.stock), id="zone-names"),
        tag("datalist", *(tag("option", value=name) for name in types), id="type-names"),
    )


def _rules(faults: FaultState, held: int) -> Html:
    rules = [
        tag(
            "li",
            tag("b", rule.name),
            f" matched {counts.met}, hit {counts.hit}",
            tag("code", json.dumps(rule.model_dump(mode="json", exclude_defaults=True, exclude={"name"}))),
        )
        for rule, counts in zip(faults.profile.rules, faults.counts, strict=True)
    ]
    chance = faults.profile.random_faults
    if chance is not None:
        rules.append(tag("li", tag("b", "random"), f" {chance.rate:.0%} of the other requests fail"))
    none = None if rules else tag("p", "No faults are injected.", class_="muted")
    waiting = tag("p", f"Requests held: {held}") if held else None
    return join(none, tag("ul", *rules) if rules else None, waiting)


def _presets() -> dict[str, str]:
    return {name: preset.label for name, preset in PRESETS.items()}


def _options(name: str, labels: Mapping[str, str], chosen: str | None) -> Html:
    options = (tag("option", label, value=key, selected=key == chosen) for key, label in labels.items())
    return tag("select", *options, name=name)
