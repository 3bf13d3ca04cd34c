"""Dead channels: those that say the same on every calibration sample.

A channel is dead when every layer that mixes it reads a constant there. The constant is folded into that
layer's bias and the channel is cut out everywhere; on the calibration samples the answers stay the same up
to rounding. (The person detector of MLPerf Tiny: 978 of its channels, 86 % of its parameters.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert import reference
from edge_convert.graph import Array, Graph, Node, Op
from edge_convert.pruning.channels import Channels, trace
from edge_convert.pruning.shrink import kept_positions, shrink, with_weights
from edge_convert.quantizing.statistics import chunks

# Two values this near, relative to the largest of their tensor, are one value summed in another order.
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Spread:
    """What a tensor's channels say over all samples and positions: arrays of shape (channels,)."""

    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which channels never change."""
        largest = max(float(np.abs(self.lowest).max()), float(np.abs(self.highest).max()))
        return np.asarray(self.highest - self.lowest <= _SAME * largest)


def spreads(graph: Graph, feeds: Mapping[str, Array], names: set[str]) -> dict[str, Spread]:
    """Run the samples through and look at the channels of some tensors."""
    low: dict[str, NDArray[np.float64]] = {}
    high: dict[str, NDArray[np.float64]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    squares: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for chunk in chunks(graph, feeds):
        for name, values in reference.evaluate(graph, chunk, keep=names).items():
            rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
            first = name not in low
            low[name] = rows.min(axis=0) if first else np.minimum(low[name], rows.min(axis=0))
            high[name] = rows.max(axis=0) if first else np.maximum(high[name], rows.max(axis=0))
            sums[name] = rows.sum(axis=0) + (0.0 if first else sums[name])
            squares[name] = (rows**2).sum(axis=0) + (0.0 if first else squares[name])
            counts[name] = len(rows) + counts.get(name, 0)
    return {
        name: Spread(
            low[name],
            high[name],
            sums[name] / counts[name],
            np.maximum(squares[name] / counts[name] - (sums[name] / counts[name]) ** 2, 0.0),
        )
        for name in low
    }


def find(graph: Graph, channels: Channels, seen: Mapping[str, Spread]) -> NDArray[np.bool_]:
    """Which channels can go, by channel number.

    Args:
        seen: Of every tensor that some layer mixes.
    """
    removable = ~channels.locked
    for node, name in channels.mixers:
        spread = seen[name]
        alive = ~spread.constant
        if _pads_with_zeros(node):
            # the border reads zeros: only a constant zero is the same everywhere
            alive |= spread.mean != 0.0
        removable[channels.ids[name][alive]] = False
    return keep_one(channels, removable)


def keep_one(channels: Channels, removable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave at least one channel to every tensor: an axis of length 0 is not a model."""
    removable = removable.copy()
    for ids in channels.ids.values():
        if len(ids) and removable[ids].all():
            removable[ids[0]] = False
    return removable


def remove(graph: Graph, feeds: Mapping[str, Array]) -> tuple[Graph, int]:
    """Fold every dead channel into the biases behind it and cut it out.

    Returns:
        The smaller graph, and how many channels went (each counted once, however many tensors bear it).
    """
    channels = trace(graph)
    seen = spreads(graph, feeds, {name for _, name in channels.mixers})
    dead = find(graph, channels, seen)
    present = np.unique(np.concatenate([ids for ids in channels.ids.values()]))
    count = int(dead[present].sum())
    if count == 0:
        return graph, 0
    means = {name: spread.mean for name, spread in seen.items()}
    return cut(graph, channels, dead, means), count


def cut(
    graph: Graph, channels: Channels, removed: NDArray[np.bool_], means: Mapping[str, NDArray[np.float64]]
) -> Graph:
    """Cut channels out; the layers that mixed them get the means of what they said into their biases."""
    changed: dict[str, tuple[Array, Array]] = {}
    for node, name in channels.mixers:
        gone = removed[channels.ids[name]]
        said = np.where(gone, means[name], 0.0)
        if not said.any():
            continue
        weights = graph.constant(node.inputs[1])
        bias = graph.constant(node.inputs[2]).reshape(-1) if len(node.inputs) == 3 else np.float32(0)
        per_channel = weights.astype(np.float64) @ said  # the source's channels are the last axis
        changed[node.name] = weights, bias + per_channel.reshape(len(weights), -1).sum(axis=1)
    return shrink(with_weights(graph, changed), kept_positions(channels, removed))


def _pads_with_zeros(node: Node) -> bool:
    # a transposed convolution does not reach every result with every tap
    return node.op is Op.TRANSPOSE_CONV2D or any(node.attrs.get("pads", ()))
