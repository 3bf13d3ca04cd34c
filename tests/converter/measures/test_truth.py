"""Labels as a task takes them, and the one-line refusal of those that it cannot take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_nets import Net

from edge_contracts.arrays import write_npz
from edge_contracts.manifest import Task
from edge_convert.data import Samples, ports_of, read_samples
from edge_convert.errors import DataInvalid
from edge_convert.graph import Graph, Op
from edge_convert.measures.truth import looks_like_regression, read_truth

N = 6


def model(outputs: int = 2) -> Graph:
    net = Net({"x": (1, 4)})
    return net.graph(net.node(Op.DENSE, ["x", net.weight(outputs, 4)], "y", activation="none"))


def samples(folder: Path, graph: Graph, **arrays: Any) -> Samples:
    x = np.random.RandomState(0).normal(0, 1, (N, 4)).astype(np.float32)
    everything = {"x": x} | {name: np.asarray(array) for name, array in arrays.items()}
    (folder / "data.npz").write_bytes(write_npz(everything))
    return read_samples(folder / "data.npz", ports_of(graph))


def truth_of(folder: Path, task: Task, outputs: int = 2, **arrays: Any) -> Any:
    graph = model(outputs)
    return read_truth(samples(folder, graph, **arrays), task, graph, outputs)


def test_each_task_reads_its_own_labels(tmp_path: Path) -> None:
    classes = truth_of(tmp_path, "classification", y=[0, 1, 0, 1, 1, 0]).classes
    assert classes.tolist() == [0, 1, 0, 1, 1, 0]
    values = truth_of(tmp_path, "regression", outputs=1, y=np.arange(N, dtype=np.float32)).values
    assert values.tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    assert truth_of(tmp_path, "regression", y=np.ones((N, 2))).values.shape == (N, 2)
    anomalous = truth_of(tmp_path, "reconstruction", y=[0, 0, 1, 0, 0, 1]).anomalous
    assert anomalous.tolist() == [False, False, True, False, False, True]
    assert truth_of(tmp_path, "other", y=[0] * N) is None
    assert truth_of(tmp_path, "classification") is None
    assert truth_of(tmp_path, "detection", y=[0] * N) is None


def test_a_part_keeps_what_belongs_together(tmp_path: Path) -> None:
    boxes = np.random.RandomState(0).uniform(0, 0.5, (N, 2, 4))
    boxes[..., 2:] += 0.5
    whole = truth_of(tmp_path, "detection", boxes=boxes, box_classes=np.arange(2 * N).reshape(N, 2))
    part = whole.part(np.array([4, 1]))
    assert part.box_classes.tolist() == [[8, 9], [2, 3]]
    np.testing.assert_array_equal(part.boxes, boxes[[4, 1]])
    assert part.classes is part.values is part.anomalous is None


BOXES = np.tile([0.1, 0.1, 0.4, 0.4], (N, 3, 1))
REFUSED: list[tuple[Task, dict[str, Any], str]] = [
    ("regression", {"y": np.ones((N, 3))}, r"y has shape \(6, 3\) .* expects numbers of shape \(n, 2\)"),
    ("regression", {"y": np.full((N, 2), np.nan)}, "y holds values that are NaN or infinite"),
    ("reconstruction", {"y": [0, 1, 2, 0, 1, 0]}, r"it is \(n,\) of 0 \(normal\) and 1 \(anomaly\)"),
    ("reconstruction", {"y": ["a"] * N}, "0 .normal. and 1 .anomaly."),
    ("detection", {"boxes": BOXES}, "holds 'boxes' without 'box_classes'"),
    ("detection", {"box_classes": np.zeros((N, 3), int)}, "holds 'box_classes' without 'boxes'"),
    (
        "detection",
        {"boxes": BOXES[:, :, :3], "box_classes": np.zeros((N, 3), int)},
        r"'boxes' has shape \(6, 3, 3\).*expected \(6, k, 4\) floats",
    ),
    (
        "detection",
        {"boxes": BOXES[:5], "box_classes": np.zeros((5, 3), int)},
        r"'boxes' has shape \(5, 3, 4\).*expected \(6, k, 4\)",
    ),
    (
        "detection",
        {"boxes": BOXES, "box_classes": np.zeros((N, 2), int)},
        r"'box_classes' has shape \(6, 2\).*expected \(6, 3\) whole numbers",
    ),
    (
        "detection",
        {"boxes": BOXES, "box_classes": np.zeros((N, 3), np.float32)},
        "'box_classes' .* dtype float32; expected",
    ),
    (
        "detection",
        {"boxes": BOXES[:, :, ::-1], "box_classes": np.zeros((N, 3), int)},
        "second corner lies before their first",
    ),
]


@pytest.mark.parametrize("task, arrays, message", REFUSED)
def test_labels_that_do_not_fit_are_refused_with_found_and_expected(
    tmp_path: Path, task: Task, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataInvalid, match=message) as refusal:
        truth_of(tmp_path, task, **arrays)
    assert "\n" not in str(refusal.value)


def test_places_without_a_box_may_hold_anything(tmp_path: Path) -> None:
    boxes, classes = BOXES.copy(), np.zeros((N, 3), int)
    boxes[:, 2], classes[:, 2] = np.nan, -1
    assert truth_of(tmp_path, "detection", boxes=boxes, box_classes=classes) is not None


def test_real_numbers_in_the_outputs_shape_look_like_regression() -> None:
    graph = model(2)
    assert looks_like_regression(np.random.RandomState(0).normal(0, 1, (N, 2)), graph)
    assert not looks_like_regression(np.eye(2)[[0, 1, 0, 1, 0, 1]], graph)  # one-hot classes
    assert not looks_like_regression(np.zeros(N, np.float32), graph)
    assert not looks_like_regression(np.arange(2 * N).reshape(N, 2), graph)
