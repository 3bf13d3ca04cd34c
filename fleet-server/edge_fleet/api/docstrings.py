"""What `/openapi.json` says of fields: the `Args:` of the classes that the types are. Pure.

Args:
    began_ms: When the order was stored.
    back, back_s: Of several fields at once; a line that goes on is indented once more.
"""

from __future__ import annotations

import re
from typing import Any

_FIELDS = re.compile(r"^Args:\n", re.MULTILINE)
_FIELD = re.compile(r"^ {4}(\w+(?:, \w+)*): ")


def split(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the whole, and of each field."""
    whole, *rest = _FIELDS.split(text, maxsplit=1)
    said: dict[str, str] = {}
    names: list[str] = []
    for line in rest[0].splitlines() if rest else ():
        if not line.strip():
            break
        found = _FIELD.match(line)
        if found is not None:
            names = found[1].split(", ")
            said |= dict.fromkeys(names, line[found.end() :].strip())
        else:
            said |= {name: f"{said[name]} {line.strip()}" for name in names}
    return whole.strip(), said


def describe(schema: Any) -> None:
    """Move what descriptions of objects say of their fields to these, where nothing is said yet."""
    if isinstance(schema, list):
        for part in schema:
            describe(part)
    elif isinstance(schema, dict):
        for part in schema.values():
            describe(part)
        if schema.get("type") == "object" and "properties" in schema:
            _describe(schema)


def _describe(schema: dict[str, Any]) -> None:
    whole, said = split(schema.get("description", ""))
    if whole:
        schema["description"] = whole
    for name, text in said.items():
        field = schema["properties"].get(name)
        if field is not None:
            field.setdefault("description", text)
