"""Messages that arrived and are not worked on yet: bounded, and fair between senders.

Senders take turns, and none may have more than its share waiting, so that one that floods delays and
loses only its own messages. What does not fit is refused to the caller, who counts it; devices send again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """A queue of queues, one for each sender, emptied in turns.

    Args:
        per_sender, total: How many may wait.
    """

    def __init__(self, per_sender: int, total: int) -> None:
        """Start empty and open."""
        self._per_sender, self._total = per_sender, total
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()  # by whose turn it is
        self._count = 0
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, sender: str, item: Item) -> bool:
        """Let an item wait; False when the sender or all together have too many. Never waits."""
        with self._changed:
            queue = self._waiting.get(sender)
            if self._closed or self._count >= self._total or (queue and len(queue) >= self._per_sender):
                return False
            if queue is None:
                queue = self._waiting[sender] = deque()
            queue.append(item)
            self._count += 1
            self._changed.notify()
            return True

    def take(self, most: int, timeout_s: float) -> list[Item]:
        """Up to `most` items, one of each sender in turn; waits for the first. Empty after the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._count or self._closed, timeout_s)
            taken: list[Item] = []
            while self._waiting and len(taken) < most:
                sender, queue = self._waiting.popitem(last=False)
                taken.append(queue.popleft())
                if queue:
                    self._waiting[sender] = queue  # to the end of the line
            self._count -= len(taken)
            return taken

    @property
    def count(self) -> int:
        """How many wait."""
        return self._count

    @property
    def closed(self) -> bool:
        """Whether nothing is taken in any more."""
        return self._closed

    def close(self) -> None:
        """Take nothing in any more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
