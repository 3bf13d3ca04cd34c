"""The base of what only the server reads: bodies of its API, plans, settings. Pydantic's, as FastAPI's are.

What devices and converter see too is `edge_contracts.model`'s; it may be a part of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edge_contracts import digest, messages, model
from edge_contracts.errors import FormatInvalid
from edge_contracts.nearest import meant

# The contracts' texts for pydantic, which does not know msgspec's limits.
Identifier = Annotated[str, StringConstraints(pattern=model.ID_PATTERN)]
Digest = Annotated[str, StringConstraints(pattern=digest.DIGEST_PATTERN)]
Epoch = Annotated[str, StringConstraints(pattern=messages.EPOCH_PATTERN)]

Instant = Annotated[int, Field(description="Unix milliseconds of the server's clock")]


class Frozen(BaseModel):
    """A value with stated fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def later(default: Any) -> Any:
    """A field that came after documents had been written; as `edge_contracts.model.later`."""
    return Field(default=default, exclude_if=lambda value: value == default)


T = TypeVar("T", bound=Frozen)


def first_fault(error: ValidationError, known: Iterable[str] = ()) -> str:
    """The first fault of a validation, on one line: where, what was found, what was expected.

    Args:
        known: Names to search for the nearest one when a key is unknown.
    """
    faults = faults_of(error)
    # a misspelt key is also reported as a missing one: the misspelling is what a person must see
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    where = ".".join(str(part) for part in fault["loc"]) or "the document"
    more = len(faults) - 1
    tail = f" (and {more} more)" if more else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown key {where!r}{meant(str(fault['loc'][-1]), known, every=False)}{tail}"
    return f"{where}: {said_with_found(fault)}{tail}"


def faults_of(error: ValidationError) -> list[Any]:
    """The faults of a validation but for what follows from others: a list of wrong items is not short."""
    found = error.errors(include_url=False)
    inside = {fault["loc"][:end] for fault in found for end in range(len(fault["loc"]))}
    return [fault for fault in found if fault["type"] != "too_short" or fault["loc"] not in inside]


def said_with_found(fault: Any) -> str:
    """What one fault says, and what was found instead, once."""
    told = said(fault)
    if fault["type"] in ("missing", "too_short", "too_long"):
        return told
    found = fault.get("input")
    if isinstance(found, dict | list | tuple):
        # what a check of our own says of a list or a mapping names what it found in it
        is_bare = fault["type"].endswith(("_type", "_parsing")) or fault["type"] in ("enum", "literal_error")
        return f"{told}, found a {'mapping' if isinstance(found, dict) else 'list'}" if is_bare else told
    shown = as_written(found)
    return told if shown in told else f"{told}, found {shown}"


def as_written(value: Any) -> str:
    """A single value as documents write it, not as Python does; cut after 80 characters."""
    if value is None or isinstance(value, bool):
        return {None: "nothing (null)", True: "true", False: "false"}[value]
    return f"{value!r:.80}"


_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "datetime_type": "a time",
    "datetime_parsing": "a time",
    "datetime_from_date_parsing": "a time",
    "timezone_aware": "a time with its offset from UTC",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a mapping of fields to values",
    "dict_type": "a mapping of fields to values",
    "model_attributes_type": "a mapping of fields to values",
}


def said(fault: Any) -> str:
    """What one fault of pydantic's says, in the words of a document and not of Python."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _KINDS:
        return f"Input should be {_KINDS[kind]}"
    if kind == "missing":
        return "it is missing"
    if kind == "too_short":
        return f"Input should have {context['min_length']} or more items, not {context['actual_length']}"
    if kind == "too_long":
        return f"Input should have {context['max_length']} items at most"
    return str(fault["msg"]).removeprefix("Value error, ")  # pydantic marks what our own checks say


def parse_json(kind: type[T], content: bytes, what: str, format_name: str | None = None) -> T:
    """Turn JSON bytes into a value, or refuse on one line; as `edge_contracts.model.parse_json`."""
    return parse_object(kind, model.read_json(content, what, format_name), what)


def parse_object(kind: type[T], raw: Any, what: str) -> T:
    """Turn a parsed document into a value, or refuse on one line.

    Raises:
        FormatInvalid: It does not fit.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise FormatInvalid(f"{what}: {first_fault(error, kind.model_fields)}") from None
