"""How long a graph takes on LiteRT, predicted from shapes alone: one thread, XNNPACK's kernels.

Multiply-accumulates mislead: a kernel works on whole tiles of channels, so that a layer of 12 channels
takes as long as one of 16, and a depthwise layer waits for memory. Here each operator's time is a sum of
what its kernel does - tiles multiplied, elements stored, pixels walked - times constants that were fitted
to measurements. Nothing is timed when this is asked: the same graph gives the same figure everywhere, so
that it may decide what is in a bundle.

The constants come from `benchmarks/time_model.py --fit` on x86-64 with AVX-512 VNNI, LiteRT 2.3.0, and from
the instructions that an emulated Cortex-A76 executes, at four to a nanosecond. Trust the ratio of two forms
of one model, and not the microseconds. What pruning takes away is decided by the first set alone; which
layers stay in float, and which artifact is taken, by that of the profile's processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from edge_contracts.profile import DeviceProfile, Precision
from edge_convert.graph import Graph, Node, Op
from edge_convert.shapes import ELEMENTWISE_UNARY, REDUCTIONS, Shape

Shapes = Callable[[str], Shape]
Cpu = Literal["x86-64", "cortex-a76"]
_ARM = frozenset({"aarch64", "arm64", "armv7l"})


@dataclass(frozen=True)
class Kernels:
    """XNNPACK's kernels for a processor and a precision.

    Args:
        out, depthwise: Output channels that are multiplied at a time.
        into: Input channels that are.
        rest: What is left over of so many channels takes a depthwise kernel a turn of its own.
        anew: Whether taps are looked up anew for each tile of output channels.
    """

    out: int
    into: int
    depthwise: int
    rest: int
    anew: bool = False


_KERNELS: Mapping[Cpu, Mapping[bool, Kernels]] = {  # True: int8
    "x86-64": {True: Kernels(16, 8, 16, 16), False: Kernels(16, 1, 16, 16)},
    "cortex-a76": {True: Kernels(16, 8, 8, 16), False: Kernels(8, 1, 8, 8, anew=True)},
}
# One more operator, and each of its elements (benchmarks/conversion_cost.py).
_CONVERSION: Mapping[Cpu, tuple[float, float]] = {"x86-64": (0.03, 0.027e-3), "cortex-a76": (0.03, 0.3e-3)}


def cpu_of(profile: DeviceProfile) -> Cpu:
    """Whose constants speak for a profile."""
    return "cortex-a76" if set(profile.architectures) <= _ARM else "x86-64"


def predicted_us(graph: Graph, precision: Precision, cpu: Cpu = "x86-64") -> float:
    """Microseconds of one inference; float16 weights are computed with in float32."""
    return sum(by_node(graph, precision, cpu).values())


def by_node(graph: Graph, precision: Precision, cpu: Cpu = "x86-64") -> dict[str, float]:
    """Microseconds of each node, by its name."""
    shapes = shapes_of(graph)
    return {node.name: node_us(node, shapes, precision, cpu) for node in graph.nodes}


def conversions_us(sizes: Iterable[int], cpu: Cpu = "x86-64") -> float:
    """Microseconds of conversions to float or back, from the elements of each."""
    once, each = _CONVERSION[cpu]
    return sum(once + size * each for size in sizes)


def shapes_of(graph: Graph) -> Shapes:
    """The graph's own shapes, by tensor name."""
    return lambda name: graph.tensor(name).shape


def node_us(node: Node, shapes: Shapes, precision: Precision, cpu: Cpu = "x86-64") -> float:
    """Microseconds of one node.

    Args:
        shapes: By tensor name; may say other numbers of channels than the graph has. A layer's own are
            read from what it reads and writes, only the kernel from its weights.
    """
    kind = kind_of(node, shapes)
    constants = CONSTANTS[cpu]["int8" if precision == "int8" else "float32"][kind]
    counts = work(node, shapes, precision == "int8", cpu)
    return sum(a * b for a, b in zip(counts, constants, strict=True)) / 1000


def kind_of(node: Node, shapes: Shapes) -> str:
    """Which kernel runs it; operators that were not measured count as one that is like them."""
    if node.op is Op.CONV2D:
        pointwise = shapes(node.inputs[1])[1:3] == (1, 1) and tuple(node.attrs["strides"]) == (1, 1)
        return "multiply" if pointwise and not any(node.attrs["pads"]) else "convolve"
    return _KINDS.get(node.op, "copy")


