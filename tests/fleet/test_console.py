"""The console: who gets in, what the pages say, and that nothing comes from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from console_visit import References, csrf, furnish, visitor
from fleet_rows import FleetRows
from fleet_server import Running

from edge_fleet.api.access import COOKIE
from edge_fleet.console.rendering import ASSETS

PAGES = (
    "/console",
    "/console/fleet",
    "/console/devices/cam-0",
    "/console/models",
    "/console/models/digits@1",
    "/console/models/compare?before=digits@1&after=digits@2",
    "/console/models/find?q=sha256",
    "/console/models/recall?what=digits@1",
    "/console/rollouts",
    "/console/rollouts/new",
)


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    return furnish(fleet)


@pytest.fixture
def operator(fleet: Running, rows: FleetRows) -> Iterator[httpx.Client]:
    with visitor(fleet, fleet.token("operator", label="anna")) as found:
        yield found


@pytest.mark.parametrize("path", ["/", *PAGES, "/console/rollouts/r1"])
def test_who_is_not_logged_in_is_led_to_the_login(fleet: Running, path: str) -> None:
    with httpx.Client(base_url=fleet.url, trust_env=False, follow_redirects=True) as stranger:
        answer = stranger.get(path)
    assert answer.url.path == "/console/login"
    assert "devices" not in answer.text.replace(path, ""), "nothing of the fleet but what was asked for"


@pytest.mark.parametrize("path", PAGES)
def test_pages_take_nothing_from_elsewhere(operator: httpx.Client, path: str) -> None:
    answer = operator.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    found = References(answer.text)
    assert found.inline == []
    assert [a for a in found.addresses if not a.startswith(("/", "#", "?"))] == []
    assert [a for a in found.addresses if a.startswith("//")] == []


@pytest.mark.parametrize("path", PAGES)
def test_every_field_has_a_label_and_no_id_is_there_twice(operator: httpx.Client, path: str) -> None:
    found = References(operator.get(path).text)
    assert set(found.fields) <= found.labels
    assert len(found.ids) == len(set(found.ids))


@pytest.mark.parametrize("path", PAGES)
def test_every_link_leads_somewhere(operator: httpx.Client, path: str) -> None:
    links = {a for a in References(operator.get(path).text).links if a.startswith("/")}
    assert links
    for address in links:
        assert operator.get(address).status_code == 200, address


def test_what_devices_and_operators_write_is_text_and_never_markup(operator: httpx.Client) -> None:
    page = operator.get("/console/devices/cam-yard").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    searched = operator.get("/console/fleet", params={"q": '"><script>alert(2)</script>'}).text
    assert "<script>alert" not in searched


def test_an_unknown_device_is_a_page_that_says_so(operator: httpx.Client) -> None:
    answer = operator.get("/console/devices/nobody")
    assert answer.status_code == 404
    assert "no device" in answer.text and answer.headers["content-type"].startswith("text/html")


def test_a_page_number_that_is_none_is_a_page_that_says_so(operator: httpx.Client) -> None:
    answer = operator.get("/console/fleet?page=last")
    assert answer.status_code == 422
    assert "page: " in answer.text and answer.headers["content-type"].startswith("text/html")


def test_a_form_without_the_secret_of_the_session_is_refused(fleet: Running, operator: httpx.Client) -> None:
    with visitor(fleet, fleet.token("operator")) as other:
        foreign = csrf(other.get("/console").text)
    for secret in ("", "0" * 64, foreign):
        answer = operator.post("/console/rollouts/r1/abort", data={"csrf": secret})
        assert answer.status_code == 403
        assert "not of this session" in answer.text


def test_a_form_from_another_site_is_refused(fleet: Running, operator: httpx.Client) -> None:
    secret = csrf(operator.get("/console").text)
    elsewhere = {"Origin": "https://evil.example"}
    answer = operator.post("/console/rollouts/r1/abort", data={"csrf": secret}, headers=elsewhere)
    assert answer.status_code == 403 and "another site" in answer.text
    login = operator.post("/console/login", data={"token": fleet.token("viewer")}, headers=elsewhere)
    assert login.status_code == 403


def test_a_viewer_may_look_and_not_act(fleet: Running, rows: FleetRows) -> None:
    with visitor(fleet, fleet.token("viewer")) as viewer:
        page = viewer.get("/console")
        assert page.status_code == 200
        answer = viewer.post("/console/rollouts/r1/abort", data={"csrf": csrf(page.text)})
    assert answer.status_code == 403 and "may look, not operate" in answer.text


@pytest.mark.parametrize("role", ["enrol"])
def test_tokens_that_may_not_read_do_not_open_a_session(fleet: Running, role: str) -> None:
    answer = fleet.http.post("/console/login", data={"token": fleet.token(role)})
    assert answer.status_code == 403
    assert COOKIE not in answer.cookies


def test_a_wrong_token_is_told_on_the_login_page(fleet: Running) -> None:
    answer = fleet.http.post("/console/login", data={"token": "guess"})
    assert answer.status_code == 401
    assert "the token is not known here" in answer.text and 'name="token"' in answer.text


def test_the_cookie_is_kept_from_scripts_and_other_sites_and_is_not_the_token(
    fleet: Running, rows: FleetRows
) -> None:
    token = fleet.token("viewer")
    answer = fleet.http.post("/console/login", data={"token": token})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert token not in answer.headers["set-cookie"]


def test_a_session_ends_with_a_logout(fleet: Running, rows: FleetRows) -> None:
    token = fleet.token("viewer")
    with visitor(fleet, token) as viewer:
        session = str(viewer.cookies[COOKIE])
        secret = csrf(viewer.get("/console").text)
        assert viewer.post("/console/logout", data={"csrf": secret}).status_code == 303
    headers = {"Authorization": f"Bearer {session}"}
    assert fleet.http.get("/api/v1/devices", headers=headers).status_code == 401
    still = {"Authorization": f"Bearer {token}"}
    assert fleet.http.get("/api/v1/devices", headers=still).status_code == 200


def test_a_session_ends_when_its_token_is_revoked(fleet: Running, rows: FleetRows) -> None:
    made = fleet.admin.post("/api/v1/tokens", json={"role": "viewer"}).json()
    with visitor(fleet, made["token"]) as viewer:
        assert viewer.get("/console").status_code == 200
        fleet.admin.post(f"/api/v1/tokens/{made['id']}/revoke")
        assert viewer.get("/console").status_code == 303


def test_news_reach_a_page_through_its_cookie(fleet: Running, operator: httpx.Client) -> None:
    with operator.stream("GET", "/api/v1/events") as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(lines)
        fleet.server.bus.publish("device", device="cam-0")
        assert "event: device" in (next(lines), next(lines), next(lines))


def test_static_files_may_be_kept_because_their_address_changes(operator: httpx.Client) -> None:
    addresses = [a for a in References(operator.get("/console").text).addresses if "/static/" in a]
    assert {re.split(r"[/?]", a)[3] for a in addresses} == set(ASSETS)
    for address in addresses:
        answer = operator.get(address)
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert operator.get("/console/static/../routes.py").status_code == 404
    assert operator.get("/console/static/routes.py").status_code == 404
