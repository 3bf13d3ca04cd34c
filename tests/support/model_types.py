"""What the types of models may not be, for the tests that look at all of them."""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from enum import EnumType
from typing import Annotated, Any, Literal

import msgspec

from edge_contracts.fields import fields_of
from edge_contracts.model import Frozen

_BRIDGE = "edge_contracts.for_pydantic"


def models_of(package: types.ModuleType) -> list[type[Frozen]]:
    """Every model of a package."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name != _BRIDGE and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    waiting, models = list(Frozen.__subclasses__()), []
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith(f"{package.__name__}."):
            models.append(kind)
    return models


def faults_of(model: type[Frozen]) -> list[str]:
    """What is wrong with the types of a model's fields."""
    return [
        f"{model.__name__}.{field.name}: {fault}"
        for field in fields_of(model).values()
        for fault in _faults(field.annotation)
    ]


def _faults(annotation: Any, limits: Any = None) -> Iterator[str]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from _faults(arguments[0], arguments[1])
        return
    if annotation is float and not _is_bounded(limits):
        yield "a number without bounds may be infinite"
    if origin in (typing.Union, types.UnionType) and sum(map(_is_text, arguments)) > 1:
        yield "of two kinds of text msgspec holds all to the limits of one"
    if origin is not Literal:
        for inner in arguments:
            yield from _faults(inner)


def _is_bounded(limits: Any) -> bool:
    if not isinstance(limits, msgspec.Meta):
        return False
    return (limits.ge, limits.gt) != (None, None) and (limits.le, limits.lt) != (None, None)


def _is_text(annotation: Any) -> bool:
    if typing.get_origin(annotation) is Annotated:
        return _is_text(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is Literal:
        return any(isinstance(one, str) for one in typing.get_args(annotation))
    return annotation is str or isinstance(annotation, EnumType)
