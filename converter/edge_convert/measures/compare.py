"""An artifact's answers against the source's: the figures that gates and reports speak of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Score, Task
from edge_convert.gates import NOTHING_LEFT_DB
from edge_convert.graph import Array
from edge_convert.measures import intervals, score

_BINS = 41  # odd, so that the middle one holds the errors around zero


@dataclass(frozen=True)
class Histogram:
    """How an artifact's outputs differ from the source's.

    Args:
        output: Name of the output.
        edges: Real units, one more than counts.
    """

    output: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def compare(
    source: Mapping[str, Array],
    artifact: Mapping[str, Array],
    task: Task,
    classes: NDArray[np.intp] | None = None,
) -> Score:
    """Score answers on the same samples.

    Agreement is that of the top-1 class for a classifier, and of the whole answer for a model that
    gives nothing but whole numbers.

    Args:
        source, artifact: By output name, [n, ...]; a classifier's scores are the first output.
        classes: The right class of each sample, where known.
    """
    first = next(iter(source))
    count = len(source[first])
    real = {name: values for name, values in source.items() if values.dtype.kind == "f"}
    noise = score.worst_sqnr_db(real, artifact)
    if noise is not None:
        noise = max(noise, NOTHING_LEFT_DB)
    if task != "classification":
        return Score(samples=count, sqnr_db=noise, agreement=None if real else _equal(source, artifact))
    theirs, ours = (answers[first].reshape(count, -1) for answers in (source, artifact))
    figures = Score(samples=count, agreement=score.agreement(theirs, ours), sqnr_db=noise)
    if classes is None:
        return figures
    right = [answers.argmax(axis=1) == classes for answers in (theirs, ours)]
    return figures.model_copy(
        update={
            "metric": "accuracy",
            "source": score.accuracy(theirs, classes),
            "artifact": score.accuracy(ours, classes),
            "drop_interval": intervals.drop_interval(intervals.paired(*right)),
        }
    )


def _equal(source: Mapping[str, Array], artifact: Mapping[str, Array]) -> float:
    """Share of samples whose whole numbers (classes, indices) are all the same: noise means nothing there."""
    same = [
        (values == artifact[name]).reshape(len(values), -1).all(axis=1) for name, values in source.items()
    ]
    return float(np.mean(np.logical_and.reduce(same)))


def error_histogram(source: Mapping[str, Array], artifact: Mapping[str, Array]) -> Histogram | None:
    """Errors of the first output that are finite; None when there are none."""
    name = next(iter(source))
    errors = (artifact[name].astype(np.float64) - source[name].astype(np.float64)).ravel()
    errors = errors[np.isfinite(errors)]
    reach = float(np.abs(errors).max(initial=0.0))
    if reach == 0:
        return None
    counts, edges = np.histogram(errors, bins=_BINS, range=(-reach, reach))
    return Histogram(name, tuple(float(e) for e in edges), tuple(int(c) for c in counts))
