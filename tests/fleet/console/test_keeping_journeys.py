"""What a person has typed, chosen or reached on a page survives what happens to it, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import installed
from console_client import PASSWORD
from console_client import person as add_person
from console_visit import furnish, settle
from fleet_rows import FleetRows
from fleet_server import Running
from page_browser import person, started
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import func, insert, select

from edge_fleet import schema

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium on this machine")

PLAN = "format: edgefleet.rollout/1\nrelease: digits@2\nstages: [5%, 100%]\n# an hour of thoughts"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    """Four devices, and people."""
    for name, role in (("ada", "admin"), ("olga", "operator")):
        add_person(fleet, name, role)
    return furnish(fleet)


def log_in(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")


def end_sessions(fleet: Running, name: str) -> None:
    fleet.admin.post(f"/api/v1/users/{name}/logout").raise_for_status()


def fail_once(page: Page, address: str) -> None:
    """The first time that a page's scripts ask for an address they are refused."""
    failures = iter(range(1))

    def answer(route: Route) -> None:
        if route.request.is_navigation_request() or next(failures, None) is None:
            route.continue_()
        else:
            route.fulfill(status=503, body="no")

    page.route(address, answer)


def test_a_plan_survives_a_session_that_ended_while_it_was_written(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url) as olga:
        page = olga.page
        page.goto("/console/rollouts/new")
        log_in(page, "olga")
        plan = page.get_by_label("YAML")
        plan.fill(PLAN)
        end_sessions(fleet, "olga")
        page.get_by_role("button", name="Check").click()
        expect(page.get_by_role("alert")).to_contain_text("nothing was done")
        page.get_by_label("Name").fill("olga")
        page.get_by_label("Password").fill("a wrong one first")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Name")).to_have_value("olga")
        expect(page.get_by_role("alert")).not_to_contain_text("nothing was done")
        log_in(page, "olga")
        expect(page.get_by_role("status").filter(has_text="is here again")).to_be_visible()
        expect(plan).to_have_value(PLAN)
        page.get_by_role("button", name="Check").click()
        expect(page.get_by_text("What it means today")).to_be_visible()
        assert olga.elsewhere == []


def test_a_live_page_that_leads_to_the_login_brings_back_what_was_typed(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url) as olga:
        page = olga.page
        page.goto("/console/settings/tokens")
        log_in(page, "olga")
        page.get_by_label("Label", exact=True).fill("never sent")
        page.goto("/console/alerts")  # who leaves a page takes nothing along
        with fleet.server.store.write() as connection:
            now = fleet.server.now_ms()
            connection.execute(
                insert(schema.alerts).values(
                    rule="silence", subject="cam-2", level="warning", phase="firing", value=60.0,
                    why="y" * 400, evidence={}, since_ms=now, fired_ms=now, changed_ms=now,
                )
            )  # fmt: skip
            number = connection.execute(select(func.max(schema.alerts.c.id))).scalar_one()
        page.goto(f"/console/alerts/{number}")
        expect(page.locator("#light")).to_have_text("live")
        why = page.get_by_label("Why, or what is being done")
        expect(why).to_have_value("")
        why.fill("somebody drives there")
        page.get_by_label("or be silent for").select_option("86400")
        end_sessions(fleet, "olga")
        page.wait_for_url("**/console/login*")
        log_in(page, "olga")
        expect(why).to_have_value("somebody drives there")
        expect(page.get_by_label("or be silent for")).to_have_value("86400")
        page.get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_text("somebody drives there")).to_be_visible()
        expect(why).to_have_value("")  # it was taken
        page.goto("/console/alerts")
        assert not olga.runs_sideways  # a word of 400 letters


def test_a_form_that_is_refused_comes_back_as_it_was_filled_in(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("admin", label="root")) as root:
        page = root.page
        page.goto("/console/alerts/rules")
        rule = page.locator("#change-silence")
        rule.locator("summary").click()
        page.locator("#silence-clear_at").fill("90")
        page.locator("#silence-enabled").uncheck()
        rule.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text("it must clear below")
        expect(page.locator("#silence-clear_at")).to_have_value("90")
        expect(page.locator("#silence-enabled")).not_to_be_checked()
        expect(page.locator("#fork-clear_at")).not_to_have_value("90")
        page.goto("/console/settings/users")
        page.get_by_label("Name; it is never given twice").fill("newcomer")
        page.locator("#role").select_option("approver")
        page.locator("#password").fill("short")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("alert")).to_contain_text("the password has 5 characters")
        expect(page.locator("#name")).to_have_value("newcomer")
        expect(page.locator("#role")).to_have_value("approver")
        expect(page.locator("#password")).to_have_value("")  # a secret is never kept
        assert "short" not in str(page.evaluate("JSON.stringify(sessionStorage)"))


def test_a_stream_that_was_refused_is_opened_again(fleet: Running, rows: FleetRows, browser: Browser) -> None:
    with person(browser, fleet.url, fleet.token("viewer")) as vera:
        fail_once(vera.page, "**/api/v1/events")
        vera.page.goto("/console/fleet")
        expect(vera.page.locator("#light")).to_have_text("not live")
        expect(vera.page.locator("#light")).to_have_text("live")


