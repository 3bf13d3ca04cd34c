"""Sketches: small summaries that add up, and the test whether a live one still fits the baseline.

The converter makes the baseline, the agent fills the live counts, the server adds them up over
windows and devices. Everything is plain numbers, so that no side needs a statistics library.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, field

from edge_contracts.model import Count, Finite, Frozen, later

# DDSketch (Masson et al., VLDB 2019): quantiles within 2 % of the true value
RELATIVE_ACCURACY = 0.02
_GAMMA = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
SMALLEST = 1e-6  # values at or below count as this one


class QuantileSketch(Frozen):
    """Counts of positive values in logarithmic bins; two sketches add up exactly.

    Args:
        bins: Count by bin index k, which holds values in (gamma^(k-1), gamma^k].
    """

    bins: Mapping[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.bins.values())

    def quantile(self, q: float) -> float | None:
        """The value below which a share q of the values lies, within 2 %; None when empty.

        Args:
            q: 0 to 1.
        """
        total = self.count
        if total == 0:
            return None
        rank, seen = q * (total - 1), 0
        for index in sorted(self.bins):
            seen += self.bins[index]
            if seen > rank:
                return 2 * _GAMMA**index / (_GAMMA + 1)
        raise AssertionError("the ranks of a sketch do not reach its count")


def bin_index(value: float) -> int:
    """The bin of a QuantileSketch that holds a value."""
    return math.ceil(math.log(max(value, SMALLEST)) / _LOG_GAMMA)


def count_bins(values: Sequence[float]) -> dict[int, int]:
    """How many of the values each bin of a QuantileSketch holds: `bin_index` of many at once."""
    import numpy as np  # late: contracts are read where numpy is not installed

    logs = np.log(np.maximum(np.array(values, np.float64), SMALLEST)) / _LOG_GAMMA
    bins = np.ceil(logs)
    # numpy's logarithm may differ from the math library's in its last bit, which matters at a bin's border
    for place in np.flatnonzero(np.abs(logs - np.rint(logs)) < 1e-9):
        bins[place] = bin_index(values[int(place)])
    found, counts = np.unique(bins, return_counts=True)
    return {int(index): int(count) for index, count in zip(found, counts, strict=True)}


def merge_quantiles(sketches: Iterable[QuantileSketch]) -> QuantileSketch:
    """One sketch of all values."""
    bins: dict[int, int] = {}
    for sketch in sketches:
        for index, count in sketch.bins.items():
            bins[index] = bins.get(index, 0) + count
    return QuantileSketch(bins=bins)


class Critical(Frozen):
    """What a live window may differ from its baseline by when nothing has changed, by its size.

    Found by simulation when the model was made, for this baseline with its own number of samples. A
    window is held to the values of the largest size that is not larger than itself: the statistics
    are scaled so that they hardly depend on the size, and what is left of that errs on the quiet side.

    Args:
        alarm: Chance that a window without any change exceeds one of the two, per comparison.
        windows: Sizes, ascending; smaller windows are no evidence.
        shape: Critical `Departure.shape` at each size.
        shift: Critical `Departure.shift` at each size; empty for bins without an order.
    """

    alarm: Annotated[float, Meta(gt=0, lt=1)]
    windows: Annotated[tuple[int, ...], Meta(min_length=1, max_length=32)]
    shape: tuple[Finite, ...]
    shift: tuple[Finite, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if any(b <= a for a, b in pairwise((0, *self.windows))):
            raise ValueError("windows must ascend from 1")
        if len(self.shape) != len(self.windows) or len(self.shift) not in (0, len(self.windows)):
            raise ValueError(f"{len(self.windows)} windows need as many critical values")


class ScalarBaseline(Frozen):
    """How one monitored number was distributed when the model was made.

    Args:
        name: As `features.py` names it, such as "input:x:mean".
        edges: Ascending; bin i holds values in [edges[i-1], edges[i]), the outer bins are open.
        counts: Baseline samples in each of the len(edges) + 1 bins.
        critical: None where nobody has simulated it.
    """

    name: str
    edges: Annotated[tuple[Finite, ...], Meta(max_length=63)]
    counts: tuple[int, ...]
    critical: Critical | None = later(None)

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(
                f"{len(self.edges)} edges need {len(self.edges) + 1} counts, found {len(self.counts)}"
            )
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must ascend")
        if any(count < 0 for count in self.counts):
            raise ValueError("a count is negative")

    def bin_of(self, value: float) -> int:
        """The bin that holds a value; NaN goes to the last."""
        return len(self.edges) if math.isnan(value) else bisect_right(self.edges, value)


class Baseline(Frozen):
    """What a model's inputs and outputs looked like when it was made.

    Args:
        samples: How many it was made from.
    """

    samples: Count
    scalars: tuple[ScalarBaseline, ...] = ()


@dataclass(frozen=True)
class Drift:
    """The comparison of live counts with their baseline.

    Args:
        distance: Total variation between the two distributions, 0 (same) to 1.
        p_value: Chance of a statistic at least this large when nothing changed.
        samples: Live samples that it rests on.
        exceeds: Whether it is beyond the baseline's critical values; None where it has none.
    """

    name: str
    distance: float
    p_value: float
    samples: int
    exceeds: bool | None = None

    @property
    def certain(self) -> bool:
        """Whether chance alone does not explain it."""
        return self.p_value < ALPHA if self.exceeds is None else self.exceeds

    @property
    def drifted(self) -> bool:
        """Whether it is both certain and large enough to matter."""
        return self.certain and self.distance >= MIN_DISTANCE


ALPHA = (
    1e-6  # per comparison: with 10 scalars and a window a minute, about one false alarm in 2.3 device-months
)
MIN_DISTANCE = 0.15  # a shift of about 0.4 standard deviations of a normal
MIN_SAMPLES = 50  # below, chi-square's approximation does not hold for 10 bins


def distance_of(base: Sequence[int], live: Sequence[int]) -> float:
    """Total variation between two samples' counts by bin; 0 where one of them is empty."""
    ours, theirs = sum(base), sum(live)
    if not ours or not theirs:
        return 0.0
    return sum(abs(a / ours - b / theirs) for a, b in zip(base, live, strict=True)) / 2


