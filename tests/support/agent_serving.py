"""An engine with a tiny model, and the doors before it, for tests of what is served."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from agent_bundles import build

from edge_agent.doubt.lineup import Lineup
from edge_agent.inference.engine import Engine
from edge_agent.inference.request_queue import QueueLimits
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Session
from edge_agent.serving.doors import Doors, opened
from edge_agent.serving.listener import ListenerLimits
from edge_agent.serving.routes import Route
from edge_agent.serving.wire import WireLimits
from edge_contracts.bundle import open_bundle

INFER = "/v2/models/tiny/infer"
ROW = [0.5, -1.0, 0.25, 1.5]
ASK = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}


def opened_serving(folder: Path, version: str = "1", **differently: Any) -> Serving:
    """A bundle extracted into a folder and open, under its own digest."""
    bundle = open_bundle(build(version=version, **differently))
    bundle.extract(folder)
    return Serving.begin(bundle.digest, Session.open(folder, bundle.manifest), False)


@dataclass(frozen=True)
class Told:
    """A response."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        """As JSON."""
        return json.loads(self.content)


@dataclass(frozen=True)
class Served:
    """What is up."""

    engine: Engine
    host: str
    port: int
    path: Path
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What lets a client in."""
        return {"Authorization": f"Bearer {self.token}"}

    def connect(self) -> socket.socket:
        """A bare connection by TCP."""
        return socket.create_connection((self.host, self.port), 10)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
        connection: HTTPConnection | None = None,
    ) -> Told:
        """One request by HTTP with the token, over a new connection unless one is given."""
        own = connection or HTTPConnection(self.host, self.port, timeout=20)
        try:
            own.request(method, path, body, self.headers | (headers or {}))
            answer = own.getresponse()
            return Told(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            if connection is None:
                own.close()

    def infer(self, document: Any, path: str = INFER) -> Told:
        """One inference with JSON."""
        return self.ask("POST", path, json.dumps(document))


@contextmanager
def served(
    folder: Path,
    limits: ListenerLimits | None = None,
    queue: QueueLimits | None = None,
    more: Sequence[Route] = (),
    model: bool = True,
    lineup: Lineup | None = None,
) -> Iterator[Served]:
    """Serve the tiny model by HTTP and by a Unix socket."""
    engine = Engine(limits=queue, lineup=lineup)
    if model:
        engine.switch(opened_serving(folder / "bundle"))
    engine.start()
    token, path = folder / "serve.token", folder / "socket"
    doors = Doors(token, ("127.0.0.1", 0), socket=path, limits=limits or ListenerLimits())
    try:
        with opened(doors, engine, "0.1.0", more) as (tcp, _unix):
            address = tcp.address
            assert isinstance(address, tuple)
            yield Served(engine, address[0], address[1], path, token.read_text().strip())
    finally:
        engine.stop()
        engine.switch(None)


def quick(**wire: Any) -> ListenerLimits:
    """Limits of a listener that soon loses patience."""
    return ListenerLimits(wire=WireLimits(**wire))
