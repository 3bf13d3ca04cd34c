"""The messages as CDDL (RFC 8610), written from their types: one place says what a message is.

Only what the types of `messages.py` are made of is known here; a type that is not is an error, so that
a new kind of field cannot be described wrongly.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import EnumType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta

from edge_contracts.fields import Field, fields_of
from edge_contracts.json_schema import pattern_of
from edge_contracts.model import Frozen

_PLAIN = {str: "tstr", int: "int", float: "(int / float)", bool: "bool", bytes: "bstr", type(None): "null"}


def describe(models: Mapping[str, type[Frozen]], comments: Mapping[str, str]) -> str:
    """One rule for each model and for every model that those are made of.

    Args:
        models: By the name of their rule, in the order in which they are written.
        comments: By the name of a rule: a line above it.
    """
    writer = _Writer({model: name for name, model in models.items()})
    for model in models.values():
        writer.rule(model)
    rules = []
    for name, rule in writer.rules.items():
        comment = f"; {comments[name]}\n" if name in comments else ""
        rules.append(f"{comment}{name} = {rule}\n")
    return "\n".join(rules)


class _Writer:
    """The rules so far; a model that a field names gets one before it is used."""

    def __init__(self, names: dict[type, str]) -> None:
        self._names = names
        self.rules: dict[str, str] = {}

    def rule(self, model: type[Frozen]) -> str:
        """The name of a model's rule, which is written if it is not there."""
        name = self._names.setdefault(model, model.__name__)
        if name not in self.rules:
            self.rules[name] = ""  # its place in the order
            lines = [self._member(key, field) for key, field in fields_of(model).items()]
            self.rules[name] = "{\n" + "".join(f"  {line},\n" for line in lines) + "}"
        return name

    def _member(self, key: str, field: Field) -> str:
        # a field with a default may be missing in what is read, except those that say what it is
        mark = "" if field.is_required or get_origin(field.annotation) is Literal else "? "
        return f'{mark}"{key}": {self._type(field.annotation)}'

    def _type(self, annotation: Any, limits: Meta | None = None) -> str:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._type(arguments[0], arguments[1])
        if origin in (Union, types.UnionType):
            return " / ".join(self._type(one) for one in arguments)
        if origin is Literal:
            return " / ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in arguments)
        if origin is tuple and arguments[1:] == (...,):
            return f"[{_occurs(limits)}{self._grouped(arguments[0])}]"
        if origin is Mapping:
            return f"{{ {_occurs(limits)}{self._type(arguments[0])} => {self._grouped(arguments[1])} }}"
        if isinstance(annotation, EnumType):
            return " / ".join(f'"{one.value}"' for one in annotation)  # type: ignore[var-annotated]
        if isinstance(annotation, type) and issubclass(annotation, Frozen):
            return self.rule(annotation)
        if annotation not in _PLAIN:
            raise AssertionError(f"{annotation!r} has no CDDL here")
        return _limited(annotation, limits)

    def _grouped(self, annotation: Any) -> str:
        written = self._type(annotation)
        return f"({written})" if " / " in written and not written.startswith("(") else written


def _limited(plain: type, limits: Meta | None) -> str:
    if plain is int:
        return _integer(limits)
    if plain is bytes:
        return f"bstr .size {_range(limits)}"
    if plain is str and limits is not None and limits.pattern is not None:
        return f'tstr .regexp "{pattern_of(limits).removeprefix("^").removesuffix("$")}"'
    return _PLAIN[plain]  # CDDL counts bytes of text and we count characters: left to the JSON Schema


def _integer(limits: Meta | None) -> str:
    if limits is None:
        return "int"
    low = limits.ge if limits.gt is None else int(limits.gt) + 1
    high = limits.le if limits.lt is None else int(limits.lt) - 1
    if high is not None:
        return f"{low if low is not None else -(1 << 63)}..{high}"
    if low is None:
        return "int"
    return "uint" if low == 0 else f"(int .ge {low})"


def _range(limits: Meta | None) -> str:
    low, high = _lengths(limits)
    if high is None:
        raise AssertionError("a byte string without a greatest length")
    return str(low) if low == high else f"({low}..{high})"


def _occurs(limits: Meta | None) -> str:
    low, high = _lengths(limits)
    return f"{low or ''}*{'' if high is None else high} "


def _lengths(limits: Meta | None) -> tuple[int, int | None]:
    return (0, None) if limits is None else (limits.min_length or 0, limits.max_length)
