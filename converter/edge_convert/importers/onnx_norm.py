"""Normalisations of ONNX, written out in the graph's arithmetic.

BatchNormalization becomes one MUL and one ADD, which a pass folds into the convolution beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_convert.graph import Array, Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler, axis_of


def _per_channel(values: Array, rank: int) -> Array:
    """[c] so that it broadcasts along axis 1 of a tensor of this rank."""
    return values.reshape((1, -1) + (1,) * (rank - 2))


def batch_norm(b: Builder, call: Call) -> Tensor:
    """BatchNormalization as it is when it does not train; folded in float64."""
    if call.attrs.get("training_mode", 0) or len([o for o in call.outputs if o]) > 1:
        raise call.refuse("training mode; export the model for inference")
    x = b.operand(call, 0)
    gamma, beta, mean, var = (
        b.elements(call, i, what).astype(np.float64)
        for i, what in enumerate(("the scale", "the bias", "the mean", "the variance"), start=1)
    )
    var = var + float(call.attrs.get("epsilon", 1e-5))
    if not np.all(var > 0):
        raise call.refuse("the variance is not positive")
    scale = gamma / np.sqrt(var)
    shift = beta - mean * scale
    rank = len(x.shape)
    y = b.binary(Op.MUL, x, b.constant(_per_channel(scale, rank), f"{call.name}:scale"))
    return b.binary(Op.ADD, y, b.constant(_per_channel(shift, rank), f"{call.name}:shift"))


def _standardised(b: Builder, x: Tensor, axes: Sequence[int], epsilon: float, centre: bool = True) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) over these axes."""
    axes = tuple(axes)
    if centre:
        x = b.binary(Op.SUB, x, b.add(Op.MEAN, x, axes=axes, keepdims=True))
    variance = b.add(Op.MEAN, b.binary(Op.MUL, x, x), axes=axes, keepdims=True)
    return b.binary(Op.MUL, x, b.add(Op.RSQRT, b.binary(Op.ADD, variance, b.scalar(epsilon, x))))


def _affine(b: Builder, call: Call, x: Tensor, shape: Sequence[int] | None) -> Tensor:
    """Times input 1 plus input 2 where they are given, reshaped to broadcast."""
    for index, op in ((1, Op.MUL), (2, Op.ADD)):
        if call.has(index):
            values = b.operand(call, index)
            x = b.binary(op, x, values if shape is None else b.reshape(values, tuple(shape)))
    return x


def instance_norm(b: Builder, call: Call) -> Tensor:
    """InstanceNormalization: over the picture, per channel."""
    x = b.operand(call, 0)
    rank, channels, epsilon = len(x.shape), x.shape[1], float(call.attrs.get("epsilon", 1e-5))
    whole = _ungrouped(b, x)
    if whole is not None:
        split = (whole.shape[0], channels, whole.shape[1] // channels, *whole.shape[2:])
        y = _standardised(b, b.reshape(whole, split), range(2, len(split)), epsilon)
        return b.reshape(_affine(b, call, y, (1, channels) + (1,) * (len(split) - 2)), x.shape)
    y = _standardised(b, x, range(2, rank), epsilon)
    return _affine(b, call, y, (1, channels) + (1,) * (rank - 2))


def _ungrouped(b: Builder, x: Tensor) -> Tensor | None:
    """[n, c, h, w] where x is its reshape to [n, groups, -1], which is how exporters write GroupNorm.

    Left like that, channels and picture would be one axis, and the picture could not become NHWC.
    """
    maker = next((node for node in reversed(b.nodes) if node.output == x.name), None)
    if maker is None or maker.op is not Op.RESHAPE or len(x.shape) != 3:
        return None
    whole = b.tensors[maker.inputs[0]]
    fits = len(whole.shape) in (3, 4) and whole.shape[0] == x.shape[0] and whole.shape[1] % x.shape[1] == 0
    return whole if fits else None


def layer_norm(b: Builder, call: Call) -> Tensor:
    """LayerNormalization: over the last axes."""
    if len([o for o in call.outputs if o]) > 1:
        raise call.refuse("the outputs mean and inverse deviation are not supported")
    x = b.operand(call, 0)
    axis = axis_of(call, int(call.attrs.get("axis", -1)), len(x.shape))
    y = _standardised(b, x, range(axis, len(x.shape)), float(call.attrs.get("epsilon", 1e-5)))
    return _affine(b, call, y, None)


def rms_norm(b: Builder, call: Call) -> Tensor:
    """RMSNormalization: LayerNormalization without the mean."""
    x = b.operand(call, 0)
    axis = axis_of(call, int(call.attrs.get("axis", -1)), len(x.shape))
    y = _standardised(b, x, range(axis, len(x.shape)), float(call.attrs.get("epsilon", 1e-5)), centre=False)
    return _affine(b, call, y, None)


def group_norm(b: Builder, call: Call) -> Tensor:
    """GroupNormalization: over the picture and the channels of a group.

    Before opset 21 scale and bias are per group, since then per channel.
    """
    x = b.operand(call, 0)
    groups, rank = int(call.attrs["num_groups"]), len(x.shape)
    if x.shape[1] % groups:
        raise call.refuse(f"{x.shape[1]} channels do not divide into {groups} groups")
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    y = _standardised(b, b.reshape(x, split), range(2, rank + 1), float(call.attrs.get("epsilon", 1e-5)))
    per_group = b.operand(call, 1).shape == (groups,) and groups != x.shape[1]
    if per_group:
        return b.reshape(_affine(b, call, y, (1, groups) + (1,) * (rank - 1)), x.shape)
    return _affine(b, call, b.reshape(y, x.shape), (1, x.shape[1]) + (1,) * (rank - 2))


def lp_norm(b: Builder, call: Call) -> Tensor:
    """LpNormalization of order 1 or 2 along one axis."""
    x = b.operand(call, 0)
    axis = axis_of(call, int(call.attrs.get("axis", -1)), len(x.shape))
    order = int(call.attrs.get("p", 2))
    if order == 1:
        return b.binary(Op.DIV, x, b.add(Op.SUM, b.add(Op.ABS, x), axes=(axis,), keepdims=True))
    if order != 2:
        raise call.refuse(f"order p={order}; expected 1 or 2")
    perm = [i for i in range(len(x.shape)) if i != axis] + [axis]
    y = b.add(Op.L2_NORMALIZE, b.transpose(x, perm))
    return b.transpose(y, [int(i) for i in np.argsort(perm)])


HANDLERS: dict[str, Handler] = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "GroupNormalization": group_norm,
    "LpNormalization": lp_norm,
}
