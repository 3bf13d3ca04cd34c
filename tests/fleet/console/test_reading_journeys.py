"""What people do with the pages to read, in a real browser: finding, opening, comparing, on any screen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import installed
from console_visit import settle
from fleet_rows import FleetRows
from fleet_server import Running, fleet_server
from large_fleet import busy, enlarge, name_of
from page_browser import Watched, person, started
from playwright.sync_api import Browser, expect
from sqlalchemy import insert, update

from edge_fleet import schema

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium on this machine")

DEVICES = 10_000
WANTED = name_of(4242)
IN_SIGHT = """() => {
  const one = document.querySelector("header [aria-current]").getBoundingClientRect();
  return one.left >= 0 && one.right <= innerWidth;
}"""
CHART_PX = 480  # wider, its words are larger than the page's
SCREENS = {"wide": (1280, False), "dark": (1280, True), "phone": (390, False)}
PAGES = (
    "/console",
    "/console/fleet",
    f"/console/devices/{WANTED}",
    f"/console/devices/{WANTED}?span=week",
    "/console/models",
    "/console/models/digits@3",
    "/console/models/compare?before=digits@1&after=digits@3",
    "/console/models/find?q=sha256:aaaaaa",
    "/console/models/recall?what=digits@9",
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Ten thousand devices."""
    with fleet_server(tmp_path_factory.mktemp("large") / "home") as found:
        server = found.server
        enlarge(server.store, DEVICES, server.now_ms(), windows=1, stays_ms=3_600_000)
        busy(server.store, 4242, server.now_ms())
        settle(found)
        with server.store.write() as connection:
            now = server.now_ms()
            connection.execute(
                insert(schema.alerts).values(
                    rule="fork", subject=name_of(77), level="critical", phase="firing", value=1,
                    why="envelope 7 of epoch 0 came in two forms, both signed by the device's key",
                    evidence={}, since_ms=now, fired_ms=now, changed_ms=now,
                )
            )  # fmt: skip
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as found:
        yield found


@pytest.fixture
def operator(large: Running, browser: Browser) -> Iterator[Watched]:
    """An operator, and in the end: no complaint, and nothing asked of anybody else."""
    with person(browser, large.url, large.token("operator", label="anna")) as found:
        yield found
        assert found.complaints == []
        assert found.elsewhere == []


def test_a_device_is_found_among_ten_thousand_and_says_why_it_has_its_model(operator: Watched) -> None:
    page = operator.page
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Fleet").click()
    expect(page.get_by_role("status").filter(has_text="10,000 devices")).to_be_visible()
    search = page.get_by_role("searchbox")
    search.fill("004242 site=gate")
    search.press("Enter")  # by keyboard alone
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name=WANTED).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(WANTED)
    why = page.get_by_role("region", name="Model and why")
    expect(why).to_contain_text("of raspberry-pi-4 > arm-cpu the nearest with a bundle is arm-cpu")
    expect(why).to_contain_text("The newest is digits@3")
    page.get_by_text("As a table").first.click()
    expect(page.get_by_role("columnheader", name="Time, UTC").first).to_be_visible()
    page.get_by_role("navigation", name="Stretch of time").get_by_role("link", name="week").click()
    expect(page.get_by_text("Inferences, an hour", exact=True)).to_be_visible()


def test_two_versions_are_compared_from_the_list_of_models(operator: Watched) -> None:
    page = operator.page
    page.get_by_role("link", name="Models", exact=True).first.click()
    page.get_by_role("link", name="digits 3").click()
    page.get_by_role("link", name="Compare with 2").click()
    expect(page.get_by_role("heading", name="From digits@2 to digits@3")).to_be_visible()
    page.get_by_label("Version", exact=True).select_option("digits@1")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="From digits@1 to digits@3")).to_be_visible()
    expect(page.get_by_role("region", name="For arm-cpu")).to_be_visible()


def test_what_needs_attention_leads_to_it(operator: Watched) -> None:
    page = operator.page
    first = page.get_by_role("region", name="Needs attention").get_by_role("listitem").first
    expect(first).to_contain_text("two histories under one number")
    page.get_by_role("region", name="Needs attention").get_by_role(
        "link", name=re.compile("devices are silent")
    ).click()
    expect(page.get_by_role("status").filter(has_text="79 of 10,000")).to_be_visible()


def test_a_device_that_fails_shows_on_the_open_overview_by_itself(large: Running, operator: Watched) -> None:
    page = operator.page
    expect(page.locator("#light")).to_have_text("live")
    healthy = name_of(5)
    attention = page.get_by_role("region", name="Needs attention")
    expect(attention).not_to_contain_text(healthy)
    rows = FleetRows(large.server.store, large.server.now_ms)
    with large.server.store.write() as connection:
        own = schema.standings.c
        connection.execute(update(schema.standings).where(own.device == healthy).values(judged_ms=0))
    rows.report(healthy, _runs(large, healthy), errors=5000)
    expect(attention).to_contain_text(f"{healthy}: 5000 of ")


def _runs(large: Running, device: str) -> str:
    shown = large.admin.get(f"/api/v1/devices/{device}").json()
    return str(shown["active"]["bundle"])


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_fits_its_screen_and_complains_of_nothing(
    large: Running, browser: Browser, screen: str
) -> None:
    """With EDGEFLEET_SHOTS set to a folder, pictures of all pages are put there."""
    width, dark = SCREENS[screen]
    shots = os.environ.get("EDGEFLEET_SHOTS")
    with person(browser, large.url, large.token("operator"), width, dark=dark) as found:
        for number, path in enumerate(PAGES):
            found.page.goto(path)
            expect(found.page.get_by_role("heading", level=1)).to_be_visible()
            if shots:
                place = Path(shots) / f"{screen}-{number}.png"
                found.page.screenshot(path=place, full_page=True)
            assert not found.runs_sideways, path
            # at once: what is live may be replaced meanwhile
            widths = found.page.locator("svg.chart").evaluate_all(
                "charts => charts.map(one => one.getBoundingClientRect().width)"
            )
            assert all(width <= CHART_PX for width in widths), path
            if screen == "phone":  # who is here, and the pages: two rows, and the page of now in sight
                assert found.page.locator("header").bounding_box()["height"] < 95, path  # type: ignore[index]
                assert found.page.locator("header [aria-current]").count() == 0 or found.page.evaluate(
                    IN_SIGHT
                )
        assert found.complaints == []
        assert found.elsewhere == []


def test_a_page_that_runs_sideways_or_asks_elsewhere_is_found_out(large: Running, browser: Browser) -> None:
    """The other way round: the same eyes see what is wrong."""
    with person(browser, large.url, large.token("viewer"), 390) as found:
        found.page.evaluate("document.body.append('x'.repeat(999))")
        assert found.runs_sideways
        found.page.evaluate(
            "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))"
        )
        expect(found.page.locator("img").last).to_have_attribute("src", "http://127.0.0.1:9/x.png")
        assert any("Content Security Policy" in one for one in found.complaints)


def test_without_scripts_every_page_still_works(large: Running, browser: Browser) -> None:
    context = browser.new_context(base_url=large.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/console/login")
    page.get_by_label("Token", exact=True).fill(large.token("viewer"))
    page.get_by_role("button", name="Log in with the token").click()
    page.get_by_role("link", name="Fleet", exact=True).click()
    page.get_by_label("Health").select_option("silent")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("status").filter(has_text="79 of 10,000")).to_be_visible()
    context.close()
