"""The quantized network in float arithmetic: every tensor rounded to its grid where it is computed.

Close to what integer kernels give (within a code or so, from their fixed-point rescaling), and open to
look inside: bias correction compares means in here, `score.py` asks which layer costs most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edge_convert import reference
from edge_convert.emitters.tflite_rules import WEIGHT_AXIS
from edge_convert.graph import Array, Graph, Node, Op
from edge_convert.quantizing.quantization import (
    Quantization,
    QuantParams,
    dequantize,
    quantize,
    with_constants,
)

Values = dict[str, Array]

_ACTIVATION_OPS = {"relu": Op.RELU, "relu6": Op.RELU6, "relu_n1_to_1": Op.RELU_N1_TO_1}


def rounded(values: Array, params: QuantParams) -> Array:
    """Values moved to the nearest point of the grid, saturated at its ends, float32.

    As `dequantize(quantize(values))` does, without the integers in between.
    """
    info = np.iinfo(params.dtype)
    shape = [1] * values.ndim
    if params.axis is not None:
        shape[params.axis] = -1
    scale = params.scale.astype(np.float32).reshape(shape)
    zero = params.zero_point.astype(np.float32).reshape(shape)
    codes = np.asarray(values / scale)  # an array of its own, for all that follows
    np.rint(codes, out=codes)
    np.clip(codes, info.min - zero, info.max - zero, out=codes)
    codes *= scale
    return np.asarray(codes, np.float32)


def bias_name(node: Node) -> str:
    """Where `Quantization.codes` has the bias of a convolution or dense node, even of one without."""
    return node.inputs[2] if len(node.inputs) == 3 else f"{node.name}/bias"


def bias_params(quantization: Quantization, node: Node) -> QuantParams:
    """The int32 grid that integer kernels assume: input scale times weight scale, zero point 0."""
    weights = quantization.params[node.inputs[1]]
    scale = (weights.scale * quantization.params[node.inputs[0]].scale).astype(np.float32)
    axis = None if weights.axis is None else 0
    return QuantParams(scale, np.zeros(scale.shape, np.int32), "int32", axis)


def multiplies_codes(quantization: Quantization, node: Node) -> bool:
    """Whether the node multiplies int8 activations by int8 weights."""
    return (
        node.op in WEIGHT_AXIS
        and node.name not in quantization.float_nodes
        and all(name in quantization.params for name in node.inputs[:2])
    )


def constants_of(graph: Graph, quantization: Quantization, node: Node) -> Values:
    """The constants that the node reads, as its integer form has them: on their grids, in real units.

    The bias of a node that `multiplies_codes` is there under `bias_name`, also if the node has none.
    """
    known = {name: data for name in node.inputs if (data := graph.tensor(name).data) is not None}
    if node.name in quantization.float_nodes:
        return known
    result: Values = {}
    for name, data in known.items():
        params = quantization.params.get(name)
        if params is None or data.dtype != np.float32:
            result[name] = data
        elif name in quantization.codes:
            result[name] = dequantize(quantization.codes[name], params)
        else:
            result[name] = rounded(data, params)
    if multiplies_codes(quantization, node):
        name, params = bias_name(node), bias_params(quantization, node)
        if name in quantization.codes:
            result[name] = dequantize(quantization.codes[name], params)
        elif name in known:
            result[name] = dequantize(quantize(known[name], params), params)
    return result


def without_activation(node: Node) -> Node:
    """The node up to its fused activation."""
    return replace(node, attrs=dict(node.attrs) | {"activation": "none"})


def activation(node: Node) -> Callable[[Array], Array]:
    """The node's fused activation, as a function."""
    op = _ACTIVATION_OPS.get(node.attrs.get("activation", "none"))
    return (lambda values: values) if op is None else (lambda values: reference.KERNELS[op]([values], {}))


def operands(node: Node, values: Values, constants: Values) -> list[Array]:
    """What the node reads, in its order; a bias that only the quantization knows comes last."""
    names = list(node.inputs)
    if bias_name(node) in constants and bias_name(node) not in names:
        names.append(bias_name(node))
    return [constants[name] if name in constants else values[name] for name in names]


@dataclass(frozen=True)
class Run:
    """Samples that go through the graph together.

    Args:
        values: The fed tensors, in the graph's layout.
    """

    samples: int
    values: Values


def runs(graph: Graph, feeds: Mapping[str, Array], together: int | None = None) -> list[Run]:
    """All samples in one run where the graph allows it, else a run for each.

    Args:
        feeds: By input port name, in the source's layout, n samples on the leading axis; already checked.
        together: The most samples of one run.
    """
    bound: Values = {}
    for port in graph.inputs:
        array = np.asarray(feeds[port.name]).astype(graph.tensor(port.tensor).dtype, copy=False)
        bound[port.tensor] = array if port.perm is None else np.transpose(array, port.perm)
    count = max(len(array) for array in bound.values())
    step = (together or count) if reference.batches(graph) else 1
    return [
        Run(min(step, count - i), {name: array[i : i + step] for name, array in bound.items()})
        for i in range(0, count, step)
    ]


def last_uses(graph: Graph) -> dict[str, list[str]]:
    """By node name: the computed tensors that nobody reads after it and that do not leave the graph."""
    last = {name: node.name for node in graph.nodes for name in (*node.inputs, *node.outputs)}
    kept = set(graph.output_tensors())
    ends: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    for name, node_name in last.items():
        if name not in kept and not graph.tensor(name).is_constant:
            ends[node_name].append(name)
    return ends


def evaluate(
    graph: Graph, quantization: Quantization, feeds: Mapping[str, Array], keep: Collection[str]
) -> Values:
    """Compute tensors as the quantized network has them.

    Args:
        feeds: By input port name, in the source's layout; already checked.
        keep: Names of the computed tensors wanted.

    Returns:
        Real values by tensor name, in the graph's layout.
    """
    graph = with_constants(graph, quantization)
    results: list[Values] = []
    ends = last_uses(graph)
    for run in runs(graph, feeds):
        values = {name: on_grid(quantization, name, array) for name, array in run.values.items()}
        kept = {name: array for name, array in values.items() if name in keep}
        for node in graph.nodes:
            constants = constants_of(graph, quantization, node)
            result = reference.apply(node, operands(node, values, constants), run.samples)
            values[node.output] = on_grid(quantization, node.output, result)
            if node.output in keep:
                kept[node.output] = values[node.output]
            for name in ends[node.name]:
                del values[name]
        results.append(kept)
    return {name: np.concatenate([np.atleast_1d(r[name]) for r in results]) for name in results[0]}


def on_grid(quantization: Quantization, name: str, values: Array) -> Array:
    """The values as a reader of this tensor sees them."""
    params = quantization.params.get(name)
    return values if params is None or values.dtype != np.float32 else rounded(values, params)
