"""The graph in PyTorch answers as the graph does, and says what it cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import Net, picture_net, pictures

from edge_convert import reference
from edge_convert.graph import Graph, Op

torch = pytest.importorskip("torch")

from edge_convert.pruning import torch_graph  # noqa: E402
from edge_convert.pruning.torch_graph import TorchGraph, refused  # noqa: E402


def of_everything() -> Graph:
    """A graph in which every operator that has a gradient here occurs, paddings uneven."""
    net = Net({"x": (1, 12, 12, 3)}, seed=4)
    y = net.conv("x", 8, 3, "conv", strides=(2, 2), pads=(0, 1, 0, 1))
    y = net.conv(y, 8, 3, "dilated", dilations=(2, 2), pads=(2, 2, 2, 2), activation="relu6")
    y = net.depthwise(y)
    slopes = net.constant(np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 1, 8))
    one = net.constant(np.full((1, 1, 1, 8), 0.7, np.float32))
    for op in (Op.RELU6, Op.SIGMOID, Op.TANH, Op.HARD_SWISH):
        y = net.node(op, [y])
    y = net.node(Op.LEAKY_RELU, [y], alpha=0.1)
    y = net.node(Op.ELU, [y], alpha=0.5)
    y = net.node(Op.GELU, [y], approximate=False)
    y = net.node(Op.GELU, [y], approximate=True)
    y = net.node(Op.MUL, [net.node(Op.SUB, [y, one], activation="none"), slopes], activation="none")
    y = net.node(Op.PRELU, [y, slopes])
    y = net.node(Op.DIV, [net.node(Op.ADD, [y, y], activation="relu_n1_to_1"), one], activation="none")
    y = net.node(Op.MINIMUM, [net.node(Op.MAXIMUM, [y, slopes]), one])
    window: dict[str, Any] = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 0, 0, 1)}
    a = net.node(Op.MAX_POOL2D, [net.node(Op.RELU, [y])], **window)
    b = net.node(Op.AVERAGE_POOL2D, [y], count_include_pad=False, **window)
    c = net.node(Op.AVERAGE_POOL2D, [y], count_include_pad=True, **window)
    y = net.node(Op.CONCAT, [a, b, c], axis=3)
    y = net.node(Op.PAD, [y], paddings=((0, 0), (1, 0), (0, 2), (0, 0)), value=0.25)
    y = net.node(Op.SLICE, [y], begin=(0, 0, 1, 0), end=(1, 4, 5, 24), strides=(1, 1, 2, 1))
    y = net.node(Op.TRANSPOSE, [y], perm=(0, 2, 1, 3))
    z = net.node(Op.SUM, [y], axes=(1,), keepdims=False)
    y = net.node(Op.MEAN, [z], axes=(1,), keepdims=True)
    y = net.node(Op.RESHAPE, [y], shape=(1, 24))
    y = net.node(Op.DENSE, [y, net.weight(10, 24, gain=3.0)], activation="none")
    return net.graph(net.node(Op.SOFTMAX, [y], beta=2.0), net.node(Op.LOG_SOFTMAX, [y]))


def test_every_operator_computes_what_the_reference_does() -> None:
    graph, x = of_everything(), pictures(5)
    assert {node.op for node in graph.nodes} == set(torch_graph.KERNELS)
    exact = reference.evaluate(graph, {"x": x})
    found = TorchGraph(graph)({"x": torch.from_numpy(x)})
    for name, values in exact.items():
        np.testing.assert_allclose(found[name].numpy(), values, atol=2e-5, err_msg=name)


def test_weights_come_back_as_they_went_in() -> None:
    graph = picture_net()
    taken = TorchGraph(graph).weights()
    assert set(taken) == {"first", "spatial", "pointwise", "branch", "logits"}
    for node in graph.nodes:
        if node.name in taken:
            np.testing.assert_array_equal(taken[node.name][0], graph.constant(node.inputs[1]))
    assert not taken["logits"][1].any()  # it has no bias


def test_what_has_no_gradient_here_is_refused_by_name() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    assert refused(net.graph(net.node(Op.FLOOR, ["x"], "steps"))) == "floor ('steps') has no gradient here"
    net = Net({"x": (3, 4)})
    assert "side by side" in refused(net.graph(net.node(Op.RELU, ["x"])))
    assert refused(picture_net()) == ""
