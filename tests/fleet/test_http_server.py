"""The listening socket of the HTTP side."""

from __future__ import annotations

import asyncio
import socket

from edge_fleet.config import Address
from edge_fleet.http_server import listening


def test_an_answer_of_two_packets_does_not_wait_for_the_clients_acknowledgement() -> None:
    async def delays() -> int:
        found: asyncio.Queue[int] = asyncio.Queue()

        def taken(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            found.put_nowait(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening(Address("127.0.0.1", 0)) as listener:
            async with await asyncio.start_server(taken, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
                set_ = await found.get()
                writer.close()
                return set_

    assert asyncio.run(delays())
