"""Contracts as JSON Schema (2020-12), written from their types.

Only what contracts are made of is known here; a type that is not is an error, so that a new kind of field
cannot be described wrongly. Byte strings are in hex: `describe.as_json`.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Mapping
from enum import EnumType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from edge_contracts.fields import Field, fields_of
from edge_contracts.model import GREATEST, Frozen

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_REFERENCE = "#/$defs/"


def definitions(models: Iterable[type[Frozen]]) -> dict[str, Any]:
    """The schemas of some models, and of all that they are made of, by name."""
    writer = _Writer()
    for model in models:
        writer.type_of(model)
    return dict(sorted(writer.found.items()))


def inlined(model: type[Frozen]) -> dict[str, Any]:
    """The schema of a model with those that it is made of in their places."""
    found = definitions([model])
    whole = _inline(found[model.__name__], found)
    assert isinstance(whole, dict)
    return whole


def _inline(part: Any, found: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inline(one, found) for one in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    rest = {name: _inline(one, found) for name, one in part.items() if name != "$ref"}
    if not isinstance(reference, str):
        return rest
    return _inline(found[reference.removeprefix(_REFERENCE)], found) | rest


class _Writer:
    """The definitions so far."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def type_of(self, annotation: Any, limits: msgspec.Meta | None = None) -> dict[str, Any]:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self.type_of(arguments[0], arguments[1])
        if origin in (Union, types.UnionType):
            parts = [self.type_of(one) for one in arguments]
            models = [part for part in parts if "$ref" in part]
            if len(models) < 2:
                return {"anyOf": parts}
            others = [part for part in parts if part not in models]
            return {"anyOf": [{"oneOf": models}, *others]} if others else {"oneOf": models}
        if origin is Literal:
            kind = _PLAIN[type(arguments[0])]
            said = {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
            return said | {"type": kind}
        if origin is tuple:
            return {"type": "array", **self._items(arguments), **_lengths(limits, "Items")}
        if origin in (Mapping, dict):
            return {"type": "object", **self._pairs(*arguments), **_lengths(limits, "Properties")}
        if isinstance(annotation, EnumType):
            values = [one.value for one in annotation]  # type: ignore[var-annotated]
            self.found[annotation.__name__] = {
                "description": inspect.cleandoc(str(annotation.__doc__)),
                "enum": values,
                "title": annotation.__name__,
                "type": "string",
            }
            return {"$ref": _REFERENCE + annotation.__name__}
        if isinstance(annotation, type) and issubclass(annotation, Frozen):
            return self._model(annotation)
        if annotation is bytes:
            return {"type": "string", "pattern": _hex(limits)}
        if annotation not in _PLAIN:
            raise AssertionError(f"{annotation!r} has no JSON Schema here")
        return {"type": _PLAIN[annotation], **_limits(limits), **_lengths(limits, "Length")}

    def _model(self, model: type[Frozen]) -> dict[str, Any]:
        name = model.__name__
        if name not in self.found:
            self.found[name] = {}
            fields = fields_of(model).values()
            required = [field.name for field in fields if field.is_required]
            self.found[name] = {
                "additionalProperties": False,
                "description": inspect.cleandoc(str(model.__doc__)),
                "properties": {field.name: self._field(field) for field in fields},
                **({"required": required} if required else {}),
                "title": name,
                "type": "object",
            }
        return {"$ref": _REFERENCE + name}

    def _field(self, field: Field) -> dict[str, Any]:
        found = dict(self.type_of(field.annotation))
        if not field.is_required and not field.is_made:
            found["default"] = msgspec.to_builtins(field.default, str_keys=True)
        if "$ref" not in found and not any("$ref" in part for part in found.get("anyOf", ())):
            found["title"] = field.name.replace("_", " ").title()
        return found

    def _items(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if arguments[1:] == (...,):
            return {"items": self.type_of(arguments[0])}
        size = len(arguments)
        return {"prefixItems": [self.type_of(one) for one in arguments], "minItems": size, "maxItems": size}

    def _pairs(self, key: Any, value: Any) -> dict[str, Any]:
        names = self.type_of(key)
        names.pop("type", None)  # every key of JSON is a string
        return {"additionalProperties": self.type_of(value), **({"propertyNames": names} if names else {})}


def _limits(limits: msgspec.Meta | None) -> dict[str, Any]:
    if limits is None:
        return {}
    stated = {
        "minimum": limits.ge,
        "exclusiveMinimum": limits.gt,
        "maximum": limits.le,
        "exclusiveMaximum": limits.lt,
        "pattern": None if limits.pattern is None else pattern_of(limits),
    }
    # JSON has no number that is not finite
    return {name: one for name, one in stated.items() if one is not None and one not in (GREATEST, -GREATEST)}


def pattern_of(limits: msgspec.Meta) -> str:
    r"""A pattern of `model.matching` as everybody else writes it: with $ for Python's \Z."""
    return str(limits.pattern).removesuffix(r"\Z") + "$"


def _lengths(limits: msgspec.Meta | None, of: str) -> dict[str, Any]:
    if limits is None:
        return {}
    stated = {f"min{of}": limits.min_length, f"max{of}": limits.max_length}
    return {name: one for name, one in stated.items() if one is not None}


def _hex(limits: msgspec.Meta | None) -> str:
    low, high = (0, None) if limits is None else (limits.min_length or 0, limits.max_length)
    most = "" if high is None else str(2 * high)
    return f"^[0-9a-f]{{{2 * low},{most}}}$"
