"""Messages that arrived and are not worked on yet: bounded, and fair between senders.

Senders take turns, and none may have more bytes waiting than its share, so that one that floods delays
and loses only its own messages. What does not fit is refused to the caller, who counts it; devices send
again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

ITEM_BYTES = 512  # what an item takes besides its own bytes, roughly


@dataclass
class _Queue(Generic[Item]):
    """What waits of one sender, with the size of each."""

    items: deque[tuple[Item, int]] = field(default_factory=deque)
    size_bytes: int = 0


class Inbox(Generic[Item]):
    """A queue of queues, one for each sender, emptied in turns.

    Args:
        per_sender_bytes, total_bytes: How much may wait.
    """

    def __init__(self, per_sender_bytes: int, total_bytes: int) -> None:
        """Start empty and open."""
        self._per_sender, self._total = per_sender_bytes, total_bytes
        self._waiting: OrderedDict[str, _Queue[Item]] = OrderedDict()  # by whose turn it is
        self._count = self._size_bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, sender: str, item: Item, size_bytes: int) -> bool:
        """Let an item wait; False when the sender or all together have too much. Never waits."""
        return not self.offer_all([(sender, item, size_bytes)])

    def offer_all(self, offered: Iterable[tuple[str, Item, int]]) -> list[Item]:
        """Let items wait, each by its sender and size; those that do not fit are given back."""
        with self._changed:
            refused = [item for sender, item, size in offered if not self._let_in(sender, item, size)]
            self._changed.notify()
        return refused

    def _let_in(self, sender: str, item: Item, size_bytes: int) -> bool:
        size_bytes += ITEM_BYTES
        queue = self._waiting.get(sender) or _Queue()
        if (
            self._closed
            or self._size_bytes + size_bytes > self._total
            or queue.size_bytes + size_bytes > self._per_sender
        ):
            return False
        queue.items.append((item, size_bytes))
        queue.size_bytes += size_bytes
        self._waiting[sender] = queue
        self._count += 1
        self._size_bytes += size_bytes
        return True

    def take(self, most: int, timeout_s: float) -> list[Item]:
        """Up to `most` items, one of each sender in turn; waits for the first. Empty after the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._count or self._closed, timeout_s)
            taken: list[Item] = []
            while self._waiting and len(taken) < most:
                sender, queue = self._waiting.popitem(last=False)
                item, size_bytes = queue.items.popleft()
                taken.append(item)
                queue.size_bytes -= size_bytes
                self._size_bytes -= size_bytes
                if queue.items:
                    self._waiting[sender] = queue  # to the end of the line
            self._count -= len(taken)
            return taken

    @property
    def count(self) -> int:
        """How many wait."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """How many bytes wait, with what each item takes besides its own."""
        return self._size_bytes

    @property
    def closed(self) -> bool:
        """Whether nothing is taken in any more."""
        return self._closed

    def close(self) -> None:
        """Take nothing in any more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
