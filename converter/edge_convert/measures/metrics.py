"""The metrics, by task: what a model's answers are worth against the right ones.

One decorated function per metric. It gets what a task's answers come to (`Reading`) and the right
answers, does once what need not be repeated, and returns a function of the samples' weights: all
ones for the figure itself, 0 and 1 for a slice, counts of a resample for a bootstrap interval.
Whether a figure is good enough is for `gates.py` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Task
from edge_convert.graph import Array
from edge_convert.measures import detection
from edge_convert.measures.intervals import Weights, weighted
from edge_convert.measures.truth import Truth

Floats = NDArray[np.float64]
Measure = Callable[[Weights], float | None]
FLOAT_FLOOR = 1e-7  # the smallest probability that a float32 softmax is believed to tell from 0
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Reading:
    """Answers to n samples in the form that metrics take; only what belongs to the task is there.

    Args:
        scores: [n, classes], as the model gives them.
        probabilities: [n, classes], rows that sum to 1 and are nowhere 0.
        values: [n, k] of the first output.
        errors: [n] mean squared reconstruction errors.
        detections: Boxes with scores and classes.
    """

    scores: Floats | None = None
    probabilities: Floats | None = None
    values: Floats | None = None
    errors: Floats | None = None
    detections: detection.Detections | None = None


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: In report.json and in the manifest's Score.
        title: For people.
        higher_is_better: Which way is up.
        share: Whether it is a share of 1, so that "points" are hundredths of it.
        measure: From answers and right answers to the figure as a function of weights; None when it
            does not apply to them.
    """

    name: str
    title: str
    task: Task
    higher_is_better: bool
    share: bool
    measure: Callable[[Reading, Truth], Measure | None]


_REGISTRY: dict[tuple[str, str], Metric] = {}
# The metric whose drop is gated.
PRIMARY: Mapping[str, str] = {
    "classification": "accuracy",
    "regression": "r2",
    "detection": "map",
    "reconstruction": "roc_auc",
}


def metric(
    name: str, title: str, task: Task, *, higher_is_better: bool = True, share: bool = True
) -> Callable[[Callable[[Reading, Truth], Measure | None]], Callable[[Reading, Truth], Measure | None]]:
    """Register the decorated function as a task's metric."""

    def register(
        measure: Callable[[Reading, Truth], Measure | None],
    ) -> Callable[[Reading, Truth], Measure | None]:
        _REGISTRY[task, name] = Metric(name, title, task, higher_is_better, share, measure)
        return measure

    return register


def of_task(task: str) -> list[Metric]:
    """A task's metrics, the gated one first."""
    found = [m for (of, _), m in _REGISTRY.items() if of == task]
    return sorted(found, key=lambda m: m.name != PRIMARY.get(task))


def primary(task: str) -> Metric | None:
    """The metric whose drop is gated; None for a task without labels."""
    return _REGISTRY.get((task, PRIMARY.get(task, "")))


def read(
    task: Task,
    feeds: Mapping[str, Array],
    answers: Mapping[str, Array],
    like_softmax: bool = True,
    floor: float = FLOAT_FLOOR,
) -> Reading:
    """Bring answers into the metrics' form.

    Args:
        feeds: The samples, of which a reconstruction is judged by its distance from them.
        like_softmax: Whether the first output is probabilities; logits otherwise.
        floor: The smallest probability the answers can tell from 0 (half a code of a quantized output).

    Raises:
        DataInvalid: A detector's outputs cannot be told.
    """
    first = next(iter(answers.values()))
    rows = first.reshape(len(first), -1).astype(np.float64)
    if task == "classification":
        return Reading(scores=rows, probabilities=probabilities(rows, like_softmax, floor))
    if task == "regression":
        return Reading(values=rows)
    if task == "reconstruction":
        given = next(iter(feeds.values())).reshape(len(first), -1).astype(np.float64)
        return Reading(errors=np.square(rows - given).mean(axis=1))
    if task == "detection":
        return Reading(detections=detection.read(answers))
    return Reading()


def is_softmax(scores: Floats) -> bool:
    """Whether rows are probabilities: none negative, each summing to 1."""
    return bool((scores >= -1e-6).all() and np.allclose(scores.sum(axis=1), 1, atol=_SUM_TOLERANCE))


def logits(scores: Floats, like_softmax: bool, floor: float = FLOAT_FLOOR) -> Floats:
    """Logits of scores: themselves, or the logarithms of probabilities, which softmax takes back."""
    return np.log(np.maximum(scores, floor)) if like_softmax else scores