def compare(scalar: ScalarBaseline, counts: Sequence[int]) -> Drift:
    """Test live counts against a baseline that is itself a sample.

    Where the baseline has critical values they decide. Otherwise a chi-square test of homogeneity of
    two samples (Pearson 1911; Press et al., Numerical Recipes, eq. 14.3.3) does; bins that both samples
    leave nearly empty are joined with their neighbour, so that its approximation holds.

    Args:
        counts: Live samples by bin of the baseline.

    Returns:
        A p-value of 1 when there are fewer than MIN_SAMPLES on either side: no evidence.
    """
    live, base = sum(counts), sum(scalar.counts)
    if len(counts) != len(scalar.counts):
        raise ValueError(f"{scalar.name}: {len(counts)} counts for {len(scalar.counts)} bins")
    if live == 0 or base == 0:
        return Drift(scalar.name, 0.0, 1.0, live)
    distance = distance_of(scalar.counts, counts)
    exceeds = None if scalar.critical is None else _exceeds(scalar.critical, scalar.counts, counts)
    if live < MIN_SAMPLES or base < MIN_SAMPLES:
        return Drift(scalar.name, distance, 1.0, live, exceeds)
    joined: list[list[int]] = []
    for a, b in zip(scalar.counts, counts, strict=True):
        if joined and sum(joined[-1]) * min(live, base) / (live + base) < 5:
            joined[-1][0] += a
            joined[-1][1] += b
        else:
            joined.append([a, b])
    if len(joined) > 1 and sum(joined[-1]) * min(live, base) / (live + base) < 5:
        last = joined.pop()
        joined[-1][0] += last[0]
        joined[-1][1] += last[1]
    ratio = math.sqrt(live / base)
    statistic = sum((a * ratio - b / ratio) ** 2 / (a + b) for a, b in joined if a + b)
    return Drift(scalar.name, distance, chi_square_tail(statistic, len(joined) - 1), live, exceeds)


@dataclass(frozen=True)
class Departure:
    """How far two samples of n and m are apart, times sqrt(n m / (n + m)), so that n and m matter little.

    Args:
        shape: Square root of the chi-square statistic over joined bins: sees any change.
        shift: Largest difference of the cumulative shares (Kolmogorov and Smirnov's): sees a change of
            place sooner.
    """

    shape: float
    shift: float


FEWEST_EXPECTED = 5  # Cochran 1954: below, single samples rule the chi-square statistic


def joined_bins(base: Sequence[int], window: int) -> tuple[int, ...]:
    """First bins of groups of neighbours, each of which holds enough of the baseline for a window's size."""
    total = sum(base)
    least = FEWEST_EXPECTED * total / max(1, min(window, total))
    starts, held = [0], 0
    for index, count in enumerate(base):
        if held >= least:
            starts.append(index)
            held = 0
        held += count
    if held < least and len(starts) > 1:
        starts.pop()
    return tuple(starts)


def departure(base: Sequence[int], live: Sequence[int], window: int) -> Departure:
    """Compare counts of a live sample with those of the baseline; neither may be empty.

    Args:
        window: Size that says which bins are joined.
    """
    total, count = sum(base), sum(live)
    scale = total * count / (total + count)
    starts = (*joined_bins(base, window), len(base))
    chi_square = 0.0
    for start, stop in pairwise(starts):
        ours, theirs = sum(live[start:stop]), sum(base[start:stop])
        pooled = (ours + theirs) / (count + total)
        if pooled:
            chi_square += scale * (ours / count - theirs / total) ** 2 / pooled
    furthest = gap = 0.0
    for ours, theirs in zip(live, base, strict=True):
        gap += ours / count - theirs / total
        furthest = max(furthest, abs(gap))
    return Departure(math.sqrt(chi_square), furthest * math.sqrt(scale))


def _exceeds(critical: Critical, base: Sequence[int], live: Sequence[int]) -> bool:
    place = bisect_right(critical.windows, sum(live)) - 1
    if place < 0:
        return False
    found = departure(base, live, critical.windows[place])
    return found.shape > critical.shape[place] or (
        bool(critical.shift) and found.shift > critical.shift[place]
    )


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(X >= statistic) for a chi-square variable: the upper regularised incomplete gamma function.

    Press et al., Numerical Recipes, section 6.2: series below a + 1, continued fraction above.
    """
    a, x = degrees / 2, statistic / 2
    if degrees <= 0 or x <= 0:
        return 1.0
    front = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, 1000):
            term *= x / (a + n)
            total += term
            if term < total * 1e-15:
                break
        return max(0.0, 1 - front * total)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    h = d
    for i in range(1, 1000):
        an = -i * (i - a)
        b += 2
        d = 1 / (an * d + b or tiny)
        c = b + an / c or tiny
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return min(1.0, front * h)
