"""The API as its document says it: every answer is named there; a fuzzer led by it finds no fault of ours.

EDGEFLEET_FUZZ_EXAMPLES and EDGEFLEET_FUZZ_SEED make it a long search: `make fuzz`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from api_fuzz import fuzz, people, things
from fleet_server import Running, fleet_server

from edge_fleet.api.access import every, stated_right
from edge_fleet.app import create_app
from edge_fleet.auth import Attempts

EXAMPLES = int(os.environ.get("EDGEFLEET_FUZZ_EXAMPLES", "4"))
SEED = int(os.environ.get("EDGEFLEET_FUZZ_SEED", "1"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with (
        fleet_server(tmp_path_factory.mktemp("server") / "home", checked=False) as found,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(Attempts, "PER_MINUTE", 1 << 30)  # or nearly every answer were 429
        yield found


@pytest.fixture(scope="module")
def document(fleet: Running) -> dict[str, Any]:
    found: dict[str, Any] = fleet.http.get("/openapi.json").json()
    return found


def test_the_document_has_every_route_who_may_use_it_and_how_it_refuses(
    fleet: Running, document: dict[str, Any]
) -> None:
    routes = [one for one in every(create_app(fleet.server).routes) if one.include_in_schema]
    assert len(routes) > 70
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            right = stated_right(route)
            assert operation.get("x-right") == (str(right) if right else None)
            assert (operation["security"] == [{"token": []}]) == (right is not None)
            for status in ("400", "404", "409", "413", "429", "503"):
                assert status in operation["responses"]
            assert {"401", "403"} <= set(operation["responses"]) or not operation["security"]
            for status, answer in operation["responses"].items():
                if status[0] == "4" and status != "416":  # of a part of a file
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Refusal"}
    device = document["paths"]["/api/v1/certificate"]["post"]["security"]
    assert device == [{"token": [], "device": []}]


def test_every_good_answer_in_json_has_a_type_with_fields(document: dict[str, Any]) -> None:
    typed = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            good = {status: one for status, one in operation["responses"].items() if status[0] == "2"}
            assert good, (method, path)
            for status, answer in good.items():
                content = answer.get("content", {})
                assert content or status == "204", (method, path)
                for media_type, one in content.items():
                    if media_type == "application/json":
                        assert untyped(one["schema"], document) == [], (method, path)
                        typed += 1
    assert typed > 75


def test_every_number_that_is_asked_for_says_how_large_it_may_be(document: dict[str, Any]) -> None:
    operations = [one for item in document["paths"].values() for one in item.values()]
    asked = {
        f"{one['operationId']} {parameter['name']}": parameter["schema"]
        for one in operations
        for parameter in one.get("parameters", [])
    }
    bodies = [one["requestBody"]["content"] for one in operations if "requestBody" in one]
    assert len(asked) > 80 and len(bodies) > 30
    assert [name for name, schema in asked.items() if endless(schema, document)] == []
    assert [body for body in bodies if any(endless(one["schema"], document) for one in body.values())] == []


def endless(schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether a whole number in it may have any size: no column of a database takes every one."""
    if "$ref" in schema:
        return endless(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if schema.get("type") == "integer":
        return not schema.keys() & {"maximum", "exclusiveMaximum", "enum", "const"}
    parts = [*schema.get("anyOf", ()), *schema.get("properties", {}).values()]
    parts += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    return any(endless(part, document) for part in parts)


def test_a_number_of_any_size_is_found() -> None:
    document = {"components": {"schemas": {"A": {"properties": {"n": {"type": "integer", "minimum": 0}}}}}}
    ref = {"$ref": "#/components/schemas/A"}
    assert endless({"anyOf": [{"type": "null"}, {"type": "array", "items": ref}]}, document)
    assert not endless({"anyOf": [{"type": "integer", "maximum": 3}, {"type": "string"}]}, document)


def untyped(schema: dict[str, Any], document: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of an answer's schema that say nothing of what is there."""
    if "$ref" in schema:
        found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return untyped(found, document)
    if "anyOf" in schema:
        return [part for one in schema["anyOf"] for part in untyped(one, document)]
    if schema.get("type") == "array":
        return untyped(schema["items"], document)
    return [] if schema.get("type") == "object" and schema.get("properties") else [schema]


@pytest.mark.parametrize(
    "schema",
    [{}, {"type": "object"}, {"type": "object", "additionalProperties": True}, {"type": "string"}],
    ids=["nothing", "object", "any keys", "text"],
)
def test_an_answer_of_which_nothing_is_said_is_found(schema: dict[str, Any]) -> None:
    assert untyped({"type": "array", "items": {"anyOf": [schema]}}, {}) == [schema]


def test_names_of_operations_and_types_are_fit_for_generated_clients(document: dict[str, Any]) -> None:
    operations = [one["operationId"] for item in document["paths"].values() for one in item.values()]
    assert len(operations) == len(set(operations)) > 80
    assert all(re.fullmatch(r"[a-z]+-[a-z_]+", name) for name in operations)
    assert not [name for name in document["components"]["schemas"] if "__" in name]


def test_whatever_a_fuzzer_asks_is_answered_as_the_document_says(fleet: Running) -> None:
    found = fuzz(fleet, people(fleet), things(fleet), EXAMPLES, SEED)
    assert found.faults == {}
    met = set().union(*found.statuses.values())
    assert met >= {200, 201, 400, 401, 403, 404, 409, 422}
    assert len(found.statuses) > 70
    assert found.asked > 5 * len(found.statuses)
    assert fleet.http.get("/ready").status_code == 200


def test_the_fuzzer_finds_a_route_that_answers_otherwise_than_it_says(
    fleet: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_connection: Any, _device: Any = None) -> list[Any]:
        raise ZeroDivisionError

    headers = {"admin": {"Authorization": f"Bearer {fleet.token('admin')}"}}
    monkeypatch.setattr("edge_fleet.api.devices.describe", broken)
    found = fuzz(fleet, headers, {}, 2, SEED, only="GET /api/v1/devices")
    assert any(key.endswith(" 500") for key in found.faults), found
    monkeypatch.setattr("edge_fleet.api.devices.describe", lambda *_: "not a list")
    found = fuzz(fleet, headers, {}, 2, SEED, only="GET /api/v1/devices")
    assert found.faults != {}
