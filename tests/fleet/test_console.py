"""The console: who gets in, what the pages say, and that nothing comes from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser

import httpx
import pytest
from fleet_rows import FITS, WRONG, FleetRows, digest
from fleet_server import Running
from sqlalchemy import insert, update

from edge_contracts.sketch import Drift, QuantileSketch
from edge_fleet import schema
from edge_fleet.api.access import COOKIE
from edge_fleet.assignment import State
from edge_fleet.console import charts
from edge_fleet.console.health import SILENT_AFTER_S, Health, condition
from edge_fleet.console.rendering import ASSETS
from edge_fleet.evidence import Exposure

PAGES = (
    "/console",
    "/console/devices/cam-0",
    "/console/releases",
    "/console/rollouts",
    "/console/rollouts/new",
)


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    """Four devices that differ, and a release that runs on them."""
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    built.publish("1", "arm-cpu", "intel-npu")
    built.publish("2")
    built.enrol("cam-0", "cam-1", "cam-2", profile=("raspberry-pi-4", "arm-cpu"), site="lab")
    built.enrol("cam-yard", site="<script>alert(1)</script>")
    active = {
        "bundle": digest("1"),
        "name": "digits",
        "version": "1",
        "artifact": "int8",
        "runtime": "litert 2.3.0",
        "fallback": "no Edge TPU found",
    }
    state = {"active": active, "counter": 1, "agent": "0.1.0", "next_seq": 5}
    with fleet.server.store.write() as connection:
        connection.execute(update(schema.devices).values(state=state))
        silent = fleet.server.now_ms() - 3_600_000
        connection.execute(
            update(schema.devices).where(schema.devices.c.id == "cam-2").values(last_seen_ms=silent)
        )
        connection.execute(
            insert(schema.refusals).values(
                reason="signature-invalid", device="cam-0", count=3, last_ms=silent, detail="forged"
            )
        )
    built.report("cam-0", digest("1"), scalars={"input:x:mean": FITS})
    built.report("cam-1", digest("1"), scalars={"input:x:mean": WRONG})
    return built


@contextmanager
def browser(fleet: Running, token: str) -> Iterator[httpx.Client]:
    """Somebody with a browser who has logged in."""
    with httpx.Client(base_url=fleet.url, trust_env=False, timeout=30) as found:
        answer = found.post("/console/login", data={"token": token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        yield found


@pytest.fixture
def operator(fleet: Running, rows: FleetRows) -> Iterator[httpx.Client]:
    with browser(fleet, fleet.token("operator", label="anna")) as found:
        yield found


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


class References(HTMLParser):
    """Every address that a page refers to, and everything that a strict policy would block."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.fields: list[str] = []
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [v for k, v in attrs if k in ("href", "src", "action") and v]
        self.inline += [k for k in found if k.startswith("on") or k == "style"]
        self.ids += [v for k, v in attrs if k == "id" and v]
        if tag == "style" or (tag == "script" and "src" not in found):
            self.inline.append(tag)
        if tag == "label" and found.get("for"):
            self.labels.add(str(found["for"]))
        if tag in ("input", "select") and found.get("type") != "hidden":
            self.fields.append(str(found.get("id")))


@pytest.mark.parametrize("path", ["/", *PAGES, "/console/rollouts/r1"])
def test_who_is_not_logged_in_is_led_to_the_login(fleet: Running, path: str) -> None:
    with httpx.Client(base_url=fleet.url, trust_env=False, follow_redirects=True) as stranger:
        answer = stranger.get(path)
    assert str(answer.url).endswith("/console/login")
    assert "devices" not in answer.text


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
    links = {a for a in References(operator.get(path).text).addresses if a.startswith("/")}
    for address in links - {"/console/logout"}:
        assert operator.get(address).status_code == 200, address


