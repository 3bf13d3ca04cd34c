"""The HTTP side as a process's main work: listening, saying when it serves, and ending in good order.

At SIGTERM or SIGINT no connection is taken any more, streams end, and requests that are under way have
`SHUTDOWN_S` to be finished. What comes after it takes the other parts down: `serve.py`.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from edge_fleet.access.https import HttpTls
from edge_fleet.config import Address
from edge_fleet.errors import AddressInUse

SHUTDOWN_S = 10
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class HttpServer(uvicorn.Server):
    """uvicorn that says when it serves, that it works, and that it was told to stop.

    Args:
        started: Called when it serves.
        stopping: Called when it was told to stop, before anything is waited for.
        working: Called some times a second as long as the event loop goes round.
    """

    def __init__(
        self,
        app: ASGIApp,
        tls: HttpTls | None,
        started: Callable[[], None],
        stopping: Callable[[], None],
        working: Callable[[], None],
    ) -> None:
        """Describe the server; `run` serves until it is told to stop."""
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=SHUTDOWN_S,
                server_header=False,
                ssl_certfile=tls.cert if tls else None,
                ssl_keyfile=tls.key if tls else None,
            )
        )
        self._started, self._told_to_stop, self._working = started, stopping, working

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and tell."""
        await super().startup(sockets)
        self._started()

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, and tell."""
        self._working()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but without raising the signal again: what comes after it takes the parts down."""
        before = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and tell; not from the signal's handler, which may interrupt one who holds a lock."""
        self._told_to_stop()
        await super().shutdown(sockets)


@contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """A listening socket, taken before anything is started.

    Raises:
        AddressInUse: Somebody else listens there, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # the protocol by name: asyncio sets TCP_NODELAY on none of another, and every answer waits 40 ms
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
            listener.listen(128)
        except OSError as error:
            raise AddressInUse(f"cannot listen at http {address}: {error.strerror or error}") from None
        yield listener
