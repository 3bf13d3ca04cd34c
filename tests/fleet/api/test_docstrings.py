"""What classes say of their fields is what the document says of them."""

from __future__ import annotations

from typing import Any

from edge_fleet.api.docstrings import describe, split

TEXT = """A way back.

It may take long.

Args:
    began_ms: When the order was stored,
        and not when it was given.
    back, back_s: Of several fields.
"""


def test_a_docstring_is_split_into_what_it_says_of_the_whole_and_of_each_field() -> None:
    whole, said = split(TEXT)
    assert whole == "A way back.\n\nIt may take long."
    assert said == {
        "began_ms": "When the order was stored, and not when it was given.",
        "back": "Of several fields.",
        "back_s": "Of several fields.",
    }
    assert split("One line.") == ("One line.", {})


def test_fields_get_what_is_said_of_them_unless_more_is_said_already() -> None:
    inner: dict[str, Any] = {"type": "object", "description": TEXT, "properties": {"back": {}}}
    schema: dict[str, Any] = {
        "type": "object",
        "description": "Outer.\n\nArgs:\n    one: First.\n    two: Second.\n    gone: Third.\n",
        "properties": {"one": {"type": "array", "items": inner}, "two": {"description": "Better."}},
    }
    describe([schema])
    assert schema["description"] == "Outer."
    assert schema["properties"]["one"]["description"] == "First."
    assert schema["properties"]["two"]["description"] == "Better."
    assert set(schema["properties"]) == {"one", "two"}
    assert inner["properties"]["back"]["description"] == "Of several fields."


def test_a_field_that_is_called_properties_is_a_field() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"properties": {"type": "object"}, "type": {}}}
    describe(schema)
    assert schema == {"type": "object", "properties": {"properties": {"type": "object"}, "type": {}}}
