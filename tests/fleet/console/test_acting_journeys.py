"""What people do on the pages that act, in a real browser: one rollout from plan to way back, two at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import installed
from fleet_device import eventually
from fleet_rows import FleetRows, digest
from fleet_server import Running
from page_browser import person, started
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from edge_contracts.messages import Phase as Told
from edge_fleet import schema
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.rollouts.reached import Reached

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    """Three releases and eight devices that run the first."""
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    for version in ("1", "2", "3"):
        built.publish(version)
    built.enrol(*(f"cam-{n}" for n in range(4)), site="lab")
    built.enrol(*(f"yard-{n}" for n in range(4)), site="yard")
    with fleet.server.store.write() as connection:
        connection.execute(update(schema.devices).values(state=built.state(digest("1"))))
    return built


def answer(fleet: Running, rows: FleetRows, rollout: str) -> None:
    """Every device of a rollout that was given something confirms it, and reports."""

    def members() -> list[Reached]:
        with fleet.server.store.read() as connection:
            return load_members(connection, rollout)

    eventually(lambda: bool(members()), "the rollout has begun")
    for one in members():
        if one.state != "confirmed":
            rows.say(one.device)
        rows.report(one.device, rows.assigned(one.device).bundle)


def phase(page: Page, word: str) -> None:
    """Wait until the open page says by itself that the rollout is in a phase."""
    expect(page.get_by_role("heading", level=1)).to_contain_text(word)


def test_a_rollout_goes_from_its_plan_over_a_second_person_to_all_and_back(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    fleet.admin.post("/api/v1/rollout-policy", json={"two_above_percent": 10}).raise_for_status()
    with (
        person(browser, fleet.url, fleet.token("operator", label="anna")) as anna,
        person(browser, fleet.url, fleet.token("approver", label="bert")) as bert,
    ):
        page = anna.page
        page.get_by_role("link", name="Rollouts", exact=True).click()
        page.get_by_role("link", name="New rollout").click()
        page.get_by_label("Release").select_option("digits@2")
        page.get_by_label("Devices:").fill("site=lab")
        page.get_by_label("Canaries:").fill("1")
        page.get_by_role("button", name="Continue").click()
        means = page.get_by_role("region", name="What it means today")
        expect(means).to_contain_text("stage 1 reaches 1, stage 2 reaches 4 in all")
        page.get_by_role("button", name="Make a draft").click()
        phase(page, "draft")
        rollout = page.url.rsplit("/", 1)[1]
        expect(page.get_by_role("button", name="Start")).to_have_count(0)

        bert.page.get_by_role("link", name="Approvals", exact=True).click()
        bert.page.get_by_role("link", name=f"Approve {rollout}").click()
        bert.page.get_by_label("Why").fill("tried on my desk")
        bert.page.get_by_role("button", name="Approve").click()
        expect(bert.page.get_by_text("tried on my desk")).to_be_visible()

        page.get_by_role("button", name="Start").click()  # it came by itself
        expect(page.locator("#devices tbody a[href^='/console/devices']")).to_have_count(1)
        answer(fleet, rows, rollout)
        phase(page, "baking")
        gate = page.get_by_role("region", name="error_rate")
        gate.get_by_text("The evidence").click()
        expect(gate.get_by_text("Held against")).to_be_visible()
        page.get_by_role("button", name="Advance").click()
        expect(page.get_by_role("heading", name="Stage 2: 100%")).to_be_visible()
        with_all = page.locator("#devices tbody tr")
        expect(with_all).to_have_count(4)
        answer(fleet, rows, rollout)
        expect(page.locator("#devices").get_by_text("confirmed", exact=True)).to_have_count(4)

        page.get_by_role("link", name="Roll back").click()
        page.get_by_label("Why").fill("customers call")
        page.get_by_role("button", name="Roll back").click()
        phase(page, "rolling-back")
        answer(fleet, rows, rollout)
        phase(page, "rolled-back")
        expect(page.get_by_role("region", name="The way back")).to_contain_text("4 devices")
        expect(page.get_by_role("region", name="Timeline")).to_contain_text("customers call")
        for one in (anna, bert):
            assert one.complaints == []
            assert one.elsewhere == []
    fleet.admin.post("/api/v1/rollout-policy", json={"two_above_percent": None}).raise_for_status()


def test_two_operators_at_once_see_each_other_and_a_stale_order_is_refused_kindly(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    raw = {"format": "edgefleet.rollout/1", "release": "digits@3", "select": "site=yard"}
    operator = Operator(fleet.server)
    rollout = operator.create(parse_plan({**raw, "stages": ["2", "100%"], "bake_s": 3600}), "anna")
    operator.start(rollout, "anna")
    here = f"/console/rollouts/{rollout}"
    with (
        person(browser, fleet.url, fleet.token("operator", label="anna")) as anna,
        person(browser, fleet.url, fleet.token("operator", label="carl")) as carl,
    ):
        for one in (anna, carl):
            one.page.goto(here)
            expect(one.page.get_by_role("button", name="Pause")).to_be_visible()
        # what carl has in front of him stays as it is: the news are on their way
        carl.page.route(
            "**/console/rollouts/*", lambda route: route.abort() if is_read(route) else route.continue_()
        )
        anna.page.get_by_role("button", name="Pause").click()
        phase(anna.page, "paused")
        carl.page.get_by_role("button", name="Advance").click()
        told = carl.page.get_by_role("alert")
        expect(told).to_contain_text("nothing was done")
        expect(told).to_contain_text("paused by anna")
        carl.page.unroute_all()
        expect(carl.page.get_by_role("button", name="Resume")).to_be_visible()  # the page of now
        carl.page.get_by_role("button", name="Resume").focus()
        carl.page.keyboard.press("Enter")
        expect(anna.page.get_by_role("button", name="Pause")).to_be_visible()  # by itself
        expect(anna.page.locator("#light")).to_have_text("live")
        assert anna.complaints == [] and anna.elsewhere == [] and carl.elsewhere == []


def test_an_order_that_asked_for_a_reason_and_was_refused_leaves_a_page_that_goes_on(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    rows.enrol("late-1", site="late")
    raw = {"format": "edgefleet.rollout/1", "release": "digits@3", "select": "site=late", "stages": ["100%"]}
    operator = Operator(fleet.server)
    rollout = operator.create(parse_plan({**raw, "bake_s": 3600}), "anna")
    operator.start(rollout, "anna")
    with person(browser, fleet.url, fleet.token("operator", label="carl")) as carl:
        page = carl.page
        page.goto(f"/console/rollouts/{rollout}/abort")
        operator.pause(rollout, "anna")
        page.get_by_label("Why").fill("enough")
        page.get_by_role("button", name="Abort").click()
        expect(page.get_by_role("alert")).to_contain_text("paused by anna")
        phase(page, "paused")
        assert page.url.endswith("/abort")  # what is read again is the rollout, not this form
        operator.resume(rollout, "anna")
        expect(page.get_by_role("button", name="Pause")).to_be_visible()  # by itself
    operator.abort(rollout, "anna")


def test_a_plan_that_the_form_wrote_stays_until_somebody_has_read_it(
    fleet: Running, rows: FleetRows, browser: Browser
) -> None:
    with person(browser, fleet.url, fleet.token("operator", label="anna")) as anna:
        page = anna.page
        page.goto("/console/rollouts/new")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("region", name="What it means today")).to_be_visible()
        expect(page.locator("#light")).to_have_count(0)  # its address has no plan to read
        assert page.locator("[data-live]").count() == 0


def test_the_parts_of_a_stage_are_told_as_they_go(fleet: Running, rows: FleetRows, browser: Browser) -> None:
    rows.enrol("green-1", "green-2", "green-3", "green-4", site="green", knows=("hold",), runs="1")
    raw = {"format": "edgefleet.rollout/1", "release": "digits@2", "select": "site=green", "stages": ["100%"]}
    operator = Operator(fleet.server)
    rollout = operator.create(parse_plan({**raw, "kind": "blue-green", "quorum": 0.75}), "anna")
    operator.start(rollout, "anna")

    def ready(*names: str) -> None:
        for name in names:
            rows.say(name, Told.READY)
        fleet.server.bus.publish("rollout", rollout=rollout)

    with person(browser, fleet.url, fleet.token("operator", label="anna")) as anna:
        page = anna.page
        page.goto(f"/console/rollouts/{rollout}")
        stage = page.get_by_role("region", name="Stage 1: 100%")
        expect(stage).to_contain_text("Part 1 of 2: staged and held, 0 of 4 ready, quorum 3")
        steps = page.get_by_role("list", name="Stages")
        expect(steps).to_contain_text("running, part 1 of 2: staged and held")
        ready("green-1", "green-2")
        expect(stage).to_contain_text("2 of 4 ready, quorum 3")  # by itself
        ready("green-3", "green-4")
        expect(stage).to_contain_text("Part 2 of 2: switched, 0 of 4 confirmed, quorum 3")
        expect(steps).to_contain_text("part 2 of 2: switched")
        timeline = page.get_by_role("region", name="Timeline")
        expect(timeline).to_contain_text("stage 1, part 1 of 2: staged and held")
        expect(timeline).to_contain_text("stage 1, part 2 of 2: switched")
        assert anna.complaints == [] and anna.elsewhere == []
    operator.abort(rollout, "anna")


def test_a_version_is_switched_off_from_its_page(fleet: Running, rows: FleetRows, browser: Browser) -> None:
    rows.publish("4")
    operator = Operator(fleet.server)
    raw = {
        "format": "edgefleet.rollout/1",
        "release": "digits@4",
        "select": "device=cam-0",
        "stages": ["100%"],
    }
    rollout = operator.create(parse_plan(raw), "anna")
    operator.start(rollout, "anna")
    answer(fleet, rows, rollout)
    with person(browser, fleet.url, fleet.token("operator", label="anna")) as anna:
        page = anna.page
        page.goto("/console/models/digits@4")
        page.get_by_role("link", name="Withdraw").click()
        expect(page.get_by_text("answer nothing until they are given another release")).to_be_visible()
        expect(page.get_by_role("link", name=rollout, exact=True)).to_be_visible()
        page.get_by_label("Why").fill("it sees ghosts")
        page.get_by_role("button", name="Switch it off").click()
        off = page.get_by_role("region", name="Withdrawn")
        expect(off).to_contain_text("it sees ghosts")
        expect(off).to_contain_text("0 of 1 device that had it have stopped")
        expect(off.get_by_role("row", name="cam-0")).to_contain_text("too old to be told")
        expect(page.get_by_role("link", name="Withdraw")).to_have_count(0)
        page.goto(f"/console/rollouts/{rollout}")
        phase(page, "aborted")
        assert anna.complaints == [] and anna.elsewhere == []


def is_read(route: object) -> bool:
    """Whether a page reads itself again, as the script does: no navigation."""
    request = route.request  # type: ignore[attr-defined]
    return not request.is_navigation_request()
