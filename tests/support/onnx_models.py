"""Small ONNX models for tests: one per operator and use of it, and a few whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
TYPES = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64, "int32": onnx.TensorProto.INT32}


def rng(seed: int = 0) -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(seed)


def floats(*shape: int, seed: int = 0) -> Array:
    """Normal float32 elements."""
    return rng(seed).standard_normal(shape).astype(np.float32)


@dataclass
class Network:
    """An ONNX graph being written: `node` gives the name of its output, `weight` that of a constant."""

    inputs: dict[str, Sequence[int | str]]
    opset: int = 17
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)

    def node(self, operator: str, *inputs: str, outputs: int = 1, name: str = "", **attrs: Any) -> Any:
        """Append a node."""
        label = name or f"{operator.lower()}{len(self.nodes)}"
        names = [f"{label}_out{i}" if outputs > 1 else f"{label}_out" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=label, **attrs))
        return names if outputs > 1 else names[0]

    def weight(self, array: Any, name: str = "") -> str:
        """Add an initializer."""
        name = name or f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def conv(self, x: str, cin: int, cout: int, kernel: int = 3, groups: int = 1, **attrs: Any) -> str:
        """A convolution with random weights of unit gain, and a bias."""
        seed = len(self.weights)
        w = floats(cout, cin // groups, kernel, kernel, seed=seed) / np.sqrt(cin // groups * kernel * kernel)
        attrs.setdefault("pads", [kernel // 2] * 4)
        weights = self.weight(w.astype(np.float32)), self.weight(floats(cout, seed=seed + 1))
        name: str = self.node("Conv", x, *weights, group=groups, **attrs)
        return name

    def batch_norm(self, x: str, channels: int) -> str:
        """BatchNormalization with random statistics."""
        g = rng(len(self.weights))
        parts = [g.uniform(0.5, 2, channels), g.normal(size=channels), g.normal(size=channels)]
        names = [self.weight(p.astype(np.float32)) for p in [*parts, g.uniform(0.5, 2, channels)]]
        name: str = self.node("BatchNormalization", x, *names)
        return name

    def model(self, *outputs: str) -> Any:
        """The finished model; output shapes are left to whoever reads it."""
        ins = [
            helper.make_tensor_value_info(n, TYPES[self.dtypes.get(n, "float32")], list(s))
            for n, s in self.inputs.items()
        ]
        # an output of unknown shape is legal, and keeps shapes from being written down twice
        outs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs]
        graph = helper.make_graph(self.nodes, "test", ins, outs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def saved(model: Any, folder: Path, name: str = "model.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    onnx.save(model, path)
    return path


def openvino_run(path: Path, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of the file in OpenVINO on the CPU, in float32, in the model's order."""
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled(dict(feeds))
    return [np.asarray(result[output]) for output in compiled.outputs]


