"""The link to a real broker: comes up, comes back, is refused, and never hands on what is not ours."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from agent_fleet import FLEET, PASSWORD, Broker, free_port, make_certificate, until
from enrolled_device import device_config
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_agent.device.config import DeviceConfig
from edge_agent.errors import HomeInvalid
from edge_agent.telemetry.mqtt import Happening, Link, LinkDown, LinkUp, Received
from edge_contracts.topics import Channel, topic


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker")
    made.start()
    yield made
    made.kill()


def config(port: int, **changes: Any) -> DeviceConfig:
    fields = {
        "fleet": FLEET,
        "mqtt_port": port,
        "mqtt_user": "device",
        "mqtt_password": PASSWORD,
        "client_id": "edge-0123456789abcdef",
    }
    return device_config(**fields | changes)


@pytest.fixture
def linked() -> Iterator[Callable[..., tuple[Link, list[Happening]]]]:
    links: list[Link] = []

    def start(port: int, **changes: Any) -> tuple[Link, list[Happening]]:
        happened: list[Happening] = []
        link = Link(config(port, **changes), happened.append, Random(1))
        link.start()
        links.append(link)
        return link, happened

    yield start
    for link in links:
        link.stop()


@pytest.fixture
def server(broker: Broker) -> Iterator[Client]:
    client = Client(CallbackAPIVersion.VERSION2, "server-1", protocol=MQTTProtocolVersion.MQTTv311)
    client.username_pw_set("server", "server")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


Linked = Callable[..., tuple[Link, list[Happening]]]


def test_messages_go_both_ways_on_the_devices_own_topics(
    broker: Broker, server: Client, linked: Linked
) -> None:
    heard: list[tuple[str, bytes]] = []
    subscribed: list[bool] = []
    server.on_message = lambda _c, _d, message: heard.append((message.topic, message.payload))
    server.on_subscribe = lambda *_: subscribed.append(True)
    server.subscribe(f"edge/v1/{FLEET}/+/telemetry", 1)
    link, happened = linked(broker.port)
    until(lambda: LinkUp() in happened and subscribed, "both are there")
    assert link.publish(Channel.TELEMETRY, b"envelope")
    until(lambda: heard, "the server hears it")
    assert heard == [(topic(FLEET, "cam-1", Channel.TELEMETRY), b"envelope")]
    server.publish(topic(FLEET, "cam-2", Channel.ACK), b"for another")
    server.publish(topic(FLEET, "cam-1", Channel.ACK), b"ack")
    until(lambda: Received(Channel.ACK, b"ack") in happened, "the device hears it")
    assert Received(Channel.ACK, b"for another") not in happened


def test_what_a_broker_kept_from_before_counts_for_nothing(
    broker: Broker, server: Client, linked: Linked
) -> None:
    stale = server.publish(topic(FLEET, "cam-1", Channel.ASSIGNMENT), b"stale", qos=1, retain=True)
    until(stale.is_published, "the broker keeps it")
    _, happened = linked(broker.port)
    until(lambda: LinkUp() in happened, "up")
    server.publish(topic(FLEET, "cam-1", Channel.ASSIGNMENT), b"fresh", qos=1)
    until(lambda: Received(Channel.ASSIGNMENT, b"fresh") in happened, "the device hears what is said now")
    assert Received(Channel.ASSIGNMENT, b"stale") not in happened


def test_the_link_comes_back_when_the_broker_does(broker: Broker, linked: Linked) -> None:
    link, happened = linked(broker.port)
    until(lambda: link.is_up, "up")
    broker.kill()
    until(lambda: not link.is_up, "down")
    assert not link.publish(Channel.STATUS, b"nobody hears this")
    broker.start()
    until(lambda: happened.count(LinkUp()) == 2, "up again")
    assert any(isinstance(h, LinkDown) for h in happened)


def test_a_broker_that_is_not_there_is_said_with_its_address(linked: Linked) -> None:
    port = free_port()
    _, happened = linked(port)
    until(lambda: happened, "an attempt has failed")
    assert happened[0] == LinkDown(f"127.0.0.1:{port}: Connection refused")


def test_a_wrong_password_is_said_and_tried_again_only_after_a_pause(broker: Broker, linked: Linked) -> None:
    link, happened = linked(broker.port, mqtt_password="wrong")
    until(lambda: happened, "refused")
    first = happened[0]
    assert isinstance(first, LinkDown)
    assert "the broker refuses the device: Not authorized" in first.reason
    assert first.refused
    assert not link.is_up


# a failed handshake leaves a socket to the garbage collector inside paho; it is closed, with a warning
UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@UNCLOSED
def test_tls_to_a_broker_without_it_fails_and_never_falls_back(broker: Broker, linked: Linked) -> None:
    link, happened = linked(broker.port, mqtt_tls=True)
    until(lambda: happened, "an attempt has failed")
    assert isinstance(happened[0], LinkDown)
    assert not happened[0].refused
    assert not link.is_up


@UNCLOSED
def test_a_broker_that_does_not_take_the_certificate_is_told_from_a_network_that_fails(
    tmp_path: Path, linked: Linked
) -> None:
    ca = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=ca)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _, happened = linked(listening.getsockname()[1], mqtt_tls=True, mqtt_ca=ca)
        plain, _ = listening.accept()
        with context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as secured:
            with pytest.raises(ssl.SSLError):
                secured.do_handshake()
            until(lambda: happened, "the alert is heard")
    down = happened[0]
    assert isinstance(down, LinkDown)
    assert down.refused
    assert "refuses the device's certificate: " in down.reason


@UNCLOSED
def test_tls_is_believed_with_the_fleets_ca_alone(tmp_path: Path, linked: Linked) -> None:
    broker = Broker(tmp_path / "tls", tls=True)
    other = make_certificate(tmp_path)
    try:
        broker.start()
        known, _ = linked(broker.port, mqtt_tls=True, mqtt_ca=broker.ca)
        until(lambda: known.is_up, "up with the right CA")
        _, refused = linked(broker.port, mqtt_tls=True, mqtt_ca=other)
        until(lambda: refused, "refused with another CA")
        assert isinstance(refused[0], LinkDown)
        assert "certificate verify failed" in refused[0].reason
        assert not refused[0].refused, "it is the device that does not take the broker's"
        _, system = linked(broker.port, mqtt_tls=True)
        until(lambda: system, "refused with the system's")
        assert isinstance(system[0], LinkDown)
    finally:
        broker.kill()


def test_a_ca_that_is_no_certificate_is_refused_at_once() -> None:
    with pytest.raises(HomeInvalid, match="is not a certificate"):
        Link(config(1, mqtt_tls=True, mqtt_ca="nonsense"), lambda _: None, Random(1))


def test_stopping_while_the_broker_is_away_does_not_take_long(linked: Linked) -> None:
    link, happened = linked(free_port())
    until(lambda: happened, "an attempt has failed")
    link.stop()
    assert not link.is_up
