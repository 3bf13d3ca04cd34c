"""A graph as a PyTorch function of its weights, so that gradients can be had; imported late, extra `[torch]`.

Tensors keep the graph's layout (NHWC); convolutions see a permuted view of it, which is PyTorch's
channels-last. Only operators that small networks are made of are here; `refused` names the first that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from edge_convert import reference
from edge_convert.graph import Array, Graph, Op

Tensor: TypeAlias = Any  # torch has types, but not everybody who checks ours has torch
Tensors: TypeAlias = dict[str, Tensor]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "relu_n1_to_1": lambda x: x.clamp(-1.0, 1.0),
}
_LAYERS = (Op.CONV2D, Op.DEPTHWISE_CONV2D, Op.DENSE)


def refused(graph: Graph) -> str:
    """Why gradients cannot be had through this graph: the operator and its node; "" when they can."""
    for node in graph.nodes:
        if node.op not in KERNELS:
            return f"{node.op} ({node.name!r}) has no gradient here"
    if not reference.batches(graph):
        return "its samples cannot run side by side"
    return ""


class TorchGraph:
    """A graph with weights that can be trained; biases and weights of its layers, each constant once."""

    def __init__(self, graph: Graph) -> None:
        """Take the graph's constants over; `refused(graph)` must be empty."""
        assert not refused(graph), refused(graph)
        self.graph = graph
        trained = {
            name
            for node in graph.nodes
            if node.op in _LAYERS
            for name in node.inputs[1:]
            if graph.tensor(name).is_constant
        }
        self.constants: Tensors = {
            name: torch.from_numpy(np.array(tensor.data))
            for name, tensor in graph.tensors.items()
            if tensor.is_constant
        }
        self.parameters: Tensors = {name: self.constants[name] for name in sorted(trained)}

    def train(self) -> None:
        """Have gradients of the parameters."""
        for parameter in self.parameters.values():
            parameter.requires_grad_()

    def __call__(self, feeds: Mapping[str, Tensor]) -> Tensors:
        """Every computed tensor by name.

        Args:
            feeds: By tensor name, in the graph's layout, n samples on the leading axis.
        """
        values = dict(feeds)
        for node in self.graph.nodes:
            inputs = [self.constants[n] if n in self.constants else values[n] for n in node.inputs]
            result = KERNELS[node.op](inputs, node.attrs)
            values[node.output] = _ACTIVATIONS[node.attrs.get("activation", "none")](result)
        return values

    def weights(self) -> dict[str, tuple[Array, Array]]:
        """By layer: its weights and its bias as they are now, as `shrink.with_weights` takes them."""
        found = {}
        for node in self.graph.nodes:
            if node.op not in _LAYERS or not self.graph.tensor(node.inputs[1]).is_constant:
                continue
            weights = self.parameters[node.inputs[1]].detach().numpy().copy()
            channels = weights.shape[3 if node.op is Op.DEPTHWISE_CONV2D else 0]
            bias = np.zeros(channels, np.float32)
            if len(node.inputs) == 3:
                bias = self.parameters[node.inputs[2]].detach().numpy().reshape(-1).copy()
            found[node.name] = weights, bias
        return found


Inputs: TypeAlias = list[Tensor]
Attrs: TypeAlias = Mapping[str, Any]


