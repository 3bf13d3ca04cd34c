"""Whose turn it is to touch the session: the inference thread's, and another's while that one sleeps.

The inference thread holds the turn whenever it is awake. A thread with a request may borrow it meanwhile and
answer by itself, which spares two hand-overs between threads: many times what a small model takes. A
borrower never waits, and nobody can borrow once the inference thread wants its turn back.
"""

from __future__ import annotations

import threading


class Turn:
    """One turn, held by nobody at first."""

    def __init__(self) -> None:
        """Lie free."""
        self._lock = threading.Lock()
        self._wanted = False

    def take(self) -> None:
        """Have the turn, as soon as a borrower has given it back. For the inference thread."""
        self._wanted = True
        self._lock.acquire()
        self._wanted = False

    def borrow(self) -> bool:
        """Have the turn if it lies free and is not wanted; whether that was so."""
        return not self._wanted and self._lock.acquire(blocking=False)

    def give(self) -> None:
        """Let it lie free."""
        self._lock.release()
