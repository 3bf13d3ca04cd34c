"""Samples by what the model answers to them, so that rare answers count as much as frequent ones.

Compression harms a small class first, and an average over samples does not see it (measured: of 320 pictures
35 showed a person to the person detector; by the plain mean, a network that never saw one looked good).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Array

Kinds = NDArray[np.int64]

# A class with fewer samples than this is not weighed as if it had none of their noise.
_FEW = 4
_ROW_SUM_TOLERANCE = 1e-3  # softmax in float32 and a source's rounding


def are_probabilities(rows: Array) -> bool:
    """Whether each row of the last axis is a distribution over two classes or more."""
    return bool(
        rows.ndim >= 2
        and rows.shape[-1] >= 2
        and (rows >= 0).all()
        and (np.abs(rows.sum(axis=-1) - 1) <= _ROW_SUM_TOLERANCE).all()
    )


def kinds(answers: Mapping[str, Array]) -> Kinds:
    """The class that each sample is given, when the first output is one row of probabilities; else all 0."""
    first = next(iter(answers.values()))
    rows = first.reshape(len(first), -1)
    if rows.shape[1] == first.shape[-1] and are_probabilities(first):
        return np.asarray(rows.argmax(axis=1), np.int64)
    return np.zeros(len(first), np.int64)


def weights(of: Kinds) -> NDArray[np.float64]:
    """By sample; every class has the same sum, the very rarest less; they add up to 1."""
    counts = np.bincount(of)[of]
    raw = 1.0 / np.maximum(counts, _FEW)
    return np.asarray(raw / raw.sum())


def kept_back(of: Kinds, share: float, most: int) -> NDArray[np.bool_]:
    """Which samples to keep apart: the last of each class, for neighbours in a data set are near copies.

    Args:
        share: Of each class, rounded down.
        most: Of all.
    """
    share = min(share, most / max(1, len(of)))
    back = np.zeros(len(of), bool)
    for kind in np.unique(of):
        places = np.flatnonzero(of == kind)
        back[places[len(places) - int(share * len(places)) :]] = True
    return back


def spread_out(of: Kinds, most: int) -> NDArray[np.int64]:
    """At most so many samples, in their order, taken from each class in turn."""
    rank = np.zeros(len(of), np.int64)
    for kind in np.unique(of):
        places = np.flatnonzero(of == kind)
        rank[places] = np.arange(len(places))
    return np.sort(np.argsort(rank, kind="stable")[:most])
