"""The graph while an ONNX file is being read into it, and one ONNX node as a handler sees it.

Handlers (`onnx_conv`, `onnx_math`, ...) turn one `Call` into nodes through a `Builder`. Values
keep the source's layout here: a handler that needs NHWC puts TRANSPOSE around its operator, and
`passes/remove_transposes.py` takes them out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_convert.errors import SourceInvalid, UnsupportedFeature
from edge_convert.graph import DTYPES, Array, Node, Op, Tensor, constant
from edge_convert.shapes import Shape, is_sane, result


@dataclass(frozen=True)
class Call:
    """One ONNX node.

    Args:
        inputs: Value names; "" is an absent optional.
        attrs: Attributes as Python values; strings decoded, tensors as arrays.
        opset: Version of the default domain in this file.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    opset: int

    @property
    def source(self) -> str:
        """How messages and reports name it."""
        return f"{self.operator} '{self.name}'"

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def refuse(self, why: str) -> UnsupportedFeature:
        """The refusal of a use of this operator, to be raised."""
        return UnsupportedFeature(f"{self.source}: {why}")


@dataclass(frozen=True, eq=False)
class Codes:
    """What integers mean: (code - zero) * scale.

    Args:
        dtype: numpy's name of the codes' element type.
    """

    scale: Array
    zero: Array
    dtype: str


