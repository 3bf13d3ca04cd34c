"""The Open Inference Protocol v2 over one engine: health, metadata, inference.

https://github.com/kserve/open-inference-protocol, `inference_rest.md`. One device serves one model: its
name is the bundle's, its version the bundle's, its tensors the contract's.
"""

from __future__ import annotations

import json
from concurrent.futures import Future
from time import monotonic
from typing import Any, Protocol

from edge_agent.errors import CallRefused, NoModel
from edge_agent.inference.request import Caller, Reply, Request
from edge_agent.inference.serving import Serving
from edge_agent.serving.datatypes import datatype_of, refuse
from edge_agent.serving.openapi import operation, reference
from edge_agent.serving.protocol import Call, Message, read_call, write_reply
from edge_agent.serving.routes import Asked, Response, Route
from edge_contracts.manifest import TensorSpec

LONGEST_S = 60.0  # how long a request without a deadline may take
ROUTING_KEY = "routing_key"  # parameter: requests with the same one meet the same arm of an experiment
JSON_BYTES = "inference-header-content-length"
BINARY = "application/octet-stream"
_JSON_BYTES = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Where the JSON ends and binary data begins.",
    "schema": {"type": "integer", "minimum": 1},
}
HEALTH = ("/v2/health/live", "/v2/health/ready")
MODEL = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


class Answers(Protocol):
    """What answers requests; an `Engine` does."""

    @property
    def serving(self) -> Serving | None:
        """What is open."""

    @property
    def why_none(self) -> str:
        """What to tell who asks while nothing is."""

    @property
    def has_died(self) -> bool:
        """Whether it will never answer again."""

    def submit(self, request: Request) -> Future[Reply]:
        """Have a request answered."""

    def ask(self, request: Request, timeout_s: float) -> Reply:
        """Have a request answered, and wait for the reply."""


class InferenceApi:
    """The protocol's answers.

    Args:
        release: Version of this program.
    """

    def __init__(self, engine: Answers, release: str) -> None:
        """Take the engine."""
        self._engine, self._release = engine, release

    def routes(self) -> list[Route]:
        """What it serves."""
        named, asked = (401, 404, 503), (400, 401, 404, 413, 415, 429, 500, 503, 504)
        body = reference("InferRequest") | {BINARY: {"schema": {"type": "string", "format": "binary"}}}
        live = operation("The server lives.", refusals=(503,))
        ready = operation("It can answer now.", refusals=(503,))
        table = [
            Route("GET", HEALTH[0], self._live, True, live),
            Route("GET", HEALTH[1], self._ready, True, ready),
            Route("GET", "/v2", self._server, False, operation("This server.", "Server", refusals=(401,))),
        ]
        for path in MODEL:
            metadata = operation("The model's tensors.", "Model", refusals=named)
            ready = operation("The model can answer now.", refusals=named)
            infer = operation("Have inputs answered.", "InferReply", body, asked)
            infer["parameters"] = [_JSON_BYTES]
            infer["responses"]["200"]["content"] |= {BINARY: {}}
            table += [
                Route("GET", path, self._model, False, metadata),
                Route("GET", f"{path}/ready", self._model_ready, False, ready),
                Route("POST", f"{path}/infer", self._infer, False, infer),
            ]
        return table

    def _live(self, _asked: Asked) -> Response:
        if self._engine.has_died:
            raise NoModel("the inference thread has died")
        return Response()

    def _ready(self, asked: Asked) -> Response:
        if self._engine.serving is None:
            raise NoModel(self._engine.why_none)
        return self._live(asked)

    def _server(self, _asked: Asked) -> Response:
        return _json({"name": "edge-agent", "version": self._release, "extensions": ["binary_tensor_data"]})

    def _model(self, asked: Asked) -> Response:
        return _json(describe(open_model(self._engine, asked)))

    def _model_ready(self, asked: Asked) -> Response:
        open_model(self._engine, asked)
        return Response()

    def _infer(self, asked: Asked) -> Response:
        open_model(self._engine, asked)
        stated = asked.head.headers.get(JSON_BYTES)
        if stated is not None and not (stated.isascii() and stated.isdigit() and len(stated) < 16):
            raise refuse(f"Inference-Header-Content-Length must be a number, found {stated!r:.40}")
        call = read_call(asked.body, None if stated is None else int(stated))
        caller = asked.caller.calling_itself(asked.head.headers.get("edge-client", ""))
        message = answer_call(self._engine, call, caller)
        if message.json_bytes is None:
            return Response(message.content)
        size = str(message.json_bytes)
        return Response(message.content, 200, {"Inference-Header-Content-Length": size}, BINARY)


def open_model(engine: Answers, asked: Asked) -> Serving:
    """What is open, when it is what the path names.

    Raises:
        CallRefused: It is not.
        NoModel: Nothing is open.
    """
    serving = engine.serving
    if serving is None:
        raise NoModel(engine.why_none)
    require_named(serving, asked.names["model"], asked.names.get("version"))
    return serving


def require_named(serving: Serving, model: str, version: str | None) -> None:
    """See that a client means the model that is open.

    Raises:
        CallRefused: Another name or version.
    """
    manifest = serving.session.manifest
    if model != manifest.name:
        raise CallRefused(404, "not-found", f"no model {model!r:.80} is served here, it is {manifest.name!r}")
    if version is not None and version != manifest.version:
        raise CallRefused(
            404, "not-found", f"version {version!r:.80} is not served, it is {manifest.version!r}"
        )


def answer_call(engine: Answers, call: Call, caller: Caller) -> Message:
    """Have a call answered, and wait for it.

    Raises:
        AgentError: Whatever the engine or the contract refuse, or CallRefused for an unknown output.
    """
    return write_reply(call, engine.ask(request_of(call, caller), allowed_s(call)))


def allowed_s(call: Call, expiry_s: float | None = None) -> float:
    """How long a call may take, by itself and by what carries it."""
    stated = [limit for limit in (call.timeout_s, expiry_s) if limit is not None]
    return min([LONGEST_S, *stated])


def request_of(call: Call, caller: Caller, expiry_s: float | None = None) -> Request:
    """What the engine is asked for a call that came now."""
    stated = call.parameters.get(ROUTING_KEY)
    key = stated if isinstance(stated, str) else call.id
    deadline_s = monotonic() + allowed_s(call, expiry_s)
    return Request(call.inputs, caller.client, deadline_s, call.id, key, call.parameters, caller.payer)


def describe(serving: Serving) -> dict[str, Any]:
    """The metadata of a model."""
    session = serving.session
    return {
        "name": session.manifest.name,
        "versions": [session.manifest.version],
        "platform": session.artifact.format,
        "inputs": [_tensor(spec) for spec in session.manifest.inputs],
        "outputs": [_tensor(spec) for spec in session.manifest.outputs],
        "parameters": {
            "bundle": serving.bundle,
            "artifact": session.artifact.id,
            "runtime": session.runtime,
        },
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """The first axis counts samples: any number."""
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": [-1, *spec.shape[1:]]}


def _json(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document, separators=(",", ":")).encode())
