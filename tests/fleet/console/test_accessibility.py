"""Every page of the console by axe, in light, dark and on a phone: nothing serious, nobody else asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import installed
from console_visit import furnish
from fastapi.routing import APIRoute
from fleet_device import eventually
from fleet_rows import digest
from fleet_server import Running
from page_browser import Watched, person, started
from playwright.sync_api import Browser, expect
from sqlalchemy import insert

from edge_fleet import schema
from edge_fleet.console.routes import PAGES
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.plan import parse_plan

pytestmark = pytest.mark.skipif(installed() is None, reason="no chromium on this machine")

# no pages: files, what leads on, and the addresses that a refused form is read again from
NONE = {
    "/",
    "/console/static/{name}",
    "/console/rollouts/new/canary",
    "/console/approvals/rules",
    "/console/rollouts/{rollout}/devices/{device}/{order}",
    "/console/models/{release}/report",  # a file of the build that made the release
}
QUERIES = {
    "/console/models/compare": "?before=digits@1&after=digits@2",
    "/console/models/recall": "?what=digits@1",
}


@pytest.fixture(scope="module")
def furnished(fleet: Running) -> Running:
    """A rollout at work with verdicts, a draft, an alert with figures, and people."""
    rows = furnish(fleet)
    operator = Operator(fleet.server)
    plan = {"format": "edgefleet.rollout/1", "release": "digits@2", "stages": ["2", "100%"], "bake_s": 3600}
    at_work = operator.create(parse_plan({**plan, "select": "site=lab"}), "anna")
    operator.start(at_work, "anna")
    operator.create(parse_plan(plan), "anna")

    def reached() -> list[dict[str, Any]]:
        return list(fleet.admin.get(f"/api/v1/rollouts/{at_work}").json()["stages"][0]["devices"])

    for one in eventually(reached, "devices are begun"):
        rows.say(one["device"])
        rows.report(one["device"], digest("2"), inferences=4000, errors=20)
    body = {"name": "ada", "role": "admin", "password": "a long word for tests 7"}
    fleet.admin.post("/api/v1/users", json=body).raise_for_status()
    fleet.admin.post("/api/v1/webhooks", json={"url": "http://127.0.0.1:9/x"}).raise_for_status()
    with fleet.server.store.write() as connection:
        now = fleet.server.now_ms()
        connection.execute(
            insert(schema.alerts).values(
                rule="silence", subject="cam-2", level="warning", phase="firing", value=60.0,
                why="nothing verified came from it for 60 minutes", evidence={"last_seen_ms": 1},
                since_ms=now, fired_ms=now, changed_ms=now,
            )
        )  # fmt: skip
    return fleet


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as found:
        yield found


def addresses() -> list[str]:
    """Every page that there is, with what stands for its variables."""
    there = {"rollout": "r1", "device": "cam-0", "order": "rollback", "alert": "1", "release": "digits@1"}
    found = []
    for router in PAGES:
        for route in router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()) and route.path not in NONE:
                path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda name: there[name[1]], route.path)
                found.append(path + QUERIES.get(route.path, ""))
    return [
        *found,
        "/console/rollouts/r2",
        "/console/rollouts/r2/approve",
        "/console/rollouts/new?kind=canary",
    ]


def serious(watched: Watched, *rules: str) -> list[str]:
    """What axe finds that is serious or critical: rule and first element."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    found = Axe().run(watched.page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html']:.160}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_no_page_has_a_serious_fault_for_anybody_in_light_and_dark_or_on_a_phone(
    furnished: Running, browser: Browser
) -> None:
    """With EDGEFLEET_SHOTS set to a folder, pictures of all pages are put there."""
    shots = os.environ.get("EDGEFLEET_SHOTS")
    faults: list[str] = []
    with person(browser, furnished.url, furnished.token("admin", label="ada")) as found:
        page = found.page
        for path in [p for p in addresses() if "oidc" not in p]:
            answer = page.goto(path)
            assert answer is not None and answer.status == 200, path
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
            name = re.sub(r"\W+", "-", path).strip("-")
            faults += [f"{path}: {fault}" for fault in serious(found)]
            if shots:
                page.screenshot(path=Path(shots) / f"{name}-light.png", full_page=True)
            page.emulate_media(color_scheme="dark")
            faults += [f"{path}, dark: {fault}" for fault in serious(found, "color-contrast")]
            if shots:
                page.screenshot(path=Path(shots) / f"{name}-dark.png", full_page=True)
            page.emulate_media(color_scheme="light")
            page.set_viewport_size({"width": 390, "height": 800})
            if found.runs_sideways:
                faults.append(f"{path} runs sideways on a phone")
            if shots:
                page.screenshot(path=Path(shots) / f"{name}-phone.png", full_page=True)
            page.set_viewport_size({"width": 1280, "height": 900})
        assert faults == []
        assert found.complaints == []
        assert found.elsewhere == []


def test_a_page_with_a_fault_is_found_out(furnished: Running, browser: Browser) -> None:
    with person(browser, furnished.url, furnished.token("viewer")) as found:
        found.page.goto("/console/alerts")
        assert serious(found) == []
        found.page.evaluate("document.querySelector('label').remove()")
        assert any(fault.startswith("label: ") for fault in serious(found))
        found.page.evaluate("document.querySelector('h1').style.color = '#eee'")
        assert any(fault.startswith("color-contrast: ") for fault in serious(found, "color-contrast"))
