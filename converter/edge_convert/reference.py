"""The float graph run in plain numpy: what a graph means, whatever a target makes of it.

Constant folding evaluates single nodes here, calibration reads statistics of any tensor from it,
and tests hold it against other runtimes. What each operator computes is `reference_kernels.py`.

**More samples than one.** The graph says batch 1; feeds may carry n samples on the leading axis.
If every computed tensor keeps the samples on its leading axis (`batches`), all n run at once and
a leading 1 in a shape attribute reads as n. Otherwise (a transpose of axis 0, a concat along it,
operands of different rank ...) the samples run one by one and results are joined along axis 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edge_convert.errors import DataInvalid
from edge_convert.graph import Array, Graph, Node, Op
from edge_convert.reference_kernels import KERNELS as KERNELS
from edge_convert.shapes import ELEMENTWISE_BINARY, REDUCTIONS

# Attributes that spell a whole shape; their leading 1 reads as the number of samples.
_SHAPE_ATTRS = ("shape", "output_shape")


def apply(node: Node, inputs: Sequence[Array], samples: int = 1) -> Array:
    """Run one node; NaN and infinity come out where arithmetic leads there, without a warning.

    Args:
        inputs: In the node's order.
        samples: Number of samples on the leading axis; above 1 only in a graph that `batches`.
    """
    attrs = node.attrs
    if samples > 1:
        attrs = dict(attrs)
        for key in _SHAPE_ATTRS:
            if key in attrs:
                attrs[key] = (samples, *attrs[key][1:])
        if node.op is Op.SLICE:
            attrs["end"] = (samples, *attrs["end"][1:])
    with np.errstate(all="ignore"):
        return KERNELS[node.op](inputs, attrs)


def batches(graph: Graph) -> bool:
    """Whether n samples may run at once: every computed tensor has them on its leading axis of 1."""
    return all(p.shape[:1] == (1,) and (p.perm is None or p.perm[0] == 0) for p in graph.inputs) and all(
        _keeps_samples(graph, node) for node in graph.nodes
    )


def _keeps_samples(graph: Graph, node: Node) -> bool:
    computed = [graph.tensor(n) for n in node.inputs if not graph.tensor(n).is_constant]
    constants = [graph.tensor(n) for n in node.inputs if graph.tensor(n).is_constant]
    out = graph.tensor(node.output)
    if not computed or out.shape[:1] != (1,) or any(t.shape[:1] != (1,) for t in computed):
        return False
    attrs, rank = node.attrs, len(out.shape)
    if node.op in ELEMENTWISE_BINARY or node.op is Op.SELECT:
        return all(len(t.shape) == rank for t in computed) and all(len(t.shape) <= rank for t in constants)
    if node.op is Op.MATMUL:
        # a matrix without leading axes would mix samples
        return all(len(t.shape) == rank for t in computed) and (
            rank >= 3
            or (len(computed) == 1 and (not attrs["transpose_a"] and node.inputs[0] == computed[0].name))
        )
    if node.op is Op.TRANSPOSE:
        return bool(attrs["perm"][0] == 0)
    if node.op is Op.CONCAT:
        return bool(attrs["axis"] != 0) and not constants
    if node.op is Op.GATHER:
        if not graph.tensor(node.inputs[0]).is_constant:
            return bool(attrs["axis"] != 0) and len(computed) == 1
        return bool(attrs["axis"] == 0)
    if node.op in (Op.PAD, Op.MIRROR_PAD):
        return tuple(attrs["paddings"][0]) == (0, 0)
    if node.op is Op.TILE:
        return bool(attrs["multiples"][0] == 1)
    if node.op in REDUCTIONS:
        return 0 not in attrs["axes"]
    if node.op is Op.ARG_MAX:
        return bool(attrs["axis"] != 0)
    if node.op in (Op.SOFTMAX, Op.LOG_SOFTMAX, Op.L2_NORMALIZE, Op.DENSE):
        return len(computed[0].shape) > 1
    return True


def evaluate(
    graph: Graph, feeds: Mapping[str, Array], keep: Collection[str] | None = None
) -> dict[str, Array]:
    """Compute tensors of the graph.

    Args:
        feeds: By input port name, in the SOURCE's layout, n samples on the leading axis.
        keep: Tensor names wanted; anything else is let go as soon as nothing needs it. None
            keeps every computed tensor (and what was fed), which may take much memory.

    Returns:
        By tensor name, in the graph's own layout; constants are not in it.

    Raises:
        DataInvalid: A feed is missing, unknown, or of the wrong shape.
    """
    bound = _bind(graph, feeds)
    samples = next((len(a) for a in bound.values() if a.ndim), 1) if batches(graph) else 1
    if samples > 1 or all(bound[p.tensor].shape == graph.tensor(p.tensor).shape for p in graph.inputs):
        return _run_once(graph, bound, keep, samples)
    count = max(len(a) for a in bound.values() if a.ndim)
    runs = [_run_once(graph, {n: a[i : i + 1] for n, a in bound.items()}, keep, 1) for i in range(count)]
    return {name: np.concatenate([np.atleast_1d(r[name]) for r in runs]) for name in runs[0]}


def run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run the model: feeds by input port name, results by output port name, both as in the source."""
    values = evaluate(graph, feeds, keep=set(graph.output_tensors()))
    results: dict[str, Array] = {}
    for port in graph.outputs:
        tensor = graph.tensor(port.tensor)
        value = values[port.tensor] if tensor.data is None else tensor.data
        results[port.name] = value if port.perm is None else np.transpose(value, port.perm)
    return results


def _bind(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [p.name for p in graph.inputs]
    unknown = sorted(set(feeds) - set(names))
    if unknown:
        raise DataInvalid(f"the model has no input {unknown[0]!r}; it has {', '.join(names)}")
    bound: dict[str, Array] = {}
    for port in graph.inputs:
        if port.name not in feeds:
            raise DataInvalid(f"input {port.name!r} is not fed; the model needs {', '.join(names)}")
        array = np.asarray(feeds[port.name])
        if array.ndim != len(port.shape) or (
            array.shape != port.shape and (array.shape[1:] != port.shape[1:] or port.shape[0] != 1)
        ):
            raise DataInvalid(f"input {port.name!r} has shape {array.shape}; expected (n, *{port.shape[1:]})")
        array = array.astype(graph.tensor(port.tensor).dtype, copy=False)
        bound[port.tensor] = array if port.perm is None else np.transpose(array, port.perm)
    counts = {len(a) for a in bound.values() if a.ndim}
    if len(counts) > 1 and all(p.shape[:1] == (1,) for p in graph.inputs):
        raise DataInvalid(f"the inputs hold different numbers of samples: {sorted(counts)}")
    return bound


def _run_once(
    graph: Graph, bound: Mapping[str, Array], keep: Collection[str] | None, samples: int
) -> dict[str, Array]:
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    values = dict(bound)
    for index, node in enumerate(graph.nodes):
        inputs = [values[n] if (t := graph.tensor(n)).data is None else t.data for n in node.inputs]
        values[node.output] = apply(node, inputs, samples)
        if keep is not None:
            for name in (*node.inputs, node.output):
                if last_use.get(name, -1) <= index and name not in keep:
                    values.pop(name, None)
    return values if keep is None else {n: a for n, a in values.items() if n in keep}
