"""Giving way: what can wait rests while messages of devices wait to be stored.

A device holds what is not acknowledged, in memory that is small; the server's sums and what it tells again
are read from the database and lose nothing by being late. But not for ever: after a while they are
done under load too. How much waits is counted in bytes: an envelope may hold one record or a hundred.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PRESSURE = 64 << 10  # bytes that wait, about as many as 64 records by themselves: fewer are work on its way
POLL_S = 0.05
LATE_S = 30.0


class GivingWay:
    """How one kind of work rests.

    Args:
        waiting: How many bytes of messages wait to be stored, or are being stored.
        late_s: It rests no longer than this after it was last up to date.
    """

    def __init__(self, waiting: Callable[[], int], late_s: float = LATE_S) -> None:
        """Begin as up to date."""
        self._waiting, self._late_s = waiting, late_s
        self._up_to_date_at = time.monotonic()

    def rest(self, stop: threading.Event) -> None:
        """Rest while it should, or until told to stop."""
        while self._should_rest() and not stop.wait(POLL_S):
            pass

    def up_to_date(self) -> None:
        """Note that nothing is left to do."""
        self._up_to_date_at = time.monotonic()

    def _should_rest(self) -> bool:
        return self._waiting() > PRESSURE and time.monotonic() - self._up_to_date_at < self._late_s


def never() -> GivingWay:
    """Of work with nobody to give way to."""
    return GivingWay(lambda: 0)
