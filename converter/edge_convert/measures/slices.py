"""Figures of parts of the samples: each class, and each group that a column of the data names.

Compression hurts first what a model has seen least (Hooker et al., arXiv:2010.03058), and a mean
hides it. What a slice's figures mean for a bundle is for `gates.py` to say.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_convert.gates import SliceDrop
from edge_convert.measures import intervals, metrics
from edge_convert.measures.intervals import Interval, Weights
from edge_convert.measures.metrics import Measure
from edge_convert.measures.pairs import Pair, both

CLASS = "class"
FALSE_ALARM = 0.05  # chance that any of the slices is called worse when none is
Members = NDArray[np.bool_]


def of(compared: Pair) -> tuple[SliceDrop, ...]:
    """Figures of every slice, in the order of groups and names; empty when there is nothing to part by.

    Accuracy where a classifier's labels are known, else agreement with the source; the first metric
    of any other task; nothing for a task that has none.
    """
    parts = list(_parts(compared))
    if not parts:
        return ()
    share_each = FALSE_ALARM / len(parts)
    made = (_slice(compared, group, name, members, share_each) for group, name, members in parts)
    return tuple(one for one in made if one is not None)


def _parts(compared: Pair) -> Iterator[tuple[str, str, Members]]:
    scores = compared.source.scores
    if scores is not None:
        known = None if compared.truth is None else compared.truth.classes
        classes = scores.argmax(axis=1) if known is None else known
        for number in np.unique(classes):
            yield CLASS, str(int(number)), classes == number
    for group, names in compared.samples.slices.items():
        for name in np.unique(names):
            yield group, str(name), names == name


def _slice(compared: Pair, group: str, name: str, members: Members, alarm: float) -> SliceDrop | None:
    right, same = compared.right(), compared.same()
    samples = int(members.sum())
    if right is not None:
        theirs, ours = (r[members] for r in right)
        counts = intervals.paired(theirs, ours)
        return SliceDrop(
            group, name, samples, "accuracy", float(theirs.mean()), float(ours.mean()), counts.drop,
            intervals.drop_interval(counts), intervals.drop_interval(counts, 1 - 2 * alarm)[0],
        )  # fmt: skip
    if same is not None:
        agreeing = int(same[members].sum())
        low, high = intervals.wilson(agreeing, samples)
        surely = 1 - intervals.wilson(agreeing, samples, 1 - 2 * alarm)[1]
        share = agreeing / samples
        return SliceDrop(
            group, name, samples, "agreement", None, share, 1 - share, (1 - high, 1 - low), surely
        )
    first = metrics.primary(compared.task)
    measures = None if first is None else both(first, compared)
    if first is None or measures is None:
        return None
    return _by_metric(measures, first.name, group, name, members, alarm)


def _by_metric(
    measures: tuple[Measure, Measure], metric: str, group: str, name: str, members: Members, alarm: float
) -> SliceDrop | None:
    samples = int(members.sum())
    source, artifact = (measure(members.astype(np.float64)) for measure in measures)
    if source is None or artifact is None:
        return SliceDrop(group, name, samples, metric, source, artifact, None, None, None)

    def drop(weights: Weights) -> tuple[float] | None:
        everyone = np.zeros(len(members))
        everyone[members] = weights
        theirs, ours = (measure(everyone) for measure in measures)
        return None if theirs is None or ours is None else (theirs - ours,)

    found = intervals.bootstrap(drop, samples)
    surely = intervals.bootstrap(drop, samples, 1 - 2 * alarm)
    ends: Interval | None = None if found is None else found[0]
    least = None if surely is None else surely[0][0]
    return SliceDrop(group, name, samples, metric, source, artifact, source - artifact, ends, least)