def work(node: Node, shapes: Shapes, int8: bool, cpu: Cpu = "x86-64") -> tuple[float, ...]:
    """What the kernel does, counted in the units of its kind's constants."""
    kind = kind_of(node, shapes)
    return _WORK.get(kind, _of_elements)(node, shapes, _KERNELS[cpu][int8])


def _tiles(channels: int, tile: int) -> int:
    return -(-channels // tile) * tile


def _of_layer(
    taps: Callable[[Node, Shapes], int], node: Node, shapes: Shapes, kernels: Kernels
) -> tuple[float, ...]:
    """Once; tiles multiplied; elements stored, with the tile's rest; taps looked up; weights read."""
    source, result = shapes(node.inputs[0]), shapes(node.output)
    transposed = node.op is Op.TRANSPOSE_CONV2D
    groups = node.attrs.get("groups", 1)
    read = source[-2] if node.attrs.get("transpose_a") else source[-1] // groups
    pixels = math.prod((source if transposed else result)[:-1])
    write = groups * _tiles(result[-1] // groups, kernels.out)
    count = taps(node, shapes)
    inner = count * _tiles(read, kernels.into)
    looked_up = pixels * count * (write // kernels.out if kernels.anew else groups)
    return 1, pixels * write * inner, pixels * write, looked_up, write * inner


def _of_depthwise(node: Node, shapes: Shapes, kernels: Kernels) -> tuple[float, ...]:
    """Once; taps multiplied, in tiles; elements stored, in tiles; pixels; pixels with a tile's rest."""
    result = shapes(node.output)
    pixels, channels = math.prod(result[:-1]), _tiles(result[-1], kernels.depthwise)
    taps = _kernel(node, shapes)
    return (
        1,
        pixels * channels * taps,
        pixels * channels,
        pixels,
        pixels * (result[-1] % kernels.rest != 0),
    )


def _of_elements(node: Node, shapes: Shapes, kernels: Kernels) -> tuple[float, ...]:
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
_WORK: dict[str, Callable[[Node, Shapes, Kernels], tuple[float, ...]]] = {
    "multiply": partial(_of_layer, lambda node, shapes: 1),
    "convolve": partial(_of_layer, _kernel),
    "depthwise": _of_depthwise,
}

CONSTANTS: Mapping[Cpu, Mapping[str, Mapping[str, tuple[float, ...]]]] = {
    "x86-64": {
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
    },
    "cortex-a76": {
        "int8": {
            "multiply": (119.7, 0.0203, 0.458, 2.605, 0.01333),
            "convolve": (0.0, 0.02132, 0.623, 0.08092, 0.0),
            "depthwise": (120.9, 0.1649, 0.0397, 13.9, 7.304),
            "add": (101.0, 0.6758, 0.0002441),
            "scale": (57.68, 0.5625, 0.0),
            "look up": (145.6, 0.1273, 0.1823),
            "rename": (56.64, 0.03125, 0.0),
            "reduce": (655.0, 0.05832, 0.0),
            "max pool": (95.76, 0.0, 8.305),
            "average pool": (166.0, 0.7652, 9.322),
            "pad": (0.0, 0.03943, 21.3),
            "copy": (74.2, 0.03117, 12.03),
            "softmax": (207.3, 2.001, 0.0),
        },
        "float32": {
            "multiply": (165.2, 0.0856, 0.3648, 0.0, 0.02862),
            "convolve": (0.0, 0.08243, 0.3677, 1.65, 0.08646),
            "depthwise": (119.5, 0.1887, 0.1156, 14.43, 0.0),
            "add": (94.04, 0.5155, 0.003983),
            "scale": (54.68, 0.25, 0.0),
            "look up": (114.4, 0.2492, 0.0),
            "rename": (56.44, 0.125, 0.0),
            "reduce": (433.8, 0.1315, 0.0),
            "max pool": (271.4, 0.0, 20.34),
            "average pool": (95.31, 0.4198, 4.83),
            "pad": (0.0, 0.1599, 23.58),
            "copy": (78.55, 0.1238, 12.12),
            "softmax": (75.34, 2.205, 0.0),
        },
    },
}
