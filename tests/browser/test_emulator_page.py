"""The emulator's page in a real browser."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
from support import claims

from coreweave_inference.emulator import Emulator

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLAIMS = "/v1alpha1/inference/capacityclaims"
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


create = partial(claims.create, instance_id="gb200-4x", zones=["US-WEST-04A"])


def list_claims(emulator: Emulator) -> int:
    headers = {"Authorization": f"Bearer {emulator.token}"}
    return httpx.get(emulator.url + CLAIMS, headers=headers).status_code


def test_more_stock_makes_a_waiting_claim_ready(emulator: Emulator, page: Page) -> None:
    create(emulator, "training", 4)
    claim = page.locator("article", has_text="training")
    claim.get_by_text("2 of 4", exact=True).wait_for()
    claim.get_by_text("CREATING").wait_for()
    claim.get_by_text("InsufficientCapacity").wait_for()
    assert page.locator("article", has_text="US-WEST-04A").first.inner_text().split()[-4:] == [
        "0",
        "of",
        "2",
        "free",
    ]
    page.get_by_label("Zone").fill("US-WEST-04A")
    page.get_by_label("Instance type").fill("gb200-4x")
    page.get_by_label("Instances in total").fill("16")
    page.get_by_role("button", name="Set stock").click()
    claim.get_by_text("READY").wait_for()
    claim.get_by_text("4 of 4", exact=True).wait_for()
    page.get_by_text("12 of 16 free").wait_for()
    box = claim.locator("svg").bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert box["height"] > 40


def test_an_injected_fault_fails_a_request_and_is_named_in_the_log(emulator: Emulator, page: Page) -> None:
    page.locator("select[name=preset]").select_option("every request fails with 503")
    page.get_by_role("button", name="Inject").first.click()
    page.get_by_text("outage matched 0, hit 0").wait_for()
    assert list_claims(emulator) == 503
    row = page.locator("#requests tbody tr").first
    row.get_by_text("503").wait_for()
    assert row.inner_text().split()[-4:] == ["GET", CLAIMS, "503", "outage"]
    page.get_by_role("button", name="Clear faults").click()
    page.get_by_text("No faults are injected.").wait_for()
    assert list_claims(emulator) == 200


def test_a_rule_with_a_mistake_is_explained_and_kept(
    page: Page, emulator: Emulator, expected_errors: list[str]
) -> None:
    expected_errors.append("status of 400")
    rules = '[{"path": "create",\n  "wait": 1}]'
    page.get_by_label("Rules as JSON").fill(rules)
    page.get_by_role("button", name="Inject").last.click()
    page.get_by_role("alert").get_by_text("rule 1: no such field: wait").wait_for()
    assert page.get_by_label("Rules as JSON").input_value() == rules
    page.get_by_label("Rules as JSON").fill(rules.replace("wait", "delay"))
    page.get_by_role("button", name="Inject").last.click()
    page.get_by_text("rule-1 matched 0, hit 0").wait_for()
    assert page.get_by_role("alert").count() == 0
    assert page.get_by_label("Rules as JSON").input_value() == ""


def test_a_refresh_leaves_a_half_filled_form_and_the_focus(emulator: Emulator, page: Page) -> None:
    page.get_by_label("Zone").fill("US-WEST")
    page.locator("select[name=preset]").select_option("slow")
    page.get_by_label("Rules as JSON").press_sequentially("[{")
    create(emulator, "training", 1)
    page.locator("article", has_text="training").wait_for()
    assert page.get_by_label("Zone").input_value() == "US-WEST"
    assert page.locator("select[name=preset]").input_value() == "slow"
    page.keyboard.type('"')
    assert page.get_by_label("Rules as JSON").input_value() == '[{"'


def test_a_foreign_name_stays_text(emulator: Emulator, page: Page) -> None:
    claim = create(emulator, "training", 1)
    emulator.edit_claim(claim, spec={"name": MARKUP}, status={"status": MARKUP})
    emulator.set_inventory({MARKUP: {MARKUP: 1}})
    emulator.set_faults([{"name": MARKUP, "delay": 0}])
    list_claims(emulator)
    card = page.locator("#claims article")
    card.get_by_role("heading", name=MARKUP).wait_for()
    page.locator("#zones").get_by_role("heading", name=MARKUP).wait_for()
    page.locator("#requests").get_by_text(MARKUP).wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1


def test_the_policy_stops_inline_code(page: Page, expected_errors: list[str]) -> None:
    expected_errors.append("Content Security Policy")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        document.body.append(script);
    }""")
    assert page.evaluate("window.hacked") is None


