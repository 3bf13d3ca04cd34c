"""In which order a group's channels can go: each time the one whose loss the others make up for best.

Optimal Brain Surgeon (Hassibi and Stork 1993) for blocks: a channel is the block of columns that it has in
each layer that mixes it, the Hessian of that layer's squared error is the covariance of what it reads, and
taking block q out with the best answer of the rest costs tr(W_q (H^-1_qq)^-1 W_q'). The inverse follows by
a Schur complement, as in Optimal Brain Compression (Frantar et al., arXiv:2208.11580, eqs. 3 and 4). The
covariance is centred, for the bias takes the mean. A group that several layers read has the sum of their
errors, each relative to the power of that layer's results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_convert import reference
from edge_convert.graph import Array, Graph, Node, Op
from edge_convert.pruning.channels import Channels, Ids
from edge_convert.pruning.least_squares import MOST_INPUTS, MOST_ROWS, step_over, unfolded
from edge_convert.quantizing.statistics import chunks, sample_count

Floats = NDArray[np.float64]

# Of the mean variance, added to each: columns that hardly vary must not get huge weights.
_DAMPING = 1e-3


@dataclass(frozen=True, eq=False)
class Covariance:
    """What a mixing layer reads, over samples and positions.

    Args:
        mean: Shape (columns,), in the order of the layer's weights without the first axis.
        matrix: Shape (columns, columns), centred and divided by the number of rows.
    """

    mean: Floats
    matrix: Floats


@dataclass(frozen=True, eq=False)
class Cut:
    """A group with few enough channels left.

    Args:
        removed: Numbers of the channels that went.
        weights: By the name of a layer that mixes the group: its weights and bias, with what the others
            do for those that went; zero where these were.
        error: Squared errors of the layers' results, relative to their power, summed.
    """

    removed: Ids
    weights: Mapping[str, tuple[Array, Array]]
    error: float


def covariances(graph: Graph, channels: Channels, feeds: Mapping[str, Array]) -> dict[str, Covariance]:
    """By node name: what each convolution and dense layer reads that is not too wide for its equations."""
    mixers = [(node, name) for node, name in channels.mixers if _can_be_solved(graph, node)]
    samples = sample_count(feeds)
    sums: dict[str, Floats] = {}
    squares: dict[str, Floats] = {}
    rows: dict[str, int] = {}
    for chunk in chunks(graph, feeds):
        values = reference.evaluate(graph, chunk, keep={name for _, name in mixers})
        for node, name in mixers:
            shape = graph.tensor(node.output).shape
            step = step_over(shape, samples * math.prod(shape[:-1]), MOST_ROWS)
            x = unfolded(node, graph.constant(node.inputs[1]), values[name], step)
            x = x.astype(np.float64)
            sums[node.name] = x.sum(axis=0) + sums.get(node.name, 0.0)
            squares[node.name] = x.T @ x + squares.get(node.name, 0.0)
            rows[node.name] = len(x) + rows.get(node.name, 0)
    found = {}
    for name, total in sums.items():
        mean = total / rows[name]
        found[name] = Covariance(mean, squares[name] / rows[name] - np.outer(mean, mean))
    return found


def _can_be_solved(graph: Graph, node: Node) -> bool:
    weights = graph.tensor(node.inputs[1])
    return (
        node.op in (Op.CONV2D, Op.DENSE)
        and weights.is_constant
        and weights.size // weights.shape[0] <= MOST_INPUTS
    )


@dataclass(frozen=True, eq=False)
class _Reader:
    """A layer that mixes the group, while channels go.

    Args:
        members: Positions in the group of the channels that it reads.
        columns: By member: the columns of the weights that are the channel's; shape (members, block).
        weights: Shape (results, columns).
        inverse: Of the damped covariance.
        power: Variance of the results, summed.
    """

    node: Node
    members: Ids
    columns: Ids
    weights: Floats
    inverse: Floats
    power: float

    def errors(self, alive: NDArray[np.bool_]) -> Floats:
        """By member: what taking it out costs; infinite for one that is gone."""
        result = np.full(len(self.members), np.inf)
        still = np.flatnonzero(alive[self.members])
        if len(still):
            columns = self.columns[still]
            blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
            weights = self.weights.T[columns]
            result[still] = (weights * np.linalg.solve(blocks, weights)).sum(axis=(1, 2)) / self.power
        return result

    def without(self, member: int) -> _Reader:
        """The layer when the others have taken over what one channel did."""
        columns = self.columns[member]
        across = self.inverse[columns]
        block = across[:, columns]
        weights = self.weights - np.linalg.solve(block, self.weights[:, columns].T).T @ across
        inverse = self.inverse - across.T @ np.linalg.solve(block, across)
        weights[:, columns] = 0.0
        inverse[columns] = 0.0
        inverse[:, columns] = 0.0
        return replace(self, weights=weights, inverse=inverse)


def eliminate(
    graph: Graph,
    channels: Channels,
    group: Ids,
    seen: Mapping[str, Covariance],
    widths: Sequence[int],
) -> dict[int, Cut]:
    """Take the group's channels out one by one.

    Args:
        group: Channel numbers, each once.
        seen: Of the graph's layers.
        widths: How many channels to leave; those of the group's size and above are passed over.

    Returns:
        By width; empty when a layer that reads the group is not among those seen.
    """
    readers = _readers(graph, channels, group, seen)
    wanted = {w for w in widths if 0 < w < len(group)}
    if readers is None or not wanted:
        return {}
    alive = np.ones(len(group), bool)
    cuts: dict[int, Cut] = {}
    error = 0.0
    while alive.sum() > min(wanted):
        cost = np.where(alive, 0.0, np.inf)
        for reader in readers:
            cost[reader.members] += reader.errors(alive)
        least = int(cost.argmin())
        error += float(cost[least])
        alive[least] = False
        for index, reader in enumerate(readers):
            place = np.flatnonzero(reader.members == least)
            if len(place):
                readers[index] = reader.without(int(place[0]))
        if (left := int(alive.sum())) in wanted:
            weights = {r.node.name: _with_bias(graph, r, seen[r.node.name]) for r in readers}
            cuts[left] = Cut(group[~alive], weights, error)
    return cuts


def _readers(
    graph: Graph, channels: Channels, group: Ids, seen: Mapping[str, Covariance]
) -> list[_Reader] | None:
    place = {int(channel): i for i, channel in enumerate(group)}
    readers = []
    for node, name in channels.mixers:
        ids = channels.ids[name]
        if not np.isin(ids, group).any():
            continue
        if node.name not in seen:
            return None
        weights = graph.constant(node.inputs[1]).astype(np.float64)
        flat = weights.reshape(len(weights), -1)
        of_column = np.tile(ids, flat.shape[1] // len(ids))
        members = [channel for channel in np.unique(ids) if int(channel) in place]
        columns = [np.flatnonzero(of_column == channel) for channel in members]
        if len({len(c) for c in columns}) != 1:
            return None  # a channel that is read more often than another: their blocks do not stack
        matrix = seen[node.name].matrix
        power = float(np.einsum("oi,ij,oj->", flat, matrix, flat, optimize=True))
        damping = _DAMPING * float(np.trace(matrix)) / len(matrix) + 1e-12
        readers.append(
            _Reader(
                node,
                np.array([place[int(channel)] for channel in members]),
                np.stack(columns),
                flat,
                np.asarray(np.linalg.inv(matrix + damping * np.eye(len(matrix))), np.float64),
                max(power, 1e-30),
            )
        )
    return readers or None


def _with_bias(graph: Graph, reader: _Reader, seen: Covariance) -> tuple[Array, Array]:
    """The layer's weights and bias; the bias keeps the results' means."""
    node = reader.node
    before = graph.constant(node.inputs[1])
    flat = before.reshape(len(before), -1).astype(np.float64)
    bias = graph.constant(node.inputs[2]).reshape(-1) if len(node.inputs) == 3 else np.zeros(len(before))
    moved = bias + (flat - reader.weights) @ seen.mean
    return reader.weights.reshape(before.shape).astype(np.float32), moved.astype(np.float32)
