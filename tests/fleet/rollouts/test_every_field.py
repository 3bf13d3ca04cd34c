"""Each field of a plan wrong in turn, found by walking the schema: no new one can be forgotten."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edge_contracts.errors import FormatInvalid
from edge_fleet.gates import GATES
from edge_fleet.rollouts.faults import form
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.rollouts.plan_file import read_plan_text
from edge_fleet.rollouts.plan_schema import plan_schema

Where = tuple[str | int, ...]
SCHEMA = plan_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# of each kind that a document can hold, and numbers beyond any limit
TRIED: tuple[Any, ...] = (None, True, "§", "", -1e9, 1e9, 0.5, [], [[]], {}, {"§": 1})


def _whole_plans() -> tuple[dict[str, Any], dict[str, Any]]:
    """The plans of test_plan_file.py: one with every field but what is of the kind shadow-first, and that."""
    spec = importlib.util.spec_from_file_location("plans", Path(__file__).with_name("test_plan_file.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.GOOD), dict(module.SHADOWED)


WHOLE, SHADOWED = _whole_plans()


def _places(schema: dict[str, Any], at: Where = ()) -> Iterator[Where]:
    """Where a document of a schema can hold something; of a list its first item."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _places(one, at)
    for name, inner in schema.get("properties", {}).items():
        yield (*at, name)
        yield from _places(inner, (*at, name))
    if isinstance(schema.get("items"), dict):
        yield (*at, 0)
        yield from _places(schema["items"], (*at, 0))


PLACES = sorted(set(_places(SCHEMA)), key=str)


def _with(place: Where, value: Any) -> dict[str, Any]:
    """The whole plan with one value replaced, and what is around it made where it is missing."""
    document = copy.deepcopy(SHADOWED if place[0] == "shadow" else WHOLE)
    current: Any = document
    for step in place[:-1]:
        if isinstance(step, str) and not isinstance(current.get(step), dict | list):
            current[step] = {}
        if isinstance(step, int) and not isinstance(current[step], dict | list):
            current[step] = {}
        current = current[step]
    current[place[-1]] = value
    return document


def _wrong(place: Where) -> list[Any]:
    """What the schema refuses there, and only because of what is there."""
    found = []
    for value in TRIED:
        faults = list(VALIDATOR.iter_errors(_with(place, value)))
        if faults and all(_is_at(fault, place) for fault in faults):
            found.append(value)
    return found


def _is_at(fault: jsonschema.ValidationError, place: Where) -> bool:
    where = tuple(fault.absolute_path)
    return where[: len(place)] == place or (place[: len(where)] == where and bool(where))


def test_the_walk_finds_every_field_and_every_gate() -> None:
    found = set(PLACES)
    assert {(name,) for name in RolloutPlan.model_fields} <= found
    assert {("gates", name) for name in GATES} <= found
    assert {
        ("rate", "per_minute"),
        ("windows", 0, "begin"),
        ("retries", "golden"),
        ("stages", 0, "label"),
    } <= found
    assert ("windows", 0, "days", 0) in found
    assert len(found) > 60


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_wrong_value_is_refused_with_its_line_its_name_and_the_right_form(place: Where) -> None:
    tried = _wrong(place)
    assert tried, "nothing is wrong here: the schema takes whatever comes"
    for value in tried:
        text = yaml.safe_dump(_with(place, value), sort_keys=False, allow_unicode=True)
        document = read_plan_text(text.encode(), "plan.yaml")
        with pytest.raises(FormatInvalid) as refusal:
            parse_plan(document.raw, document.what, document.lines)
        told = str(refusal.value)
        assert "\n" not in told
        if place == ("format",):
            assert "edgefleet.rollout/1" in told
            continue
        # a fault of several fields together stands where they do: further up
        assert re.match(r"plan\.yaml line \d+: ", told), told
        named = [step for step in place if isinstance(step, str)][-1]
        assert named in told or str(place[0]) in told, told
        right = form(RolloutPlan, place)
        assert right in told or "expected" in told or "not after" in told, told
        assert len(told) < 700, told


@pytest.mark.parametrize(
    "place", [(), ("rate",), ("windows", 0), ("retries",), ("experiment",), ("stages", 0)], ids=str
)
def test_a_key_that_there_is_not_is_named_wherever_it_stands(place: Where) -> None:
    document = _with((*place, "bakes_s"), 1)
    with pytest.raises(FormatInvalid) as refusal:
        parse_plan(json.loads(json.dumps(document)))
    assert "bakes_s" in str(refusal.value)
