"""Fold multiplications and additions of constants per channel into the layer beside them.

Behind a layer both fold always. Before one a factor folds always (padding stays zero), a term
only where nothing is padded. This is how BatchNormalization vanishes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_convert.graph import Array, Graph, Node, Op, Tensor, constant

# Axis of the weights that is the output channel.
_OUT_AXIS = {Op.CONV2D: 0, Op.DEPTHWISE_CONV2D: 3, Op.TRANSPOSE_CONV2D: 0, Op.DENSE: 0}


def apply(graph: Graph) -> Graph:
    """Fold until no layer has such a neighbour left."""
    while (folded := _fold_once(graph)) is not graph:
        graph = folded
    return graph


def _fold_once(graph: Graph) -> Graph:
    """Fold at most one neighbour into each layer."""
    producers, readers, outputs = graph.producers(), graph.consumers(), set(graph.output_tensors())
    changed: dict[str, Node] = {}
    gone: set[str] = set()
    new: list[Tensor] = []

    def alone(name: str) -> bool:
        return len(readers[name]) == 1 and name not in outputs

    for node in graph.nodes:
        affine = _affine(graph, node)
        if affine is None:
            continue
        x, scale, shift = affine
        layer = producers.get(x)
        follower = readers[node.output][0] if alone(node.output) else None
        if layer is not None and alone(x) and layer.name not in changed and _is_layer(graph, layer):
            folded = _behind(graph, layer, node, scale, shift)
            replaced = layer
        elif follower is not None and follower.name not in changed and _is_layer(graph, follower):
            folded = _ahead(graph, follower, node, x, scale, shift)
            replaced = follower
        else:
            continue
        if folded is None:
            continue
        changed[replaced.name], tensors = folded
        new += tensors
        gone.add(node.name)
    nodes = [changed.get(n.name, n) for n in graph.nodes if n.name not in gone]
    return graph.rewritten(nodes, new) if gone else graph


def _affine(graph: Graph, node: Node) -> tuple[str, Array, Array] | None:
    """(x, scale, shift) of a node that is x * scale + shift with constants per last axis, float64."""
    if node.op not in (Op.ADD, Op.SUB, Op.MUL, Op.DIV):
        return None
    sides = [(node.inputs[0], node.inputs[1])]
    if node.op in (Op.ADD, Op.MUL):
        sides.append((node.inputs[1], node.inputs[0]))
    for x, other in sides:
        data, source = graph.tensor(other).data, graph.tensor(x)
        shape = source.shape
        if data is None or not shape or source.is_constant or graph.tensor(node.output).shape != shape:
            continue
        per_channel = data.size in (1, shape[-1]) and data.size == (data.shape or (1,))[-1]
        if data.dtype != np.float32 or not per_channel:
            continue
        values = np.broadcast_to(data.ravel().astype(np.float64), (shape[-1],))
        if node.op is Op.MUL:
            return x, values, np.zeros_like(values)
        if node.op is Op.DIV:
            return (x, 1.0 / values, np.zeros_like(values)) if np.all(values != 0) else None
        return x, np.ones_like(values), values if node.op is Op.ADD else -values
    return None


def _is_layer(graph: Graph, node: Node) -> bool:
    return node.op in _OUT_AXIS and all(graph.tensor(n).is_constant for n in node.inputs[1:])


def _along(values: Array, axis: int, rank: int) -> Array:
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def _parts(output: str, weights: Array, bias: Array | None) -> list[Tensor] | None:
    """New constants of a layer, or None when float32 cannot hold them."""
    with np.errstate(over="ignore"):  # looked at below
        parts = [constant(f"{output}:weights", weights.astype(np.float32))]
        if bias is not None:
            parts.append(constant(f"{output}:bias", bias.astype(np.float32)))
    return parts if all(t.data is not None and np.isfinite(t.data).all() for t in parts) else None


def _behind(
    graph: Graph, layer: Node, node: Node, scale: Array, shift: Array
) -> tuple[Node, list[Tensor]] | None:
    """layer then scale and shift, as one layer; the activation of the node becomes the layer's."""
    if layer.attrs["activation"] != "none":
        return None
    weights = graph.constant(layer.inputs[1]).astype(np.float64)
    axis = _OUT_AXIS[layer.op]
    bias: Array | None = None
    if len(layer.inputs) > 2 or np.any(shift):
        old = graph.constant(layer.inputs[2]).astype(np.float64) if len(layer.inputs) > 2 else 0.0
        bias = old * scale + shift
    parts = _parts(node.output, weights * _along(scale, axis, weights.ndim), bias)
    if parts is None:
        return None
    attrs = {**layer.attrs, "activation": node.attrs["activation"]}
    inputs = (layer.inputs[0], *(t.name for t in parts))
    return replace(layer, inputs=inputs, outputs=node.outputs, attrs=attrs), parts


def _ahead(
    graph: Graph, layer: Node, node: Node, x: str, scale: Array, shift: Array
) -> tuple[Node, list[Tensor]] | None:
    """scale and shift then layer, as one layer."""
    if (
        node.attrs["activation"] != "none"
        or layer.inputs[0] != node.output
        or layer.op is Op.TRANSPOSE_CONV2D
    ):
        return None
    if np.any(shift) and any(layer.attrs.get("pads", (0,))):
        return None
    weights = graph.constant(layer.inputs[1]).astype(np.float64)
    factor, term = _per_weight(layer, weights, scale), _per_weight(layer, weights, shift)
    bias: Array | None = None
    if len(layer.inputs) > 2:
        bias = graph.constant(layer.inputs[2]).astype(np.float64)
    if np.any(shift):
        axes = tuple(i for i in range(weights.ndim) if i != _OUT_AXIS[layer.op])
        bias = (0.0 if bias is None else bias) + (weights * term).sum(axis=axes)
    parts = _parts(layer.output, weights * factor, bias)
    if parts is None:
        return None
    return replace(layer, inputs=(x, *(t.name for t in parts))), parts


def _per_weight(layer: Node, weights: Array, values: Array) -> Array:
    """Values of the input channels, so that they broadcast against the weights that read them."""
    if layer.op is Op.DEPTHWISE_CONV2D:
        return np.repeat(values, weights.shape[3] // len(values))
    if layer.op is Op.CONV2D and layer.attrs["groups"] > 1:
        groups = layer.attrs["groups"]
        rows = values.reshape(groups, -1)  # [group, channel in it]
        return np.repeat(rows, weights.shape[0] // groups, axis=0)[:, None, None, :]
    return values
