"""Take out the transposes that reading a channels-first model put around every operator.

One sweep in running order. A TRANSPOSE is not emitted where it stands; its output becomes a
*view* (another tensor, seen through a permutation). An operator that works as well on the tensor
behind the view takes it from there, with its axes renamed, and its own output becomes a view;
an operator that does not gets the transpose, written out just before it. What is left at the end
of the graph goes into the output's `Port.perm`.

The same from the other side: for each input, the sweep is tried with the input in channels-last
form, and kept if that leaves fewer elements to move. Adding an operator to `SINKS` is how
transposes learn to pass it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_convert.graph import Graph, Node, Op, Port, Tensor, constant
from edge_convert.passes.reshape_groups import permuted_reshape, whole_groups
from edge_convert.shapes import ELEMENTWISE_BINARY, ELEMENTWISE_UNARY, REDUCTIONS, infer

Perm = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """A tensor of the old graph is `base` of the new one, transposed by `perm`."""

    base: Tensor
    perm: Perm

    @property
    def shape(self) -> tuple[int, ...]:
        """As the readers of the old graph see it."""
        return tuple(self.base.shape[p] for p in self.perm)


def identity(rank: int) -> Perm:
    """The permutation that moves nothing."""
    return tuple(range(rank))


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes this one."""
    return tuple(int(i) for i in np.argsort(perm))


def moves_nothing(shape: Sequence[int], perm: Perm) -> bool:
    """Whether only axes of size 1 change places, so that a RESHAPE does it."""
    kept = [p for p in perm if shape[p] != 1]
    return kept == sorted(kept)


def cost(graph: Graph) -> int:
    """Elements that TRANSPOSE nodes move when the graph runs once, and one for each RESHAPE."""
    moved = sum(graph.tensor(n.output).size for n in graph.nodes if n.op is Op.TRANSPOSE)
    return moved + sum(n.op is Op.RESHAPE for n in graph.nodes)


def apply(graph: Graph) -> Graph:
    """Sink transposes to where they vanish; choose the layout of each input by trial."""
    best = _Sweep(graph).run({})
    layouts: dict[str, Perm] = {}
    for port in graph.inputs:
        rank = len(graph.tensor(port.tensor).shape)
        if port.perm is not None or rank not in (3, 4):
            continue
        trial = layouts | {port.tensor: (0, *range(2, rank), 1)}
        other = _Sweep(graph).run(trial)
        if cost(other) < cost(best):
            best, layouts = other, trial
    return best


@dataclass
class _Sweep:
    """One run through the graph; `views` and `nodes` grow as it goes."""

    graph: Graph
    views: dict[str, View] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    written: dict[tuple[str, Perm], Tensor] = field(default_factory=dict)

    def run(self, layouts: Mapping[str, Perm]) -> Graph:
        """The rewritten graph, with inputs in the layouts given (by tensor name)."""
        self.tensors = dict(self.graph.tensors)
        inputs = tuple(self._input(port, layouts.get(port.tensor)) for port in self.graph.inputs)
        for node in self.graph.nodes:
            self._visit(node)
        outputs = tuple(self._output(port) for port in self.graph.outputs)
        return self.graph.rewritten(self.nodes, self.tensors.values(), inputs, outputs)

    # --- the rim ---

    def _input(self, port: Port, perm: Perm | None) -> Port:
        tensor = self.graph.tensor(port.tensor)
        if perm is None:
            self.views[tensor.name] = View(tensor, identity(len(tensor.shape)))
            return port
        tensor = replace(tensor, shape=tuple(tensor.shape[p] for p in perm))
        self.tensors[tensor.name] = tensor
        self.views[tensor.name] = View(tensor, inverse(perm))
        return replace(port, perm=perm)

    def _output(self, port: Port) -> Port:
        view = self.view(port.tensor)
        outer = port.perm or identity(len(view.perm))
        perm = tuple(view.perm[p] for p in outer)
        if perm == identity(len(perm)):
            return replace(port, tensor=view.base.name, perm=None)
        if perm[0] != 0:  # samples are counted along axis 0, on both sides
            return replace(port, tensor=self.materialised(port.tensor).name)
        return replace(port, tensor=view.base.name, perm=perm)

    # --- one node ---

    def view(self, name: str) -> View:
        """What the old graph's tensor is now."""
        if name not in self.views:
            tensor = self.graph.tensor(name)
            self.views[name] = View(tensor, identity(len(tensor.shape)))
        return self.views[name]

    def materialised(self, name: str) -> Tensor:
        """The old graph's tensor itself, with the transpose written out if it is a view."""
        view = self.view(name)
        return self.transposed(view.base, view.perm)

    def transposed(self, x: Tensor, perm: Perm) -> Tensor:
        """`x` moved by `perm`: itself, a constant, a RESHAPE, or a TRANSPOSE, each written once."""
        if perm == identity(len(perm)):
            return x
        if (x.name, perm) not in self.written:
            name = f"{x.name}:{''.join(map(str, perm))}"
            shape = tuple(x.shape[p] for p in perm)
            if x.data is not None:
                tensor = constant(name, np.transpose(x.data, perm))
            elif moves_nothing(x.shape, perm):
                tensor = Tensor(name, shape, x.dtype)
                self.nodes.append(Node(Op.RESHAPE, name, (x.name,), (name,), {"shape": shape}))
            else:
                tensor = Tensor(name, shape, x.dtype)
                self.nodes.append(Node(Op.TRANSPOSE, name, (x.name,), (name,), {"perm": perm}))
            self.tensors[name] = tensor
            self.written[x.name, perm] = tensor
        return self.written[x.name, perm]

    def emit(self, node: Node, inputs: Sequence[Tensor], attrs: Mapping[str, Any], perm: Perm) -> None:
        """Write the node on these inputs; its old output is the new one seen through `perm`."""
        shape, dtype = infer(node.op, inputs, attrs)
        tensor = Tensor(node.output, shape, dtype)
        self.tensors[node.output] = tensor
        self.nodes.append(replace(node, inputs=tuple(t.name for t in inputs), attrs=dict(attrs)))
        self.views[node.output] = View(tensor, perm)

    def _visit(self, node: Node) -> None:
        if node.op is Op.TRANSPOSE:
            inner = self.view(node.inputs[0])
            self.views[node.output] = View(inner.base, tuple(inner.perm[p] for p in node.attrs["perm"]))
            return
        moved = any(v.perm != identity(len(v.perm)) for v in map(self.view, node.inputs))
        if moved and node.op in SINKS and SINKS[node.op](self, node):
            return
        # every input as the old graph had it
        inputs = [self.materialised(name) for name in node.inputs]
        self.emit(node, inputs, node.attrs, identity(len(self.graph.tensor(node.output).shape)))


