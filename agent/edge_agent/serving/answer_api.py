"""Bytes in, labels or boxes out: `POST /v2/models/NAME/answer` beside the Open Inference Protocol.

The body is what the model's only input is made of by its contract (image/jpeg, image/png, audio/wav,
text/csv, application/json); the rules are `input/prepare.py`'s and `input/interpret.py`'s.
"""

from __future__ import annotations

import json
from time import monotonic
from typing import Any

from edge_agent.errors import CallRefused, DeadlinePassed
from edge_agent.inference.request import Reply, Request
from edge_agent.inference.serving import Serving
from edge_agent.input.interpret import interpret
from edge_agent.input.prepare import MEDIA, Prepared, prepare
from edge_agent.serving.inference_api import LONGEST_S, Answers, open_model
from edge_agent.serving.openapi import operation
from edge_agent.serving.routes import Asked, Response, Route
from edge_contracts.errors import MissingExtra

PATHS = ("/v2/models/{model}/answer", "/v2/models/{model}/versions/{version}/answer")


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
        said = operation("Have a picture, a sound or a table answered.", None, body, asked)
        said["responses"]["200"]["content"] = {"application/json": {"schema": {"type": "object"}}}
        return [Route("POST", path, self._answer, False, said) for path in PATHS]

    def _answer(self, asked: Asked) -> Response:
        serving = open_model(self._engine, asked)
        media_type = asked.head.headers.get("content-type", "")
        try:
            prepared = prepare(serving.session.manifest, "", bytes(asked.body), media_type)
        except MissingExtra as error:
            raise CallRefused(503, "missing-extra", str(error)) from None
        client = asked.head.headers.get("edge-client", "")[:64] or asked.client
        future = self._engine.submit(Request(prepared.inputs, client, monotonic() + LONGEST_S))
        try:
            reply = future.result(LONGEST_S)
        except TimeoutError:
            future.cancel()
            raise DeadlinePassed(f"no answer within {LONGEST_S:g} s") from None
        return Response(json.dumps(_told(serving, prepared, reply), allow_nan=False).encode())


def _told(serving: Serving, prepared: Prepared, reply: Reply) -> dict[str, Any]:
    """A reply as JSON; its answers are None where another bundle answered than the one that was asked."""
    answers = None
    if reply.bundle == serving.bundle:
        answers = interpret(serving.session.manifest, reply.outputs, prepared.view)
    return {
        "model_name": reply.model,
        "model_version": reply.version,
        "answers": answers,
        "uncertain": reply.uncertain,
        "confidence": reply.confidence,
        "flagged": dict(reply.flagged),
    }
