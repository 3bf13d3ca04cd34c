"""Small sound models, one of each kind of thing that an importer reads: the seeds of fuzz_importers.py."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_contracts.profile import load_profile
from edge_convert import recipe
from edge_convert.emitters.tflite import emit
from edge_convert.importers import load
from edge_convert.passes import simplify
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer

FLOAT = onnx.TensorProto.FLOAT


class _Net:
    """An ONNX graph in the making."""

    def __init__(self, shape: list[int | str]) -> None:
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.RandomState(0)

    def number(self, values: Any, dtype: type = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.number(self.rng.standard_normal(shape) / 3, np.float32)

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attrs))
        return names[0] if outputs == 1 else names

    def content(self, result: str) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "seed",
            [helper.make_tensor_value_info("x", FLOAT, self.shape)],
            [helper.make_tensor_value_info(result, FLOAT, None)],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(made.SerializeToString())


def _pictures() -> bytes:
    net = _Net(["n", 3, 12, 12])
    y = net.node("Relu", net.node("Conv", "x", net.weight(4, 3, 3, 3), net.weight(4), pads=[1, 1, 1, 1]))
    y = net.node("Conv", y, net.weight(4, 1, 3, 3), group=4, strides=[2, 2])
    y = net.node("Resize", y, "", net.number([1, 1, 2, 2], np.float32), mode="linear")
    y = net.node("ConvTranspose", y, net.weight(4, 3, 2, 2), strides=[2, 2])
    y = net.node("Pad", y, net.number([0, 0, 1, 1, 0, 0, 1, 1]))
    y = net.node("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2])
    y = net.node("Slice", y, net.number([0]), net.number([8]), net.number([2]))
    y = net.node("Reshape", y, net.number([0, -1]))
    return net.content(net.node("Softmax", y))


def _arithmetic_on_shapes() -> bytes:
    net = _Net(["n", 4, 6])
    size = net.node("Gather", net.node("Shape", "x"), net.number(2))
    shape = net.node("Concat", net.number([1]), net.node("Unsqueeze", size, net.number([0])), axis=0)
    full = net.node("ConstantOfShape", shape)
    y = net.node("Add", "x", net.node("Expand", full, net.number([4, 6])))
    y = net.node("Tile", y, net.number([1, 2, 1]))
    y = net.node("Gather", y, net.node("Range", net.number(0), net.number(4), net.number(1)), axis=1)
    a, b = net.node("Split", y, net.number([2, 2]), axis=1, outputs=2)
    y = net.node("Where", net.node("Greater", a, b), a, b)
    return net.content(net.node("Einsum", y, y, equation="bij,bkj->bik"))


def _sequences() -> bytes:
    net = _Net([5, 1, 3])
    net.shape = ["n", 5, 3]
    y = net.node("Transpose", "x", perm=[1, 0, 2])
    rnn = net.weight(1, 16, 3), net.weight(1, 16, 4), net.weight(1, 32)
    y, _, _ = net.node("LSTM", y, *rnn, hidden_size=4, outputs=3)
    y = net.node("Transpose", net.node("Squeeze", y, net.number([1])), perm=[1, 0, 2])
    y = net.node("LayerNormalization", y, net.weight(4), net.weight(4))
    return net.content(net.node("MatMul", y, net.weight(4, 2)))


def _codes() -> bytes:
    net = _Net(["n", 8])
    scale, zero = net.number(0.1, np.float32), net.number(0, np.int8)
    y = net.node("DequantizeLinear", net.node("QuantizeLinear", "x", scale, zero), scale, zero)
    weights = net.number(np.arange(-20, 20).reshape(8, 5), np.int8)
    y = net.node("MatMul", y, net.node("DequantizeLinear", weights, scale, zero))
    return net.content(net.node("Tanh", y))


def _branches() -> bytes:
    sides = [
        helper.make_graph(
            [helper.make_node(operator, ["x"], ["y"])],
            "side",
            [],
            [helper.make_tensor_value_info("y", FLOAT, None)],
        )
        for operator in ("Abs", "Neg")
    ]
    net = _Net(["n", 6])
    total = net.node("ReduceSum", "x", net.number([0, 1]), keepdims=0)
    condition = net.node("Greater", total, net.number(0, np.float32))
    return net.content(net.node("If", condition, then_branch=sides[0], else_branch=sides[1]))


def seeds() -> list[tuple[str, bytes]]:
    """Files by name; each is sound."""
    made = {
        "pictures": _pictures(),
        "shapes": _arithmetic_on_shapes(),
        "sequences": _sequences(),
        "codes": _codes(),
        "branches": _branches(),
    }
    found = [(f"{name}.onnx", content) for name, content in made.items()]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in list(found):
            path = Path(folder) / name
            path.write_bytes(content)
            graph = simplify(load(path))
            found.append((f"{path.stem}.tflite", emit(graph)))
            if path.stem == "pictures":
                found.append((f"{path.stem}_half.tflite", emit(graph, weights="float16")))
                feeds = {"x": np.random.RandomState(0).standard_normal((4, 3, 12, 12)).astype(np.float32)}
                rules = rules_for(load_profile("coral-tpu"))
                codes = Quantizer(graph, feeds).quantize(recipe.load("wi8_ai8_minmax"), rules)
                found.append((f"{path.stem}_int8.tflite", emit(graph, codes)))
    return found
