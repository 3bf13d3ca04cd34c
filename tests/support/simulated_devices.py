"""Simulated devices as they would be after their enrolment. No tests."""

from __future__ import annotations

import base64
import os

from edge_contracts.enrolment import EnrolAnswer
from edge_contracts.keys import PrivateKey
from edge_fleet.simulation.memory import Identity


def identity(kind: str, device: str) -> Identity:
    key = PrivateKey.generate().public.base64
    enrolled = EnrolAnswer(
        device=device, fleet="f", mqtt_host="", mqtt_port=1, mqtt_tls=False, mqtt_ca="", mqtt_user=device,
        mqtt_password="p", director_key=key, publisher_keys=(),
    )  # fmt: skip
    return Identity(
        kind=kind, seed=base64.b64encode(os.urandom(32)).decode(), profile=("x86-cpu",), enrolled=enrolled
    )
