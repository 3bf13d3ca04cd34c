"""What the types of fields are, for those that describe or explain them: nothing here runs on a device
whose documents are right."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    from edge_contracts.faults import Path
    from edge_contracts.model import Frozen

REQUIRED = msgspec.NODEFAULT
ANY_KEY = "*"  # msgspec does not say which key of a mapping


@dataclass(frozen=True)
class Field:
    """One field of a model.

    Args:
        annotation: Its type, with its limits.
        default: `REQUIRED` where there is none.
        is_made: Whether the default is made anew each time.
    """

    name: str
    annotation: Any
    default: Any
    is_made: bool = False

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED

    @property
    def bare(self) -> Any:
        """Its type without its limits."""
        return get_args(self.annotation)[0] if get_origin(self.annotation) is Annotated else self.annotation


@cache
def fields_of(model: type[Frozen]) -> dict[str, Field]:
    """The fields of a model by name, in the order in which they are stated."""
    hints = get_type_hints(model, include_extras=True)
    stated = {field.name: field for field in msgspec.structs.fields(model)}
    found: dict[str, Field] = {}
    for name in model._stated:
        if name not in stated:  # the tag
            found[name] = Field(name, Literal[model.kind], model.kind)  # type: ignore[attr-defined]
            continue
        default, make = stated[name].default, stated[name].default_factory
        is_made = getattr(make, "is_made", False)
        found[name] = Field(name, hints[name], default if make is REQUIRED else make(), is_made)
    return found


def values_at(model: type, path: Path) -> list[str]:
    """What may stand at a place of a document: the values of enums and literals, as one writes them."""
    kinds = [part for kind in _kinds_at(model, path) for part in _parts(kind)]
    return list(dict.fromkeys(value for kind in kinds for value in _values(kind))) or ["something else"]


def wrong_key(model: type, path: Path, mapping: Mapping[Any, Any]) -> Any:
    """The first key of a mapping, whose values have the type at a path, with a value that does not fit."""
    for kind in _kinds_at(model, path):
        for key, value in mapping.items():
            try:
                msgspec.convert(value, kind, str_keys=True)
            except msgspec.ValidationError:
                return key
    return ANY_KEY


def _kinds_at(model: type, path: Path) -> list[Any]:
    kinds: list[Any] = [model]
    for step in path:
        kinds = [inner for kind in kinds for inner in _inside(kind, step)]
    return kinds


def _parts(kind: Any) -> Iterator[Any]:
    """The members of a union, without their limits."""
    if get_origin(kind) is Annotated:
        yield from _parts(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for one in get_args(kind):
            yield from _parts(one)
    else:
        yield kind


def _inside(kind: Any, step: str | int) -> Iterator[Any]:
    from edge_contracts.model import Frozen

    for one in _parts(kind):
        arguments = get_args(one)
        if isinstance(one, type) and issubclass(one, Frozen):
            if step in fields_of(one):
                yield fields_of(one)[str(step)].annotation
        elif get_origin(one) is tuple and isinstance(step, int):
            yield arguments[0] if arguments[1:] == (...,) else arguments[step]
        elif get_origin(one) in (Mapping, dict):
            yield arguments[1]


def _values(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from (repr(value) for value in get_args(kind))
    elif isinstance(kind, enum.EnumType):
        yield from (repr(one.value) for one in kind)  # type: ignore[var-annotated]
