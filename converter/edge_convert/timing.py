"""Timing of engines against each other on a host that does other things too.

Rounds are interleaved, so that whatever else the machine does falls on all of them; each round
gives one number per engine. What the numbers mean is decided in `gates.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

ROUNDS = 21
ROUND_S = 0.01  # long enough for the clock, short enough that a neighbour's burst hits few rounds
MAX_CALLS = 500
Clock = Callable[[], float]


def interleaved_ms(
    calls: Mapping[str, Callable[[], None]], rounds: int = ROUNDS, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Time each call in turn, again and again.

    Args:
        calls: By name; each runs one inference.
        clock: Seconds, monotonic.

    Returns:
        By name, milliseconds per call in each round.
    """
    counts = {name: _calls_per_round(call, clock) for name, call in calls.items()}
    result: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for index in range(rounds):
        # every other round backwards, so that nobody always runs after the same neighbour
        for name in order if index % 2 == 0 else reversed(order):
            call, count = calls[name], counts[name]
            start = clock()
            for _ in range(count):
                call()
            result[name].append((clock() - start) * 1000 / count)
    return result


def _calls_per_round(call: Callable[[], None], clock: Clock) -> int:
    """How many calls fill a round; also warms the caches up."""
    call()
    start = clock()
    for _ in range(3):
        call()
    seconds = max((clock() - start) / 3, 1e-9)
    return max(1, min(MAX_CALLS, round(ROUND_S / seconds)))
