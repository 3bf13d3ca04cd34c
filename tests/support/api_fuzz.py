"""A fuzzer led by `/openapi.json`: asks all as everybody; an answer not named there is a fault."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import requests
import schemathesis
from api_truth import closed
from fleet_device import enrol
from fleet_rows import FleetRows
from fleet_server import Running
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans, sampled_from
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from edge_fleet.api.access import DEVICE_HEADER

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# never ends, or does what ends everything
LEFT_OUT = {"GET /api/v1/events", "POST /api/v1/broker/outage"}
WAIT_S = 20.0


@dataclass
class Found:
    """What a run has met.

    Args:
        statuses: By operation.
        faults: One line each.
    """

    statuses: dict[str, set[int]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    asked: int = 0


def people(fleet: Running) -> dict[str, dict[str, str]]:
    """The headers of each role, of a device, and of nobody."""
    device = enrol(fleet.http, fleet.token(), "d1", ("arm-cpu",))
    # a home's own token may not be lost: the fuzzer may revoke what it finds
    headers = {
        role: {"Authorization": f"Bearer {fleet.token(role)}"} for role in ("admin", "operator", "viewer")
    }
    headers["publisher"] = {"Authorization": f"Bearer {fleet.token('publisher')}"}
    headers["approver"] = {"Authorization": f"Bearer {fleet.token('approver')}"}
    secret = {"Authorization": f"Bearer {device.enrolled.mqtt_password}"}
    headers["device"] = secret | {DEVICE_HEADER: device.id}
    headers["nobody"] = {}
    return headers


def things(fleet: Running) -> dict[str, Any]:
    """Things that there are, by the names of parameters: a fuzzer would not guess one."""
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.publish("1")
    rows.publish("2")
    plan = {
        "format": "edgefleet.rollout/1",
        "release": "digits@2",
        "stages": [1, "100%"],
        "select": "device=d1",
    }
    rollout = fleet.admin.post("/api/v1/rollouts", json={"plan": plan}).json()["id"]
    fleet.admin.post("/api/v1/users", json={"name": "ada", "password": "a long password", "role": "viewer"})
    hook = fleet.admin.post("/api/v1/webhooks", json={"url": "http://127.0.0.1:9/x", "kinds": ["drift"]})
    return {
        "device": "d1",
        "rollout": rollout,
        "counter": 1,
        "release": "digits@2",
        "before": "digits@1",
        "after": "digits@2",
        "what": "digits@1",
        "name": "ada",
        "webhook": hook.json().get("id", "w1"),
        "alert": 1,
        "sample": 1,
        "follow": False,
    }


def fuzz(
    fleet: Running,
    headers: Mapping[str, Mapping[str, str]],
    known: Mapping[str, Any],
    examples: int,
    seed_: int,
    only: str = "",
) -> Found:
    """Ask everything.

    Args:
        headers: Who asks; half of the time it is the admin.
        known: Values that are put in for parameters of these names, every other time.
        examples: For each operation and way of making requests.
        only: A part of the names of the operations to ask.
    """
    document = closed(httpx.get(f"{fleet.url}/openapi.json", trust_env=False).json())
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=fleet.url, request_timeout=WAIT_S)
    found = Found()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.label not in LEFT_OUT and only in operation.label:
            for mode in GenerationMode:
                _ask(operation, mode, headers, known, examples, seed_, found)
    return found


def _ask(
    operation: Any,
    mode: GenerationMode,
    headers: Mapping[str, Mapping[str, str]],
    known: Mapping[str, Any],
    examples: int,
    seed_: int,
    found: Found,
) -> None:
    statuses = found.statuses.setdefault(operation.label, set())

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @seed(seed_)
    @given(operation.as_strategy(mode), sampled_from(["admin"] * 4 + list(headers)), booleans())
    def once(case: Any, who: str, fill: bool) -> None:
        if fill:
            _fill(case, known)
        if operation.label == "GET /api/v1/telemetry":
            case.query = {**(case.query or {}), "follow": "false"}  # one that follows never ends
        try:
            told = case.call(headers=dict(headers[who]))
        except requests.RequestException as error:
            found.faults.setdefault(operation.label, f"{who}: {type(error).__name__}: {error}")
            return
        found.asked += 1
        statuses.add(told.status_code)
        try:
            case.validate_response(told, checks=CHECKS)
            if told.status_code >= 400:
                _is_a_refusal(told)
        except (AssertionError, BaseExceptionGroup) as error:
            text = str(error) + "".join(str(e) for e in getattr(error, "exceptions", ()))
            key = f"{operation.label} {told.status_code}"
            found.faults.setdefault(key, f"{who}: {' '.join(text.split())[:1500]}")

    try:
        once()
    except Unsatisfiable:
        return  # nothing can be wrong about an operation without parameters


def _fill(case: Any, known: Mapping[str, Any]) -> None:
    for place in ("path_parameters", "query"):
        stated = getattr(case, place)
        if stated:
            setattr(case, place, {name: known.get(name, value) for name, value in stated.items()})
    if isinstance(case.body, dict):
        case.body = {
            name: known[name] if name in known and isinstance(value, str) else value
            for name, value in case.body.items()
        }


def _is_a_refusal(told: Any) -> None:
    document = json.loads(told.content)
    assert set(document) == {"code", "message"}, document
    assert "\n" not in document["message"], document
    assert len(document["message"]) < 2_000, document["message"][:200]
