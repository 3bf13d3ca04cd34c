"""Channels cut out of a graph: weights, constants and shapes become smaller, nothing else changes.

Which channels, and what is done about what they carried, is `prune.py`'s matter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Array, Graph, Node, Op, Tensor, constant
from edge_convert.pruning.channels import Channels, mixes
from edge_convert.shapes import result
from edge_convert.validity import validate

# The axis of weights along which the results' channels lie, and the one of the source's.
_RESULT_AXIS = {Op.CONV2D: 0, Op.TRANSPOSE_CONV2D: 0, Op.DENSE: 0, Op.DEPTHWISE_CONV2D: 3}
_SOURCE_AXIS = {Op.CONV2D: 3, Op.TRANSPOSE_CONV2D: 3, Op.DENSE: 1}


def kept_positions(channels: Channels, removed: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    """By computed tensor: which elements of its last axis stay.

    Args:
        removed: By channel number.
    """
    return {name: np.flatnonzero(~removed[ids]) for name, ids in channels.ids.items()}


def shrink(graph: Graph, kept: dict[str, NDArray[np.int64]]) -> Graph:
    """The graph with only these positions of every tensor's last axis."""
    tensors: dict[str, Tensor] = {port.tensor: graph.tensor(port.tensor) for port in graph.inputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        operands = [
            _constant(graph, node, position, kept) if graph.tensor(name).is_constant else tensors[name]
            for position, name in enumerate(node.inputs)
        ]
        made, output = result(
            node.op, node.name, operands, _attrs(graph, node, kept), node.output, node.source
        )
        tensors |= {t.name: t for t in (*operands, output)}
        nodes.append(made)
    constants = [t for t in graph.tensors.values() if t.is_constant]
    return validate(graph.rewritten(nodes, [*constants, *tensors.values()]))


def _constant(graph: Graph, node: Node, position: int, kept: dict[str, NDArray[np.int64]]) -> Tensor:
    """A constant as the smaller node needs it; under a name of the node's own if its elements change."""
    tensor = graph.tensor(node.inputs[position])
    data = graph.constant(tensor.name)
    small = data
    if node.op in _RESULT_AXIS and position == 1:
        small = small.take(kept[node.output], _RESULT_AXIS[node.op])
        if mixes(node):
            small = small.take(kept[node.inputs[0]], _SOURCE_AXIS[node.op])
    elif data.ndim and 1 < data.shape[-1] == graph.tensor(node.output).shape[-1] and node.op is not Op.CONCAT:
        small = small.take(kept[node.output], data.ndim - 1)
    return (
        tensor
        if small.shape == data.shape
        else constant(_new_name(graph, f"{node.name}/{tensor.name}"), small)
    )


def _attrs(graph: Graph, node: Node, kept: dict[str, NDArray[np.int64]]) -> dict[str, object]:
    """The attributes, those that spell a number of channels with the new one."""
    attrs = dict(node.attrs)
    count = len(kept[node.output])
    for key in ("shape", "output_shape", "end"):
        if key in attrs and count != graph.tensor(node.output).shape[-1]:
            attrs[key] = (*attrs[key][:-1], count)
    return attrs


def with_weights(graph: Graph, changed: dict[str, tuple[Array, Array]]) -> Graph:
    """The graph with other weights and biases.

    Args:
        changed: By node name: weights, and the bias of shape (channels,).
    """
    tensors: list[Tensor] = []
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in changed:
            weights, bias = changed[node.name]
            made = (
                constant(_new_name(graph, f"{node.name}/weights"), weights.astype(np.float32)),
                constant(_new_name(graph, f"{node.name}/bias"), bias.astype(np.float32)),
            )
            tensors += made
            node = replace(node, inputs=(node.inputs[0], made[0].name, made[1].name))
        nodes.append(node)
    return validate(graph.rewritten(nodes, tensors))


def _new_name(graph: Graph, wanted: str) -> str:
    """A name that no tensor bears yet."""
    while wanted in graph.tensors:
        wanted += "'"
    return wanted
