"""Axes: from values to places on paper, and the round numbers that are written beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A stretch of numbers along an axis.

    Args:
        ticks: Where a number is written, ascending, all between low and high.
        logarithmic: Equal factors are equally long.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def at(self, value: float, start: float, stop: float) -> float:
        """The place of a value between `start` (low) and `stop` (high); beyond the ends at the ends."""
        low, high, value = (self._measure(v) for v in (self.low, self.high, value))
        inside = min(max((value - low) / (high - low), 0.0), 1.0)
        return start + inside * (stop - start)

    def _measure(self, value: float) -> float:
        return math.log(max(value, self.low / 2)) if self.logarithmic else value


def linear(values: Iterable[float], wanted: int = 5, from_zero: bool = False, padding: float = 0.0) -> Scale:
    """A scale that holds all values, with about so many round ticks (1, 2 or 5 times a power of ten).

    Args:
        padding: Room on either side, as a share of the values' own range.
    """
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(high) / 10 or 1.0
        low, high = (0.0 if from_zero and low >= 0 else low - room), high + room
    low, high = low - padding * (high - low), high + padding * (high - low)
    step = _round_step((high - low) / wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(step * i for i in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def logarithmic(values: Iterable[float]) -> Scale:
    """A scale for positive values that span factors; ticks at 1, 2 and 5 times powers of ten."""
    positive = [v for v in values if math.isfinite(v) and v > 0] or [1.0, 10.0]
    low, high = min(positive) / 1.15, max(positive) * 1.15
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    all_ticks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    ticks = tuple(t for t in all_ticks if low <= t <= high)
    if len(ticks) < 2:
        return linear([low, high])
    while len(ticks) > 6:
        ticks = ticks[::2]
    return Scale(low, high, ticks, True)


def spread(values: Iterable[float]) -> Scale:
    """A logarithmic scale where positive values span a factor of 4 or more, else a linear one."""
    known = [v for v in values if math.isfinite(v)]
    positive = bool(known) and min(known) > 0
    return logarithmic(known) if positive and max(known) >= 4 * min(known) else linear(known, padding=0.06)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= least * 0.999)


def tick_label(value: float) -> str:
    """A tick's number without needless zeros."""
    made = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.6g}"
    return "0" if abs(value) < 1e-12 else made.replace("-", "\u2212")
