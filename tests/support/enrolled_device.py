"""What a device keeps of its enrolment, whole and valid, for tests that need no server."""

from __future__ import annotations

from typing import Any

from edge_agent.device.config import DeviceConfig
from edge_contracts.keys import PrivateKey
from edge_contracts.profile import lineage, load_profile

ANYBODY = PrivateKey.generate().public.base64


def device_config(**changes: Any) -> DeviceConfig:
    """Of `cam-1` in the fleet `plant`, whose server and broker are not there; keys are anybody's."""
    fields: dict[str, Any] = {
        "server": "http://127.0.0.1:1",
        "device": "cam-1",
        "fleet": "plant",
        "profile": load_profile("x86-cpu"),
        "lineage": lineage("x86-cpu"),
        "mqtt_host": "127.0.0.1",
        "mqtt_port": 1,
        "mqtt_tls": False,
        "mqtt_ca": "",
        "mqtt_user": "cam-1",
        "mqtt_password": "secret",
        "client_id": "edge-1",
        "public_key": ANYBODY,
        "director_key": ANYBODY,
        "publisher_keys": (),
    }
    return DeviceConfig.model_validate(fields | changes)
