"""How long a graph takes on LiteRT, predicted from shapes alone: one thread, XNNPACK's kernels.

Multiply-accumulates mislead: a kernel works on whole tiles of channels, so that a layer of 12 channels
takes as long as one of 16, and a depthwise layer waits for memory. Here each operator's time is a sum of
what its kernel does - tiles multiplied, elements stored, pixels walked - times constants that were fitted
to measurements. Nothing is timed when this is asked: the same graph gives the same figure everywhere, so
that it may decide what is in a bundle.

The constants come from `benchmarks/time_model.py --fit` on x86-64 with AVX-512 VNNI, LiteRT 2.3.0. On
other processors the tiles are the same or narrower (XNNPACK's NEON kernels work on 8 or 16 channels): trust
the ratio of two forms of one model, and not the microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from edge_contracts.profile import Precision
from edge_convert.graph import Graph, Node, Op
from edge_convert.shapes import ELEMENTWISE_UNARY, REDUCTIONS, Shape

Shapes = Callable[[str], Shape]

# XNNPACK's kernels multiply this many output channels at a time, and int8 ones this many input channels.
_OUT_TILE = 16
_IN_TILE = 8
# One more operator, and each of its elements (benchmarks/conversion_cost.py).
_CONVERSION_US, _CONVERTED_US = 0.03, 0.027e-3


def predicted_us(graph: Graph, precision: Precision) -> float:
    """Microseconds of one inference; float16 weights are computed with in float32."""
    return sum(by_node(graph, precision).values())


def by_node(graph: Graph, precision: Precision) -> dict[str, float]:
    """Microseconds of each node, by its name."""
    shapes = shapes_of(graph)
    return {node.name: node_us(node, shapes, precision) for node in graph.nodes}


def conversions_us(sizes: Iterable[int]) -> float:
    """Microseconds of conversions to float or back, from the elements of each."""
    return sum(_CONVERSION_US + size * _CONVERTED_US for size in sizes)


def shapes_of(graph: Graph) -> Shapes:
    """The graph's own shapes, by tensor name."""
    return lambda name: graph.tensor(name).shape


def node_us(node: Node, shapes: Shapes, precision: Precision) -> float:
    """Microseconds of one node.

    Args:
        shapes: By tensor name; may say other numbers of channels than the graph has. A layer's own are
            read from what it reads and writes, only the kernel from its weights.
    """
    kind = kind_of(node, shapes)
    constants = CONSTANTS["int8" if precision == "int8" else "float32"][kind]
    counts = work(node, shapes, precision == "int8")
    return sum(a * b for a, b in zip(counts, constants, strict=True)) / 1000


def kind_of(node: Node, shapes: Shapes) -> str:
    """Which kernel runs it; operators that were not measured count as one that is like them."""
    if node.op is Op.CONV2D:
        pointwise = shapes(node.inputs[1])[1:3] == (1, 1) and tuple(node.attrs["strides"]) == (1, 1)
        return "multiply" if pointwise and not any(node.attrs["pads"]) else "convolve"
    return _KINDS.get(node.op, "copy")


def work(node: Node, shapes: Shapes, int8: bool) -> tuple[float, ...]:
    """What the kernel does, counted in the units of its kind's constants."""
    kind = kind_of(node, shapes)
    return _WORK.get(kind, _of_elements)(node, shapes, int8)


