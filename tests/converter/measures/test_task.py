"""What a model is for, told from its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_nets import Net

from edge_convert.errors import DataInvalid
from edge_convert.graph import Graph, Op, Port, Tensor
from edge_convert.measures.task import detect, read_labels


def graph(input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Graph:
    tensors = {"x": Tensor("x", input_shape), "y": Tensor("y", output_shape)}
    return Graph("g", (Port("x", "x", input_shape),), (Port("y", "y", output_shape),), (), tensors)


SOFTMAX = {"y": np.array([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]], np.float32)}
LOGITS = {"y": np.array([[-2.0, 3.0, 5.0], [1.0, 8.0, 1.0]], np.float32)}


def test_rows_that_sum_to_one_are_classes() -> None:
    assert detect(graph((1, 9), (1, 3)), SOFTMAX, False, None) == "classification"


def test_scores_are_classes_only_when_labels_say_so() -> None:
    assert detect(graph((1, 9), (1, 3)), LOGITS, False, None) == "other"
    assert detect(graph((1, 9), (1, 3)), LOGITS, True, None) == "classification"


def test_an_output_shaped_as_the_input_is_a_reconstruction() -> None:
    assert detect(graph((1, 3), (1, 3)), LOGITS, True, None) == "reconstruction"


def test_the_users_word_counts_but_is_checked() -> None:
    assert detect(graph((1, 9), (1, 3)), SOFTMAX, False, "detection") == "detection"
    with pytest.raises(DataInvalid, match=r"shape \(1, 4, 3\)"):
        detect(graph((1, 9), (1, 4, 3)), {"y": np.zeros((2, 4, 3))}, False, "classification")


def test_class_names_are_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("cat\ndog \n\n", encoding="utf-8")
    assert read_labels(file, 2) == ("cat", "dog")
    with pytest.raises(DataInvalid, match="has 2 lines; the model has 3 classes"):
        read_labels(file, 3)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataInvalid, match="UTF-8"):
        read_labels(file, 2)
    with pytest.raises(DataInvalid, match="No such file"):
        read_labels(tmp_path / "none", 2)


def test_labels_that_are_real_numbers_make_a_regression() -> None:
    net = Net({"x": (1, 4)})
    graph = net.graph(net.node(Op.DENSE, ["x", net.weight(2, 4)], "y", activation="none"))
    answers = {graph.outputs[0].name: np.random.RandomState(0).normal(0, 1, (9, 2))}
    assert detect(graph, answers, True, None, like_values=True) == "regression"
    assert detect(graph, answers, True, None) == "classification"
    assert detect(graph, answers, True, "regression") == "regression"


def test_a_regression_has_one_output() -> None:
    net = Net({"x": (1, 4)})
    first = net.node(Op.DENSE, ["x", net.weight(2, 4)], "a", activation="none")
    second = net.node(Op.DENSE, ["x", net.weight(2, 4)], "b", activation="none")
    with pytest.raises(DataInvalid, match="the model has 2"):
        detect(net.graph(first, second), {}, True, "regression")
