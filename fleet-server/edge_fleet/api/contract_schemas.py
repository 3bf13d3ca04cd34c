"""The schemas of contracts among those of `/openapi.json`: each once, by its name, and open.

A device refuses a field that it does not know. Who reads an answer of the API should not: a server that is
updated before its client has more to say.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from edge_contracts import json_schema
from edge_contracts.model import Frozen
from edge_fleet.written import MARK

_THERE = "#/$defs/"
_HERE = "#/components/schemas/"


def name_contracts(document: dict[str, Any]) -> None:
    """Put a reference wherever a contract is meant, and what it refers to among the components."""
    met: dict[str, type[Frozen]] = {}
    named = _named(document, met)
    document.clear()
    document.update(named)
    found = json_schema.definitions(met.values())
    document["components"]["schemas"].update({name: _opened(one) for name, one in found.items()})


def _named(part: Any, met: dict[str, type[Frozen]]) -> Any:
    if isinstance(part, list):
        return [_named(one, met) for one in part]
    if not isinstance(part, dict):
        return part
    mark = part.get(MARK)
    if isinstance(mark, str):
        kind = resolve_name(mark)
        met[kind.__name__] = kind
        return {"$ref": _HERE + kind.__name__}
    return {name: _named(one, met) for name, one in part.items()}


def _opened(part: Any) -> Any:
    if isinstance(part, list):
        return [_opened(one) for one in part]
    if not isinstance(part, dict):
        return part
    kept = {name: _opened(one) for name, one in part.items()}
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    reference = kept.get("$ref")
    if isinstance(reference, str):
        kept["$ref"] = reference.replace(_THERE, _HERE)
    return kept
