"""The graph while a TensorFlow Lite file is being read into it.

Handlers (`tflite_ops.py`) turn one operator of the file into nodes through a `Builder`. It keeps two
kinds of values apart: those that depend on the model's inputs are graph tensors, the others are
elements, and become a graph constant only when a node reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_convert.errors import SourceInvalid, UnsupportedFeature
from edge_convert.graph import ACTIVATIONS, DTYPES, Array, Node, Op, Tensor, constant
from edge_convert.importers.tflite_file import ModelFile, OperatorRecord, TensorRecord
from edge_convert.importers.tflite_sparsity import densify
from edge_convert.shapes import Shape, is_sane, result

# A file whose weights lost their scales still reads as integers; these operators have no integer form.
_FLOAT_ONLY = frozenset(
    {
        Op.CONV2D, Op.DEPTHWISE_CONV2D, Op.TRANSPOSE_CONV2D, Op.DENSE, Op.MATMUL, Op.AVERAGE_POOL2D,
        Op.MAX_POOL2D, Op.LEAKY_RELU, Op.PRELU, Op.ELU, Op.SIGMOID, Op.TANH, Op.HARD_SWISH, Op.GELU,
        Op.SOFTMAX, Op.LOG_SOFTMAX, Op.EXP, Op.LOG, Op.SQRT, Op.RSQRT, Op.FLOOR, Op.CEIL, Op.ROUND, Op.SIN,
        Op.COS, Op.RESIZE_BILINEAR, Op.RESIZE_NEAREST, Op.L2_NORMALIZE, Op.MEAN,
    }
)  # fmt: skip


@dataclass
class Builder:
    """Nodes and tensors so far, and what each tensor of the file is.

    Args:
        values: Graph tensor of each file tensor that depends on the model's inputs.
        known: Elements of each computed file tensor that does not.
        call: The operator that is being read; nodes are named after it.
    """

    file: ModelFile
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    values: dict[int, Tensor] = field(default_factory=dict)
    known: dict[int, Array] = field(default_factory=dict)
    call: OperatorRecord | None = None
    _names: set[str] = field(default_factory=set)
    _constants: dict[int, Tensor] = field(default_factory=dict)
    _makers: dict[str, Node] = field(default_factory=dict)

    # --- reading tensors of the file ---

    def has(self, position: int) -> bool:
        """Whether the current operator's optional input is given."""
        call = self._current()
        return position < len(call.inputs) and call.inputs[position] >= 0

    @property
    def code(self) -> str:
        """Name of the current operator."""
        return self._current().code

    @property
    def outputs(self) -> int:
        """How many tensors the current operator gives."""
        return len(self._current().outputs)

    def operand(self, position: int) -> Tensor:
        """An input of the current operator as a graph tensor."""
        index = self._input(position)
        if index in self.values:
            return self.values[index]
        if index not in self._constants:
            self._constants[index] = self.constant(self.file.tensors[index].name, self._elements(index))
        return self._constants[index]

    def operands(self) -> list[Tensor]:
        """All inputs of the current operator as graph tensors; there is at least one."""
        self._input(0)
        return [self.operand(position) for position in range(len(self._current().inputs))]

    def is_known(self, position: int) -> bool:
        """Whether an input does not depend on the model's inputs."""
        index = self._input(position)
        return index in self.known or self._is_stored(index)

    def elements(self, position: int, what: str) -> Array:
        """Elements of an input that must not depend on the model's inputs.

        Raises:
            UnsupportedFeature: It does; `what` says what it is for.
        """
        if not self.is_known(position):
            raise self.refuse(f"{what} is computed from the model's inputs; it must be constant")
        return self._elements(self._input(position))

    def integers(self, position: int, what: str) -> tuple[int, ...]:
        """A constant list of integers: axes, sizes, pads."""
        elements = self.elements(position, what)
        if elements.dtype.kind not in "iu":
            raise self.refuse(f"{what} has element type {elements.dtype}; expected integers")
        return tuple(int(v) for v in np.ravel(elements))

    def number(self, position: int, what: str) -> float:
        """A constant with one element."""
        elements = self.elements(position, what)
        if elements.size != 1:
            raise self.refuse(f"{what} has {elements.size} elements; expected one")
        value = float(elements.ravel()[0])
        if math.isnan(value):
            raise self.refuse(f"{what} is NaN")
        return value

    def integer(self, position: int, what: str) -> int:
        """A constant integer with one element."""
        elements = self.integers(position, what)
        if len(elements) != 1:
            raise self.refuse(f"{what} has {len(elements)} elements; expected one")
        return elements[0]

    def axis(self, value: int, rank: int) -> int:
        """A possibly negative axis as one >= 0."""
        if not -rank <= value < rank:
            raise self.refuse(f"axis {value} of a tensor with {rank} dimensions")
        return value % rank

    def refuse(self, why: str) -> UnsupportedFeature:
        """The refusal of this use of the current operator, to be raised."""
        return UnsupportedFeature(f"{self._current().label}: {why}")

    def maker(self, name: str) -> Node | None:
        """The node that computes a graph tensor."""
        return self._makers.get(name)

    # --- making nodes ---

    def unique(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def constant(self, name: str, data: Array) -> Tensor:
        """A constant; floats become float32, small integers int32.

        Raises:
            SourceInvalid: An element is NaN or infinite.
            UnsupportedFeature: The element type has no place in the graph.
        """
        if data.dtype.kind == "f":
            data = data.astype(np.float32)
            bad = int(data.size - np.isfinite(data).sum())
            if bad:
                raise SourceInvalid(
                    f"tensor {name!r} has {bad} of {data.size} elements that are NaN or infinite"
                )
        elif data.dtype.kind in "iu" and data.dtype.itemsize <= 2:
            data = data.astype(np.int32)
        data = data.astype(data.dtype.newbyteorder("="))
        if str(data.dtype) not in DTYPES:
            raise UnsupportedFeature(f"tensor {name!r} has element type {data.dtype}")
        tensor = constant(self.unique(name), data)
        self.tensors[tensor.name] = tensor
        return tensor

    def feed(self, index: int, shape: Shape, dtype: str) -> Tensor:
        """Declare an input of the model."""
        tensor = Tensor(self.unique(self.file.tensors[index].name), shape, dtype)
        self.tensors[tensor.name] = tensor
        self.values[index] = tensor
        return tensor

    def add(self, op: Op, *inputs: Tensor, **attrs: Any) -> Tensor:
        """Append a node and give what it computes.

        Raises:
            UnsupportedFeature: The shapes do not go together, or nothing is left of the tensor.
        """
        call = self._current()
        base = f"{call.code.lower()}_{call.index}"
        if op in _FLOAT_ONLY and any(t.dtype != "float32" for t in inputs):
            raise self.refuse(f"operands have element types {[t.dtype for t in inputs]}; expected float32")
        name, output = self.unique(base), self.unique(f"{base}:{op}")
        try:
            node, tensor = result(op, name, inputs, attrs, output, call.label)
        except (ValueError, IndexError, ZeroDivisionError) as error:
            shapes = [list(t.shape) for t in inputs]
            raise self.refuse(f"inputs of shapes {shapes} do not go together ({error})") from error
        if any(d <= 0 for d in tensor.shape):
            raise self.refuse(f"the result would have shape {tensor.shape}; every dimension must be positive")
        if not is_sane(tensor.shape):
            raise self.refuse(f"the result would have shape {tensor.shape}; that is too large")
        self.nodes.append(node)
        self.tensors[tensor.name] = tensor
        self._makers[tensor.name] = node
        return tensor

    def activated(self, op: Op, activation: str, *inputs: Tensor, **attrs: Any) -> Tensor:
        """A node that carries its activation, where it can; "tanh" becomes a node of its own."""
        if activation in ACTIVATIONS:
            return self.add(op, *inputs, activation=activation, **attrs)
        return self.add(Op(activation), self.add(op, *inputs, activation="none", **attrs))

    def then(self, x: Tensor, activation: str) -> Tensor:
        """An activation as a node of its own, for an operator that does not carry one."""
        return x if activation == "none" else self.add(Op(activation), x)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        """RESHAPE, or `x` itself when it has the shape."""
        if int(np.prod(shape, dtype=object)) != x.size:
            raise self.refuse(f"a tensor of shape {x.shape} cannot take the shape {tuple(shape)}")
        return x if x.shape == tuple(shape) else self.add(Op.RESHAPE, x, shape=tuple(shape))

    def slice(self, x: Tensor, axis: int, begin: int, end: int) -> Tensor:
        """The part of `x` from `begin` to `end` along one axis."""
        begins = tuple(begin if i == axis else 0 for i in range(len(x.shape)))
        ends = tuple(end if i == axis else d for i, d in enumerate(x.shape))
        return self.add(Op.SLICE, x, begin=begins, end=ends, strides=(1,) * len(x.shape))

    def bind(self, outputs: list[Tensor], start: int) -> None:
        """File what the current operator gave, under the file's names where they are free.

        Args:
            start: Number of nodes before it; only tensors made since are renamed.
        """
        fresh = {node.output for node in self.nodes[start:]}
        for index, tensor in zip(self._current().outputs, outputs, strict=False):
            name = self.file.tensors[index].name
            if tensor.name in fresh and name not in self._names:
                fresh.discard(tensor.name)
                tensor = self._renamed(tensor, name, start)
            self.values[index] = tensor

    def _renamed(self, tensor: Tensor, name: str, start: int) -> Tensor:
        self._names.add(name)
        del self.tensors[tensor.name]
        self.tensors[name] = replace(tensor, name=name)
        for position in range(start, len(self.nodes)):
            node = self.nodes[position]
            self.nodes[position] = replace(
                node,
                inputs=tuple(name if n == tensor.name else n for n in node.inputs),
                outputs=tuple(name if n == tensor.name else n for n in node.outputs),
            )
            self._makers[self.nodes[position].output] = self.nodes[position]
        return self.tensors[name]

    def _is_stored(self, index: int) -> bool:
        record = self.file.tensors[index]
        return record.raw is not None and index not in self.values

    def _elements(self, index: int) -> Array:
        if index in self.known:
            return self.known[index]
        if not self._is_stored(index):
            raise SourceInvalid(
                f"{self._current().label} reads {self.file.tensors[index].name!r}, which nothing computes"
            )
        return stored_elements(self.file.tensors[index])

    def _input(self, position: int) -> int:
        call = self._current()
        if not self.has(position):
            raise SourceInvalid(f"{call.label} lacks its input {position}")
        return call.inputs[position]

    def _current(self) -> OperatorRecord:
        assert self.call is not None
        return self.call


Handler = Callable[[Builder, Any], Tensor | list[Tensor]]


def stored_elements(record: TensorRecord) -> Array:
    """Elements of a stored tensor: dense, and float32 where they are 8-bit or half-precision weights."""
    if record.sparsity is not None:
        data = densify(record.name, record.shape, record.stored(), record.sparsity)
    else:
        data = record.elements()
    if record.type == "FLOAT16":
        return data.astype(np.float32)
    if record.quantization is None or data.dtype.kind not in "iu":
        return data
    scale, zero_point = record.quantization.scale, record.quantization.zero_point
    if scale.size > 1:
        axis = record.quantization.axis
        if not 0 <= axis < data.ndim or data.shape[axis] != scale.size:
            raise SourceInvalid(
                f"tensor {record.name!r} has {scale.size} scales for shape {list(data.shape)}"
            )
        along = [1] * data.ndim
        along[axis] = scale.size
        scale, zero_point = scale.reshape(along), zero_point.reshape(along)
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale; `constant` refuses the result
        return ((data.astype(np.float64) - zero_point) * scale).astype(np.float32)
