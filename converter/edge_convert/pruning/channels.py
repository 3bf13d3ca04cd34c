"""Which channels of which tensors must go or stay together.

Every element of a tensor's last axis gets the number of a channel. A convolution or dense layer mixes its
input's channels into new ones; everything else hands them on, and an addition makes its operands' channels
one. What cannot be followed is locked: it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Graph, Node, Op
from edge_convert.shapes import ELEMENTWISE_BINARY, ELEMENTWISE_UNARY, REDUCTIONS

Ids = NDArray[np.int64]

_SAME_CHANNELS = (ELEMENTWISE_UNARY - {Op.CAST}) | {
    Op.PRELU,
    Op.AVERAGE_POOL2D,
    Op.MAX_POOL2D,
    Op.RESIZE_BILINEAR,
    Op.RESIZE_NEAREST,
}


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a graph.

    Args:
        ids: By computed tensor: the channel of each element of its last axis; channels that must go
            together have the same number.
        locked: By channel: whether it must stay.
        mixers: The nodes that read channels and mix them: (node, name of the tensor read).
        made: The channels of each mixer's result.
    """

    ids: dict[str, Ids]
    locked: NDArray[np.bool_]
    mixers: tuple[tuple[Node, str], ...]
    made: tuple[Ids, ...]


def mixes(node: Node) -> bool:
    """Whether the node is a layer that sums over its input's channels."""
    return node.op in (Op.DENSE, Op.TRANSPOSE_CONV2D) or (node.op is Op.CONV2D and node.attrs["groups"] == 1)


def trace(graph: Graph) -> Channels:
    """Follow the channels through the graph."""
    return Tracer(graph).followed()


def groups(channels: Channels) -> tuple[Ids, ...]:
    """The channels that some layer makes, in sets that widths are chosen for: those of one layer, with those
    that additions and the like have made one with them. Sets with a locked channel, or that nothing mixes,
    are left out. In the order of their first channel."""
    read = set(np.concatenate([channels.ids[name] for _, name in channels.mixers]).tolist())
    sets: list[set[int]] = []
    for made in channels.made:
        new = set(made.tolist())
        for other in [s for s in sets if s & new]:
            sets.remove(other)
            new |= other
        sets.append(new)
    free = [s for s in sets if s <= read and not channels.locked[list(s)].any()]
    return tuple(np.array(sorted(s), np.int64) for s in sorted(free, key=min))


class Tracer:
    """Channel numbers so far: union-find over integers. A subclass may follow them by other rules."""

    def __init__(self, graph: Graph) -> None:
        """Begin with no channel known."""
        self.graph = graph
        self.ids: dict[str, Ids] = {}
        self.leaders: list[int] = []
        self.locked: list[bool] = []
        self.mixers: list[tuple[Node, str]] = []

    def followed(self) -> Channels:
        """Follow the channels from the inputs to the outputs; those of both must stay."""
        for port in self.graph.inputs:
            self.give(port.tensor, self.fresh(port.tensor), locked=True)
        for node in self.graph.nodes:
            self.step(node)
        for name in self.graph.output_tensors():
            if not self.graph.tensor(name).is_constant:
                self.lock(name)
        return self.finish()

    def fresh(self, name: str) -> Ids:
        """New channels for a tensor."""
        shape = self.graph.tensor(name).shape
        start, count = len(self.leaders), shape[-1] if shape else 1
        self.leaders += range(start, start + count)
        self.locked += [False] * count
        return np.arange(start, start + count)

    def give(self, name: str, ids: Ids, locked: bool = False) -> None:
        """Say what a tensor's channels are."""
        self.ids[name] = ids
        if locked:
            self.lock(name)

    def lock(self, name: str) -> None:
        """Keep every channel of this tensor."""
        for channel in self.ids[name]:
            self.locked[channel] = True

    def leader(self, channel: int) -> int:
        """The number that stands for all channels made one with this."""
        while self.leaders[channel] != channel:
            self.leaders[channel] = self.leaders[self.leaders[channel]]
            channel = self.leaders[channel]
        return channel

    def join(self, left: Ids, right: Ids) -> None:
        """Make the channels of two tensors go together, one by one."""
        for a, b in zip(left, right, strict=True):
            self.leaders[self.leader(int(a))] = self.leader(int(b))

    def step(self, node: Node) -> None:
        """Hand the channels on through one node."""
        computed = [name for name in node.inputs if not self.graph.tensor(name).is_constant]
        if mixes(node) and computed == [node.inputs[0]]:
            self.mixers.append((node, node.inputs[0]))
            self.give(node.output, self.fresh(node.output))
            return
        ids = self._handed_on(node, computed)
        if ids is not None:
            self.give(node.output, ids)
            return
        for name in computed:
            self.lock(name)
        self.give(node.output, self.fresh(node.output), locked=True)

    def _handed_on(self, node: Node, computed: list[str]) -> Ids | None:
        """The channels of the result, or None when they cannot be followed."""
        if not computed:
            return None
        if node.op in ELEMENTWISE_BINARY:
            return self._of_binary(node, computed)
        if node.op is Op.CONCAT:
            return self._of_concat(node, computed)
        if computed != [node.inputs[0]]:
            return None
        source = self.ids[computed[0]]
        if node.op in _SAME_CHANNELS:
            return source
        rule = _FOLLOWED.get(node.op)
        positions = None if rule is None else rule(self.graph, node)
        return None if positions is None else source[positions]

    def _of_binary(self, node: Node, computed: list[str]) -> Ids | None:
        shape = self.graph.tensor(node.output).shape
        if not shape or any(self.graph.tensor(name).shape[-1:] != shape[-1:] for name in computed):
            return None
        for name in computed[1:]:
            self.join(self.ids[computed[0]], self.ids[name])
        return self.ids[computed[0]]

    def _of_concat(self, node: Node, computed: list[str]) -> Ids | None:
        if len(computed) != len(node.inputs):
            return None
        parts = [self.ids[name] for name in node.inputs]
        if node.attrs["axis"] == len(self.graph.tensor(node.output).shape) - 1:
            return np.concatenate(parts)
        for part in parts[1:]:
            self.join(parts[0], part)
        return parts[0]

    def finish(self) -> Channels:
        """Every channel by the number of its leader."""
        leaders = np.array([self.leader(i) for i in range(len(self.leaders))], np.int64)
        locked = np.zeros(len(leaders), bool)
        np.logical_or.at(locked, leaders, np.array(self.locked, bool))
        made = tuple(leaders[self.ids[node.output]] for node, _ in self.mixers)
        return Channels(
            {name: leaders[ids] for name, ids in self.ids.items()}, locked, tuple(self.mixers), made
        )


