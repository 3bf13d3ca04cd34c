"""`GET /metrics`: on an address of its own without a token, and beside the inference API with its token."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.errors import ListenRefused
from edge_agent.serving.doors import is_loopback, parse_address
from edge_agent.serving.listener import Listener, ListenerLimits, listen_tcp, tcp_caller
from edge_agent.serving.openapi import operation
from edge_agent.serving.routes import Asked, Response, Route, Routes
from edge_agent.telemetry.exposition import CONTENT_TYPE

PATH = "/metrics"
CONNECTIONS = 4  # a Prometheus, and a person who looks what it sees


def metrics_route(render: Callable[[], str], open_to_all: bool = False) -> Route:
    """The route for the table of what is served.

    Args:
        render: Called in a thread of the listener; must only read.
    """

    def answer(_asked: Asked) -> Response:
        return Response(render().encode(), content_type=CONTENT_TYPE)

    told = operation("The device's metrics, in Prometheus' text format.", refusals=(401,))
    told["responses"]["200"]["content"] = {CONTENT_TYPE: {"schema": {"type": "string"}}}
    return Route("GET", PATH, answer, open_to_all, told)


def metrics_listener(address: str, render: Callable[[], str]) -> Listener:
    """A listener for the metrics alone; nobody is asked for a token, so that only this machine may ask.

    Args:
        address: HOST:PORT.

    Raises:
        ListenRefused: It is no address of this machine alone, or cannot be had.
    """
    host, port = parse_address(address)
    if not is_loopback(host):
        raise ListenRefused(
            f"--metrics {address}: {host} can be reached from other machines, and metrics have no password; "
            "give 127.0.0.1, or put a proxy that asks for one before it"
        )
    routes = Routes([metrics_route(render, open_to_all=True)], None, 0)
    return Listener(listen_tcp(host, port), routes, tcp_caller, ListenerLimits(connections=CONNECTIONS))
