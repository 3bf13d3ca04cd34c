"""Bytes in, labels or boxes out: `POST /v2/models/NAME/answer` beside the Open Inference Protocol.

The body is what the model's only input is made of by its contract (image/jpeg, image/png, audio/wav,
text/csv, application/json); what is made of it is `handed.py`'s.
"""

from __future__ import annotations

import json
from time import monotonic

from edge_agent.errors import DeadlinePassed
from edge_agent.serving.handed import Handed, Question, again, ask, tell
from edge_agent.serving.inference_api import LONGEST_S, Answers, open_model
from edge_agent.serving.openapi import operation
from edge_agent.serving.protocol import MAX_ID
from edge_agent.serving.routes import Asked, Response, Route
from edge_contracts.inference_bodies import MEDIA

PATHS = ("/v2/models/{model}/answer", "/v2/models/{model}/versions/{version}/answer")

_REQUEST_ID = {
    "name": "Edge-Request-Id",
    "in": "header",
    "description": "What the client calls the request; POST /feedback takes labels for it.",
    "schema": {"type": "string", "maxLength": MAX_ID},
}


class AnswerApi:
    """Answers of the open model to bytes."""

    def __init__(self, engine: Answers) -> None:
        """Take the engine."""
        self._engine = engine

    def routes(self) -> list[Route]:
        """What it serves."""
        body = {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kinds in MEDIA.values()
            for kind in kinds
        }
        asked = (400, 401, 404, 413, 415, 429, 500, 503, 504)
        said = operation("Have a picture, a sound or a table answered.", "AnswerReply", body, asked)
        said["parameters"] = [_REQUEST_ID]
        return [Route("POST", path, self._answer, False, said) for path in PATHS]

    def _answer(self, asked: Asked) -> Response:
        serving = open_model(self._engine, asked)
        headers = asked.head.headers
        caller = asked.caller.calling_itself(headers.get("edge-client", ""))
        deadline_s = monotonic() + LONGEST_S
        handed = Handed(
            bytes(asked.body),
            headers.get("content-type", ""),
            caller,
            deadline_s,
            headers.get("edge-request-id", ""),
        )
        waiting: Question | None = ask(self._engine, serving, handed)
        while waiting is not None:
            last = waiting
            try:
                last.future.exception(max(0.0, deadline_s - monotonic()))
            except TimeoutError:
                last.future.cancel()
                raise DeadlinePassed(f"no answer within {LONGEST_S:g} s") from None
            waiting = again(self._engine, last)
        return Response(json.dumps(tell(last), allow_nan=False).encode())