def onnx_run(path: Path, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of the file in ONNX's own reference implementation."""
    return [np.asarray(a) for a in ReferenceEvaluator(str(path)).run(None, dict(feeds))]


@dataclass(frozen=True)
class Case:
    """One operator in one use.

    Args:
        shape: Of the one fed input, or of each of two.
        constants: Inputs after the fed ones; None is an absent optional.
        oracle: "openvino", or "onnx" for uses that OpenVINO reads otherwise than the specification.
    """

    name: str
    operator: str
    shapes: tuple[tuple[int, ...], ...]
    constants: tuple[Any, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17
    outputs: int = 1
    constants_first: bool = False
    positive: bool = False
    oracle: str = "openvino"

    def model(self) -> Any:
        """One node, its batch axis dynamic where it is 1."""
        names = "xyz"[: len(self.shapes)]
        dims: dict[str, Sequence[int | str]] = {
            n: ["n", *s[1:]] if s[0] == 1 else list(s) for n, s in zip(names, self.shapes, strict=True)
        }
        net = Network(dims, self.opset)
        constants = [net.weight(c) if c is not None else "" for c in self.constants]
        inputs = [*constants, *names] if self.constants_first else [*names, *constants]
        result = net.node(self.operator, *inputs, outputs=self.outputs, **self.attrs)
        return net.model(*(result if self.outputs > 1 else [result]))

    def feeds(self) -> dict[str, Array]:
        """Normal elements, three times the unit so that saturations are met."""
        fed = {n: 3 * floats(*s, seed=i) for i, (n, s) in enumerate(zip("xyz", self.shapes, strict=False))}
        return {n: np.abs(a) + np.float32(0.1) for n, a in fed.items()} if self.positive else fed


def _case(name: str, shape: Any, *constants: Any, opset: int = 17, outputs: int = 1, **attrs: Any) -> Case:
    operator, _, _ = name.partition(" ")
    shapes = tuple(shape) if isinstance(shape[0], tuple) else (tuple(shape),)
    flags = {k: attrs.pop(k) for k in ("constants_first", "positive", "oracle") if k in attrs}
    return Case(name, operator, shapes, constants, attrs, opset, outputs, **flags)


def ints(*values: int) -> Array:
    """A list of int64."""
    return np.asarray(values, np.int64)


def _f(*values: float) -> Array:
    return np.asarray(values, np.float32)


IMAGE = (1, 4, 7, 9)
LINE = (1, 4, 11)

CONVOLUTIONS = [
    _case("Conv plain", IMAGE, floats(6, 4, 3, 3), floats(6)),
    _case("Conv strided and uneven", IMAGE, floats(6, 4, 3, 2), strides=[2, 3], pads=[1, 0, 2, 1]),
    _case("Conv dilated", IMAGE, floats(6, 4, 3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]),
    _case("Conv grouped", IMAGE, floats(6, 2, 3, 3), floats(6), group=2),
    _case("Conv depthwise", IMAGE, floats(4, 1, 3, 3), floats(4), group=4, pads=[1, 1, 1, 1]),
    _case("Conv depthwise with multiplier", IMAGE, floats(8, 1, 3, 3), group=4),
    _case("Conv same upper", IMAGE, floats(6, 4, 4, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    _case("Conv same lower", IMAGE, floats(6, 4, 4, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    _case("Conv one-dimensional", LINE, floats(6, 4, 3), floats(6), strides=[2], pads=[1, 2]),
    _case("Conv one-dimensional depthwise", LINE, floats(4, 1, 5), group=4, dilations=[2]),
    _case("Conv one-dimensional valid", LINE, floats(6, 4, 3), auto_pad="VALID"),
    _case("ConvTranspose plain", IMAGE, floats(4, 6, 3, 3), floats(6)),
    _case("ConvTranspose strided", IMAGE, floats(4, 6, 3, 3), strides=[2, 3], pads=[1, 0, 1, 2]),
    _case("ConvTranspose output padding", IMAGE, floats(4, 6, 3, 3), strides=[2, 2], output_padding=[1, 1]),
    _case("ConvTranspose grouped", IMAGE, floats(4, 3, 2, 2), group=2, strides=[2, 2]),
    _case("ConvTranspose depthwise", IMAGE, floats(4, 1, 3, 3), group=4, strides=[2, 2]),
    _case("ConvTranspose dilated", IMAGE, floats(4, 6, 3, 3), dilations=[2, 2]),
    _case(
        "ConvTranspose same upper",
        IMAGE,
        floats(4, 6, 3, 3),
        strides=[2, 2],
        auto_pad="SAME_UPPER",
        oracle="onnx",
    ),
    _case("ConvTranspose one-dimensional", LINE, floats(4, 6, 4), strides=[2], pads=[1, 1]),
]

POOLS = [
    _case("MaxPool plain", IMAGE, kernel_shape=[2, 3], strides=[2, 2]),
    _case("MaxPool padded", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    _case("MaxPool ceil", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    _case("MaxPool ceil with a gap", (1, 2, 4, 4), kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1),
    _case("MaxPool one-dimensional", LINE, kernel_shape=[3], strides=[2]),
    _case("AveragePool plain", IMAGE, kernel_shape=[2, 3], strides=[2, 1]),
    _case("AveragePool padded", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    _case("AveragePool counting", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    _case("AveragePool ceil", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    _case("AveragePool one-dimensional", LINE, kernel_shape=[4], strides=[4], auto_pad="SAME_UPPER"),
    _case("GlobalAveragePool 2-D", IMAGE),
    _case("GlobalAveragePool 1-D", LINE),
    _case("GlobalMaxPool 2-D", IMAGE),
    _case("LRN odd", IMAGE, size=3, alpha=0.1, beta=0.75, bias=2.0),
]

_UNARY = (
    "Relu Sigmoid Tanh HardSwish Exp Abs Neg Floor Ceil Sin Cos Selu Softplus Mish Softsign Identity "
    "Sign Tan Reciprocal Elu Celu LeakyRelu ThresholdedRelu HardSigmoid"
)
ELEMENTWISE = [
    *(_case(op, IMAGE, opset=18) for op in _UNARY.split()),
    _case("Log", IMAGE, positive=True),
    _case("Sqrt", IMAGE, positive=True),
    _case("Round", (1, 8), opset=13),
    _case("Gelu exact", IMAGE, opset=20),
    _case("Gelu by tanh", IMAGE, opset=20, approximate="tanh"),
    _case("Elu of alpha", IMAGE, alpha=0.3),
    _case("Celu of alpha", IMAGE, alpha=2.5),
    _case("LeakyRelu of alpha", IMAGE, alpha=0.3),
    _case("ThresholdedRelu of alpha", IMAGE, alpha=2.0),
    _case("HardSigmoid of alpha and beta", IMAGE, alpha=0.3, beta=0.4),
    _case("Shrink", IMAGE, lambd=1.5, bias=0.5),
    _case("PRelu per channel", IMAGE, floats(4, 1, 1)),
    _case("PRelu of one", IMAGE, _f(0.2)),
    _case("Clip to 0..6", IMAGE, _f(0.0)[0], _f(6.0)[0]),
    _case("Clip to -1..1", IMAGE, _f(-1.0)[0], _f(1.0)[0]),
    _case("Clip to odd bounds", IMAGE, _f(-0.5)[0], _f(1.7)[0]),
    _case("Clip without upper", IMAGE, _f(-0.5)[0]),
    _case("Clip without lower", IMAGE, None, _f(1.5)[0]),
    _case("Add of two", (IMAGE, IMAGE)),
    _case("Add of lower rank", IMAGE, floats(4, 1, 1)),
    _case("Sub from a constant", IMAGE, floats(1, 1, 9), constants_first=True),
    _case("Mul of two that broadcast", (IMAGE, (1, 4, 1, 1))),
    _case("Div by two", (IMAGE, IMAGE), positive=True),
    _case("Pow of 2", IMAGE, _f(2.0)[0]),
    _case("Pow of 0.5", IMAGE, _f(0.5)[0], positive=True),
    _case("Pow of 1.7", IMAGE, _f(1.7)[0], positive=True),
    _case("Pow of integers", IMAGE, ints(3)[0]),
    _case("Max of three", (IMAGE, IMAGE, IMAGE)),
    _case("Min of two", (IMAGE, IMAGE)),
    _case("Sum of three", (IMAGE, IMAGE, IMAGE)),
    _case("Mean of three", (IMAGE, IMAGE, IMAGE)),
    _case("Max with a lower limit that never wins", (IMAGE, IMAGE), _f(-np.inf)[0]),
    _case("Where constant", (IMAGE, IMAGE), rng().random((7, 9)) > 0.5, constants_first=True),
]

MATRICES = [
    _case("Gemm", (1, 6), floats(6, 5), floats(5)),
    _case("Gemm transposed and scaled", (1, 6), floats(5, 6), floats(1, 5), transB=1, alpha=0.5, beta=2.0),
    _case("Gemm of a scalar term", (1, 6), floats(6, 5), _f(0.5)),
    _case("Gemm without term", (1, 6), floats(6, 5)),
    _case("MatMul by a constant", (1, 3, 6), floats(6, 5)),
    _case("MatMul of a constant", (1, 6, 3), floats(5, 6), constants_first=True),
    _case("MatMul by a constant stack", (1, 2, 3, 6), floats(1, 2, 6, 5)),
    _case("MatMul of two", ((1, 3, 6), (1, 6, 4))),
    _case("MatMul by a vector", (1, 3, 6), floats(6)),
    _case("Einsum attention scores", ((1, 2, 3, 5), (1, 2, 4, 5)), equation="bhqd,bhkd->bhqk"),
    _case("Einsum head mixing", ((1, 3, 2, 5), (1, 4, 2, 5)), equation="bqhd,bkhd->bhqk"),
]

NORMALISATIONS = [
    _case("BatchNormalization", IMAGE, floats(4), floats(4), floats(4), np.abs(floats(4)) + 1),
    _case("InstanceNormalization", IMAGE, floats(4), floats(4), epsilon=1e-3),
    _case("LayerNormalization last", (1, 5, 8), floats(8), floats(8)),
    _case("LayerNormalization of three axes", IMAGE, floats(4, 7, 9), axis=1),
    _case("GroupNormalization per channel", IMAGE, floats(4), floats(4), num_groups=2, opset=21),
    _case("LpNormalization 2", IMAGE, axis=1, p=2),
    _case("LpNormalization 1", IMAGE, axis=2, p=1),
]

REDUCTIONS = [
    *(
        _case(f"{op} {'kept' if keep else 'dropped'}", IMAGE, axes=[1, -1], keepdims=keep, opset=12)
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
        for keep in (0, 1)
    ),
    _case("ReduceProd", IMAGE, axes=[3]),
    _case("ReduceSumSquare", IMAGE, axes=[2]),
    _case("ReduceLogSum", IMAGE, axes=[2], positive=True, oracle="onnx"),
    _case("ReduceLogSumExp", IMAGE, axes=[1, 2], keepdims=0, oracle="onnx"),
    _case("ReduceMean by an input", IMAGE, ints(2, 3), opset=18),
    _case("ReduceSum of nothing", IMAGE, noop_with_empty_axes=1),
    _case("ArgMax kept", IMAGE, axis=1),
    _case("ArgMax dropped", IMAGE, axis=-1, keepdims=0),
    _case("ArgMin", IMAGE, axis=2),
    _case("Softmax last", (1, 10)),
    _case("Softmax of channels", IMAGE, axis=1),
    _case("Softmax of old opset by default", (1, 10), opset=11),
    _case("LogSoftmax of channels", IMAGE, axis=1),
]

MOVES = [
    _case("Reshape", IMAGE, ints(0, -1, 3)),
    _case("Flatten", IMAGE),
    _case("Flatten at 2", IMAGE, axis=2),
    _case("Squeeze", (1, 4, 1, 9), ints(2)),
    _case("Squeeze of old opset", (1, 4, 1, 9), axes=[2], opset=11),
    _case("Unsqueeze", LINE, ints(1, -1)),
    _case("Transpose", IMAGE, perm=[0, 3, 1, 2]),
    _case("Concat", (IMAGE, (1, 4, 7, 2)), axis=-1),
    _case("Concat with a constant", IMAGE, floats(1, 3, 7, 9), axis=1),
    _case("Split", IMAGE, ints(1, 3), axis=1, outputs=2),
    _case("Split evenly", IMAGE, axis=1, outputs=2, opset=11),
    _case("Slice", IMAGE, ints(1, -5), ints(100, -1), ints(1, 3)),
    _case("Slice by steps", IMAGE, ints(0), ints(9), ints(3), ints(2)),
    _case("Slice backwards", IMAGE, ints(-1), ints(-100), ints(2), ints(-2)),
    _case("Gather", IMAGE, ints(3, 0, -1), axis=1),
    _case("Gather of one", IMAGE, np.asarray(2, np.int64), axis=2),
    _case("Gather of a square", IMAGE, ints(0, 1, 1, 2).reshape(2, 2), axis=1),
    _case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0), _f(1.5)[0]),
    _case("Pad that cuts", IMAGE, ints(0, 0, -1, 2, 0, 0, 3, -2)),
    _case("Pad reflect", IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0), mode="reflect"),
    _case("Pad edge", IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0), mode="edge"),
    _case("Expand", (1, 4, 1, 9), ints(1, 4, 7, 1)),
    _case("Tile", IMAGE, ints(1, 2, 1, 3)),
    _case("DepthToSpace DCR", (1, 8, 3, 5), blocksize=2, mode="DCR"),
    _case("DepthToSpace CRD", (1, 8, 3, 5), blocksize=2, mode="CRD"),
    _case("SpaceToDepth", (1, 3, 4, 6), blocksize=2),
    _case("Dropout", IMAGE, oracle="onnx"),
]

RESIZES = [
    # with scales that leave a fraction of a pixel OpenVINO maps coordinates in its own way
    _case(
        f"Resize {mode} {how} {by}",
        IMAGE,
        None,
        _f(*scales),
        mode=mode,
        coordinate_transformation_mode=how,
        nearest_mode=rounding,
        oracle="onnx" if by == "unevenly" else "openvino",
    )
    for mode, how, rounding, by, scales in [
        ("nearest", "asymmetric", "floor", "twice", (1, 1, 2, 2)),
        ("nearest", "asymmetric", "ceil", "thrice", (1, 1, 3, 3)),
        ("nearest", "half_pixel", "round_prefer_floor", "twice", (1, 1, 2, 2)),
        ("nearest", "half_pixel", "round_prefer_ceil", "half", (1, 1, 0.5, 0.5)),
        ("nearest", "half_pixel", "round_prefer_floor", "unevenly", (1, 1, 1.3, 0.7)),
        ("linear", "half_pixel", "floor", "twice", (1, 1, 2, 2)),
        ("linear", "pytorch_half_pixel", "floor", "thrice", (1, 1, 3, 3)),
        ("linear", "asymmetric", "floor", "twice", (1, 1, 2, 2)),
        ("linear", "align_corners", "floor", "twice", (1, 1, 2, 2)),
    ]
] + [
    _case("Resize to sizes", IMAGE, None, None, ints(1, 4, 10, 5), mode="linear"),
    _case("Resize nearest to sizes", IMAGE, None, None, ints(1, 4, 10, 5), mode="nearest"),
    _case("Resize one-dimensional", LINE, None, _f(1, 1, 2), mode="linear"),
]

LAYERS = [
    _case(
        f"{kind} {direction}{' with state' if state else ''}",
        (5, 2, 3),
        floats(2 if direction == "bidirectional" else 1, gates * 4, 3),
        floats(2 if direction == "bidirectional" else 1, gates * 4, 4, seed=1),
        *((floats(2 if direction == "bidirectional" else 1, gates * 8, seed=2),) if state else ()),
        *((None, *(floats(1, 2, 4, seed=3 + i) for i in range(states))) if state else ()),
        hidden_size=4,
        direction=direction,
        outputs=1 + states,
        **({"linear_before_reset": 1} if kind == "GRU" and state else {}),
    )
    for kind, gates, states in (("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1))
    for direction, state in (
        ("forward", True), ("forward", False), ("reverse", False), ("bidirectional", False)
    )
] + [
    # one step from a state is what streaming models do
    _case("GRU plain with a state", (1, 1, 3), floats(1, 12, 3), floats(1, 12, 4, seed=1), None, None,
          floats(1, 1, 4, seed=2), hidden_size=4, outputs=2),
    _case("LSTM of other functions", (2, 1, 3), floats(1, 16, 3), floats(1, 16, 4, seed=1), hidden_size=4,
          activations=["Sigmoid", "Relu", "Relu"], outputs=3),
]  # fmt: skip

CASES = [
    *CONVOLUTIONS, *POOLS, *ELEMENTWISE, *MATRICES, *NORMALISATIONS, *REDUCTIONS, *MOVES, *RESIZES, *LAYERS
]  # fmt: skip
