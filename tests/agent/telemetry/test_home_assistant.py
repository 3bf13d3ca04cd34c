"""What Home Assistant is told, held to its documentation, and over a real broker."""

from __future__ import annotations

import json
import queue
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from agent_fleet import Broker, find_nats, until
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from standings import STANDING

from edge_agent.errors import SettingRefused
from edge_agent.telemetry.home_assistant import BIRTH, COMPONENTS, Topics, discovery, state
from edge_agent.telemetry.home_assistant_link import HomeAssistantLink, LocalBroker
from edge_agent.telemetry.standing import Standing

TOPICS = Topics("cam-1")
# home-assistant.io/integrations/mqtt "Device discovery payload", .../sensor.mqtt and .../binary_sensor.mqtt:
# what is required, and which values of the keys that we use are known.
SHARED = {"unique_id", "name", "platform", "value_template", "device_class", "entity_category", "icon"}
DOCUMENTED: dict[str, Any] = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers"],
            "additionalProperties": False,
            "properties": {
                "identifiers": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                **{name: {"type": "string"} for name in ("name", "manufacturer", "model", "sw_version")},
            },
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": {"type": "string"}, "sw_version": {"type": "string"}},
        },
        "state_topic": {"type": "string"},
        "availability_topic": {"type": "string"},
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["platform", "unique_id"],
                "properties": {
                    "platform": {"enum": ["sensor", "binary_sensor"]},
                    "entity_category": {"const": "diagnostic"},
                    "state_class": {"enum": ["measurement", "total", "total_increasing"]},
                },
                "oneOf": [
                    {
                        "properties": {
                            **dict.fromkeys(SHARED | {"state_class", "unit_of_measurement"}, True),
                            "platform": {"const": "sensor"},
                            "device_class": {"enum": ["duration", "temperature"]},
                            "unit_of_measurement": {"enum": ["ms", "°C"]},
                        },
                        "additionalProperties": False,
                        "dependentRequired": {"device_class": ["unit_of_measurement"]},
                    },
                    {
                        "properties": {
                            **dict.fromkeys(SHARED | {"payload_on", "payload_off"}, True),
                            "platform": {"const": "binary_sensor"},
                            "device_class": {"enum": ["problem", "connectivity"]},
                        },
                        "additionalProperties": False,
                    },
                ],
            },
        },
    },
}


def test_the_discovery_payload_is_as_documented() -> None:
    payload = json.loads(discovery(TOPICS, STANDING))
    jsonschema.Draft202012Validator(DOCUMENTED).validate(payload)
    identities = [component["unique_id"] for component in payload["components"].values()]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("fault", ["device", "origin", "components"])
def test_a_payload_that_is_not_as_documented_is_noticed(fault: str) -> None:
    payload = json.loads(discovery(TOPICS, STANDING))
    del payload[fault]
    assert not jsonschema.Draft202012Validator(DOCUMENTED).is_valid(payload)


def test_every_component_has_its_value_in_the_state() -> None:
    told = json.loads(state(STANDING))
    payload = json.loads(discovery(TOPICS, STANDING))
    assert told.keys() == COMPONENTS.keys()
    for key, component in payload["components"].items():
        assert component["value_template"] == f"{{{{ value_json.{key} }}}}"
    assert told["model"] == "digits 1.0"
    assert (told["problem"], told["drift"], told["fleet"]) == ("OFF", "ON", "ON")


def test_a_device_that_has_no_model_has_a_problem() -> None:
    told = json.loads(state(Standing(time_ms=1, started_ms=1, agent="0.1.0")))
    assert (told["problem"], told["model"], told["temperature"]) == ("ON", None, None)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://ha.local", LocalBroker("ha.local", 1883)),
        ("mqtt://u:p%40x@10.0.0.2:1884/", LocalBroker("10.0.0.2", 1884, False, "u", "p@x")),
        ("mqtts://ha.local", LocalBroker("ha.local", 8883, True)),
    ],
)
def test_the_brokers_url_is_read(url: str, expected: LocalBroker) -> None:
    assert LocalBroker.parse(url) == expected


@pytest.mark.parametrize("url", ["ha.local", "http://ha.local", "mqtt://", "mqtt://h:x", "mqtt://h/topic"])
def test_another_url_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(SettingRefused, match="mqtt://"):
        LocalBroker.parse(url)
    assert "secret" not in repr(LocalBroker.parse("mqtt://u:secret@h"))


@pytest.mark.skipif(find_nats() is None, reason="nats-server is not installed")
def test_home_assistant_is_told_at_the_start_on_change_and_when_it_comes_back(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    broker.start()
    heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
    there: list[bool] = []
    listener = Client(CallbackAPIVersion.VERSION2, client_id="home-assistant")
    listener.username_pw_set("server", "server")
    listener.on_message = lambda _c, _d, message: heard.put((message.topic, message.payload))
    listener.on_subscribe = lambda *_: there.append(True)
    listener.connect("127.0.0.1", broker.port)
    listener.loop_start()
    listener.subscribe([("homeassistant/device/#", 0), ("edgefleet/#", 0)])
    until(lambda: there, "the listener is there")
    link = HomeAssistantLink(LocalBroker("127.0.0.1", broker.port, False, "server", "server"), "cam-1")
    try:
        link.start()
        link.tell(STANDING)
        introduced = [heard.get(timeout=20) for _ in range(3)]
        assert [topic for topic, _ in introduced] == [TOPICS.config, TOPICS.availability, TOPICS.state]
        link.tell(STANDING)  # nothing new: nothing said
        link.tell(STANDING.model_copy(update={"answered": 7}))
        topic, told = heard.get(timeout=20)
        assert (topic, json.loads(told)["inferences"]) == (TOPICS.state, 7)
        until(lambda: link._client.is_connected(), "the link is up")
        listener.publish(BIRTH, "online")
        assert [heard.get(timeout=20)[0] for _ in range(3)] == [topic for topic, _ in introduced]
    finally:
        link.stop()
        assert heard.get(timeout=20) == (TOPICS.availability, b"offline")
        listener.disconnect()
        listener.loop_stop()
        broker.kill()
