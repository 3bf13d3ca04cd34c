"""What waits for the agent's thread: messages of the broker, finished work, and calls of other threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Empty, Queue

from edge_agent.telemetry.mqtt import Happening, LinkDown, LinkUp
from edge_agent.worker import Done

MAX_QUEUED = 1000  # messages from the broker; beyond, whoever sends them is not heard
Item = Happening | Done | Callable[[], None]


class Inbox:
    """The queue. Any thread puts, the agent's takes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._queue: Queue[Item] = Queue()
        self.put = self._queue.put

    def hear(self, happening: Happening) -> None:
        """Put what came from the broker; called in the network thread."""
        if isinstance(happening, LinkUp | LinkDown) or self._queue.qsize() < MAX_QUEUED:
            self._queue.put(happening)

    def take(self, wait_s: float) -> Iterator[Item]:
        """Everything that is there; waits for the first at most so long."""
        try:
            yield self._queue.get(timeout=wait_s)
            while True:
                yield self._queue.get_nowait()
        except Empty:
            return
