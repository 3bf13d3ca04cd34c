"""When each device of a stage is begun: by rate, bound of devices in flight, and maintenance windows. Pure.

The server looks each second; here the same follows from the times at once.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_fleet.panel import Floats
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.windows import LABEL, closes_at, opens_at

NEVER = math.inf


@dataclass(frozen=True)
class Paced:
    """When devices are begun, seconds since the start of the run.

    Args:
        begun_s: Of each.
        openings: When a stretch begins in which devices are begun: at once, and where windows open.
    """

    begun_s: Floats
    openings: tuple[float, ...]


def paced(
    plan: RolloutPlan,
    zones: Sequence[str | None],
    takes_s: Floats,
    confirmed: int,
    now: float,
    start_s: float,
    spreads: bool = True,
) -> Paced:
    """When each of some devices is begun, in their order.

    Args:
        zones: The label `tz` of each; None where it has none.
        takes_s: How long each is on its way; infinite for one that does not answer.
        confirmed: Devices that run the release already: a rate may grow with them.
        start_s: Unix seconds of the start of the run; for windows.
        spreads: Whether rate and bound hold; windows always do.
    """
    rate, most = (plan.rate, plan.max_in_flight) if spreads else (None, None)
    times = np.full(len(zones), now)
    if rate is None and most is None and not plan.windows:
        return Paced(times, (now,))
    hours = _Hours(plan, start_s)
    queues: dict[str | None, deque[int]] = {}
    for place, zone in enumerate(zones):
        queues.setdefault(zone if plan.windows else None, deque()).append(place)
    openings, flying = [now], list[float]()
    at, begun = now, 0
    while queues:
        if rate is not None and begun:
            at += 60.0 / rate.now(confirmed + begun)
        if most is not None and len(flying) >= most:
            at = max(at, heapq.heappop(flying))
        open_s = {zone: hours.open_from(zone, at) for zone in queues}
        soonest = min(open_s.values())
        if soonest > at:
            openings.append(soonest)
            at = soonest
        zone = min((zone for zone in queues if open_s[zone] <= at), key=lambda zone: queues[zone][0])
        place = queues[zone].popleft()
        if not queues[zone]:
            del queues[zone]
        times[place], begun = at, begun + 1
        takes = float(takes_s[place])
        heapq.heappush(flying, at + (plan.silence_s if math.isinf(takes) else takes))
    return Paced(times, tuple(openings))


class _Hours:
    """When a plan's windows are open, by time zone."""

    def __init__(self, plan: RolloutPlan, start_s: float) -> None:
        """Nothing is looked up yet."""
        self._plan, self._start_s = plan, start_s
        self._open: dict[str | None, tuple[float, float]] = {}

    def open_from(self, zone: str | None, at: float) -> float:
        """The first time from a moment on at which a window is open."""
        if not self._plan.windows:
            return at
        opens, closes = self._open.get(zone, (NEVER, -NEVER))
        if at >= closes:
            opens, closes = self._open[zone] = self._next(zone, at)
        return max(at, opens)

    def _next(self, zone: str | None, at: float) -> tuple[float, float]:
        windows, default = self._plan.windows, self._plan.time_zone
        labels, now_s = ({} if zone is None else {LABEL: zone}), self._start_s + at
        opens_s: float | None = now_s
        closes_s = closes_at(windows, labels, default, now_s)
        if closes_s is None:
            opens_s = opens_at(windows, labels, default, now_s)
            assert opens_s is not None, "a window opens each week"
            closes_s = closes_at(windows, labels, default, opens_s)
        assert opens_s is not None and closes_s is not None, "what opens is open"
        return max(at, opens_s - self._start_s), closes_s - self._start_s
