"""The database or the broker really away for a while: nothing is lost, the server says so, and recovers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleet_device import FleetDevice, enrol, eventually
from fleet_server import Running, fleet_server
from postgres_server import postgres_server
from sqlalchemy import event, select

from edge_contracts.topics import Channel
from edge_fleet import schema, store
from edge_fleet.client import Client
from edge_fleet.errors import ServerUnreachable


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server on SQLite that waits for locks hardly at all."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 50)
    with fleet_server(tmp_path / "home", database="") as found:
        yield found


@contextmanager
def _device(fleet: Running) -> Iterator[FleetDevice]:
    """A device that has been acknowledged two envelopes."""
    found = enrol(fleet.http, fleet.token())
    found.connect()
    found.hello()
    _send(found, 2)
    found.wait_ack(1)
    yield found
    found.close()


def _send(device: FleetDevice, count: int) -> None:
    for _ in range(count):
        device.send(Channel.TELEMETRY, device.outbox.add())


def _state(fleet: Running) -> tuple[int, dict[str, Any]]:
    answer = fleet.http.get("/ready")
    return answer.status_code, answer.json()


def _is_down(fleet: Running, part: str) -> bool:
    status, state = _state(fleet)
    # alive all the while: a supervisor that starts it again would change nothing
    assert fleet.http.get("/health").status_code == 200
    return status == 503 and state[part] in ("down", "full") and state["status"] == "degraded"


def _is_ready(fleet: Running) -> bool:
    status, state = _state(fleet)
    return status == 200 and bool(state["status"] == "ok")


def _stored(fleet: Running, device: FleetDevice) -> list[int]:
    own = schema.envelopes.c
    with fleet.server.store.read() as connection:
        query = select(own.seq).where(own.device == device.id).order_by(own.seq)
        return list(connection.execute(query).scalars())


def _nothing_acknowledged_until_it_is_back(fleet: Running, device: FleetDevice) -> None:
    eventually(lambda: _is_down(fleet, "database"), "word that the database is away")
    assert all(ack.high <= 1 for ack in list(device.acks.queue))


def _everything_after_it_is_back(fleet: Running, device: FleetDevice) -> None:
    eventually(lambda: _is_ready(fleet), "word that it is back")
    eventually(lambda: _stored(fleet, device) == [0, 1, 2, 3, 4], "every envelope")
    eventually(lambda: any(ack.high == 4 for ack in list(device.acks.queue)), "the ack")
    _send(device, 1)
    device.wait_ack(5)


def test_a_postgresql_that_stops_and_starts_costs_nothing(tmp_path: Path) -> None:
    with postgres_server(fsync="on") as database:
        if database is None:
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        with fleet_server(tmp_path / "home", database=database.fresh()) as fleet, _device(fleet) as device:
            assert _is_ready(fleet)
            database.stop()
            _send(device, 3)
            _nothing_acknowledged_until_it_is_back(fleet, device)
            answer = fleet.admin.get("/api/v1/devices")
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unreachable")
            token = fleet.server.home.admin_token.read_text().strip()
            with (
                closing(Client(fleet.url, token)) as client,
                pytest.raises(ServerUnreachable, match="its log"),
            ):
                client.get("/api/v1/devices")  # whoever waits for a server waits for this
            database.start()
            _everything_after_it_is_back(fleet, device)


def test_a_database_that_another_program_holds_costs_nothing(local: Running) -> None:
    with _device(local) as device:
        other = sqlite3.connect(local.server.home.root / "fleet.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        _send(device, 3)
        _nothing_acknowledged_until_it_is_back(local, device)
        other.rollback()
        other.close()
        _everything_after_it_is_back(local, device)


def test_a_full_disk_costs_nothing(local: Running) -> None:
    """SQLite's own word for it: it may not take another page."""
    engine = local.server.store._engine
    full = True

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages if full else pages + 1_000_000}")

    with _device(local) as device:
        # rows of such a size do not fit into what is free in the last pages
        device.outbox.add(*[_large() for _ in range(40)])
        for _ in range(2):
            device.outbox.add()
        event.listen(engine, "checkout", limit)
        for seq in (2, 3, 4):
            device.send(Channel.TELEMETRY, device.outbox.sealed[seq])
        _nothing_acknowledged_until_it_is_back(local, device)
        assert _state(local)[1]["database"] == "full"
        for _ in range(100):  # the last page may have room for some rows yet
            answer = local.admin.post("/api/v1/tokens", json={"role": "viewer"})
            if answer.status_code != 201:
                break
        assert (answer.status_code, answer.json()["code"]) == (503, "disk-full")
        full = False
        _everything_after_it_is_back(local, device)
        event.remove(engine, "checkout", limit)


def _large() -> Any:
    from fleet_device import event as record

    return record(detail="x" * 500)


def test_a_broker_that_is_away_is_told_and_what_was_not_acknowledged_comes_again(local: Running) -> None:
    with _device(local) as device:
        device.outbox.add()
        local.admin.post("/api/v1/broker/outage", json={"seconds": 1.5})
        eventually(lambda: _is_down(local, "broker"), "word that the broker is away")
        eventually(lambda: _is_ready(local), "word that it is back")
        assert device._client is not None
        eventually(device._client.is_connected, "the device")
        device.send(Channel.TELEMETRY, device.outbox.sealed[2])
        eventually(lambda: _stored(local, device) == [0, 1, 2], "the envelope")


def test_a_broker_that_comes_back_while_postgresql_is_away_does_not_leave_the_server_deaf(
    tmp_path: Path,
) -> None:
    with postgres_server(fsync="on") as database:
        if database is None:
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        with fleet_server(tmp_path / "home", database=database.fresh()) as fleet, _device(fleet) as device:
            database.stop()
            eventually(lambda: _is_down(fleet, "database"), "word that the database is away")
            fleet.server.broker.outage(0.5)
            eventually(lambda: _is_down(fleet, "broker"), "word that the broker is away, too")
            eventually(lambda: _state(fleet)[1]["broker"] == "up", "the broker")
            database.start()
            eventually(lambda: _is_ready(fleet), "word that it is back")
            assert device._client is not None
            eventually(device._client.is_connected, "the device")
            _send(device, 3)
            _everything_after_it_is_back(fleet, device)
