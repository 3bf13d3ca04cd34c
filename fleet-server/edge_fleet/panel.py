"""What devices reported, laid out for tests: one row per device, one column per look. Pure.

A device's counts are taken when it has reported 1, 2, 4, 8, ... windows. The share of a device at such
a mark is one number that does not change any more, so a test that uses one mark of each device holds at
any look, whatever its windows have to do with each other. The last column is where the device stands
now: it says how things are, and what a gate may pass on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_contracts.sketch import QuantileSketch, bin_index
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


def _confidence(bins: Sequence[int]) -> float:
    """The sum of confidences that are known by their bins of equal width."""
    return sum(count * (place + 0.5) / len(bins) for place, count in enumerate(bins))


@dataclass(frozen=True)
class Share:
    """Of so many things, so many were bad: per device and mark, summed up to it. NaN: not reached.

    Args:
        bad, total: Devices by marks; the last column is now.
        windows: Those in which anything was asked for.
    """

    devices: tuple[str, ...]
    bad: Floats
    total: Floats
    windows: Floats

    @property
    def marks(self) -> int:
        """Number of marks, without the last column."""
        return int(self.bad.shape[1]) - 1

    def at(self, column: int) -> tuple[Rows, Floats]:
        """The rows of the devices that have a share at a mark, and those shares."""
        total = self.total[:, column]
        rows = np.flatnonzero(total > 0)
        return rows, self.bad[rows, column] / total[rows]

    def blocks(self) -> tuple[Floats, Floats]:
        """Bad and total of the stretches between marks, by device: clusters of dependent trials."""
        bad, total = (
            np.diff(np.maximum.accumulate(np.nan_to_num(summed), axis=1), axis=1, prepend=0.0)
            for summed in (self.bad, self.total)
        )
        return bad, total

    @property
    def now(self) -> tuple[float, float]:
        """Bad and total of all devices, up to now."""
        return float(self.bad[:, -1].sum()), float(self.total[:, -1].sum())


@dataclass(frozen=True)
class Histogram:
    """Counts by bin, per device and mark.

    Args:
        bins: Ascending indices, as `sketch.bin_index` makes them.
        counts: Devices by marks by bins.
    """

    bins: Floats
    counts: Floats

    @property
    def totals(self) -> Floats:
        """Values of each device, up to now."""
        summed: Floats = self.counts[:, -1].sum(axis=1)
        return summed

    def quantiles(self, q: float) -> Floats:
        """The quantile of each device's values up to now; NaN where it has none."""
        return self._quantiles(self.counts[:, -1], q)

    def quantile(self, q: float) -> float | None:
        """The quantile of all devices' values up to now; None when there is none."""
        if not self.counts.size or not self.totals.sum():
            return None
        return float(self._quantiles(self.counts[:, -1].sum(axis=0)[None, :], q)[0])

    def _quantiles(self, counts: Floats, q: float) -> Floats:
        """As `QuantileSketch.quantile`, for many at once."""
        if not self.bins.size:
            return np.full(len(counts), np.nan)
        values = np.array(
            [QuantileSketch(bins={int(k): 1}).quantile(0.5) for k in self.bins], dtype=np.float64
        )
        total = counts.sum(axis=1)
        reached = counts.cumsum(axis=1) > (q * (total - 1))[:, None]
        found: Floats = np.where(total > 0, values[reached.argmax(axis=1)], np.nan)
        return found


def quantile_of(counts: Mapping[int, float], q: float) -> float | None:
    """As `QuantileSketch.quantile`, of counts by bin that need not be whole numbers; None without any."""
    bins = np.array(sorted(counts), dtype=np.float64)
    return Histogram(bins, np.array([[[counts[int(k)] for k in bins]]])).quantile(q)


@dataclass(frozen=True)
class Panel:
    """Some devices' reports.

    Args:
        counts: By name, devices by marks.
        noisy: Windows that carry noise for privacy and are left out: their counts are not counts.
    """

    devices: tuple[str, ...] = ()
    counts: Mapping[str, Floats] = field(default_factory=dict)
    histogram: Callable[[str], Histogram] = lambda name: Histogram(np.zeros(0), np.zeros((0, 1, 0)))
    noisy: int = 0

    def share(self, bad: str, total: str) -> Share:
        """Of what was counted as `total`, what was counted as `bad`."""
        if not self.devices:
            return _NO_SHARE
        return Share(self.devices, self.counts[bad], self.counts[total], self.counts["windows"])

    def beyond(self, name: str, threshold: Callable[[str], float]) -> Share:
        """Of the values of a histogram, those that are surely above the device's threshold."""
        if not self.devices:
            return _NO_SHARE
        found = self.histogram(name)
        # bin k holds (g^(k-1), g^k]: all of it is above the threshold when the threshold's bin is below
        limits = np.array([bin_index(threshold(device)) for device in self.devices])
        over = found.bins[None, None, :] > limits[:, None, None]
        return Share(
            self.devices,
            (found.counts * over).sum(axis=2),
            found.counts.sum(axis=2),
            self.counts["windows"],
        )


