"""Models whose every answer can be worked out by hand: one dense layer, run by LiteRT. No tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from small_nets import Net

from edge_convert.binding import Model
from edge_convert.candidates import float_form
from edge_convert.graph import Graph, Op


def linear(weights: Any) -> Graph:
    """Answers y = weights @ x to a vector x; `weights` has shape (outputs, inputs)."""
    rows = np.asarray(weights, np.float32)
    net = Net({"x": (1, rows.shape[1])})
    return net.graph(net.node(Op.DENSE, ["x", net.constant(rows)], "y", activation="none"))


def linear_picture(weights: Any) -> Graph:
    """Answers y[k] = sum(weights[k] * picture); `weights` has shape (outputs, rows, columns, channels)."""
    planes = np.asarray(weights, np.float32)
    net = Net({"picture": (1, *planes.shape[1:])})
    flat = net.node(Op.RESHAPE, ["picture"], "flat", shape=(1, planes[0].size))
    made = net.graph(
        net.node(Op.DENSE, [flat, net.constant(planes.reshape(len(planes), -1))], "y", activation="none")
    )
    return replace(made, inputs=tuple(replace(port, layout="NHWC") for port in made.inputs))


def opened(graph: Graph) -> Model:
    """The graph as a float32 file in LiteRT."""
    return float_form(graph, "tflite").model
