"""The base of all contracts: what is checked, what is written, what is said of a fault."""

from __future__ import annotations

import copy
import enum
import json
import math
import pickle
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import pytest
from model_types import faults_of, models_of
from msgspec import Meta, field

import edge_contracts
from edge_contracts.errors import FormatInvalid
from edge_contracts.faults import ValidationError, first_fault
from edge_contracts.model import (
    Count,
    Finite,
    Frozen,
    Identifier,
    canonical_json,
    later,
    parse_json,
    parse_object,
)


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Round(Frozen):
    kind: Literal["round"]
    radius: Finite


class Square(Frozen):
    kind: Literal["square"]
    side: Finite = 1.0


class Sheet(Frozen):
    name: Identifier
    count: Count = 3
    colour: Colour = Colour.RED
    finish: Literal["dull", "bright"] = "dull"
    shapes: tuple[Round | Square, ...] = ()
    sizes: Mapping[int, int] = field(default_factory=dict)
    pair: tuple[Finite, Finite] | None = None
    raw: Annotated[bytes, Meta(max_length=4)] = b""
    note: str = later("")
    extra: Mapping[str, Count] = later({})
    part: Square | None = later(None)

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.count == 13:
            raise ValueError("13 sheets are too many")


SHEET = Sheet(name="a", shapes=(Round(kind="round", radius=2.0),), sizes={-1: 5}, pair=(0, 1))


def test_what_came_later_is_written_only_when_it_says_something() -> None:
    plain = {
        "name": "a", "count": 3, "colour": "red", "finish": "dull",
        "shapes": ({"kind": "round", "radius": 2.0},), "sizes": {-1: 5}, "pair": (0.0, 1.0), "raw": b"",
    }  # fmt: skip
    assert SHEET.model_dump() == plain
    said = SHEET.model_copy(update={"note": "x", "extra": {"k": 1}, "part": Square(kind="square")})
    assert said.model_dump() == plain | {
        "note": "x", "extra": {"k": 1}, "part": {"kind": "square", "side": 1.0}
    }  # fmt: skip
    assert Sheet.model_validate(said.model_dump()) == said
    again = Sheet(name="a", note="".join([]), extra={}, part=None)
    assert again.model_dump().keys() == Sheet(name="a").model_dump().keys() == plain.keys()


def test_json_is_read_back_as_the_same_value() -> None:
    assert Sheet.model_validate_json(SHEET.model_dump_json()) == SHEET
    assert json.loads(SHEET.model_dump_json()) == SHEET.model_dump(mode="json")
    assert SHEET.model_dump(mode="json")["sizes"] == {"-1": 5}
    assert parse_json(Sheet, canonical_json(SHEET), "the sheet") == SHEET
    assert SHEET.model_dump(include={"name", "pair"}, exclude={"pair"}) == {"name": "a"}
    assert "pair" not in Sheet(name="a").model_dump(exclude_none=True)


def test_a_default_that_another_object_could_equal_cannot_come_later() -> None:
    for wrong in ("stop", 1000, 0.5, ("a",), {"a": 1}):
        with pytest.raises(AssertionError, match="may be another object"):
            later(wrong)


def test_a_constructor_checks_as_reading_does() -> None:
    for wrong in ({"count": -1}, {"count": "3"}, {"count": True}, {"name": "a b"}, {"extra": {"k": -1}}):
        with pytest.raises(ValidationError):
            Sheet(**{"name": "a", **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="13 sheets"):
        Sheet(name="a", count=13)
    assert Sheet(name="a", shapes=[{"kind": "square"}]).shapes == (Square(kind="square"),)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    found = Sheet(name="a", count=np.int64(4), pair=(np.float64(0.5), 1), sizes={np.int64(2): np.int32(3)})  # type: ignore[arg-type,dict-item]
    assert (type(found.count), type(found.pair[0] if found.pair else None)) == (int, float)
    assert found.sizes == {2: 3}


def test_an_identifier_ends_where_it_seems_to_end() -> None:
    with pytest.raises(ValidationError, match=r"expected text matching .*\$, found 'a\\n'"):
        Sheet(name="a\n")


def test_values_do_not_change_and_copies_are_the_same() -> None:
    with pytest.raises(AttributeError):
        SHEET.count = 4  # type: ignore[misc]
    assert copy.deepcopy(SHEET) == pickle.loads(pickle.dumps(SHEET)) == SHEET
    assert hash(Square(kind="square")) == hash(Square(kind="square", side=1.0))
    with pytest.raises(AttributeError):
        SHEET.model_copy(update={"cuont": 4})


FAULTS = {
    "a misspelt key": ({"name": "a", "cuont": 1}, "unknown key 'cuont'; did you mean 'count'?"),
    "a key deep inside": (
        {"name": "a", "shapes": [{"kind": "round", "radius": 1, "x": 2}]}, "unknown key 'shapes.0.x'",
    ),
    "a missing key": ({}, "name: is missing"),
    "text for a number": ({"name": "a", "count": "3"}, "count: expected an integer, found '3'"),
    "a list for a number": ({"name": "a", "count": [3]}, "count: expected an integer"),
    "nothing for a number": ({"name": "a", "count": None}, "count: expected an integer, found None"),
    "too small": ({"name": "a", "count": -1}, "count: expected an integer >= 0, found -1"),
    "no such member": ({"name": "a", "colour": "gren"}, "colour: expected 'red' or 'blue', found 'gren'"),
    "no such word": ({"name": "a", "finish": "matt"}, "finish: expected 'dull' or 'bright', found 'matt'"),
    "no such kind": (
        {"name": "a", "shapes": [{"kind": "oval"}]},
        "shapes.0.kind: expected 'round' or 'square', found 'oval'",
    ),
    "no kind": ({"name": "a", "shapes": [{"side": 1}]}, "shapes.0.kind: is missing"),
    "not finite": ({"name": "a", "pair": [0, math.inf]}, "pair.1: expected a finite number, found inf"),
    "not a number": ({"name": "a", "pair": [math.nan, 0]}, "pair.0: expected a finite number, found nan"),
    "too short": ({"name": "a", "pair": [1]}, "pair: expected a list of length 2"),
    "too long": ({"name": "a", "raw": b"12345"}, "raw: expected bytes of length <= 4, found b'12345'"),
    "a value of a mapping": (
        {"name": "a", "extra": {"k": 1, "l": -1}}, "extra.l: expected an integer >= 0, found -1",
    ),
    "our own check": ({"name": "a", "count": 13}, "the document: 13 sheets are too many"),
    "not a mapping": ([1], "the document: expected a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_says_where_what_was_found_and_what_was_expected(what: str) -> None:
    raw, said = FAULTS[what]
    with pytest.raises(FormatInvalid) as refused:
        parse_object(Sheet, raw, "the sheet")
    assert str(refused.value) == f"the sheet: {said}"


def test_a_fault_in_json_is_told_alike() -> None:
    with pytest.raises(ValidationError) as refused:
        Sheet.model_validate_json('{"name": "a", "colour": "gren"}')
    assert first_fault(refused.value) == "colour: expected 'red' or 'blue', found 'gren'"
    with pytest.raises(ValidationError, match="not JSON"):
        Sheet.model_validate_json("{")


class Endless(Frozen):
    pair: tuple[float, Annotated[float, Meta(ge=0)]]
    name: Identifier | Literal[""] | None


def test_no_number_of_any_contract_may_be_infinite_and_no_text_has_two_forms() -> None:
    kinds = models_of(edge_contracts)
    assert len(kinds) > 40
    assert [fault for kind in kinds for fault in faults_of(kind)] == []
    assert len(faults_of(Endless)) == 3
