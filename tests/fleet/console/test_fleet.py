"""The fleet's page: searched, narrowed, sorted and paged."""

from __future__ import annotations

import re
import time

import httpx
import pytest
from click.testing import CliRunner
from console_visit import visitor
from fleet_rows import FleetRows
from fleet_server import Running

from edge_fleet.fleet_cli import devices
from edge_fleet.standings import cli
from edge_fleet.standings.condition import Health
from edge_fleet.standings.find import SORTS


def listed(page: str) -> list[str]:
    return re.findall(r'<a href="/console/devices/([\w-]+)"', page[page.index('id="table"') :])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=cam-0", {"cam-0"}),
        ("q=AM-1", {"cam-1"}),
        ("q=site%3Dlab+cam", {"cam-0", "cam-1", "cam-2"}),
        ("q=%25", set()),  # a sign that a database would take for "anything"
        ("q=digits+1+litert", {"cam-0", "cam-1", "cam-2", "cam-yard"}),
        ("health=drifting", {"cam-1"}),
        ("profile=raspberry-pi-4", {"cam-0", "cam-1", "cam-2"}),
        ("q=arm-cpu&profile=raspberry-pi-4&health=drifting", {"cam-1"}),
        ("model=digits+1&degraded=1", {"cam-0", "cam-1", "cam-2", "cam-yard"}),
        ("model=digits+2", set()),
        ("health=nonsense", set()),
        ("q=nobody", set()),
    ],
)
def test_the_table_is_narrowed_on_the_server(operator: httpx.Client, query: str, found: set[str]) -> None:
    page = operator.get(f"/console/fleet?{query}").text
    assert set(listed(page)) == found
    assert f"{len(found)} of 4 devices" in page


def test_the_urgent_comes_first_unless_another_order_is_wanted(operator: httpx.Client) -> None:
    assert listed(operator.get("/console/fleet").text)[:2] == ["cam-2", "cam-1"]  # silent, drifting
    names = listed(operator.get("/console/fleet?sort=name").text)
    assert names == sorted(names)
    assert listed(operator.get("/console/fleet?sort=drift").text)[0] == "cam-1"


def test_pages_lead_on_and_keep_what_was_asked_for(operator: httpx.Client) -> None:
    first = operator.get("/console/fleet?q=cam&sort=name&size=3").text
    assert listed(first) == ["cam-0", "cam-1", "cam-2"]
    after = re.search(r'rel="next" href="(\?[^"]+)"', first)
    assert after is not None
    second = operator.get("/console/fleet" + after[1].replace("&amp;", "&")).text
    assert listed(second) == ["cam-yard"] and "page 2 of 2" in second and 'rel="next"' not in second
    assert listed(operator.get("/console/fleet?size=3&page=99&sort=name").text) == ["cam-yard"]


@pytest.mark.parametrize("wrong", ["sort=colour", "page=0", "size=5000", "page=last"])
def test_what_cannot_be_asked_for_is_a_page_that_says_so(operator: httpx.Client, wrong: str) -> None:
    answer = operator.get(f"/console/fleet?{wrong}")
    assert answer.status_code in (400, 422)
    assert "That was refused" in answer.text and wrong.split("=")[0] in answer.text


def test_the_same_search_is_an_api_call(fleet: Running, rows: FleetRows) -> None:
    answer = fleet.admin.get("/api/v1/fleet", params={"q": "cam", "health": "drifting"}).json()
    assert [row["device"] for row in answer["devices"]] == ["cam-1"]
    assert (answer["matching"], answer["total"], answer["pages"]) == (1, 4, 1)
    assert answer["devices"][0]["reason"] == "input:x:mean is 0.72 from its baseline"
    assert fleet.admin.get("/api/v1/fleet", params={"sort": "colour"}).status_code == 422


def test_a_device_that_enrols_is_found_soon(fleet: Running, rows: FleetRows) -> None:
    rows.enrol("late-comer")
    with visitor(fleet, fleet.token("viewer")) as viewer:
        deadline = time.monotonic() + 60
        while not listed(viewer.get("/console/fleet?q=late-comer").text):
            assert time.monotonic() < deadline, "the thread that keeps standings did not take it up"


def test_the_same_search_is_a_command_with_the_same_words(fleet: Running, rows: FleetRows) -> None:
    assert (tuple(SORTS), tuple(Health)) == (cli.SORTS, cli.HEALTHS)
    where = ["--server", fleet.url, "--token", fleet.token("viewer")]
    found = CliRunner().invoke(devices, ["find", "cam", "site=lab", "--health", "drifting", *where])
    assert found.exit_code == 0, found.output
    assert "cam-1" in found.output and "0.72 from its baseline" in found.output
    assert "1 of " in found.output and "cam-0" not in found.output
