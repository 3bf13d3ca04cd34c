"""The monitored numbers of one inference: the same in the converter's baseline and on the device.

For every input its mean and standard deviation; for a classifier the confidence and the class;
for any other output its mean and standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.sketch import Baseline, ScalarBaseline

BINS = 10
MAX_CLASSES = 64  # more classes than this are counted in groups of neighbouring indices
LARGE = 4096  # numbers in a sample, above which samples are summed up one by one
Floats = NDArray[np.float64]


def features(
    inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], task: str
) -> dict[str, Floats]:
    """Monitored numbers of a batch.

    Args:
        inputs, outputs: By tensor name, shape (n, ...), real units.
        task: As the manifest states it; "classification" looks at the first output's scores.

    Returns:
        By name, shape (n,).
    """
    result: dict[str, Floats] = {}
    for name, values in inputs.items():
        _moments(result, f"input:{name}", values)
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


def _moments(result: dict[str, Floats], name: str, values: NDArray[Any]) -> None:
    flat = values.reshape(values.shape[0], -1)
    if flat.shape[1] <= LARGE:
        wide = flat.astype(np.float64)
        result[f"{name}:mean"] = wide.mean(axis=1)
        result[f"{name}:std"] = wide.std(axis=1)
        return
    moments = np.array([_row_moments(row) for row in flat])
    result[f"{name}:mean"], result[f"{name}:std"] = moments[:, 0], moments[:, 1]


def _row_moments(row: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of one large sample, about 1e-6 exact; of a constant one the latter is 0.

    Row by row, for the processor's cache: the temporaries of a batch of pictures cost more than most models.
    """
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
