"""Critical values of the drift test for every window size, by simulation when a model is packed.

The folk rule "a population stability index above 0.2 is drift" is wrong at both ends: without any
change it alarms for half of all windows of 50, and it does not see a shift of a quarter of a deviation
in 5,000 (`benchmarks/drift_thresholds.py`). What a window may differ by depends on its size and on the
baseline's, which is a sample itself; so both are simulated (docs/decisions/0041-drift-thresholds.md).
"""

from __future__ import annotations

from functools import cache
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_contracts.sketch import ALPHA, Baseline, Critical, ScalarBaseline, joined_bins

WINDOWS = (50, 100, 200, 500, 1000, 2000, 5000, 20_000)
ROUNDS = 10_000
_SEED = 1
_DIGITS = 3

Floats = NDArray[np.float64]


def calibrated(baseline: Baseline, alarm: float = ALPHA) -> Baseline:
    """The baseline with critical values for each of its numbers.

    Args:
        alarm: Chance of a false alarm, per comparison of one number in one window.
    """
    if baseline.samples == 0:
        return baseline
    scalars = tuple(s.model_copy(update={"critical": critical(s, alarm)}) for s in baseline.scalars)
    return baseline.model_copy(update={"scalars": scalars})


def critical(scalar: ScalarBaseline, alarm: float = ALPHA) -> Critical:
    """Critical values for one number; a class number has no order, and so no shift."""
    return _critical(scalar.counts, not scalar.name.endswith(":class"), alarm)


@cache
def _critical(counts: tuple[int, ...], ordered: bool, alarm: float) -> Critical:
    """Numbers binned by their own quantiles have equal counts, and share one simulation."""
    shapes, shifts = [], []
    each = alarm / 2 if ordered else alarm
    for window in WINDOWS:
        shape, shift = departures(counts, window, ROUNDS)
        # squares of both have tails like a gamma distribution's, which Pearson's type III is
        shapes.append(_up(sqrt(tail(shape**2, each))))
        shifts.append(_up(sqrt(tail(shift**2, each))))
    return Critical(alarm=alarm, windows=WINDOWS, shape=tuple(shapes), shift=tuple(shifts) if ordered else ())


def departures(counts: tuple[int, ...], window: int, rounds: int) -> tuple[Floats, Floats]:
    """Simulate windows without any change.

    What the bins really hold is not known: by the baseline's counts, shares of order statistics follow
    a Dirichlet distribution whose parameters add up to one more than the samples. Each round draws such
    shares, and then a window from them.

    Returns:
        `Departure.shape` and `Departure.shift` of every round.
    """
    random = np.random.RandomState(_SEED)  # its stream is frozen by numpy's policy (NEP 19)
    base = np.array(counts, np.float64)
    total, bins = base.sum(), len(base)
    shares = random.standard_gamma(np.broadcast_to(base + 1 / bins, (rounds, bins)))
    shares /= shares.sum(axis=1, keepdims=True)
    live = _multinomial(random, window, shares)
    scale = total * window / (total + window)
    starts = np.array(joined_bins(counts, window))
    ours, theirs = np.add.reduceat(live, starts, axis=1), np.add.reduceat(base, starts)
    pooled = np.maximum((ours + theirs) / (window + total), 1e-300)
    chi_square = scale * ((ours / window - theirs / total) ** 2 / pooled).sum(axis=1)
    gaps = np.abs(np.cumsum(live / window - base / total, axis=1)).max(axis=1)
    return np.sqrt(chi_square), gaps * sqrt(scale)


def _multinomial(random: np.random.RandomState, count: int, shares: Floats) -> Floats:
    """Counts of so many draws for every row of shares: bin by bin, what is left to the next ones."""
    left = np.full(len(shares), count)
    remaining = np.ones(len(shares))
    drawn = np.zeros(shares.shape)
    for index in range(shares.shape[1] - 1):
        chance = np.clip(shares[:, index] / np.maximum(remaining, 1e-12), 0, 1)
        taken = random.binomial(left, chance)
        drawn[:, index] = taken
        left = left - taken
        remaining -= shares[:, index]
    drawn[:, -1] = left
    return drawn


def tail(values: Floats, alarm: float) -> float:
    """The value that is exceeded with a small probability, beyond what so many rounds can count.

    Pearson's type III distribution with the mean, deviation and skewness of the rounds, as permutation
    tests use it (Mielke & Berry, Permutation Methods, 2001, section 2.3); its quantile by Wilson and
    Hilferty (1931). Against two million rounds it is right to about 5 % down to 1e-5.
    """
    mean, deviation = float(values.mean()), float(values.std())
    if deviation < 1e-12 * max(1.0, abs(mean)):
        return mean + 1.0  # never differs: neither will a window that stays so
    skew = float(np.mean(((values - mean) / deviation) ** 3))
    z = NormalDist().inv_cdf(1 - alarm)
    if abs(skew) < 1e-6:
        return mean + z * deviation
    return mean + deviation * 2 / skew * (((z - skew / 6) * skew / 6 + 1) ** 3 - 1)


def _up(value: float) -> float:
    """Rounded up, so that no last bit of a processor's arithmetic gets into a manifest."""
    return float(np.ceil(value * 10**_DIGITS) / 10**_DIGITS)