def test_the_clock_and_the_reset_have_forms(emulator: Emulator, page: Page) -> None:
    create(emulator, "training", 1)
    before = emulator.now()
    page.get_by_label("By").fill("2")
    page.get_by_label("Unit").select_option("hours")
    page.get_by_role("button", name="Move forward").click()
    page.get_by_text("2 h 0 min").wait_for()
    assert emulator.now() - before >= 7_200 * 10**9
    page.get_by_label("Remove all claims").check()
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("No claims yet.").wait_for()
    assert emulator.claims() == []


@pytest.mark.parametrize("width", [420, 900, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_width_with_any_text(
    emulator: Emulator, page: Page, width: int, scheme: str
) -> None:
    long = "a" * 100
    claim = create(emulator, long, 4)
    emulator.edit_claim(claim, status={"status": "STATUS_" + long.upper()})
    emulator.set_inventory({long: {long: 10**9}}, merge=True)
    emulator.set_faults([{"name": long, "path": f"{CLAIMS}/{long}", "fail": {"message": long}}])
    httpx.get(f"{emulator.url}{CLAIMS}/{long}?{long}", headers={"Authorization": f"Bearer {emulator.token}"})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(245, 246, 248)" if scheme == "light" else "rgb(18, 21, 27)")


# Other pages, and the end of a session


@contextmanager
def other_page(content: str) -> Iterator[str]:
    """A page on another port of this machine, for browsers the same site."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_page_on_another_port_can_neither_send_forms_nor_read(
    emulator: Emulator, page: Page, expected_errors: list[str]
) -> None:
    expected_errors.append("status of 403")
    form = f"""<form method=post action="{emulator.url}/ui/reset"><input name=sure value=yes>
        <button>Win a prize</button></form>"""
    create(emulator, "training", 1)
    with other_page(form) as other:
        expected_errors.append(other)
        page.goto(f"http://{other}/")
        read = page.evaluate(
            f"fetch('{emulator.url}/', {{credentials: 'include'}}).then(() => 'read', () => 'no')"
        )
        expected_errors.append("blocked by CORS policy")
        expected_errors.append("net::ERR_FAILED")
        page.get_by_role("button", name="Win a prize").click()
        page.get_by_text("Only the emulator's own page can send forms to it.").wait_for()
    assert read == "no"
    assert len(emulator.claims()) == 1


def test_a_page_whose_emulator_started_again_asks_to_sign_in(emulator: Emulator, page: Page) -> None:
    page.context.clear_cookies()
    page.get_by_label("Control token").wait_for()


def test_signing_out_ends_the_session(emulator: Emulator, page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Control token").wait_for()
    page.goto(f"{emulator.url}/")
    assert page.get_by_role("heading", name="Zones").count() == 0


def test_a_wrong_token_is_said_to_be_wrong(browser: Browser, emulator: Emulator) -> None:
    context = browser.new_context()
    shown = context.new_page()
    shown.goto(f"{emulator.url}/")
    shown.get_by_label("Control token").fill(emulator.token)
    shown.get_by_role("button", name="Sign in").click()
    shown.get_by_role("alert").get_by_text("This is not the control token.").wait_for()
    assert shown.get_by_label("Control token").input_value() == ""
    context.close()
