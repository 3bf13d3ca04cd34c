"""One-operator graphs for LiteRT: every operator in its uses, and what runs them. No tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edge_convert.emitters.tflite_rules import FIXED_OUTPUT, SAME_PARAMS, WEIGHT_AXIS, has_int8_form
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.quantizing.quantization import Quantization, QuantParams
from edge_convert.reference import apply
from edge_convert.shapes import COMPARISONS, infer
from edge_convert.validity import validate

NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True)
class Case:
    """One operator in one use.

    Args:
        label: Tells uses of one operator apart.
        shapes: Of the inputs that are fed.
        constants: Elements, or the shape of random ones, of the inputs that follow.
        low, high: Range of the fed values; they are whole where equality is asked.
        flags: How many of the fed inputs, from the first on, are bool.
    """

    op: Op
    label: str
    shapes: Sequence[tuple[int, ...]]
    constants: Sequence[Any] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    low: float = -3.0
    high: float = 3.0
    flags: int = 0

    @property
    def id(self) -> str:
        """Operator and label, for test names."""
        return f"{self.op} {self.label}".strip()


def _conv(**attrs: Any) -> dict[str, Any]:
    return {"strides": (1, 1), "dilations": (1, 1), "pads": NO_PADS, "activation": "none"} | attrs


def _pool(**attrs: Any) -> dict[str, Any]:
    return {"kernel": (3, 3), "strides": (2, 2), "pads": NO_PADS} | attrs


def _upward(pads: Any, shape: tuple[int, ...], activation: str = "none") -> dict[str, Any]:
    return {"strides": (2, 2), "pads": pads, "output_shape": shape, "activation": activation}


def _resized(size: tuple[int, int], align_corners: bool, half_pixel_centers: bool) -> dict[str, Any]:
    return {"size": size, "align_corners": align_corners, "half_pixel_centers": half_pixel_centers}


def _cut(begin: Any, end: Any, strides: Any) -> dict[str, Any]:
    return {"begin": begin, "end": end, "strides": strides}


def _product(transpose_a: bool, transpose_b: bool) -> dict[str, Any]:
    return {"transpose_a": transpose_a, "transpose_b": transpose_b}


def _mirrored(mode: str) -> dict[str, Any]:
    return {"paddings": ((0, 0), (2, 1), (1, 1), (0, 0)), "mode": mode}


IMAGE = (1, 7, 6, 4)
SMALL = (1, 4, 3, 4)
WITH_BIAS = ((5, 3, 3, 4), (5,))
NONE = {"activation": "none"}
C = Case

CASES = [
    C(Op.CONV2D, "valid", [IMAGE], WITH_BIAS, _conv(groups=1)),
    C(Op.CONV2D, "same, no bias", [IMAGE], [(5, 3, 3, 4)], _conv(groups=1, pads=(1, 1, 1, 1))),
    C(Op.CONV2D, "same strided", [IMAGE], WITH_BIAS, _conv(groups=1, strides=(2, 2), pads=(1, 1, 0, 1))),
    C(Op.CONV2D, "torch strided", [IMAGE], WITH_BIAS, _conv(groups=1, strides=(2, 2), pads=(1, 1, 1, 1))),
    C(Op.CONV2D, "odd pads", [IMAGE], WITH_BIAS, _conv(groups=1, pads=(3, 0, 1, 2), activation="relu6")),
    C(Op.CONV2D, "dilated", [IMAGE], [(5, 2, 2, 4)], _conv(groups=1, dilations=(2, 2), activation="relu")),
    C(Op.CONV2D, "grouped", [IMAGE], [(6, 3, 3, 2), (6,)], _conv(groups=2)),
    C(Op.DEPTHWISE_CONV2D, "same", [IMAGE], [(1, 3, 3, 4), (4,)], _conv(pads=(1, 1, 1, 1))),
    C(Op.DEPTHWISE_CONV2D, "multiplier", [IMAGE], [(1, 3, 3, 8), (8,)], _conv(strides=(2, 2))),
    C(Op.DEPTHWISE_CONV2D, "dilated", [IMAGE], [(1, 3, 3, 4)], _conv(dilations=(2, 2), pads=(2, 2, 2, 2))),
    C(Op.DEPTHWISE_CONV2D, "torch", [IMAGE], [(1, 3, 3, 4)], _conv(strides=(2, 2), pads=(1, 1, 1, 1))),
    C(Op.TRANSPOSE_CONV2D, "valid", [SMALL], [(5, 2, 2, 4), (5,)], _upward(NO_PADS, (1, 8, 6, 5))),
    C(Op.TRANSPOSE_CONV2D, "same", [SMALL], WITH_BIAS, _upward((0, 1, 0, 1), (1, 8, 6, 5))),
    C(Op.TRANSPOSE_CONV2D, "4x4, relu", [SMALL], [(5, 4, 4, 4)], _upward((1, 1, 1, 1), (1, 8, 6, 5), "relu")),
    C(Op.TRANSPOSE_CONV2D, "torch 3x3", [SMALL], [(5, 3, 3, 4)], _upward((1, 1, 1, 1), (1, 7, 5, 5))),
    C(Op.TRANSPOSE_CONV2D, "output padding", [SMALL], WITH_BIAS, _upward((1, 0, 1, 0), (1, 8, 6, 5))),
    C(Op.DENSE, "", [(1, 12)], [(5, 12), (5,)], NONE),
    C(Op.DENSE, "no bias, relu", [(1, 12)], [(5, 12)], {"activation": "relu"}),
    C(Op.DENSE, "three axes", [(1, 3, 12)], [(5, 12), (5,)], NONE),
    C(Op.DENSE, "one axis", [(12,)], [(5, 12), (5,)], NONE),
    C(Op.MATMUL, "", [(1, 3, 4), (1, 4, 5)], [], _product(False, False)),
    C(Op.MATMUL, "transposed", [(1, 2, 4, 3), (1, 2, 5, 4)], [], _product(True, True)),
    C(Op.MATMUL, "constant", [(1, 3, 4)], [(4, 5)], _product(False, False)),
    C(Op.AVERAGE_POOL2D, "valid", [IMAGE], [], _pool(count_include_pad=False)),
    C(Op.AVERAGE_POOL2D, "same", [IMAGE], [], _pool(count_include_pad=False, pads=(1, 1, 0, 1))),
    C(Op.AVERAGE_POOL2D, "counted", [IMAGE], [], _pool(count_include_pad=True, pads=(1, 1, 1, 1))),
    C(Op.AVERAGE_POOL2D, "not counted", [IMAGE], [], _pool(count_include_pad=False, pads=(1, 1, 1, 1))),
    C(Op.MAX_POOL2D, "valid", [IMAGE], [], _pool()),
    C(Op.MAX_POOL2D, "same", [IMAGE], [], _pool(pads=(1, 1, 0, 1))),
    C(Op.MAX_POOL2D, "padded, all negative", [IMAGE], [], _pool(pads=(1, 1, 1, 1)), -3.0, -1.0),
    C(Op.MAX_POOL2D, "padded, all positive", [IMAGE], [], _pool(pads=(1, 1, 1, 1)), 0.0, 3.0),
    C(Op.ADD, "", [IMAGE, IMAGE], [], NONE),
    C(Op.ADD, "constant, relu", [IMAGE], [(4,)], {"activation": "relu"}),
    C(Op.ADD, "five axes", [(1, 2, 3, 2, 2), (1, 1, 1, 2, 2)], [], NONE),
    C(Op.SUB, "", [IMAGE, (1, 1, 1, 4)], [], {"activation": "relu6"}),
    C(Op.MUL, "", [IMAGE, (1, 1, 1, 4)], [], NONE),
    C(Op.MUL, "scalar", [IMAGE], [()], NONE),
    C(Op.MUL, "five axes", [(1, 2, 3, 2, 2), (1, 2, 3, 2, 2)], [], NONE),
    C(Op.MUL, "five axes broadcast", [(1, 2, 3, 2, 2)], [(2, 2)], NONE),
    C(Op.DIV, "", [IMAGE, IMAGE], [], NONE, 0.5, 3.0),
    C(Op.MINIMUM, "", [IMAGE, IMAGE]),
    C(Op.MAXIMUM, "constant", [IMAGE], [(4,)]),
    C(Op.POW, "", [IMAGE], [np.float32(2.0)], {}, 0.5, 2.0),
    C(Op.RELU, "", [IMAGE]),
    C(Op.RELU6, "", [IMAGE], low=-3.0, high=9.0),
    C(Op.RELU_N1_TO_1, "", [IMAGE]),
    C(Op.LEAKY_RELU, "", [IMAGE], [], {"alpha": 0.1}),
    C(Op.PRELU, "", [IMAGE], [(1, 1, 4)]),
    C(Op.ELU, "", [IMAGE], [], {"alpha": 1.0}),
    C(Op.ELU, "other slope", [IMAGE], [], {"alpha": 0.5}),
    C(Op.SIGMOID, "", [IMAGE]),
    C(Op.TANH, "", [IMAGE]),
    C(Op.HARD_SWISH, "", [IMAGE], low=-5.0, high=5.0),
    C(Op.GELU, "", [IMAGE], [], {"approximate": False}),
    C(Op.GELU, "tanh form", [IMAGE], [], {"approximate": True}),
    C(Op.SOFTMAX, "", [(1, 10)], [], {"beta": 1.0}),
    C(Op.SOFTMAX, "three axes", [(1, 3, 10)], [], {"beta": 2.0}),
    C(Op.LOG_SOFTMAX, "", [(1, 10)]),
    C(Op.EXP, "", [IMAGE]),
    C(Op.LOG, "", [IMAGE], low=0.5, high=3.0),
    C(Op.SQRT, "", [IMAGE], low=0.5, high=3.0),
    C(Op.RSQRT, "", [IMAGE], low=0.5, high=3.0),
    C(Op.ABS, "", [IMAGE]),
    C(Op.NEG, "", [IMAGE]),
    C(Op.FLOOR, "", [IMAGE]),
    C(Op.CEIL, "", [IMAGE]),
    C(Op.ROUND, "", [(1, 6)], low=-3.0, high=3.0),
    C(Op.SIN, "", [IMAGE]),
    C(Op.COS, "", [IMAGE]),
    C(Op.RESHAPE, "", [IMAGE], [], {"shape": (1, 168)}),
    C(Op.TRANSPOSE, "", [IMAGE], [], {"perm": (0, 3, 1, 2)}),
    C(Op.TRANSPOSE, "five axes", [(1, 2, 3, 2, 2)], [], {"perm": (0, 4, 1, 3, 2)}),
    C(Op.PAD, "", [IMAGE], [], {"paddings": ((0, 0), (1, 2), (0, 1), (0, 3)), "value": 0.0}),
    C(Op.PAD, "value", [IMAGE], [], {"paddings": ((0, 0), (1, 2), (0, 1), (0, 0)), "value": 1.5}),
    C(Op.MIRROR_PAD, "", [IMAGE], [], _mirrored("reflect")),
    C(Op.MIRROR_PAD, "symmetric", [IMAGE], [], _mirrored("symmetric")),
    C(Op.CONCAT, "", [IMAGE, (1, 7, 6, 2)], [], {"axis": 3}),
    C(Op.CONCAT, "constant", [IMAGE], [(1, 2, 6, 4)], {"axis": 1}),
    C(Op.SLICE, "", [IMAGE], [], _cut((0, 1, 2, 0), (1, 6, 5, 4), (1, 1, 1, 1))),
    C(Op.SLICE, "strided", [IMAGE], [], _cut((0, 1, 0, 0), (1, 7, 6, 4), (1, 2, 3, 1))),
    C(Op.SLICE, "reversed", [IMAGE], [], _cut((0, 6, 0, 3), (1, -1, 6, -1), (1, -1, 1, -1))),
    C(Op.GATHER, "", [IMAGE], [np.array([3, 0, 1, 1], np.int32)], {"axis": 3}),
    C(Op.GATHER, "one index", [IMAGE], [np.array(2, np.int32)], {"axis": 1}),
    C(Op.TILE, "", [(1, 2, 3)], [], {"multiples": (1, 3, 2)}),
    C(Op.BROADCAST_TO, "", [(1, 1, 3)], [], {"shape": (1, 4, 3)}),
    C(Op.RESIZE_BILINEAR, "half pixel", [IMAGE], [], _resized((14, 12), False, True)),
    C(Op.RESIZE_BILINEAR, "aligned", [IMAGE], [], _resized((13, 11), True, False)),
    C(Op.RESIZE_BILINEAR, "plain", [IMAGE], [], _resized((4, 5), False, False)),
    C(Op.RESIZE_NEAREST, "plain", [IMAGE], [], _resized((14, 12), False, False)),
    C(Op.RESIZE_NEAREST, "half pixel", [IMAGE], [], _resized((10, 4), False, True)),
    C(Op.RESIZE_NEAREST, "aligned", [IMAGE], [], _resized((13, 11), True, False)),
    C(Op.SPACE_TO_DEPTH, "", [(1, 4, 6, 3)], [], {"block": 2}),
    C(Op.DEPTH_TO_SPACE, "", [(1, 2, 3, 8)], [], {"block": 2}),
    C(Op.MEAN, "", [IMAGE], [], {"axes": (1, 2), "keepdims": False}),
    C(Op.MEAN, "channels", [IMAGE], [], {"axes": (3,), "keepdims": True}),
    C(Op.SUM, "", [IMAGE], [], {"axes": (1, 2), "keepdims": True}),
    C(Op.REDUCE_MAX, "", [IMAGE], [], {"axes": (1, 2), "keepdims": False}),
    C(Op.REDUCE_MIN, "", [IMAGE], [], {"axes": (3,), "keepdims": True}),
    C(Op.REDUCE_PROD, "", [IMAGE], [], {"axes": (3,), "keepdims": False}),
    C(Op.ARG_MAX, "", [(1, 10)], [], {"axis": 1}),
    C(Op.L2_NORMALIZE, "", [(1, 12)]),
    C(Op.CAST, "", [IMAGE], [], {"dtype": "int32"}),
    C(Op.EQUAL, "", [IMAGE, IMAGE]),
    C(Op.EQUAL, "constant", [IMAGE], [np.float32(0.0)]),
    C(Op.NOT_EQUAL, "", [IMAGE, IMAGE]),
    C(Op.GREATER, "", [IMAGE, IMAGE]),
    C(Op.GREATER, "broadcast", [IMAGE, (1, 1, 1, 4)]),
    C(Op.GREATER_EQUAL, "constant", [IMAGE], [(4,)]),
    C(Op.LESS, "", [IMAGE, IMAGE]),
    C(Op.LESS_EQUAL, "", [IMAGE, IMAGE]),
    C(Op.LOGICAL_AND, "", [IMAGE, IMAGE], flags=2),
    C(Op.LOGICAL_OR, "", [IMAGE, IMAGE], flags=2),
    C(Op.LOGICAL_NOT, "", [IMAGE], flags=1),
    C(Op.SELECT, "", [IMAGE, IMAGE, IMAGE], flags=1),
    C(Op.SELECT, "of a constant", [IMAGE, IMAGE], [np.float32(-7.0)], flags=1),
    C(Op.SELECT, "broadcast", [(1, 1, 1, 4), IMAGE, (1, 7, 6, 1)], flags=1),
]  # fmt: skip


def graph_of(case: Case, rng: np.random.Generator) -> Graph:
    tensors: list[Tensor] = [
        Tensor(f"x{i}", shape, "bool" if i < case.flags else "float32") for i, shape in enumerate(case.shapes)
    ]
    for i, value in enumerate(case.constants):
        data = rng.uniform(-1, 1, value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        tensors.append(constant(f"c{i}", data))
    shape, dtype = infer(case.op, tensors, case.attrs)
    node = Node(case.op, "node", tuple(t.name for t in tensors), ("y",), case.attrs)
    tensors.append(Tensor("y", shape, dtype))
    ports = tuple(Port(f"x{i}", f"x{i}", s) for i, s in enumerate(case.shapes))
    named = {t.name: t for t in tensors}
    return validate(Graph("case", ports, (Port("y", "y", shape),), (node,), named))


def run(
    content: bytes, feeds: Sequence[Array], resolver: OpResolverType = OpResolverType.AUTO
) -> list[Array]:
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], feed)
    interpreter.invoke()
    return [np.asarray(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


def feeds_of(case: Case, rng: np.random.Generator) -> list[Array]:
    drawn = [rng.uniform(case.low, case.high, shape).astype(np.float32) for shape in case.shapes]
    if case.op in COMPARISONS:
        drawn = [np.rint(values) for values in drawn]
    return [values > 0 if i < case.flags else values for i, values in enumerate(drawn)]


def operands(graph: Graph, feeds: Sequence[Array]) -> list[Array]:
    values = dict(zip((p.tensor for p in graph.inputs), feeds, strict=True))
    return [values.get(name, graph.tensor(name).data) for name in graph.nodes[0].inputs]  # type: ignore[misc]


def activation_params(values: Array) -> QuantParams:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32((high - low) / 255)
    return QuantParams(np.asarray(scale), np.asarray(round(-128 - low / scale), np.int32))


def weight_params(values: Array, axis: int | None) -> QuantParams:
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    scale = np.asarray(np.abs(values).max(axis=others) / 127, np.float32)
    return QuantParams(scale, np.zeros(scale.shape, np.int32), "int8", axis)


def quantized(graph: Graph, feeds: Sequence[Array], per_channel: bool = True) -> Quantization:
    """Parameters by the rules of `tflite_rules`, for a graph of one node."""
    node = graph.nodes[0]
    params: dict[str, QuantParams] = {}
    values = dict(zip(node.inputs, operands(graph, feeds), strict=True))
    values["y"] = apply(node, [values[name] for name in node.inputs])
    floats = {name: v for name, v in values.items() if v.dtype == np.float32}
    if node.op in SAME_PARAMS:
        shared = activation_params(np.concatenate([v.ravel() for v in floats.values()]))
        return Quantization(dict.fromkeys(floats, shared))
    for position, (name, value) in enumerate(floats.items()):
        if node.op in WEIGHT_AXIS and name in node.inputs and position > 0:
            if position == 1:
                params[name] = weight_params(value, WEIGHT_AXIS[node.op] if per_channel else None)
        elif name == "y" and node.op in FIXED_OUTPUT:
            scale, zero = FIXED_OUTPUT[node.op]
            params[name] = QuantParams(np.asarray(scale, np.float32), np.asarray(zero, np.int32))
        else:
            params[name] = activation_params(value)
    return Quantization(params)


def int8_cases() -> list[Case]:
    """Those that have an int8 form."""
    graphs = [(case, graph_of(case, np.random.default_rng(1))) for case in CASES]
    return [case for case, graph in graphs if has_int8_form(graph, graph.nodes[0])]
