"""A headless browser for the tests, and an emulator for it. Without a browser, the tests are skipped.

With BROWSER=required in the environment, as `make browser` sets it, they fail instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

from coreweave_inference.emulator import Emulator, EmulatorSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
INVENTORY: Final = {"US-WEST-04A": {"gb200-4x": 2}, "RNO2A": {"l40s-8x": 8}}


def _missing(what: str) -> None:
    if os.environ.get("BROWSER") == "required":
        pytest.fail(f"{what}, and BROWSER=required")
    pytest.skip(f"{what}; run this with `make browser`")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser on PATH. Playwright's own is never downloaded."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if importlib.util.find_spec("playwright") is None:
        _missing("playwright is not installed")
    if path is None:
        _missing(f"none of {', '.join(BROWSERS)} is on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path)
        yield launched
        launched.close()


@pytest.fixture
def emulator(browser: Browser) -> Iterator[Emulator]:
    with Emulator(EmulatorSettings(inventory=INVENTORY)) as running:
        yield running


@pytest.fixture
def expected_errors() -> list[str]:
    """Parts of the console errors that a test causes on purpose."""
    return []


@pytest.fixture
def page(browser: Browser, emulator: Emulator, expected_errors: list[str]) -> Iterator[Page]:
    """A page that is signed in. Errors in its console and requests to other servers fail the test."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    shown = context.new_page()
    shown.set_default_timeout(20_000)
    errors: list[str] = []
    targets: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            errors.append(message.text)

    def sent(request: Request) -> None:
        targets.append(request.url)

    shown.on("console", note)
    shown.on("pageerror", lambda error: errors.append(str(error)))
    shown.on("request", sent)
    shown.goto(f"{emulator.url}/")
    shown.get_by_label("Control token").fill(emulator.admin_token)
    shown.get_by_role("button", name="Sign in").click()
    shown.get_by_role("heading", name="Zones").wait_for()
    yield shown
    context.close()
    assert [text for text in errors if not any(part in text for part in expected_errors)] == []
    assert {url.split("/")[2] for url in targets if url.startswith("http")} <= {
        emulator.url[7:],
        *expected_errors,
    }
    assert not [url for url in targets if emulator.admin_token in url]
