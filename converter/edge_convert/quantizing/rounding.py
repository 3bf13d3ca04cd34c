"""Weight rounding: integer weights chosen so that a layer's results come nearest to the float network's.

The nearest code of each weight alone is not the best: errors of weights that read similar inputs can cancel.
Frantar & Alistarh, arXiv:2208.11580 (OBC) and arXiv:2210.17323 (GPTQ): weights are rounded one input after
the other, and those still to come move to make up for each rounding, by the inverse of the inputs' Gram
matrix. Nagel et al., arXiv:2004.10568 (AdaRound) is where layer-by-layer rounding from a few unlabelled
samples comes from. Behdin et al., arXiv:2309.01885 (QuantEase) is the sweep over single codes that follows.

In running order, on inputs of the network quantized so far, with the float network's results before the
activation as the target: the weights that are rounded have moved to make up for the errors upstream, as in
`least_squares.py`. A layer keeps its rounding only where that lowers the error after its activation on
samples that it was not fitted to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Array, Graph, Node, Op
from edge_convert.pruning.least_squares import MOST_INPUTS, step_over, unfolded
from edge_convert.quantizing.copying import copies
from edge_convert.quantizing.quantization import Quantization
from edge_convert.quantizing.ranges import LARGEST_WEIGHT_CODE
from edge_convert.quantizing.simulate import activation, multiplies_codes

Codes = NDArray[np.float64]

# Rows of the normal equations for each unknown, and the fewest and most of them.
_ROWS_PER_INPUT = 12
_FEWEST_ROWS, _MOST_ROWS = 2048, 30_000
# Pull towards the float weights, relative to the inputs' mean power.
_RIDGE = 1e-3
# One in so many samples is not fitted to, and judges.
_JUDGES = 4
# Sweeps over all weights of a layer, one code up or down at a time.
_SWEEPS = 2
# Inputs whose roundings reach the inputs after them in one product.
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class Rows:
    """What a layer reads and what it should give, some results of some samples.

    Args:
        x: Inputs of a result in the order of the weights, (rows, inputs); for a depthwise layer
            (rows, taps, channels).
        y: Wanted result before the activation, (rows, channels).
        judges: Which rows are of samples that are not fitted to.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    judges: NDArray[np.bool_]


def can_round(graph: Graph, quantization: Quantization, node: Node) -> bool:
    """Whether the node's weights are free to be rounded by what they do."""
    if not multiplies_codes(quantization, node) or copies(graph, node):
        return False
    weights = graph.tensor(node.inputs[1]).shape
    if len(graph.consumers()[node.inputs[1]]) > 1:
        return False  # they serve two layers
    if node.op is Op.DEPTHWISE_CONV2D:
        return bool(graph.tensor(node.inputs[0]).shape[3] == weights[3])
    if node.op is Op.CONV2D:
        return bool(node.attrs["groups"] == 1) and int(np.prod(weights[1:])) <= MOST_INPUTS
    return node.op is Op.DENSE and weights[1] <= MOST_INPUTS


