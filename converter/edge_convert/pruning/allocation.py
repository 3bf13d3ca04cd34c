"""How narrow each group of channels becomes: the least loss for the predicted time that it saves.

Losses are taken to add up, which they do while they are small; times are asked from `time_model.py` for the
whole of what a choice changes, since a layer that reads two narrowed groups gains from both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge_contracts.profile import Precision
from edge_convert import time_model
from edge_convert.graph import Graph, Node, Op
from edge_convert.pruning import stem, stem_fold
from edge_convert.pruning.channels import Channels, Ids
from edge_convert.pruning.sensitivity import Narrowing
from edge_convert.shapes import Shape
from edge_convert.time_model import Shapes

# Less than this share of the whole is no saving: the model's own error is larger.
_LEAST_SAVING = 1e-4


@dataclass(frozen=True, eq=False)
class Allocation:
    """A choice of widths.

    Args:
        chosen: One narrowing at most of each group.
        predicted_us: Of the graph with them.
        loss: Sum of the narrowings' own.
    """

    chosen: tuple[Narrowing, ...]
    predicted_us: float
    loss: float

    @property
    def removed(self) -> Ids:
        """Numbers of all channels that go."""
        return np.concatenate([n.cut.removed for n in self.chosen] or [np.zeros(0, np.int64)])


def allocate(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Ids],
    narrowings: Sequence[Narrowing],
    precision: Precision,
    most_parameters: int = 0,
) -> Iterator[Allocation]:
    """Narrow one group after the other, the cheapest loss per microsecond first, until nothing saves time.

    Args:
        most_parameters: That the graph may have once its first convolution is folded (`stem_fold.py`); 0
            when it will not be folded.

    Yields:
        Each choice on the way, faster and faster.
    """
    clock = _Clock(graph, channels, groups, precision, most_parameters)
    options: dict[int, list[Narrowing]] = {}
    for narrowing in narrowings:
        options.setdefault(narrowing.group, []).append(narrowing)
    chosen: dict[int, Narrowing] = {}
    now = clock.total({})
    least = now * _LEAST_SAVING
    while True:
        bids: list[_Bid] = []
        for group, offers in options.items():
            there = chosen.get(group)
            width = there.width if there else len(groups[group])
            narrower = [offer for offer in offers if offer.width < width]
            bids += _bids(narrower, there.loss if there else 0.0, chosen, now, clock)
        worth = [bid for bid in bids if bid.saved > least]
        if not worth:
            return
        best = min(worth, key=lambda bid: (bid.loss / bid.saved, -bid.saved)).offer
        chosen[best.group] = best
        now = clock.total(chosen)
        parts = tuple(chosen[g] for g in sorted(chosen))
        yield Allocation(parts, now, sum(n.loss for n in parts))


class _Bid(NamedTuple):
    """A narrowing, the loss that it adds, and the microseconds that it saves."""

    loss: float
    saved: float
    offer: Narrowing


def _bids(
    offers: Sequence[Narrowing], before: float, chosen: Mapping[int, Narrowing], now: float, clock: _Clock
) -> Iterator[_Bid]:
    """What the narrowings of one group would bring, on top of what is chosen.

    Args:
        before: Loss of the narrowing that is chosen of this group.
        now: Microseconds of what is chosen.
    """
    for offer in offers:
        yield _Bid(offer.loss - before, now - clock.total({**chosen, offer.group: offer}), offer)


class _Clock:
    """Predicted time of the graph under any widths; each node is asked once for each of its own."""

    def __init__(
        self,
        graph: Graph,
        channels: Channels,
        groups: Sequence[Ids],
        precision: Precision,
        most_parameters: int,
    ) -> None:
        self._graph, self._precision, self._ids = graph, precision, channels.ids
        self._most = most_parameters
        self._stems = {node.name for node in stem_fold.foldable(graph)} if most_parameters else set()
        of_channel = np.full(len(channels.locked), -1)
        for index, group in enumerate(groups):
            of_channel[group] = index
        self._touches = {
            name: tuple(int(o) for o in np.unique(of_channel[ids]) if o >= 0)
            for name, ids in channels.ids.items()
        }
        self._groups_of = {
            node.name: sorted({g for n in (*node.inputs, *node.outputs) for g in self._touches.get(n, ())})
            for node in graph.nodes
        }
        self._known: dict[tuple[str, tuple[int, ...]], tuple[float, int]] = {}

    def total(self, chosen: Mapping[int, Narrowing]) -> float:
        """Microseconds."""
        costs = {node.name: self._of(node, chosen) for node in self._graph.nodes}
        time = sum(us for us, _ in costs.values())
        size = sum(parameters for _, parameters in costs.values())
        for node in self._graph.nodes:
            if node.name in self._stems:
                us, parameters = costs[node.name]
                room = self._most - size + parameters
                time += stem.best(node, self._shapes(chosen), self._precision, room)[1] - us
        return time

    def _of(self, node: Node, chosen: Mapping[int, Narrowing]) -> tuple[float, int]:
        """Microseconds and parameters of one node."""
        widths = tuple(chosen[g].width if g in chosen else -1 for g in self._groups_of[node.name])
        if (node.name, widths) not in self._known:
            shapes = self._shapes(chosen)
            time = time_model.node_us(node, shapes, self._precision)
            self._known[node.name, widths] = time, self._parameters(node, shapes)
        return self._known[node.name, widths]

    def _shapes(self, chosen: Mapping[int, Narrowing]) -> Shapes:
        """Shapes of the computed tensors under these widths."""

        def shapes(name: str) -> Shape:
            shape = self._graph.tensor(name).shape
            gone = [chosen[g].cut.removed for g in self._touches.get(name, ()) if g in chosen]
            if not gone:
                return shape
            return (*shape[:-1], int((~np.isin(self._ids[name], np.concatenate(gone))).sum()))

        return shapes

    def _parameters(self, node: Node, shapes: Shapes) -> int:
        """Of a layer as wide as the shapes say; of any other node, what its constants hold now."""
        constants = [t for n in node.inputs if (t := self._graph.tensor(n)).is_constant]
        if node.op in (Op.CONV2D, Op.DENSE) and len(constants) == len(node.inputs) - 1:
            read, write = shapes(node.inputs[0])[-1], shapes(node.output)[-1]
            weights = constants[0].shape
            return int(write * (math.prod(weights[1:-1]) * (read // node.attrs.get("groups", 1)) + 1))
        return sum(t.size for t in constants)
