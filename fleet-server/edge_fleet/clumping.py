"""How much less live numbers say than their count, because those of one window resemble each other. Pure.

Frames of one scene are no independent samples. The design effect is how much more the counts of windows
scatter around their mean than independent samples would (Rao and Scott, JASA 76 (1981), first order):

    deff = sum over windows w, bins b of (c_wb - n_w p_b)^2 / p_b   over   the same for independent samples

Everything is a sum over windows, so it adds up over devices, and the release before tells how the same
devices' windows scatter when nothing has changed. Each release scatters around its own mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

LEAST_WINDOWS = 8  # below, nobody knows how they scatter
# One number of some windows: how many, sum of n_w^2, then by bin sums of c_wb, c_wb^2 and c_wb n_w
Scatter: TypeAlias = NDArray[np.float64]


def scatter(rows: Sequence[Sequence[int]]) -> Scatter:
    """Of the counts of some windows, one row each."""
    counts = np.asarray(rows, float)
    sizes = counts.sum(axis=1)
    sums = (counts.sum(axis=0), (counts**2).sum(axis=0), (counts * sizes[:, None]).sum(axis=0))
    return np.concatenate([[len(counts), (sizes**2).sum()], *sums])


def scatters(
    readings: Iterable[tuple[str, Mapping[str, Sequence[int]]]],
) -> dict[tuple[str, str, int], Scatter]:
    """The same of every number, by bundle, name and how many bins it has.

    Args:
        readings: Bundle and live numbers of each window.
    """
    rows: dict[tuple[str, str, int], list[Sequence[int]]] = {}
    for bundle, scalars in readings:
        for name, counts in scalars.items():
            rows.setdefault((bundle, name, len(counts)), []).append(counts)
    return {key: scatter(found) for key, found in rows.items()}


def counted(part: Scatter) -> NDArray[np.float64]:
    """How many windows told of a number, and its counts by bin: both are part of how it scatters."""
    found: NDArray[np.float64] = part[[0, *range(2, 2 + (len(part) - 2) // 3)]]
    return found


def design_effect(parts: Iterable[Scatter]) -> float:
    """By how much to divide counts of samples, at least 1; 1 while too few windows are known.

    An upper bound by two deviations: of few windows the scatter is not well known either.

    Args:
        parts: Of one number, each around its own mean.
    """
    found = expected = windows = degrees = 0.0
    for part in parts:
        bins = (len(part) - 2) // 3
        own, squares = part[0], part[1]
        counts, of_squares, by_size = part[2:].reshape(3, bins)
        total = counts.sum()
        held = counts > 0
        if own < 2 or not total or held.sum() < 2:
            continue
        share = counts[held] / total
        apart = of_squares[held] - 2 * share * by_size[held] + share**2 * squares
        found += float((apart / share).sum())
        free = float(held.sum() - 1)
        # as if all windows were of one size; larger ones weigh more in both sums
        expected += total * free * (own - 1) / own
        windows += own
        degrees += free * (own - 1)
    if windows < LEAST_WINDOWS or not expected:
        return 1.0
    return max(1.0, found / expected * (1 + 2 * math.sqrt(2 / degrees)))