def _images(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _back(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _padded(x: Tensor, pads: tuple[int, ...], value: float = 0.0) -> Tensor:
    top, bottom, left, right = pads
    return functional.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _convolved(inputs: Inputs, attrs: Attrs, weights: Tensor, groups: int) -> Tensor:
    top, bottom, left, right = attrs["pads"]
    x = _images(inputs[0])
    inside = (top, left) if (top, left) == (bottom, right) else (0, 0)
    if inside == (0, 0):
        x = _padded(x, attrs["pads"])
    bias = inputs[2].reshape(-1) if len(inputs) == 3 else None
    return _back(
        functional.conv2d(
            x, weights, bias, tuple(attrs["strides"]), inside, tuple(attrs["dilations"]), groups
        )
    )


def _conv2d(inputs: Inputs, attrs: Attrs) -> Tensor:
    return _convolved(inputs, attrs, _images(inputs[1]), attrs["groups"])


def _depthwise(inputs: Inputs, attrs: Attrs) -> Tensor:
    return _convolved(inputs, attrs, inputs[1].permute(3, 0, 1, 2), inputs[0].shape[3])


def _max_pool(inputs: Inputs, attrs: Attrs) -> Tensor:
    x = _padded(_images(inputs[0]), attrs["pads"], float("-inf"))
    return _back(functional.max_pool2d(x, tuple(attrs["kernel"]), tuple(attrs["strides"])))


def _average_pool(inputs: Inputs, attrs: Attrs) -> Tensor:
    x, kernel, strides = _images(inputs[0]), tuple(attrs["kernel"]), tuple(attrs["strides"])
    total = functional.avg_pool2d(_padded(x, attrs["pads"]), kernel, strides)
    if attrs["count_include_pad"] or not any(attrs["pads"]):
        return _back(total)
    inside = functional.avg_pool2d(_padded(torch.ones_like(x), attrs["pads"]), kernel, strides)
    return _back(total / inside)


def _reshape(inputs: Inputs, attrs: Attrs) -> Tensor:
    return inputs[0].reshape(inputs[0].shape[0], *attrs["shape"][1:])


def _pad(inputs: Inputs, attrs: Attrs) -> Tensor:
    widths = [width for pair in reversed(attrs["paddings"]) for width in pair]
    return functional.pad(inputs[0], widths, value=attrs["value"])


def _slice(inputs: Inputs, attrs: Attrs) -> Tensor:
    x = inputs[0]
    ranges = zip(attrs["begin"][1:], attrs["end"][1:], attrs["strides"][1:], strict=True)
    for axis, (begin, end, stride) in enumerate(ranges, start=1):
        x = x.index_select(axis, torch.tensor(range(begin, end, stride)))
    return x


KERNELS: dict[Op, Callable[[Inputs, Attrs], Tensor]] = {
    Op.CONV2D: _conv2d,
    Op.DEPTHWISE_CONV2D: _depthwise,
    Op.DENSE: lambda i, attrs: functional.linear(i[0], i[1], i[2].reshape(-1) if len(i) == 3 else None),
    Op.ADD: lambda i, attrs: i[0] + i[1],
    Op.SUB: lambda i, attrs: i[0] - i[1],
    Op.MUL: lambda i, attrs: i[0] * i[1],
    Op.DIV: lambda i, attrs: i[0] / i[1],
    Op.MINIMUM: lambda i, attrs: torch.minimum(i[0], i[1]),
    Op.MAXIMUM: lambda i, attrs: torch.maximum(i[0], i[1]),
    Op.RELU: lambda i, attrs: functional.relu(i[0]),
    Op.RELU6: lambda i, attrs: functional.relu6(i[0]),
    Op.LEAKY_RELU: lambda i, attrs: functional.leaky_relu(i[0], attrs["alpha"]),
    Op.PRELU: lambda i, attrs: torch.where(i[0] > 0, i[0], i[0] * i[1]),
    Op.ELU: lambda i, attrs: functional.elu(i[0], attrs["alpha"]),
    Op.SIGMOID: lambda i, attrs: torch.sigmoid(i[0]),
    Op.TANH: lambda i, attrs: torch.tanh(i[0]),
    Op.HARD_SWISH: lambda i, attrs: functional.hardswish(i[0]),
    Op.GELU: lambda i, attrs: functional.gelu(i[0], approximate="tanh" if attrs["approximate"] else "none"),
    Op.SOFTMAX: lambda i, attrs: torch.softmax(i[0] * attrs["beta"], -1),
    Op.LOG_SOFTMAX: lambda i, attrs: torch.log_softmax(i[0], -1),
    Op.MAX_POOL2D: _max_pool,
    Op.AVERAGE_POOL2D: _average_pool,
    Op.MEAN: lambda i, attrs: i[0].mean(dim=tuple(attrs["axes"]), keepdim=attrs["keepdims"]),
    Op.SUM: lambda i, attrs: i[0].sum(dim=tuple(attrs["axes"]), keepdim=attrs["keepdims"]),
    Op.RESHAPE: _reshape,
    Op.TRANSPOSE: lambda i, attrs: i[0].permute(tuple(attrs["perm"])),
    Op.CONCAT: lambda i, attrs: torch.cat(i, dim=attrs["axis"]),
    Op.PAD: _pad,
    Op.SLICE: _slice,
}