def _tiles(channels: int, tile: int) -> int:
    return -(-channels // tile) * tile


def _of_layer(
    taps: Callable[[Node, Shapes], int], node: Node, shapes: Shapes, int8: bool
) -> tuple[float, ...]:
    """Once; tiles multiplied; elements stored, with the tile's rest; taps looked up; weights read."""
    source, result = shapes(node.inputs[0]), shapes(node.output)
    transposed = node.op is Op.TRANSPOSE_CONV2D
    groups = node.attrs.get("groups", 1)
    read = source[-2] if node.attrs.get("transpose_a") else source[-1] // groups
    pixels = math.prod((source if transposed else result)[:-1])
    write = groups * _tiles(result[-1] // groups, _OUT_TILE)
    count = taps(node, shapes)
    inner = count * (_tiles(read, _IN_TILE) if int8 else read)
    return 1, pixels * write * inner, pixels * write, pixels * count * groups, write * inner


def _of_depthwise(node: Node, shapes: Shapes, int8: bool) -> tuple[float, ...]:
    """Once; taps multiplied, in tiles; elements stored, in tiles; pixels; pixels with a tile's rest."""
    result = shapes(node.output)
    pixels, channels = math.prod(result[:-1]), _tiles(result[-1], _OUT_TILE)
    taps = _kernel(node, shapes)
    return 1, pixels * channels * taps, pixels * channels, pixels, pixels * (result[-1] % _OUT_TILE != 0)


def _of_elements(node: Node, shapes: Shapes, int8: bool) -> tuple[float, ...]:
    """Once; elements read or written, whichever are more; their pixels."""
    larger = max((shapes(node.inputs[0]), shapes(node.output)), key=math.prod)
    return 1, math.prod(larger), math.prod(larger[:-1])


def _kernel(node: Node, shapes: Shapes) -> int:
    return math.prod(shapes(node.inputs[1])[1:3])


_KINDS: dict[Op, str] = {
    Op.DEPTHWISE_CONV2D: "depthwise",
    Op.TRANSPOSE_CONV2D: "convolve",
    Op.DENSE: "multiply",
    Op.MATMUL: "multiply",
    Op.ADD: "add",
    Op.SUB: "add",
    Op.MUL: "scale",
    Op.DIV: "scale",
    Op.POW: "scale",
    **dict.fromkeys(ELEMENTWISE_UNARY, "look up"),
    Op.LEAKY_RELU: "look up",
    Op.MINIMUM: "look up",
    Op.MAXIMUM: "look up",
    **dict.fromkeys(REDUCTIONS, "reduce"),
    Op.MAX_POOL2D: "max pool",
    Op.AVERAGE_POOL2D: "average pool",
    Op.SOFTMAX: "softmax",
    Op.LOG_SOFTMAX: "softmax",
    Op.RESHAPE: "rename",
    Op.PAD: "pad",
    Op.MIRROR_PAD: "pad",
}
_WORK: dict[str, Callable[[Node, Shapes, bool], tuple[float, ...]]] = {
    "multiply": partial(_of_layer, lambda node, shapes: 1),
    "convolve": partial(_of_layer, _kernel),
    "depthwise": _of_depthwise,
}

CONSTANTS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "int8": {
        "multiply": (45.64, 0.0019, 0.07701, 0.0, 0.002707),
        "convolve": (37.02, 0.001835, 0.07688, 0.06518, 0.01403),
        "depthwise": (25.54, 0.02292, 1.792e-05, 1.823, 0.0),
        "add": (0.0, 0.09208, 0.0),
        "scale": (28.71, 0.1666, 0.0),
        "look up": (127.5, 0.006306, 0.3927),
        "rename": (21.44, 0.007224, 0.0),
        "reduce": (95.95, 0.0056, 0.0),
        "max pool": (28.53, 0.0, 1.66),
        "average pool": (495.4, 0.6691, 0.0),
        "pad": (0.0, 0.0, 7.678),
        "copy": (58.37, 0.0, 3.003),
        "softmax": (44.7, 1.761, 0.0),
    },
    "float32": {
        "multiply": (30.32, 0.007403, 0.0, 0.956, 0.03213),
        "convolve": (0.0, 0.008063, 0.03127, 0.1978, 0.0117),
        "depthwise": (43.51, 0.02003, 0.0, 2.634, 2.371),
        "add": (0.0, 0.07679, 0.2775),
        "scale": (47.14, 0.04914, 0.0),
        "look up": (0.0, 0.01198, 1.289),
        "rename": (0.0, 0.02861, 0.06081),
        "reduce": (31.81, 0.01466, 0.3778),
        "max pool": (66.01, 0.0, 4.507),
        "average pool": (30.24, 0.03272, 0.5017),
        "pad": (26.29, 0.01617, 7.711),
        "copy": (0.0, 0.03905, 0.3638),
        "softmax": (33.95, 0.1344, 0.0),
    },
}
