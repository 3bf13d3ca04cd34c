"""What is wrong with a plan, on one line: where, what was found, and the right form. Pure.

The right form is the field's own description, so that refusals, schema and template cannot part.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ValidationError

from edge_contracts.errors import FormatInvalid
from edge_fleet.model import Frozen, faults_of, first_fault, said_with_found

T = TypeVar("T", bound=Frozen)
Path = tuple[str | int, ...]


def parse(
    model: type[T], raw: Any, what: str, lines: Mapping[Path, int], context: Mapping[str, Any] = {}
) -> T:
    """Turn a parsed document into a value, or refuse on one line.

    Args:
        what: The document, for the message.
        lines: Line numbers by path, where they are known.
        context: For the model's validators.

    Raises:
        FormatInvalid: It does not fit.
    """
    try:
        found = model.model_validate(raw, context=dict(context))
    except ValidationError as error:
        raise FormatInvalid(_told(model, error, what, lines)) from None
    for fault in _bent(model, raw, lines):
        where = what if fault.line is None else f"{what} line {fault.line}"
        raise FormatInvalid(f"{where}: {fault.field} {fault.told}")
    return found


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Args:
        line: Where, from 1; None where lines are not known.
        field: Its path, such as "stages.1"; "" for the document.
        told: What was found, and what is expected.
    """

    line: int | None
    field: str
    told: str


def every(model: type[BaseModel], raw: Any, lines: Mapping[Path, int]) -> tuple[Fault, ...]:
    """Everything that is wrong with a document, in the order of its lines; nothing when it fits."""
    try:
        model.model_validate(raw)
    except ValidationError as error:
        faults = [_fault(model, one, lines) for one in faults_of(error)]
        # a field that may have several forms is refused once for each: the first says it
        by_field = {fault.field: fault for fault in reversed(faults)}
        return tuple(sorted(by_field.values(), key=lambda one: (one.line or 0, one.field)))
    return tuple(_bent(model, raw, lines))


def _bent(model: type[BaseModel], raw: Any, lines: Mapping[Path, int]) -> Iterator[Fault]:
    """What pydantic takes for something else: true for 1, a number for a time. It was not meant so."""
    for path, value in _values(raw):
        kinds = _kinds_at(model, path)
        is_bent = kinds and bool not in kinds if isinstance(value, bool) else AwareDatetime in kinds
        if is_bent and isinstance(value, bool | int | float):
            told = f"is {json.dumps(value)}; expected {form(model, path)}"
            yield Fault(_line(path, lines), ".".join(map(str, path)), told)


def _values(raw: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What a document holds, besides lists and mappings, and where."""
    if isinstance(raw, dict):
        for name, inner in raw.items():
            yield from _values(inner, (*at, name))
    elif isinstance(raw, list | tuple):
        for index, inner in enumerate(raw):
            yield from _values(inner, (*at, index))
    else:
        yield at, raw


def _kinds_at(model: type[BaseModel], path: Path) -> set[Any]:
    """The types that the field at a place of the document may have; none where there is no field."""
    current: type[BaseModel] | None = model
    annotation: Any = None
    for part in path:
        if current is None or isinstance(part, int) or part not in current.model_fields:
            continue  # an item of a list, or a name in a mapping
        annotation = current.model_fields[part].annotation
        current = _model_in(annotation)
    return set(_leaves(annotation)) if current is None and annotation is not None else set()


def _leaves(annotation: Any) -> Iterator[Any]:
    parts = typing.get_args(annotation)
    if not parts or typing.get_origin(annotation) is typing.Literal:
        yield annotation
        return
    for part in parts:
        yield from _leaves(part)


def _fault(model: type[BaseModel], fault: Any, lines: Mapping[Path, int]) -> Fault:
    path: Path = tuple(fault["loc"])
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), _names_at(model, path[:-1]), n=1, cutoff=0.5)
        told = "there is no such field" + (f"; did you mean {near[0]!r}?" if near else "")
    else:
        told = said_with_found(fault)
        expected = form(model, path)
        told = _without_pattern(told, fault, expected)
        told += f"; expected {expected}" if expected and expected not in told else ""
    # pydantic adds the names of alternatives; what the document has is what a person looks for
    known = tuple(part for end, part in enumerate(path, 1) if end == 1 or path[:end] in lines)
    return Fault(_line(path, lines), ".".join(str(part) for part in known), told)


def _line(path: Path, lines: Mapping[Path, int]) -> int | None:
    return next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None)


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
    faults = faults_of(error)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path: Path = tuple(fault["loc"])
    known = _names_at(model, path[:-1]) if fault["type"] == "extra_forbidden" else []
    line = _line(path, lines)
    where = what if line is None else f"{what} line {line}"
    expected = form(model, path)
    told = f"{where}: {_without_pattern(first_fault(error, known), fault, expected)}"
    return f"{told}; expected {expected}" if expected and expected not in told else told


def _without_pattern(told: str, fault: Any, expected: str) -> str:
    """Leave a regular expression out where the right form is said in words."""
    is_pattern = fault["type"] == "string_pattern_mismatch" and bool(expected)
    return told.replace(fault["msg"], "Input is not of the right form") if is_pattern else told


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
