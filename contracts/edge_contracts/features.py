"""The monitored numbers of one inference: the same in the converter's baseline and on the device.

For every input its mean and standard deviation; for a classifier the confidence and the class;
for any other output its mean and standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.sketch import Baseline, ScalarBaseline

BINS = 10
MAX_CLASSES = 64  # more classes than this are counted in groups of neighbouring indices
LARGE = 1024  # numbers in a sample, above which samples are summed up one by one
BLOCK = 1 << 15  # numbers that are summed up in float32 at once
TAME = 1e16  # the squares of so many numbers below do not add up to more than float32 holds
FEWEST_LEFT = 1 / 8  # share of the mean square that the square of the mean must leave of it
Floats = NDArray[np.float64]
Moments = tuple[float, float]  # mean and standard deviation
WIDTH = 256  # numbers whose sum is taken at once, with as many ones: these few stay in the nearest cache
_ONES = np.ones(WIDTH, np.float32)


def features(
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    task: str,
    known: Mapping[str, Sequence[Moments]] = {},
) -> dict[str, Floats]:
    """Monitored numbers of a batch.

    Args:
        inputs, outputs: By tensor name, shape (n, ...), real units.
        task: As the manifest states it; "classification" looks at the first output's scores.
        known: Moments of further inputs, whose values are gone: what `row_moments` found in n samples each.

    Returns:
        By name, shape (n,).
    """
    result: dict[str, Floats] = {}
    for name, values in inputs.items():
        _moments(result, f"input:{name}", values)
    for name, found in known.items():
        moments = np.array(found, np.float64)
        result[f"input:{name}:mean"], result[f"input:{name}:std"] = moments[:, 0], moments[:, 1]
    for position, (name, values) in enumerate(outputs.items()):
        if task == "classification" and position == 0:
            scores = values.reshape(values.shape[0], -1).astype(np.float64)
            result[f"output:{name}:confidence"] = scores.max(axis=1)
            result[f"output:{name}:class"] = scores.argmax(axis=1).astype(np.float64)
        else:
            _moments(result, f"output:{name}", values)
    return result


def make_baseline(monitored: Mapping[str, Floats], classes: int | None = None) -> Baseline:
    """Bin monitored numbers by their own quantiles.

    Args:
        monitored: From `features`, shape (n,) each.
        classes: Number of classes; the class number gets one bin a class, as far as they go.
    """
    scalars = []
    samples = 0
    for name, values in sorted(monitored.items()):
        samples = int(values.size)
        if name.endswith(":class") and classes:
            group = -(-classes // MAX_CLASSES)
            edges = np.arange(group, classes, group) - 0.5
        else:
            edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS)) if samples else np.zeros(0)
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=edges.size + 1)
        scalars.append(
            ScalarBaseline(
                name=name, edges=tuple(float(e) for e in edges), counts=tuple(int(c) for c in counts)
            )
        )
    return Baseline(samples=samples, scalars=tuple(scalars))


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether samples of a tensor are summed up one by one (`row_moments`).

    Args:
        shape: As a contract states it, the batch axis first.
    """
    return math.prod(shape[1:]) > LARGE


def row_moments(row: NDArray[Any], largest: float = math.inf) -> Moments:
    """Mean and standard deviation of one large sample, about 1e-6 exact; of a constant one the latter is 0.

    One by one, for the processor's cache: the temporaries of a batch of pictures cost more than most models.

    Args:
        row: One axis.
        largest: No number is known to be further from 0.
    """
    if row.dtype == np.float32:
        if largest < TAME:
            total, square = _sums(row)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                total, square = _sums(row)
        mean, mean_square = total / row.size, square / row.size
        left = mean_square - mean * mean
        # the difference of two sums that are nearly the same is their rounding; nothing of infinity is left
        if left > FEWEST_LEFT * mean_square:
            return mean, math.sqrt(left)
    return _careful_moments(row)


def _sums(row: NDArray[np.float32]) -> tuple[float, float]:
    """Of the numbers and of their squares."""
    if row.size <= BLOCK:
        return _sum(row), float(row.dot(row))
    total = square = 0.0
    for start in range(0, row.size, BLOCK):
        part = row[start : start + BLOCK]
        total += _sum(part)
        square += float(part.dot(part))
    return total, square


def _sum(part: NDArray[np.float32]) -> float:
    """Of at most BLOCK numbers: in a third of the time that np.add.reduce takes."""
    lines, rest = divmod(part.size, WIDTH)
    if not rest:
        return float(part.reshape(lines, WIDTH).dot(_ONES).dot(_ONES[:lines]))
    whole = lines * WIDTH
    return _sum(part[:whole]) + float(part[whole:].dot(_ONES[:rest]))


def _moments(result: dict[str, Floats], name: str, values: NDArray[Any]) -> None:
    flat = values.reshape(values.shape[0], -1)
    if flat.shape[1] <= LARGE:
        wide = flat.astype(np.float64)
        mean = np.add.reduce(wide, axis=1) / wide.shape[1]
        wide -= mean[:, np.newaxis]
        wide *= wide
        result[f"{name}:mean"] = mean
        result[f"{name}:std"] = np.sqrt(np.add.reduce(wide, axis=1) / wide.shape[1])
        return
    moments = np.array([row_moments(row) for row in flat])
    result[f"{name}:mean"], result[f"{name}:std"] = moments[:, 0], moments[:, 1]


def _careful_moments(row: NDArray[Any]) -> Moments:
    """The same for numbers that lie close together, or whose squares float32 cannot hold."""
    # about the first number, so that float32 does for the sum: summing in float64 takes twice the time
    first = np.float32(row[0])
    with np.errstate(over="ignore", invalid="ignore"):
        centred = row.astype(np.float32, copy=False) - first
        offset = np.add.reduce(centred) / np.float32(row.size)
        centred -= offset
        square = float(centred.dot(centred))
    if math.isfinite(square):
        return float(first) + float(offset), math.sqrt(square / row.size)
    wide = row.astype(np.float64)  # numbers whose squares float32 cannot hold
    return float(wide.mean()), float(wide.std())
