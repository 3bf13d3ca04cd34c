"""Verified telemetry as JSON: what was stored, all of it, in order, as its schema says, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from fleet_device import connect, enrol, event, eventually, mqtt_client, window
from fleet_server import Running

from edge_contracts.describe import json_schema
from edge_contracts.envelope import chain_value
from edge_contracts.keys import PrivateKey
from edge_contracts.topics import Channel
from edge_contracts.verified import RecordKind, verified_filter, verified_topic
from edge_fleet.republish import POSITION_KEY, Republisher, position
from edge_fleet.schema import meta
from edge_fleet.store import upsert
from edge_fleet.telemetry import last_id


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        {"$defs": json_schema()["$defs"], "$ref": "#/$defs/VerifiedRecord"}
    )


def test_a_subscriber_without_cose_gets_what_the_device_signed_and_no_forgery(fleet: Running) -> None:
    made = fleet.admin.post("/api/v1/tokens", json={"role": "subscriber"}).json()
    heard: list[tuple[str, dict[str, Any]]] = []
    client = mqtt_client(made["user"], made["password"])
    client.on_message = lambda _c, _d, m: heard.append((m.topic, json.loads(m.payload)))
    assert connect(client, made["port"], [verified_filter("f")], qos=0) == [True]
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    device.send(Channel.TELEMETRY, device.outbox.add(window(inferences=7), event("started")))
    device.wait_ack(0)
    device.outbox.key = PrivateKey.generate()
    device.send(Channel.TELEMETRY, device.outbox.add(window(inferences=666)))
    device.outbox.key, device.outbox.next_seq = device.key, 1
    device.outbox.prev = chain_value(device.outbox.sealed[0])
    device.send(Channel.TELEMETRY, device.outbox.add(window(inferences=8)))
    eventually(lambda: len(heard) >= 3, "three records")
    client.disconnect()
    client.loop_stop()
    device.close()
    assert [(t.rsplit("/", 1)[1], m["seq"], m["index"]) for t, m in heard] == [
        ("window", 0, 0),
        ("event", 0, 1),
        ("window", 1, 0),
    ]
    assert [m["record"].get("inferences") for _, m in heard] == [7, None, 8]
    for where, message in heard:
        assert where == verified_topic("f", device.id, message["record"]["kind"])
        validator().validate(message)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate({**heard[0][1], "seq": -1})


def test_without_an_account_to_hear_it_nothing_is_told_and_then_all_from_there_on(fleet: Running) -> None:
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    sent, may_hear = list[int](), [False]

    def publish(_topic: str, payload: bytes) -> bool:
        sent.append(json.loads(payload)["seq"])
        return True

    def send() -> None:
        device.send(Channel.TELEMETRY, device.outbox.add())
        device.wait_ack(device.outbox.next_seq - 1)

    telling = Republisher(fleet.server.store, "f", publish, may_hear=lambda: may_hear[0])
    telling.begin()
    send()
    assert not telling.step() and sent == []
    may_hear[0] = True
    send()
    assert telling.step() and sent == [1]
    may_hear[0] = False
    send()
    telling.step()
    may_hear[0] = True
    send()
    telling.step()
    device.close()
    assert sent == [1, 3]


def test_what_is_stored_just_as_the_first_account_is_made_is_told(fleet: Running) -> None:
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    sent = list[bytes]()

    def account_is_made() -> bool:  # and its owner hears at once: what comes now must not be passed over
        if device.outbox.next_seq == 0:
            device.send(Channel.TELEMETRY, device.outbox.add())
            device.wait_ack(0)
            return False
        return True

    def publish(_topic: str, payload: bytes) -> bool:
        sent.append(payload)
        return True

    telling = Republisher(fleet.server.store, "f", publish, may_hear=account_is_made)
    telling.begin()
    telling.step()
    telling.step()
    device.close()
    assert [json.loads(message)["seq"] for message in sent] == [0]


def test_whether_anybody_may_subscribe_is_known_from_the_brokers_accounts(fleet: Running) -> None:
    accounts = fleet.server.accounts
    for token in fleet.admin.get("/api/v1/tokens").json():
        if token["role"] == "subscriber":
            fleet.admin.post(f"/api/v1/tokens/{token['id']}/revoke")
    assert not accounts.may_subscribe
    made = fleet.admin.post("/api/v1/tokens", json={"role": "subscriber"}).json()
    assert accounts.may_subscribe
    assert fleet.admin.post(f"/api/v1/tokens/{made['id']}/revoke").is_success
    assert not accounts.may_subscribe


def test_what_was_stored_while_nobody_could_be_told_is_told_later_once(fleet: Running) -> None:
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    store, sent, up = fleet.server.store, list[str](), [True]

    def publish(topic: str, payload: bytes) -> bool:
        if up[0]:
            sent.append(f"{topic} {json.loads(payload)['seq']}")
        return up[0]

    def send() -> None:
        device.send(Channel.TELEMETRY, device.outbox.add())
        device.wait_ack(device.outbox.next_seq - 1)

    first = Republisher(store, "f", publish)
    with store.write() as connection:
        upsert(connection, meta, {"key": POSITION_KEY, "value": str(last_id(connection))}, ("key",))
    first.step()
    send()
    up[0] = False
    assert not first.step() and sent == []
    send()
    up[0] = True
    first.step()
    where = verified_topic("f", device.id, RecordKind.WINDOW)
    assert sent == [f"{where} 0", f"{where} 1"]
    first.keep()
    device.close()
    again = Republisher(store, "f", publish)
    again.step()
    assert len(sent) == 2, "a restart goes on where it was"
    with store.read() as connection:
        assert position(connection) is not None