# --- how a transpose passes each kind of operator: True if it did -------------------------------

Sink = Callable[[_Sweep, Node], bool]


def _rank_of(sweep: _Sweep, node: Node) -> int:
    return len(sweep.graph.tensor(node.output).shape)


def _unary(sweep: _Sweep, node: Node) -> bool:
    view = sweep.view(node.inputs[0])
    sweep.emit(node, [view.base], node.attrs, view.perm)
    return True


def _channels_to_front(perm: Perm) -> bool:
    return perm == (0, len(perm) - 1, *range(1, len(perm) - 1)) and len(perm) > 3


def _common_perm(sweep: _Sweep, node: Node) -> Perm | None:
    """The permutation under which the node is best run, or None to leave it as it is.

    All moved operands agreeing is the plain case. Otherwise an operand must be free to move
    (constant, or only sizes of 1 change places), or the views come from channels-last tensors,
    where it pays to bring the rest over too.
    """
    rank = _rank_of(sweep, node)
    views = [v for v in map(sweep.view, node.inputs) if v.base.data is None and len(v.perm) == rank]
    perms = {v.perm for v in views if v.perm != identity(rank)}
    if len(perms) != 1:
        perms = {p for p in perms if _channels_to_front(p)}
        if len(perms) != 1:
            return None
    perm = perms.pop()
    moved = [v for v in views if v.perm != perm]
    free = all(
        moves_nothing(v.shape, inverse(perm)) or (v.base.name, _join(v.perm, inverse(perm))) in sweep.written
        for v in moved
    )
    return perm if free or _channels_to_front(perm) else None


def _join(first: Perm, then: Perm) -> Perm:
    """Transposing by `first` and then by `then`, as one permutation."""
    return tuple(first[p] for p in then)


def _brought(sweep: _Sweep, name: str, perm: Perm) -> Tensor:
    """An operand of any rank so that, transposed by `perm`, it is the operand of the old graph."""
    view = sweep.view(name)
    rank = len(perm)
    if view.base.data is not None and len(view.perm) < rank:
        if view.base.size == 1:
            return view.base
        full = view.base.data.reshape((1,) * (rank - len(view.perm)) + view.base.shape)
        tensor = constant(f"{name}:{rank}d", full)
        sweep.tensors[tensor.name] = tensor
        return sweep.transposed(tensor, inverse(perm))
    return sweep.transposed(view.base, _join(view.perm, inverse(perm)))


def _elementwise(sweep: _Sweep, node: Node) -> bool:
    rank = _rank_of(sweep, node)
    if any(sweep.view(n).base.data is None and len(sweep.view(n).perm) not in (0, rank) for n in node.inputs):
        return False
    perm = _common_perm(sweep, node)
    if perm is None:
        return False
    sweep.emit(node, [_brought(sweep, n, perm) for n in node.inputs], node.attrs, perm)
    return True


