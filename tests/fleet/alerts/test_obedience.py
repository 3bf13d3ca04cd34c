"""A device that obeys a director which is not ours: found on rows, and on a server and a broker at work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fleet_device import FleetDevice, enrol, eventually
from fleet_rows import FleetRows
from fleet_server import Running
from sqlalchemy import insert, update

from edge_contracts.envelope import unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import DeviceState, Knows
from edge_contracts.topics import Channel, topic
from edge_fleet import schema
from edge_fleet.alerts.findings import measure
from edge_fleet.alerts.machine import Finding
from edge_fleet.alerts.obedience import RULE, astray
from edge_fleet.alerts.reread import reread
from edge_fleet.alerts.rules import RULES
from edge_fleet.alerts.watch import Watch
from edge_fleet.store import Store

NOW = 10 * 86_400_000
OURS, FORMER, RETIRED, STRANGER = "a" * 32, "b" * 32, "c" * 32, "d" * 32


@pytest.fixture
def fleet_rows(store: Store) -> FleetRows:
    rows = FleetRows(store, lambda: NOW)
    rows.enrol("d1")
    with store.write() as connection:
        for number, (name, until_ms, retired_ms) in enumerate(
            ((RETIRED, 2, 3), (FORMER, 3, None), (OURS, None, None))
        ):
            connection.execute(
                insert(schema.directors).values(
                    key_id=name,
                    public_key=bytes([number]) * 32,
                    made_ms=number,
                    made_by="",
                    since_ms=number,
                    until_ms=until_ms,
                    retired_ms=retired_ms,
                )
            )
    return rows


def says(rows: FleetRows, director: str | None, **values: Any) -> list[Finding]:
    """What is found once a device obeys somebody by its own word."""
    with rows.store.write() as connection:
        told = {"director": director, "tells_director": True, **values}
        connection.execute(update(schema.devices).where(schema.devices.c.id == "d1").values(told))
    with rows.store.read() as connection:
        found = [one for one in measure(connection, NOW) if one.rule == RULE]
        assert astray(connection) == len(found)
    return found


@pytest.mark.parametrize("director", [OURS, FORMER, None])
def test_who_obeys_a_key_of_ours_or_has_not_said_is_fine(fleet_rows: FleetRows, director: str | None) -> None:
    assert says(fleet_rows, director) == []


@pytest.mark.parametrize(
    ("director", "why"), [(STRANGER, "not one of this server's"), (RETIRED, "is retired here")]
)
def test_who_obeys_another_is_found_with_whom_it_obeys(
    fleet_rows: FleetRows, director: str, why: str
) -> None:
    [found] = says(fleet_rows, director)
    assert (found.subject, found.value, found.evidence["obeys"]) == ("d1", 1, director)
    assert director in found.why and why in found.why


def test_one_that_is_put_out_or_only_guessed_at_is_none(fleet_rows: FleetRows) -> None:
    assert says(fleet_rows, STRANGER, tells_director=False) == []
    assert says(fleet_rows, STRANGER, revoked_ms=1) == []


def state_of(fleet: Running, device: FleetDevice, **said: Any) -> Callable[[], bool]:
    """Send a status; what comes true when it is stored."""
    device.send(Channel.STATUS, device.state("status", knows=(Knows.DIRECTOR,), **said))
    n = device.n

    def stored() -> bool:
        with fleet.server.store.read() as connection:
            query = schema.devices.select().where(schema.devices.c.id == device.id)
            return bool(connection.execute(query).one().state_n == n)

    return stored


def test_a_device_that_obeys_a_stranger_is_an_alert_with_its_own_word_until_it_is_back(
    fleet: Running,
) -> None:
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    stranger = PrivateKey.generate().public.key_id
    eventually(state_of(fleet, device, obeys=stranger), "its word is stored")
    watch, now_ms = Watch(fleet.server, lambda: True), fleet.server.now_ms()

    def alerts() -> list[dict[str, Any]]:
        everything = fleet.admin.get("/api/v1/alerts", params={"resolved": True}).json()
        return [one for one in everything if (one["rule"], one["subject"]) == (RULE, device.id)]

    def figure() -> str:
        lines = fleet.admin.get("/metrics").text.splitlines()
        [line] = [line for line in lines if line.startswith("edgefleet_devices_foreign_director ")]
        return line.split()[1]

    watch.round(now_ms)
    assert [one["phase"] for one in alerts()] == ["pending"], "it may be on its way back"
    watch.round(now_ms + 1000 * int(RULES[RULE].pending_s))
    [alert] = alerts()
    assert (alert["phase"], alert["level"]) == ("firing", "critical")
    assert figure() == "1"
    shown = fleet.admin.get(f"/api/v1/alerts/{alert['id']}").json()
    [message] = shown["proof"]
    raw = bytes.fromhex(message["envelope"])
    assert message["topic"] == topic("f", device.id, Channel.STATUS)
    assert unseal(DeviceState, raw, message["topic"], device.key.public).obeys == stranger
    with fleet.server.store.read() as connection:
        [judged] = reread(connection, "f", device.id, shown["proof"])
    assert judged.signed and stranger in judged.says

    eventually(
        state_of(fleet, device, obeys=fleet.server.directors.current.public.key_id), "it obeys us again"
    )
    watch.round(now_ms + 70_000)
    assert [one["phase"] for one in alerts()] == ["firing"], "good for a while first"
    watch.round(now_ms + 70_000 + 1000 * int(RULES[RULE].calm_s))
    assert [one for one in alerts() if one["phase"] != "resolved"] == []
    assert figure() == "0"
    device.close()
