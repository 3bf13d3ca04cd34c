"""Inference over real brokers: mosquitto with MQTT 5 where it is installed, nats-server with MQTT 3.1.1."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, reference
from agent_fleet import until
from agent_serving import ASK, ROW, Served, served
from local_brokers import TOPIC, App, door, mosquitto, nats
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import ListenRefused
from edge_agent.serving.mqtt_door import BrokerPlace, mqtt_opened


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


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


def test_a_topic_that_leaves_no_room_for_a_replys_stops_nobody_elses_answer(
    up: Served, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers")
        named = "m" * (65_535 - len("edge-agent/v2/models//infer"))
        app.ask(BODY, topic=f"edge-agent/v2/models/{named}/infer")
        app.ask(BODY, ResponseTopic="app/answers")
        document, _ = app.reply()
        assert document["model_name"] == "tiny"
        app.close()
