"""The connections that are open at one door: at most so many, and shared between accounts.

While there are places, whoever comes has one. When there are none, the account that holds most gives one up
for an account that would then hold no more than it does: so one user, or one address, who opens all of them
cannot shut the others out, and a device with one account only may still use every place. What is given up is
the connection that has waited longest for its client; one whose request is being answered never is.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import suppress
from enum import Enum, auto
from time import monotonic

from edge_agent.inference.request import Caller


class Phase(Enum):
    """What a connection is at."""

    RECEIVING = auto()  # waits for a request, or for the rest of one
    ANSWERING = auto()
    SENDING = auto()


class Connection:
    """One that is open.

    Args:
        sock: Connected; `Connections.close` closes it.
        caller: Who is at the other end.
    """

    __slots__ = ("caller", "phase", "since_s", "sock", "thread")

    def __init__(self, sock: socket.socket, caller: Caller) -> None:
        """It begins by waiting for a request."""
        self.sock, self.caller = sock, caller
        self.thread: threading.Thread | None = None
        self.enter(Phase.RECEIVING)

    def enter(self, phase: Phase) -> None:
        """Go on to what comes next."""
        self.phase, self.since_s = phase, monotonic()


class Connections:
    """Those that are open. Any thread may use it.

    Args:
        places: How many at once.
    """

    def __init__(self, places: int) -> None:
        """None is open."""
        self.places = places
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._given_up: set[Connection] = set()  # ends by itself now, and holds no place

    def admit(self, sock: socket.socket, caller: Caller) -> Connection | None:
        """A place for a connection, if need be one that another account gives up; None when there is none."""
        with self._lock:
            if len(self._open) >= self.places:
                least = self._to_give_up(caller.payer.account)
                if least is None:
                    return None
                self._give_up(least)
            connection = Connection(sock, caller)
            self._open.add(connection)
            return connection

    def held_by(self, account: str) -> int:
        """How many places an account has."""
        with self._lock:
            return sum(one.caller.payer.account == account for one in self._open)

    def close(self, connection: Connection) -> None:
        """It is over; its place is free."""
        with self._lock:  # nobody shuts a socket whose number is another file's already
            self._open.discard(connection)
            self._given_up.discard(connection)
            connection.sock.close()

    def hang_up(self) -> tuple[Connection, ...]:
        """Let all see the end of what their clients send; answers that are under way still go out."""
        with self._lock:
            left = (*self._open, *self._given_up)
            for connection in left:
                shut(connection.sock, socket.SHUT_RD)
        return left

    def _to_give_up(self, account: str) -> Connection | None:
        held = Counter(one.caller.payer.account for one in self._open)
        fair = {other for other, count in held.items() if count > held[account] + 1}
        able = [
            one for one in self._open if one.caller.payer.account in fair and one.phase is not Phase.ANSWERING
        ]
        return min(
            able,
            key=lambda one: (
                -held[one.caller.payer.account],
                one.phase is not Phase.RECEIVING,
                one.since_s,
            ),
            default=None,
        )

    def _give_up(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._given_up.add(connection)
        # one that receives may begin to answer just now: what it answers still goes out
        receiving = connection.phase is Phase.RECEIVING
        shut(connection.sock, socket.SHUT_RD if receiving else socket.SHUT_RDWR)


def shut(sock: socket.socket, way: int) -> None:
    """Shut a way of the connection, in TLS the one below: SSLSocket.shutdown would go on in plain text."""
    with suppress(OSError):  # gone already
        socket.socket.shutdown(sock, way)
