"""Every form of the console: who may send it is stated, a viewer and another site are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from console_client import browser, csrf
from fastapi.routing import APIRoute
from fleet_rows import FleetRows
from fleet_server import Running

from edge_fleet.auth import Right
from edge_fleet.console.forms import Paged
from edge_fleet.console.routes import PAGES
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.plan import parse_plan

FREE = {"/console/login", "/console/logout"}  # for who is not logged in, or is whoever they are
OWN = {"/console/settings"}  # one's own password and sessions
INSIDE = ("/console/devices/", "/console/models/")  # these ask for the right in the handler


def right_of(route: APIRoute) -> tuple[Right, str] | None:
    """The right that a page or form asks for; None when it asks for none."""
    stack = list(route.dependant.dependencies)
    while stack:
        dependant = stack.pop()
        if hasattr(dependant.call, "right"):
            return dependant.call.right, dependant.call.area  # type: ignore[union-attr]
        stack += dependant.dependencies
    return None


ROUTES = [route for router in PAGES for route in router.routes if isinstance(route, APIRoute)]
POSTS = [route for route in ROUTES if "POST" in (route.methods or ()) and route.path not in FREE]


@pytest.fixture(scope="module")
def path_of(fleet: Running) -> dict[str, str]:
    """What stands for the variables of a path: things that are there."""
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.publish("1")
    rows.enrol("cam-0")
    plan = {"format": "edgefleet.rollout/1", "release": "digits@1", "stages": ["100%"]}
    rollout = Operator(fleet.server).create(parse_plan(plan), "anna")
    release = {"release": "digits@1", "step": "approve"}
    return {"rollout": rollout, "device": "cam-0", "order": "abort", "alert": "1", **release}


@pytest.fixture(scope="module")
def viewer(fleet: Running) -> Iterator[httpx.Client]:
    with browser(fleet, fleet.token("viewer")) as found:
        yield found


@pytest.fixture(scope="module")
def admin(fleet: Running) -> Iterator[httpx.Client]:
    with browser(fleet, fleet.token("admin")) as found:
        yield found


def address(route: APIRoute, path_of: dict[str, str]) -> str:
    path = route.path.replace("devices/{device}/{order}", "devices/{device}/skip")
    return re.sub(r"\{(\w+)\}", lambda found: path_of[found[1]], path)


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_a_form_states_the_right_that_it_needs_and_a_viewer_is_refused(
    viewer: httpx.Client, path_of: dict[str, str], route: APIRoute
) -> None:
    if not route.path.startswith(INSIDE):
        stated = right_of(route)
        assert stated is not None, f"{route.path} takes a form of whoever sends one: see console/forms.py"
        if route.path in OWN:
            return
        assert stated[0] is not Right.READ
    answer = viewer.post(address(route, path_of), data={"csrf": csrf(viewer.get("/console/alerts").text)})
    assert answer.status_code == 403 and "may look, not" in answer.text


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_a_form_that_is_not_of_this_session_is_refused(
    admin: httpx.Client, viewer: httpx.Client, path_of: dict[str, str], route: APIRoute
) -> None:
    foreign = csrf(viewer.get("/console/alerts").text)
    mine = csrf(admin.get("/console/alerts").text)
    where = address(route, path_of)
    for secret in ("", "0" * 64, foreign):
        answer = admin.post(where, data={"csrf": secret})
        assert answer.status_code == 403 and "not of this session" in answer.text, where
    elsewhere = admin.post(where, data={"csrf": mine}, headers={"Origin": "https://evil.example"})
    assert elsewhere.status_code == 403 and "another site" in elsewhere.text


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_a_form_without_a_session_asks_to_log_in(
    fleet: Running, path_of: dict[str, str], route: APIRoute
) -> None:
    answer = fleet.http.post(address(route, path_of), data={"csrf": "0" * 64})
    assert answer.status_code == 401 and 'name="token"' in answer.text


def test_pages_that_not_everybody_may_see_are_refused_to_a_viewer(
    viewer: httpx.Client, path_of: dict[str, str]
) -> None:
    narrow = [r.path for r in ROUTES if "GET" in (r.methods or ()) and right_of(r)]
    assert {"/console/audit", "/console/settings/users", "/console/settings/tokens"} <= set(narrow)
    for path in narrow:
        assert viewer.get(path).status_code == 403, path
    for order in ("abort", "rollback", "approve", "reject"):  # pages that ask for a reason
        assert viewer.get(f"/console/rollouts/{path_of['rollout']}/{order}").status_code == 403, order
    assert viewer.get(f"/console/rollouts/{path_of['rollout']}/nothing").status_code == 404
    page = viewer.get("/console/settings").text
    assert "/console/settings/users" not in page and "/console/audit" not in page


def test_pages_of_a_table_say_where_one_is() -> None:
    found = Paged(2, 120, {"q": "a b", "rule": ""})
    assert (found.pages, found.first, found.last) == (3, 51, 100)
    assert found.at(3) == "?q=a+b&page=3"
    nothing = Paged(1, 0, {})
    assert (nothing.pages, nothing.first, nothing.last) == (1, 0, 0)
