"""A thin depthwise layer written as a convolution that mixes nothing: exact.

A depthwise kernel works on sixteen channels at a time and multiplies each tap by itself; with eight channels
half of its work is for nothing, and for int8 it walks the pixels at the pace of its lookups. The kernel of a
full convolution multiplies eight channels of a tap into sixteen results at once: given the same taps on the
diagonal and zeros beside them, it computes the same sums, and for few channels in less time (measured on 48 x
48 x 8 in int8: 12 us depthwise, 6 us as a convolution over folded columns, see `stem_fold.py`).

The results are the same up to the order of a sum; whether it is faster, `time_model.py` says.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_contracts.profile import Precision
from edge_convert import time_model
from edge_convert.graph import Array, Graph, Node, Op, constant
from edge_convert.pruning import stem
from edge_convert.pruning.stem import LEAST_SAVING
from edge_convert.validity import validate

# With more channels, what is added to the work is more than what is saved, on any kernel.
_MOST_CHANNELS = 16


def thin(graph: Graph) -> tuple[Node, ...]:
    """Depthwise layers of few channels, one result for each."""
    return tuple(
        node
        for node in graph.nodes
        if node.op is Op.DEPTHWISE_CONV2D
        and graph.tensor(node.inputs[0]).shape[3] == graph.tensor(node.output).shape[3] <= _MOST_CHANNELS
        and tuple(node.attrs["dilations"]) == (1, 1)
        and all(graph.tensor(name).is_constant for name in node.inputs[1:])
    )


def widen_thin(graph: Graph, precision: Precision, most_parameters: int) -> Graph:
    """The graph with its thin depthwise layers as convolutions, where that is faster.

    Args:
        precision: That it will run in.
        most_parameters: Of the whole graph, after it.

    Returns:
        The same graph when there is nothing to gain.
    """
    least = LEAST_SAVING * time_model.predicted_us(graph, precision)
    for node in thin(graph):
        now = time_model.node_us(node, time_model.shapes_of(graph), precision)
        wider = as_convolution(graph, node)
        made = next(n for n in wider.nodes if n.name == node.name)
        own = sum(wider.tensor(name).size for name in made.inputs[1:])
        room = most_parameters - wider.parameters() + own
        fold, time = stem.best(made, time_model.shapes_of(wider), precision, room)
        if now - time < least or (fold is None and own > room):
            continue
        graph = wider if fold is None else stem.apply(wider, made, fold)
    return graph


def as_convolution(graph: Graph, node: Node) -> Graph:
    """The graph with one depthwise layer as a convolution of the same name."""
    weights = constant(f"{node.name}/diagonal weights", _diagonal(graph.constant(node.inputs[1])))
    made = replace(
        node,
        op=Op.CONV2D,
        inputs=(node.inputs[0], weights.name, *node.inputs[2:]),
        attrs=dict(node.attrs) | {"groups": 1},
    )
    return validate(graph.rewritten([made if old is node else old for old in graph.nodes], [weights]))


def _diagonal(weights: Array) -> Array:
    """[1, high, wide, channels] as [channels, high, wide, channels]."""
    _, high, wide, channels = weights.shape
    full = np.zeros((channels, high, wide, channels), weights.dtype)
    for channel in range(channels):
        full[channel, :, :, channel] = weights[0, :, :, channel]
    return full
