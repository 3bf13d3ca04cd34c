"""Answers are written as they are: with the route's status, and whatever the database has come up with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from typing_extensions import TypedDict

from edge_contracts.messages import ActiveModel
from edge_fleet.api.answers import Router, to_json
from edge_fleet.model import Frozen

BUNDLE = "sha256:" + 64 * "0"


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Spot:
    colour: Colour
    sizes: tuple[int, ...]


class Body(Frozen):
    at: float


class Answer(TypedDict):
    """What it is."""

    number: int


def test_what_routes_give_is_written_as_json() -> None:
    active = ActiveModel(bundle=BUNDLE, name="digits", version="1", artifact="int8", runtime="litert 2")
    labels: Mapping[str, str] = MappingProxyType({"site": "Fürth"})
    value = {"spot": Spot(Colour.RED, (1, 2)), "body": Body(at=0.5), "active": active, "labels": labels}
    told = json.loads(to_json(value))
    assert told == {
        "spot": {"colour": "red", "sizes": [1, 2]},
        "body": {"at": 0.5},
        "active": json.loads(active.model_dump_json()),
        "labels": {"site": "Fürth"},
    }


def test_what_has_no_form_in_json_is_a_fault_of_ours_and_named() -> None:
    with pytest.raises(TypeError, match="an answer holds a object"):
        to_json({"one": object()})


Ask = Callable[[str, str], httpx.Response]


@pytest.fixture
def ask() -> Ask:
    router = Router(prefix="/x", tags=["area"])

    @router.get("/wrong")
    def wrong() -> Answer:
        found: Any = {"number": None, "more": 1}
        return found  # type: ignore[no-any-return]

    @router.post("/made", status_code=201)
    def made() -> Answer:
        return {"number": 1}

    @router.get("/own")
    def own() -> Response:
        return Response(b"bytes", 206, media_type="application/zip")

    app = FastAPI()
    app.include_router(router)

    async def once(method: str, url: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await http.request(method, url)

    return lambda method, url: asyncio.run(once(method, url))


def test_an_answer_that_is_not_what_its_type_says_is_given_all_the_same(ask: Ask) -> None:
    answer = ask("GET", "/x/wrong")
    assert (answer.status_code, answer.json()) == (200, {"number": None, "more": 1})


def test_a_route_answers_with_its_own_status_and_a_response_of_its_own_stays(ask: Ask) -> None:
    made = ask("POST", "/x/made")
    assert (made.status_code, made.headers["Content-Type"], made.json()) == (
        201,
        "application/json",
        {"number": 1},
    )
    own = ask("GET", "/x/own")
    assert (own.status_code, own.headers["Content-Type"], own.content) == (206, "application/zip", b"bytes")


def test_the_document_has_the_type_and_a_name_for_generated_clients(ask: Ask) -> None:
    document = ask("GET", "/openapi.json").json()
    made = document["paths"]["/x/made"]["post"]
    assert made["operationId"] == "area-made"
    schema = made["responses"]["201"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Answer"}
    assert document["components"]["schemas"]["Answer"]["required"] == ["number"]
