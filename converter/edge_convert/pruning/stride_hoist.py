"""A stride moved to an earlier layer, so that the layers between work on a quarter of the pixels: lossy.

Where every layer that reads a tensor takes each second pixel of it, an earlier layer may take that step
instead; those behind keep their grid. The layers between then see a coarser picture than they were made
for: least squares teaches them the full network's values at the pixels that are left, and distillation
(`distill.py`) does the rest - without it the loss is large (measured: ResNet-8 from 75.5 % to 69.5 %, and
back to 75.1 % distilled).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edge_contracts.profile import Precision
from edge_convert import time_model
from edge_convert.graph import Graph, Node, Op, Tensor
from edge_convert.pruning.least_squares import Grid
from edge_convert.shapes import ELEMENTWISE_BINARY, ELEMENTWISE_UNARY, infer
from edge_convert.validity import validate

_STEP = 2
_PLAIN = ELEMENTWISE_UNARY | ELEMENTWISE_BINARY
_WINDOWED = (Op.CONV2D, Op.DEPTHWISE_CONV2D)


@dataclass(frozen=True, eq=False)
class Hoist:
    """A graph with a stride moved.

    Args:
        graph: The same nodes by name; weights are not changed.
        first: The layer that takes the stride now.
        freed: The layers that took it.
        grids: By tensor between them: which of the pixels that it had are left.
        predicted_us: Of the graph.
    """

    graph: Graph
    first: str
    freed: tuple[str, ...]
    grids: dict[str, Grid]
    predicted_us: float

    @property
    def summary(self) -> str:
        """For the record of moves."""
        return f"stride moved from {', '.join(self.freed)} to {self.first}"


def best(graph: Graph, precision: Precision) -> Hoist | None:
    """The hoist that saves most predicted time; None when no stride can be moved or none saves any."""
    found = min(hoists(graph, precision), key=lambda h: h.predicted_us, default=None)
    return found if found and found.predicted_us < time_model.predicted_us(graph, precision) else None


def hoists(graph: Graph, precision: Precision) -> Iterator[Hoist]:
    """Every stride of two that one layer without a stride, through which all goes, could take instead."""
    for first in graph.nodes:
        if first.op not in _WINDOWED or tuple(first.attrs["strides"]) != (1, 1):
            continue
        reached = _reached(graph, first)
        if reached is not None:
            made = _moved(graph, first, *reached)
            if made is not None:
                yield replace(made, predicted_us=time_model.predicted_us(made.graph, precision))


def _reached(graph: Graph, first: Node) -> tuple[list[Node], list[Node]] | None:
    """The layers between, and those with the stride that end the way; None when some path goes elsewhere."""
    inside = {first.output}
    between: list[Node] = []
    ends: list[Node] = []
    outputs = set(graph.output_tensors())
    for node in graph.nodes:
        reads = [n for n in node.inputs if not graph.tensor(n).is_constant]
        if inside.isdisjoint(reads):
            continue
        strided = node.op in _WINDOWED and tuple(node.attrs["strides"]) == (_STEP, _STEP)
        if strided and _keeps_size(graph, node):
            ends.append(node)
        elif _stays_on_grid(graph, node) and inside.issuperset(reads):
            between.append(node)
            inside.add(node.output)
        else:
            return None
    return (between, ends) if ends and not inside & outputs else None


def _stays_on_grid(graph: Graph, node: Node) -> bool:
    """Whether the node gives a value for each pixel from those around it."""
    source, result = graph.tensor(node.inputs[0]).shape, graph.tensor(node.output).shape
    if node.op in _WINDOWED:
        return tuple(node.attrs["strides"]) == (1, 1) and source[1:3] == result[1:3]
    constants = [graph.tensor(n).shape for n in node.inputs if graph.tensor(n).is_constant]
    return (
        node.op in _PLAIN
        and len(result) == 4
        and source[1:3] == result[1:3]
        and all(len(shape) < 3 or shape[-3:-1] == (1, 1) for shape in constants)
    )


def _keeps_size(graph: Graph, node: Node) -> bool:
    """Whether it halves exactly, and its kernel can stand on every pixel of the coarser grid instead."""
    source, result = graph.tensor(node.inputs[0]).shape, graph.tensor(node.output).shape
    kernel = graph.tensor(node.inputs[1]).shape[1:3]
    return (
        all(s == _STEP * r for s, r in zip(source[1:3], result[1:3], strict=True))
        and all(size % 2 == 1 for size in kernel)
        and tuple(node.attrs["dilations"]) == (1, 1)
    )


def _moved(graph: Graph, first: Node, between: list[Node], ends: list[Node]) -> Hoist | None:
    kernel = graph.tensor(first.inputs[1]).shape[1:3]
    if tuple(first.attrs["dilations"]) != (1, 1) or any(size % 2 == 0 for size in kernel):
        return None
    if graph.tensor(first.inputs[0]).shape[1:3] != graph.tensor(first.output).shape[1:3]:
        return None
    # where the middle of the widest ending kernel stood: the pixels that the ends looked at are left
    widest = max(ends, key=lambda node: (graph.tensor(node.inputs[1]).shape[1], node.name))
    # - but for a first kernel without a middle beside its edge, which cannot stand a pixel further
    middle = _middle(graph, widest)
    phase = min(middle[0], (kernel[0] - 1) // 2), min(middle[1], (kernel[1] - 1) // 2)
    if not all(0 <= p < _STEP for p in phase):
        return None
    changed = {first.name: _with_stride(graph, first, _STEP, phase)}
    changed |= {node.name: _with_stride(graph, node, 1, (0, 0)) for node in ends}
    tensors = dict(graph.tensors)
    nodes = []
    for node in graph.nodes:
        node = changed.get(node.name, node)
        shape, dtype = infer(node.op, [tensors[n] for n in node.inputs], node.attrs)
        tensors[node.output] = Tensor(node.output, shape, dtype)
        nodes.append(node)
    small = validate(graph.rewritten(nodes, [t for t in tensors.values() if not t.is_constant]))
    names = [first.output, *(node.output for node in between)]
    grids = {name: Grid(_STEP, *phase) for name in names}
    same = all(
        tensors[n].shape == graph.tensor(n).shape
        or (
            n in grids
            and np.array_equal(tensors[n].shape[1:3], np.array(graph.tensor(n).shape[1:3]) // _STEP)
        )
        for n in tensors
    )
    return Hoist(small, first.name, tuple(n.name for n in ends), grids, 0.0) if same else None


def _middle(graph: Graph, node: Node) -> tuple[int, int]:
    """Row and column of the source under the middle of the kernel at its first place."""
    kh, kw = graph.tensor(node.inputs[1]).shape[1:3]
    top, _, left, _ = node.attrs["pads"]
    return (kh - 1) // 2 - top, (kw - 1) // 2 - left


def _with_stride(graph: Graph, node: Node, stride: int, phase: tuple[int, int]) -> Node:
    """The node with another stride, its kernel's middle standing first on the pixel of the phase."""
    kernel = graph.tensor(node.inputs[1]).shape[1:3]
    pads: list[int] = []
    for size, first in zip(kernel, phase, strict=True):
        half = (size - 1) // 2
        # as many places as the source has pixels, by the stride
        pads += [half - first, max(0, half - (stride - 1 - first))]
    return replace(node, attrs=dict(node.attrs) | {"strides": (stride, stride), "pads": tuple(pads)})
