"""The page as HTML: what the emulator holds, and the forms. The sign-in page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from coreweave_inference.emulator.claims import Overview
from coreweave_inference.emulator.faults import FaultState
from coreweave_inference.emulator.request_log import RequestRecord
from coreweave_inference.emulator.web.claims import claims_section
from coreweave_inference.emulator.web.forms import controls
from coreweave_inference.emulator.web.markup import Html, join, tag

TITLE = "CoreWeave emulator"


@dataclass(frozen=True, slots=True)
class View:
    """Everything that one page shows."""

    overview: Overview
    requests: Sequence[RequestRecord]
    """Newest first."""
    faults: FaultState
    held: int
    """How many requests a rule holds."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with a form, by the form's name."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What was entered in the form that is wrong, by field."""


def page(view: View) -> bytes:
    """The page for who is signed in."""
    clock = datetime.fromtimestamp(view.overview.now // 1_000_000_000, UTC)
    return _document(
        tag(
            "header",
            tag("h1", TITLE),
            tag("p", "Its GPUs are not real.", class_="badge"),
            tag("p", "Clock: ", tag("span", f"{clock:%Y-%m-%d %H:%M:%S} UTC", id="time", data_live=True)),
            tag("p", id="connection", role="status"),
            tag("form", tag("button", "Sign out"), method="post", action="/ui/sign-out"),
        ),
        tag(
            "main",
            tag("section", _zones(view.overview), id="zones", data_live=True),
            tag("section", claims_section(view.overview), id="claims", data_live=True),
            controls(view.overview, view.faults, view.held, view.errors, view.values),
            tag("section", _requests(view.requests), id="requests", data_live=True),
        ),
        script=True,
    )


def sign_in_page(error: str | None = None) -> bytes:
    """The page for everyone else. It shows nothing of the emulator."""
    return _document(
        tag(
            "main",
            tag("h1", TITLE),
            tag(
                "form",
                tag("p", error, class_="error", role="alert") if error else None,
                tag(
                    "label",
                    "Control token",
                    tag("input", name="token", type="password", required=True, autofocus=True,
                        autocomplete="current-password"),
                ),
                tag("button", "Sign in"),
                tag(
                    "p",
                    "It is the value of ",
                    tag("code", "COREWEAVE_EMULATOR_CONTROL_TOKEN"),
                    " that the emulator printed when it started.",
                    class_="muted",
                ),
                method="post",
                action="/ui/sign-in",
            ),
            class_="sign-in",
        ),
        script=False,
    )  # fmt: skip


def _document(*body: Html, script: bool) -> bytes:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", TITLE),
        tag("link", rel="icon", href="/ui/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/ui/page.css"),
        tag("script", src="/ui/page.js", defer=True) if script else None,
    )
    return join(Html("<!doctype html>\n"), tag("html", head, tag("body", *body), lang="en")).encode()


def _zones(overview: Overview) -> Html:
    zones = [
        tag(
            "article",
            tag("h3", zone),
            tag(
                "table",
                *(
                    tag(
                        "tr",
                        tag("td", name),
                        tag("td", tag("meter", max=max(1, stock.total), value=stock.available)),
                        tag(
                            "td",
                            tag("strong", stock.available),
                            f" of {stock.total} free",
                            class_="number",
                        ),
                    )
                    for name, stock in types.items()
                ),
            ),
        )
        for zone, types in overview.stock.items()
    ]
    return join(tag("h2", "Zones"), tag("div", *zones, class_="zones"))


def _requests(requests: Sequence[RequestRecord]) -> Html:
    if not requests:
        return join(tag("h2", "Requests"), tag("p", "No requests yet.", class_="muted"))
    heads = tag("tr", *(tag("th", head) for head in ("#", "Time", "Request", "Status", "Injected")))
    title = tag("h2", "Requests", tag("small", f"the latest {len(requests)}, newest first"))
    return join(title, tag("table", tag("thead", heads), tag("tbody", *map(_request, requests))))


def _request(record: RequestRecord) -> Html:
    arrived = datetime.fromtimestamp(record.at, UTC)
    target = f"{record.path}?{record.query}" if record.query else record.path
    outcome, kind = "no response", "bad"
    if record.status is not None:
        outcome, kind = str(record.status), "good" if record.status < 400 else "bad"
    elif record.seconds is None:
        outcome, kind = "open", "waiting"
    return tag(
        "tr",
        tag("td", record.sequence, class_="number"),
        tag("td", f"{arrived:%H:%M:%S}"),
        tag("td", tag("b", record.method), " ", tag("code", _shortened(target))),
        tag("td", outcome, class_=kind),
        tag("td", record.fault or ""),
    )


_LONGEST = 300  # characters of a path that are shown


def _shortened(target: str) -> str:
    return target if len(target) <= _LONGEST else f"{target[:_LONGEST]}…"
