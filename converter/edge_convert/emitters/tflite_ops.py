"""How each operator of the graph is said in TensorFlow Lite: a table from `Op` to a writer.

Most are one built-in operator. The rest are said exactly by several: padding that is neither SAME
nor VALID, averages that leave padding out, transposed convolutions with any pads, fused activations
that the older runtimes do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_convert.emitters import tflite_split
from edge_convert.emitters.tflite_lowering import Form, Lowering
from edge_convert.emitters.tflite_padding import NO_PADS, Pads, same_pads, window_fractions
from edge_convert.graph import Array, Node, Op
from edge_convert.quantizing.quantization import QuantParams

_ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}
_ACTIVATION_CODES = {"relu": "RELU", "relu6": "RELU6", "relu_n1_to_1": "RELU_N1_TO_1"}
_INT8_LOWEST = -128


@dataclass(frozen=True)
class Step:
    """One node on its way into the file.

    Args:
        form: How its activations are written.
    """

    lowering: Lowering
    node: Node
    form: Form

    def attr(self, name: str) -> Any:
        """An attribute of the node."""
        return self.node.attrs[name]

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """Shape of an input."""
        return self.lowering.graph.tensor(self.node.inputs[position]).shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.lowering.graph.tensor(self.node.output).shape

    def source(self, position: int = 0) -> int:
        """The tensor of an input, in this step's form."""
        return self.lowering.operand(self.node.inputs[position], self.form)

    def sources(self) -> list[int]:
        """The tensors of all inputs."""
        return [self.source(i) for i in range(len(self.node.inputs))]

    def target(self) -> int:
        """Declare the output; call it when every input has been asked for."""
        return self.lowering.result(self.node.output, self.form)

    def input_params(self) -> QuantParams | None:
        """Parameters of the first input."""
        return self.lowering.params(self.node.inputs[0])

    def output_params(self) -> QuantParams | None:
        """Parameters of the output."""
        return self.lowering.params(self.node.output)

    def indices(self, what: str, values: Any) -> int:
        """An int32 constant of this node: axes, a shape, paddings."""
        return self.lowering.values(f"{self.node.name}/{what}", np.asarray(values, np.int32))

    def temporary(self, what: str, shape: Sequence[int], params: QuantParams | None) -> int:
        """A tensor between two operators of this node."""
        return self.lowering.temporary(f"{self.node.name}/{what}", shape, self.form, params)

    def number(self, what: str, data: Array, params: QuantParams | None) -> int:
        """A constant of this node in its form: float, or the codes of `data` under `params`."""
        name = f"{self.node.name}/{what}"
        if self.form is Form.FLOAT:
            return self.lowering.values(name, data.astype(np.float32))
        assert params is not None
        codes = np.rint(data / params.scale) + params.zero_point
        return self.lowering.writer.tensor(
            name, data.shape, "int8", np.clip(codes, -128, 127).astype(np.int8), params
        )

    def write(self, code: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        """Write one operator with one output."""
        self.lowering.operator(code, inputs, [output], options)


Writer = Callable[[Step], None]


def _plain(code: str, options: str | None = None) -> Writer:
    """A built-in operator with the same inputs and no attributes."""

    def write(step: Step) -> None:
        made = None if options is None else getattr(schema, f"{options}T")()
        step.write(code, step.sources(), step.target(), made)

    return write


def _split(writer: Callable[[Step], bool], otherwise: Writer) -> Writer:
    """Several operators where that is faster, else the one."""

    def write(step: Step) -> None:
        if not writer(step):
            otherwise(step)

    return write


def _elementwise(code: str, options: str) -> Writer:
    """A binary operator with a fused activation."""

    def write(step: Step) -> None:
        made = getattr(schema, f"{options}T")()
        made.fusedActivationFunction = _ACTIVATIONS[step.attr("activation")]
        step.write(code, step.sources(), step.target(), made)

    return write


def _window(options: Any, strides: tuple[int, int], padding: int) -> Any:
    options.strideH, options.strideW = strides
    options.padding = padding
    return options


def _padded(step: Step, source: int, pads: Pads, lowest: bool = False) -> int:
    """The image input with explicit pads around it: zeros, or the lowest value (for a maximum)."""
    n, h, w, c = step.shape()
    top, bottom, left, right = pads
    params = step.input_params()
    target = step.temporary("padded", (n, h + top + bottom, w + left + right, c), params)
    paddings = step.indices("pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    # int8: the code of real 0 is the lowest one after a ReLU, and PAD runs where PADV2 does not (Edge TPU)
    zero_is_lowest = step.form is Form.INT8 and params is not None and int(params.zero_point) == _INT8_LOWEST
    if not lowest or zero_is_lowest:
        step.write("PAD", [source, paddings], target, schema.PadOptionsT())
        return target
    if params is None or step.form is Form.FLOAT:
        value = np.full((1,), np.finfo(np.float32).min, np.float32)
    else:
        value = (_INT8_LOWEST - params.zero_point.reshape(1)) * params.scale
    fill = step.number("lowest", value, params)
    step.write("PADV2", [source, paddings, fill], target, schema.PadV2OptionsT())
    return target


def _same_or_padded(
    step: Step, kernel: tuple[int, int], dilations: tuple[int, int], lowest: bool = False
) -> tuple[int, int]:
    """The image input and the padding type that together say the node's pads."""
    source, pads = step.source(), step.attr("pads")
    if pads == NO_PADS:
        return source, schema.Padding.VALID
    _, h, w, _ = step.shape()
    if pads == same_pads((h, w), kernel, step.attr("strides"), dilations):
        return source, schema.Padding.SAME
    return _padded(step, source, pads, lowest), schema.Padding.VALID


def _convolution(step: Step, code: str, options: Any) -> None:
    _, kernel_h, kernel_w, _ = step.shape(1)
    dilations = step.attr("dilations")
    source, padding = _same_or_padded(step, (kernel_h, kernel_w), dilations)
    _window(options, step.attr("strides"), padding)
    options.dilationHFactor, options.dilationWFactor = dilations
    options.fusedActivationFunction = _ACTIVATIONS[step.attr("activation")]
    inputs = [source, step.source(1), step.lowering.bias(step.node, step.form)]
    step.write(code, inputs, step.target(), options)


def _conv2d(step: Step) -> None:
    _convolution(step, "CONV_2D", schema.Conv2DOptionsT())


def _depthwise_conv2d(step: Step) -> None:
    options = schema.DepthwiseConv2DOptionsT()
    options.depthMultiplier = step.shape(1)[3] // step.shape()[3]
    _convolution(step, "DEPTHWISE_CONV_2D", options)


def _transpose_conv2d(step: Step) -> None:
    """Write the full result, cut the pads off, then the activation: versions above 3 are too new."""
    _, kernel_h, kernel_w, _ = step.shape(1)
    stride_h, stride_w = step.attr("strides")
    n, out_h, out_w, channels = step.attr("output_shape")
    _, in_h, in_w, _ = step.shape()
    pads = step.attr("pads")
    inputs = [step.source(1), step.source(), step.lowering.bias(step.node, step.form)]

    same = same_pads((out_h, out_w), (kernel_h, kernel_w), (stride_h, stride_w))
    fits_same = (in_h, in_w) == (-(-out_h // stride_h), -(-out_w // stride_w))
    if pads == same and fits_same:
        padding, full_h, full_w = schema.Padding.SAME, out_h, out_w
    else:
        padding = schema.Padding.VALID
        full_h = max((in_h - 1) * stride_h + kernel_h, pads[0] + out_h)
        full_w = max((in_w - 1) * stride_w + kernel_w, pads[2] + out_w)
    options = _window(schema.TransposeConvOptionsT(), step.attr("strides"), padding)
    stages: list[tuple[str, list[int], Any, tuple[int, ...]]] = []
    if (full_h, full_w) != (out_h, out_w):
        cut = [step.indices("begin", [0, pads[0], pads[2], 0]), step.indices("size", step.output_shape)]
        stages.append(("SLICE", cut, schema.SliceOptionsT(), step.output_shape))
    if step.attr("activation") != "none":
        stages.append((_ACTIVATION_CODES[step.attr("activation")], [], None, step.output_shape))
    full_shape = (n, full_h, full_w, channels)
    current = step.temporary("full", full_shape, step.output_params()) if stages else step.target()
    shape = step.indices("output_shape", full_shape)
    step.write("TRANSPOSE_CONV", [shape, *inputs], current, options)
    for position, (code, extra, stage_options, stage_shape) in enumerate(stages):
        last = position == len(stages) - 1
        target = step.target() if last else step.temporary("cut", stage_shape, step.output_params())
        step.write(code, [current, *extra], target, stage_options)
        current = target


def _dense(step: Step) -> None:
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = _ACTIVATIONS[step.attr("activation")]
    options.keepNumDims = len(step.shape()) > 2
    inputs = [step.source(), step.source(1), step.lowering.bias(step.node, step.form)]
    if len(step.shape()) > 1:
        step.write("FULLY_CONNECTED", inputs, step.target(), options)
        return
    # the kernel always gives at least two axes
    row = step.temporary("row", (1, *step.output_shape), step.output_params())
    step.write("FULLY_CONNECTED", inputs, row, options)
    _reshape_to(step, row, step.output_shape)


def _reshape_to(step: Step, source: int, shape: Sequence[int]) -> None:
    options = schema.ReshapeOptionsT()
    options.newShape = np.array(shape, np.int32)
    step.write("RESHAPE", [source, step.indices("shape", shape)], step.target(), options)


def _matmul(step: Step) -> None:
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = bool(step.attr("transpose_a")), bool(step.attr("transpose_b"))
    step.write("BATCH_MATMUL", step.sources(), step.target(), options)


def _pool_options(step: Step, padding: int) -> Any:
    options = _window(schema.Pool2DOptionsT(), step.attr("strides"), padding)
    options.filterHeight, options.filterWidth = step.attr("kernel")
    return options


def _max_pool2d(step: Step) -> None:
    source, padding = _same_or_padded(step, step.attr("kernel"), (1, 1), lowest=True)
    step.write("MAX_POOL_2D", [source], step.target(), _pool_options(step, padding))


def _average_pool2d(step: Step) -> None:
    """SAME leaves padding out of the average; zeros around and VALID count it in.

    Pads that are neither, left out of the average, are counted in and then multiplied away.
    """
    pads, kernel, strides = step.attr("pads"), step.attr("kernel"), step.attr("strides")
    if pads != NO_PADS and step.attr("count_include_pad"):
        source, padding = _padded(step, step.source(), pads), schema.Padding.VALID
        step.write("AVERAGE_POOL_2D", [source], step.target(), _pool_options(step, padding))
        return
    source, padding = _same_or_padded(step, kernel, (1, 1))
    if pads == NO_PADS or padding == schema.Padding.SAME:
        step.write("AVERAGE_POOL_2D", [source], step.target(), _pool_options(step, padding))
        return
    _, h, w, _ = step.shape()
    factors = window_fractions((h, w), kernel, strides, pads)
    scale = np.float32(factors.max() / 127)
    counted = step.temporary("counted", step.output_shape, step.input_params())
    step.write("AVERAGE_POOL_2D", [source], counted, _pool_options(step, padding))
    factor = step.number("factor", factors, QuantParams(np.asarray(scale), np.zeros((), np.int32)))
    step.write("MUL", [counted, factor], step.target(), schema.MulOptionsT())


def _leaky_relu(step: Step) -> None:
    options = schema.LeakyReluOptionsT()
    options.alpha = float(step.attr("alpha"))
    step.write("LEAKY_RELU", step.sources(), step.target(), options)


def _elu(step: Step) -> None:
    """The built-in has slope 1; another one is max(x, 0) + slope * elu(min(x, 0)), in float."""
    alpha = float(step.attr("alpha"))
    source = step.source()
    if alpha == 1.0:
        step.write("ELU", [source], step.target())
        return
    shape = step.output_shape
    below, bent, scaled, above = (
        step.temporary(part, shape, None) for part in ("below", "bent", "scaled", "above")
    )
    zero = step.number("zero", np.zeros((), np.float32), None)
    slope = step.number("slope", np.asarray(alpha, np.float32), None)
    step.write("MINIMUM", [source, zero], below, schema.MaximumMinimumOptionsT())
    step.write("ELU", [below], bent)
    step.write("MUL", [bent, slope], scaled, schema.MulOptionsT())
    step.write("RELU", [source], above)
    step.write("ADD", [above, scaled], step.target(), schema.AddOptionsT())


def _gelu(step: Step) -> None:
    options = schema.GeluOptionsT()
    options.approximate = bool(step.attr("approximate"))
    step.write("GELU", step.sources(), step.target(), options)


def _softmax(step: Step) -> None:
    options = schema.SoftmaxOptionsT()
    options.beta = float(step.attr("beta"))
    step.write("SOFTMAX", step.sources(), step.target(), options)


def _reshape(step: Step) -> None:
    _reshape_to(step, step.source(), step.attr("shape"))


def _transpose(step: Step) -> None:
    inputs = [step.source(), step.indices("perm", step.attr("perm"))]
    step.write("TRANSPOSE", inputs, step.target(), schema.TransposeOptionsT())


def _pad(step: Step) -> None:
    inputs = [step.source(), step.indices("paddings", step.attr("paddings"))]
    value = float(step.attr("value"))
    if value == 0.0:
        step.write("PAD", inputs, step.target(), schema.PadOptionsT())
        return
    fill = step.number("value", np.full((1,), value, np.float32), step.output_params())
    step.write("PADV2", [*inputs, fill], step.target(), schema.PadV2OptionsT())


def _mirror_pad(step: Step) -> None:
    options = schema.MirrorPadOptionsT()
    options.mode = {"reflect": schema.MirrorPadMode.REFLECT, "symmetric": schema.MirrorPadMode.SYMMETRIC}[
        step.attr("mode")
    ]
    inputs = [step.source(), step.indices("paddings", step.attr("paddings"))]
    step.write("MIRROR_PAD", inputs, step.target(), options)


def _concat(step: Step) -> None:
    options = schema.ConcatenationOptionsT()
    options.axis = int(step.attr("axis"))
    step.write("CONCATENATION", step.sources(), step.target(), options)


def _slice(step: Step) -> None:
    begin, end, strides = step.attr("begin"), step.attr("end"), step.attr("strides")
    if all(s == 1 for s in strides):
        inputs = [step.source(), step.indices("begin", begin), step.indices("size", step.output_shape)]
        step.write("SLICE", inputs, step.target(), schema.SliceOptionsT())
        return
    options = schema.StridedSliceOptionsT()
    # a negative end would be counted from the back; walking down past element 0 has no index
    options.endMask = sum(
        1 << axis for axis, (e, s) in enumerate(zip(end, strides, strict=True)) if s < 0 > e
    )
    inputs = [
        step.source(),
        step.indices("begin", begin),
        step.indices("end", end),
        step.indices("strides", strides),
    ]
    step.write("STRIDED_SLICE", inputs, step.target(), options)


def _gather(step: Step) -> None:
    options = schema.GatherOptionsT()
    options.axis = int(step.attr("axis"))
    step.write("GATHER", step.sources(), step.target(), options)


def _tile(step: Step) -> None:
    inputs = [step.source(), step.indices("multiples", step.attr("multiples"))]
    step.write("TILE", inputs, step.target(), schema.TileOptionsT())


def _broadcast_to(step: Step) -> None:
    inputs = [step.source(), step.indices("shape", step.attr("shape"))]
    step.write("BROADCAST_TO", inputs, step.target(), schema.BroadcastToOptionsT())


def _resize(code: str, options: str) -> Writer:
    def write(step: Step) -> None:
        made = getattr(schema, f"{options}T")()
        made.alignCorners = bool(step.attr("align_corners"))
        made.halfPixelCenters = bool(step.attr("half_pixel_centers"))
        step.write(code, [step.source(), step.indices("size", step.attr("size"))], step.target(), made)

    return write


def _block(code: str, options: str) -> Writer:
    def write(step: Step) -> None:
        made = getattr(schema, f"{options}T")()
        made.blockSize = int(step.attr("block"))
        step.write(code, step.sources(), step.target(), made)

    return write


def _reduction(code: str) -> Writer:
    def write(step: Step) -> None:
        options = schema.ReducerOptionsT()
        options.keepDims = bool(step.attr("keepdims"))
        step.write(code, [step.source(), step.indices("axes", step.attr("axes"))], step.target(), options)

    return write


def _arg_max(step: Step) -> None:
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT64
    axis = step.indices("axis", step.attr("axis"))
    step.write("ARG_MAX", [step.source(), axis], step.target(), options)


def _cast(step: Step) -> None:
    options = schema.CastOptionsT()
    source = step.lowering.graph.tensor(step.node.inputs[0])
    options.inDataType = getattr(schema.TensorType, source.dtype.upper())
    options.outDataType = getattr(schema.TensorType, step.attr("dtype").upper())
    step.write("CAST", step.sources(), step.target(), options)


WRITERS: dict[Op, Writer] = {
    Op.CONV2D: _conv2d,
    Op.DEPTHWISE_CONV2D: _depthwise_conv2d,
    Op.TRANSPOSE_CONV2D: _transpose_conv2d,
    Op.DENSE: _dense,
    Op.MATMUL: _matmul,
    Op.AVERAGE_POOL2D: _average_pool2d,
    Op.MAX_POOL2D: _max_pool2d,
    Op.ADD: _elementwise("ADD", "AddOptions"),
    Op.SUB: _elementwise("SUB", "SubOptions"),
    Op.MUL: _elementwise("MUL", "MulOptions"),
    Op.DIV: _elementwise("DIV", "DivOptions"),
    Op.MINIMUM: _plain("MINIMUM", "MaximumMinimumOptions"),
    Op.MAXIMUM: _plain("MAXIMUM", "MaximumMinimumOptions"),
    Op.POW: _plain("POW", "PowOptions"),
    Op.RELU: _split(lambda step: tflite_split.relu(step, None), _plain("RELU")),
    Op.RELU6: _split(lambda step: tflite_split.relu(step, 6.0), _plain("RELU6")),
    Op.RELU_N1_TO_1: _plain("RELU_N1_TO_1"),
    Op.LEAKY_RELU: _leaky_relu,
    Op.PRELU: _split(tflite_split.prelu, _plain("PRELU")),
    Op.ELU: _elu,
    Op.SIGMOID: _plain("LOGISTIC"),
    Op.TANH: _plain("TANH"),
    Op.HARD_SWISH: _split(tflite_split.hard_swish, _plain("HARD_SWISH", "HardSwishOptions")),
    Op.GELU: _gelu,
    Op.SOFTMAX: _softmax,
    Op.LOG_SOFTMAX: _plain("LOG_SOFTMAX", "LogSoftmaxOptions"),
    Op.EXP: _plain("EXP", "ExpOptions"),
    Op.LOG: _plain("LOG"),
    Op.SQRT: _plain("SQRT"),
    Op.RSQRT: _plain("RSQRT"),
    Op.ABS: _plain("ABS", "AbsOptions"),
    Op.NEG: _plain("NEG", "NegOptions"),
    Op.FLOOR: _plain("FLOOR"),
    Op.CEIL: _plain("CEIL"),
    Op.ROUND: _plain("ROUND"),
    Op.SIN: _plain("SIN"),
    Op.COS: _plain("COS", "CosOptions"),
    Op.RESHAPE: _reshape,
    Op.TRANSPOSE: _transpose,
    Op.PAD: _pad,
    Op.MIRROR_PAD: _mirror_pad,
    Op.CONCAT: _concat,
    Op.SLICE: _slice,
    Op.GATHER: _gather,
    Op.TILE: _tile,
    Op.BROADCAST_TO: _broadcast_to,
    Op.RESIZE_BILINEAR: _resize("RESIZE_BILINEAR", "ResizeBilinearOptions"),
    Op.RESIZE_NEAREST: _resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
    Op.SPACE_TO_DEPTH: _block("SPACE_TO_DEPTH", "SpaceToDepthOptions"),
    Op.DEPTH_TO_SPACE: _block("DEPTH_TO_SPACE", "DepthToSpaceOptions"),
    Op.MEAN: _reduction("MEAN"),
    Op.SUM: _reduction("SUM"),
    Op.REDUCE_MAX: _reduction("REDUCE_MAX"),
    Op.REDUCE_MIN: _reduction("REDUCE_MIN"),
    Op.REDUCE_PROD: _reduction("REDUCE_PROD"),
    Op.ARG_MAX: _arg_max,
    Op.L2_NORMALIZE: _plain("L2_NORMALIZATION", "L2NormOptions"),
    Op.CAST: _cast,
    Op.EQUAL: _plain("EQUAL", "EqualOptions"),
    Op.NOT_EQUAL: _plain("NOT_EQUAL", "NotEqualOptions"),
    Op.GREATER: _plain("GREATER", "GreaterOptions"),
    Op.GREATER_EQUAL: _plain("GREATER_EQUAL", "GreaterEqualOptions"),
    Op.LESS: _plain("LESS", "LessOptions"),
    Op.LESS_EQUAL: _plain("LESS_EQUAL", "LessEqualOptions"),
    Op.LOGICAL_AND: _plain("LOGICAL_AND", "LogicalAndOptions"),
    Op.LOGICAL_OR: _plain("LOGICAL_OR", "LogicalOrOptions"),
    Op.LOGICAL_NOT: _plain("LOGICAL_NOT", "LogicalNotOptions"),
    Op.SELECT: _plain("SELECT_V2", "SelectV2Options"),
}
