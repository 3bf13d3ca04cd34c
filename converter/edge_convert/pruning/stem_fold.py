"""The first convolution rewritten so that its kernel fills the processor's tiles: exact.

A picture has few channels, a kernel multiplies them eight or sixteen at a time, and the rest of each tile is
wasted. Columns of a row lie beside each other in memory, so that f neighbouring ones can be read as one
column of f times the channels: a reshape that moves nothing. The kernel becomes as many results of the same
layer as fall into such a column, with zeros where it does not reach; a second reshape lays them out as they
were. (Space-to-depth, as for the first layers on TPUs, but along rows only, where it costs no copy.)

The results are the same up to the order of a sum; whether it is faster, `time_model.py` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edge_contracts.profile import Precision
from edge_convert import time_model
from edge_convert.graph import Array, Graph, Node, Op, Tensor, constant
from edge_convert.shapes import Shape, result
from edge_convert.time_model import Shapes
from edge_convert.validity import validate


@dataclass(frozen=True)
class Fold:
    """One way to fold a convolution.

    Args:
        columns: Of the source that become one.
        results: Of the layer, side by side, that one such column gives.
        stride: Along folded columns.
        pads: Left and right, in folded columns.
        kernel: Shape of the weights: [out * results, high, wide, in * columns].
        source, out: Shapes of what the new layer reads and writes.
    """

    columns: int
    results: int
    stride: int
    pads: tuple[int, int]
    kernel: Shape
    source: Shape
    out: Shape

    @property
    def parameters(self) -> int:
        """Elements of weights and bias."""
        return math.prod(self.kernel) + self.kernel[0]


def foldable(graph: Graph) -> tuple[Node, ...]:
    """Convolutions that read an input of the graph."""
    inputs = {port.tensor for port in graph.inputs}
    return tuple(
        node
        for node in graph.nodes
        if node.op is Op.CONV2D
        and node.inputs[0] in inputs
        and node.attrs["groups"] == 1
        and tuple(node.attrs["dilations"]) == (1, 1)
        and all(graph.tensor(name).is_constant for name in node.inputs[1:])
    )


@dataclass(frozen=True)
class Columns:
    """One way to read neighbouring columns of the source as one.

    Args:
        columns, results, stride, pads: As of a `Fold`.
        taps: Folded columns that the kernel spans.
        source: Folded columns of the source.
    """

    columns: int
    results: int
    stride: int
    pads: tuple[int, int]
    taps: int
    source: int


def columns_of(node: Node, shapes: Shapes) -> Iterator[Columns]:
    """All ways to read several columns of a convolution's source as one."""
    wide, out_wide = shapes(node.inputs[0])[2], shapes(node.output)[2]
    kw = shapes(node.inputs[1])[2]
    stride, left = node.attrs["strides"][1], node.attrs["pads"][2]
    for columns in range(2, wide + 1):
        if wide % columns or (columns % stride and stride % columns):
            continue
        results, step = max(1, columns // stride), max(1, stride // columns)
        if out_wide % results:
            continue
        source, outs = wide // columns, out_wide // results
        # taps that would meet nothing but padding, wherever the kernel stands, are left out
        first = max(-left // columns, -(outs - 1) * step)
        last = min(((results - 1) * stride - left + kw - 1) // columns, source - 1)
        taps = last - first + 1
        right = (outs - 1) * step + taps + first - source
        if right <= -step:
            continue  # columns at the end that no result reads would give more results
        yield Columns(columns, results, step, (-first, max(0, right)), taps, source)


def folds(node: Node, shapes: Shapes) -> Iterator[Fold]:
    """All ways to fold a convolution, for any numbers of channels that the shapes say."""
    (n, high, _, read), (_, out_high, out_wide, write) = shapes(node.inputs[0]), shapes(node.output)
    kh = shapes(node.inputs[1])[1]
    for c in columns_of(node, shapes):
        yield Fold(
            c.columns,
            c.results,
            c.stride,
            c.pads,
            (write * c.results, kh, c.taps, read * c.columns),
            (n, high, c.source, read * c.columns),
            (n, out_high, out_wide // c.results, write * c.results),
        )


def apply(graph: Graph, node: Node, fold: Fold) -> Graph:
    """The graph with one convolution folded; it keeps its name, and its result is the same tensor."""
    weights = _folded(graph.constant(node.inputs[1]), node, fold)
    constants = [constant(f"{node.name}/folded weights", weights)]
    if len(node.inputs) == 3:
        bias = graph.constant(node.inputs[2]).reshape(-1)
        constants.append(constant(f"{node.name}/folded bias", np.tile(bias, fold.results)))
    source, written = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    top, bottom = node.attrs["pads"][:2]
    attrs = dict(node.attrs) | {
        "strides": (node.attrs["strides"][0], fold.stride),
        "pads": (top, bottom, *fold.pads),
    }
    reads, folded = _reshape(f"{node.name}/fold", source, fold.source, f"{node.name}/folded columns")
    name = node.output if fold.results == 1 else f"{node.name}/folded results"
    layer, wide = result(node.op, node.name, [folded, *constants], attrs, name, node.source)
    assert wide.shape == fold.out, f"{node.name}: {wide.shape} is not {fold.out}"
    made, tensors = [reads, layer], [folded, wide, *constants]
    if fold.results > 1:
        back, _ = _reshape(f"{node.name}/unfold", wide, written.shape, node.output)
        made.append(back)
        tensors.append(written)
    nodes = [m for old in graph.nodes for m in (made if old is node else [old])]
    return validate(graph.rewritten(nodes, tensors))


def _reshape(name: str, source: Tensor, shape: Shape, output: str) -> tuple[Node, Tensor]:
    return result(Op.RESHAPE, name, [source], {"shape": shape}, output)


def _folded(weights: Array, node: Node, fold: Fold) -> Array:
    """The kernel once for each result side by side, shifted by the stride; zeros where it does not reach."""
    write, _, kw, read = weights.shape
    stride, left = node.attrs["strides"][1], node.attrs["pads"][2]
    wide = np.zeros((*fold.kernel[:3], fold.columns, read), weights.dtype)
    for index in range(fold.results):
        rows = slice(index * write, (index + 1) * write)
        for tap in range(kw):
            column, place = divmod(index * stride - left + tap, fold.columns)
            if 0 <= column + fold.pads[0] < fold.kernel[2]:
                wide[rows, :, column + fold.pads[0], place] = weights[:, :, tap]
    return wide.reshape(fold.kernel)


def us(node: Node, fold: Fold, shapes: Shapes, precision: Precision) -> float:
    """Microseconds of the folded layer with its reshapes."""
    attrs = dict(node.attrs) | {"strides": (node.attrs["strides"][0], fold.stride)}
    layer = replace(node, attrs=attrs)
    known = {node.inputs[0]: fold.source, node.inputs[1]: fold.kernel, node.output: fold.out}
    time = time_model.node_us(layer, lambda name: known.get(name) or shapes(name), precision)
    around = [node.inputs[0]] + ([node.output] if fold.results > 1 else [])
    for name in around:
        moved = Node(Op.RESHAPE, f"{node.name}/fold", (name,), (name,), {})
        time += time_model.node_us(moved, shapes, precision)
    return time
