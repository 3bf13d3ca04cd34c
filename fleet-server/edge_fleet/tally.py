"""What the windows of one device add up to: at each of its marks, and now. Pure.

A tally grows by windows and keeps none of them. Its marks are where 1, 2, 4, 8, ... windows were reached, so
that what it takes grows with the logarithm of their number, and to take a window in costs what the window
costs. One that has grown is another tally: who subtracts what a device came to before still has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_contracts.sketch import bin_index
from edge_fleet.reading import Reading

Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.intp]
COUNTED: Mapping[str, Callable[[Reading], float]] = {
    # a sum of several windows is one witness, as a window is
    "windows": lambda r: 1.0 if r.inferences + r.errors + r.refused else 0.0,
    "attempts": lambda r: r.inferences + r.errors + r.refused,
    "failed": lambda r: r.errors + r.refused,
    "golden": lambda r: r.golden_total,
    "golden_off": lambda r: r.golden_total - r.golden_agree,
    "answered": lambda r: r.sure + r.second + r.uncertain,
    "uncertain": lambda r: r.uncertain,
    "second": lambda r: r.second,
    "labelled": lambda r: r.labelled,
    "wrong": lambda r: r.labelled - r.correct,
    "compared": lambda r: r.compared,
    "differing": lambda r: r.compared - r.agreed,
    "rated": lambda r: sum(r.confidence),
    "confidence": lambda r: _confidence(r.confidence),
    "doubt": lambda r: sum(r.confidence) - _confidence(r.confidence),
}
HISTOGRAMS: dict[str, Callable[[Reading], Mapping[int, int]]] = {
    "latency_ms": lambda r: r.latency_ms.bins,
    "shadow_ms": lambda r: r.shadow_ms.bins,
    "rss_mb": lambda r: {bin_index(r.rss_bytes / 1e6): 1} if r.rss_bytes else {},
    "temperature_c": lambda r: {} if r.temperature_c is None else {bin_index(r.temperature_c): 1},
}
_NO_BINS: Rows = np.zeros(0, np.intp)
_NOTHING: Floats = np.zeros((len(COUNTED), 1))


def _confidence(bins: Sequence[int]) -> float:
    """The sum of confidences that are known by their bins of equal width."""
    return sum(count * (place + 0.5) / len(bins) for place, count in enumerate(bins))


class Keeps(Enum):
    """What a tally keeps of its marks."""

    NOW = "nothing: it says where the device stands"
    COUNTS = "counts; histograms are of now alone"
    ALL = "counts and histograms"


class Batch:
    """Windows of one device in the order of their arrival, and what is counted of them."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        """Count."""
        self.readings = readings
        self.counts: Floats = np.array(
            [[of(r) for r in readings] for of in COUNTED.values()], dtype=np.float64
        )  # names by windows
        self._bins: dict[str, tuple[Rows, Rows, Floats]] = {}

    def bins(self, name: str) -> tuple[Rows, Rows, Floats]:
        """Of a histogram: index of the window, bin, and count."""
        if name not in self._bins:
            of = HISTOGRAMS[name]
            found = [of(reading) for reading in self.readings]
            self._bins[name] = (
                np.repeat(np.arange(len(found)), [len(one) for one in found]),
                np.fromiter((index for one in found for index in one), np.intp),
                np.fromiter((count for one in found for count in one.values()), np.float64),
            )
        return self._bins[name]


@dataclass(frozen=True, slots=True)
class Tally:
    """What some windows of one device add up to.

    Args:
        exact: How many there were without noise for privacy: the others' counts are not counts.
        noisy: How many with it.
        windows: As `exact`, and one that is the sum of several counts as these.
        counts: Names of COUNTED by the device's own marks; the last column is now.
        histograms: By name of HISTOGRAMS, as far as there are values: bins, ascending, and counts of each
            by marks as `counts`, or now alone.
    """

    device: str
    keeps: Keeps = Keeps.ALL
    exact: int = 0
    noisy: int = 0
    windows: int = 0
    counts: Floats = field(default_factory=lambda: _NOTHING)
    histograms: Mapping[str, tuple[Rows, Floats]] = field(default_factory=dict)

    @property
    def marks(self) -> int:
        """How many marks it has reached, as far as they are kept."""
        return int(self.counts.shape[1]) - 1

    def histogram(self, name: str) -> tuple[Rows, Floats]:
        """Its bins, ascending, and counts by its own marks; of now alone where marks have none."""
        bins, counts = self.histograms.get(name) or (_NO_BINS, np.zeros((0, self._columns)))
        return bins, counts.T

    def grown(self, batch: Batch, at: Sequence[int]) -> Tally:
        """The same with some windows more.

        Args:
            at: Which of the batch, ascending.
        """
        exact = [i for i in at if not batch.readings[i].noisy]
        noisy = self.noisy + len(at) - len(exact)
        if not exact:
            return self if noisy == self.noisy else replace(self, noisy=noisy)
        windows = self.windows + np.cumsum([batch.readings[i].merged for i in exact])
        now = [len(exact) - 1]
        marks = range(self.windows.bit_length(), int(windows[-1]).bit_length())
        places = [int(np.searchsorted(windows, 2**mark)) for mark in marks] + now
        counts = batch.counts if len(exact) == len(batch.readings) else batch.counts[:, exact]
        return Tally(
            self.device,
            self.keeps,
            self.exact + len(exact),
            noisy,
            int(windows[-1]),
            _appended(self.counts, counts, now if self.keeps is Keeps.NOW else places),
            self._histograms_with(batch, exact, places if self.keeps is Keeps.ALL else now),
        )

    @property
    def _columns(self) -> int:
        return self.marks + 1 if self.keeps is Keeps.ALL else 1

    def _histograms_with(
        self, batch: Batch, exact: Sequence[int], places: Sequence[int]
    ) -> Mapping[str, tuple[Rows, Floats]]:
        found = dict(self.histograms)
        for name in HISTOGRAMS:
            rows, indices, values = batch.bins(name)
            if len(exact) != len(batch.readings):
                place = np.full(len(batch.readings), -1)
                place[exact] = np.arange(len(exact))
                kept = place[rows] >= 0
                rows, indices, values = place[rows[kept]], indices[kept], values[kept]
            if len(indices) or name in found:
                own = found.get(name) or (_NO_BINS, np.zeros((0, self._columns)))
                bins, counts, columns = _widened(*own, indices)
                fresh = np.zeros((len(bins), len(exact)))
                fresh[columns, rows] = values
                found[name] = bins, _appended(counts, fresh, places)
        return found


def tally_of(device: str, readings: Sequence[Reading], keeps: Keeps = Keeps.ALL) -> Tally:
    """The tally of some windows, in the order of their arrival."""
    return Tally(device, keeps).grown(Batch(readings), range(len(readings)))


def together(tallies: Iterable[Tally]) -> Tally | None:
    """Where a device stands by several tallies of now; None without any."""
    return reduce(_added, tallies, None)


def _added(one: Tally | None, other: Tally) -> Tally:
    if one is None:
        return other
    histograms = dict(one.histograms)
    for name, (indices, values) in other.histograms.items():
        own = histograms.get(name) or (_NO_BINS, np.zeros((0, 1)))
        bins, counts, places = _widened(*own, indices)
        summed = counts.copy()
        summed[places] += values
        histograms[name] = bins, summed
    return Tally(
        one.device,
        Keeps.NOW,
        one.exact + other.exact,
        one.noisy + other.noisy,
        one.windows + other.windows,
        one.counts + other.counts,
        histograms,
    )


def _appended(kept: Floats, fresh: Floats, places: Sequence[int]) -> Floats:
    """Sums by marks that go on from the last column, at some places of what comes.

    One after the other from there, so that it does not matter in how many batches windows came.
    """
    summed = np.cumsum(np.concatenate((kept[:, -1:], fresh), axis=1), axis=1)
    return np.concatenate((kept[:, :-1], summed[:, [place + 1 for place in places]]), axis=1)


def _widened(bins: Rows, counts: Floats, indices: Rows) -> tuple[Rows, Floats, Rows]:
    """The same with rows for more bins, and where these are."""
    places = np.searchsorted(bins, indices)
    if len(bins) and np.array_equal(bins[np.minimum(places, len(bins) - 1)], indices):
        return bins, counts, places
    every = np.union1d(bins, indices)
    wide = np.zeros((len(every), counts.shape[1]))
    wide[np.searchsorted(every, bins)] = counts
    return every, wide, np.searchsorted(every, indices)
