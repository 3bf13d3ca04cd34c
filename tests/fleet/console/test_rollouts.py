"""The pages of rollouts: what they show, and that what is ordered on them is what the API would do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import httpx
import pytest
from click.testing import CliRunner
from console_client import browser, csrf, person, send, words
from console_visit import settle
from fleet_rows import FleetRows, digest
from fleet_server import Running
from sqlalchemy import update

from edge_contracts.messages import Phase as Told
from edge_fleet import schema
from edge_fleet.rollouts.cli import show
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.plan import parse_plan

COUNT = itertools.count()


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    """Three releases, and people."""
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    for version in ("1", "2", "3"):
        built.publish(version)
    for name, role in (("anna", "operator"), ("bert", "approver"), ("vera", "viewer"), ("ada", "admin")):
        person(fleet, name, role)
    return built


@pytest.fixture
def anna(fleet: Running, rows: FleetRows) -> Iterator[httpx.Client]:
    with browser(fleet, name="anna") as found:
        yield found


@pytest.fixture
def devices(rows: FleetRows) -> list[str]:
    """Eight devices that no other test has, at a site of their own."""
    site = f"s{next(COUNT)}"
    names = [f"{site}-{n}" for n in range(8)]
    rows.enrol(*names, site=site)
    return names


@pytest.fixture
def draft(fleet: Running, devices: list[str]) -> str:
    """A draft of two stages to them: two, then all."""
    return make(fleet, devices)


def make(fleet: Running, devices: list[str], *stages: str, **changes: object) -> str:
    raw = {
        "format": "edgefleet.rollout/1",
        "release": "digits@2",
        "select": f"site={devices[0].split('-')[0]}",
        "stages": list(stages or ("2", "100%")),
        "bake_s": 3600,
    }
    return Operator(fleet.server).create(parse_plan({**raw, **changes}), "anna")


def look(fleet: Running) -> None:
    """The conductor looks now, and not within a second."""
    from edge_fleet.rollouts.conductor import Conductor

    Conductor(fleet.server).attend(fleet.server.now_ms())


def begun(fleet: Running, rows: FleetRows, rollout: str) -> list[str]:
    """Start a rollout and let its devices confirm; the devices."""
    fleet.admin.post(f"/api/v1/rollouts/{rollout}/start").raise_for_status()
    look(fleet)
    members = [one["device"] for one in shown(fleet, rollout)["stages"][0]["devices"]]
    for device in members:
        rows.say(device)
        rows.report(device, digest("2"), inferences=4000, errors=20)
    look(fleet)
    return members


def shown(fleet: Running, rollout: str) -> dict:  # type: ignore[type-arg]
    return dict(fleet.admin.get(f"/api/v1/rollouts/{rollout}").json())


def test_the_list_is_searched_and_narrowed_on_the_server(
    fleet: Running, anna: httpx.Client, devices: list[str]
) -> None:
    one, other = make(fleet, devices), make(fleet, devices, release="digits@3")
    fleet.admin.post(f"/api/v1/rollouts/{other}/abort").raise_for_status()

    def found(**query: str) -> set[str]:
        page = anna.get("/console/rollouts", params=query).text
        return set(re.findall(r'href="/console/rollouts/(r\d+)"', page))

    assert {one, other} <= found()
    assert one in found(show="open") and other not in found(show="open")
    assert other in found(show="ended") and one not in found(show="ended")
    assert found(q="digits@3") == {other}
    assert found(q="aborted by") >= {other} and one not in found(q="aborted by")
    assert found(q="100%") == found(q="_") == set()  # no wildcards


def test_a_gate_shows_what_was_measured_what_is_possible_what_is_allowed_and_the_bet(
    fleet: Running, rows: FleetRows, anna: httpx.Client, draft: str
) -> None:
    begun(fleet, rows, draft)
    page = anna.get(f"/console/rollouts/{draft}").text
    gate = words(page[page.index('id="gate-1-error_rate"') :].split("</section>")[0])
    # two devices, each with one window of 4,020 attempts, 20 of them without an answer
    assert "Bad 40 of 8,040 (0.498 %)" in gate
    assert "Allowed share 2 %" in gate
    stored = shown(fleet, draft)["stages"][0]["verdicts"]
    (numbers,) = next(v for v in stored if v["gate"] == "error_rate")["evidence"]
    assert f"At most {100 * numbers['upper']:.3g} %" in gate
    assert f"{numbers['needed']:,} halts" in gate and f"alpha {numbers['alpha']:.2g}" in gate
    assert "Held against the plan's limit" in gate
    assert "Exposure 2 devices" in gate
    assert "Look 1" in gate  # one window each: the first mark


def test_devices_are_found_and_paged_by_the_database(
    fleet: Running, rows: FleetRows, anna: httpx.Client, devices: list[str]
) -> None:
    rollout = make(fleet, devices, "100%")
    fleet.admin.post(f"/api/v1/rollouts/{rollout}/start").raise_for_status()
    look(fleet)
    rows.say(devices[0])
    rows.say(devices[1], Told.REFUSED, "wrong-profile")

    def found(query: str) -> list[str]:
        page = anna.get(f"/console/rollouts/{rollout}?{query}").text
        table = page[page.index('<div id="devices"') : page.index('id="history-head"')]
        return re.findall(r'href="/console/devices/([\w-]+)"', table)

    assert found("") == devices
    assert found(f"q={devices[3]}") == [devices[3]]
    assert found("q=wrong-prof") == [devices[1]]
    assert found("standing=confirmed") == [devices[0]]
    assert found("standing=failed") == [devices[1]]
    assert found("standing=on-its-way") == devices[2:]
    assert found("stage=2") == found("page=2") == []
    counts = words(anna.get(f"/console/rollouts/{rollout}").text)
    assert "1 confirmed 1 failed 6 on its way" in counts


def test_buttons_and_reasons_do_what_the_api_does(
    fleet: Running, rows: FleetRows, anna: httpx.Client, draft: str
) -> None:
    here = f"/console/rollouts/{draft}"
    begun(fleet, rows, draft)
    for order, phase in (("pause", "paused"), ("resume", "running")):
        answer = send(anna, here, f"{here}/{order}")
        assert (answer.status_code, answer.headers["location"]) == (303, here), answer.text
        assert shown(fleet, draft)["phase"] == phase
    assert send(anna, here, f"{here}/advance").status_code == 303
    assert shown(fleet, draft)["stage"] == 1
    page = anna.get(f"{here}/rollback").text
    assert "goes back to what it had" in page and "2 confirmed" in words(page)
    answer = send(anna, f"{here}/rollback", f"{here}/rollback", why="customers call")
    assert answer.status_code == 303
    after = shown(fleet, draft)
    assert after["phase"] == "rolling-back" and after["why"] == "rolled back by anna: customers call"
    assert "The way back" in anna.get(here).text


def test_an_order_to_what_is_no_longer_there_is_refused_and_the_page_says_how_it_stands(
    fleet: Running, rows: FleetRows, anna: httpx.Client, draft: str
) -> None:
    here = f"/console/rollouts/{draft}"
    begun(fleet, rows, draft)
    stale = {"csrf": csrf(anna.get(here).text), "seen": "baking.0"}
    with browser(fleet, name="ada") as ada:
        assert send(ada, here, f"{here}/pause").status_code == 303
        for order in ("advance", "pause", "rollback"):
            answer = anna.post(f"{here}/{order}", data=stale)
            assert answer.status_code == 409
            told = words(answer.text)
            assert "nothing was done" in told and "paused by ada" in told
            assert 'id="order-resume"' in answer.text  # and the page is the one of now
        assert shown(fleet, draft)["phase"] == "paused"
        assert send(ada, here, f"{here}/resume").status_code == 303
        assert send(ada, here, f"{here}/advance").status_code == 303
    again = anna.post(f"{here}/advance", data=stale)  # to the stage after the one that was meant
    assert again.status_code == 409 and "in stage 2 of 2" in words(again.text)
    assert anna.get(f"{here}/advance").status_code == 200  # where the live page reads itself again
    strange = anna.post(f"{here}/pause", data={**stale, "seen": "nowhere"})
    assert strange.status_code == 400 and "is no place of a rollout" in words(strange.text)


def test_one_device_is_left_out_taken_in_again_and_sent_back(
    fleet: Running, rows: FleetRows, anna: httpx.Client, draft: str, devices: list[str]
) -> None:
    members = begun(fleet, rows, draft)
    waiting = next(name for name in devices if name not in members)
    there = f"/console/rollouts/{draft}/devices/{waiting}"
    assert "has not been given to it" in anna.get(there).text
    assert send(anna, there, f"{there}/skip", why="in the shop").status_code == 303
    assert "left out by anna: in the shop" in anna.get(there).text
    reasons = words(anna.get(f"/console/rollouts/{draft}/left-out").text)
    assert "1 left out by anna: in the shop" in reasons
    assert send(anna, there, f"{there}/retry").status_code == 303
    assert "left out by" not in anna.get(there).text
    here = f"/console/rollouts/{draft}/devices/{members[0]}"
    assert 'id="retry"' not in anna.get(here).text  # it has the release
    assert send(anna, here, f"{here}/rollback", why="odd noise").status_code == 303
    assert "left-out" in anna.get(here).text
    hidden = {"csrf": csrf(anna.get(here).text)}
    twice = anna.post(f"{here}/rollback", data=hidden)
    assert twice.status_code == 409 and "is back already" in words(twice.text)
    assert anna.get(f"/console/rollouts/{draft}/devices/nobody").status_code == 404


def test_a_draft_says_what_must_be_approved_and_a_second_person_does_it(
    fleet: Running, rows: FleetRows, anna: httpx.Client, draft: str
) -> None:
    fleet.admin.post("/api/v1/rollout-policy", json={"two_above_percent": 1}).raise_for_status()
    here = f"/console/rollouts/{draft}"
    try:
        page = anna.get(here).text
        told = words(page)
        assert "a release needs no approval" in told
        assert "reaches over 1 % of the fleet must be approved by somebody who did not make it" in told
        assert "it reaches 8 of" in told and "over 1 %" in told
        assert 'id="order-start"' not in page and f"{here}/approve" not in page
        refused = anna.post(f"{here}/start", data={"csrf": csrf(page)})
        assert refused.status_code == 409 and "somebody else must approve it" in words(refused.text)
        with browser(fleet, name="bert") as bert:
            assert send(bert, f"{here}/approve", f"{here}/approve", why="looks fine").status_code == 303
            assert "order-start" not in bert.get(here).text  # he approves, and does not operate
        page = anna.get(here).text
        assert re.search(r"Approved by bert .* ago : looks fine", words(page))
        assert 'id="order-start"' in page
        assert send(anna, here, f"{here}/start").status_code == 303
    finally:
        fleet.admin.post("/api/v1/rollout-policy", json={"two_above_percent": None}).raise_for_status()


def test_a_draft_is_rejected_by_an_approver_and_not_by_whoever_made_it(
    fleet: Running, rows: FleetRows, draft: str
) -> None:
    here = f"/console/rollouts/{draft}"
    with browser(fleet, name="bert") as bert:
        assert send(bert, f"{here}/reject", f"{here}/reject", why="not on a Friday").status_code == 303
        assert shown(fleet, draft)["why"] == "rejected by bert: not on a Friday"
        assert shown(fleet, draft)["phase"] == "aborted"
    mine = Operator(fleet.server).create(parse_plan(shown(fleet, draft)["plan"]), "bert")
    with browser(fleet, name="bert") as bert:
        answer = send(bert, f"/console/rollouts/{mine}/reject", f"/console/rollouts/{mine}/reject")
    assert answer.status_code == 403 and "whoever made it aborts it" in words(answer.text)
    assert shown(fleet, mine)["phase"] == "draft"


def test_who_may_only_look_sees_no_orders_and_is_refused_each(
    fleet: Running, rows: FleetRows, draft: str
) -> None:
    here = f"/console/rollouts/{draft}"
    with browser(fleet, name="vera") as vera:
        page = vera.get(here).text
        assert "order-" not in page and "/approve" not in page
        form = {"csrf": csrf(page)}
        for path in ("start", "abort", "approve", "reject", "devices/cam-0/skip"):
            answer = vera.post(f"{here}/{path}", data=form)
            assert answer.status_code == 403 and "may look, not" in words(answer.text), path
        assert vera.get("/console/rollouts/new").status_code == 403
    assert shown(fleet, draft)["phase"] == "draft"


def test_nobody_is_sent_back_from_a_rollout_that_has_reached_nobody(
    fleet: Running, anna: httpx.Client, draft: str
) -> None:
    Operator(fleet.server).abort(draft, "anna", "not today")
    assert "order-rollback" not in anna.get(f"/console/rollouts/{draft}").text
    page = anna.get(f"/console/rollouts/{draft}").text
    assert "None reached yet." in page and "Pages of devices" not in page  # none are said once


def test_an_order_that_is_none_is_a_page_that_says_so(anna: httpx.Client, draft: str) -> None:
    here = f"/console/rollouts/{draft}"
    answer = anna.post(f"{here}/explode", data={"csrf": csrf(anna.get(here).text)})
    assert answer.status_code == 404 and "no such order" in answer.text
    assert anna.get(f"{here}/explode").status_code == 404
    assert anna.get("/console/rollouts/r999").status_code == 404


def test_a_device_on_its_way_of_which_nothing_is_heard_is_named(
    fleet: Running, rows: FleetRows, anna: httpx.Client, devices: list[str]
) -> None:
    draft = make(fleet, devices, "100%")
    fleet.admin.post(f"/api/v1/rollouts/{draft}/start").raise_for_status()
    look(fleet)
    one = devices[0]
    settle(fleet)
    quiet = fleet.admin.get(f"/api/v1/rollouts/{draft}").json()["silent"]
    assert quiet == {"count": 0, "few": []}
    with fleet.server.store.write() as connection:
        own = schema.standings.c
        connection.execute(update(schema.standings).where(own.device == one).values(health="silent"))
    assert shown(fleet, draft)["silent"] == {"count": 1, "few": [one]}
    page = anna.get(f"/console/rollouts/{draft}").text
    assert re.search(
        rf'1 of those on their way is silent: <a href="/console/devices/{one}">{one}</a>\.', page
    )
    told = CliRunner().invoke(show, [draft, "--server", fleet.url, "--token", fleet.token("viewer")])
    assert f"1 of those on their way silent: {one}; waited for until silence_s, 900 s" in told.output
    rows.say(one)  # it has answered: there is nothing to wait for any more
    assert shown(fleet, draft)["silent"]["count"] == 0
    with fleet.server.store.write() as connection:
        connection.execute(update(schema.standings).where(own.device.in_(devices)).values(health="silent"))
    assert shown(fleet, draft)["silent"] == {"count": 7, "few": devices[1:6]}
