"""Alerts on a server at work: found, stored, shown with proof, acknowledged, silenced, resolved."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from fleet_device import FleetDevice, enrol, eventually
from fleet_rows import FleetRows
from fleet_server import Running
from sqlalchemy import update

from edge_contracts.envelope import unseal
from edge_contracts.errors import KeyUnknown
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Telemetry
from edge_contracts.topics import Channel
from edge_fleet.alerts.cli import alert as command
from edge_fleet.alerts.cli import seconds_of
from edge_fleet.alerts.watch import Watch
from edge_fleet.errors import RequestInvalid
from edge_fleet.schema import devices


def run(fleet: Running, *words: str, code: int = 0, role: str = "operator") -> str:
    token = fleet.token(role)
    found = CliRunner().invoke(command, [*words, "--server", fleet.url, "--token", token])
    assert found.exit_code == code, found.output + repr(found.exception)
    return found.output


@pytest.fixture
def forged(fleet: Running) -> FleetDevice:
    """A device in whose name somebody sends what it has not signed."""
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    device.outbox.key = PrivateKey.generate()
    device.send(Channel.TELEMETRY, device.outbox.add())
    eventually(
        lambda: any(r["device"] == device.id for r in fleet.admin.get("/api/v1/refusals").json()), "refused"
    )
    device.close()
    return device


def alerts_of(fleet: Running, subject: str, resolved: bool = False) -> list[dict[str, Any]]:
    found = fleet.admin.get("/api/v1/alerts", params={"resolved": resolved}).json()
    return [a for a in found if a["subject"] == subject]


def test_a_forgery_is_an_alert_that_anybody_can_check(fleet: Running, forged: FleetDevice) -> None:
    watch = Watch(fleet.server, lambda: True)
    watch.round(fleet.server.now_ms())
    [alert] = alerts_of(fleet, forged.id)
    assert (alert["rule"], alert["phase"], alert["level"]) == ("bad-signature", "firing", "critical")
    shown = fleet.admin.get(f"/api/v1/alerts/{alert['id']}").json()
    [message] = shown["proof"]
    raw = bytes.fromhex(message["envelope"])
    with pytest.raises(KeyUnknown):
        unseal(Telemetry, raw, message["topic"], forged.key.public)
    assert unseal(Telemetry, raw, message["topic"], forged.outbox.key.public).seq == 0
    assert [step["event"] for step in shown["history"]] == ["held"]
    assert forged.id in run(fleet, "list")
    assert "proof     refused: key-unknown" in run(fleet, "show", str(alert["id"]))


def test_an_alert_is_acknowledged_silenced_and_resolved_and_each_is_audited(
    fleet: Running, forged: FleetDevice
) -> None:
    watch, now = Watch(fleet.server, lambda: True), fleet.server.now_ms()
    watch.round(now)
    [alert] = alerts_of(fleet, forged.id)
    number = str(alert["id"])
    run(fleet, "silence", number, "--for", "2h", "--why", "we test", code=0)
    assert alerts_of(fleet, forged.id)[0]["phase"] == "silenced"
    assert run(fleet, "ack", number).strip() == f"alert {number}: acknowledged"
    answer = fleet.admin.post(f"/api/v1/alerts/{number}/ack", json={})
    assert answer.status_code == 409 and f"alert {number}: an alert that is acknowledged" in answer.text
    watch.round(now + 2 * 3_600_000)  # good since now
    watch.round(now + 4 * 3_600_000)
    assert [a["rule"] for a in alerts_of(fleet, forged.id)] in ([], ["silence"])
    history = json.loads(run(fleet, "show", number, "--json"))["history"]
    assert [step["event"] for step in history] == ["held", "silenced", "acknowledged", "calmed"]
    actions = [(row["action"], row["detail"].get("alert")) for row in fleet.admin.get("/api/v1/audit").json()]
    assert ("alert silenced", alert["id"]) in actions and ("alert acknowledged", alert["id"]) in actions


def test_who_may_only_read_may_not_acknowledge(fleet: Running) -> None:
    with fleet.as_role("viewer") as viewer:
        assert viewer.post("/api/v1/alerts/1/ack", json={}).status_code == 403
        assert viewer.get("/api/v1/alerts").status_code == 200
    assert fleet.admin.get("/api/v1/alerts/999999").status_code == 404
    assert fleet.admin.post(f"/api/v1/alerts/{1 << 70}/ack", json={}).status_code == 422


def test_a_rule_is_changed_and_set_back(fleet: Running) -> None:
    assert "raises at 0.5" in run(fleet, "rule", "drift", "--raise-at", "0.5", role="admin")
    assert fleet.admin.post("/api/v1/alert-rules/drift", json={"clear_at": 0.6}).status_code == 400
    assert fleet.admin.post("/api/v1/alert-rules/none", json={}).status_code == 404
    run(fleet, "rule", "drift", role="admin")
    rules = {rule["name"]: rule for rule in fleet.admin.get("/api/v1/alert-rules").json()}
    assert rules["drift"]["raise_at"] == 0.2
    assert "drift" in run(fleet, "rules")


def test_a_server_that_did_not_hear_its_broker_blames_nobody_for_silence(fleet: Running) -> None:
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.enrol("quiet")
    now, hears = fleet.server.now_ms() + 3_600_000, [False]
    watch = Watch(fleet.server, lambda: hears[0])
    watch.round(now)
    hears[0] = True
    watch.round(now + 1)
    assert alerts_of(fleet, "quiet") == []
    watch.round(now + 16 * 60_000)  # it has listened for long enough now
    [alert] = alerts_of(fleet, "quiet")
    assert alert["rule"] == "silence"


def test_a_device_that_speaks_again_is_well_also_to_a_server_that_was_just_started(fleet: Running) -> None:
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.enrol("back", "gone")
    now = fleet.server.now_ms() + 3_600_000
    before = Watch(fleet.server, lambda: True)
    before.round(now - 16 * 60_000)
    before.round(now)
    after = Watch(fleet.server, lambda: True)  # it has heard nothing for fifteen minutes: its own fault
    with fleet.server.store.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "back").values(last_seen_ms=now))
    after.round(now + 1)
    after.round(now + 61_000)
    phases = [alerts_of(fleet, device, resolved=True)[0]["phase"] for device in ("back", "gone")]
    assert phases == ["resolved", "firing"]


def test_a_duration_is_written_with_its_unit() -> None:
    assert [seconds_of(text) for text in ("90s", "30min", "1.5h", "2d")] == [90, 1800, 5400, 172_800]
    for text in ("5", "h", "0s", "-1h", "1w"):
        with pytest.raises(RequestInvalid, match="not a duration"):
            seconds_of(text)
