"""How each operator of the graph is said in OpenVINO: a table from `Op` to a writer.

Padding is always written as numbers: NPU compilers refuse SAME on strided convolutions (measured).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino.opset1 as opset1
import openvino.opset13 as ops

from edge_convert.emitters.openvino_lowering import TO_NHWC, Form, Lowering, Value, moved, number
from edge_convert.graph import Array, Node, Op

_NHWC_TO_NCHW_AXIS = (0, 2, 3, 1)  # where axis i of NHWC stands in NCHW
_NORM_FLOOR = 1e-12  # the square of the floor that TensorFlow Lite's kernel puts under the norm
_BACKWARDS_PAST_ZERO = -(2**31)  # an end that a negative step reaches after element 0


@dataclass(frozen=True)
class Step:
    """One node on its way into the model.

    Args:
        form: In which its operands are read and its result is given.
    """

    lowering: Lowering
    node: Node
    form: Form

    def attr(self, name: str) -> Any:
        """An attribute of the node."""
        return self.node.attrs[name]

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """Shape of an input, in the graph's order."""
        return self.lowering.graph.tensor(self.node.inputs[position]).shape

    def source(self, position: int = 0) -> Value:
        """The value of an input, in this step's form."""
        return self.lowering.operand(self.node.inputs[position], self.form)

    def sources(self) -> list[Value]:
        """The values of all inputs."""
        return [self.source(i) for i in range(len(self.node.inputs))]

    def axis(self, axis: int) -> int:
        """Where an axis of the graph's order stands in this form."""
        return _NHWC_TO_NCHW_AXIS[axis] if self.form is Form.NCHW else axis

    def per_axis(self, values: Sequence[Any]) -> list[Any]:
        """One entry for each axis, put into this form's order."""
        return [values[i] for i in (0, 3, 1, 2)] if self.form is Form.NCHW else list(values)

    def integers(self, what: str, values: Any) -> Value:
        """An int64 constant of this node: axes, a shape, paddings."""
        return number(np.asarray(values, np.int64), f"{self.node.name}/{what}")

    def scalar(self, what: str, value: float) -> Value:
        """A float32 constant of this node."""
        return number(np.asarray(value, np.float32), f"{self.node.name}/{what}")

    def done(self, made: Any) -> None:
        """Give the node's result: an operator, or a value that stands already."""
        value = made if hasattr(made, "get_node") else made.output(0)
        self.lowering.result(self.node.output, self.form, value)


Writer = Callable[[Step], None]


# --- convolutions, dense, pools ------------------------------------------------------------------


def _activated(step: Step, value: Any) -> Any:
    name = f"{step.node.name}/activation"
    return {
        "none": lambda: value,
        "relu": lambda: ops.relu(value, name=name),
        "relu6": lambda: ops.clamp(value, 0.0, 6.0, name=name),
        "relu_n1_to_1": lambda: ops.clamp(value, -1.0, 1.0, name=name),
    }[step.attr("activation")]()


def _finished(step: Step, value: Any, bias_shape: Sequence[int]) -> None:
    bias = step.lowering.bias(step.node, bias_shape)
    if bias is not None:
        value = ops.add(value, bias, name=f"{step.node.name}/biased")
    step.done(_activated(step, value))


def _pads(step: Step) -> tuple[list[int], list[int]]:
    """Pads before and after, (height, width) each."""
    top, bottom, left, right = step.attr("pads")
    return [top, left], [bottom, right]


