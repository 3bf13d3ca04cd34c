"""The time that a search may take, and the word that ends it early.

A budget decides how many candidates are tried, never what a candidate is: the same candidate has the same
bytes whatever was left when it was made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Clock = Callable[[], float]


class Budget:
    """Seconds to spend. Work asks `spent_up` between candidates; nothing is interrupted half-way."""

    def __init__(self, seconds: float = math.inf, clock: Clock = time.monotonic) -> None:
        """Start the clock.

        Args:
            seconds: Infinite for a search that tries everything.
        """
        self.seconds, self._clock, self._start = seconds, clock, clock()
        self.stopped = False

    def stop(self) -> None:
        """End the search after the candidate that is being made."""
        self.stopped = True

    @property
    def used_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def spent_up(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.stopped or self.used_s >= self.seconds

    @property
    def share(self) -> float:
        """How much of it is used, 0 to 1; 0 of an infinite one."""
        return min(1.0, self.used_s / self.seconds) if self.seconds else 1.0

    def until(self, share: float) -> Slice:
        """A part of what is left: for one of several searches that follow each other.

        Args:
            share: Of the seconds that are left now, 0 to 1.
        """
        return Slice(self, self.used_s + share * (self.seconds - self.used_s))


class Slice:
    """One search's part of a budget."""

    def __init__(self, whole: Budget, end_s: float) -> None:
        """Note the end, in the whole budget's seconds."""
        self._whole, self._end_s = whole, end_s

    @property
    def spent_up(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._whole.spent_up or self._whole.used_s >= self._end_s

    @property
    def why(self) -> str:
        """What ended the search, as a report says it."""
        if self._whole.stopped:
            return "stopped by the user"
        return f"the time budget of {self._whole.seconds:g} s was used up"
