"""Every rule of a graph is broken once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_convert.errors import GraphInvalid
from edge_convert.graph import Graph, Node, Op, Port, Tensor, constant
from edge_convert.validity import validate

X, Y, Z = (Tensor(name, (1, 2), "float32") for name in "xyz")
BIAS = constant("b", np.ones((1, 2), np.float32))
FIRST, SECOND = (
    Node(Op.ADD, "first", ("x", "b"), ("y",), {"activation": "none"}),
    Node(Op.ADD, "second", ("y", "b"), ("z",), {"activation": "relu"}, source="line 2"),
)
GRAPH = Graph(
    "two sums",
    (Port("x", "x", (1, 2)),),
    (Port("z", "z", (1, 2)),),
    (FIRST, SECOND),
    {tensor.name: tensor for tensor in (X, Y, Z, BIAS)},
)


def with_tensor(tensor: Tensor, name: str = "") -> Graph:
    return replace(GRAPH, tensors={**GRAPH.tensors, name or tensor.name: tensor})


def with_second(**change: object) -> Graph:
    return replace(GRAPH, nodes=(FIRST, replace(SECOND, **change)))  # type: ignore[arg-type]


def test_what_keeps_every_rule_comes_back_as_it_is() -> None:
    assert validate(GRAPH) is GRAPH


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: with_tensor(X, "q"), "tensor 'x' is filed under 'q'"),
        (lambda: with_tensor(replace(Y, shape=(1, 0))), r"'y' has shape \(1, 0\); every dimension"),
        (lambda: with_tensor(replace(Y, dtype="float64")), "'y' has dtype float64; expected one of float32"),
        (lambda: with_tensor(replace(BIAS, shape=(2, 1))), "'b' does not have its stated shape"),
        (lambda: with_tensor(replace(BIAS, dtype="int32")), "'b' does not have its stated shape and dtype"),
        (
            lambda: with_tensor(constant("b", np.array([[1, np.inf]], np.float32))),
            "'b' has 1 elements that are NaN or",
        ),
        (lambda: with_second(name="first"), "two nodes are named 'first'"),
        (lambda: with_second(inputs=("y",)), r"node 'second' \(line 2\) has 1 inputs; add takes 2 to 2"),
        (lambda: with_second(inputs=("y", "b", "b")), "has 3 inputs; add takes 2 to 2"),
        (lambda: with_second(attrs={}), "lacks the attribute 'activation' of add"),
        (lambda: with_second(attrs={"activation": "gelu"}), "has an unknown activation 'gelu'"),
        (lambda: with_second(outputs=("z", "y")), "has 2 outputs; expected 1"),
        (lambda: with_second(inputs=("y", "q")), "reads 'q', which is not in the graph"),
        (lambda: replace(GRAPH, nodes=(SECOND, FIRST)), "reads 'y' before it is computed"),
        (lambda: with_second(outputs=("q",)), "writes 'q', which is not in the graph"),
        (lambda: with_second(outputs=("y",)), "writes 'y' a second time"),
        (lambda: with_second(outputs=("b",)), "writes 'b' a second time"),
        (lambda: replace(GRAPH, nodes=(FIRST,)), "output 'z' is never computed"),
    ],
)
def test_each_rule_refuses_what_breaks_it(broken: Callable[[], Graph], message: str) -> None:
    with pytest.raises(GraphInvalid, match=message):
        validate(broken())
