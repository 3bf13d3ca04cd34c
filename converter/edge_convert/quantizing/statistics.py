"""True statistics of every float tensor of a graph over all calibration samples.

Nothing is averaged over samples or smoothed: the stock calibrators do that, and clip (measured: 7 to
11 dB lost). What range follows from the statistics is `quantize.py`'s matter.

Extremes alone are enough for some rules, and cost a tenth of the counting; they are kept by channel, for
`equalize.py`.

The histogram's bins are a power of two wide and grow by merging pairs, so that one pass is enough and
the result does not depend on the order in which samples come, nor on how many run at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert import reference
from edge_convert.errors import DataInvalid
from edge_convert.graph import Array, Graph

# 8192 bins on either side of zero: at least 16 bins to one int8 step, even for a one-sided range that
# has just outgrown a power of two.
_BINS_PER_SIDE = 8192
# Activations held at a time, elements: 128 MB of float32. A constant, so that the same model is always
# cut into the same chunks.
_CHUNK_ELEMENTS = 32 << 20
# Where the pieces change nothing they are smaller, so that what was computed is still in the cache.
_CACHED_ELEMENTS = 2 << 20
_LARGEST_FLOAT32 = 2.0**127


@dataclass(frozen=True, eq=False)
class Extent:
    """From where to where a tensor reaches.

    Args:
        minimum, maximum: Of all elements of all samples.
    """

    minimum: float
    maximum: float


@dataclass(frozen=True, eq=False)
class TensorStatistics(Extent):
    """What was seen of one tensor.

    Args:
        counts: Shape (2 * 8192,), elements per bin; bins are equally wide and cover [-reach, reach).
        reach: A power of two, beyond every absolute value.
        zeros: Elements that are exactly zero; they are in `counts` too. Rounding never harms them.
    """

    counts: NDArray[np.int64]
    reach: float
    zeros: int

    @property
    def total(self) -> int:
        """Number of elements seen."""
        return int(self.counts.sum())

    @property
    def bin_width(self) -> float:
        """Width of one bin, real units."""
        return self.reach / _BINS_PER_SIDE

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of each bin, real units."""
        bins = np.arange(2 * _BINS_PER_SIDE, dtype=np.float64)
        return np.asarray((bins - _BINS_PER_SIDE + 0.5) * self.bin_width)

    def quantile(self, share: float) -> float:
        """The value below which this share of the elements lies, to within a bin, inside [min, max]."""
        below = int(np.searchsorted(np.cumsum(self.counts), share * self.total))
        value = (min(below, 2 * _BINS_PER_SIDE - 1) - _BINS_PER_SIDE + 0.5) * self.bin_width
        return float(np.clip(value, self.minimum, self.maximum))


@dataclass(frozen=True, eq=False)
class Statistics:
    """What was seen of a graph's computed and fed float tensors.

    Args:
        samples: How many samples it stands on.
    """

    tensors: Mapping[str, TensorStatistics]
    samples: int


@dataclass(frozen=True, eq=False)
class Extremes:
    """From where to where a graph's computed and fed float tensors reach, channel by channel.

    Args:
        lows, highs: By tensor name, one element for each channel (the last axis).
    """

    lows: Mapping[str, NDArray[np.float32]]
    highs: Mapping[str, NDArray[np.float32]]

    @property
    def tensors(self) -> Mapping[str, Extent]:
        """The same of whole tensors."""
        return {n: Extent(float(low.min()), float(self.highs[n].max())) for n, low in self.lows.items()}

    def divided(self, divisors: Mapping[str, NDArray[np.float64]]) -> Extremes:
        """Those of the same network with its channels divided by these positive factors."""
        return Extremes(
            {name: (low / divisors[name]).astype(np.float32) for name, low in self.lows.items()},
            {name: (high / divisors[name]).astype(np.float32) for name, high in self.highs.items()},
        )


def extremes(graph: Graph, feeds: Mapping[str, Array]) -> Extremes:
    """Run all samples through the float graph and keep the smallest and largest values.

    Args:
        feeds: By input port name, in the source's layout, n samples on the leading axis.

    Raises:
        DataInvalid: As `collect` does.
    """
    lows: dict[str, NDArray[np.float32]] = {}
    highs: dict[str, NDArray[np.float32]] = {}
    for name, values in _computed(graph, feeds):
        # rows of pixels are compared as long vectors: short loops are slow in numpy
        rows = values.reshape(-1, *values.shape[-2:]) if values.ndim > 2 else np.atleast_2d(values)
        channels = values.shape[-1] if values.ndim else 1
        low, high = (f(rows, axis=0).reshape(-1, channels) for f in (np.min, np.max))
        low, high = low.min(axis=0), high.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise _not_finite(graph, name, values)
        lows[name] = np.minimum(lows.get(name, low), low)
        highs[name] = np.maximum(highs.get(name, high), high)
    return Extremes(lows, highs)


