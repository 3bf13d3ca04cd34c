"""Sockets that requests come in by: a TCP address or a path, a thread for each connection.

Threads and blocking sockets, because a request waits for the inference thread and for nothing else: two
hand-overs between threads take less time than an event loop's turn, and a bounded number of connections
bounded memory (`connections.py`). What is beyond the limit is told so and let go.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from edge_agent.errors import CallRefused, ListenRefused, no_memory
from edge_agent.inference.request import Caller, Payer
from edge_agent.serving.connections import Connection, Connections, Phase, shut
from edge_agent.serving.routes import Response, Routes, refusal
from edge_agent.serving.wire import Hung, Wire, WireLimits, head_of_answer

if TYPE_CHECKING:  # OpenSSL takes memory, and most ports are on loopback
    from edge_agent.serving.tls import Tls

log = logging.getLogger(__name__)

BACKLOG = 64
LINGER_S = 0.5  # after a refusal, for what the client still sends: closing at once would reset its reading
LEAVING = 8  # so many that were turned away are kept for their client to read why
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True)
class ListenerLimits:
    """How many connections at once, and what each may cost."""

    connections: int = 64
    wire: WireLimits = field(default_factory=WireLimits)


class Listener:
    """One socket that is listened on.

    Args:
        sock: Bound; this closes it.
        routes: What is answered.
        caller_of: Who is at the other end, for turns and rates.
        tls: For a port whose clients speak it.
    """

    def __init__(
        self,
        sock: socket.socket,
        routes: Routes,
        caller_of: Callable[[socket.socket], Caller],
        limits: ListenerLimits | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Take the parts; `start` begins to accept."""
        self._sock, self._routes, self._caller_of = sock, routes, caller_of
        self._limits = limits or ListenerLimits()
        self._tls = tls
        self._connections = Connections(self._limits.connections)
        self._leaving = deque[socket.socket]()
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)

    @property
    def address(self) -> object:
        """As the socket has it: (host, port), or a path."""
        return self._sock.getsockname()

    def start(self) -> None:
        """Begin to accept."""
        self._sock.listen(BACKLOG)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Accept no more, let answers that are under way go out, and close."""
        self._stopping = True
        with suppress(OSError):  # it was never listened on
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes accept
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._sock.close()
        while self._leaving:
            self._leaving.popleft().close()
        ends_s = monotonic() + timeout_s
        for connection in self._connections.hang_up():
            if connection.thread is not None:
                connection.thread.join(max(0.0, ends_s - monotonic()))

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, _ = self._sock.accept()
            except OSError as error:
                if self._stopping:
                    return
                log.warning("connection not accepted", extra={"reason": str(error)})
                threading.Event().wait(0.1)  # out of handles: not a busy loop
                continue
            self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        try:
            caller = self._caller_of(sock)
        except OSError:  # it went away
            sock.close()
            return
        connection = self._connections.admit(sock, caller)
        if connection is None:
            if self._tls is None:
                self._turn_away(sock, caller)
            else:
                sock.close()  # without a word: a handshake would hold up who comes next
            return
        if self._tls is not None:
            try:
                connection.sock = self._tls.wrap(sock)
            except OSError:  # it went away, or talked before the handshake
                self._connections.close(connection)
                return
        connection.thread = threading.Thread(
            target=self._serve, args=(connection,), name="connection", daemon=True
        )
        try:
            connection.thread.start()
        except RuntimeError as error:  # no memory for its stack: this one is turned away, others may come
            log.warning("connection not accepted", extra={"reason": str(error)})
            connection.thread = None
            self._connections.close(connection)

    def _turn_away(self, sock: socket.socket, caller: Caller) -> None:
        places, account = self._connections.places, caller.payer.account
        held = self._connections.held_by(account)
        full = CallRefused(
            503,
            "connections",
            f"{places} connections are open, {held} of them by {account}; more are not taken",
        )
        if len(self._leaving) == LEAVING:
            self._leaving.popleft().close()
        wire = Wire(sock, WireLimits(send_s=0.1))
        with suppress(Hung):
            _send(wire, refusal(full), False)
        # closed at once, it would break what the client still sends; nobody is held up by waiting for it
        shut(sock, socket.SHUT_WR)
        self._leaving.append(sock)

    def _serve(self, connection: Connection) -> None:
        sock = connection.sock
        try:
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                self._tls.shake(sock, self._limits.wire.head_s)
            self._converse(connection, Wire(sock, self._limits.wire))
        except (Hung, OSError):
            pass  # nobody is left to tell
        finally:
            self._connections.close(connection)

    def _converse(self, connection: Connection, wire: Wire) -> None:
        sock = connection.sock
        while not self._stopping:
            try:
                head = wire.read_head()
                route, names = self._routes.find(head)
                body = wire.read_body(head)
            except MemoryError:
                _send(wire, refusal(no_memory()), False)
                _linger(sock)
                return
            except CallRefused as error:  # what comes behind it cannot be told apart any more
                _send(wire, refusal(error), False)
                _linger(sock)
                return
            connection.enter(Phase.ANSWERING)
            response = self._routes.answer(route, head, names, body, connection.caller)
            connection.enter(Phase.SENDING)
            keep_alive = head.keep_alive and not self._stopping
            _send(wire, response, keep_alive)
            if not keep_alive:
                return
            connection.enter(Phase.RECEIVING)


def listen_tcp(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        ListenRefused: It cannot be had.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenRefused(f"cannot serve on {host}:{port}: {error.strerror or error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
    except OSError as error:
        sock.close()
        raise ListenRefused(f"cannot serve on {host}:{port}: {error.strerror or error}") from None
    return sock


def listen_unix(path: Path, mode: int = 0o660, group: int | None = None) -> socket.socket:
    """A socket at a path, which the owner and the group may use. A dead one that is there is replaced.

    Raises:
        ListenRefused: Something else is there, somebody serves on it, or it cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        sock.bind(str(path))
        # nobody can connect before `listen`: the mode is right from the first connection on
        path.chmod(mode)
        if group is not None:
            os.chown(path, -1, group)
    except ListenRefused:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise ListenRefused(f"cannot serve on {path}: {error.strerror or error}") from None
    return sock


def tcp_caller(sock: socket.socket) -> Caller:
    """The address at the other end."""
    address = str(sock.getpeername()[0])
    return Caller(address, Payer(address))


def unix_caller(sock: socket.socket) -> Caller:
    """The process at the other end, and its user: a process is soon another one, a user is not."""
    pid, user, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return Caller(f"process {pid}", Payer(f"user {user}"))


def _clear(path: Path) -> None:
    """Remove a socket that nobody serves on any more."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenRefused(f"cannot serve on {path}: something that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ListenRefused(f"cannot serve on {path}: another process does")


def _send(wire: Wire, response: Response, keep_alive: bool) -> None:
    head = head_of_answer(
        response.status, len(response.content), response.content_type, keep_alive, response.headers
    )
    wire.send((head, response.content))


def _linger(sock: socket.socket) -> None:
    """Let the client read why it was refused, although it may still be sending."""
    shut(sock, socket.SHUT_WR)
    ends_s = monotonic() + LINGER_S
    while (left_s := ends_s - monotonic()) > 0:
        sock.settimeout(left_s)
        if not sock.recv(1 << 16):
            return
