"""What `/openapi.json` says besides what the routes state: how to log in, and every answer that is a no.

A refusal is {code, message} whatever the route; who may use a route stands in `api/access.py`, and here only
comes into the document. Fuzzers and generated clients go by it: an answer that it does not name is a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from fastapi.routing import APIRoute

from edge_fleet.api.access import DEVICE_HEADER, PUBLIC, every, requesting_device, stated_right
from edge_fleet.api.always_there import require_what_is_always_there
from edge_fleet.api.contract_schemas import name_contracts
from edge_fleet.api.docstrings import describe
from edge_fleet.errors import (
    Conflict,
    DatabaseUnreachable,
    FleetError,
    Forbidden,
    NotFound,
    RequestInvalid,
    TooLarge,
    TooManyAttempts,
    Unauthorized,
)
from edge_fleet.model import Frozen


class Refusal(Frozen):
    """Why not: a short word for programs, and a line for people."""

    code: str
    message: str


# what any route may answer, whoever asks and whatever for
_ALWAYS: tuple[tuple[int, type[FleetError]], ...] = (
    (400, RequestInvalid),
    (404, NotFound),
    (409, Conflict),
    (413, TooLarge),
    (429, TooManyAttempts),
    (503, DatabaseUnreachable),
)
_OF_THOSE_WHO_SHOW_SOMETHING: tuple[tuple[int, type[FleetError]], ...] = (
    (401, Unauthorized),
    (403, Forbidden),
)
_OPEN_BUT_ASKS = frozenset({"/api/v1/enrol", "/api/v1/login", "/api/v1/review"})


def gives(*media_types: str) -> dict[str, Any]:
    """Arguments of a route whose good answer is no JSON: bytes or lines of these kinds."""
    content = {kind: {"schema": {"type": "string"}} for kind in media_types}
    return {"response_class": Response, "responses": {200: {"content": content}}}


def gives_parts(media_type: str) -> dict[str, Any]:
    """Arguments of a route that gives a file, or the part that `Range` names (RFC 9110, section 14)."""
    stated = gives(media_type)
    part = {"description": "the part that Range asks for", **stated["responses"][200]}
    beyond = {
        "description": "the file ends before the part that Range asks for",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    stated["responses"] |= {206: part, 416: beyond}
    return stated


def described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What gives the document of an application; made once, when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            app.openapi_schema = _completed(made, app)
        return app.openapi_schema

    return document


def _completed(document: dict[str, Any], app: FastAPI) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Refusal"] = Refusal.model_json_schema()
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "edge-fleet token create, or a login"},
        "device": {"type": "apiKey", "in": "header", "name": DEVICE_HEADER, "description": "a device's name"},
    }
    for route in every(app.routes):
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                _complete(operation, route)
    require_what_is_always_there(schemas, [route.response_model for route in every(app.routes)])
    name_contracts(document)
    document = _shorten(document)
    describe(document["components"]["schemas"])
    return document


def _shorten(document: dict[str, Any]) -> dict[str, Any]:
    """Types of one name from several packages get the package's before theirs, in place of the whole path."""
    text = json.dumps(document)
    shorter = {}
    for name in document["components"]["schemas"]:
        if "__" in name:
            *_, package, _, own = name.split("__")
            shorter[name] = f"{package.title()}{own}"
            text = text.replace(f'"{name}"', f'"{shorter[name]}"')
            text = text.replace(f'schemas/{name}"', f'schemas/{shorter[name]}"')
    shortened: dict[str, Any] = json.loads(text)
    for name in shorter.values():
        shortened["components"]["schemas"][name]["title"] = name  # by which generators call it
    return shortened


def _complete(operation: dict[str, Any], route: APIRoute) -> None:
    responses = operation["responses"]
    refusals = dict(_ALWAYS)
    if route.path not in PUBLIC or route.path in _OPEN_BUT_ASKS:
        refusals |= dict(_OF_THOSE_WHO_SHOW_SOMETHING)
    if "422" in responses:
        responses["422"] = _refusal("a parameter or the body is not of the form that is asked for")
    for status, error in refusals.items():
        if str(status) not in responses:
            responses[str(status)] = _refusal(_summary(error))
    if any(dependant.call is requesting_device for dependant in route.dependant.dependencies):
        operation["security"] = [{"token": [], "device": []}]
    elif (right := stated_right(route)) is not None:
        operation["security"] = [{"token": []}]
        operation["x-right"] = str(right)
    else:
        operation["security"] = []


def _summary(error: type[FleetError]) -> str:
    return (error.__doc__ or error.__name__).strip().splitlines()[0].rstrip(".")


def _refusal(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Refusal"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
