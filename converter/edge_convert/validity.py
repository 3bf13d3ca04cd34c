"""What every pass and every target relies on in a graph, checked."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from edge_convert.errors import GraphInvalid
from edge_convert.graph import ACTIVATIONS, DTYPES, SIGNATURES, Graph, Node, Tensor


def validate(graph: Graph) -> Graph:
    """Check it, and give the graph back.

    Raises:
        GraphInvalid: A name twice, a tensor read before it is computed, an operator with the
            wrong number of inputs or a missing attribute, a shape that is not positive, or a
            constant that is not finite.
    """
    for name, tensor in graph.tensors.items():
        if name != tensor.name:
            raise GraphInvalid(f"tensor {tensor.name!r} is filed under {name!r}")
        _check_tensor(tensor)
    ready = {p.tensor for p in graph.inputs} | {n for n, t in graph.tensors.items() if t.is_constant}
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphInvalid(f"two nodes are named {node.name!r}")
        names.add(node.name)
        where = f"node {node.name!r}" + (f" ({node.source})" if node.source else "")
        _check_operator(node, where)
        _check_order(node, where, graph.tensors, ready)
        ready.add(node.output)
    for port in graph.outputs:
        if port.tensor not in ready:
            raise GraphInvalid(f"output {port.name!r} is never computed")
    return graph


def _check_tensor(tensor: Tensor) -> None:
    """By itself: its shape, its dtype, and what it holds."""
    name = tensor.name
    if any(d <= 0 for d in tensor.shape):
        raise GraphInvalid(f"tensor {name!r} has shape {tensor.shape}; every dimension must be positive")
    if tensor.dtype not in DTYPES:
        raise GraphInvalid(f"tensor {name!r} has dtype {tensor.dtype}; expected one of {', '.join(DTYPES)}")
    if tensor.data is None:
        return
    if tensor.data.shape != tensor.shape or str(tensor.data.dtype) != tensor.dtype:
        raise GraphInvalid(f"constant {name!r} does not have its stated shape and dtype")
    if tensor.dtype == "float32" and not np.isfinite(tensor.data).all():
        bad = int(np.size(tensor.data) - np.isfinite(tensor.data).sum())
        raise GraphInvalid(f"constant {name!r} has {bad} elements that are NaN or infinite")


def _check_operator(node: Node, where: str) -> None:
    """Against the signature of its operator."""
    signature = SIGNATURES[node.op]
    fewest, most = signature.inputs
    if len(node.inputs) < fewest or (most is not None and len(node.inputs) > most):
        raise GraphInvalid(f"{where} has {len(node.inputs)} inputs; {node.op} takes {fewest} to {most}")
    missing = [a for a in signature.attrs if a not in node.attrs]
    if missing:
        raise GraphInvalid(f"{where} lacks the attribute {missing[0]!r} of {node.op}")
    if node.attrs.get("activation", "none") not in ACTIVATIONS:
        raise GraphInvalid(f"{where} has an unknown activation {node.attrs['activation']!r}")
    if len(node.outputs) != 1:
        raise GraphInvalid(f"{where} has {len(node.outputs)} outputs; expected 1")


def _check_order(node: Node, where: str, known: Collection[str], ready: Collection[str]) -> None:
    """That it reads what is there by now, and writes what is not.

    Args:
        known: Names of the graph's tensors.
        ready: Those that have a value before this node runs.
    """
    for name in node.inputs:
        if name not in known:
            raise GraphInvalid(f"{where} reads {name!r}, which is not in the graph")
        if name not in ready:
            raise GraphInvalid(f"{where} reads {name!r} before it is computed")
    if node.output not in known:
        raise GraphInvalid(f"{where} writes {node.output!r}, which is not in the graph")
    if node.output in ready:
        raise GraphInvalid(f"{where} writes {node.output!r} a second time")
