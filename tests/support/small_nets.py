"""Small float graphs with everything that quantization and pruning meet, and data for them. No tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edge_contracts.profile import load_profile
from edge_convert import importers, passes, recipe, reference
from edge_convert.emitters.tflite import emit
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.shapes import result
from edge_convert.validity import validate

REAL_MODELS = {
    "kws": "kws_dscnn_float32.tflite",
    "ic": "ic_resnet8_float32.tflite",
    "vww": "vww_mobilenetv1_float32.tflite",
    "ad": "ad_autoencoder_float32.tflite",
}


@dataclass
class Net:
    """A graph in the making: `node` gives the name of what it computes."""

    inputs: Mapping[str, tuple[int, ...]]
    seed: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.tensors |= {name: Tensor(name, shape) for name, shape in self.inputs.items()}

    def weight(self, *shape: int, gain: float = 1.0) -> str:
        """A constant of random elements, scaled so that a layer keeps its input's power."""
        values = self.rng.normal(0, gain / np.sqrt(np.prod(shape[1:]) or 1), shape).astype(np.float32)
        return self.constant(values)

    def constant(self, values: Any) -> str:
        """A constant of these elements."""
        name = f"c{len(self.tensors)}"
        self.tensors[name] = constant(name, np.asarray(values))
        return name

    def node(self, op: Op, inputs: Sequence[str], name: str = "", **attrs: Any) -> str:
        """One operator; its result bears the node's name."""
        name = name or f"{op.value}{len(self.nodes)}"
        node, tensor = result(op, name, [self.tensors[i] for i in inputs], attrs, f"{name}:0")
        self.nodes.append(node)
        self.tensors[tensor.name] = tensor
        return tensor.name

    def conv(self, x: str, channels: int, kernel: int = 1, name: str = "", **attrs: Any) -> str:
        """A convolution that keeps the size (stride 1) with a bias."""
        half = kernel // 2
        attrs = {
            "strides": (1, 1),
            "dilations": (1, 1),
            "pads": (half,) * 4,
            "groups": 1,
            "activation": "relu",
        } | attrs
        w = self.weight(channels, kernel, kernel, self.tensors[x].shape[3], gain=1.4)
        b = self.constant(self.rng.normal(0, 0.2, channels).astype(np.float32))
        return self.node(Op.CONV2D, [x, w, b], name, **attrs)

    def depthwise(self, x: str, name: str = "") -> str:
        """A 3x3 depthwise convolution that keeps the size."""
        c = self.tensors[x].shape[3]
        w = self.constant(self.rng.normal(0, 0.45, (1, 3, 3, c)).astype(np.float32))
        b = self.constant(self.rng.normal(0, 0.2, c).astype(np.float32))
        attrs = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "activation": "relu"}
        return self.node(Op.DEPTHWISE_CONV2D, [x, w, b], name, **attrs)

    def graph(self, *outputs: str) -> Graph:
        """The finished graph."""
        return validate(
            Graph(
                "net",
                tuple(Port(name, name, shape) for name, shape in self.inputs.items()),
                tuple(Port(name, name, self.tensors[name].shape) for name in outputs),
                tuple(self.nodes),
                self.tensors,
            )
        )


def picture_net(seed: int = 0) -> Graph:
    """A classifier with a strided and a depthwise convolution, a shortcut, a mean and a dense layer."""
    net = Net({"x": (1, 12, 12, 3)}, seed)
    y = net.conv("x", 16, 3, "first", strides=(2, 2), pads=(0, 1, 0, 1))
    y = net.conv(net.depthwise(y, "spatial"), 16, name="pointwise")
    z = net.conv(y, 16, 3, "branch", activation="none")
    y = net.node(Op.ADD, [y, z], "sum", activation="relu")
    y = net.node(Op.MEAN, [y], "mean", axes=(1, 2), keepdims=True)
    y = net.node(Op.RESHAPE, [y], "flat", shape=(1, 16))
    y = net.node(Op.DENSE, [y, net.weight(10, 16, gain=3.0)], "logits", activation="none")
    return net.graph(y)


