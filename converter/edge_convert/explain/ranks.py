"""Whether two lists rank alike: Spearman's correlation, which no monotone rescaling changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Array


def rank_correlation(left: Array, right: Array) -> float | None:
    """Correlation of the ranks of two equally long lists (Spearman 1904), -1 to 1.

    Returns:
        None when one of them is constant, for it ranks nothing.
    """
    a, b = ranks(left.ravel()), ranks(right.ravel())
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return None if scale == 0 else float(a @ b) / scale


def ranks(values: Array) -> NDArray[np.float64]:
    """Place of each value among all, from 0; equal values share the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[place])
