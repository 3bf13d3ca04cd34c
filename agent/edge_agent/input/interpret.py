"""From outputs to answers, as the signed contract says: labels with scores, or boxes.

`interpret` is for whoever has outputs (an HTTP answer, a file, a log). What the rules mean is written
in `edge_contracts.processing`; boxes are `boxes.py`'s. Pure: any thread may call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.input import boxes
from edge_agent.input.view import View
from edge_contracts.manifest import Manifest
from edge_contracts.processing import Classes

TOP_CLASS = Classes(kind="classes", top_k=1)  # what bundles that say nothing of it mean


def interpret(
    manifest: Manifest, outputs: Mapping[str, NDArray[Any]], view: View | None = None
) -> list[dict[str, Any]]:
    """What the outputs mean, one answer a sample; plain values that JSON can hold.

    Args:
        outputs: By tensor name, shape (n, ...), in the contract's space (`Answer.outputs`).
        view: Of the picture (`Prepared.view`), so that boxes are of the picture that was handed over;
            without it they are of the model's own.

    Returns:
        For a classifier {"top": [{"class", "index", "score"}, ...]}, best first; for a detector
        {"boxes": [{"class", "index", "score", "box": [left, top, right, bottom]}, ...]}, best first, in
        shares of the picture's sides, with "keypoints" [[x, y], ...] where the model has them; {} where
        the contract says nothing. A score that is not finite is None.
    """
    rule = manifest.interpret
    if rule is None and manifest.task == "classification":
        rule = TOP_CLASS
    if rule is None:
        count = next(iter(outputs.values())).shape[0]
        return [{} for _ in range(count)]
    if isinstance(rule, Classes):
        scores = outputs[manifest.outputs[0].name]
        return [{"top": best} for best in top(scores, rule, manifest.labels)]
    size = boxes.picture_size(manifest)
    found = boxes.decode(rule, outputs, size)
    return [{"boxes": boxes.as_plain(one, manifest.labels, view)} for one in found]


def top(scores: NDArray[Any], rule: Classes, labels: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """The best classes of each sample.

    Args:
        scores: Shape (n, classes); one output of a single score is class 0.
    """
    flat = probabilities(scores.reshape(scores.shape[0], -1), rule.activation)
    order = np.argsort(-flat, axis=1, kind="stable")[:, : rule.top_k]
    return [
        [
            {"class": label(labels, index), "index": index, "score": plain(row[index])}
            for index in places
            if not row[index] < rule.at_least
        ]
        for row, places in zip(flat, order.tolist(), strict=True)
    ]


def probabilities(scores: NDArray[Any], activation: str) -> NDArray[Any]:
    """Scores of shape (n, classes) as probabilities."""
    if activation == "softmax":
        powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if activation == "sigmoid":
        return boxes.sigmoid(scores)
    return scores


def label(labels: tuple[str, ...], index: int) -> str:
    """Name of a class; one without is called by its number."""
    return labels[index] if 0 <= index < len(labels) else str(index)


def plain(score: Any) -> float | None:
    """A score for JSON, which has no NaN."""
    return float(score) if np.isfinite(score) else None
