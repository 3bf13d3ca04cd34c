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
    faults = error.errors(include_url=False)
    # a misspelt key is also reported as a missing one: the misspelling is what a person must see
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    where = ".".join(str(part) for part in fault["loc"]) or "the document"
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown key {where!r}{meant(str(fault['loc'][-1]), known, every=False)}{tail}"
    found = fault.get("input")
    shown = "" if isinstance(found, dict | list) or fault["type"] == "missing" else f", found {found!r:.80}"
    told = said(fault)
    return f"{where}: {told}{'' if shown.removeprefix(', found ') in told else shown}{tail}"


def said(fault: Any) -> str:
    """What one fault of pydantic's says, in the words of a document and not of Python."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in ("tuple_type", "list_type"):
        return "Input should be a list"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "Input should be a mapping of fields to values"
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
