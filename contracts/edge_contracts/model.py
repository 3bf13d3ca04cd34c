"""The base of everything that crosses a boundary: frozen pydantic models that forbid unknown fields."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edge_contracts.errors import FormatInvalid, FormatTooNew
from edge_contracts.nearest import meant

# Identifiers become MQTT topic levels, NATS subjects, file and user names: nothing else is safe in all.
ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
Identifier = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
VersionName = Annotated[str, StringConstraints(pattern=VERSION_PATTERN)]


class Frozen(BaseModel):
    """A value with stated fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def later(default: Any) -> Any:
    """A field that came after documents of the same format version had been written.

    It is optional, and left out of the written form at its default: the documents of before keep
    their one canonical form, and so their digest, which is what names a bundle.
    """
    if (
        default == {}
    ):  # pydantic copies a default that can be changed, at a microsecond for each field of each record
        extra: dict[str, Any] = {"default": {}}  # for the schema all the same
        return Field(default_factory=dict, exclude_if=lambda value: value == {}, json_schema_extra=extra)
    return Field(default=default, exclude_if=lambda value: value == default)


T = TypeVar("T", bound=Frozen)


def first_fault(error: ValidationError, known: list[str] | None = None) -> str:
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
        return f"unknown key {where!r}{meant(str(fault['loc'][-1]), known or [], every=False)}{tail}"
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


def parse_json(model: type[T], content: bytes, what: str, format_name: str | None = None) -> T:
    """Turn JSON bytes into a value, or refuse on one line.

    Args:
        what: What it is, for the message ("manifest.json").
        format_name: Expected value of the field `format`, such as "edgefleet.manifest/1".

    Raises:
        FormatInvalid: It does not parse or does not fit.
        FormatTooNew: It states another version of the same format.
    """
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatInvalid(f"{what} is not JSON: {error}") from None
    if format_name is not None:
        require_format(raw, format_name, what)
    return parse_object(model, raw, what)


def require_format(raw: Any, format_name: str, what: str) -> None:
    """Check the field `format` of a parsed document before anything else of it is believed."""
    found = raw.get("format") if isinstance(raw, dict) else None
    if found == format_name:
        return
    family = format_name.split("/")[0]
    if isinstance(found, str) and found.split("/")[0] == family:
        raise FormatTooNew(
            f"{what} has format {found!r}, this release reads {format_name!r}; update edgefleet"
        )
    raise FormatInvalid(f"{what} has format {found!r}, expected {format_name!r}")


def parse_object(model: type[T], raw: Any, what: str) -> T:
    """Turn a parsed document into a value, or refuse on one line."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        known = [name for name in model.model_fields]
        raise FormatInvalid(f"{what}: {first_fault(error, known)}") from None


def canonical_json(value: Frozen | dict[str, Any]) -> bytes:
    """The one JSON form of a value: sorted keys, no spaces, UTF-8, one newline at the end."""
    raw = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"
