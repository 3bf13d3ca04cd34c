"""What waits of one account: its requests by client, each client in its turn.

An account is what a client cannot choose (`Payer.account`); what it calls itself only divides what its
account has. How much that is, is `request_queue.py`'s.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass

from edge_agent.inference.request import Reply, Request


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request with the promise of its reply."""

    request: Request
    future: Future[Reply]


class Account:
    """The requests of one account, with how many they are and their bytes. For one thread at a time."""

    __slots__ = ("_clients", "size_bytes", "waiting")

    def __init__(self) -> None:
        """Begin empty."""
        self._clients: OrderedDict[str, deque[tuple[Waiting, int]]] = OrderedDict()  # in the order of turns
        self.waiting = 0
        self.size_bytes = 0

    def put(self, waiting: Waiting, size_bytes: int) -> None:
        """Take a request in, behind those of its client; a client that had none comes last."""
        name = waiting.request.client
        queue = self._clients.get(name)
        if queue is None:
            queue = self._clients[name] = deque()
        queue.append((waiting, size_bytes))
        self.waiting += 1
        self.size_bytes += size_bytes

    def take(self) -> tuple[Waiting, int]:
        """The oldest request of the client whose turn it is, with its bytes; then it is the others' turn."""
        name, queue = next(iter(self._clients.items()))
        waiting, size_bytes = queue.popleft()
        if queue:
            self._clients.move_to_end(name)
        else:
            del self._clients[name]
        self.waiting -= 1
        self.size_bytes -= size_bytes
        return waiting, size_bytes

    def waiting_of(self, client: str) -> int:
        """How many requests of one of its clients wait."""
        return len(self._clients.get(client, ()))
