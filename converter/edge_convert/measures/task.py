"""What a model is for, told from its outputs and its labels, or by the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_contracts.manifest import Task
from edge_convert.errors import DataInvalid
from edge_convert.graph import Array, Graph

_ROW_SUM_TOLERANCE = 1e-3  # softmax in float16 sums to 1 within this


def classes_of(graph: Graph) -> int:
    """Number of classes when the first output is one row of scores, else 0."""
    shape = graph.outputs[0].shape
    # [1, k], or [1, 1, 1, k] where an exporter kept the pooled picture's axes
    return shape[-1] if len(shape) >= 2 and all(d == 1 for d in shape[:-1]) and shape[-1] >= 2 else 0


def detect(
    graph: Graph,
    outputs: Mapping[str, Array],
    has_labels: bool,
    asked: Task | None,
    like_values: bool = False,
) -> Task:
    """Tell the task.

    Args:
        outputs: The source's answers on calibration samples, by output name.
        asked: What the user says; believed, but checked against the shape.
        like_values: Whether the labels are real numbers in the shape of the only output.

    Raises:
        DataInvalid: The user's word or the labels do not fit the model's outputs.
    """
    shape = graph.outputs[0].shape
    classes = classes_of(graph)
    if asked == "classification" and not classes:
        raise DataInvalid(
            f"--task classification needs one row of scores; the first output has shape {shape}"
        )
    if asked == "regression" and len(graph.outputs) != 1:
        raise DataInvalid(
            f"--task regression needs one output to hold against y; the model has {len(graph.outputs)}"
        )
    if asked is not None:
        return asked
    if len(graph.outputs) == 1 and classes:
        rows = outputs[graph.outputs[0].name].reshape(-1, classes).astype(np.float64)
        like_softmax = bool(
            (rows >= -1e-6).all() and np.allclose(rows.sum(axis=1), 1, atol=_ROW_SUM_TOLERANCE)
        )
        if like_softmax or (has_labels and not like_values and not _same_shape(graph)):
            return "classification"
    if like_values:
        return "regression"
    return "reconstruction" if len(graph.inputs) == 1 and _same_shape(graph) else "other"


def read_labels(path: Path, classes: int | None) -> tuple[str, ...]:
    """Class names from a text file, one a line.

    Args:
        classes: How many there must be; None for any number.

    Raises:
        DataInvalid: It cannot be read, or the number of names is not that of the classes.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataInvalid(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataInvalid(f"{path.name} is not text in UTF-8; expected one class name a line") from None
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if classes is not None and len(names) != classes:
        raise DataInvalid(f"{path.name} has {len(names)} lines; the model has {classes} classes")
    return names


def _same_shape(graph: Graph) -> bool:
    return len(graph.outputs) == 1 and graph.outputs[0].shape == graph.inputs[0].shape
