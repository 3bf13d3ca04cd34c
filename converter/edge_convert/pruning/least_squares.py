"""Layers taught again by least squares: what a smaller network's layer reads, to what the full one's gave.

In running order, so that each layer makes up for what was lost before it; one that ends in an addition
makes up for what the shortcut lost, too. No labels, no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert import reference
from edge_convert.graph import Array, Graph, Node, Op
from edge_convert.pruning.channels import mixes
from edge_convert.pruning.shrink import with_weights
from edge_convert.quantizing.simulate import Values, activation, last_uses, operands, runs, without_activation

# Rows of the normal equations, and their elements (128 MB): more of them only cost time and memory.
MOST_ROWS = 30_000
_MOST_ELEMENTS = 16 << 20
# A layer with more inputs than this keeps its weights: its equations would take gigabytes.
MOST_INPUTS = 2_500
# Pull towards the weights there are, relative to the inputs' mean power.
_RIDGE = 1e-3


@dataclass(frozen=True)
class Grid:
    """Every `step`-th pixel, beginning at these."""

    step: int
    top: int
    left: int


@dataclass(frozen=True)
class _Left:
    """What of each tensor of the full network the smaller one has; see `reconstruct`."""

    kept: Mapping[str, NDArray[np.int64]]
    grids: Mapping[str, Grid]

    def of(self, values: Array, name: str) -> Array:
        """That of one tensor's values."""
        if name in self.grids:
            grid = self.grids[name]
            values = values[:, grid.top :: grid.step, grid.left :: grid.step]
        return values[..., self.kept[name]]


@dataclass(frozen=True)
class _Pair:
    """The same samples in the full network and in the smaller one."""

    samples: int
    full: Values
    small: Values


def reconstruct(
    full: Graph,
    small: Graph,
    kept: Mapping[str, NDArray[np.int64]],
    feeds: Mapping[str, Array],
    grids: Mapping[str, Grid] | None = None,
) -> Graph:
    """The smaller graph with weights and biases fitted to the full one's results.

    Args:
        small: The same nodes as `full`, by name.
        kept: By tensor name: which of the full one's channels are left.
        grids: By tensor name: which of the full one's pixels are left; all where it is not named.
    """
    what_is_left = _Left(kept, grids or {})
    pairs = [
        _Pair(a.samples, a.values, b.values)
        for a, b in zip(runs(full, feeds), runs(small, feeds), strict=True)
    ]
    by_name = {node.name: node for node in small.nodes}
    changed: dict[str, tuple[Array, Array]] = {}
    ends = last_uses(full)
    for node in full.nodes:
        twin = by_name[node.name]
        wanted = [_apply(full, without_activation(node), pair.full, pair.samples) for pair in pairs]
        if _can_learn(small, twin):
            aims = [
                what_is_left.of(result, node.output) + _lost_beside(full, node, pair, what_is_left)
                for pair, result in zip(pairs, wanted, strict=True)
            ]
            changed[node.name] = _taught(small, twin, pairs, aims)
        for pair, result in zip(pairs, wanted, strict=True):
            read = _read(small, twin, pair, changed.get(node.name))
            pair.full[node.output] = activation(node)(result)
            pair.small[node.output] = reference.apply(twin, read, pair.samples)
            for name in ends[node.name]:
                del pair.full[name], pair.small[name]
    return with_weights(small, changed)


def _taught(small: Graph, twin: Node, pairs: Sequence[_Pair], aims: list[Array]) -> tuple[Array, Array]:
    """New weights and bias of a layer, from what it reads in the smaller network and what it should give."""
    weights, *bias = (small.constant(name) for name in twin.inputs[1:])
    seen = [pair.small[twin.inputs[0]] for pair in pairs]
    return _fitted(twin, weights, bias[0].reshape(-1) if bias else None, seen, aims)


def _read(small: Graph, twin: Node, pair: _Pair, taught: tuple[Array, Array] | None) -> Sequence[Array]:
    """What a node of the smaller network reads, with its new weights where it has some."""
    if taught is not None:
        return [pair.small[twin.inputs[0]], *taught]
    constants = {n: d for n in twin.inputs if (d := small.tensor(n).data) is not None}
    return operands(twin, pair.small, constants)


def _apply(graph: Graph, node: Node, values: Values, samples: int) -> Array:
    inputs = [values[n] if (d := graph.tensor(n).data) is None else d for n in node.inputs]
    return reference.apply(node, inputs, samples)


