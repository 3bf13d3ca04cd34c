"""A whole server for tests: real database, real broker, real HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from api_truth import Truth
from postgres_server import suite_database

from edge_fleet.app import create_app
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.config import ServerConfig, parse_address
from edge_fleet.home import Home
from edge_fleet.serve import initialise, running
from edge_fleet.services import Server


@dataclass(frozen=True)
class Running:
    """A server at work, and clients of its API by role."""

    server: Server
    url: str
    http: httpx.Client
    admin: httpx.Client

    def token(self, role: str = "enrol", **fields: Any) -> str:
        """A new token."""
        answer = self.admin.post("/api/v1/tokens", json={"role": role, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def as_role(self, role: str) -> httpx.Client:
        """A client with a new token of a role."""
        return client(self.url, self.token(role))


def client(url: str, token: str | None = None) -> httpx.Client:
    """A client of a server's API."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30)


@contextmanager
def serving(server: Server, port: int = 0, checked: bool = True) -> Iterator[str]:
    """The server's API on a port of its own; gives the URL.

    Args:
        checked: Whether every answer is compared with `/openapi.json`, and a wrong one fails the test.
    """
    truth = Truth(create_app(server))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(100)  # who is early waits: on a busy machine the thread below comes late
        app = truth if checked else truth.app
        http = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.bus.close()
            http.should_exit = True
            thread.join()
    assert truth.faults == []


@contextmanager
def fleet_server(root: Path, checked: bool = True, **settings: Any) -> Iterator[Running]:
    """A whole server with a managed broker; `checked` as of `serving`."""
    port = free_loopback_port()
    stated = {"fleet": "f", "mqtt": f"127.0.0.1:{port}", "http": "127.0.0.1:0"}
    if "database" not in settings:
        stated["database"] = suite_database()
    config = ServerConfig(**(stated | settings))
    home = Home(root)
    initialise(home, config)
    token = home.admin_token.read_text().strip()
    with (
        running(home, config) as server,
        serving(server, parse_address(config.http, "http").port, checked) as url,
        client(url) as http,
        client(url, token) as admin,
    ):
        yield Running(server, url, http, admin)
