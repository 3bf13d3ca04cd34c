"""What is wrong with a plan, on one line: where, what was found, and the right form. Pure.

The right form is the field's own description, so that refusals, schema and template cannot part.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edge_contracts.errors import FormatInvalid
from edge_contracts.model import Frozen, first_fault

T = TypeVar("T", bound=Frozen)
Path = tuple[str | int, ...]


def parse(model: type[T], raw: Any, what: str, lines: Mapping[Path, int]) -> T:
    """Turn a parsed document into a value, or refuse on one line.

    Args:
        what: The document, for the message.
        lines: Line numbers by path, where they are known.

    Raises:
        FormatInvalid: It does not fit.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise FormatInvalid(_told(model, error, what, lines)) from None


def form(model: type[BaseModel], path: Path) -> str:
    """The description of the deepest field on a path that has one, or ""."""
    found = ""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        if field is None:
            break
        found = field.description or found
        current = _model_in(field.annotation)
    return found


def _told(model: type[BaseModel], error: ValidationError, what: str, lines: Mapping[Path, int]) -> str:
    faults = error.errors(include_url=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path: Path = tuple(fault["loc"])
    known = _names_at(model, path[:-1]) if fault["type"] == "extra_forbidden" else []
    line = next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None)
    where = what if line is None else f"{what} line {line}"
    told = f"{where}: {first_fault(error, known)}"
    expected = form(model, path)
    return f"{told}; expected {expected}" if expected and expected not in told else told


def _names_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that a place of the document may have."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, str) and current is not None:
            field = current.model_fields.get(part)
            current = None if field is None else _model_in(field.annotation)
    return [] if current is None else list(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds: itself, optional, or as the items of a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) is None and not isinstance(annotation, types.UnionType):
        return None
    for part in typing.get_args(annotation):
        found = _model_in(part)
        if found is not None:
            return found
    return None
