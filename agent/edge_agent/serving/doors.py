"""The ways in that `edge-agent run` opens: --serve and --socket, over one engine.

What is asked through them is `inference_api.py`'s; here is who may come in: a loopback address unless the
operator says otherwise, a token at the HTTP port, permissions at the socket.
"""

from __future__ import annotations

import grp
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from edge_agent.errors import ListenRefused
from edge_agent.serving.answer_api import AnswerApi
from edge_agent.serving.inference_api import Answers, InferenceApi
from edge_agent.serving.listener import (
    Listener,
    ListenerLimits,
    listen_tcp,
    listen_unix,
    tcp_caller,
    unix_caller,
)
from edge_agent.serving.openapi import route_of_document
from edge_agent.serving.routes import Route, Routes
from edge_agent.serving.token import read_or_make_token

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Doors:
    """What to open.

    Args:
        address: Host and port of HTTP, or None.
        exposed: Whether the host may be one that other machines reach although nothing is encrypted.
        tls: Certificate and key for HTTP, None to go without.
        socket: Path of a Unix socket, or None.
        group: Name of the group that may use it besides the owner; "" leaves the process's own.
        token: File of the token for HTTP.
    """

    token: Path
    address: tuple[str, int] | None = None
    exposed: bool = False
    socket: Path | None = None
    group: str = ""
    tls: tuple[Path, Path] | None = None
    limits: ListenerLimits = field(default_factory=ListenerLimits)


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, [IPv6]:PORT, or :PORT for loopback.

    Raises:
        ListenRefused: It is neither.
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ListenRefused(f"{text!r} is no address to serve on, expected HOST:PORT such as 127.0.0.1:8080")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def opened(
    doors: Doors, engine: Answers, release: str, more: Sequence[Route] = ()
) -> Iterator[tuple[Listener, ...]]:
    """Serve until the block ends.

    Args:
        more: Routes beside the protocol's.

    Raises:
        ListenRefused: An address or a path that cannot be served on, or should not.
    """
    routes = [*InferenceApi(engine, release).routes(), *AnswerApi(engine).routes(), *more]
    routes.append(route_of_document(routes, release))
    with ExitStack() as stack:
        listeners = []
        for listener in _listeners(doors, routes):
            stack.callback(listener.stop)
            listeners.append(listener)
        for listener in listeners:
            listener.start()
            log.info("serving", extra={"at": _shown(listener.address)})
        yield tuple(listeners)


def _listeners(doors: Doors, routes: Sequence[Route]) -> Iterator[Listener]:
    body_bytes = doors.limits.wire.body_bytes
    if doors.address is not None:
        host, port = doors.address
        if doors.tls is None and not is_loopback(host) and not doors.exposed:
            raise ListenRefused(
                f"{host} can be reached from other machines, and the token would travel unencrypted; "
                "give --serve-cert and --serve-key, serve on 127.0.0.1, or say --serve-exposed"
            )
        tls = None
        if doors.tls is not None:
            from edge_agent.serving.tls import Tls

            tls = Tls(*doors.tls)
        token = read_or_make_token(doors.token)
        log.info("HTTP needs a bearer token", extra={"file": str(doors.token)})
        yield Listener(
            listen_tcp(host, port), Routes(routes, token, body_bytes), tcp_caller, doors.limits, tls
        )
    if doors.socket is not None:
        sock = listen_unix(doors.socket, group=_group(doors.group))
        yield Listener(sock, Routes(routes, None, body_bytes), unix_caller, doors.limits)


def _group(name: str) -> int | None:
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ListenRefused(f"there is no group {name!r} on this machine") from None


def _shown(address: object) -> str:
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else str(address)
