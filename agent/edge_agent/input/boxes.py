"""A detector's outputs to boxes: decoding, then leaving out what is weak or there twice. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.input.view import WHOLE, View
from edge_contracts.manifest import Manifest
from edge_contracts.processing import Anchors, Candidates, Detections, Picture

Floats = NDArray[np.float64]
MOST_BEFORE_NMS = 4096  # the best so many; overlap is looked at pair by pair


@dataclass(frozen=True, eq=False)
class Found:
    """What is in one picture, best first.

    Args:
        corners: Shape (k, 4): left, top, right, bottom in shares of the model's picture.
        classes: Shape (k,).
        scores: Shape (k,).
        points: Keypoints, shape (k, m, 2), in the same shares.
    """

    corners: Floats
    classes: NDArray[np.intp]
    scores: Floats
    points: Floats


def decode(
    rule: Detections | Candidates | Anchors,
    outputs: Mapping[str, NDArray[Any]],
    size: tuple[int, int] | None,
) -> list[Found]:
    """The boxes of each sample.

    Args:
        size: Height and width of the model's picture, where boxes are in its pixels.
    """
    samples = next(iter(outputs.values())).shape[0]
    found = []
    for sample in range(samples):
        row = {name: np.asarray(values[sample], np.float64) for name, values in outputs.items()}
        if isinstance(rule, Detections):
            every = _detections(rule, row)
        elif isinstance(rule, Candidates):
            every = _candidates(rule, row[rule.output])
        else:
            every = _from_anchors(rule, row[rule.boxes], row[rule.scores])
        if getattr(rule, "unit", "share") == "pixel":
            if size is None:
                raise AssertionError("a manifest whose boxes are in pixels has a picture")
            height, width = size
            every = Found(
                every.corners / [width, height, width, height], every.classes, every.scores, every.points
            )
        found.append(_kept(every, rule))
    return found


def picture_size(manifest: Manifest) -> tuple[int, int] | None:
    """Height and width of the first input that is a picture, by what its bundle says or by its layout."""
    for spec in manifest.inputs:
        if len(spec.shape) == 4 and (spec.layout or isinstance(spec.prepare, Picture)):
            _, a, b, c = spec.shape
            return (a, b) if spec.layout == "NHWC" else (b, c)
    return None


def as_plain(found: Found, labels: tuple[str, ...], view: View | None) -> list[dict[str, Any]]:
    """Boxes as plain values, in the picture that was handed over."""
    seen = view or WHOLE
    result = []
    for corners, code, score, points in zip(
        found.corners.tolist(), found.classes.tolist(), found.scores.tolist(), found.points, strict=True
    ):
        left, top = seen.point(corners[0], corners[1])
        right, bottom = seen.point(corners[2], corners[3])
        one = {
            "class": labels[code] if 0 <= code < len(labels) else str(code),
            "index": code,
            "score": score,
            "box": [left, top, right, bottom],
        }
        if len(points):
            one["keypoints"] = [list(seen.point(x, y)) for x, y in points.tolist()]
        result.append(one)
    return result


def sigmoid(values: NDArray[Any]) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values.astype(np.float64))))


def _detections(rule: Detections, row: Mapping[str, Floats]) -> Found:
    corners = row[rule.boxes]
    if rule.scores:
        scores, classes = row[rule.scores].reshape(-1), row[rule.classes].reshape(-1)
    else:
        corners, scores, classes = corners[:, :4], corners[:, 4], corners[:, 5]
    count = len(corners)
    if rule.count:
        stated = row[rule.count].reshape(-1)[0]
        count = int(np.clip(stated, 0, count)) if np.isfinite(stated) else 0
    if rule.corners == "yxyx":
        corners = corners[:, [1, 0, 3, 2]]
    numbers = np.where(np.isfinite(classes), classes, -1).astype(np.intp) - rule.first_class
    return Found(corners[:count], numbers[:count], scores[:count], _no_points(count))


def _candidates(rule: Candidates, values: Floats) -> Found:
    if rule.along == "columns":
        values = values.T
    scores = values[:, 4:]
    if rule.activation == "sigmoid":
        scores = sigmoid(scores)
    if rule.objectness:
        scores = scores[:, 1:] * scores[:, :1]
    classes = scores.argmax(axis=1)
    corners = values[:, :4]
    if rule.form == "yxyx":
        corners = corners[:, [1, 0, 3, 2]]
    elif rule.form == "cxcywh":
        corners = _around(corners[:, :2], corners[:, 2:])
    return Found(corners, classes, scores[np.arange(len(scores)), classes], _no_points(len(scores)))


def _from_anchors(rule: Anchors, boxes: Floats, scores: Floats) -> Found:
    anchors = _anchors(rule)
    scores = scores.reshape(len(scores), -1)
    if rule.activation == "sigmoid":
        scores = sigmoid(scores)
    elif rule.activation == "softmax":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
    if rule.background:
        scores = scores[:, 1:]
    classes = scores.argmax(axis=1)
    if rule.order == "yxhw":
        boxes = boxes[:, [1, 0, 3, 2, *range(4, boxes.shape[1])]]
    scale = np.array(rule.scale)
    centres = anchors[:, :2] + anchors[:, 2:] * boxes[:, :2] / scale[:2]
    sizes = boxes[:, 2:4] / scale[2:]
    if rule.size == "exp":
        sizes = np.exp(np.minimum(sizes, 50.0))
    points = boxes[:, 4:].reshape(len(boxes), rule.keypoints, 2)
    points = anchors[:, None, :2] + anchors[:, None, 2:] * points / scale[:2]
    corners = _around(centres, anchors[:, 2:] * sizes)
    return Found(corners, classes, scores[np.arange(len(scores)), classes], points)


@lru_cache(maxsize=8)
def _anchors(rule: Anchors) -> Floats:
    """Centre x, centre y, width and height of every anchor, in shares; shape (n, 4)."""
    made = []
    for grid in rule.grids:
        rows, columns, kinds = np.meshgrid(
            np.arange(grid.rows), np.arange(grid.columns), np.arange(len(grid.sizes)), indexing="ij"
        )
        sizes = np.array(grid.sizes)[kinds.reshape(-1)]
        centres = ((columns.reshape(-1) + 0.5) / grid.columns, (rows.reshape(-1) + 0.5) / grid.rows)
        made.append(np.column_stack([*centres, sizes]))
    return np.concatenate(made)


def _around(centres: Floats, sizes: Floats) -> Floats:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def _no_points(count: int) -> Floats:
    return np.zeros((count, 0, 2))


def _kept(found: Found, rule: Detections | Candidates | Anchors) -> Found:
    """The boxes that are sure enough and not there twice, best first; of equal ones the earlier."""
    good = (found.scores >= rule.min_score) & np.isfinite(found.corners).all(axis=1)
    chosen = np.flatnonzero(good)
    chosen = chosen[np.argsort(-found.scores[chosen], kind="stable")][:MOST_BEFORE_NMS]
    if rule.max_iou is not None:
        groups = np.zeros(len(chosen), np.intp) if rule.across_classes else found.classes[chosen]
        chosen = chosen[suppress(found.corners[chosen], groups, rule.max_iou, rule.max_boxes)]
    chosen = chosen[: rule.max_boxes]
    return Found(found.corners[chosen], found.classes[chosen], found.scores[chosen], found.points[chosen])


def suppress(corners: Floats, groups: NDArray[np.intp], max_iou: float, most: int) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: places of those that no better one of their group overlaps too much.

    Args:
        corners: Shape (k, 4), best first.
        groups: Shape (k,): only boxes of one group push each other out.
        most: Stop after so many.
    """
    areas = np.maximum(corners[:, 2:] - corners[:, :2], 0).prod(axis=1)
    alive = np.ones(len(corners), bool)
    kept: list[int] = []
    for place in range(len(corners)):
        if not alive[place]:
            continue
        kept.append(place)
        if len(kept) == most:
            break
        low = np.maximum(corners[place, :2], corners[place + 1 :, :2])
        high = np.minimum(corners[place, 2:], corners[place + 1 :, 2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        union = areas[place] + areas[place + 1 :] - shared
        overlaps = shared > max_iou * union
        alive[place + 1 :] &= ~(overlaps & (groups[place + 1 :] == groups[place]))
    return np.array(kept, np.intp)
