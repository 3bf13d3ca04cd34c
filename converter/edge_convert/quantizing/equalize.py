"""Cross-layer equalization: every channel scaled towards the range that its tensor has anyway.

Nagel et al., arXiv:1906.04721, section 4.1: a layer's results may be divided by a factor for each channel
and the next layer's weights multiplied by it, since a ReLU, a pool or an addition between them scales along.
The float network stays what it is (up to float32's last bits). There the factors even out the weights; here
they even out the *activations*: weights have a scale for each channel and do not mind, whereas a tensor of
activations has one for all, set by its largest channel (Meller et al., arXiv:1902.01917, scale channels
towards that largest one, too).

A channel is scaled up no further than leaves room above everything seen of it: measured, channels filled to
the brim clip on samples that calibration has not seen, and lose more than finer steps win. With that room a
relu6 clips a scaled channel only beyond everything seen, too, which its int8 range does anyway.

What a dense layer makes stays as it is: most kernels have one weight scale for all its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Graph, Node, Op
from edge_convert.pruning.channels import Channels, Tracer, mixes
from edge_convert.quantizing.statistics import Extremes

# Room above the largest value seen of a channel, and the most that a channel is scaled up.
_ROOM = 2.0
_LARGEST_FACTOR = 4.0

_LAYERS = frozenset({Op.CONV2D, Op.TRANSPOSE_CONV2D, Op.DENSE, Op.DEPTHWISE_CONV2D})
# f(a x) = a f(x) for a > 0, channel by channel, without constants that would have to be scaled along
_SCALES_ALONG = frozenset(
    {
        Op.RELU,
        Op.RELU6,  # with room above what was seen: see above
        Op.LEAKY_RELU,
        Op.PRELU,
        Op.ABS,
        Op.NEG,
        Op.AVERAGE_POOL2D,
        Op.MAX_POOL2D,
        Op.RESIZE_BILINEAR,
        Op.RESIZE_NEAREST,
        Op.RESHAPE,
        Op.SLICE,
        Op.TRANSPOSE,
        Op.MIRROR_PAD,
        Op.CONCAT,
        Op.MEAN,
        Op.SUM,
        Op.REDUCE_MAX,
        Op.REDUCE_MIN,
    }
)
_SCALES_TOGETHER = frozenset({Op.ADD, Op.SUB, Op.MAXIMUM, Op.MINIMUM})


@dataclass(frozen=True, eq=False)
class Scaling:
    """The same network with its channels scaled.

    Args:
        constants: New elements of the constants that change, by name; none where nothing can be scaled.
        divisors: By computed tensor: what its channels are divided by.
    """

    constants: Mapping[str, NDArray[np.float32]]
    divisors: Mapping[str, NDArray[np.float64]]


def equalized(graph: Graph, seen: Extremes) -> Scaling:
    """Scale each channel towards what its tensor reaches.

    Args:
        seen: Of this very graph, over all calibration samples.
    """
    channels = _Tracer(graph).followed()  # by what must be scaled by the same factor
    factors = _factors(channels, seen)
    changed: dict[str, NDArray[np.float32]] = {}
    for node in graph.nodes:
        if node.op in _LAYERS and graph.tensor(node.inputs[1]).is_constant:
            into, out = factors[channels.ids[node.inputs[0]]], factors[channels.ids[node.output]]
            if not ((into == 1).all() and (out == 1).all()):
                changed |= _scaled(graph, node, into, out)
    return Scaling(changed, {name: factors[ids] for name, ids in channels.ids.items()})


class _Tracer(Tracer):
    """Follows channels as far as a factor can be handed on."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._readers = graph.consumers()

    def step(self, node: Node) -> None:
        computed = [name for name in node.inputs if not self.graph.tensor(name).is_constant]
        if node.op in _LAYERS and computed == [node.inputs[0]] and self._can_scale(node):
            self.give(node.output, self.fresh(node.output), locked=node.op is Op.DENSE)
        elif self._hands_on(node, computed):
            super().step(node)
        else:
            for name in computed:
                self.lock(name)
            self.give(node.output, self.fresh(node.output), locked=True)
        if node.attrs.get("activation") == "relu_n1_to_1":
            self.lock(node.output)

    def _can_scale(self, node: Node) -> bool:
        """Whether weights and bias serve this layer alone, and every input channel meets its own weights."""
        alone = all(len(self._readers[name]) == 1 for name in node.inputs[1:])
        return alone and (mixes(node) or node.op is Op.DEPTHWISE_CONV2D)

    def _hands_on(self, node: Node, computed: list[str]) -> bool:
        if node.op in _SCALES_TOGETHER:
            return len(computed) == 2
        if node.op in (Op.MUL, Op.DIV):
            return computed == [node.inputs[0]]
        if node.op is Op.PAD:
            return float(node.attrs["value"]) == 0.0
        return node.op in _SCALES_ALONG


def _factors(channels: Channels, seen: Extremes) -> NDArray[np.float64]:
    """What each channel is divided by, at most 1: its largest value, with room, over its tensor's.

    A channel that several tensors share (before and after an addition, a mean) gets the largest of their
    factors, so that none of these tensors comes to need a wider range.
    """
    free = {name: ids for name, ids in channels.ids.items() if not channels.locked[ids].all()}
    largest = {name: np.maximum(-seen.lows[name], seen.highs[name]).astype(np.float64) for name in free}
    factors = np.full(len(channels.locked), 1.0 / _LARGEST_FACTOR)
    for name, ids in free.items():
        reach = largest[name].max()
        if reach > 0:
            np.maximum.at(factors, ids, np.minimum(_ROOM * largest[name] / reach, 1.0))
    factors[channels.locked] = 1.0
    return factors


def _scaled(
    graph: Graph, node: Node, into: NDArray[np.float64], out: NDArray[np.float64]
) -> dict[str, NDArray[np.float32]]:
    """A layer's weights and bias when its input is divided by one and its result by the other factors."""
    name = node.inputs[1]
    weights = graph.constant(name).astype(np.float64)
    if node.op is Op.DEPTHWISE_CONV2D:
        weights = weights * np.repeat(into, len(out) // len(into)) / out
    else:
        weights = weights * into / out.reshape(-1, *[1] * (weights.ndim - 1))
    changed = {name: weights.astype(np.float32)}
    if len(node.inputs) == 3:
        bias = graph.constant(node.inputs[2])
        changed[node.inputs[2]] = (bias.reshape(-1) / out).reshape(bias.shape).astype(np.float32)
    return changed