def softmax(values: Floats) -> Floats:
    """Rows that sum to 1."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)


def probabilities(scores: Floats, like_softmax: bool, floor: float = FLOAT_FLOOR) -> Floats:
    """Rows that sum to 1 and are nowhere 0."""
    return softmax(logits(scores, like_softmax, floor))


def mean_of(values: Floats) -> Measure:
    """The weighted mean of a figure that each sample has by itself."""

    def measure(weights: Weights) -> float | None:
        total = float(weights.sum())
        return float(weighted(weights, values)) / total if total else None

    return measure


@metric("accuracy", "Top-1 accuracy", "classification")
def _accuracy(answers: Reading, truth: Truth) -> Measure | None:
    return _top_k(answers, truth, 1)


@metric("top3", "Top-3 accuracy", "classification")
def _top3(answers: Reading, truth: Truth) -> Measure | None:
    return _top_k(answers, truth, 3)


@metric("top5", "Top-5 accuracy", "classification")
def _top5(answers: Reading, truth: Truth) -> Measure | None:
    return _top_k(answers, truth, 5)


def _top_k(answers: Reading, truth: Truth, k: int) -> Measure | None:
    """Ties go to the lower class number, as argmax does; says little where k is half of the classes."""
    scores, classes = answers.scores, truth.classes
    if scores is None or classes is None or (k > 1 and 2 * k > scores.shape[1]):
        return None
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return mean_of((best == classes[:, None]).any(axis=1).astype(np.float64))


@metric("macro_f1", "Macro F1", "classification")
def _macro_f1(answers: Reading, truth: Truth) -> Measure | None:
    """The unweighted mean over the classes that are right or given somewhere: 2 TP / (2 TP + FP + FN)."""
    if answers.scores is None or truth.classes is None:
        return None
    classes, right = answers.scores.shape[1], truth.classes
    given = answers.scores.argmax(axis=1)

    def measure(weights: Weights) -> float | None:
        hits = np.bincount(right[given == right], weights[given == right], classes)
        both = np.bincount(right, weights, classes) + np.bincount(given, weights, classes)
        seen = both > 0
        return float(np.mean(2 * hits[seen] / both[seen])) if seen.any() else None

    return measure


@metric("roc_auc", "ROC AUC", "classification")
def _roc_auc(answers: Reading, truth: Truth) -> Measure | None:
    """Binary: of class 1's score; otherwise the mean over classes of one against the rest."""
    scores, classes = answers.scores, truth.classes
    if scores is None or classes is None:
        return None
    if scores.shape[1] == 2:
        return auc(scores[:, 1] - scores[:, 0], classes == 1)
    each = [auc(scores[:, c], classes == c) for c in range(scores.shape[1])]

    def measure(weights: Weights) -> float | None:
        found = [area for one in each if (area := one(weights)) is not None]
        return float(np.mean(found)) if found else None

    return measure


@metric("log_loss", "Log loss", "classification", higher_is_better=False, share=False)
def _log_loss(answers: Reading, truth: Truth) -> Measure | None:
    """Mean of -ln of the right class's probability."""
    if answers.probabilities is None or truth.classes is None:
        return None
    return mean_of(-np.log(answers.probabilities[np.arange(len(truth.classes)), truth.classes]))


@metric("r2", "R2", "regression")
def _r2(answers: Reading, truth: Truth) -> Measure | None:
    """1 - squared errors / squared deviations, averaged over the outputs that vary at all."""
    if answers.values is None or truth.values is None:
        return None
    right, squares = truth.values, np.square(answers.values - truth.values)

    def measure(weights: Weights) -> float | None:
        total = float(weights.sum())
        if not total:
            return None
        spread = weighted(weights, np.square(right - weighted(weights, right) / total))
        varies = spread > 0
        return (
            float(np.mean(1 - weighted(weights, squares)[varies] / spread[varies])) if varies.any() else None
        )

    return measure


@metric("mae", "Mean absolute error", "regression", higher_is_better=False, share=False)
def _mae(answers: Reading, truth: Truth) -> Measure | None:
    if answers.values is None or truth.values is None:
        return None
    return mean_of(np.abs(answers.values - truth.values).mean(axis=1))


@metric("rmse", "Root mean squared error", "regression", higher_is_better=False, share=False)
def _rmse(answers: Reading, truth: Truth) -> Measure | None:
    if answers.values is None or truth.values is None:
        return None
    square = mean_of(np.square(answers.values - truth.values).mean(axis=1))

    def measure(weights: Weights) -> float | None:
        mean = square(weights)
        return None if mean is None else float(np.sqrt(mean))

    return measure


@metric("roc_auc", "ROC AUC of the reconstruction error", "reconstruction")
def _anomaly_auc(answers: Reading, truth: Truth) -> Measure | None:
    """An anomaly's mean squared reconstruction error is above a normal sample's with this probability."""
    if answers.errors is None or truth.anomalous is None:
        return None
    return auc(answers.errors, truth.anomalous)


@metric("map", "mAP 0.50:0.95", "detection")
def _map(answers: Reading, truth: Truth) -> Measure | None:
    """COCO's: the mean over ten overlaps from 0.50 to 0.95."""
    if answers.detections is None or truth.boxes is None or truth.box_classes is None:
        return None
    return detection.mean_ap(answers.detections, truth.boxes, truth.box_classes, detection.COCO_OVERLAPS)


@metric("map50", "mAP 0.50", "detection")
def _map50(answers: Reading, truth: Truth) -> Measure | None:
    if answers.detections is None or truth.boxes is None or truth.box_classes is None:
        return None
    return detection.mean_ap(answers.detections, truth.boxes, truth.box_classes, (0.5,))


def auc(scores: Floats, positive: NDArray[np.bool_]) -> Measure:
    """Area under the ROC curve: the share of pairs in the right order, ties counting half.

    Mann and Whitney's U over the number of pairs; Hanley and McNeil 1982,
    doi:10.1148/radiology.143.1.7063747.
    """
    order = np.argsort(scores, kind="stable")
    ranked, up = scores[order], positive[order]
    group = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])]).astype(np.intp)
    groups = int(group[-1]) + 1 if len(group) else 0

    def measure(weights: Weights) -> float | None:
        sorted_weights = weights[order]
        ups = np.bincount(group, sorted_weights * up, groups).astype(np.float64)
        downs = np.bincount(group, sorted_weights * ~up, groups)
        pairs = float(ups.sum() * downs.sum())
        below = np.cumsum(downs) - downs
        return float(weighted(ups, below + downs / 2)) / pairs if pairs else None

    return measure
