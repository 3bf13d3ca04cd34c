"""What devices reported, laid out for tests: one row per device, one column per look. Pure.

A device's counts are taken when it has reported 1, 2, 4, 8, ... windows. The share of a device at such
a mark is one number that does not change any more, so a test that uses one mark of each device holds at
any look, whatever its windows have to do with each other. The last column is where the device stands
now: it says how things are, and what a gate may pass on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_contracts.sketch import QuantileSketch, bin_index
from edge_fleet.tally import COUNTED, Floats, Rows, Tally

__all__ = ["EMPTY", "Floats", "Histogram", "Panel", "Rows", "Share", "assemble", "quantile_of"]


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
        counts: Devices by marks by bins; of now alone where tallies keep no histograms at marks.
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


def assemble(parts: Iterable[Tally | None]) -> Panel:
    """The panel of some devices, ordered by name."""
    found = [part for part in parts if part is not None]
    noisy = sum(part.noisy for part in found)
    rows = [part for part in found if part.exact]
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


def _by_marks(rows: Sequence[Tally]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i, part in enumerate(rows):
        found.setdefault(part.marks, []).append(i)
    return found


def _histogram(name: str, rows: Sequence[Tally]) -> Histogram:
    parts = [part.histogram(name) for part in rows]
    bins = np.unique(np.concatenate([own for own, _ in parts]))
    marks = max(len(summed) for _, summed in parts) - 1
    counts = np.full((len(rows), marks + 1, len(bins)), np.nan)
    for i, (indices, summed) in enumerate(parts):
        own, columns = len(summed) - 1, np.searchsorted(bins, indices)
        counts[i, :own] = 0
        counts[i, -1] = 0
        counts[i, :own, columns] = summed[:own].T
        counts[i, -1, columns] = summed[-1]
    return Histogram(bins.astype(np.float64), counts)
