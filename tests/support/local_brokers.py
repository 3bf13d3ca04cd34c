"""Real brokers on this machine, an application at one, and the agent's door to it. No tests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from agent_fleet import PASSWORD, Broker, free_port, until
from agent_serving import Served
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.serving.mqtt_door import BrokerPlace, MqttDoor, mqtt_opened

TOPIC = "edge-agent/v2/models/tiny/infer"


@contextmanager
def mosquitto(folder: Path) -> Iterator[BrokerPlace]:
    """Mosquitto, which speaks MQTT 5; skips the test where it is not installed."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    port = free_port()
    process = subprocess.Popen(
        [program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, "the broker is up")
        yield BrokerPlace("127.0.0.1", port)
    finally:
        process.kill()
        process.wait()


@contextmanager
def nats(folder: Path) -> Iterator[BrokerPlace]:
    """nats-server, which speaks MQTT 3.1.1."""
    broker = Broker(folder / "nats")
    broker.start()
    try:
        yield BrokerPlace("127.0.0.1", broker.port, "device", PASSWORD)
    finally:
        broker.kill()


class App:
    """An application at the broker."""

    def __init__(self, place: BrokerPlace, protocol: MQTTProtocolVersion, *topics: str) -> None:
        heard: Queue[MQTTMessage] = Queue()
        self.heard = heard
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        if place.user:
            self.client.username_pw_set(place.user, place.password)
        self.client.on_message = lambda _client, _data, message: heard.put(message)  # no cycle through self
        listening = Queue[bool]()
        self.client.on_subscribe = lambda *_: listening.put(True)
        self.client.connect(place.host, place.port)
        self.client.loop_start()
        self.client.subscribe([(topic, 1) for topic in topics])
        listening.get(timeout=10)

    def ask(self, payload: bytes, topic: str = TOPIC, **properties: Any) -> None:
        made = Properties(PacketTypes.PUBLISH) if properties else None
        for name, value in properties.items():
            setattr(made, name, value)
        self.client.publish(topic, payload, qos=1, properties=made)

    def reply(self) -> tuple[Any, MQTTMessage]:
        message = self.heard.get(timeout=10)
        return json.loads(bytes(message.payload)), message

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def door(place: BrokerPlace, up: Served) -> Iterator[MqttDoor]:
    """The agent listens at the broker."""
    with mqtt_opened(place, "edge-agent", up.engine) as opened:
        until(lambda: opened.is_up, "it listens")
        yield opened