def test_what_devices_and_operators_write_is_text_and_never_markup(operator: httpx.Client) -> None:
    page = operator.get("/console/devices/cam-yard").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    searched = operator.get("/console", params={"q": '"><script>alert(2)</script>'}).text
    assert "<script>alert" not in searched


def test_the_fleet_shows_the_urgent_first_and_says_why(operator: httpx.Client) -> None:
    page = operator.get("/console").text
    attention = page[page.index("Needs attention") : page.index("Rollouts at work")]
    assert "nothing heard for 5 minutes" in attention and "cam-2" in attention
    # |390/400 - 1/4| + |5/400 - 1/2| + |5/400 - 1/4|, halved
    assert "input:x:mean is 0.72 from its baseline" in attention and "cam-1" in attention
    assert "cam-0" not in attention


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=cam-0", {"cam-0"}),
        ("q=site%3Dlab+cam", {"cam-0", "cam-1", "cam-2"}),
        ("health=drifting", {"cam-1"}),
        ("profile=raspberry-pi-4", {"cam-0", "cam-1", "cam-2"}),
        ("q=nobody", set()),
    ],
)
def test_the_table_is_narrowed_on_the_server(operator: httpx.Client, query: str, found: set[str]) -> None:
    page = operator.get(f"/console?{query}").text
    table = page[page.index('id="table"') :]
    assert set(re.findall(r"/console/devices/([\w-]+)", table)) == found


def test_a_device_shows_charts_baseline_fallback_and_refusals(operator: httpx.Client) -> None:
    page = operator.get("/console/devices/cam-0").text
    assert page.count('<svg class="chart"') == 3
    assert '<svg class="histogram"' in page and "input:x:mean" in page
    assert "no Edge TPU found" in page
    assert "Refused 3 times: signature-invalid" in page


def test_releases_show_where_they_come_from(operator: httpx.Client) -> None:
    page = operator.get("/console/releases").text
    assert "digits.onnx" in page and digest("1") in page
    assert "/console/rollouts/new?release=digits%402" in page


def test_an_unknown_device_is_a_page_that_says_so(operator: httpx.Client) -> None:
    answer = operator.get("/console/devices/nobody")
    assert answer.status_code == 404
    assert "no device" in answer.text and answer.headers["content-type"].startswith("text/html")


def test_a_page_number_that_is_none_is_a_page_that_says_so(operator: httpx.Client) -> None:
    answer = operator.get("/console?page=last")
    assert answer.status_code == 422
    assert "page: " in answer.text and answer.headers["content-type"].startswith("text/html")


def test_a_rollout_is_planned_watched_and_stopped_with_forms(operator: httpx.Client) -> None:
    form = operator.get("/console/rollouts/new?release=digits@2").text
    assert "<option selected>digits@2</option>" in form
    wrong = {"csrf": csrf(form), "release": "digits@2", "select": "site", "stages": "1, 100%"}
    refused = operator.post("/console/rollouts/new", data=wrong)
    assert refused.status_code == 400 and "is not KEY=VALUE" in refused.text
    numbers = operator.post("/console/rollouts/new", data={**wrong, "select": "all", "bake_s": "long"})
    assert numbers.status_code == 400 and "bake_s: &#39;long&#39; is not a number" in numbers.text
    made = operator.post(
        "/console/rollouts/new",
        data={**wrong, "select": "device=cam-0", "gate-drift": "0.2", "gate-error_rate": ""},
    )
    assert made.status_code == 303, made.text
    where = made.headers["location"]
    page = operator.get(where).text
    assert "drift" in page and "error_rate" not in page
    assert "by anna/" in page
    for order, phase in (("pause", "paused"), ("abort", "aborted")):
        answer = operator.post(f"{where}/{order}", data={"csrf": csrf(operator.get(where).text)})
        assert answer.status_code == 303, answer.text
        assert f'badge {phase}">{phase}' in operator.get(where).text
    again = operator.post(f"{where}/pause", data={"csrf": csrf(operator.get(where).text)})
    assert again.status_code == 409 and "a rollout that is aborted cannot be paused" in again.text


