"""The emulator's page over HTTP: who gets in, what forms do and refuse, and that foreign text stays text."""

from __future__ import annotations

import html
import json
import re
import socket
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest
from support.claims import create

from coreweave_inference.emulator import Emulator, EmulatorSettings
from coreweave_inference.emulator.history import Point
from coreweave_inference.emulator.web.access import cookie_name, is_same_origin
from coreweave_inference.emulator.web.markup import Html, join, tag, text
from coreweave_inference.emulator.web.presets import PRESETS
from coreweave_inference.emulator.web.timeline import timeline

INVENTORY = {"US-WEST-01A": {"a": 4}, "US-EAST-01A": {"a": 2, "b": 7}}
FORMS = ("stock", "preset", "rules", "clear-faults", "release", "clock", "reset", "sign-out")
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorSettings(inventory=INVENTORY)) as running:
        yield running


@pytest.fixture
def stranger(emulator: Emulator) -> Iterator[httpx.Client]:
    """A browser that is not signed in, on the emulator's own page."""
    with httpx.Client(base_url=emulator.url, headers=OWN) as client:
        yield client


@pytest.fixture
def browser(emulator: Emulator, stranger: httpx.Client) -> httpx.Client:
    """A browser that is signed in."""
    answer = stranger.post("/ui/sign-in", data={"token": emulator.admin_token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return stranger


def words(page: httpx.Response) -> str:
    """What a person reads, with single blanks."""
    plain = re.sub(r"<[^>]+>", " ", page.text.partition("<body>")[2])
    return " ".join(html.unescape(plain).split())


def error(page: httpx.Response) -> str:
    (found,) = re.findall(r'<p class="error" role="alert">(.*?)</p>', page.text)
    return html.unescape(found)


# Access


def test_without_a_session_nothing_is_shown_but_the_sign_in(
    emulator: Emulator, stranger: httpx.Client
) -> None:
    create(emulator)
    page = stranger.get("/")
    assert page.status_code == 200
    assert "Sign in" in words(page)
    assert not [word for word in ("training", "US-WEST-01A", "capacityclaims") if word in page.text]


def test_the_session_cookie_is_out_of_reach_for_scripts_and_sites(
    emulator: Emulator, stranger: httpx.Client
) -> None:
    answer = stranger.post("/ui/sign-in", data={"token": f" {emulator.admin_token}\n"})
    (cookie,) = answer.headers.get_list("set-cookie")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert emulator.admin_token not in cookie
    assert "Zones" in words(stranger.get("/"))


@pytest.mark.parametrize("token", ["", "wrong", "\x00", "größe"])
def test_another_token_does_not_sign_in(stranger: httpx.Client, token: str) -> None:
    answer = stranger.post("/ui/sign-in", data={"token": token})
    assert (answer.status_code, error(answer)) == (403, "This is not the control token.")
    assert "set-cookie" not in answer.headers


def test_an_api_token_does_not_sign_in(emulator: Emulator, stranger: httpx.Client) -> None:
    for token in (emulator.token, emulator.viewer_token):
        assert stranger.post("/ui/sign-in", data={"token": token}).status_code == 403


@pytest.mark.parametrize("form", FORMS)
def test_no_form_works_without_a_session(emulator: Emulator, stranger: httpx.Client, form: str) -> None:
    stranger.cookies.set(cookie_name(emulator.url), "guessed")
    answer = stranger.post(f"/ui/{form}", data={"zone": "RNO2A", "type": "a", "total": "1", "sure": "yes"})
    assert (answer.status_code, error(answer)) == (
        403,
        "You are signed out. Sign in, then repeat what you did.",
    )
    assert emulator.inventory() == INVENTORY


@pytest.mark.parametrize("form", ["sign-in", *FORMS])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
        {"Sec-Fetch-Site": ""},
    ],
)
def test_no_other_page_can_send_a_form(
    emulator: Emulator, browser: httpx.Client, form: str, headers: dict[str, str]
) -> None:
    fields = {"token": emulator.admin_token, "zone": "RNO2A", "type": "a", "total": "1", "sure": "yes"}
    request = browser.build_request("POST", f"/ui/{form}", data=fields, headers=headers)
    if not headers["Sec-Fetch-Site"]:
        del request.headers["Sec-Fetch-Site"]
    assert browser.send(request).status_code == 403
    assert emulator.inventory() == INVENTORY
    assert "Zones" in words(browser.get("/"))


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"host": "a:80", "origin": "http://a:80"}, True),
        ({"host": "a:80", "origin": "https://a:80", "sec-fetch-site": "same-origin"}, True),
        ({"host": "a:80", "origin": "http://a:81"}, False),
        ({"host": "a", "origin": "http://b"}, False),
        ({"host": "a", "origin": "http://["}, False),
        ({"origin": "http://a"}, False),
        ({"host": "a", "sec-fetch-site": "same-origin"}, True),
        ({"host": "a"}, False),
    ],
)
def test_the_browser_says_who_sends_a_form(headers: dict[str, str], allowed: bool) -> None:
    assert is_same_origin(headers) is allowed


