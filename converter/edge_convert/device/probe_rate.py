"""How many multiply-accumulates a second this machine sustains in LiteRT: a network of the usual kind, timed.

The network is MobileNetV1's plan (Howard et al., arXiv:1704.04861) at a quarter of its width, 96x96
pixels, 7.5 million multiply-accumulates, with random weights: speed does not depend on their values. One
thread, one picture at a time, as the agent runs models. A rate to predict by, no promise for others.
"""

from __future__ import annotations

from statistics import median

import numpy as np

from edge_contracts.profile import Precision, load_profile
from edge_convert import candidates, costs
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.quantizing.quantize import choose, rules_for
from edge_convert.quantizing.statistics import collect
from edge_convert.shapes import result
from edge_convert.timing import interleaved_ms
from edge_convert.validity import validate

SIDE = 96
# (channels, stride) of the depthwise-separable blocks
BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
_FIRST, _CLASSES = 8, 10
_CALIBRATION = 4


def rates(precisions: tuple[Precision, ...] = ("int8", "float32")) -> dict[Precision, float]:
    """Sustained multiply-accumulates per second by precision; about two seconds of work."""
    graph = network()
    feeds = _pictures(graph)
    made = {precision: _written(graph, precision, feeds) for precision in precisions}
    sample = {name: values[:1] for name, values in feeds.items()}
    times = interleaved_ms(
        {name: one.model.engine.repeat(one.model.encoded(sample)) for name, one in made.items()}
    )
    work = costs.macs(graph)
    return {precision: 1000 * work / median(times[precision]) for precision in precisions}


def network(seed: int = 0) -> Graph:
    """The network that is timed."""
    random = np.random.RandomState(seed)
    tensors: dict[str, Tensor] = {"x": Tensor("x", (1, SIDE, SIDE, 3))}
    nodes: list[Node] = []

    def weights(*shape: int) -> str:
        fan_in = int(np.prod(shape[1:]))
        values = (random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        name = f"w{len(tensors)}"
        tensors[name] = constant(name, values)
        return name

    def node(op: Op, inputs: list[str], **attrs: object) -> str:
        name = f"n{len(nodes)}"
        made, tensor = result(op, name, [tensors[i] for i in inputs], attrs, f"{name}:0")
        nodes.append(made)
        tensors[tensor.name] = tensor
        return tensor.name

    def same(stride: int) -> dict[str, object]:
        pads = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
        return {"strides": (stride, stride), "dilations": (1, 1), "pads": pads, "activation": "relu6"}

    y = node(Op.CONV2D, ["x", weights(_FIRST, 3, 3, 3)], groups=1, **same(2))
    channels = _FIRST
    for wide, stride in BLOCKS:
        y = node(Op.DEPTHWISE_CONV2D, [y, weights(1, 3, 3, channels)], **same(stride))
        y = node(Op.CONV2D, [y, weights(wide, 1, 1, channels)], groups=1, **{**same(1), "pads": (0, 0, 0, 0)})
        channels = wide
    y = node(Op.MEAN, [y], axes=(1, 2), keepdims=False)
    y = node(Op.DENSE, [y, weights(_CLASSES, channels)], activation="none")
    ports = (Port("x", "x", tensors["x"].shape),), (Port("y", y, tensors[y].shape),)
    return validate(Graph("probe", *ports, tuple(nodes), tensors))


def _pictures(graph: Graph) -> dict[str, Array]:
    shape = (_CALIBRATION, *graph.inputs[0].shape[1:])
    return {"x": np.random.RandomState(1).uniform(0, 1, shape).astype(np.float32)}


def _written(graph: Graph, precision: Precision, feeds: dict[str, Array]) -> candidates.Candidate:
    if precision != "int8":
        return candidates.float_form(graph, "tflite", precision)
    recipe = candidates.recipes_for("int8")[0]
    quantization = choose(graph, collect(graph, feeds), recipe, rules_for(load_profile("arm-cpu")))
    return candidates.written(graph, "tflite", recipe, quantization)