def test_a_reading_that_failed_once_is_no_longer_told_when_the_next_succeeds(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("viewer")) as vera:
        fail_once(vera.page, "**/console/fleet")
        vera.page.goto("/console/fleet")
        expect(vera.page.locator("#light")).to_have_text("live")
        fleet.server.bus.publish("device", device="cam-0")
        expect(vera.page.locator("#light")).to_have_text("not live")
        fleet.server.bus.publish("device", device="cam-0")
        expect(vera.page.locator("#light")).to_have_text("live")


def test_a_page_reads_itself_once_at_a_time_however_much_happens(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("viewer")) as vera:
        page = vera.page
        page.clock.install()
        page.goto("/console/fleet")
        expect(page.locator("#light")).to_have_text("live")
        held: list[Route] = []
        page.route("**/console/fleet", lambda route: held.append(route))
        page.evaluate("""() => {
            const real = fetch;
            window.asked = 0;
            window.fetch = (...all) => { asked += 1; return real(...all); };
        }""")
        for _ in range(8):  # news while the server is busy with what was asked for
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.clock.run_for(1600)
        assert page.evaluate("asked") == 1
        while not held:
            page.wait_for_timeout(10)
        held[0].fulfill(status=503, body="no")
        expect(page.locator("#light")).to_have_text("not live")
        page.wait_for_function("() => !isReading")
        page.clock.run_for(1600)
        assert page.evaluate("asked") == 2  # for the news that came meanwhile
        page.evaluate("say('up', 'live')")
        page.clock.run_for(31_000)  # one that never answers is given up
        expect(page.locator("#light")).to_have_text("not live")
        page.wait_for_function("() => !isReading")
        page.clock.run_for(16_000)
        assert page.evaluate("asked") == 3


def test_news_leave_the_keyboard_where_it_is_and_what_is_chosen(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("viewer")) as vera:
        page = vera.page
        page.goto("/console/fleet")
        link = page.get_by_role("link", name="cam-yard", exact=True)
        link.focus()
        page.evaluate("document.querySelector('#table').firstElementChild.id = 'before'")
        fleet.server.bus.publish("device", device="cam-0")
        expect(page.locator("#before")).to_have_count(0)  # the table was put in place anew
        expect(link).to_be_focused()


def test_news_leave_alone_what_somebody_is_about_to_copy(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("viewer")) as vera:
        page = vera.page
        page.goto("/console/settings/webhooks")
        expect(page.locator("#light")).to_have_text("live")
        page.evaluate("""() => {
            for (const part of ["hooks", "deliveries"])
              document.querySelector(`#${part}`).firstElementChild.id = `before-${part}`;
            getSelection().selectAllChildren(document.querySelector("#hooks td"));
        }""")
        fleet.server.bus.publish("device", device="cam-0")
        expect(page.locator("#before-deliveries")).to_have_count(0)  # it comes after the other
        expect(page.locator("#before-hooks")).to_have_count(1)
        assert page.evaluate("String(getSelection())") == "Nobody is told."


def test_a_digest_is_copied_whole_and_a_time_told_where_one_is(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("viewer")) as vera:
        page = vera.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto("/console/models/digits@1")
        page.get_by_text("Where it comes from").first.click()
        button = page.get_by_role("button", name="Copy").first
        wanted = str(button.get_attribute("data-copy"))
        assert wanted.startswith("sha256:") and len(wanted) == 71
        button.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == wanted
        time = page.locator("time").first
        time.hover()
        expect(time).to_have_attribute("title", re.compile("UTC; here "))


def test_on_a_phone_what_an_empty_table_says_is_one_line_of_words(fleet: Running, browser: Browser) -> None:
    with person(browser, fleet.url, fleet.token("viewer"), 390) as vera:
        page = vera.page
        page.goto("/console/models?q=nothing-like-it")
        said = page.locator("#versions td")
        assert said.evaluate("one => getComputedStyle(one).display") == "block"
        assert said.evaluate("one => one.getBoundingClientRect().x") < 60


def test_tiles_stand_in_columns_and_labels_of_cards_are_in_one_type(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("admin", label="root")) as root:
        page = root.page
        page.goto("/console")
        widths = page.locator(".tile").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().width)"
        )
        assert len(widths) > 6 and max(widths) - min(widths) < 1  # none is drawn out over a row of its own
        page.set_viewport_size({"width": 390, "height": 900})
        page.goto("/console/settings/tokens")
        faces = page.locator("table.cards td").evaluate_all(
            "all => [...new Set(all.map(one => getComputedStyle(one, '::before').fontFamily))]"
        )
        assert len(faces) == 1, faces


def test_no_name_or_label_however_long_pushes_the_figures_out_of_sight(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    longest = "y" * 64
    rows.enrol(longest, place="w" * 128)
    settle(fleet)
    with person(browser, fleet.url, fleet.token("viewer")) as vera:
        page = vera.page
        page.goto("/console/fleet?q=yyyy")
        expect(page.get_by_role("link", name=longest)).to_be_visible()
        hidden = "one => one.scrollWidth - one.clientWidth"
        assert page.locator("#table .tablewrap").evaluate(hidden) == 0
        assert not vera.runs_sideways