def test_a_form_without_the_secret_of_the_session_is_refused(fleet: Running, operator: httpx.Client) -> None:
    with browser(fleet, fleet.token("operator")) as other:
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
    with browser(fleet, fleet.token("viewer")) as viewer:
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
    with browser(fleet, token) as viewer:
        session = str(viewer.cookies[COOKIE])
        secret = csrf(viewer.get("/console").text)
        assert viewer.post("/console/logout", data={"csrf": secret}).status_code == 303
    headers = {"Authorization": f"Bearer {session}"}
    assert fleet.http.get("/api/v1/devices", headers=headers).status_code == 401
    still = {"Authorization": f"Bearer {token}"}
    assert fleet.http.get("/api/v1/devices", headers=still).status_code == 200


def test_a_session_ends_when_its_token_is_revoked(fleet: Running, rows: FleetRows) -> None:
    made = fleet.admin.post("/api/v1/tokens", json={"role": "viewer"}).json()
    with browser(fleet, made["token"]) as viewer:
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


NOW = 1_000_000.0
BUSY = Exposure(windows=1, inferences=400, latency_ms=QuantileSketch(bins={1: 400}))


def test_a_condition_names_what_is_most_urgent() -> None:
    def word(**changes: object) -> Health:
        usual: dict[str, object] = {
            "now_s": NOW,
            "last_seen_s": NOW,
            "revoked": False,
            "assignment": State.CONFIRMED,
            "recent": BUSY,
            "drifts": (),
        }
        return condition(**(usual | changes)).health  # type: ignore[arg-type]

    drifting = (Drift("input:x:mean", 0.5, 1e-9, 400),)
    assert word() is Health.OK
    assert word(revoked=True, assignment=State.REFUSED) is Health.REVOKED
    assert word(assignment=State.REFUSED, last_seen_s=None) is Health.FAILING
    assert word(recent=Exposure(inferences=50, errors=50)) is Health.FAILING
    assert word(recent=Exposure(inferences=400, errors=1)) is Health.OK
    assert word(last_seen_s=None) is Health.SILENT
    assert word(last_seen_s=NOW - SILENT_AFTER_S) is Health.OK
    assert word(last_seen_s=NOW - SILENT_AFTER_S - 1, drifts=drifting) is Health.SILENT
    assert word(drifts=drifting) is Health.DRIFTING
    assert word(drifts=(Drift("input:x:mean", 0.5, 0.01, 60),)) is Health.OK  # not certain
    assert word(assignment=State.TRIAL) is Health.UPDATING
    assert word(recent=Exposure()) is Health.IDLE


def test_a_chart_starts_at_zero_and_ends_now() -> None:
    points = [charts.Point(0.0, 0.0, "digits 1"), charts.Point(100.0, 8.0, "digits 2")]
    chart = charts.line(points, "p95 latency", "ms", 200.0)
    floor, top = charts.HEIGHT - charts.BOTTOM, charts.TOP
    assert f'd="M{charts.LEFT}.0 {floor}.0M' in chart  # a new line begins with the new model
    middle = charts.LEFT + (charts.WIDTH - charts.LEFT - charts.RIGHT) / 2
    assert f"M{middle:.1f} {top}.0" in chart
    assert "p95 latency: now 8 ms, at most 8 ms" in chart


def test_a_chart_without_points_says_so_and_one_of_zeros_is_drawn() -> None:
    assert "nothing reported yet" in charts.line([], "p95 <latency>", "ms", 1.0)
    assert "&lt;latency&gt;" in charts.line([], "p95 <latency>", "ms", 1.0)
    assert "<path" in charts.line([charts.Point(1.0, 0.0)], "errors", "", 1.0)
    assert charts.histogram([0, 0], [0, 0], "empty").count("<rect") == 4
