"""What Home Assistant is told: one device with its sensors, and their state. Pure.

MQTT device discovery (home-assistant.io/integrations/mqtt, "Device discovery payload"): a message on
`homeassistant/device/<object id>/config` names the device, where it comes from and its components. States are
one JSON object on a topic of our own. Nothing is retained: Home Assistant says on `homeassistant/status` when
it has started, and is then told again (`home_assistant_link.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edge_agent.telemetry.standing import Standing

BIRTH = "homeassistant/status"
ONLINE, OFFLINE = "online", "offline"


@dataclass(frozen=True)
class Topics:
    """The topics of one device.

    Args:
        node: Its name, of `[A-Za-z0-9_-]`.
    """

    node: str

    @property
    def config(self) -> str:
        """Where the discovery payload goes."""
        return f"homeassistant/device/edgefleet_{self.node}/config"

    @property
    def state(self) -> str:
        """Where the states go, as one JSON object."""
        return f"edgefleet/{self.node}/state"

    @property
    def availability(self) -> str:
        """Where it says that it is there; the broker says it when it is gone."""
        return f"edgefleet/{self.node}/availability"


# Key of the state -> what Home Assistant makes of it.
COMPONENTS: dict[str, dict[str, Any]] = {
    "problem": {
        "platform": "binary_sensor",
        "name": "Problem",
        "device_class": "problem",
        "payload_on": "ON",
        "payload_off": "OFF",
    },
    "drift": {
        "platform": "binary_sensor",
        "name": "Drift",
        "device_class": "problem",
        "payload_on": "ON",
        "payload_off": "OFF",
    },
    "model": {"platform": "sensor", "name": "Model", "icon": "mdi:brain"},
    "inferences": {"platform": "sensor", "name": "Inferences", "state_class": "total_increasing"},
    "errors": {
        "platform": "sensor",
        "name": "Errors",
        "state_class": "total_increasing",
        "entity_category": "diagnostic",
    },
    "latency": {
        "platform": "sensor",
        "name": "Latency (95 %)",
        "device_class": "duration",
        "unit_of_measurement": "ms",
        "state_class": "measurement",
        "entity_category": "diagnostic",
    },
    "temperature": {
        "platform": "sensor",
        "name": "Temperature",
        "device_class": "temperature",
        "unit_of_measurement": "°C",
        "state_class": "measurement",
    },
    "fleet": {
        "platform": "binary_sensor",
        "name": "Fleet server",
        "device_class": "connectivity",
        "payload_on": "ON",
        "payload_off": "OFF",
        "entity_category": "diagnostic",
    },
    "waiting": {
        "platform": "sensor",
        "name": "Telemetry waiting",
        "state_class": "measurement",
        "entity_category": "diagnostic",
    },
}


def discovery(topics: Topics, standing: Standing) -> bytes:
    """The discovery payload."""
    ours = f"edgefleet_{topics.node}"
    components = {
        key: {**what, "unique_id": f"{ours}_{key}", "value_template": f"{{{{ value_json.{key} }}}}"}
        for key, what in COMPONENTS.items()
    }
    payload = {
        "device": {
            "identifiers": [ours],
            "name": standing.device or topics.node,
            "manufacturer": "Edgefleet",
            "model": "edge-agent",
            "sw_version": standing.agent,
        },
        "origin": {"name": "edgefleet", "sw_version": standing.agent},
        "components": components,
        "state_topic": topics.state,
        "availability_topic": topics.availability,
        "qos": 1,
    }
    return json.dumps(payload, ensure_ascii=False).encode()


def state(standing: Standing) -> bytes:
    """What the components show now; null is shown as unknown."""
    model = standing.model
    return json.dumps(
        {
            "problem": _switch(not standing.is_well),
            "drift": _switch(bool(standing.drifting)),
            "model": f"{model.name} {model.version}" if model is not None else None,
            "inferences": standing.answered,
            "errors": standing.failed,
            "latency": standing.latency_p95_ms,
            "temperature": standing.temperature_c,
            "fleet": _switch(standing.link_up),
            "waiting": standing.waiting,
        }
    ).encode()


def _switch(on: bool) -> str:
    return "ON" if on else "OFF"
