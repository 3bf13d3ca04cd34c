"""Pruning: whole channels removed, so that the model becomes smaller and faster on any runtime.

First those that are dead (`dead_channels.py`, exact on the calibration samples), then, if asked for, those
whose loss the layers behind them can best make up for (`least_squares.py`). Nothing here is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_convert import dead_channels, reference, score
from edge_convert.channels import Channels, mixes, trace
from edge_convert.graph import Array, Graph, Op
from edge_convert.least_squares import reconstruct
from edge_convert.shrink import kept_positions
from edge_convert.statistics import sample_count

# What "auto" tries, the largest first, and what it asks of the outputs on samples kept back.
_AUTO_AMOUNTS = (0.5, 0.375, 0.25, 0.125)
_AUTO_MIN_AGREEMENT = 0.99
_AUTO_MIN_SQNR_DB = 20.0
# Kernels work on this many channels at a time; a width in between costs as much as the next one up.
_WIDTH_STEP = 8
# Least squares needs no more samples than this.
_MOST_SAMPLES = 128


@dataclass(frozen=True)
class Removed:
    """A layer that became narrower: its name, what the source called it, its channels before and after."""

    layer: str
    source: str
    before: int
    after: int


@dataclass(frozen=True, eq=False)
class Pruned:
    """A smaller graph.

    Args:
        amount: Share of the living channels that was removed, 0 when only dead ones were.
        dead: Channels removed because they never change.
        weak: Channels removed although they do.
        parameters_before, parameters_after: Float constants' elements.
    """

    graph: Graph
    removed: tuple[Removed, ...]
    amount: float
    dead: int
    weak: int
    parameters_before: int
    parameters_after: int

    @property
    def summary(self) -> str:
        """One line, for the provenance and the report."""
        return (
            f"{self.dead} dead and {self.weak} weak channels removed, "
            f"{self.parameters_before} -> {self.parameters_after} parameters"
        )


def prune(graph: Graph, feeds: Mapping[str, Array], amount: Literal["auto"] | float | None) -> Pruned:
    """Remove channels.

    Args:
        feeds: Calibration samples by input port name.
        amount: None changes nothing. A number is the share of the living, removable channels to remove
            after the dead ones, 0 to below 1 (widths stay multiples of 8 where they can). "auto" takes
            the largest share that leaves the outputs of the last quarter, kept back for that, within
            20 dB and the top-1 class in agreement on 99 %; 0 if there is none.

    Raises:
        ValueError: The amount is not a share.
    """
    if amount is None:
        return Pruned(graph, (), 0.0, 0, 0, graph.parameters(), graph.parameters())
    if amount != "auto" and not 0.0 <= amount < 1.0:
        raise ValueError(f"the share of channels to remove is {amount}; expected 0 to below 1")
    lean, dead = dead_channels.remove(graph, feeds)
    if amount == "auto":
        smaller, weak, share = _largest_within_limits(lean, feeds)
    else:
        share = float(amount)
        smaller, weak = _without_weak(lean, feeds, share)
    return Pruned(
        smaller,
        _narrowed(graph, smaller),
        share,
        dead,
        weak,
        graph.parameters(),
        smaller.parameters(),
    )


def _largest_within_limits(graph: Graph, feeds: Mapping[str, Array]) -> tuple[Graph, int, float]:
    count = sample_count(feeds)
    # the last quarter, not every fourth: neighbours in a data set are often near copies
    back = np.arange(count) >= count - count // 4
    if not back.any():
        return graph, 0, 0.0
    learn = {name: np.asarray(array)[~back] for name, array in feeds.items()}
    judge = {name: np.asarray(array)[back] for name, array in feeds.items()}
    wanted = reference.run(graph, judge)
    for share in _AUTO_AMOUNTS:
        smaller, weak = _without_weak(graph, learn, share)
        if weak and _near(wanted, reference.run(smaller, judge)):
            return smaller, weak, share
    return graph, 0, 0.0


def _near(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
    ratio = score.worst_sqnr_db(wanted, found)
    agree = min(score.agreement(array, found[name]) for name, array in wanted.items() if array.ndim > 1)
    return (ratio is None or ratio >= _AUTO_MIN_SQNR_DB) and agree >= _AUTO_MIN_AGREEMENT


def _without_weak(graph: Graph, feeds: Mapping[str, Array], share: float) -> tuple[Graph, int]:
    """Remove the weakest channels and fit what is left; the number of channels that went."""
    if share == 0.0:
        return graph, 0
    channels = trace(graph)
    few = {name: np.asarray(array)[:_MOST_SAMPLES] for name, array in feeds.items()}
    seen = dead_channels.spreads(graph, few, {name for _, name in channels.mixers})
    weakest = _weakest(graph, channels, seen, share)
    count = int(weakest.sum())
    if count == 0:
        return graph, 0
    means = {name: spread.mean for name, spread in seen.items()}
    smaller = dead_channels.cut(graph, channels, weakest, means)
    return reconstruct(graph, smaller, kept_positions(channels, weakest), few), count


def _weakest(
    graph: Graph, channels: Channels, seen: Mapping[str, dead_channels.Spread], share: float
) -> NDArray[np.bool_]:
    """The share of the removable channels that say least to the layers that mix them, by channel number.

    A channel's say is the variance that it alone brings to a layer's results, relative to all channels'
    together, summed over the layers that read it.
    """
    say = np.zeros(len(channels.locked))
    read = np.zeros(len(channels.locked), bool)
    for node, name in channels.mixers:
        weights = graph.constant(node.inputs[1]).astype(np.float64)
        power = (weights**2).reshape(-1, weights.shape[-1]).sum(axis=0) * seen[name].variance
        np.add.at(say, channels.ids[name], power / max(power.sum(), 1e-30))
        read[channels.ids[name]] = True
    candidates = np.flatnonzero(read & ~channels.locked)
    order = candidates[np.argsort(say[candidates], kind="stable")]
    removed = np.zeros(len(channels.locked), bool)
    removed[order[: int(share * len(candidates))]] = True
    return dead_channels.keep_one(channels, _to_whole_widths(channels, removed, say))


def _to_whole_widths(
    channels: Channels, removed: NDArray[np.bool_], say: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Give back the strongest removed channels of each tensor until its width is a multiple of 8."""
    removed = removed.copy()
    for ids in channels.ids.values():
        unique = np.unique(ids)
        gone = unique[removed[unique]]
        if len(gone) == 0:
            continue
        width = len(unique) - len(gone)
        spare = min(-width % _WIDTH_STEP, len(gone))
        back = gone[np.argsort(-say[gone], kind="stable")][:spare]
        removed[back] = False
    return removed


def _narrowed(before: Graph, after: Graph) -> tuple[Removed, ...]:
    now = {node.name: after.tensor(node.output).shape for node in after.nodes}
    rows = []
    for node in before.nodes:
        if not mixes(node) and node.op is not Op.DEPTHWISE_CONV2D:
            continue
        old, new = before.tensor(node.output).shape[-1], now[node.name][-1]
        if new != old:
            rows.append(Removed(node.name, node.source, old, new))
    return tuple(rows)
