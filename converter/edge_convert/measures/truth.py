"""What the samples' labels say, in the form that a task's metrics take: `y` and the detection arrays.

`data.py` reads the arrays; this tells what they mean for a task, or refuses them with the found and
the expected. What is measured on them is in `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Task
from edge_convert.data import BOX_CLASSES, BOXES, Samples, class_labels
from edge_convert.errors import DataInvalid
from edge_convert.graph import Array, Graph

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """The right answers to n samples; only what belongs to the task is there.

    Args:
        classes: [n] class numbers (classification).
        values: [n, k] the right outputs (regression).
        anomalous: [n] which samples are anomalies (reconstruction).
        boxes: [n, k, 4] corners in the model's own order and unit (detection).
        box_classes: [n, k] classes of the boxes, -1 where a sample has fewer than k.
    """

    classes: NDArray[np.intp] | None = None
    values: Floats | None = None
    anomalous: NDArray[np.bool_] | None = None
    boxes: Floats | None = None
    box_classes: NDArray[np.intp] | None = None

    def part(self, indices: NDArray[np.intp]) -> Truth:
        """Of some of the samples."""
        return Truth(
            None if self.classes is None else self.classes[indices],
            None if self.values is None else self.values[indices],
            None if self.anomalous is None else self.anomalous[indices],
            None if self.boxes is None else self.boxes[indices],
            None if self.box_classes is None else self.box_classes[indices],
        )


def read_truth(samples: Samples, task: Task, graph: Graph, classes: int) -> Truth | None:
    """What a data file says about the right answers; None when it says nothing for this task.

    Raises:
        DataInvalid: Labels are there and do not fit the task.
    """
    if task == "detection":
        return _boxes(samples)
    if samples.labels is None:
        return None
    if task == "classification":
        return Truth(classes=class_labels(samples.labels, classes, samples.path))
    if task == "regression":
        return Truth(values=_values(samples.labels, graph, samples.path))
    if task == "reconstruction":
        return Truth(anomalous=_anomalous(samples.labels, samples.path))
    return None


def looks_like_regression(labels: Array, graph: Graph) -> bool:
    """Whether labels are real numbers, not marks of 0 and 1, in the shape of the model's only output."""
    if len(graph.outputs) != 1 or labels.dtype.kind != "f" or np.isin(labels, (0, 1)).all():
        return False
    return labels.size == len(labels) * int(np.prod(graph.outputs[0].shape))


def _values(labels: Array, graph: Graph, name: str) -> Floats:
    shape = graph.outputs[0].shape[1:]
    size = int(np.prod(shape))
    if labels.dtype.kind not in "fiu" or labels.size != len(labels) * size:
        wanted = f"(n, {', '.join(map(str, shape))})" if size > 1 else "(n,)"
        raise DataInvalid(
            f"{name}: y has shape {labels.shape} and dtype {labels.dtype}; --task regression expects "
            f"numbers of shape {wanted}, the model's output"
        )
    values = labels.reshape(len(labels), size).astype(np.float64)
    if not np.isfinite(values).all():
        raise DataInvalid(f"{name}: y holds values that are NaN or infinite; expected numbers")
    return values


def _anomalous(labels: Array, name: str) -> NDArray[np.bool_]:
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1 or labels.dtype.kind not in "iufb" or not np.isin(flat, (0, 1)).all():
        raise DataInvalid(
            f"{name}: y has shape {labels.shape} and dtype {labels.dtype}; for a model that reconstructs "
            "its input it is (n,) of 0 (normal) and 1 (anomaly)"
        )
    return flat[:, 0].astype(bool)


def _boxes(samples: Samples) -> Truth | None:
    arrays: Mapping[str, Array] = samples.targets
    if not arrays:
        return None
    missing = [key for key in (BOXES, BOX_CLASSES) if key not in arrays]
    name = samples.path
    if missing:
        raise DataInvalid(f"{name} holds {', '.join(map(repr, arrays))} without {missing[0]!r}")
    boxes, classes = arrays[BOXES], arrays[BOX_CLASSES]
    count = len(samples)
    if boxes.ndim != 3 or boxes.shape[2] != 4 or boxes.dtype.kind != "f" or len(boxes) != count:
        raise DataInvalid(
            f"{name}: {BOXES!r} has shape {boxes.shape} and dtype {boxes.dtype}; expected "
            f"({count}, k, 4) floats, the corners in the model's own order"
        )
    if classes.shape != boxes.shape[:2] or classes.dtype.kind not in "iu":
        raise DataInvalid(
            f"{name}: {BOX_CLASSES!r} has shape {classes.shape} and dtype {classes.dtype}; expected "
            f"{boxes.shape[:2]} whole numbers, -1 where a sample has fewer boxes"
        )
    real = boxes[classes >= 0]
    if not np.isfinite(real).all() or (real[:, 2:] < real[:, :2]).any():
        raise DataInvalid(
            f"{name}: {BOXES!r} holds boxes that are not finite, "
            "or whose second corner lies before their first"
        )
    return Truth(boxes=boxes.astype(np.float64), box_classes=classes.astype(np.intp))