def _lost_beside(full: Graph, node: Node, pair: _Pair, what_is_left: _Left) -> Array | float:
    """What the other operand of the addition behind this node lacks; 0 if there is no such thing."""
    readers = full.consumers()[node.output]
    if [r.op for r in readers] != [Op.ADD] or node.attrs["activation"] != "none":
        return 0.0
    others = [name for name in readers[0].inputs if name != node.output]
    if len(others) != 1 or others[0] not in pair.full:
        return 0.0  # a constant, or not computed yet: then the other operand makes up for this one
    wanted, found = pair.full[others[0]], pair.small[others[0]]
    if full.tensor(others[0]).shape != full.tensor(node.output).shape:
        return 0.0  # broadcast
    return np.asarray(what_is_left.of(wanted, others[0]) - found)


def _can_learn(graph: Graph, node: Node) -> bool:
    weights = graph.tensor(node.inputs[1]).shape if len(node.inputs) > 1 else ()
    if node.op is Op.DEPTHWISE_CONV2D:
        return bool(graph.tensor(node.inputs[0]).shape[3] == weights[3])
    if not mixes(node) or node.op is Op.TRANSPOSE_CONV2D:
        return False
    return graph.tensor(node.inputs[1]).is_constant and int(np.prod(weights[1:])) <= MOST_INPUTS


def _fitted(
    node: Node, weights: Array, bias: Array | None, inputs: list[Array], wanted: list[Array]
) -> tuple[Array, Array]:
    """Weights and bias that bring the layer's results nearest to the wanted ones."""
    channels = wanted[0].shape[-1]
    linear = without_activation(node)
    now = [weights] if bias is None else [weights, bias]
    missing = [w - reference.apply(linear, [x, *now], len(x)) for x, w in zip(inputs, wanted, strict=True)]
    results = sum(m.size // channels for m in missing)
    most = min(MOST_ROWS, _MOST_ELEMENTS // int(np.prod(weights.shape[1:])))
    step = step_over(wanted[0].shape, results, most)
    x = np.concatenate([unfolded(node, weights, x, step) for x in inputs]).astype(np.float64)
    r = np.concatenate([m.reshape(-1, channels)[::step] for m in missing]).astype(np.float64)
    x_mean, r_mean = x.mean(axis=0), r.mean(axis=0)
    x, r = x - x_mean, r - r_mean
    if node.op is Op.DEPTHWISE_CONV2D:
        taps = x.reshape(len(x), -1, channels)
        gram = np.einsum("nkc,nlc->ckl", taps, taps)
        change = np.linalg.solve(_ridged(gram, len(x)), np.einsum("nkc,nc->ck", taps, r)[..., None])[..., 0]
        moved = r_mean - (change * x_mean.reshape(-1, channels).T).sum(axis=1)
        new = weights + change.T.reshape(weights.shape)
    else:
        change = np.linalg.solve(_ridged(x.T @ x, len(x)), x.T @ r).T
        moved = r_mean - change @ x_mean
        new = weights + change.reshape(weights.shape)
    old = np.zeros(channels) if bias is None else bias
    return new.astype(np.float32), (old + moved).astype(np.float32)


def _ridged(gram: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """The equations with a pull towards no change, stronger where there are few rows for the unknowns."""
    unknowns = gram.shape[-1]
    power = np.trace(gram, axis1=-2, axis2=-1) / unknowns
    strength = (power + 1e-12) * max(_RIDGE, 0.3 * unknowns / rows)
    return gram + np.asarray(strength)[..., None, None] * np.eye(unknowns)


def step_over(shape: tuple[int, ...], results: int, most: int) -> int:
    """Every how manieth result to take for `most` of them or a few less.

    A step that shares a factor with rows or columns would come by some of them only: every fifth pixel of
    a map five wide is always in the same column.

    Args:
        shape: Of what the layer gives, samples first and channels last.
    """
    step = max(1, results // most)
    while math.gcd(step, math.prod(shape[1:-1])) > 1:
        step += 1
    return step


def unfolded(node: Node, weights: Array, x: Array, step: int) -> Array:
    """What every `step`-th result is a weighted sum of, in the order of the weights: (results, inputs)."""
    if node.op is Op.DENSE:
        return x.reshape(-1, x.shape[-1])[::step]
    top, bottom, left, right = node.attrs["pads"]
    if any(node.attrs["pads"]):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (kh, kw), (dh, dw), (sh, sw) = weights.shape[1:3], node.attrs["dilations"], node.attrs["strides"]
    windows = np.lib.stride_tricks.sliding_window_view(x, (dh * (kh - 1) + 1, dw * (kw - 1) + 1), axis=(1, 2))
    windows = windows[:, ::sh, ::sw, :, ::dh, ::dw]  # a view: n, out_h, out_w, c, kh, kw
    chosen = np.unravel_index(np.arange(0, int(np.prod(windows.shape[:3])), step), windows.shape[:3])
    return windows[chosen].transpose(0, 2, 3, 1).reshape(len(chosen[0]), -1)