def rows_of(node: Node, weights: Array, inputs: list[Array], wanted: list[Array]) -> Rows:
    """Evenly picked results of all samples.

    Args:
        inputs, wanted: What the layer reads and should give, in runs of some samples each.
    """
    channels = wanted[0].shape[-1]
    results = sum(w.size // channels for w in wanted)
    unknowns = int(np.prod(weights.shape[1:3] if node.op is Op.DEPTHWISE_CONV2D else weights.shape[1:]))
    most = min(_MOST_ROWS, max(_FEWEST_ROWS, _ROWS_PER_INPUT * unknowns))
    step = step_over(wanted[0].shape, results, most)
    x = np.concatenate([unfolded(node, weights, x, step) for x in inputs])
    y = np.concatenate([w.reshape(-1, channels)[::step] for w in wanted])
    samples, start = [], 0
    for w in wanted:
        here = w.size // channels
        samples.append(start + np.arange(0, here, step) * len(w) // here)
        start += len(w)
    if node.op is Op.DEPTHWISE_CONV2D:
        x = x.reshape(len(x), -1, channels)
    return Rows(x, y, np.concatenate(samples) % _JUDGES == _JUDGES - 1)


def rounded_weights(
    node: Node, weights: Array, nearest: NDArray[np.int8], scale: NDArray[np.float32], rows: Rows
) -> NDArray[np.int8]:
    """Codes of a layer's weights: the fitted ones where they do better than the nearest.

    Args:
        weights: Float ones, in the graph's layout.
        nearest: Their nearest codes.
        scale: Shape () or (channels,).
        rows: What the layer reads and should give.
    """
    if not rows.judges.any() or rows.judges.all():
        return nearest
    depthwise = node.op is Op.DEPTHWISE_CONV2D
    # one row of unknowns for each output channel
    flat = weights.reshape(-1, weights.shape[-1]).T if depthwise else weights.reshape(len(weights), -1)
    codes = nearest.reshape(-1, weights.shape[-1]).T if depthwise else nearest.reshape(len(weights), -1)
    step = np.broadcast_to(scale.astype(np.float64), (len(flat),))
    fit, judge = ~rows.judges, rows.judges
    # a matrix for each channel of a depthwise layer, results last: BLAS takes these, and einsum is slow
    x = np.ascontiguousarray(rows.x.transpose(2, 1, 0)) if depthwise else rows.x
    found = _fitted(flat.astype(np.float64), step, x[..., fit] if depthwise else x[fit], rows.y[fit])
    finish = activation(node)

    def error(candidate: Codes | NDArray[np.int8]) -> float:
        values = (candidate * step[:, None]).astype(np.float32)
        given = _product(x, values)
        bias = (rows.y[fit] - given[fit]).mean(axis=0)
        return float(((finish(given[judge] + bias) - finish(rows.y[judge])) ** 2).sum(dtype=np.float64))

    if error(found) >= error(codes):
        return nearest
    best = found.T.reshape(weights.shape) if depthwise else found.reshape(weights.shape)
    return best.astype(np.int8)


def _product(x: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Results of the rows, (rows, channels)."""
    return np.ascontiguousarray((weights[:, None] @ x)[:, 0].T) if x.ndim == 3 else x @ weights.T


def _fitted(
    weights: NDArray[np.float64], step: NDArray[np.float64], x: NDArray[np.float32], y: NDArray[np.float32]
) -> Codes:
    """Codes of least squared error, a row for each output channel; the bias takes the means.

    Args:
        x: (rows, inputs), or (channels, taps, rows) for a depthwise layer.
        y: (rows, channels).
    """
    missing = (y - _product(x, weights.astype(np.float32))).astype(np.float64)
    missing -= missing.mean(axis=0)
    if x.ndim == 3:
        x = x - x.mean(axis=2, dtype=np.float64, keepdims=True).astype(np.float32)
        gram = (x @ x.transpose(0, 2, 1)).astype(np.float64)
        pull = (x @ missing.T[..., None].astype(np.float32))[..., 0].astype(np.float64)
    else:
        x = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
        gram = (x.T @ x).astype(np.float64)[None]
        pull = missing.T @ x
    unknowns = gram.shape[-1]
    power = np.trace(gram, axis1=1, axis2=2) / unknowns + 1e-12
    ridge = power * max(_RIDGE, 0.3 * unknowns / len(y))
    gram = gram + ridge[:, None, None] * np.eye(unknowns)
    if x.ndim == 3:
        wanted = weights + np.linalg.solve(gram, pull[..., None])[..., 0]
    else:
        wanted = weights + np.linalg.solve(gram[0], pull.T).T
    codes = _one_after_the_other(wanted / step[:, None], gram)
    return _swept(codes, wanted / step[:, None], gram)


def _one_after_the_other(wanted: Codes, gram: NDArray[np.float64]) -> Codes:
    """Round input by input, the heaviest first; those still to come make up for it (GPTQ, algorithm 1).

    Args:
        wanted: In units of the codes, (channels, inputs).
        gram: (1, inputs, inputs), or one for each channel.
    """
    order = np.argsort(-np.diagonal(gram, axis1=1, axis2=2).sum(axis=0), kind="stable")
    inverse = np.linalg.inv(gram[:, order][:, :, order])
    # rows of the upper Cholesky factor of the inverse hold what GPTQ needs at each step
    upper = np.swapaxes(np.linalg.cholesky((inverse + np.swapaxes(inverse, 1, 2)) / 2), 1, 2)
    left = wanted[:, order]
    codes = np.empty_like(left)
    for start in range(0, left.shape[1], _BLOCK):
        end = min(start + _BLOCK, left.shape[1])
        errors = np.empty((len(left), end - start))
        for k in range(start, end):
            codes[:, k] = np.clip(np.rint(left[:, k]), -LARGEST_WEIGHT_CODE, LARGEST_WEIGHT_CODE)
            errors[:, k - start] = (left[:, k] - codes[:, k]) / upper[:, k, k]
            left[:, k + 1 : end] -= errors[:, k - start, None] * upper[:, k, k + 1 : end]
        if len(gram) == 1:
            left[:, end:] -= errors @ upper[0, start:end, end:]
        else:
            left[:, end:] -= np.einsum("cb,cbk->ck", errors, upper[:, start:end, end:])
    result = np.empty_like(codes)
    result[:, order] = codes
    return result


def _swept(codes: Codes, wanted: Codes, gram: NDArray[np.float64]) -> Codes:
    """Move single codes to where the error is least with all others as they are (QuantEase, eq. 6)."""
    codes = codes.copy()
    distance = codes - wanted
    slope = distance @ gram[0] if len(gram) == 1 else np.einsum("ck,ckl->cl", distance, gram)
    for _ in range(_SWEEPS):
        moved = False
        for k in range(codes.shape[1]):
            aim = codes[:, k] - slope[:, k] / gram[:, k, k]
            change = np.clip(np.rint(aim), -LARGEST_WEIGHT_CODE, LARGEST_WEIGHT_CODE) - codes[:, k]
            (rows,) = np.nonzero(change)
            if len(rows):
                moved = True
                codes[rows, k] += change[rows]
                slope[rows] += change[rows, None] * (gram[0, k] if len(gram) == 1 else gram[rows, k])
        if not moved:
            break
    return codes