def picture_classifier(seed: int = 0) -> Graph:
    """Pictures to a softmax over four classes that all occur: a readout of random features, standardised."""
    net = Net({"x": (1, 12, 12, 3)}, seed)
    y = net.conv("x", 16, 3, "first", strides=(2, 2), pads=(0, 1, 0, 1))
    y = net.conv(net.depthwise(y, "spatial"), 16, name="pointwise")
    flat = net.node(Op.RESHAPE, [y], "flat", shape=(1, 16 * 36))
    features = reference.evaluate(net.graph(flat), {"x": pictures(300, seed)})[flat].astype(np.float64)
    readout = net.rng.normal(0, 1, (4, features.shape[1]))
    scores = features @ readout.T
    weights, bias = 3 * readout / scores.std(axis=0)[:, None], -3 * scores.mean(axis=0) / scores.std(axis=0)
    constants = [net.constant(values.astype(np.float32)) for values in (weights, bias)]
    logits = net.node(Op.DENSE, [flat, *constants], "logits", activation="none")
    return net.graph(net.node(Op.SOFTMAX, [logits], "scores", beta=1.0))


def pictures(count: int, seed: int = 0, size: int = 12) -> Array:
    """Smooth random pictures, float32 0..1, [count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (count, 4, 4, 3))
    fine = coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2)
    return (0.8 * fine + 0.2 * rng.uniform(0, 1, fine.shape)).astype(np.float32)


def integer_file(folder: Path) -> tuple[Path, Graph]:
    """A classifier in int8 from end to end, and the float graph that it was made from."""
    graph = picture_net()
    feeds = {"x": pictures(32)}
    rules = rules_for(load_profile("coral-tpu"))
    quantization = Quantizer(graph, feeds).quantize(recipe.load("wi8_ai8_minmax"), rules)
    path = folder / "int8.tflite"
    path.write_bytes(emit(graph, quantization))
    return path, graph


def litert_run(content: bytes, x: Array) -> Array:
    """Answers of a one-input, one-output file in LiteRT, sample by sample, in real units."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for sample in x:
        fed = sample[None]
        if source["dtype"] is np.int8:
            scale, zero = source["quantization"]
            fed = np.clip(np.rint(fed / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], fed)
        interpreter.invoke()
        answer = interpreter.get_tensor(target["index"])
        if target["dtype"] is np.int8:
            scale, zero = target["quantization"]
            answer = (answer.astype(np.float32) - zero) * scale
        answers.append(answer)
    return np.concatenate(answers)


def real_model(folder: Path, key: str) -> Graph:
    """One of the MLPerf Tiny models, ready to be quantized."""
    return passes.simplify(importers.load(folder / "models" / REAL_MODELS[key]))


def real_samples(folder: Path, key: str, part: str, count: int) -> Array:
    """Samples in the model's input space; part is "calibration" or "evaluation"."""
    if key == "kws":
        codes = np.load(folder / "kws" / f"{part}.npz")["x"][:count]
        return np.asarray((codes.astype(np.float32) - 83) * np.float32(0.5847029089927673))
    if key == "ad":  # there is no data for it here: frames that drift like log-mel energies
        rng = np.random.default_rng(len(part))
        drift = np.cumsum(rng.normal(0, 0.75, (count, 5, 128)), axis=-1)
        frames = np.linspace(-10, -40, 128) + rng.normal(0, 3, (count, 5, 1)) + drift
        return np.asarray(frames.reshape(count, 640), np.float32)
    side = {"ic": 32, "vww": 96}[key]
    pixels = np.load(folder / "pictures" / f"{part}{side}.npz")["x"][:count].astype(np.float32)
    return np.asarray(pixels / np.float32(255) if key == "vww" else pixels)
