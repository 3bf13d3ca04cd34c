"""Attempts to break the brokers' rights, on each broker that is managed."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from fleet_device import connect, eventually, mqtt_client, require_broker
from running_broker import D1, D2, SUBSCRIBER, Running

from edge_contracts.topics import FROM_DEVICE
from edge_fleet.accounts import connect_packet
from edge_fleet.brokers.base import (
    MAX_PACKET_BYTES,
    device_account,
    probe_topic,
    server_account,
    subscriber_account,
)
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.brokers.mosquitto import MosquittoBroker
from edge_fleet.config import Address
from edge_fleet.link import Link


def test_a_device_is_heard_on_its_own_topics(running: Running) -> None:
    running.heard.clear()
    with running.client(D1) as d1:
        for channel in ("telemetry", "status", "hello"):
            d1.client.publish(f"edge/v1/f/d1/{channel}", b"x", qos=1).wait_for_publish(5)
        eventually(lambda: len(running.heard) == 3, "three messages of d1")
    heard = {topic.removeprefix("edge/v1/f/d1/") for topic, _ in running.heard}
    assert heard == {"telemetry", "status", "hello"}


def test_a_device_is_spoken_to_on_its_own_topics(running: Running) -> None:
    wanted = ["edge/v1/f/d1/ack", "edge/v1/f/d1/assignment"]
    with running.client(D1, wanted) as d1:
        assert d1.granted == [True, True]
        for topic in wanted:
            assert running.link.publish(topic, b"x")
        eventually(lambda: d1.got == wanted, "an ack and an assignment")


FOREIGN_TOPICS = [
    "edge/v1/f/d2/telemetry",
    "edge/v1/f/d2/status",
    "edge/v1/f/d2/hello",
    "edge/v1/f/d2/ack",
    "edge/v1/f/d2/assignment",
    "edge/v1/f/d1/ack",
    "edge/v1/f/d1/assignment",
    "edge/v1/f/d1",
    "edge/v1/f/d1/other",
    "edge/v1/f/d1/telemetry/more",
    "edge/v1/g/d1/telemetry",
    probe_topic("f"),
    "$SYS/broker",
    "$JS/API/STREAM/DELETE/$MQTT_msgs",
    "$MQTT/msgs/edge/v1/f/d2/telemetry",
    "anything",
]


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_is_not_heard_on_other_topics(running: Running, qos: int, retain: bool) -> None:
    running.heard.clear()
    with running.client(D2, ["edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"]) as d2:
        for topic in FOREIGN_TOPICS:
            with running.client(D1) as d1:  # a broker may cut who oversteps
                d1.client.publish(topic, b"x", qos=qos, retain=retain).wait_for_publish(1)
        running.probe()
        assert running.heard == []
        assert d2.got == []
    with running.client(D2, ["edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"]) as late:
        running.probe()
        assert late.got == []


FOREIGN_FILTERS = [
    "#",
    "+/+/+/+/+",
    "edge/#",
    "edge/v1/f/#",
    "edge/v1/f/+/ack",
    "edge/v1/f/+/assignment",
    "edge/v1/f/d1/#",
    "edge/v1/f/d2/ack",
    "edge/v1/f/d2/assignment",
    "edge/v1/f/d2/telemetry",
    "edge/v1/f/d1/telemetry",
    probe_topic("f"),
    "$SYS/#",
    "$JS/#",
    "$MQTT/msgs/#",
    "$share/g/edge/v1/f/d2/ack",
]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_hears_nothing_of_others(running: Running, qos: int) -> None:
    """Whether a broker refuses the subscription or filters what it delivers is its own affair."""
    with running.client(D1, FOREIGN_FILTERS, qos) as d1, running.client(D2) as d2:
        for channel in ("telemetry", "status", "hello"):
            d2.client.publish(f"edge/v1/f/d2/{channel}", b"x", qos=1).wait_for_publish(5)
        for topic in ("edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"):
            running.link.publish(topic, b"x")
        running.probe()
        running.link.publish("edge/v1/f/d1/ack", b"own")
        running.probe()
        assert set(d1.got) <= {"edge/v1/f/d1/ack"}


@pytest.mark.parametrize("topic", ["edge/v1/f/d2/hello", "edge/v1/f/d2/ack", "edge/v1/f/d1/assignment"])
def test_a_will_to_a_foreign_topic_is_not_delivered(running: Running, topic: str) -> None:
    running.heard.clear()
    with running.client(D2, ["edge/v1/f/d2/ack"]) as d2:
        _die_with_will(running, topic)
        # wills fire in the order of the deaths: this one is allowed, and shows that the other was due
        _die_with_will(running, "edge/v1/f/d1/status")
        eventually(lambda: running.heard, "the will that is allowed")
        running.probe()
        assert d2.got == []
        assert [heard for heard, _ in running.heard] == ["edge/v1/f/d1/status"]


def _die_with_will(running: Running, topic: str) -> None:
    client = mqtt_client(D1.user, D1.password)
    client.will_set(topic, b"will", qos=1, retain=topic.endswith("ack"))
    connect(client, running.port)
    client.loop_stop()
    client.socket().close()  # without DISCONNECT: the will is due


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (None, None),
        ("d1", "two"),
        ("d1", ""),
        ("d1", None),
        ("", ""),
        ("D1", "one"),
        ("fleet.server", "one"),
        ("nobody", "one"),
        ("root", ""),
    ],
)
def test_who_has_no_account_is_not_let_in(running: Running, user: str | None, password: str | None) -> None:
    client = mqtt_client(user, password)
    with pytest.raises(ConnectionRefusedError):
        connect(client, running.port)


def test_a_stranger_with_the_servers_client_id_does_not_cut_the_server(running: Running) -> None:
    client = mqtt_client(None, None, client_id=running.link._client._client_id.decode())
    with pytest.raises(ConnectionRefusedError):
        connect(client, running.port)
    assert running.link.is_up
    running.probe()


def test_a_subscriber_hears_all_telemetry_and_nothing_else(running: Running) -> None:
    wanted = ["edge/v1/f/+/telemetry", "edge/v1/f/+/hello", "edge/v1/f/+/ack", "edge/v1/f/#", "#"]
    with running.client(SUBSCRIBER, wanted) as subscriber, running.client(D1) as d1, running.client(D2) as d2:
        for client, name in ((d1, "d1"), (d2, "d2")):
            for channel in ("telemetry", "hello", "status"):
                client.client.publish(f"edge/v1/f/{name}/{channel}", b"x", qos=1).wait_for_publish(5)
            running.link.publish(f"edge/v1/f/{name}/ack", b"x")
        eventually(lambda: len(set(subscriber.got)) == 2, "telemetry of both devices")
        running.probe()
    assert set(subscriber.got) == {"edge/v1/f/d1/telemetry", "edge/v1/f/d2/telemetry"}


def test_verified_telemetry_comes_from_the_server_and_goes_to_subscribers(running: Running) -> None:
    wanted = ["edge/v1/f/+/verified/+"]
    with running.client(SUBSCRIBER, wanted) as subscriber, running.client(D1, wanted) as d1:
        running.link.publish("edge/v1/f/d1/verified/window", b"x")
        eventually(lambda: subscriber.got, "what the server says")
        running.probe()
        assert set(subscriber.got) == {"edge/v1/f/d1/verified/window"} and d1.got == []
        subscriber.got.clear()
        for kind in ("window", "event", "gap", "other"):
            with running.client(D1) as forger, running.client(SUBSCRIBER) as other:
                for client in (forger, other):
                    client.client.publish(f"edge/v1/f/d1/verified/{kind}", b"x", qos=1).wait_for_publish(1)
        running.link.publish("edge/v1/f/d1/verified/event", b"x")  # comes after all of those
        eventually(lambda: "edge/v1/f/d1/verified/event" in subscriber.got, "the server again")
        running.probe()
        assert subscriber.got == ["edge/v1/f/d1/verified/event"], "only what the server said"


def test_a_subscriber_says_nothing(running: Running) -> None:
    running.heard.clear()
    for topic in ["edge/v1/f/d1/telemetry", "edge/v1/f/subscriber.s1/telemetry", "edge/v1/f/d1/ack", "x"]:
        with running.client(SUBSCRIBER) as subscriber:
            subscriber.client.publish(topic, b"x", qos=1).wait_for_publish(1)
    running.probe()
    assert running.heard == []


def test_a_packet_over_the_limit_is_not_taken_and_others_go_on(running: Running) -> None:
    running.heard.clear()
    with running.client(D1) as d1, running.client(D2) as d2:
        d1.client.publish("edge/v1/f/d1/telemetry", bytes(MAX_PACKET_BYTES + 1), qos=0)
        d2.client.publish("edge/v1/f/d2/telemetry", bytes(MAX_PACKET_BYTES - 4096), qos=1)
        eventually(lambda: running.heard, "the packet that fits")
        running.probe()
    assert [topic for topic, _ in running.heard] == ["edge/v1/f/d2/telemetry"]


def test_a_device_that_takes_every_qos_1_subscription_locks_nobody_out(running: Running) -> None:
    """nats-server has 1,000 for all clients together; agents and the server subscribe with QoS 0."""
    greedy = [_session_with_qos_1(running.port) for _ in range(520)]
    try:
        with running.client(D2, ["edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"], qos=0) as d2:
            assert d2.granted == [True, True]
            running.link.publish("edge/v1/f/d2/ack", b"x")
            eventually(lambda: d2.got, "an ack")
            running.heard.clear()
            d2.client.publish("edge/v1/f/d2/telemetry", b"x", qos=1).wait_for_publish(5)
            eventually(lambda: running.heard, "telemetry")
    finally:
        for session in greedy:
            session.close()


def _session_with_qos_1(port: int) -> socket.socket:
    session = socket.create_connection(("127.0.0.1", port), 5)
    session.sendall(connect_packet(D1))
    assert session.recv(4) == b"\x20\x02\x00\x00"
    filters = b"".join(struct.pack(">H", len(f)) + f.encode() + b"\x01" for f in D1.subscribe)
    session.sendall(bytes([0x82, len(filters) + 2]) + b"\x00\x01" + filters)  # SUBSCRIBE
    assert session.recv(6)[0] == 0x90  # SUBACK
    return session


def test_a_pattern_for_devices_gives_nothing_to_an_account_that_is_none(tmp_path: Path) -> None:
    """What is right for every device would let a subscriber, who may say nothing, speak by its name."""
    require_broker("mosquitto")
    broker = MosquittoBroker(tmp_path, Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    reader = subscriber_account("f", "0123", "three")
    broker.start([server_account("f", "zero"), device_account("f", "d1", "one"), reader])
    heard: list[str] = []
    link = Link(broker.door, "f", "fleet.server", "zero", lambda found: heard.extend(t for t, _ in found))
    try:
        link.start()
        client = mqtt_client(reader.user, reader.password)
        connect(client, broker.door.address.port)
        for channel in FROM_DEVICE:
            where = f"edge/v1/f/{reader.user}/{channel}"
            client.publish(where, b"x", qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
        device = mqtt_client("d1", "one")
        connect(device, broker.door.address.port)
        device.publish("edge/v1/f/d1/hello", b"x", qos=1).wait_for_publish(10)
        device.disconnect()
        device.loop_stop()
        eventually(lambda: heard, "the device")
        assert heard == ["edge/v1/f/d1/hello"]
    finally:
        link.stop()
        broker.stop()
