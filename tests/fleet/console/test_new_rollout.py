"""Planning a rollout on a page: the canary's form, the plan as YAML with its faults, and the dry run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from console_client import browser, csrf, person, send, words
from fleet_rows import FleetRows
from fleet_server import Running

from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.rollouts.plan_file import read_plan_text

NEW = "/console/rollouts/new"
CANARY = {"release": "digits@2", "select": "site=lab", "canary": "25%", "bake_min": "2"}
FLEET = """format = "edgefleet.fleet/1"
[[classes]]
profile = "arm-cpu"
devices = 20
labels = { site = "lab" }
"""


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    for version in ("1", "2"):
        built.publish(version)
    built.enrol(*(f"cam-{n}" for n in range(4)), site="lab")
    built.enrol("npu", profile=("intel-npu",), site="lab")
    person(fleet, "anna", "operator")
    return built


@pytest.fixture
def anna(fleet: Running, rows: FleetRows) -> Iterator[httpx.Client]:
    with browser(fleet, name="anna") as found:
        yield found


def plan_of(page: str) -> str:
    """What stands in the text area."""
    from html import unescape

    found = re.search(r'<textarea id="plan"[^>]*>\n(.*?)</textarea>', page, re.S)
    assert found is not None
    return unescape(found[1])


def rollouts(fleet: Running) -> list[str]:
    return [one["id"] for one in fleet.admin.get("/api/v1/rollouts").json()]


def test_the_form_writes_the_plan_of_a_canary_and_makes_nothing(fleet: Running, anna: httpx.Client) -> None:
    before = rollouts(fleet)
    answer = send(anna, NEW, f"{NEW}/canary", **CANARY, on_failure="hold")
    assert answer.status_code == 200
    document = read_plan_text(plan_of(answer.text).encode(), "plan")
    plan = parse_plan(document.raw)
    assert (plan.release, plan.select, plan.kind, plan.on_failure) == (
        "digits@2",
        "site=lab",
        "canary",
        "hold",
    )
    assert [str(stage) for stage in plan.stages] == ["25%", "100%"]
    assert plan.bake_s == 120
    told = words(answer.text)
    assert "It names 5 devices; stage 1 reaches 1, stage 2 reaches 4 in all" in told
    assert "1 device: no bundle for intel-npu" in told
    assert rollouts(fleet) == before


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("bake_min", "long", "'long' is not a number of minutes"),
        ("canary", "some", "is neither a count such as 3 nor a share such as 50%"),
        ("select", "lab", "is not KEY=VALUE"),
        ("on_failure", "panic", "rollback-rollout"),
        ("release", "digits", "NAME@VERSION"),
    ],
)
def test_a_wrong_field_of_the_form_is_marked_where_it_is(
    anna: httpx.Client, field: str, value: str, told: str
) -> None:
    answer = send(anna, NEW, f"{NEW}/canary", **{**CANARY, "on_failure": "hold", field: value})
    assert answer.status_code == 400
    assert re.search(rf'id="{field}"[^>]* aria-invalid="true" aria-describedby="{field}-fault"', answer.text)
    fault = re.search(rf'id="{field}-fault">(.*?)</span>', answer.text)
    assert fault is not None and told in words(fault[1])
    assert 'value="2"' in answer.text or field == "bake_min"  # what was right stays


WRONG = """format: edgefleet.rollout/1
release: digits@2
stages: [1, 500%]
bake: 5
gates:
  error_rat: 0.1
