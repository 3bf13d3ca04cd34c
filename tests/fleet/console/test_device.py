"""The page of one device: why it has its model, its chain, its charts, and what can be ordered."""

from __future__ import annotations

import time

import httpx
import pytest
from console_visit import csrf, visitor
from fleet_rows import FITS, FleetRows, digest
from fleet_server import Running
from sqlalchemy import insert, select, update

from edge_contracts.messages import CHAIN_START
from edge_fleet import schema
from edge_fleet.console.device_history import Happening, fold
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.plan import parse_plan


def test_a_device_shows_charts_with_their_numbers_and_its_baseline(operator: httpx.Client) -> None:
    page = operator.get("/console/devices/cam-0").text
    assert page.count('<svg class="chart"') >= 5  # work, faults, latency, memory, drift and a histogram
    assert page.count("As a table") >= 5
    assert "input:x:mean" in page and "Baseline, %" in page
    assert "no Edge TPU found" in page
    assert "Refused 3 times: signature-invalid" in page


def test_it_says_why_it_has_its_model(operator: httpx.Client) -> None:
    page = operator.get("/console/devices/cam-0").text
    why = page[page.index("Model and why") : page.index("Slots")]
    assert "It runs" in why and "digits@1" in why
    assert "of raspberry-pi-4 &gt; arm-cpu the nearest with a bundle is arm-cpu" in why
    assert "The newest is" in why and "digits@2" in why
    stranger = operator.get("/console/devices/npu").text
    assert "no bundle for unheard-of" in stranger


@pytest.fixture(autouse=True, scope="module")
def history(fleet: Running, rows: FleetRows) -> None:
    """A chain with a hole, a gap and a fork, a device of an unknown profile, and sums of days before."""
    rows.enrol("npu", profile=("unheard-of",))
    now = fleet.server.now_ms()
    with fleet.server.store.write() as connection:
        connection.execute(
            update(schema.devices).where(schema.devices.c.id == "cam-0").values(epoch="a" * 16)
        )
        stream = {"device": "cam-0", "epoch": "a" * 16, "high": 4, "top": 7, "chain": CHAIN_START}
        connection.execute(insert(schema.streams).values(**stream, started_ms=now - 7_200_000))
        connection.execute(
            insert(schema.gaps).values(
                device="cam-0", epoch="a" * 16, first_seq=2, last_seq=3, records=9, reason="disk full",
                received_ms=now,
            )
        )  # fmt: skip
        connection.execute(
            insert(schema.forks).values(
                device="cam-0", epoch="a" * 16, seq=1, chain=b"x" * 16, received_ms=now, raw=b"x"
            )
        )
        for days in (1, 2):
            connection.execute(
                insert(schema.rollups).values(
                    step_s=86_400, start_ms=now - days * 86_400_000, device="cam-0", bundle=digest("1"),
                    windows=1, duration_ms=1, inferences=77_000, errors=3, refused=0, golden_total=0,
                    golden_agree=0, labelled=0, correct=0, uncertain=0, drifting=0, cpu_s=0.0, rss_bytes=1,
                    temperature_c=61.0, latency={"50": 9}, scalars={"input:x:mean": FITS},
                )
            )  # fmt: skip


def test_the_chain_is_told_with_its_hole_its_gap_and_its_fork(operator: httpx.Client) -> None:
    page = operator.get("/console/devices/cam-0").text
    chain = page[page.index("Chain of telemetry") : page.index("Over time")]
    assert "number 5 is missing" in chain and "(current)" in chain
    assert "the device will give 5 next" in chain
    assert "2 to 3 (9 records): disk full" in chain
    assert "came in two forms, both signed" in chain
    whole = page[page.index('id="history"') :]
    assert "envelope 1 came a second time with other bytes" in whole and "enrolled" in whole


def test_longer_times_are_drawn_from_sums(operator: httpx.Client) -> None:
    page = operator.get("/console/devices/cam-0?span=quarter").text
    assert "Inferences, a day" in page and "77.0k" not in page and "77k" in page
    assert "61" in page and "°C" in page
    wrong = operator.get("/console/devices/cam-0?span=century")
    assert wrong.status_code == 400 and "hour, day, week, quarter" in wrong.text


def test_orders_are_carried_out_and_refused_as_in_the_api(
    fleet: Running, operator: httpx.Client, rows: FleetRows
) -> None:
    plan = {"format": "edgefleet.rollout/1", "release": "digits@2", "select": "device=cam-0|cam-1",
            "stages": ["100%"]}  # fmt: skip
    orders = Operator(fleet.server)
    rollout = orders.create(parse_plan(plan), "anna")
    orders.start(rollout, "anna")
    page = operator.get("/console/devices/cam-0").text
    deadline = time.monotonic() + 60
    while f'value="{rollout}"' not in page:  # until the conductor has reached it
        assert time.monotonic() < deadline, "the conductor did not reach it"
        page = operator.get("/console/devices/cam-0").text
    form = {"csrf": csrf(page), "rollout": rollout, "why": "it burns"}
    nothing = operator.post("/console/devices/cam-0/retry", data=form)
    assert nothing.status_code == 409 and "there is nothing to try again" in nothing.text
    done = operator.post("/console/devices/cam-0/rollback", data=form)
    assert (done.status_code, done.headers["location"]) == (303, "/console/devices/cam-0")
    with fleet.server.store.read() as connection:
        left = connection.execute(
            select(schema.rollout_members.c.left_as).where(schema.rollout_members.c.device == "cam-0")
        ).scalar()
    assert left == "sent-back"
    assert operator.post("/console/devices/cam-0/explode", data=form).status_code == 404
    assert operator.post("/console/devices/cam-0/skip", data={**form, "csrf": "0" * 64}).status_code == 403
    with visitor(fleet, fleet.token("viewer")) as viewer:
        looked = viewer.get("/console/devices/cam-0").text
        assert 'id="orders"' not in looked
        refused = viewer.post("/console/devices/cam-0/rollback", data={**form, "csrf": csrf(looked)})
        assert refused.status_code == 403


def test_a_device_is_put_out_of_the_fleet(fleet: Running, operator: httpx.Client, rows: FleetRows) -> None:
    rows.enrol("stolen")
    page = operator.get("/console/devices/stolen").text
    done = operator.post("/console/devices/stolen/revoke", data={"csrf": csrf(page)})
    assert done.status_code == 303
    after = operator.get("/console/devices/stolen").text
    assert "put out of the fleet" in after and 'id="orders"' not in after


def test_what_comes_again_and_again_does_not_hide_the_rest_of_the_history() -> None:
    forks = [Happening(100 - n, "fork", f"envelope {90 - n}", "its key is in two places") for n in range(70)]
    others = [Happening(20, "enrolled", "enrolled"), Happening(10, "gap", "lost 1 to 2", "full")]
    found = fold([*forks, *others])
    assert [(one.kind, one.what) for one in found] == [
        ("fork", "envelope 90; 69 more of the kind before"),
        ("enrolled", "enrolled"),
        ("gap", "lost 1 to 2"),
    ]
    assert fold([forks[0], others[0], forks[1]]) == [forks[0], others[0], forks[1]]