def test_a_foreign_host_gets_no_page(browser: httpx.Client) -> None:
    for path in ("/", "/ui/page.css"):
        assert browser.get(path, headers={"Host": "evil.example"}).status_code == 421


def test_after_sign_out_the_session_is_over(browser: httpx.Client) -> None:
    cookies = dict(browser.cookies)
    assert browser.post("/ui/sign-out").status_code == 303
    assert not browser.cookies
    browser.cookies.update(cookies)
    assert "Zones" not in words(browser.get("/"))


def test_two_emulators_on_one_machine_have_two_cookies() -> None:
    assert cookie_name("127.0.0.1:8080") != cookie_name("127.0.0.1:8081")
    assert cookie_name("[::1]:8080") == cookie_name("localhost:8080")
    assert cookie_name("emulator") == "coreweave-emulator-default"
    assert cookie_name("x:8;y=1") == "coreweave-emulator-default"


def test_every_answer_forbids_foreign_sources_and_frames(browser: httpx.Client) -> None:
    answers = [browser.get(path) for path in ("/", "/ui/page.css", "/ui/page.js", "/ui/icon.svg", "/ui/x")]
    answers.append(browser.post("/ui/clock", data={"amount": "x"}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert set(re.findall(r"(\S+)(?:;|$)", policy)) == {"'none'", "'self'"}
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"


class _Sources(HTMLParser):
    """What a page loads or sends to, and what a policy without inline code would not run."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets |= {value or "" for key, value in attrs if key in ("src", "href", "action")}
        self.inline += [key for key, _ in attrs if key == "style" or key.startswith("on")]
        self.inline += [tag] if tag == "style" else []


def test_a_page_loads_only_its_own_files_and_has_no_inline_code(
    emulator: Emulator, browser: httpx.Client
) -> None:
    create(emulator)
    sources = _Sources()
    sources.feed(browser.get("/").text)
    assert sources.inline == []
    for target in sources.targets:
        assert target.startswith("/ui/")
        assert browser.get(target, follow_redirects=True).status_code == 200, target


def test_no_token_is_on_the_page_in_a_url_or_in_the_log(
    emulator: Emulator, browser: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    httpx.get(f"{emulator.url}/v1alpha1/inference/capacityclaims?token={emulator.token}")
    page = browser.get("/")
    assert "token=[token]" in page.text
    wrong = browser.post("/ui/sign-in", data={"token": f"{emulator.admin_token}x"})
    for token in (emulator.token, emulator.viewer_token, emulator.admin_token):
        assert token not in page.text + wrong.text + caplog.text + str(page.headers)


def test_the_page_and_its_forms_are_not_in_the_request_log(emulator: Emulator, browser: httpx.Client) -> None:
    browser.get("/")
    browser.get("/favicon.ico")
    browser.post("/ui/clock", data={"amount": "1", "unit": "seconds"})
    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ui/", 404),
        ("GET", "/ui/x", 404),
        ("GET", "/ui/stock", 303),
        ("HEAD", "/", 200),
        ("POST", "/", 404),
        ("POST", "/ui/x", 404),
        ("PUT", "/ui/stock", 405),
        ("DELETE", "/", 404),
    ],
)
def test_other_methods_and_paths_are_refused(
    browser: httpx.Client, method: str, path: str, status: int
) -> None:
    assert browser.request(method, path).status_code == status


def test_a_form_that_is_too_large_is_refused(browser: httpx.Client) -> None:
    assert browser.post("/ui/rules", data={"rules": "[" * 200_000}).status_code == 413


# What is shown


def test_zones_claims_and_requests_are_shown(emulator: Emulator, browser: httpx.Client) -> None:
    claim = create(emulator, count=7)
    page = browser.get("/")
    shown = words(page)
    assert "US-WEST-01A a 0 of 4 free" in shown
    assert "US-EAST-01A a 0 of 2 free b 7 of 7 free" in shown
    assert "training CREATING 6 of 7 a, waits for 1" in shown
    assert "US-EAST-01A 2 InsufficientCapacity: 0 of 1 a instances free" in shown
    assert "POST /v1alpha1/inference/capacityclaims 200" in shown
    assert claim in shown
    assert page.text.count("<svg") == 1


def test_the_newest_request_is_first_and_its_fault_is_named(
    emulator: Emulator, browser: httpx.Client
) -> None:
    emulator.set_faults([{"name": "broken", "path": "list", "fail": {"code": "internal"}}])
    headers = {"Authorization": f"Bearer {emulator.token}"}
    for path in ("/parameters", ""):
        httpx.get(f"{emulator.url}/v1alpha1/inference/capacityclaims{path}", headers=headers)
    rows = re.findall(r"<tr><td class=\"number\">.*?</tr>", browser.get("/").text)
    assert [re.sub(r"<[^>]+>|\d\d:\d\d:\d\d", " ", row).split() for row in rows] == [
        ["2", "GET", "/v1alpha1/inference/capacityclaims", "500", "broken"],
        ["1", "GET", "/v1alpha1/inference/capacityclaims/parameters", "200"],
    ]


def test_many_claims_and_requests_are_cut(emulator: Emulator, browser: httpx.Client) -> None:
    for number in range(52):
        create(emulator, f"claim-{number}", 0)
    page = browser.get("/")
    assert "the newest 50 of 52" in words(page)
    assert page.text.count("<article") == 50 + len(INVENTORY)
    assert "the latest 50" in words(page)
    assert "claim-51" in page.text
    assert "claim-1<" not in page.text


FOREIGN = "<script>alert(1)</script>\"'&\x00\x1b[2J\u202e\ud800"


def test_foreign_text_stays_text(emulator: Emulator, browser: httpx.Client) -> None:
    claim = create(emulator)
    condition = {"zone": FOREIGN, "reason": FOREIGN, "message": FOREIGN}
    emulator.edit_claim(
        claim,
        spec={"name": FOREIGN, "resources": {"zones": [FOREIGN], "instanceId": FOREIGN}},
        status={"status": FOREIGN, "conditions": [condition, condition | {"zone": "other"}, 7]},
    )
    emulator.set_inventory({FOREIGN: {FOREIGN: 1}})
    emulator.set_faults([{"name": FOREIGN, "claim": FOREIGN, "delay": 0}, {"delay": 0, "name": FOREIGN}])
    httpx.get(
        f"{emulator.url}/%3Cscript%3E%1b?<script>", headers={"Authorization": f"Bearer {emulator.token}"}
    )
    browser.post("/ui/sign-in", data={"token": FOREIGN.encode(errors="replace")})
    for page in (
        browser.get("/"),
        browser.post("/ui/stock", data={"zone": "<script>", "type": "<script>", "total": "<script>"}),
        browser.post("/ui/rules", data={"rules": '{"</textarea><script>": 1}'}),
        browser.post("/ui/clock", data={"amount": "<script>"}),
        browser.post("/ui/preset", data={"preset": "<script>"}),
    ):
        assert "&lt;script&gt;" in page.text
        assert re.findall(r"<script[^>]*>", page.text) == ['<script src="/ui/page.js" defer>']
        assert page.text.count("</textarea>") == 1
        assert page.text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "conditions", [None, 7, "text", {"zone": "x"}, [None, [], {"zone": None, "reason": []}]]
)
def test_conditions_of_any_shape_are_shown_or_left_out(
    emulator: Emulator, browser: httpx.Client, conditions: object
) -> None:
    claim = create(emulator)
    emulator.edit_claim(claim, status={"conditions": conditions, "status": 99})
    assert "training 99" in words(browser.get("/"))


def test_markup_is_escaped_where_it_is_put_together() -> None:
    assert text('<a href="x">\'&') == "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;"
    assert text("a\x00\x1b\u202e\ud800\nb") == "a\ufffd\ufffd\ufffd\ufffd\nb"
    assert tag("p", "<", Html("<br>"), None, 1, class_='"', title=None, hidden=True, lang=False) == (
        '<p class="&quot;" hidden>&lt;<br>1</p>'
    )
    assert tag("input", data_live="<") == '<input data-live="&lt;">'
    assert join("<", tag("b", ">")) == "&lt;<b>&gt;</b>"


def test_a_timeline_draws_steps_and_states_up_to_now() -> None:
    points = [
        Point(0, 0, 4, "STATUS_CREATING"),
        Point(50, 2, 4, "STATUS_CREATING"),
        Point(75, 4, 4, "STATUS_READY"),
    ]
    drawn = timeline(points, 100)
    assert 'd="M0,64 L0.0,64.0 V64.0 H300.0 V32.0 H450.0 V0.0 H600.0 V64 Z"' in drawn
    assert re.findall(r'<rect class="(\w+)" .*? x="([\d.]+)" width="([\d.]+)"', drawn) == [
        ("busy", "0.0", "300.0"), ("busy", "300.0", "150.0"), ("ready", "450.0", "150.0"),
    ]  # fmt: skip
    assert "4 of 4 instances allocated now" in drawn


@pytest.mark.parametrize("now", [0, 5])
def test_a_timeline_of_one_moment_without_instances_is_drawn(now: int) -> None:
    assert 'x="0.0" width="600.0"' in timeline([Point(5, 0, 0, "new")], now)


# What forms do


def test_the_stock_is_set_and_a_waiting_claim_is_served(emulator: Emulator, browser: httpx.Client) -> None:
    create(emulator, count=7)
    answer = browser.post("/ui/stock", data={"zone": " US-WEST-01A ", "type": "a", "total": "5"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/#form-stock")
    assert emulator.inventory() == {**INVENTORY, "US-WEST-01A": {"a": 5}}
    assert "training READY 7 of 7 a" in words(browser.get("/"))


def test_a_preset_is_injected_beside_other_rules(emulator: Emulator, browser: httpx.Client) -> None:
    emulator.set_faults([{"name": "mine", "delay": 0}])
    for _ in range(2):
        assert browser.post("/ui/preset", data={"preset": "outage"}).status_code == 303
    assert emulator.faults()["rules"] == [
        {"name": "mine", "delay": 0.0},
        {"name": "outage", "fail": PRESETS["outage"].rule.to_json()["fail"]},
    ]
    headers = {"Authorization": f"Bearer {emulator.token}"}
    assert httpx.get(f"{emulator.url}/v1alpha1/inference/capacityclaims", headers=headers).status_code == 200
    browser.post("/ui/clear-faults")
    assert emulator.faults()["rules"] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_rule_that_can_be_written_as_json(
    emulator: Emulator, browser: httpx.Client, preset: str
) -> None:
    browser.post("/ui/preset", data={"preset": preset})
    assert f"{preset} matched 0, hit 0" in words(browser.get("/"))


@pytest.mark.parametrize(
    "rules",
    [
        {"path": "list", "fail": {}},
        [{"path": "list", "fail": {}}],
        {"rules": [{"path": "list", "fail": {}}]},
    ],
)
def test_rules_are_injected_as_json(emulator: Emulator, browser: httpx.Client, rules: object) -> None:
    assert browser.post("/ui/rules", data={"rules": json.dumps(rules)}).status_code == 303
    headers = {"Authorization": f"Bearer {emulator.token}"}
    assert httpx.get(f"{emulator.url}/v1alpha1/inference/capacityclaims", headers=headers).status_code == 503


def test_held_requests_are_counted_and_released(emulator: Emulator, browser: httpx.Client) -> None:
    emulator.set_faults([{"path": "list", "hold": "before"}])
    headers = {"Authorization": f"Bearer {emulator.token}"}
    path = f"{emulator.url}/v1alpha1/inference/capacityclaims"
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(path, headers=headers, timeout=0.2)
    emulator.wait_for_hold()
    assert "Requests held: 1" in words(browser.get("/"))
    assert browser.post("/ui/release").status_code == 303
    assert emulator.holds() == []


def test_the_clock_is_moved_and_everything_reset(emulator: Emulator, browser: httpx.Client) -> None:
    before = emulator.now()
    browser.post("/ui/clock", data={"amount": "1.5", "unit": "hours"})
    assert emulator.now() - before >= 5_400 * 10**9
    create(emulator)
    browser.post("/ui/reset", data={"sure": "yes"})
    assert emulator.claims() == []


@pytest.mark.parametrize(
    ("form", "fields", "message"),
    [
        ("stock", {"zone": " ", "type": "a", "total": "1"}, "Enter a zone and an instance type."),
        ("stock", {"zone": "Z", "type": "a", "total": "-1"}, "must be a whole number, not '-1'."),
        ("stock", {"zone": "Z", "type": "a", "total": "9" * 5_000}, "must be a whole number, not '999"),
        ("preset", {}, "Choose a fault."),
        ("rules", {"rules": "{"}, "This is not JSON: Expecting property name"),
        ("rules", {"rules": "7"}, "must be an object, not 7"),
        ("rules", {"rules": '{"fail": {"code": "x"}}'}, "rule 1: fail.code: must be one of"),
        ("rules", {"rules": '{"wait": 1}'}, "rule 1: no such field: wait; the fields are name, method"),
        ("rules", {"rules": "[" * 30_000}, "The JSON is nested too deep."),
        (
            "clock",
            {"amount": "-5", "unit": "minutes"},
            "Enter a positive number of seconds, minutes or hours",
        ),
        ("clock", {"amount": "1", "unit": "years"}, "Enter a positive number of seconds, minutes or hours"),
        ("clock", {"amount": "999999999", "unit": "hours"}, "advance: must be at most 1000000000"),
        ("reset", {}, "Confirm that all claims shall be removed."),
    ],
)
def test_a_form_with_a_mistake_is_shown_again_with_it(
    emulator: Emulator, browser: httpx.Client, form: str, fields: dict[str, str], message: str
) -> None:
    create(emulator)
    answer = browser.post(f"/ui/{form}", data=fields)
    assert answer.status_code == 400
    assert message in error(answer)
    its_form = answer.text.partition(f'id="form-{form}"')[2].partition("</form>")[0]
    assert 'role="alert"' in its_form
    for name, value in fields.items():
        assert name == "unit" or html.escape(value) in its_form, "what was entered is kept"
    assert (emulator.inventory(), emulator.faults()["rules"], len(emulator.claims())) == (INVENTORY, [], 1)


@pytest.mark.parametrize("path", ["/ui/sign-in", "/_emulator/faults"])
def test_a_browser_that_leaves_in_the_middle_of_a_form_is_no_error(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    host = emulator.url.removeprefix("http://")
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        f"Origin: {emulator.url}",
        f"Authorization: Bearer {emulator.admin_token}",
        "Content-Length: 100",
    ]
    name, port = host.split(":")
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall("\r\n".join([*head, "", "to"]).encode())
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and not caplog.records:
        time.sleep(0.02)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
