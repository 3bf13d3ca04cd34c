"""Windows that arrive look by look at a gathering, with all of them at hand, as the database has them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from edge_fleet.reading import Reading


class Arriving:
    """A `gathering.Windows`, which remembers what it was asked for again."""

    def __init__(self) -> None:
        self.every: list[Reading] = []
        self.asked: list[tuple[str, float]] = []
        self._taken = 0

    def arrive(self, readings: Sequence[Reading]) -> None:
        self._taken = len(self.every)
        self.every += readings

    def fresh(self) -> Iterator[tuple[str, Sequence[Reading]]]:
        return _by_device(self.every[self._taken :])

    def again(self, since_s: Mapping[str, float], fresh: bool) -> Iterator[tuple[str, Sequence[Reading]]]:
        self.asked += since_s.items()
        there = self.every if fresh else self.every[: self._taken]
        return _by_device(r for r in there if r.received_s >= since_s.get(r.device, math.inf))


def _by_device(readings: Iterable[Reading]) -> Iterator[tuple[str, list[Reading]]]:
    found: dict[str, list[Reading]] = {}
    for reading in sorted(readings, key=lambda r: r.received_s):
        found.setdefault(reading.device, []).append(reading)
    for device, own in found.items():
        yield device, own[: len(own) // 2 + 1]
        if rest := own[len(own) // 2 + 1 :]:
            yield device, rest
