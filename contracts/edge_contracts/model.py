"""The base of everything that crosses a boundary: frozen values that forbid unknown fields.

They are msgspec's structs: a device that holds them needs 11 MiB less than with pydantic's models
(`docs/decisions/0078-msgspec.md`). Those of server and converter that are made of them may be pydantic's.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypeVar, cast, dataclass_transform

import msgspec
from msgspec import Meta

from edge_contracts.errors import FormatInvalid, FormatTooNew
from edge_contracts.faults import ValidationError, first_fault
from edge_contracts.first_look import ready

if TYPE_CHECKING:
    from edge_contracts.fields import Field

# The greatest float: with it as a bound, neither infinity nor what is not a number is taken (IEEE 754).
GREATEST = 1.7976931348623157e308
Finite = Annotated[float, Meta(ge=-GREATEST, le=GREATEST)]
Positive = Annotated[float, Meta(gt=0, le=GREATEST)]
NotNegative = Annotated[float, Meta(ge=0, le=GREATEST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


def matching(pattern: str) -> Meta:
    r"""Text that a pattern of the form ^...$ describes, where $ is the end and nothing else.

    To Python's `re` a line break may follow `$`; `\Z` is what RFC 9485 and everybody else mean by it.
    """
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise AssertionError(f"{pattern!r} does not say where text begins and ends")
    return Meta(pattern=pattern[:-1] + r"\Z")


# Identifiers become MQTT topic levels, NATS subjects, file and user names: nothing else is safe in all.
ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
Identifier = Annotated[str, matching(ID_PATTERN)]
IdentifierOrEmpty = Annotated[str, matching(r"^[A-Za-z0-9_-]{0,64}$")]  # "" for none
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
VersionName = Annotated[str, matching(VERSION_PATTERN)]

_ONE_KIND = re.compile(r"""Literal\[["']([^"']+)["']\]""")
_BYTES = (bytes,)  # stay what they are: CBOR has them; in JSON they are base64


class _Later:
    """The default of a field that is left out of the written form at it."""

    def __init__(self, value: Any) -> None:
        if not (isinstance(value, dict) and not value) and value not in _SAME:
            raise AssertionError(f"{value!r} may be another object when it is read: it would be written")
        self.value = value


# Equal ones of these are one object, by which msgspec knows a default; an empty dict it knows anyhow.
_SAME: tuple[Any, ...] = (None, False, True, 0, 1, "", ())


def later(default: Any) -> Any:
    """A field that came after documents of the same format version had been written.

    It is optional, and left out of the written form at its default: the documents of before keep
    their one canonical form, and so their digest, which is what names a bundle.
    """
    return _Later(default)


class _Always:
    """A default that is written all the same: msgspec leaves out only those that it knows."""

    def __init__(self, make: Any, value: Any = None) -> None:
        self._make, self._value = make, value

    @property
    def is_made(self) -> bool:
        """Whether each is another object."""
        return self._make is not None

    def __call__(self) -> Any:
        return self._make() if self._make is not None else self._value


class _Kind(msgspec.StructMeta):
    """Makes structs that are checked however they are made.

    A field `kind: Literal["x"]` becomes the tag by which a union knows its members; its value is that of
    the class. msgspec checks what it decodes and not what is given to a constructor; here both are.
    """

    _stated: tuple[str, ...]  # names in the order of the source, `kind` among them

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        **options: Any,
    ) -> Any:
        annotations = namespace.get("__annotations__", {})
        order = tuple(annotations)
        found = _ONE_KIND.fullmatch(str(annotations.get("kind", "")))
        if found is not None:
            annotations.pop("kind")
            namespace["kind"] = found[1]
            options |= {"tag_field": "kind", "tag": found[1]}
        for field in annotations:
            if field in namespace:
                namespace[field] = _default(namespace[field])
        made = super().__new__(mcs, name, bases, namespace, kw_only=True, **options)
        made._stated = tuple(dict.fromkeys((*(name for base in bases for name in _stated(base)), *order)))
        return made

    if not TYPE_CHECKING:

        def __call__(cls, /, **fields: Any) -> Any:
            return cls.model_validate(fields)

    @property
    def model_fields(cls) -> dict[str, Field]:
        """The fields by name, in the order in which they are stated."""
        from edge_contracts.fields import fields_of  # nobody asks on a device that runs

        return fields_of(cast("type[Frozen]", cls))


def _stated(kind: type) -> tuple[str, ...]:
    found: tuple[str, ...] = getattr(kind, "_stated", ())
    return found


def _default(given: Any) -> Any:
    if isinstance(given, _Later):
        return {} if isinstance(given.value, dict) else given.value
    make = getattr(given, "default_factory", msgspec.UNSET)
    if make is msgspec.UNSET:  # not of msgspec.field
        return msgspec.field(default_factory=_Always(None, given))
    return msgspec.field(default_factory=_Always(make))


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Frozen(msgspec.Struct, metaclass=_Kind, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value with stated fields and no others."""

    @classmethod
    def model_validate(cls, raw: Any) -> Self:
        """A value from a parsed document, or from the values of its fields.

        Raises:
            ValidationError: It does not fit.
        """
        ready(cls)
        try:
            return msgspec.convert(raw, cls, str_keys=True)
        except msgspec.ValidationError as error:
            refused = error
        plain = _plain(raw)
        if plain is not raw:
            try:
                return msgspec.convert(plain, cls, str_keys=True)
            except msgspec.ValidationError as error:
                refused = error
        raise ValidationError(str(refused), raw, cls) from None

    @classmethod
    def model_validate_json(cls, content: bytes | str) -> Self:
        """A value from JSON; raises as `model_validate`."""
        ready(cls)
        try:
            return msgspec.json.decode(content, type=cls)
        except msgspec.ValidationError as error:
            raise ValidationError(str(error), json.loads(content), cls) from None
        except msgspec.DecodeError as error:
            raise ValidationError(f"it is not JSON: {error}", None, cls) from None

    def model_dump(
        self,
        mode: str = "python",
        include: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """The fields in plain Python: the inverse of `model_validate`.

        Args:
            mode: "python", or "json": as JSON would give it back.
            include, exclude: Names of fields.
            exclude_none: Leave out what is None, at every depth.
        """
        if mode == "json":
            whole = msgspec.json.decode(msgspec.json.encode(self))
        else:
            whole = msgspec.to_builtins(self, builtin_types=_BYTES)
        wanted = whole.keys() if include is None else include
        found = {name: value for name, value in whole.items() if name in wanted and name not in exclude}
        return cast("dict[str, Any]", _without_none(found)) if exclude_none else found

    def model_dump_json(self) -> str:
        """The fields as JSON: the inverse of `model_validate_json`."""
        return msgspec.json.encode(self).decode()

    def model_copy(self, update: Mapping[str, Any] | None = None) -> Self:
        """Another with some fields set to values that are right already: nothing is checked."""
        made = copy.copy(self)
        for name, value in (update or {}).items():
            msgspec.structs.force_setattr(made, name, value)
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """How pydantic's models and FastAPI take it."""
        from edge_contracts.for_pydantic import core_schema  # no device has pydantic

        return core_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        """What FastAPI says of it."""
        from edge_contracts.for_pydantic import json_schema

        return json_schema(cls)


def _plain(value: Any) -> Any:
    """The same with numbers of numpy as Python's own; itself where there are none."""
    if isinstance(value, float) and type(value) is not float:
        return float(value)
    if not isinstance(value, int) and hasattr(value, "__index__"):
        return value.__index__()
    if isinstance(value, Mapping):
        pairs = {_plain(key): _plain(one) for key, one in value.items()}
        same = all(one is value[key] for key, one in zip(value, pairs.values(), strict=True))
        return value if same and all(a is b for a, b in zip(value, pairs, strict=True)) else pairs
    if isinstance(value, list | tuple):
        items = [_plain(one) for one in value]
        return value if all(a is b for a, b in zip(value, items, strict=True)) else items
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_without_none(one) for one in value]
    return value


