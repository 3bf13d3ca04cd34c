"""What cannot be undone is asked once more; every button of every form is on one side or on the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import installed
from fleet_server import Running
from page_browser import person, started
from playwright.sync_api import Browser, Dialog, Page, expect

import edge_fleet.console

TEMPLATES = Path(edge_fleet.console.__file__).with_name("templates")
BUTTON = re.compile(r"<button\b(?:[^>{]|\{\{.*?\}\}|\{%.*?%\})*>[^<]*")
FORM = re.compile(r"<form\b[^>]*method=\"post\".*?</form>", re.DOTALL)
# Buttons that do not ask, by template and value, id or words, and why they need not.
PLAIN = {
    ("alert.html", "ack"): "it stays as it is, and is said to be seen",
    ("alert.html", "silence"): "it ends by itself",
    ("alert_rules.html", "change"): "it is set again",
    ("approvals.html", "Save"): "it is set again",
    ("base.html", "Log out"): "one logs in again",
    ("device.html", "order-retry"): "it is what was asked before",
    ("device.html", "order-skip"): "a retry takes it in again",
    ("login.html", "Log in"): "it begins something",
    ("login.html", "Log in with the token"): "it begins something",
    ("order.html", "do"): "a page of its own that asks",
    ("plan.html", "Continue"): "it makes nothing",
    ("plan.html", "check"): "it makes nothing",
    ("plan.html", "simulate"): "it makes nothing",
    ("plan.html", "draft"): "a draft is aborted",
    ("plan.html", "start"): "a rollout is paused, and rolled back",
    ("rollout.html", "order-{{ order }}"): "what is grave leads to a page that asks",
    ("settings.html", "password"): "it is set again",
    ("settings.html", "end"): "one logs in again",
    ("settings_keys.html", "add"): "it is retired",
    ("settings_keys.html", "make-director"): "it is retired before it is in force",
    ("settings_tokens.html", "Make"): "it is revoked",
    ("settings_users.html", "role"): "it is set again",
    ("settings_users.html", "logout"): "one logs in again",
    ("settings_users.html", "enable"): "they are disabled again",
    ("settings_users.html", "add"): "they are disabled",
    ("settings_webhooks.html", "test"): "it is one message",
    ("settings_webhooks.html", "add"): "it is removed",
    ("settings_webhooks.html", "retry"): "it is one message",
    ("withdraw.html", "do"): "a page of its own that asks",
}


def buttons() -> Iterator[tuple[str, str, bool]]:
    """Template, what names the button, and whether it asks."""
    for template in sorted(TEMPLATES.glob("*.html")):
        for form in FORM.findall(template.read_text("utf-8")):
            for button in BUTTON.findall(form):
                if 'type="button"' in button:
                    continue
                own = re.search(r"\bvalue=\"([^\"]+)\"", button) or re.search(r"\bid=\"([^\"]+)\"", button)
                name = own[1] if own else button.rsplit(">", 1)[1].strip()
                yield template.name, name, "data-confirm=" in button


def test_every_button_asks_or_is_known_to_need_no_question() -> None:
    found = list(buttons())
    assert len(found) > 40, "the forms are not found any more"
    silent = {(template, name) for template, name, asks in found if not asks}
    assert silent - PLAIN.keys() == set(), "let it ask (data-confirm), or say why it need not"
    assert PLAIN.keys() - {(template, name) for template, name, _ in found} == set(), "no such button"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if installed() is None:
        pytest.skip("no chromium on this machine")
    with started() as found:
        yield found


def press(page: Page, name: str, accept: bool) -> str:
    """Go to a button and press Enter; what was asked."""
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if accept else dialog.dismiss()

    page.once("dialog", answer)
    button = page.get_by_role("button", name=name)
    button.focus()
    page.keyboard.press("Enter")
    assert asked, f"{name!r} asked nothing"
    return asked[0]


def test_a_token_is_revoked_and_a_webhook_removed_only_by_who_says_so_twice(
    fleet: Running, browser: Browser
) -> None:
    made = fleet.admin.post("/api/v1/tokens", json={"role": "viewer", "label": "the wall"}).json()["id"]
    url = "http://127.0.0.1:9/asked"
    fleet.admin.post("/api/v1/webhooks", json={"url": url}).raise_for_status()
    with person(browser, fleet.url, fleet.token("admin", label="ada")) as ada:
        page = ada.page
        for where, name, row, told in (
            ("tokens", f"Revoke token {made}", made, f"Revoke token {made} (the wall) for good?"),
            ("webhooks", f"Remove {url}", url, f"Remove {url}?"),
        ):
            page.goto(f"/console/settings/{where}")
            assert press(page, name, accept=False).startswith(told)
            page.reload()
            expect(page.get_by_role("button", name=name)).to_be_visible()  # nothing was done
            press(page, name, accept=True)
            expect(page.get_by_role("button", name=name)).to_have_count(0)
            expect(page.get_by_role("cell", name=row, exact=True)).to_have_count(0)
        assert ada.complaints == []


def test_the_keyboard_is_seen_in_every_field_of_a_search(fleet: Running, browser: Browser) -> None:
    outline = (
        "one => { const s = getComputedStyle(one); return [s.outlineStyle, parseFloat(s.outlineWidth)]; }"
    )
    with person(browser, fleet.url, fleet.token("admin", label="eve")) as eve:
        page = eve.page
        page.goto("/console/audit")
        page.get_by_label("Who").focus()
        seen = {}
        for _ in range(20):  # a date has three fields and a button of its own
            page.keyboard.press("Tab")
            field = page.evaluate_handle("document.activeElement").as_element()
            assert field is not None
            name = field.get_attribute("id") or field.inner_text()
            seen[name] = field.evaluate(outline)
            if name == "Find":
                break
    assert seen.keys() == {"action", "q", "since", "until", "Find"}
    assert {name: told for name, told in seen.items() if told[0] == "none" or told[1] < 2} == {}