EMPTY = Panel()
_NO_SHARE = Share((), np.zeros((0, 1)), np.zeros((0, 1)), np.zeros((0, 1)))


@dataclass(frozen=True)
class DeviceRows:
    """What one device contributes to a panel: worked out once, and again when it has reported more.

    Args:
        readings: Its exact windows in the order of their arrival.
        place: Index of the window with which it reached each mark, then that of its last one.
        counts: Names of COUNTED by the device's own marks; the last column is now.
        noisy: Windows left out.
    """

    device: str
    readings: tuple[Reading, ...]
    place: tuple[int, ...]
    counts: Floats
    noisy: int
    _histograms: dict[str, tuple[Rows, Floats]] = field(default_factory=dict, compare=False)

    @property
    def marks(self) -> int:
        """How many marks it has reached."""
        return len(self.place) - 1

    def histogram(self, name: str) -> tuple[Rows, Floats]:
        """Its bins, ascending, and counts by its own marks."""
        if name not in self._histograms:
            self._histograms[name] = _own_histogram(HISTOGRAMS[name], self.readings, self.place)
        return self._histograms[name]


def rows_of(device: str, readings: Iterable[Reading]) -> DeviceRows | None:
    """The rows of one device; None when it has no windows."""
    kept, noisy = [], 0
    for reading in readings:
        if reading.noisy:
            noisy += 1
        else:
            kept.append(reading)
    if not kept:
        return DeviceRows(device, (), (), np.zeros((len(COUNTED), 0)), noisy) if noisy else None
    kept.sort(key=lambda r: r.received_s)
    windows = np.cumsum([r.merged for r in kept])
    marks = int(windows[-1]).bit_length()
    place = (*(int(np.searchsorted(windows, 2**j)) for j in range(marks)), len(kept) - 1)
    summed = np.cumsum([[of(r) for r in kept] for of in COUNTED.values()], axis=1, dtype=np.float64)
    return DeviceRows(device, tuple(kept), place, summed[:, list(place)], noisy)


def assemble(parts: Iterable[DeviceRows | None]) -> Panel:
    """The panel of some devices, ordered by name."""
    found = [part for part in parts if part is not None]
    noisy = sum(part.noisy for part in found)
    rows = [part for part in found if part.readings]
    if not rows:
        return Panel(noisy=noisy)
    marks = max(part.marks for part in rows)
    laid = np.full((len(rows), len(COUNTED), marks + 1), np.nan)
    for own, at in _by_marks(rows).items():
        block = np.stack([rows[i].counts for i in at])
        laid[at, :, :own] = block[:, :, :own]
        laid[at, :, -1] = block[:, :, -1]
    counts = {name: laid[:, n] for n, name in enumerate(COUNTED)}
    return Panel(tuple(part.device for part in rows), counts, lambda name: _histogram(name, rows), noisy)


def _by_marks(rows: Sequence[DeviceRows]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i, part in enumerate(rows):
        found.setdefault(part.marks, []).append(i)
    return found


def _histogram(name: str, rows: Sequence[DeviceRows]) -> Histogram:
    parts = [part.histogram(name) for part in rows]
    bins = np.unique(np.concatenate([own for own, _ in parts]))
    marks = max(part.marks for part in rows)
    counts = np.full((len(rows), marks + 1, len(bins)), np.nan)
    for own, at in _by_marks(rows).items():
        counts[at, :own] = 0
        counts[at, -1] = 0
        for i in at:
            indices, summed = parts[i]
            columns = np.searchsorted(bins, indices)
            counts[i, :own, columns] = summed[:own].T
            counts[i, -1, columns] = summed[-1]
    return Histogram(bins.astype(np.float64), counts)


def _own_histogram(
    of: Callable[[Reading], Mapping[int, int]], readings: Sequence[Reading], place: Sequence[int]
) -> tuple[Rows, Floats]:
    found = [of(reading) for reading in readings]
    bins = np.array(sorted({index for one in found for index in one}), dtype=np.intp)
    column = {int(index): at for at, index in enumerate(bins)}
    counts = np.zeros((len(found), len(bins)))
    for row, one in enumerate(found):
        for index, count in one.items():
            counts[row, column[index]] += count
    return bins, counts.cumsum(axis=0)[list(place)]
