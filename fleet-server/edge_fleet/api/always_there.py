"""Fields of answers that are always there: all of a dataclass and of a model, whatever their defaults.

JSON Schema from types calls a field with a default one that may be left out: so it is in a request. In an
answer it is written, and a client need not ask whether it is. Of a TypedDict the type itself says it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from typing_extensions import is_typeddict


def require_what_is_always_there(schemas: dict[str, Any], answers: Iterable[Any]) -> None:
    """Mark them in the schemas.

    Args:
        answers: The types of the routes' answers.
    """
    there = {(kind.__name__, frozenset(fields)): fields for kind, fields in _kinds(answers, set())}
    for schema in schemas.values():
        fields = there.get((schema.get("title"), frozenset(schema.get("properties", ()))))
        if fields is not None:
            schema["required"] = [field for field, is_there in fields.items() if is_there]


def _kinds(answers: Iterable[Any], met: set[Any]) -> Iterator[tuple[type, dict[str, bool]]]:
    """Dataclasses and models that types are made of, with their fields and whether each is always there."""
    for kind in answers:
        if not isinstance(kind, type):
            yield from _kinds(typing.get_args(kind), met)
        elif kind not in met:
            met.add(kind)
            hints = list[Any]()
            if dataclasses.is_dataclass(kind):
                yield kind, {field.name: True for field in dataclasses.fields(kind)}
                hints = list(typing.get_type_hints(kind).values())
            elif issubclass(kind, BaseModel):
                yield kind, {name: field.exclude_if is None for name, field in kind.model_fields.items()}
                hints = [field.annotation for field in kind.model_fields.values()]
            elif is_typeddict(kind):
                hints = list(typing.get_type_hints(kind).values())
            yield from _kinds([*hints, *typing.get_args(kind)], met)
