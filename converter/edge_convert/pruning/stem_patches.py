"""The first convolution reading whole patches: exact, for inputs of one channel or few.

A convolution's kernel walks over its taps and multiplies the channels of each, eight or four at a time; with
one channel the rest is idle, forty times over for the 10 x 4 taps of a keyword spotter. Laying each patch
out as channels would fill it (im2col: Chellapilla, Puri and Simard, 2006), but costs a copy that runtimes
have no fast operator for. A convolution whose weights are zeros and ones is one: it reads a row, folded into
channels as in `stem_fold.py`, and writes for each result of the row the columns that its kernel spans, for
as many rows as the stride has. What follows then has one tap for so many rows, each filled with channels.

Measured on the keyword spotter, that layer's instructions on a Cortex-A76: 243 thousand as it is, 188 folded
in pairs, 69 with patches. The results are the same up to the order of a sum; in int8 the copy is exact,
since what it writes has the scale of what it reads (`copying.py`). Whether it is faster, `time_model.py`
says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_contracts.profile import Precision
from edge_convert import time_model
from edge_convert.graph import Array, Graph, Node, Op, constant
from edge_convert.pruning.stem_fold import columns_of
from edge_convert.shapes import Shape, result
from edge_convert.time_model import Shapes
from edge_convert.validity import validate


@dataclass(frozen=True)
class Patches:
    """One way to write a convolution as one that lays patches out and one that multiplies them.

    Args:
        columns: Of the source that are read as one.
        results: Of a row, side by side, whose patches one such column gives.
        stride, pads: Of the copying convolution: down and across; top, bottom, left, right.
        around: Rows of patches above and below that are nothing but padding: the multiplying one's.
        picks: Shape of its weights: [size * results, rows, taps, in * columns].
        kernel: Shape of the multiplying one's: [out, taps down, 1, size].
        source, picked, patches, out: Shapes of what is read, copied, laid out and written.
    """

    columns: int
    results: int
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    around: tuple[int, int]
    picks: Shape
    kernel: Shape
    source: Shape
    picked: Shape
    patches: Shape
    out: Shape

    @property
    def parameters(self) -> int:
        """Elements of weights and biases."""
        return math.prod(self.picks) + self.picks[0] + math.prod(self.kernel) + self.kernel[0]


def ways(node: Node, shapes: Shapes) -> Iterator[Patches]:
    """All ways to have a convolution read patches, for any numbers of channels that the shapes say."""
    (n, high, _, read), (_, out_high, out_wide, write) = shapes(node.inputs[0]), shapes(node.output)
    kh, kw = shapes(node.inputs[1])[1:3]
    rows, top = node.attrs["strides"][0], node.attrs["pads"][0]
    size, down = rows * kw * read, -(-kh // rows)
    every = out_high + down - 1
    # rows of patches with nothing of the source in them are padding of what follows
    above = min(top // rows, every - 1)
    below = max(0, every - -(-(high + top) // rows))
    blocks = every - above - below
    bottom = (every - below) * rows - top - high
    if size == read or bottom <= -rows or blocks < 1:
        return  # nothing to lay out, or rows at the end that no result reads
    for c in columns_of(node, shapes):
        yield Patches(
            c.columns,
            c.results,
            (rows, c.stride),
            (top - above * rows, max(0, bottom), *c.pads),
            (above, below),
            (size * c.results, rows, c.taps, read * c.columns),
            (write, down, 1, size),
            (n, high, c.source, read * c.columns),
            (n, blocks, out_wide // c.results, size * c.results),
            (n, blocks, out_wide, size),
            (n, out_high, out_wide, write),
        )


def apply(graph: Graph, node: Node, way: Patches) -> Graph:
    """The graph with one convolution reading patches; its name and result stay."""
    weights = graph.constant(node.inputs[1])
    picks = constant(f"{node.name}/picks", _picks(weights.shape, node, way))
    dense = constant(f"{node.name}/patch weights", _dense(weights, way))
    source, written = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    plain = {"groups": 1, "dilations": (1, 1)}
    fold, folded = result(
        Op.RESHAPE, f"{node.name}/fold", [source], {"shape": way.source}, f"{node.name}/folded columns"
    )
    copying = plain | {"strides": way.stride, "pads": way.pads, "activation": "none"}
    pick, picked = result(
        Op.CONV2D, f"{node.name}/pick", [folded, picks], copying, f"{node.name}/picked", node.source
    )
    lay, patches = result(
        Op.RESHAPE, f"{node.name}/lay out", [picked], {"shape": way.patches}, f"{node.name}/patches"
    )
    multiplying = dict(node.attrs) | plain | {"strides": (1, 1), "pads": (*way.around, 0, 0)}
    biases = [graph.tensor(name) for name in node.inputs[2:]]
    layer, out = result(
        Op.CONV2D, node.name, [patches, dense, *biases], multiplying, node.output, node.source
    )
    assert (picked.shape, out.shape) == (way.picked, written.shape), (
        f"{node.name}: {picked.shape}, {out.shape}"
    )
    nodes = [m for old in graph.nodes for m in ((fold, pick, lay, layer) if old is node else (old,))]
    return validate(graph.rewritten(nodes, [folded, picks, picked, patches, dense]))


def us(node: Node, way: Patches, shapes: Shapes, precision: Precision) -> float:
    """Microseconds of both convolutions and their reshapes."""
    plain = {"groups": 1, "dilations": (1, 1), "activation": "none"}
    known = {
        "source": shapes(node.inputs[0]),
        "folded": way.source,
        "picks": way.picks,
        "picked": way.picked,
        "patches": way.patches,
        "kernel": way.kernel,
        "out": way.out,
    }
    still = {"strides": (1, 1), "pads": (*way.around, 0, 0)}
    nodes = (
        Node(Op.RESHAPE, "fold", ("source",), ("folded",), {}),
        Node(
            Op.CONV2D,
            "pick",
            ("folded", "picks"),
            ("picked",),
            plain | {"strides": way.stride, "pads": way.pads},
        ),
        Node(Op.RESHAPE, "lay out", ("picked",), ("patches",), {}),
        Node(Op.CONV2D, "layer", ("patches", "kernel"), ("out",), plain | still),
    )
    return sum(time_model.node_us(made, known.__getitem__, precision) for made in nodes)


def _picks(kernel: Shape, node: Node, way: Patches) -> Array:
    """Ones where an element of a result's patch comes from."""
    kw, read = kernel[2:]
    rows, stride, left = way.stride[0], node.attrs["strides"][1], node.attrs["pads"][2]
    ones = np.zeros((way.results, rows, kw, read, rows, way.picks[2], way.columns, read), np.float32)
    for place in range(way.results):
        for tap in range(kw):
            column, inside = divmod(place * stride - left + tap, way.columns)
            # a column of nothing but padding stays zero
            if 0 <= column + way.pads[2] < way.picks[2]:
                for row in range(rows):
                    for channel in range(read):
                        ones[place, row, tap, channel, row, column + way.pads[2], inside, channel] = 1.0
    return ones.reshape(way.picks)


def _dense(weights: Array, way: Patches) -> Array:
    """The kernel with each tap of so many rows as channels; zeros below its last row."""
    write, high, wide, read = weights.shape
    rows, down = way.stride[0], way.kernel[1]
    full = np.zeros((write, down * rows, wide, read), weights.dtype)
    full[:, :high] = weights
    return full.reshape(way.kernel)
