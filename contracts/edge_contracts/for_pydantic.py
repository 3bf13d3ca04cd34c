"""Contracts as parts of pydantic's models and as bodies of FastAPI: for the server, which has both."""

from __future__ import annotations

from typing import Any

from pydantic_core import core_schema as core

from edge_contracts import json_schema as written
from edge_contracts.model import Frozen


def core_schema(model: type[Frozen]) -> core.CoreSchema:
    """How pydantic checks and writes a contract: as the contract itself does."""
    plain = core.plain_serializer_function_ser_schema(_dump, info_arg=True, return_schema=core.dict_schema())
    return core.no_info_plain_validator_function(model.model_validate, serialization=plain)


def json_schema(model: type[Frozen]) -> dict[str, Any]:
    """What a description of the API says of a contract, whole: it refers to nothing outside itself."""
    return written.inlined(model)


def _dump(value: Frozen, info: core.SerializationInfo) -> dict[str, Any]:
    return value.model_dump(mode=info.mode)