def collect(graph: Graph, feeds: Mapping[str, Array]) -> Statistics:
    """Run all samples through the float graph and count.

    Args:
        feeds: By input port name, in the source's layout, n samples on the leading axis.

    Raises:
        DataInvalid: No sample, a feed that does not belong to the model, or a tensor that becomes NaN
            or infinite (it is named).
    """
    samples = sample_count(feeds)
    seen: dict[str, TensorStatistics] = {}
    for name, values in _computed(graph, feeds):
        seen[name] = _merged(seen.get(name), _counted(graph, name, values))
    return Statistics(seen, samples)


def _computed(graph: Graph, feeds: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Every float tensor's values, some samples at a time; they may be anything but numbers."""
    for chunk in chunks(graph, feeds, _CACHED_ELEMENTS):
        with np.errstate(all="ignore"):
            computed = reference.evaluate(graph, chunk)
        yield from ((n, values) for n, values in computed.items() if graph.tensor(n).dtype == "float32")


def sample_count(feeds: Mapping[str, Array]) -> int:
    """Number of samples on the leading axes.

    Raises:
        DataInvalid: There is none, or the inputs disagree.
    """
    counts = {len(array) if np.ndim(array) else 0 for array in feeds.values()}
    if counts in ({0}, set()):
        raise DataInvalid("the calibration data holds no sample; at least one is needed")
    if len(counts) > 1:
        raise DataInvalid(f"the inputs hold different numbers of samples: {sorted(counts)}")
    return counts.pop()


def chunks(
    graph: Graph, feeds: Mapping[str, Array], elements: int = _CHUNK_ELEMENTS
) -> Iterator[dict[str, Array]]:
    """The samples in pieces whose activations, all kept, stay within a fixed amount of memory."""
    per_sample = sum(graph.tensor(node.output).size for node in graph.nodes)
    step = max(1, elements // max(1, per_sample))
    for start in range(0, sample_count(feeds), step):
        yield {name: array[start : start + step] for name, array in feeds.items()}


def _counted(graph: Graph, name: str, values: Array) -> TensorStatistics:
    """Statistics of one piece."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise _not_finite(graph, name, values)
    largest = max(-low, high)
    # frexp: largest = m * 2**e with m < 1, so 2**e is beyond it
    reach = float(2.0 ** max(np.frexp(largest)[1], -120))
    factor = _BINS_PER_SIDE / reach
    # a power of two: the product is exact in float32, and four times as fast
    bins = values.ravel() * (np.float32(factor) if factor <= _LARGEST_FLOAT32 else np.float64(factor))
    places = np.floor(bins, out=bins).astype(np.intp)
    places += _BINS_PER_SIDE
    counts = np.bincount(places, minlength=2 * _BINS_PER_SIDE)
    return TensorStatistics(low, high, counts, reach, int(values.size - np.count_nonzero(values)))


def _not_finite(graph: Graph, name: str, values: Array) -> DataInvalid:
    bad = int(values.size - np.isfinite(values).sum())
    producer = graph.producers().get(name)
    where = "the data fed to it" if producer is None else f"the result of {producer.name!r}"
    return DataInvalid(
        f"tensor {name!r} ({where}) has {bad} of {values.size} elements that are NaN or infinite"
    )


def _merged(old: TensorStatistics | None, new: TensorStatistics) -> TensorStatistics:
    if old is None:
        return new
    reach = max(old.reach, new.reach)
    return TensorStatistics(
        minimum=min(old.minimum, new.minimum),
        maximum=max(old.maximum, new.maximum),
        counts=_widened(old, reach) + _widened(new, reach),
        reach=reach,
        zeros=old.zeros + new.zeros,
    )


def _widened(statistics: TensorStatistics, reach: float) -> NDArray[np.int64]:
    """The counts over the bins of a larger reach: neighbours are added up, zero stays a border."""
    factor = min(int(reach / statistics.reach), _BINS_PER_SIDE)
    if factor == 1:
        return statistics.counts
    merged = statistics.counts.reshape(-1, factor).sum(axis=1)
    counts = np.zeros_like(statistics.counts)
    start = _BINS_PER_SIDE - len(merged) // 2
    counts[start : start + len(merged)] = merged
    return counts
