"""How a route's answer becomes JSON: as it is, of the type that the route states, and not checked again.

The return annotation of a route is what `/openapi.json` says of its answer; mypy holds the code to it. What
comes out of the database nobody can prove beforehand: every answer of the tests is compared with the
document (`tests/support/api_truth.py`), where a fault is a failure. Here it would be an error for a client
who could have done with the answer (`docs/decisions/0105-answers-have-types.md`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

MEDIA_TYPE = "application/json"


class Router(APIRouter):
    """Routes whose functions give values; these are written by the thread that found them."""

    def __init__(self, *, prefix: str = "", tags: list[str]) -> None:
        """A part of the API.

        Args:
            tags: The first is the area that scopes of tokens name.
        """
        super().__init__(prefix=prefix, tags=list(tags), generate_unique_id_function=_operation_id)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **stated: Any) -> None:
        """Add a route; FastAPI calls this for `@router.get` and its like."""
        if not inspect.iscoroutinefunction(endpoint):  # those make their responses themselves
            endpoint = _written(endpoint, stated.get("status_code") or 200)
        super().add_api_route(path, endpoint, **stated)


def to_json(value: Any) -> bytes:
    """A value of a route as JSON: plain ones, dataclasses, contracts, pydantic's models."""
    return msgspec.json.encode(value, enc_hook=_plain)


def _written(endpoint: Callable[..., Any], status: int) -> Callable[..., Response]:
    @functools.wraps(endpoint)
    def answer(*args: Any, **named: Any) -> Response:
        value = endpoint(*args, **named)
        if isinstance(value, Response):
            return value
        return Response(to_json(value), status, media_type=MEDIA_TYPE)

    return answer


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"an answer holds a {type(value).__name__}, which JSON has no form for")


def _operation_id(route: APIRoute) -> str:
    """What generated clients call it; areas have functions of the same name."""
    return f"{route.tags[0]}-{route.name}"
