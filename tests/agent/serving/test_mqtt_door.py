"""Inference over real brokers: mosquitto with MQTT 5 where it is installed, nats-server with MQTT 3.1.1."""

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

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, reference
from agent_fleet import PASSWORD, Broker, free_port, until
from agent_serving import ASK, ROW, Served, served
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import ListenRefused
from edge_agent.serving.mqtt_door import BrokerPlace, MqttDoor, mqtt_opened

TOPIC = "edge-agent/v2/models/tiny/infer"


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


@contextmanager
def mosquitto(folder: Path) -> Iterator[BrokerPlace]:
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
    with mqtt_opened(place, "edge-agent", up.engine) as opened:
        until(lambda: opened.is_up, "it listens")
        yield opened


BODY = json.dumps(ASK).encode()


def test_mqtt_5_gets_its_reply_where_and_as_it_asked(up: Served, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers")
        app.ask(BODY, ResponseTopic="app/answers", CorrelationData=b"\x00c7")
        document, message = app.reply()
        assert np.allclose(
            document["outputs"][0]["data"], reference(np.array([ROW], np.float32))[0], atol=1e-5
        )
        properties: Any = message.properties
        assert properties.CorrelationData == b"\x00c7"
        assert ("status", "200") in properties.UserProperty

        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "shape": [16, 4],
                        "datatype": "FP32",
                        "parameters": {"binary_data_size": GOLDEN_X.nbytes},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        app.ask(
            head + GOLDEN_X.tobytes(),
            ResponseTopic="app/answers",
            UserProperty=[("Inference-Header-Content-Length", str(len(head)))],
        )
        message = app.heard.get(timeout=10)
        properties = message.properties
        at = int(dict(properties.UserProperty)["Inference-Header-Content-Length"])
        scores = np.frombuffer(bytes(message.payload)[at:], "<f4").reshape(16, 3)
        assert np.allclose(scores, reference(GOLDEN_X), atol=1e-5)
        app.close()


def test_mqtt_3_gets_its_reply_beside_the_request_with_its_id(up: Served, tmp_path: Path) -> None:
    with nats(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv311, TOPIC + "/reply")
        app.ask(json.dumps({**ASK, "id": "a1"}).encode())
        document, message = app.reply()
        assert (document["id"], document["model_name"], message.topic) == ("a1", "tiny", TOPIC + "/reply")
        app.close()


def test_what_is_no_request_is_refused_in_a_reply_and_the_next_is_answered(
    up: Served, tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    fuzzed = [random.bytes(int(size)) for size in random.integers(0, 60, 20)]
    fuzzed += [BODY[:cut] for cut in range(0, len(BODY) - 1, 9)] + [BODY + b"x", b"[" * 10_000]
    with mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers", "edge-agent/v2/models/+/infer/reply")
        for payload in fuzzed:
            app.ask(payload, ResponseTopic="app/answers")
            document, _ = app.reply()
            assert document["code"] == "bad-request"
        cases = [
            ({"topic": "edge-agent/v2/models/other/infer"}, BODY, "not-found"),
            ({}, BODY.replace(b"1.5", b"1e300"), "not-finite"),
            ({"ResponseTopic": TOPIC}, BODY, "bad-request"),
            ({"ResponseTopic": "$x"}, BODY, "bad-request"),
        ]
        for changed, payload, code in cases:
            app.ask(payload, **{"ResponseTopic": "app/answers", **changed})
            document, message = app.reply()
            assert document["code"] == code
            properties: Any = message.properties
            assert dict(properties.UserProperty)["status"] in ("400", "404")
        app.ask(BODY, ResponseTopic="app/answers")
        assert app.reply()[0]["model_name"] == "tiny"
        app.close()
    window = up.engine.cut(False)
    assert window is not None
    assert (window.inferences, window.refused) == (1, {"not-finite": 1})


def test_a_retained_request_is_not_answered_and_a_broker_that_comes_later_is_found(
    up: Served, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as place:
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers", "kept")
        made = Properties(PacketTypes.PUBLISH)
        made.ResponseTopic = "app/answers"
        app.client.publish(TOPIC, BODY, qos=1, retain=True, properties=made)
        app.client.publish("kept", b"{}", qos=1)
        assert app.heard.get(timeout=10).topic == "kept"  # the broker has both
        with door(place, up):
            app.ask(BODY, ResponseTopic="app/answers", CorrelationData=b"second")
            properties: Any = app.reply()[1].properties
            assert properties.CorrelationData == b"second"
        app.close()
    with mqtt_opened(place, "edge-agent", up.engine) as opened:
        assert not opened.is_up
        process = subprocess.Popen(
            [
                shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/sbin") or "",
                "-p",
                str(place.port),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: opened.is_up, "the broker is found")
        finally:
            process.kill()
            process.wait()


def test_a_login_is_read_from_a_file_of_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "login"
    path.write_text("user:pass:word\n")
    path.chmod(0o600)
    assert BrokerPlace.parse("broker.local", path) == BrokerPlace("broker.local", 1883, "user", "pass:word")
    assert BrokerPlace.parse("[::1]:99") == BrokerPlace("::1", 99)
    path.chmod(0o644)
    with pytest.raises(ListenRefused, match="mode 0644"):
        BrokerPlace.parse("broker.local", path)
    for content in ("", "user", ":password"):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(ListenRefused, match="holds no login"):
            BrokerPlace.parse("broker.local", path)
