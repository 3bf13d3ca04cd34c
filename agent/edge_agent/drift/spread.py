"""How much more counts vary from window to window than independent samples would: the design effect.

Frames of a camera follow one another; a window of six hundred may tell no more than sixty would. Rao and
Scott (Annals of Statistics 12, 1984) divide a chi-square statistic by that factor, which is the same
as counting fewer samples. Here it is the median, over pairs of successive windows, of their chi-square
statistic for two samples against what it has for independent ones: a change of the world moves
one pair, a dependence between samples moves them all.
"""

from __future__ import annotations

from collections.abc import Sequence

PAIRS = 60  # an hour of windows
FEWEST_PAIRS = 5  # below, the median says more of chance than of the samples
FEWEST_SAMPLES = 20  # of a window; Cochran's rule then leaves at least two groups of bins


def pair_effect(before: Sequence[int], after: Sequence[int]) -> float | None:
    """Chi-square of two successive windows, over the median that independent samples would give.

    Args:
        before, after: Counts by bin.

    Returns:
        None where the windows are too small, or all samples are in one bin.
    """
    n, m = sum(before), sum(after)
    if min(n, m) < FEWEST_SAMPLES:
        return None
    groups: list[list[int]] = []
    for a, b in zip(before, after, strict=True):
        # five expected in the smaller window, or the group takes its neighbour in
        if groups and sum(groups[-1]) * min(n, m) / (n + m) < 5:
            groups[-1][0] += a
            groups[-1][1] += b
        else:
            groups.append([a, b])
    if sum(groups[-1]) * min(n, m) / (n + m) < 5:
        a, b = groups.pop()
        groups[-1][0] += a
        groups[-1][1] += b
    degrees = len(groups) - 1
    if degrees < 1:
        return None
    statistic = sum((a * m - b * n) ** 2 / (a + b) for a, b in groups) / (n * m)
    # Wilson and Hilferty 1931: the median of a chi-square variable
    return statistic / (degrees * (1 - 2 / (9 * degrees)) ** 3)


def design_effect(effects: Sequence[float]) -> float:
    """The factor by which samples count for less; 1 for independent ones, and while little is known."""
    return max(1.0, _median(effects)) if len(effects) >= FEWEST_PAIRS else 1.0


def _median(values: Sequence[float]) -> float:
    """Without `statistics`, which brings fractions along: 0.2 MiB."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
