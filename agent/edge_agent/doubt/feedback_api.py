"""`POST /feedback`: a label for a request that was answered before. What it does is `labelling.py`'s."""

from __future__ import annotations

import json
from typing import Any

from edge_agent.doubt.labelling import Feedback
from edge_agent.errors import CallRefused
from edge_agent.serving.openapi import operation
from edge_agent.serving.protocol import read_call
from edge_agent.serving.routes import JSON, Asked, Response, Route

PATH = "/feedback"
KEYS = {"id", "label", "inputs"}
_BODY = {
    "type": "object",
    "required": ["id", "label"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "minLength": 1, "description": "The id of the inference request."},
        "label": {
            "oneOf": [{"type": "string"}, {"type": "integer", "minimum": 0}],
            "description": "The right class, by its name or number.",
        },
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {"$ref": "#/components/schemas/Input"},
            "description": "The request's tensors again, to keep them with the label in any case.",
        },
    },
}
_ANSWER = {
    "type": "object",
    "required": ["correct", "kept"],
    "properties": {
        "correct": {"type": ["boolean", "null"], "description": "null: the answer is forgotten."},
        "kept": {"type": "boolean", "description": "The input is kept for review, with this label."},
    },
}


def feedback_route(feedback: Feedback) -> Route:
    """The route for the table of what is served."""

    def answer(asked: Asked) -> Response:
        request_id, label, tensors = read_feedback(bytes(asked.body))
        inputs = None
        if tensors is not None:
            inputs = read_call(memoryview(json.dumps({"inputs": tensors}).encode())).inputs
        found = feedback(request_id, label, inputs)
        return Response(json.dumps({"correct": found.correct, "kept": found.kept}).encode())

    told = operation(
        "Say what the right answer was.", body={JSON: {"schema": _BODY}}, refusals=(400, 401, 404, 413, 415)
    )
    told["responses"]["200"]["content"] = {JSON: {"schema": _ANSWER}}
    return Route("POST", PATH, answer, False, told)


def read_feedback(body: bytes) -> tuple[str, str | int, list[Any] | None]:
    """The id of a request, its label, and its tensors when they are sent again.

    Raises:
        CallRefused: It is not that; the message says what was found.
    """
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise _bad('expected an object such as {"id": "7", "label": "cat"}')
    unknown = sorted(raw.keys() - KEYS)
    if unknown:
        raise _bad(f"unknown key {unknown[0]!r:.80}, there are id, label and inputs")
    request_id, label, tensors = raw.get("id"), raw.get("label"), raw.get("inputs")
    if not isinstance(request_id, str) or not request_id:
        raise _bad(f"id is the id of the request, a text; found {request_id!r:.80}")
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise _bad(f"label is a class's name or number; found {label!r:.80}")
    if tensors is not None and not isinstance(tensors, list):
        raise _bad(f"inputs is a list of tensors; found {tensors!r:.80}")
    return request_id, label, tensors


def _bad(message: str) -> CallRefused:
    return CallRefused(400, "bad-request", message)
