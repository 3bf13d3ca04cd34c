"""What only the server reads, with pydantic; contracts as parts of it."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pydantic import TypeAdapter, ValidationError

import edge_fleet
from edge_contracts.enrolment import CertificateAnswer, EnrolRequest
from edge_contracts.errors import FormatInvalid
from edge_contracts.lineup import ShadowTerms
from edge_contracts.model import Identifier as ForContracts
from edge_fleet.model import Frozen, Identifier, first_fault, parse_object


class _Wrong(Frozen):
    names: tuple[ForContracts, ...] = ()


class _Holder(Frozen):
    name: Identifier
    terms: ShadowTerms


def _limits(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in typing.get_args(annotation):
        yield from _limits(inner)


def _of_another_library(kind: type[Frozen]) -> list[str]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        f"{kind.__name__}.{name}"
        for name in kind.model_fields
        if any(isinstance(limit, msgspec.Meta) for limit in _limits(hints[name]))
    ]


def test_no_model_of_the_server_states_limits_that_pydantic_would_pass_over() -> None:
    for found in pkgutil.walk_packages(edge_fleet.__path__, "edge_fleet."):
        if ".migrations" not in found.name and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    kinds = [kind for kind in Frozen.__subclasses__() if kind.__module__.startswith("edge_fleet.")]
    assert len(kinds) > 30
    assert [fault for kind in kinds for fault in _of_another_library(kind)] == []
    assert _of_another_library(_Wrong) == ["_Wrong.names"]


def test_a_contract_is_a_part_of_a_model_and_refuses_as_by_itself() -> None:
    whole = _Holder.model_validate({"name": "a", "terms": {"per_mille": 5}})
    assert whole.terms == ShadowTerms(per_mille=5)
    assert whole.model_dump(mode="json")["terms"]["per_mille"] == 5
    assert _Holder.model_validate_json(whole.model_dump_json()) == whole
    with pytest.raises(ValidationError) as refused:
        _Holder.model_validate({"name": "a", "terms": {"per_mille": 0}})
    assert first_fault(refused.value) == ("terms: per_mille: expected an integer >= 1, found 0")


def test_a_schema_holds_the_contract_whole() -> None:
    schema = TypeAdapter(EnrolRequest).json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["token"] == {
        "type": "string", "minLength": 8, "maxLength": 200, "title": "Token"
    }  # fmt: skip
    assert TypeAdapter(CertificateAnswer).json_schema(mode="serialization")["required"] == [
        "certificate", "renew_ms"
    ]  # fmt: skip


def test_a_misspelt_key_is_what_is_told() -> None:
    with pytest.raises(FormatInvalid, match="unknown key 'nmae'; did you mean 'name'"):
        parse_object(_Holder, {"nmae": "a", "name": "b", "terms": {}}, "the body")
