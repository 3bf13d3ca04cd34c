"""Why a document does not fit its type, on one line: where, what was found, what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from edge_contracts.nearest import meant

_AT = re.compile(r"(?P<said>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_GOT = re.compile(r", got `?([^`]*)`?$")
_NAMED = {
    "int": "an integer", "float": "a number", "str": "text", "bool": "true or false", "array": "a list",
    "object": "a mapping", "bytes": "bytes", "null": "nothing",
}  # fmt: skip
Path = tuple[str | int, ...]


class ValidationError(ValueError):
    """A value does not fit its type.

    Args:
        said: What msgspec says, or one of our own checks.
        raw: The document.
        model: The type that it should have had.

    Attributes:
        path: Where.
        unknown: The key that there is not, or None.
    """

    def __init__(self, said: str, raw: Any, model: type) -> None:
        """Take apart what msgspec says."""
        found = _AT.fullmatch(said)
        text, path = (found["said"], found["path"] or "") if found is not None else (said, "")
        steps = [name or _number(index) for name, index in _STEP.findall(path)]
        _name_keys(steps, raw, model)
        self.unknown: str | None = None
        shown = ""
        if unknown := _UNKNOWN.fullmatch(text):
            self.unknown = unknown[1]
            steps.append(unknown[1])
            self.told = "there is no such key"
        elif missing := _MISSING.fullmatch(text):
            steps.append(missing[1])
            self.told = "is missing"
        else:
            shown = "" if found is not None and found["key"] else _shown(raw, steps)
            self.told = _expected(text, model, tuple(steps))
            shown = shown if self.told is not text or text.startswith("Expected") else ""
        self.path: Path = tuple(steps)
        self.found = shown
        super().__init__(self.line())

    def line(self, known: Iterable[str] = ()) -> str:
        """On one line.

        Args:
            known: Names to search for the nearest one when a key is unknown.
        """
        where = ".".join(str(part) for part in self.path) or "the document"
        if self.unknown is not None:
            return f"unknown key {where!r}{meant(self.unknown, known, every=False)}"
        return f"{where}: {self.told}{self.found}"


def first_fault(error: ValidationError, known: Iterable[str] = ()) -> str:
    """The first fault of a validation, on one line.

    Args:
        known: Names to search for the nearest one when a key is unknown.
    """
    return error.line(known)


def _number(index: str) -> str | int:
    return int(index) if index.isdigit() else "*"


def _name_keys(steps: list[str | int], raw: Any, model: type) -> None:
    """Put the keys of mappings into a path, which msgspec leaves out."""
    for place, step in enumerate(steps):
        if step == "*" and isinstance(raw, dict):
            from edge_contracts.fields import wrong_key  # only for a fault

            steps[place] = step = wrong_key(model, (*steps[:place], step), raw)
        try:
            raw = _within(raw, step)
        except (LookupError, TypeError, AttributeError):
            return


def _shown(raw: Any, steps: list[str | int]) -> str:
    """What a document holds at a place, as a part of a line; nothing where it cannot be told."""
    for step in steps:
        try:
            raw = _within(raw, step)
        except (LookupError, TypeError, AttributeError):
            return ""
    return "" if isinstance(raw, dict | list | tuple) else f", found {raw!r:.80}"


def _within(raw: Any, step: str | int) -> Any:
    return raw[step] if isinstance(raw, dict) or isinstance(step, int) else getattr(raw, step)


def _expected(text: str, model: type, path: Path) -> str:
    """What was expected, in our words; what our own checks say as it is."""
    if text.startswith("Invalid "):
        from edge_contracts.fields import values_at  # only for a fault

        return f"expected {_either(values_at(model, path))}"
    if not text.startswith("Expected `"):
        return text
    kind, _, limit = text.removeprefix("Expected `").partition("`")
    names = [_NAMED.get(name, name) for name in kind.split(" | ")]
    limit = _GOT.sub("", limit)
    if "e+308" in limit:
        names, limit = ["a finite number"], ""
    if " matching regex " in limit:
        limit = " matching " + limit.removeprefix(" matching regex ").strip("'").replace("\\\\", "\\")
        limit = limit.removesuffix("\\Z") + "$" if limit.endswith("\\Z") else limit
    return f"expected {' or '.join(names)}{limit}"


def _either(values: Iterable[str]) -> str:
    *most, last = values
    return f"{', '.join(most)} or {last}" if most else last
