"""The description of inference over a local broker: whole, and its references lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from edge_contracts.inference_bodies import MEDIA, SCHEMAS
from edge_contracts.inference_topics import ADDRESSES, document


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def found(document: Any, reference: str) -> Any:
    for level in reference.removeprefix("#/").split("/"):
        document = document[level]
    return document


def test_every_reference_leads_to_something() -> None:
    described = document()
    led_to = [found(described, reference) for reference in references(described)]
    assert len(led_to) > 20


def test_every_topic_has_its_reply_and_names_what_its_levels_stand_for() -> None:
    described = document()
    assert set(described["operations"]) == set(ADDRESSES)
    for name, address in ADDRESSES.items():
        channel = described["channels"][name]
        assert channel["address"] == address
        assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", address))
        assert described["channels"][f"{name}Reply"]["address"] == address + "/reply"


def test_every_media_type_of_the_contract_can_be_said_by_a_topic() -> None:
    for kinds in MEDIA.values():
        assert all(re.fullmatch(r"[^/+#]+/[^/+#]+", kind) for kind in kinds)


@pytest.mark.parametrize(
    ("told", "valid"),
    [
        ({"top": [{"class": "cat", "index": 0, "score": 0.5}]}, True),
        ({"boxes": [{"class": "cat", "index": 0, "score": None, "box": [0, 0, 1, 1]}]}, True),
        ({"top": [{"class": 7, "index": 0, "score": 0.5}]}, False),
        ({"top": [{"class": "cat", "index": 0}]}, False),
    ],
)
def test_the_schema_of_an_answer_tells_one_from_what_is_none(told: Any, valid: bool) -> None:
    reply = {"model_name": "m", "model_version": "1", "answers": [told], "uncertain": False}
    reply |= {"confidence": None, "flagged": {}}
    schema = {"$ref": "#/components/schemas/AnswerReply", "components": {"schemas": SCHEMAS}}
    assert jsonschema.Draft202012Validator(schema).is_valid(reply) is valid