def _whole(graph: Graph, node: Node, same: bool) -> Ids | None:
    return np.arange(graph.tensor(node.inputs[0]).shape[-1]) if same else None


def _of_depthwise(graph: Graph, node: Node) -> Ids | None:
    source, weights = graph.tensor(node.inputs[0]).shape, graph.tensor(node.inputs[1]).shape
    return _whole(graph, node, source[3] == weights[3])


def _of_reshape(graph: Graph, node: Node) -> Ids | None:
    """The same last axis, or an image flattened row by row: its channels again and again."""
    source, shape = graph.tensor(node.inputs[0]).shape, graph.tensor(node.output).shape
    if not source or not shape:
        return None
    if source[-1] == shape[-1]:
        return np.arange(source[-1])
    if len(shape) == 2 and shape[0] == source[0] == 1:
        return np.tile(np.arange(source[-1]), shape[1] // source[-1])
    return None


def _of_reduction(graph: Graph, node: Node) -> Ids | None:
    last = len(graph.tensor(node.inputs[0]).shape) - 1
    return _whole(graph, node, last not in node.attrs["axes"])


def _of_slice(graph: Graph, node: Node) -> Ids | None:
    shape = graph.tensor(node.inputs[0]).shape
    same = (node.attrs["begin"][-1], node.attrs["end"][-1], node.attrs["strides"][-1]) == (0, shape[-1], 1)
    return _whole(graph, node, same)


def _of_transpose(graph: Graph, node: Node) -> Ids | None:
    perm = node.attrs["perm"]
    return _whole(graph, node, perm[-1] == len(perm) - 1)


def _of_pad(graph: Graph, node: Node) -> Ids | None:
    return _whole(graph, node, tuple(node.attrs["paddings"][-1]) == (0, 0))


# operator -> for each element of the result's last axis the source's element; None: cannot be followed
_FOLLOWED: dict[Op, Callable[[Graph, Node], Ids | None]] = {
    Op.DEPTHWISE_CONV2D: _of_depthwise,
    Op.RESHAPE: _of_reshape,
    Op.SLICE: _of_slice,
    Op.TRANSPOSE: lambda graph, node: _whole(
        graph, node, node.attrs["perm"][-1] == len(node.attrs["perm"]) - 1
    ),
    Op.PAD: lambda graph, node: _whole(graph, node, tuple(node.attrs["paddings"][-1]) == (0, 0)),
    Op.MIRROR_PAD: lambda graph, node: _whole(graph, node, tuple(node.attrs["paddings"][-1]) == (0, 0)),
    **dict.fromkeys(REDUCTIONS, _of_reduction),
}
