"""Which samples a compressed model answers differently, and how sure the source was of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Array
from edge_convert.measures.score import sqnr_db

SHOWN = 12
TOP = 3


@dataclass(frozen=True)
class ClassScore:
    """A class and the score that a model gives it."""

    index: int
    score: float


@dataclass(frozen=True)
class ChangedAnswer:
    """A sample whose top-1 class is another one than the source's.

    Args:
        sample: Its index in the data.
        label: The right class, where known.
        source, artifact: Their three highest scores, the highest first.
    """

    sample: int
    label: int | None
    source: tuple[ClassScore, ...]
    artifact: tuple[ClassScore, ...]


@dataclass(frozen=True)
class Changes:
    """All samples that changed their answer.

    Args:
        samples: How many were asked.
        changed: How many changed.
        lost, gained: Of those, right before and wrong now, and the other way round; None without labels.
        margin_changed, margin_all: Median of the source's score of its first class minus its second,
            of those that changed and of all; the former None when none changed.
        shown: The ones that the source was surest of, the surest first.
    """

    samples: int
    changed: int
    lost: int | None
    gained: int | None
    margin_changed: float | None
    margin_all: float
    shown: tuple[ChangedAnswer, ...]


@dataclass(frozen=True)
class FarAnswer:
    """A sample whose answer moved far, of a model that names no classes.

    Args:
        sqnr_db: Of this sample alone, worst output.
    """

    sample: int
    sqnr_db: float


def changes(source: Array, artifact: Array, labels: NDArray[np.intp] | None) -> Changes:
    """Compare a classifier's answers.

    Args:
        source, artifact: Scores, n samples first.
    """
    count = len(source)
    before = source.reshape(count, -1).astype(np.float64)
    after = artifact.reshape(count, -1).astype(np.float64)
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    changed = np.flatnonzero(first != second)
    margins = margin(before)
    surest = changed[np.argsort(-margins[changed], kind="stable")]
    shown = tuple(
        ChangedAnswer(int(i), None if labels is None else int(labels[i]), top(before[i]), top(after[i]))
        for i in surest[:SHOWN]
    )
    lost = gained = None
    if labels is not None:
        lost = int(((first == labels) & (second != labels)).sum())
        gained = int(((first != labels) & (second == labels)).sum())
    at_changed = float(np.median(margins[changed])) if len(changed) else None
    return Changes(count, len(changed), lost, gained, at_changed, float(np.median(margins)), shown)


def margin(scores: Array) -> NDArray[np.float64]:
    """Score of the first class minus that of the second: small near the decision boundary.

    Args:
        scores: Shape (n, classes), two classes or more.
    """
    two = np.partition(scores.astype(np.float64), -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def top(scores: Array) -> tuple[ClassScore, ...]:
    """The highest scores of one sample; of equal ones the lower class comes first."""
    order = np.argsort(-scores, kind="stable")[:TOP]
    return tuple(ClassScore(int(i), float(scores[i])) for i in order)


def furthest(source: Mapping[str, Array], artifact: Mapping[str, Array]) -> tuple[FarAnswer, ...]:
    """The samples whose answers moved most for their size, the furthest first."""
    count = len(next(iter(source.values())))
    found = []
    for index in range(count):
        ratios = [
            sqnr_db(values[index], artifact[name][index])
            for name, values in source.items()
            if values.dtype.kind == "f"
        ]
        finite = [ratio for ratio in ratios if ratio is not None and np.isfinite(ratio)]
        if finite:
            found.append(FarAnswer(index, min(finite)))
    return tuple(sorted(found, key=lambda far: (far.sqnr_db, far.sample))[:SHOWN])
