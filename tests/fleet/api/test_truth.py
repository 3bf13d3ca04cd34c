"""The check of answers that all tests make finds what it is there for."""

from __future__ import annotations

import asyncio
from typing import Any, NotRequired

import httpx
import pytest
from api_truth import Truth
from fastapi import FastAPI, Response
from typing_extensions import TypedDict

from edge_fleet.api.answers import Router


class Piece(TypedDict):
    name: str
    number: int | None


class Answer(TypedDict):
    pieces: list[Piece]
    note: NotRequired[str]


GOOD: dict[str, Any] = {"pieces": [{"name": "a", "number": None}], "note": "n"}


def told(given: Any, status: int = 200, media_type: str = "application/json") -> tuple[int, str, list[str]]:
    """What a client is told, and the faults that are kept."""
    router = Router(tags=["area"])

    @router.get("/answer")
    def answer() -> Answer:
        if isinstance(given, dict):
            return given  # type: ignore[return-value]
        return Response(given, status, media_type=media_type)  # type: ignore[return-value]

    app = FastAPI()
    app.include_router(router)
    truth = Truth(app)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=truth)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await http.get("/answer")

    found = asyncio.run(ask())
    return found.status_code, found.text, truth.faults


def test_a_true_answer_goes_through_as_it_is() -> None:
    status, text, faults = told(GOOD)
    assert (status, faults) == (200, [])
    assert text == '{"pieces":[{"name":"a","number":null}],"note":"n"}'


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({**GOOD, "extra": 1}, "GET /answer answers 200, but at the top: Additional properties"),
        ({"note": "n"}, 'GET /answer answers 200, but at the top: "pieces" is a required property'),
        ({**GOOD, "note": None}, 'but at note: null is not of type "string"'),
        ({"pieces": [{"name": "a", "number": "1"}]}, "but at pieces/0/number"),
        ({"pieces": [{"name": "a"}]}, 'but at pieces/0: "number" is a required property'),
        ({"pieces": [{"name": "a", "number": 1, "more": 2}]}, "but at pieces/0: Additional properties"),
    ],
    ids=["extra key", "missing key", "null", "wrong type", "missing inside", "extra inside"],
)
def test_an_answer_that_differs_from_its_document_fails_where_it_was_asked_for(
    given: dict[str, Any], fault: str
) -> None:
    status, text, faults = told(given)
    assert status == 500 and "untrue" in text
    assert len(faults) == 1 and fault in faults[0]


def test_a_status_or_media_type_that_is_not_documented_fails() -> None:
    status, _, faults = told(b"{}", 418)
    assert (status, faults) == (500, ["GET /answer answers 418, which is not documented"])
    status, _, faults = told(b"a,b", media_type="text/csv")
    assert status == 500
    assert faults == ["GET /answer answers 200 as text/csv, documented is application/json"]
