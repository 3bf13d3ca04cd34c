"""A whole server, real broker and real devices: from enrolment to the acknowledged record."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_device import FleetDevice, connect, enrol, eventually, mqtt_client, window
from fleet_server import Running
from sqlalchemy import insert, select

from edge_contracts.envelope import chain_value, seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Gap, Phase, Progress, Telemetry
from edge_contracts.topics import Channel, parse, topic
from edge_fleet import orders, schema
from edge_fleet.assignment import State


@pytest.fixture
def device(fleet: Running) -> Iterator[FleetDevice]:
    """A connected device of its own."""
    found = enrol(fleet.http, fleet.token())
    found.connect()
    yield found
    found.close()


def refusals(fleet: Running, reason: str, device: str) -> int:
    rows = fleet.admin.get("/api/v1/refusals").json()
    return sum(row["count"] for row in rows if (row["reason"], row["device"]) == (reason, device))


def envelopes(fleet: Running, device: str) -> list[dict[str, Any]]:
    answer = fleet.admin.get("/api/v1/telemetry", params={"device": device, "follow": False})
    return [json.loads(line) for line in answer.text.splitlines()]


def test_telemetry_becomes_rows_and_an_acknowledgement(fleet: Running, device: FleetDevice) -> None:
    device.hello()
    for _ in range(5):
        device.send(Channel.TELEMETRY, device.outbox.add(window(), window()))
    ack = device.wait_ack(4)
    assert (ack.device, ack.chain) == (device.id, chain_value(device.outbox.sealed[4]))
    found = envelopes(fleet, device.id)
    assert [row["seq"] for row in found] == [0, 1, 2, 3, 4]
    assert {row["epoch"] for row in found} == {device.outbox.epoch}
    assert [len(row["records"]) for row in found] == [2] * 5


def test_a_hello_is_answered_with_word_that_nothing_is_assigned(fleet: Running, device: FleetDevice) -> None:
    device.hello()
    assignment = device.assignments.get(timeout=10)
    assert (assignment.device, assignment.number, assignment.bundle) == (device.id, 0, None)


def publish_row(fleet: Running, device: FleetDevice, **fields: Any) -> int:
    """A release with one bundle, as rows, and an assignment of it."""
    digest, archive = ("sha256:" + secrets.token_hex(32) for _ in range(2))
    counter = secrets.randbelow(1 << 40)
    with fleet.server.store.write() as connection:
        connection.execute(
            insert(schema.releases).values(counter=counter, name="m", version=str(counter), created_ms=1)
        )
        connection.execute(
            insert(schema.bundles).values(
                digest=digest,
                counter=counter,
                profile="x86-cpu",
                archive=archive,
                archive_bytes=99,
                manifest="{}",
                key_id="k",
            )
        )
        return orders.issue(connection, device.id, digest, 1, **fields)


def phase(fleet: Running, device: FleetDevice) -> str:
    with fleet.server.store.read() as connection:
        row = orders.newest(connection, device.id)
    return str(row.phase) if row else ""


def test_a_new_assignment_is_sent_and_its_progress_noted(fleet: Running, device: FleetDevice) -> None:
    number = publish_row(fleet, device, permit_downgrade=True)
    fleet.server.dispatch.soon([device.id])
    assignment = device.assignments.get(timeout=10)
    assert (assignment.number, assignment.name, assignment.archive_bytes) == (number, "m", 99)
    assert assignment.url_path == f"/api/v1/archives/{assignment.archive}"
    assert assignment.permit_downgrade
    eventually(lambda: phase(fleet, device) == State.OFFERED, "the note that it was sent")
    told = Progress(assignment=number, phase=Phase.TRIAL)
    device.send(Channel.STATUS, device.state("status", progress=told))
    eventually(lambda: phase(fleet, device) == State.TRIAL, "the phase that the device told")


def test_an_assignment_for_a_device_that_was_away_is_sent_at_its_hello(fleet: Running) -> None:
    device = enrol(fleet.http, fleet.token())
    number = publish_row(fleet, device)
    fleet.server.dispatch.soon([device.id])
    eventually(lambda: phase(fleet, device) == State.OFFERED, "sending into the void")
    device.connect()
    device.hello()
    assert device.assignments.get(timeout=10).number == number
    device.close()


def test_a_forged_envelope_is_counted_and_not_stored(fleet: Running, device: FleetDevice) -> None:
    device.hello()
    good = device.outbox.add()
    forged = bytearray(good)
    forged[-1] ^= 1
    device.send(Channel.TELEMETRY, bytes(forged))
    eventually(lambda: refusals(fleet, "signature-invalid", device.id) == 1, "the count")
    device.send(Channel.TELEMETRY, good)
    device.wait_ack(0)
    assert len(envelopes(fleet, device.id)) == 1


def test_an_envelope_of_another_key_is_refused(fleet: Running, device: FleetDevice) -> None:
    device.hello()
    message = Telemetry(epoch=device.outbox.epoch, seq=0, prev=bytes(16), recs=(window(),))
    device.send(Channel.TELEMETRY, seal(message, device.topic(Channel.TELEMETRY), PrivateKey.generate()))
    eventually(lambda: refusals(fleet, "key-unknown", device.id) == 1, "the count")
    assert envelopes(fleet, device.id) == []


def test_an_envelope_signed_for_another_topic_is_refused(fleet: Running, device: FleetDevice) -> None:
    device.hello()
    message = Telemetry(epoch=device.outbox.epoch, seq=0, prev=bytes(16), recs=(window(),))
    device.send(Channel.TELEMETRY, seal(message, topic("f", device.id, Channel.STATUS), device.key))
    eventually(lambda: refusals(fleet, "signature-invalid", device.id) == 1, "the count")


def test_a_snapshot_of_another_device_is_refused(fleet: Running, device: FleetDevice) -> None:
    other = enrol(fleet.http, fleet.token())
    device.send(Channel.HELLO, device.state(device=other.id))
    eventually(lambda: refusals(fleet, "topic-mismatch", device.id) == 1, "the count")


def test_a_replayed_hello_is_counted_and_not_answered(fleet: Running, device: FleetDevice) -> None:
    hello = device.state()
    device.send(Channel.HELLO, hello)
    device.assignments.get(timeout=10)
    device.send(Channel.HELLO, hello)
    eventually(lambda: refusals(fleet, "replayed", device.id) == 1, "the count")
    assert device.assignments.empty()


@pytest.mark.parametrize("payload", [b"", b"\xff", b"{}", b"\xd2\x80", secrets.token_bytes(5000)])
def test_garbage_is_counted_and_ingest_goes_on(fleet: Running, device: FleetDevice, payload: bytes) -> None:
    device.send(Channel.TELEMETRY, payload)
    eventually(lambda: refusals(fleet, "format-invalid", device.id) == 1, "the count")
    device.hello()
    assert device.assignments.get(timeout=10).device == device.id


def test_what_the_database_cannot_hold_is_refused_alone(fleet: Running, device: FleetDevice) -> None:
    """A number of 64 bits parses, but fits no column, which has a sign: its batch must not suffer for it."""
    other = enrol(fleet.http, fleet.token())
    other.connect()
    for one in (device, other):
        one.hello()
        one.assignments.get(timeout=10)
    poison = device.outbox.add(window(inferences=1 << 63))
    good = other.outbox.add()
    fleet.server.ingest.process([_arrival(device, poison), _arrival(other, good)])
    assert len(envelopes(fleet, other.id)) == 1
    assert envelopes(fleet, device.id) == []
    eventually(lambda: refusals(fleet, "not-storable", device.id) == 1, "the count")
    other.close()


def _arrival(device: FleetDevice, payload: bytes) -> Any:
    from edge_fleet.verification import Arrival

    where = device.topic(Channel.TELEMETRY)
    return Arrival(where, parse(where), payload, 1)


def test_a_revoked_device_is_cut_and_its_messages_refused(fleet: Running) -> None:
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    device.assignments.get(timeout=10)
    late = device.outbox.add()
    assert fleet.admin.post(f"/api/v1/devices/{device.id}/revoke").json()["revoked"]
    assert device._client is not None
    eventually(lambda: not device._client.is_connected(), "the end of its connection")  # type: ignore[union-attr]
    fleet.server.ingest.received([(device.topic(Channel.TELEMETRY), late)])
    eventually(lambda: refusals(fleet, "device-revoked", device.id) == 1, "the count")
    with pytest.raises(ConnectionRefusedError):
        connect(mqtt_client(device.id, device.enrolled.mqtt_password), device.enrolled.mqtt_port)
    device.close()
    assert fleet.admin.post(f"/api/v1/devices/{device.id}/revoke").status_code == 200


def test_names_that_strangers_invent_do_not_become_rows(fleet: Running) -> None:
    for n in range(50):
        fleet.server.ingest.received([(f"edge/v1/f/ghost-{n}/telemetry", b"x")])
        fleet.server.ingest.received([(f"edge/v1/other-{n}/d/telemetry", b"x")])
    eventually(lambda: refusals(fleet, "device-unknown", "") == 50, "the count")
    eventually(lambda: refusals(fleet, "topic-invalid", "") == 50, "the count")
    with fleet.server.store.read() as connection:
        rows = connection.execute(select(schema.refusals.c.device).distinct()).scalars().all()
    assert not any(name.startswith("ghost") for name in rows)


def test_losses_are_accounted_for(fleet: Running, device: FleetDevice) -> None:
    device.hello()
    for _ in range(4):
        device.outbox.add()
    device.outbox.add(Gap(first_seq=1, last_seq=3, records=3, reason="outbox full"))
    device.send(Channel.TELEMETRY, device.outbox.sealed[0])
    device.wait_ack(0)
    device.send(Channel.TELEMETRY, device.outbox.sealed[4])
    assert device.wait_ack(4).chain == chain_value(device.outbox.sealed[4])
    shown = fleet.admin.get(f"/api/v1/devices/{device.id}").json()
    assert [(gap["first_seq"], gap["last_seq"]) for gap in shown["gaps"]] == [(1, 3)]
    assert shown["streams"][0]["stored"] == 2


def test_nothing_is_lost_when_the_broker_is_killed(fleet: Running, device: FleetDevice) -> None:
    """The device sends again what was not acknowledged, as an agent does."""
    device.hello()
    total, killed = 60, False
    deadline = time.monotonic() + 30
    high = -1
    while high < total - 1:
        assert time.monotonic() < deadline, f"acknowledged to {high}"
        if device.outbox.next_seq < total:
            device.outbox.add()
        for seq in range(high + 1, device.outbox.next_seq):
            device._client.publish(device.topic(Channel.TELEMETRY), device.outbox.sealed[seq], qos=0)  # type: ignore[union-attr]
        if device.outbox.next_seq == 30 and not killed:
            killed = True
            fleet.admin.post("/api/v1/broker/outage", json={"seconds": 0.5})
        time.sleep(0.05)
        while not device.acks.empty():
            high = max(high, device.acks.get().high)
        if device.acks.empty() and not device._client.is_connected():  # type: ignore[union-attr]
            time.sleep(0.2)
    assert sorted(row["seq"] for row in envelopes(fleet, device.id)) == list(range(total))


def test_a_subscriber_verifies_what_it_hears_with_the_published_keys(
    fleet: Running, device: FleetDevice
) -> None:
    from edge_contracts.envelope import unseal
    from edge_contracts.keys import PublicKey

    account = fleet.admin.post("/api/v1/tokens", json={"role": "subscriber"}).json()
    heard: list[Any] = []
    client = mqtt_client(account["user"], account["password"])
    client.on_message = lambda _c, _d, message: heard.append(message)
    assert connect(client, account["port"], [account["topic"]]) == [True]
    device.hello()
    device.send(Channel.TELEMETRY, device.outbox.add())
    eventually(lambda: heard, "telemetry")
    keys = {row["id"]: row["public_key"] for row in fleet.admin.get("/api/v1/devices").json()}
    key = PublicKey.from_base64(keys[heard[0].topic.split("/")[3]])
    assert unseal(Telemetry, heard[0].payload, heard[0].topic, key).seq == 0
    client.disconnect()
    client.loop_stop()
    assert fleet.admin.post(f"/api/v1/tokens/{account['id']}/revoke").json()["revoked"]
    eventually(lambda: not _enters(account), "the end of the subscriber")


def _enters(account: dict[str, Any]) -> bool:
    client = mqtt_client(account["user"], account["password"])
    try:
        connect(client, account["port"])
    except ConnectionRefusedError:
        return False
    client.disconnect()
    client.loop_stop()
    return True
