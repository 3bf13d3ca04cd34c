"""The OpenAPI document of what is served: made from the table of routes, so that it cannot lag behind.

https://spec.openapis.org/oas/v3.1.0. Each route brings its own operation; here are the parts that they
share. It is what `schemathesis` aims its requests by in the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.serving.routes import Asked, Response, Route
from edge_contracts.inference_bodies import SCHEMAS

PATH = "/openapi.json"
REFUSALS = {
    400: "Not a request, or an input that the model's contract does not allow.",
    401: "The bearer token is missing or wrong.",
    404: "Another model, version or path.",
    413: "The body is too large.",
    415: "A content encoding that is not offered.",
    429: "The client asks faster than it may.",
    500: "The model failed on an input that its contract allows.",
    503: "No model is open, or the queue is full.",
    504: "The deadline passed before an answer.",
}


def reference(name: str) -> dict[str, Any]:
    """A JSON body of one of the schemas."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def operation(
    summary: str,
    answer: str | None = None,
    body: Mapping[str, Any] | None = None,
    refusals: Sequence[int] = (),
) -> dict[str, Any]:
    """One operation.

    Args:
        answer: Name of the schema of a 200; None when that has no body.
        body: Media types of the request's body.
        refusals: Keys of `REFUSALS`.
    """
    responses: dict[str, Any] = {"200": {"description": "Done."}}
    if answer is not None:
        responses["200"]["content"] = reference(answer)
    for status in refusals:
        responses[str(status)] = {"description": REFUSALS[status], "content": reference("Error")}
    made: dict[str, Any] = {"summary": summary, "responses": responses}
    if body is not None:
        made["requestBody"] = {"required": True, "content": body}
    return made


def document(routes: Sequence[Route], release: str) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        made = dict(route.operation)
        names = re.findall(r"{(\w+)}", route.path)
        made["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ] + list(made.get("parameters", ()))
        made["security"] = [] if route.open else [{"token": []}]
        paths.setdefault(route.path, {})[route.method.lower()] = made
    return {
        "openapi": "3.1.0",
        "info": {"title": "edge-agent: Open Inference Protocol v2", "version": release},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def route_of_document(routes: Sequence[Route], release: str) -> Route:
    """The route that serves the document of some routes, its own among them."""
    described: list[bytes] = []

    def answer(_asked: Asked) -> Response:
        return Response(described[0])

    own = Route("GET", PATH, answer, True, operation("This document."))
    described.append(json.dumps(document([*routes, own], release)).encode())
    return own