def _conv2d(step: Step) -> None:
    groups, channels = step.attr("groups"), step.shape(1)[0]
    make, arrange = ops.convolution, lambda w: w.transpose(0, 3, 1, 2)
    if groups > 1:
        make = ops.group_convolution
        arrange = lambda w: w.reshape(groups, channels // groups, *w.shape[1:]).transpose(0, 1, 4, 2, 3)  # noqa: E731
    _convolved(step, make, arrange, channels)


def _depthwise_conv2d(step: Step) -> None:
    source, channels = step.shape()[3], step.shape(1)[3]

    def arrange(weights: Array) -> Array:
        split = weights.reshape(*weights.shape[1:3], source, channels // source)
        return split.transpose(2, 3, 0, 1)[:, :, None]

    _convolved(step, ops.group_convolution, arrange, channels)


def _convolved(step: Step, make: Any, arrange: Callable[[Array], Array], channels: int) -> None:
    before, after = _pads(step)
    weights = step.lowering.weights(step.node, arrange)
    strides, dilations = list(step.attr("strides")), list(step.attr("dilations"))
    value = make(step.source(), weights, strides, before, after, dilations, "explicit", name=step.node.name)
    _finished(step, value, (1, channels, 1, 1))


def _transpose_conv2d(step: Step) -> None:
    """The full result is (in - 1) * stride + kernel wide; pads cut it, output padding widens it."""
    channels, *kernel, _ = step.shape(1)
    _, *size, _ = step.shape()
    _, *wanted, _ = step.attr("output_shape")
    strides, (before, _after) = list(step.attr("strides")), _pads(step)
    left = [(n - 1) * s + k - b for n, s, k, b in zip(size, strides, kernel, before, strict=True)]
    after = [max(have - want, 0) for have, want in zip(left, wanted, strict=True)]
    extra = [max(want - have, 0) for have, want in zip(left, wanted, strict=True)]
    value = ops.convolution_backprop_data(
        step.source(),
        step.lowering.weights(step.node, lambda w: w.transpose(3, 0, 1, 2)),
        strides,
        pads_begin=before,
        pads_end=after,
        dilations=[1, 1],
        auto_pad="explicit",
        output_padding=extra,
        name=step.node.name,
    )
    _finished(step, value, (1, channels, 1, 1))


def _dense(step: Step) -> None:
    weights = step.lowering.weights(step.node, lambda w: w)
    value = ops.matmul(step.source(), weights, False, True, name=step.node.name)
    _finished(step, value, (-1,))


def _matmul(step: Step) -> None:
    flags = bool(step.attr("transpose_a")), bool(step.attr("transpose_b"))
    step.done(ops.matmul(*step.sources(), *flags, name=step.node.name))


def _average_pool2d(step: Step) -> None:
    before, after = _pads(step)
    strides, kernel = list(step.attr("strides")), list(step.attr("kernel"))
    exclude = not step.attr("count_include_pad")
    step.done(
        ops.avg_pool(
            step.source(), strides, before, after, kernel, exclude, "floor", "explicit", name=step.node.name
        )
    )


def _max_pool2d(step: Step) -> None:
    before, after = _pads(step)
    strides, kernel = list(step.attr("strides")), list(step.attr("kernel"))
    # opset 1: the later ones also give indices, which no compiler of a small device wants
    step.done(
        opset1.max_pool(
            step.source(), strides, before, after, kernel, "floor", "explicit", name=step.node.name
        )
    )


# --- element-wise --------------------------------------------------------------------------------


def _unary(make: Any, *arguments: Any) -> Writer:
    return lambda step: step.done(make(step.source(), *arguments, name=step.node.name))


def _binary(make: Any) -> Writer:
    def write(step: Step) -> None:
        value = make(*step.sources(), name=step.node.name)
        step.done(_activated(step, value) if "activation" in step.node.attrs else value)

    return write


def _divide(step: Step) -> None:
    value = ops.divide(*step.sources(), name=step.node.name)
    value.set_attribute("m_pythondiv", False)  # integers are divided towards zero, as C does
    step.done(_activated(step, value))


def _leaky_relu(step: Step) -> None:
    step.done(ops.prelu(step.source(), step.scalar("alpha", step.attr("alpha")), name=step.node.name))


def _prelu(step: Step) -> None:
    """A slope of one axis would mean the channels of NCHW; with all axes it means what it says."""
    rank = len(step.shape())
    slope = step.lowering.graph.constant(step.node.inputs[1])
    slope = slope.reshape([1] * (rank - slope.ndim) + list(slope.shape))
    if step.form is Form.NCHW:
        slope = slope.transpose(0, 3, 1, 2)
    step.done(ops.prelu(step.source(), number(slope, step.node.inputs[1]), name=step.node.name))


def _elu(step: Step) -> None:
    step.done(ops.elu(step.source(), float(step.attr("alpha")), name=step.node.name))


def _gelu(step: Step) -> None:
    mode = "tanh" if step.attr("approximate") else "erf"
    step.done(ops.gelu(step.source(), mode, name=step.node.name))


def _rsqrt(step: Step) -> None:
    step.done(ops.power(step.source(), step.scalar("exponent", -0.5), name=step.node.name))


def _softmax(step: Step) -> None:
    value, beta = step.source(), float(step.attr("beta"))
    if beta != 1.0:
        value = ops.multiply(value, step.scalar("beta", beta), name=f"{step.node.name}/scaled")
    step.done(ops.softmax(value, step.axis(len(step.shape()) - 1), name=step.node.name))


def _log_softmax(step: Step) -> None:
    step.done(ops.log_softmax(step.source(), step.axis(len(step.shape()) - 1), name=step.node.name))


def _l2_normalize(step: Step) -> None:
    axes = step.integers("axes", [step.axis(len(step.shape()) - 1)])
    step.done(ops.normalize_l2(step.source(), axes, _NORM_FLOOR, "max", name=step.node.name))


def _cast(step: Step) -> None:
    names = {"float32": "f32", "int32": "i32", "int64": "i64", "bool": "boolean"}
    step.done(ops.convert(step.source(), names[step.attr("dtype")], name=step.node.name))


# --- shape and movement --------------------------------------------------------------------------


def _reshape(step: Step) -> None:
    """Read the elements in the graph's order; an image of one pixel or one channel has it in NCHW, too."""
    name, shape = step.node.inputs[0], step.shape()
    form = step.lowering.own_form(name)
    if form is Form.NCHW and shape[3] > 1 and shape[1] * shape[2] > 1:
        form = Form.GRAPH
    source = step.lowering.operand(name, form)
    step.done(ops.reshape(source, step.integers("shape", step.attr("shape")), False, name=step.node.name))


def _transpose(step: Step) -> None:
    """One Transpose from whatever order the source stands in; none if it stands right already."""
    name, perm = step.node.inputs[0], step.attr("perm")
    form = step.lowering.own_form(name)
    if form is Form.NCHW:
        perm = [TO_NHWC[p] for p in perm]
    step.done(moved(step.lowering.operand(name, form), perm, step.node.name))


def _pad(step: Step) -> None:
    before, after = zip(*step.per_axis(step.attr("paddings")), strict=True)
    ends = step.integers("before", before), step.integers("after", after)
    dtype = step.lowering.graph.tensor(step.node.inputs[0]).dtype
    value = number(np.asarray(step.attr("value"), dtype), f"{step.node.name}/value")
    step.done(ops.pad(step.source(), *ends, "constant", value, name=step.node.name))


def _mirror_pad(step: Step) -> None:
    before, after = zip(*step.per_axis(step.attr("paddings")), strict=True)
    ends = step.integers("before", before), step.integers("after", after)
    step.done(ops.pad(step.source(), *ends, step.attr("mode"), name=step.node.name))


def _concat(step: Step) -> None:
    step.done(ops.concat(step.sources(), step.axis(step.attr("axis")), name=step.node.name))


def _slice(step: Step) -> None:
    strides = step.per_axis(step.attr("strides"))
    ends = step.per_axis(step.attr("end"))
    ends = [_BACKWARDS_PAST_ZERO if s < 0 > e else e for e, s in zip(ends, strides, strict=True)]
    arguments = [
        step.integers("begin", step.per_axis(step.attr("begin"))),
        step.integers("end", ends),
        step.integers("strides", strides),
    ]
    step.done(ops.slice(step.source(), *arguments, name=step.node.name))


def _gather(step: Step) -> None:
    indices = step.lowering.operand(step.node.inputs[1], Form.GRAPH)
    axis = step.integers("axis", step.axis(step.attr("axis")))
    step.done(ops.gather(step.source(), indices, axis, name=step.node.name))


def _tile(step: Step) -> None:
    multiples = step.integers("multiples", step.per_axis(step.attr("multiples")))
    step.done(ops.tile(step.source(), multiples, name=step.node.name))


def _broadcast_to(step: Step) -> None:
    shape = step.integers("shape", step.attr("shape"))
    step.done(ops.broadcast(step.source(), shape, name=step.node.name))


def _resize(step: Step, mode: str, coordinates: str, nearest: str) -> None:
    value = ops.interpolate(
        step.source(),
        step.integers("size", step.attr("size")),
        mode,
        "sizes",
        [0, 0],
        [0, 0],
        coordinates,
        nearest,
        axes=step.integers("axes", [2, 3]),
        name=step.node.name,
    )
    step.done(value)


def _coordinates(step: Step, half_pixel: str) -> str:
    if step.attr("align_corners"):
        return "align_corners"
    return half_pixel if step.attr("half_pixel_centers") else "asymmetric"


def _resize_bilinear(step: Step) -> None:
    _resize(step, "linear_onnx", _coordinates(step, "half_pixel"), "round_prefer_floor")


def _resize_nearest(step: Step) -> None:
    # TensorFlow Lite: floor((x + 0.5) * scale); aligned corners round half up
    nearest = "round_prefer_ceil" if step.attr("align_corners") else "floor"
    _resize(step, "nearest", _coordinates(step, "tf_half_pixel_for_nn"), nearest)


def _space_to_depth(step: Step) -> None:
    step.done(ops.space_to_depth(step.source(), "blocks_first", step.attr("block"), name=step.node.name))


def _depth_to_space(step: Step) -> None:
    step.done(ops.depth_to_space(step.source(), "blocks_first", step.attr("block"), name=step.node.name))


def _reduction(make: Any) -> Writer:
    def write(step: Step) -> None:
        axes = step.integers("axes", sorted(step.axis(a) for a in step.attr("axes")))
        step.done(make(step.source(), axes, bool(step.attr("keepdims")), name=step.node.name))

    return write


def _arg_max(step: Step) -> None:
    """The first of equals, as numpy has it."""
    axis = step.axis(step.attr("axis"))
    one = number(np.asarray(1, np.int64), f"{step.node.name}/one")
    best = ops.topk(
        step.source(), one, axis, "max", "value", "i64", stable=True, name=f"{step.node.name}/best"
    )
    step.done(ops.squeeze(best.output(1), step.integers("axis", [axis]), name=step.node.name))


# --- the table -----------------------------------------------------------------------------------


def _keeps_order(axes: Sequence[int]) -> bool:
    """Whether the axes that a reduction leaves stand in the same order in NCHW as in the graph."""
    left = [axis for axis in (0, 3, 1, 2) if axis not in axes]
    return left == sorted(left)


def _in_image_order(lowering: Lowering, node: Node) -> Form:
    return Form.NCHW


def _in_graph_order(lowering: Lowering, node: Node) -> Form:
    return Form.GRAPH


def _follows(lowering: Lowering, node: Node) -> Form:
    """NCHW when an operand stands so and every operand can: no transpose that is not there already."""
    tensors = [lowering.graph.tensor(name) for name in node.inputs]
    if all(t.is_constant or len(t.shape) == 4 for t in tensors) and any(
        lowering.own_form(t.name) is Form.NCHW for t in tensors
    ):
        return Form.NCHW
    return Form.GRAPH


def _follows_if_order_is_kept(lowering: Lowering, node: Node) -> Form:
    axes = node.attrs["axes"] if "axes" in node.attrs else (node.attrs["axis"],)
    if node.attrs.get("keepdims", False) or _keeps_order(axes):
        return _follows(lowering, node)
    return Form.GRAPH


def _follows_one_index_list(lowering: Lowering, node: Node) -> Form:
    indices = lowering.graph.tensor(node.inputs[1])
    if lowering.graph.tensor(node.inputs[0]).is_constant or len(indices.shape) != 1:
        return Form.GRAPH
    return lowering.own_form(node.inputs[0])


FormRule = Callable[[Lowering, Node], Form]

WRITERS: dict[Op, tuple[FormRule, Writer]] = {
    Op.CONV2D: (_in_image_order, _conv2d),
    Op.DEPTHWISE_CONV2D: (_in_image_order, _depthwise_conv2d),
    Op.TRANSPOSE_CONV2D: (_in_image_order, _transpose_conv2d),
    Op.DENSE: (_in_graph_order, _dense),
    Op.MATMUL: (_in_graph_order, _matmul),
    Op.AVERAGE_POOL2D: (_in_image_order, _average_pool2d),
    Op.MAX_POOL2D: (_in_image_order, _max_pool2d),
    Op.ADD: (_follows, _binary(ops.add)),
    Op.SUB: (_follows, _binary(ops.subtract)),
    Op.MUL: (_follows, _binary(ops.multiply)),
    Op.DIV: (_follows, _divide),
    Op.MINIMUM: (_follows, _binary(ops.minimum)),
    Op.MAXIMUM: (_follows, _binary(ops.maximum)),
    Op.POW: (_follows, _binary(ops.power)),
    Op.RELU: (_follows, _unary(ops.relu)),
    Op.RELU6: (_follows, _unary(ops.clamp, 0.0, 6.0)),
    Op.RELU_N1_TO_1: (_follows, _unary(ops.clamp, -1.0, 1.0)),
    Op.LEAKY_RELU: (_follows, _leaky_relu),
    Op.PRELU: (_follows, _prelu),
    Op.ELU: (_follows, _elu),
    Op.SIGMOID: (_follows, _unary(ops.sigmoid)),
    Op.TANH: (_follows, _unary(ops.tanh)),
    Op.HARD_SWISH: (_follows, _unary(ops.hswish)),
    Op.GELU: (_follows, _gelu),
    Op.SOFTMAX: (_follows, _softmax),
    Op.LOG_SOFTMAX: (_follows, _log_softmax),
    Op.EXP: (_follows, _unary(ops.exp)),
    Op.LOG: (_follows, _unary(ops.log)),
    Op.SQRT: (_follows, _unary(ops.sqrt)),
    Op.RSQRT: (_follows, _rsqrt),
    Op.ABS: (_follows, _unary(ops.absolute)),
    Op.NEG: (_follows, _unary(ops.negative)),
    Op.FLOOR: (_follows, _unary(ops.floor)),
    Op.CEIL: (_follows, _unary(ops.ceiling)),
    Op.ROUND: (_follows, _unary(ops.round, "half_to_even")),
    Op.SIN: (_follows, _unary(ops.sin)),
    Op.COS: (_follows, _unary(ops.cos)),
    Op.RESHAPE: (_in_graph_order, _reshape),
    Op.TRANSPOSE: (_in_graph_order, _transpose),
    Op.PAD: (_follows, _pad),
    Op.MIRROR_PAD: (_follows, _mirror_pad),
    Op.CONCAT: (_follows, _concat),
    Op.SLICE: (_follows, _slice),
    Op.GATHER: (_follows_one_index_list, _gather),
    Op.TILE: (_follows, _tile),
    Op.BROADCAST_TO: (_in_graph_order, _broadcast_to),
    Op.RESIZE_BILINEAR: (_in_image_order, _resize_bilinear),
    Op.RESIZE_NEAREST: (_in_image_order, _resize_nearest),
    Op.SPACE_TO_DEPTH: (_in_image_order, _space_to_depth),
    Op.DEPTH_TO_SPACE: (_in_image_order, _depth_to_space),
    Op.MEAN: (_follows_if_order_is_kept, _reduction(ops.reduce_mean)),
    Op.SUM: (_follows_if_order_is_kept, _reduction(ops.reduce_sum)),
    Op.REDUCE_MAX: (_follows_if_order_is_kept, _reduction(ops.reduce_max)),
    Op.REDUCE_MIN: (_follows_if_order_is_kept, _reduction(ops.reduce_min)),
    Op.REDUCE_PROD: (_follows_if_order_is_kept, _reduction(ops.reduce_prod)),
    Op.ARG_MAX: (_follows_if_order_is_kept, _arg_max),
    Op.L2_NORMALIZE: (_follows, _l2_normalize),
    Op.CAST: (_follows, _cast),
    Op.EQUAL: (_follows, _binary(ops.equal)),
    Op.NOT_EQUAL: (_follows, _binary(ops.not_equal)),
    Op.GREATER: (_follows, _binary(ops.greater)),
    Op.GREATER_EQUAL: (_follows, _binary(ops.greater_equal)),
    Op.LESS: (_follows, _binary(ops.less)),
    Op.LESS_EQUAL: (_follows, _binary(ops.less_equal)),
    Op.LOGICAL_AND: (_follows, _binary(ops.logical_and)),
    Op.LOGICAL_OR: (_follows, _binary(ops.logical_or)),
    Op.LOGICAL_NOT: (_follows, _unary(ops.logical_not)),
    Op.SELECT: (_follows, _binary(ops.select)),
}


def write(lowering: Lowering, node: Node) -> None:
    """Write one node."""
    form_rule, writer = WRITERS[node.op]
    writer(Step(lowering, node, form_rule(lowering, node)))