@dataclass
class Builder:
    """Nodes and tensors so far, and what each ONNX value is.

    Args:
        values: Graph tensor of each computed ONNX value (inputs of the model included).
        known: Elements of each ONNX value that does not depend on the model's inputs, in ONNX's
            own element type; it becomes a graph constant only when a node reads it.
        codes: Of ONNX values that are integers standing for real numbers; their graph tensor is the
            real number.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Tensor] = field(default_factory=dict)
    known: dict[str, Array] = field(default_factory=dict)
    codes: dict[str, Codes] = field(default_factory=dict)
    call: Call | None = None
    _names: set[str] = field(default_factory=set)
    _shared: dict[str, Tensor] = field(default_factory=dict)
    _makers: dict[str, Node] = field(default_factory=dict)

    # --- reading ONNX values ---

    def operand(self, call: Call, index: int) -> Tensor:
        """Input `index` as a graph tensor; a known value becomes a constant.

        Raises:
            SourceInvalid: No node computes it.
        """
        name = call.inputs[index]
        if name not in self.values and name not in self.known:
            raise SourceInvalid(f"{call.source}: input {name!r} is computed by no node before it")
        if name not in self.values:
            self.values[name] = self.constant(self.known[name], name)
        return self.values[name]

    def elements(self, call: Call, index: int, what: str) -> Array:
        """Elements of input `index`, which must not depend on the model's inputs.

        Raises:
            UnsupportedFeature: They do; `what` says what they are for.
        """
        name = call.inputs[index]
        if name not in self.known:
            raise call.refuse(f"{what} ({name!r}) is computed from the model's inputs; it must be constant")
        return self.known[name]

    def is_known(self, call: Call, index: int) -> bool:
        """Whether the elements of input `index` are constant."""
        return call.inputs[index] in self.known

    def integers(self, call: Call, index: int, what: str) -> tuple[int, ...]:
        """A constant list of integers (axes, sizes, pads)."""
        return tuple(int(v) for v in np.ravel(self.elements(call, index, what)))

    def refuse(self, why: str) -> UnsupportedFeature:
        """The refusal of this use of the current operator, to be raised."""
        return self._current().refuse(why)

    def is_input(self, x: Tensor) -> bool:
        """Whether nothing computes the tensor."""
        return x.data is None and self.producer_of(x) is None

    def producer_of(self, x: Tensor) -> Op | None:
        """The operator that computes a tensor, behind nodes that only move elements."""
        node = self._makers.get(x.name)
        while node is not None and node.op in (Op.RESHAPE, Op.TRANSPOSE, Op.SLICE, Op.MAX_POOL2D):
            node = self._makers.get(node.inputs[0])
        return None if node is None else node.op

    # --- making nodes ---

    def unique(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def constant(self, data: Array, name: str) -> Tensor:
        """A constant; floats become float32, small integers int32.

        Raises:
            UnsupportedFeature: The element type has no place in the graph.
        """
        data = np.asarray(data)
        if data.dtype.kind == "f" or str(data.dtype) == "bfloat16":
            data = data.astype(np.float32)
        elif data.dtype.kind in "iu" and str(data.dtype) not in DTYPES:
            if data.dtype.itemsize > 2:
                raise UnsupportedFeature(f"constant {name!r} has element type {data.dtype}")
            data = data.astype(np.int32)
        elif str(data.dtype) not in DTYPES:
            raise UnsupportedFeature(f"constant {name!r} has element type {data.dtype}")
        tensor = constant(self.unique(name), data)
        self.tensors[tensor.name] = tensor
        return tensor

    def shared(self, data: Array, name: str) -> Tensor:
        """The constant of this name, made when it is first asked for; `name` must tell all apart."""
        if name not in self._shared:
            self._shared[name] = self.constant(data, name)
        return self._shared[name]

    def scalar(self, value: float, like: Tensor) -> Tensor:
        """A constant of rank 0 in the element type of `like`."""
        call = self._current()
        return self.constant(np.asarray(value, dtype=like.dtype), f"{call.name}:const")

    def add(self, op: Op, *inputs: Tensor, **attrs: Any) -> Tensor:
        """Append a node and give what it computes."""
        call = self._current()
        try:
            node, tensor = result(
                op, self.unique(call.name), inputs, attrs, self.unique(f"{call.name}:{op}"), call.source
            )
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise call.refuse(f"shapes {[t.shape for t in inputs]} do not go together ({error})") from error
        if any(d <= 0 for d in tensor.shape):
            raise call.refuse(f"the result would have shape {tensor.shape}; every dimension must be positive")
        if not is_sane(tensor.shape):
            raise call.refuse(f"the result would have shape {tensor.shape}; that is too large")
        self.nodes.append(node)
        self.tensors[tensor.name] = tensor
        self._makers[tensor.name] = node
        return tensor

    def binary(self, op: Op, a: Tensor, b: Tensor) -> Tensor:
        """An element-wise node of two operands of one rank; ADD, SUB, MUL and DIV get `activation`."""
        if a.dtype != b.dtype:
            raise self._current().refuse(f"operands have element types {a.dtype} and {b.dtype}")
        rank = max(len(a.shape), len(b.shape))
        attrs = {"activation": "none"} if op in (Op.ADD, Op.SUB, Op.MUL, Op.DIV) else {}
        return self.add(op, self.ranked(a, rank), self.ranked(b, rank), **attrs)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        """RESHAPE, or `x` itself when it has the shape."""
        if x.shape == tuple(shape):
            return x
        if x.data is not None:
            return self.constant(x.data.reshape(shape), x.name)
        return self.add(Op.RESHAPE, x, shape=tuple(shape))

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """TRANSPOSE, or `x` itself when nothing moves."""
        perm = tuple(perm)
        if perm == tuple(range(len(perm))):
            return x
        if x.data is not None:
            return self.constant(np.transpose(x.data, perm), x.name)
        return self.add(Op.TRANSPOSE, x, perm=perm)

    def channels_last(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, h, w, c]; [n, c, l] to [n, 1, l, c]."""
        rank = len(x.shape)
        if rank not in (3, 4):
            raise self._current().refuse(f"input has shape {x.shape}; only 1-D and 2-D images are supported")
        y = self.transpose(x, (0, *range(2, rank), 1))
        return y if rank == 4 else self.reshape(y, (y.shape[0], 1, *y.shape[1:]))

    def channels_first(self, y: Tensor, rank: int) -> Tensor:
        """The inverse of `channels_last` for a source value of this rank."""
        if rank == 3:
            y = self.reshape(y, (y.shape[0], *y.shape[2:]))
        return self.transpose(y, (0, rank - 1, *range(1, rank - 1)))

    def take(self, x: Tensor, indices: Array, axis: int) -> Tensor:
        """The elements of a constant list of positions along an axis, by SLICE where that says it."""
        rank, positions = len(x.shape), [int(i) for i in indices]
        if positions == list(range(x.shape[axis])):
            return x
        if not positions:
            raise self._current().refuse(f"nothing is left of axis {axis} of {x.shape}")
        if positions == list(range(positions[0], positions[0] + len(positions))):
            begin = tuple(positions[0] if i == axis else 0 for i in range(rank))
            end = tuple(positions[-1] + 1 if i == axis else d for i, d in enumerate(x.shape))
            return self.add(Op.SLICE, x, begin=begin, end=end, strides=(1,) * rank)
        name = f"{self._current().name}:indices"
        return self.add(Op.GATHER, x, self.constant(np.asarray(positions, np.int32), name), axis=axis)

    def bind(self, call: Call, outputs: Sequence[Tensor], start: int) -> None:
        """File a handler's results under the ONNX names, and name new tensors after them.

        Args:
            start: Number of nodes before the handler ran; only tensors made since are renamed.
        """
        fresh = {node.output for node in self.nodes[start:]}
        for name, tensor in zip(call.outputs, outputs, strict=False):
            if not name:
                continue
            if tensor.name in fresh and name not in self._names:
                tensor = self._rename(tensor, name, start)
                fresh.discard(tensor.name)
            self.values[name] = tensor

    def _rename(self, tensor: Tensor, name: str, start: int) -> Tensor:
        self._names.discard(tensor.name)
        self._names.add(name)
        del self.tensors[tensor.name]
        self.tensors[name] = replace(tensor, name=name)
        for index in range(start, len(self.nodes)):
            node = self.nodes[index]
            self.nodes[index] = replace(
                node,
                inputs=tuple(name if n == tensor.name else n for n in node.inputs),
                outputs=tuple(name if n == tensor.name else n for n in node.outputs),
            )
            self._makers[self.nodes[index].output] = self.nodes[index]
        return self.tensors[name]

    def ranked(self, x: Tensor, rank: int) -> Tensor:
        """The tensor with axes of 1 in front, up to this rank; a single number stays one."""
        if not x.shape or len(x.shape) == rank:
            return x
        return self.reshape(x, (1,) * (rank - len(x.shape)) + x.shape)

    def _current(self) -> Call:
        assert self.call is not None
        return self.call


Handler = Callable[[Builder, Call], Tensor | list[Tensor]]

_MOST_MADE = 2**26  # elements of a constant that a handler makes up: 256 MB


def check_count(call: Call, count: float) -> None:
    """Refuse to make up a constant of absurd size, before it is allocated.

    Raises:
        UnsupportedFeature: It would have more elements than any real use needs.
    """
    if not count <= _MOST_MADE:
        raise call.refuse(f"it would need a constant of {count:.3g} elements; at most {_MOST_MADE} are made")


def axis_of(call: Call, axis: int, rank: int) -> int:
    """A possibly negative axis as one >= 0.

    Raises:
        UnsupportedFeature: It is not an axis of a tensor of this rank.
    """
    if not -rank <= axis < rank:
        raise call.refuse(f"axis {axis} of a tensor with {rank} dimensions")
    return axis % rank
