"""Which samples of a window have their moments taken, where more come than a verdict on drift can use.

The mean and deviation of a large input cost more than all else that is counted of an inference. Up to twice
RATE samples a second each has them taken. Above, one in two has, one in three, and so on to one in SHARE, by
how many came in the window before: RATE a second or more. What the others would add to a verdict is told in
decision 0121.

They are drawn, by a generator that begins alike on every device. Every fourth sample, say, would always be
the same camera's where four take turns; multiples of the golden ratio, which are even over few turns, leave
some of 48 cameras out for minutes.
"""

from __future__ import annotations

from random import Random

RATE = 10  # samples a second that are enough
FEWEST = 600  # of a window, however short it is: a minute's at that rate
SHARE = 8


class Thinning:
    """The choice within the window that is open now: by the sample's place in it, and the window before."""

    def __init__(self) -> None:
        """Begin the first window, of which every sample is taken."""
        self._seen = 0
        self._share = 1.0
        self._draw = Random(0).random

    def begin(self, lasted_s: float) -> None:
        """Begin the next window.

        Args:
            lasted_s: How long the one before was open.
        """
        times_enough = int(self._seen / max(FEWEST, RATE * lasted_s))
        self._share = 1 / min(SHARE, max(1, times_enough))
        self._seen = 0

    def __call__(self) -> bool:
        """Whether the next sample's moments are to be taken."""
        self._seen += 1
        return self._draw() < self._share