windows: [{begin: "25:00", end: "04:00"}]
"""


def test_every_fault_of_a_plan_is_told_with_its_line_and_its_field(anna: httpx.Client) -> None:
    answer = send(anna, NEW, NEW, plan=WRONG.replace("\n", "\r\n"), do="start")
    assert answer.status_code == 400
    told = words(answer.text[answer.text.index('id="faults"') :])
    assert "4 faults in the plan" in told
    for line, field, what in (
        (3, "stages.1", "less than or equal to 100"),
        (4, "bake", "there is no such field; did you mean 'bake_s'?"),
        (5, "gates", "did you mean 'error_rate'?"),
        (7, "windows.0.begin", "time of day at which it opens"),
    ):
        assert re.search(rf"Line {line} {re.escape(field)} ?: [^L]*{re.escape(what)}", told), (field, told)
    assert plan_of(answer.text) == WRONG


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not a mapping"),
        ("release: [", "not YAML"),
        ("release: a\nrelease: b\n", "comes twice"),
        ("format: edgefleet.rollout/9\n", "format"),
    ],
)
def test_what_is_no_plan_is_said(anna: httpx.Client, text: str, told: str) -> None:
    answer = send(anna, NEW, NEW, plan=text, do="check")
    assert answer.status_code == 400 and told in words(answer.text)


def test_a_plan_is_checked_kept_as_a_draft_and_started(fleet: Running, anna: httpx.Client) -> None:
    text = "format: edgefleet.rollout/1\nrelease: digits@2\nselect: device=cam-0\nstages: [100%]\nbake_s: 0\n"
    checked = send(anna, NEW, NEW, plan=text, do="check")
    assert checked.status_code == 200
    told = words(checked.text)
    assert "It names 1 device; stage 1 reaches 1." in told and "digits@2 to device=cam-0, staged" in told
    draft = send(anna, NEW, NEW, plan=text, do="draft")
    assert draft.status_code == 303
    made = draft.headers["location"].rsplit("/", 1)[1]
    assert fleet.admin.get(f"/api/v1/rollouts/{made}").json()["phase"] == "draft"
    started = send(anna, NEW, NEW, plan=text, do="start")
    assert started.status_code == 303
    at_work = started.headers["location"].rsplit("/", 1)[1]
    assert fleet.admin.get(f"/api/v1/rollouts/{at_work}").json()["phase"] == "running"
    second = send(anna, NEW, NEW, plan=text, do="start")
    assert second.status_code == 409  # its device is taken: the draft is there, and its page says why
    assert "it was made, but not started" in words(second.text) and "order-start" in second.text
    like = anna.get(NEW, params={"like": made}).text
    assert parse_plan(read_plan_text(plan_of(like).encode(), "plan").raw) == parse_plan(
        read_plan_text(text.encode(), "plan").raw
    )
    unknown = send(anna, NEW, NEW, plan=text.replace("@2", "@7"), do="check")
    assert unknown.status_code == 404 and "no release digits@7" in words(unknown.text)


def test_a_template_explains_every_field_and_is_a_plan(anna: httpx.Client) -> None:
    page = anna.get(NEW, params={"kind": "canary", "release": "digits@2"}).text
    text = plan_of(page)
    assert "# retries by cause" in text
    assert parse_plan(read_plan_text(text.encode(), "plan").raw).kind == "canary"


def wait_for(anna: httpx.Client, address: str, told: str) -> str:
    """The page once it says this."""
    for _ in range(600):
        page = anna.get(address).text
        if told in words(page):
            return page
        time.sleep(0.1)
    raise AssertionError(f"{address} does not say {told!r}")


def test_a_dry_run_is_shown_as_a_table_and_a_picture(fleet: Running, anna: httpx.Client) -> None:
    text = "format: edgefleet.rollout/1\nrelease: digits@2\nstages: [1, 100%]\nbake_s: 60\n"
    text += "gates: {install_success: 0.9}\n"
    asked = {"defect": "install", "sizes": "0.5, 1", "on": "1", "runs": "2", "fleet": FLEET}
    answer = send(anna, NEW, NEW, plan=text, do="simulate", **asked)
    assert answer.status_code == 303, words(answer.text)
    where = answer.headers["location"]
    page = wait_for(anna, where, "A good release:")
    assert plan_of(page) == text
    told = words(page[page.index('id="dry-run"') :])
    assert "20 devices, 2 runs of each" in told
    assert "+50 % install" in told and "+100 % install" in told
    assert '<svg xmlns="http://www.w3.org/2000/svg"' in page and "style=" not in page
    found = fleet.admin.get(f"/api/v1/dry-runs/{where.split('=')[1]}").json()
    assert found["by"] == "anna" and len(found["study"]["rows"]) == 3
    good = found["study"]["rows"][0]
    assert f"{100 * good['completed']:.3g} % completed" in told


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"fleet": ""}, "no device has reported in the last day"),
        ({"fleet": "= no"}, "is not TOML"),
        ({"fleet": FLEET, "sizes": "big"}, "'big' is not a number"),
        ({"fleet": FLEET, "sizes": "-1"}, "at most 12 numbers over 0 to 100"),
        ({"fleet": FLEET, "runs": "100000"}, "expected 1 to 500"),
        ({"fleet": FLEET, "on": "2"}, "a share over 0 to 1"),
        ({"fleet": FLEET.replace('"lab"', '"yard"')}, "names no class of the fleet"),
    ],
)
def test_a_dry_run_that_cannot_be_made_is_told(
    fleet: Running, anna: httpx.Client, asked: dict[str, str], told: str
) -> None:
    text = "format: edgefleet.rollout/1\nrelease: digits@2\nselect: site=lab\nstages: [100%]\n"
    answer = send(anna, NEW, NEW, plan=text, do="simulate", **asked)
    assert answer.status_code in (400, 409) and told in words(answer.text)
    assert plan_of(answer.text) == text
    assert anna.get(NEW, params={"dry_run": "gone"}).status_code == 404


def test_a_plan_is_not_sent_by_another_site(anna: httpx.Client) -> None:
    form = {"csrf": csrf(anna.get(NEW).text), "plan": WRONG, "do": "start"}
    answer = anna.post(NEW, data=form, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert anna.post(NEW, data={**form, "csrf": ""}).status_code == 403
