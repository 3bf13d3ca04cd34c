"""Fields with defaults are required of answers, and those that a type itself leaves out are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from edge_fleet.api.always_there import require_what_is_always_there
from edge_fleet.model import Frozen, later


@dataclass(frozen=True)
class Piece:
    name: str
    note: str | None = None
    sizes: tuple[int, ...] = field(default=())


class Setting(Frozen):
    low: float = 0.0
    high: float | None = later(None)


class Answer(TypedDict):
    pieces: list[Piece]
    setting: Setting | None
    more: NotRequired[int]


def schemas() -> dict[str, Any]:
    found = TypeAdapter(Answer).json_schema(mode="serialization")
    return {**found.pop("$defs"), "Answer": found}


def test_all_of_a_dataclass_is_there_wherever_it_is_in_an_answer() -> None:
    found = schemas()
    assert found["Piece"]["required"] == ["name"]
    require_what_is_always_there(found, [list[Answer] | None])
    assert found["Piece"]["required"] == ["name", "note", "sizes"]


def test_what_is_written_only_where_it_is_not_the_default_may_be_missing() -> None:
    found = schemas()
    require_what_is_always_there(found, [Answer])
    assert found["Setting"]["required"] == ["low"]
    assert found["Answer"]["required"] == ["pieces", "setting"]


def test_types_that_are_in_no_answer_stay_as_they_are() -> None:
    found = schemas()
    require_what_is_always_there(found, [int, dict[str, Any], None])
    assert found["Piece"]["required"] == ["name"]