def _prelu(sweep: _Sweep, node: Node) -> bool:
    view = sweep.view(node.inputs[0])
    if view.perm[0] != 0:
        return False
    slope = sweep.graph.tensor(node.inputs[1])
    assert slope.data is not None
    rank = len(view.perm)
    full = slope.data.reshape((1,) * (rank - slope.data.ndim) + slope.data.shape)
    moved = constant(
        f"{slope.name}:{''.join(map(str, view.perm))}", np.transpose(full, inverse(view.perm))[0]
    )
    sweep.tensors[moved.name] = moved
    sweep.emit(node, [view.base, moved], node.attrs, view.perm)
    return True


def _concat(sweep: _Sweep, node: Node) -> bool:
    perm = _common_perm(sweep, node)
    if perm is None:
        return False
    inputs = [_brought(sweep, n, perm) for n in node.inputs]
    sweep.emit(node, inputs, {"axis": perm[node.attrs["axis"]]}, perm)
    return True


def _per_axis(*keys: str) -> Sink:
    """Operators whose attributes are one entry for each axis."""

    def sink(sweep: _Sweep, node: Node) -> bool:
        view = sweep.view(node.inputs[0])
        back = inverse(view.perm)
        moved = {key: tuple(node.attrs[key][i] for i in back) for key in keys}
        sweep.emit(node, [view.base], {**node.attrs, **moved}, view.perm)
        return True

    return sink


def _dropped(perm: Perm, axes: Sequence[int]) -> Perm:
    """What is left of a permutation when some of the axes it gives are gone."""
    gone = sorted(perm[a] for a in axes)
    return tuple(p - sum(g < p for g in gone) for i, p in enumerate(perm) if i not in axes)


def _reduce(sweep: _Sweep, node: Node) -> bool:
    view = sweep.view(node.inputs[0])
    axes = tuple(node.attrs["axes"])
    moved = tuple(sorted(view.perm[a] for a in axes))
    perm = view.perm if node.attrs["keepdims"] else _dropped(view.perm, axes)
    sweep.emit(node, [view.base], {**node.attrs, "axes": moved}, perm)
    return True


def _arg_max(sweep: _Sweep, node: Node) -> bool:
    view = sweep.view(node.inputs[0])
    axis = node.attrs["axis"]
    sweep.emit(node, [view.base], {"axis": view.perm[axis]}, _dropped(view.perm, (axis,)))
    return True


def _last_axis(sweep: _Sweep, node: Node) -> bool:
    """Operators that work along the last axis and leave the others alone."""
    view = sweep.view(node.inputs[0])
    if view.perm[-1] != len(view.perm) - 1:
        return False
    rest = [sweep.materialised(n) for n in node.inputs[1:]]
    sweep.emit(node, [view.base, *rest], node.attrs, view.perm)
    return True


def _gather(sweep: _Sweep, node: Node) -> bool:
    view, indices = sweep.view(node.inputs[0]), sweep.view(node.inputs[1])
    if len(indices.perm) != 1:
        return False
    sweep.emit(node, [view.base, indices.base], {"axis": view.perm[node.attrs["axis"]]}, view.perm)
    return True


def _broadcast_to(sweep: _Sweep, node: Node) -> bool:
    view = sweep.view(node.inputs[0])
    if len(view.perm) != _rank_of(sweep, node):
        return False
    return _per_axis("shape")(sweep, node)


def _reshape(sweep: _Sweep, node: Node) -> bool:
    view = sweep.view(node.inputs[0])
    wanted = tuple(node.attrs["shape"])
    # what has to move so that each group is in one piece, and no more than that
    order = whole_groups(view.base.shape, view.perm, wanted)
    base = sweep.transposed(view.base, order)
    shape, perm = permuted_reshape(base.shape, _join(inverse(order), view.perm), wanted)
    sweep.emit(node, [base], {"shape": shape}, perm)
    return True


def _pointwise(sweep: _Sweep, node: Node) -> bool:
    """A 1x1 convolution does not care which way height and width lie."""
    plain = (
        sweep.graph.tensor(node.inputs[1]).shape[1:3] == (1, 1)
        and tuple(node.attrs["strides"]) == (1, 1)
        and not any(node.attrs["pads"])
    )
    return plain and sweep.view(node.inputs[0]).perm[0] == 0 and _last_axis(sweep, node)


SINKS: dict[Op, Sink] = {
    **dict.fromkeys(ELEMENTWISE_UNARY, _unary),
    **dict.fromkeys(ELEMENTWISE_BINARY | {Op.SELECT}, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduce),
    Op.PRELU: _prelu,
    Op.CONCAT: _concat,
    Op.PAD: _per_axis("paddings"),
    Op.MIRROR_PAD: _per_axis("paddings"),
    Op.SLICE: _per_axis("begin", "end", "strides"),
    Op.TILE: _per_axis("multiples"),
    Op.BROADCAST_TO: _broadcast_to,
    Op.ARG_MAX: _arg_max,
    Op.SOFTMAX: _last_axis,
    Op.LOG_SOFTMAX: _last_axis,
    Op.L2_NORMALIZE: _last_axis,
    Op.DENSE: _last_axis,
    Op.CONV2D: _pointwise,
    Op.GATHER: _gather,
    Op.RESHAPE: _reshape,
}