T = TypeVar("T", bound=Frozen)


def parse_json(model: type[T], content: bytes, what: str, format_name: str | None = None) -> T:
    """Turn JSON bytes into a value, or refuse on one line.

    Args:
        what: What it is, for the message ("manifest.json").
        format_name: Expected value of the field `format`, such as "edgefleet.manifest/1".

    Raises:
        FormatInvalid: It does not parse or does not fit.
        FormatTooNew: It states another version of the same format.
    """
    return parse_object(model, read_json(content, what, format_name), what)


def read_json(content: bytes, what: str, format_name: str | None = None) -> Any:
    """Parse JSON of one format; raises as `parse_json`."""
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatInvalid(f"{what} is not JSON: {error}") from None
    if format_name is not None:
        require_format(raw, format_name, what)
    return raw


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
        raise FormatInvalid(f"{what}: {first_fault(error, model.__struct_fields__)}") from None


class Dumped(Protocol):
    """What becomes plain JSON: contracts, and models of pydantic."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The fields as JSON would give them back."""


def canonical_json(value: Dumped | dict[str, Any]) -> bytes:
    """The one JSON form of a value: sorted keys, no spaces, UTF-8, one newline at the end."""
    if isinstance(value, Frozen):  # not by way of JSON, which would write what is not a number as null
        raw: Any = msgspec.to_builtins(value, str_keys=True)
    else:
        raw = value if isinstance(value, dict) else value.model_dump(mode="json")
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"
