"""The overview: what needs attention comes first, with a why and a link; nothing is said to be nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from console_visit import settle, visitor
from fleet_rows import FITS, FleetRows, digest
from fleet_server import Running, fleet_server
from sqlalchemy import delete, insert, update

from edge_contracts.keys import PrivateKey
from edge_fleet import schema
from edge_fleet.access import two_people
from edge_fleet.console.matters import matters
from edge_fleet.lineage import stages
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.standings.work import Standings


def attention(page: str) -> str:
    return page[page.index("Needs attention") : page.index('class="tiles"')]


def test_the_urgent_comes_first_with_a_why_and_a_link(operator: httpx.Client) -> None:
    found = attention(operator.get("/console").text)
    # |390/400 - 1/4| + |5/400 - 1/2| + |5/400 - 1/4|, halved
    assert "cam-1: input:x:mean is 0.72 from its baseline" in found
    assert 'href="/console/devices/cam-1"' in found
    assert "cam-2: nothing heard for 5 minutes or more" in found
    assert "not on the first choice of the profile" in found and "no Edge TPU found" in found
    assert 'href="/console/fleet?degraded=1"' in found
    assert "as signature-invalid; one of them: forged" in found
    order = re.findall(r'<li class="(\w+)">', found)
    assert order == sorted(order, key=("critical", "warning", "calm").index)


def test_counts_lead_to_the_fleet_narrowed_to_them(operator: httpx.Client) -> None:
    page = operator.get("/console").text
    for health in ("drifting", "silent"):
        assert f'href="/console/fleet?health={health}"' in page
        assert operator.get(f"/console/fleet?health={health}").status_code == 200


@pytest.fixture
def quiet(tmp_path: Path) -> Any:
    """A server whose two devices are well."""
    with fleet_server(tmp_path / "home") as fleet:
        built = FleetRows(fleet.server.store, fleet.server.now_ms)
        built.publish("1")
        built.enrol("cam-0", "cam-1")
        active = {"bundle": digest("1"), "name": "digits", "version": "1", "fallback": ""}
        with fleet.server.store.write() as connection:
            connection.execute(update(schema.devices).values(state={"active": active, "counter": 1}))
        for name in ("cam-0", "cam-1"):
            built.report(name, digest("1"), scalars={"input:x:mean": FITS})
        settle(fleet)
        yield fleet


def test_nothing_is_said_to_be_nothing_and_each_trouble_shows_by_itself(quiet: Running) -> None:
    """One server for all: it starts calm, and each trouble adds exactly its own line."""
    server = quiet.server
    with visitor(quiet, quiet.token("operator")) as operator:
        page = operator.get("/console").text
    assert "Nothing: no alert fires" in page and "<li class=" not in page

    def found(broker_up: bool = True) -> list[tuple[str, str, str]]:
        with server.store.read() as connection:
            return [
                (one.kind, one.word, one.link)
                for one in matters(connection, server.now_ms(), broker_up=broker_up)
            ]

    assert found() == []
    assert found(broker_up=False) == [("broker", "down", "")]
    now = server.now_ms()
    alert = {
        "rule": "fork", "subject": digest("1"), "level": "critical", "phase": "firing", "value": 1,
        "why": "two forms", "evidence": {}, "since_ms": now, "fired_ms": now, "changed_ms": now,
    }  # fmt: skip
    with server.store.write() as connection:
        connection.execute(insert(schema.alerts).values(**alert))
        connection.execute(insert(schema.alerts).values(**{**alert, "phase": "resolved"}))
    assert [(kind, word) for kind, word, _ in found()] == [("alert", "fork")]
    refusal = {"device": "cam-0", "count": 3, "last_ms": now, "detail": "forged"}
    with server.store.write() as connection:
        connection.execute(insert(schema.refusals).values(reason="signature-invalid", **refusal))
        connection.execute(
            insert(schema.alerts).values(**{**alert, "rule": "bad-signature", "subject": "cam-1"})
        )
    assert [word for kind, word, _ in found() if kind == "refusal"] == ["signature-invalid"]
    with server.store.write() as connection:  # what an alert says is not said again
        is_bad = schema.alerts.c.rule == "bad-signature"
        connection.execute(update(schema.alerts).where(is_bad).values(subject="cam-0"))
    assert [kind for kind, _, _ in found()] == ["alert", "alert"]
    with server.store.write() as connection:
        connection.execute(delete(schema.refusals))
        connection.execute(update(schema.alerts).values(phase="resolved"))
        stages.set_policy(connection, stages.Policy.APPROVED, "anna", now)
    assert found() == [("approval", "candidate", "/console/models/digits@1")]
    with server.store.write() as connection:
        stages.note(connection, 1, stages.Event.APPROVED, "bert", now)
    assert found() == []
    operator_ = Operator(server)
    plan = parse_plan({"format": "edgefleet.rollout/1", "release": "digits@1", "stages": ["100%"]})
    rollout = operator_.create(plan, "anna")
    assert found() == []
    with server.store.write() as connection:
        two_people.set_rule(connection, 50, "anna", now)
    assert found() == [("approval", "draft", f"/console/rollouts/{rollout}")]
    with server.store.write() as connection:
        connection.execute(update(schema.rollouts).values(phase="held", why="a gate failed", since_ms=now))
    assert found() == [("rollout", "held", f"/console/rollouts/{rollout}")]
    for phase, age_ms, shown in (
        ("rolled-back", 0, True),
        ("rolled-back", 2 * 86_400_000, False),
        ("completed", 0, False),
    ):
        with server.store.write() as connection:
            connection.execute(update(schema.rollouts).values(phase=phase, since_ms=now - age_ms))
        assert bool(found()) is shown, (phase, age_ms)
    with server.store.write() as connection:
        devices = schema.devices
        connection.execute(update(devices).where(devices.c.id == "cam-1").values(last_seen_ms=now - 900_000))
    assert found() == [], "the table is as of the last look"
    Standings(server).catch_up(now + 400_000)
    assert ("device", "silent") in [(kind, word) for kind, word, _ in found()]


def test_an_empty_fleet_says_how_to_begin_and_what_is_done_of_it(tmp_path: Path) -> None:
    with fleet_server(tmp_path / "home") as fleet, visitor(fleet, fleet.token("viewer")) as viewer:

        def steps() -> list[bool]:
            page = viewer.get("/console").text
            part = page[page.index("To begin") :] if "To begin" in page else ""
            return ["done" in step for step in part[: part.find("</ol>")].split("<li>")[1:]]

        assert steps() == [False, False, False, False]
        page = viewer.get("/console").text
        assert "no device is enrolled yet" in page and "no alert fires" not in page
        for command in (
            "trust add",
            "release publish",
            "token create",
            "edge-agent enroll",
            "rollout create",
        ):
            assert command in page
        key = PrivateKey.generate().public.base64
        fleet.admin.post("/api/v1/publishers", json={"public_key": key, "label": "us"}).raise_for_status()
        assert steps() == [True, False, False, False]
        built = FleetRows(fleet.server.store, fleet.server.now_ms)
        built.enrol("cam-0")
        settle(fleet)
        assert steps() == [True, False, True, False]
        built.publish("1")
        assert steps() == []  # whoever has both knows the way
