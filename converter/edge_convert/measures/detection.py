"""A detector's boxes: which output is which, and the mean average precision over them, COCO's way.

Understood are outputs that are boxes already: those of TFLite_Detection_PostProcess (boxes [1, k, 4],
classes [1, k], scores [1, k] and a count), with or without the count, and one output [1, k, 6] with
rows of four corners, score and class. Anchors, grids and offsets are not decoded: how is not
written in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.errors import DataInvalid
from edge_convert.graph import Array
from edge_convert.measures.intervals import Weights, weighted

Floats = NDArray[np.float64]
COCO_OVERLAPS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
RECALLS = np.linspace(0, 1, 101)
MOST_PER_SAMPLE = 100  # COCO counts no more of a sample's detections

UNDERSTOOD = (
    "boxes (1, k, 4), classes (1, k), scores (1, k) and maybe a count, or one output (1, k, 6) with "
    "corners, score and class"
)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in n samples.

    Args:
        boxes: [n, k, 4] corners.
        scores: [n, k]; -inf where nothing is meant.
        classes: [n, k].
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.intp]


def read(answers: Mapping[str, Array]) -> Detections:
    """Boxes, scores and classes from a detector's outputs.

    Raises:
        DataInvalid: The outputs are none of the understood forms.
    """
    roles = _roles({name: values.shape for name, values in answers.items()})
    if "rows" in roles:
        rows = answers[roles["rows"]].astype(np.float64)
        return _kept(rows[..., :4], rows[..., 4], rows[..., 5], None)
    boxes = answers[roles["boxes"]].astype(np.float64)
    pair = [answers[roles[key]].astype(np.float64) for key in ("classes", "scores")]
    # unnamed outputs: only classes are whole numbers that go beyond 1
    if roles["by"] == "place" and not _whole(pair[0]) and _whole(pair[1]):
        pair = pair[::-1]
    counts = None if "count" not in roles else answers[roles["count"]].reshape(len(boxes)).astype(np.float64)
    return _kept(boxes, pair[1], pair[0], counts)


def _roles(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    if len(shapes) == 1:
        ((name, shape),) = shapes.items()
        if len(shape) == 3 and shape[2] == 6:
            return {"rows": name}
    boxes = [name for name, shape in shapes.items() if len(shape) == 3 and shape[2] == 4]
    if len(boxes) == 1:
        k = shapes[boxes[0]][1]
        rows = [n for n, s in shapes.items() if n != boxes[0] and len(s) == 2 and s[1] == k and s[1] > 1]
        rows = rows or [n for n, s in shapes.items() if len(s) == 2 and s[1] == k][:2]
        counts = [n for n, s in shapes.items() if n not in (*rows, *boxes) and int(np.prod(s[1:])) == 1]
        if len(rows) == 2 and len(shapes) == 3 + len(counts) and len(counts) <= 1:
            named = _by_name(rows)
            roles = {"boxes": boxes[0], **(named or {"classes": rows[0], "scores": rows[1]})}
            roles["by"] = "name" if named else "place"
            return roles | ({"count": counts[0]} if counts else {})
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise DataInvalid(f"the detector's outputs are {found}; boxes can be scored from {UNDERSTOOD}")


def _by_name(pair: Sequence[str]) -> dict[str, str] | None:
    scores = [n for n in pair if "score" in n.lower()]
    classes = [n for n in pair if "class" in n.lower() and n not in scores]
    return {"classes": classes[0], "scores": scores[0]} if len(scores) == len(classes) == 1 else None


def _whole(values: Floats) -> bool:
    return bool((values == np.rint(values)).all())


def _kept(boxes: Floats, scores: Floats, classes: Floats, counts: Floats | None) -> Detections:
    usable = np.isfinite(boxes).all(axis=2) & np.isfinite(scores) & np.isfinite(classes) & (scores > 0)
    if counts is not None:
        usable &= np.arange(scores.shape[1])[None] < np.rint(counts)[:, None]
    # an int8 artifact's classes come back as whole numbers only to within half a code
    numbers = np.rint(np.where(usable, classes, -1)).astype(np.intp)
    return Detections(np.where(usable[..., None], boxes, 0), np.where(usable, scores, -np.inf), numbers)


def overlaps(ours: Floats, theirs: Floats) -> Floats:
    """Intersection over union of every pair of boxes: [a, 4] and [b, 4] to [a, b]."""
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=1) for b in (ours, theirs)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(shared / np.where(union > 0, union, 1), np.float64)


@dataclass(frozen=True, eq=False)
class _Class:
    """One class's detections over all samples, the surest first.

    Args:
        samples: [d] whose each is.
        hits: [overlaps, d] whether each meets a box that no surer one has met.
        boxes: [n] how many there are to find in each sample.
    """

    samples: NDArray[np.intp]
    hits: NDArray[np.bool_]
    boxes: Floats


def mean_ap(
    found: Detections, boxes: Floats, classes: NDArray[np.intp], limits: Sequence[float]
) -> Callable[[Weights], float | None]:
    """Mean over classes and overlaps of the area under the precision-recall curve.

    Lin et al., arXiv:1405.0312, as pycocotools computes it: at most 100 detections a sample, each
    takes the free box that it overlaps most, precision is made to fall and is read at 101 recalls.
    No box is marked "crowd" and no size is left out.
    """
    per_class = [_matched(found, boxes, classes, c, limits) for c in np.unique(classes[classes >= 0])]

    def measure(weights: Weights) -> float | None:
        areas = [area for one in per_class for area in _areas(one, weights)]
        return float(np.mean(areas)) if areas else None

    return measure


def _matched(
    found: Detections, boxes: Floats, classes: NDArray[np.intp], wanted: int, limits: Sequence[float]
) -> _Class:
    samples, scores, hits = [], [], []
    for index in range(len(boxes)):
        theirs = boxes[index][classes[index] == wanted]
        surest = np.argsort(-found.scores[index], kind="stable")[:MOST_PER_SAMPLE]
        ours = surest[(found.classes[index][surest] == wanted) & np.isfinite(found.scores[index][surest])]
        shared = overlaps(found.boxes[index][ours], theirs)
        samples += [index] * len(ours)
        scores += list(found.scores[index][ours])
        hits.append(_hits(shared, limits))
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    return _Class(
        np.asarray(samples, np.intp)[order],
        np.concatenate(hits, axis=1)[:, order],
        (classes == wanted).sum(axis=1).astype(np.float64),
    )


def _hits(shared: Floats, limits: Sequence[float]) -> NDArray[np.bool_]:
    """Which detections, the surest first, take a box of their own at each overlap."""
    result = np.zeros((len(limits), len(shared)), bool)
    for row, limit in enumerate(limits):
        free = np.ones(shared.shape[1], bool)
        for place, mine in enumerate(shared):
            open_boxes = np.where(free, mine, -1.0)
            if open_boxes.size and open_boxes.max() >= limit:
                free[int(open_boxes.argmax())] = False
                result[row, place] = True
    return result


def _areas(one: _Class, weights: Weights) -> list[float]:
    total = float(weighted(weights, one.boxes))
    if not total:
        return []
    mine = weights[one.samples]
    areas = []
    for hits in one.hits:
        right = np.cumsum(mine * hits)
        counted = np.cumsum(mine)
        precision = np.divide(right, counted, out=np.zeros_like(right), where=counted > 0)
        falling = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(right / total, RECALLS - 1e-12, side="left")
        areas.append(float(np.append(falling, 0.0)[places].mean()))
    return areas
