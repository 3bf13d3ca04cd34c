"""Quantized sources: the float model that their codes stand for, held against the files' own runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx_models import Network, floats, ints, openvino_run, saved
from small_nets import integer_file, pictures

from edge_convert.emitters.tflite_writer import ModelWriter
from edge_convert.errors import UnsupportedFeature
from edge_convert.graph import Array, Graph, Op
from edge_convert.importers import load
from edge_convert.measures.compare import compare
from edge_convert.passes import simplify
from edge_convert.quantizing.quantization import QuantParams
from edge_convert.reference import run
from edge_convert.source import read_source

IMAGE = (1, 4, 7, 9)


class Coded(Network):
    """A network whose activations are codes."""

    def parameters(self, low: float, high: float) -> tuple[str, str]:
        """Scale and uint8 zero point of a range that has 0 in it."""
        scale = np.float32((high - low) / 255)
        return self.weight(scale), self.weight(np.uint8(round(-low / scale)))

    def rounded(self, x: str, low: float, high: float) -> str:
        """Quantize and dequantize."""
        scale, zero = self.parameters(low, high)
        code: str = self.node("QuantizeLinear", x, scale, zero)
        y: str = self.node("DequantizeLinear", code, scale, zero)
        return y

    def coded_weights(self, values: Array) -> tuple[str, str, str]:
        """int8 codes along axis 0, their scales and zero points."""
        scale = np.abs(values).reshape(len(values), -1).max(axis=1) / 127
        codes = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        return (
            self.weight(codes),
            self.weight(scale.astype(np.float32)),
            self.weight(np.zeros(len(values), np.int8)),
        )


def near(path: Path, graph: Graph, feeds: dict[str, Array], at_least_db: float) -> None:
    """Our float answers against OpenVINO's for the quantized file."""
    (got,), (want,) = run(graph, feeds).values(), openvino_run(path, feeds)
    noise = compare({"y": want}, {"y": got}, "other").sqnr_db
    assert noise is None or noise > at_least_db


def qdq(folder: Path, bottom: float) -> Path:
    """Convolution behind codes; its result's range begins at `bottom`."""
    net = Coded({"x": ["n", *IMAGE[1:]]}, opset=13)
    codes, scale, zero = net.coded_weights(floats(6, 4, 3, 3))
    weights = net.node("DequantizeLinear", codes, scale, zero, axis=0)
    y = net.node("Conv", net.rounded("x", -10, 10), weights)
    y = net.rounded(y, bottom, 30)
    y = net.node("MaxPool", y, kernel_shape=[2, 2])
    return saved(net.model(net.rounded(net.node("Sigmoid", y), 0, 1)), folder)


@pytest.mark.parametrize("bottom", [-30.0, 0.0])
def test_pairs_of_quantize_and_dequantize_leave_the_float_model(bottom: float, tmp_path: Path) -> None:
    path = qdq(tmp_path, bottom)
    graph = simplify(load(path))
    kinds = [node.op for node in graph.nodes if node.op is not Op.TRANSPOSE]
    assert kinds == [Op.CONV2D, Op.MAX_POOL2D, Op.SIGMOID]
    # a range that begins at 0 is all that such files say of a Relu
    assert graph.nodes[0].attrs["activation"] == ("relu" if bottom == 0 else "none")
    near(path, graph, {"x": 3 * floats(*IMAGE)}, 30)
    assert read_source(path).hybrid


def test_codes_keep_their_meaning_through_what_only_moves_them(tmp_path: Path) -> None:
    net = Coded({"x": ["n", 4, 6]}, opset=13)
    scale, zero = net.parameters(-10, 10)
    y = net.node("QuantizeLinear", "x", scale, zero)
    y = net.node(
        "Concat",
        net.node("Transpose", y, perm=[0, 2, 1]),
        net.node("Reshape", y, net.weight(ints(0, 6, 4))),
        axis=2,
    )
    path = saved(net.model(net.node("DequantizeLinear", y, scale, zero)), tmp_path)
    near(path, load(path), {"x": 3 * floats(1, 4, 6)}, 30)


def test_operators_on_codes_become_float_operators(tmp_path: Path) -> None:
    net = Coded({"x": ["n", *IMAGE[1:]]}, opset=13)
    a, b = net.parameters(-10, 10), net.parameters(0, 6)
    kernel = net.coded_weights(floats(5, 4, 3, 3) / 6)
    y = net.node("QuantizeLinear", "x", *a)
    bias = net.weight(np.arange(-20, 30, 10, dtype=np.int32))
    y = net.node("QLinearConv", y, *a, *kernel, *b, bias)
    y = net.node("Reshape", y, net.weight(ints(0, -1)))
    matrix = (floats(175, 3) / 12).astype(np.float32)
    scale = np.float32(np.abs(matrix).max() / 127)
    codes = net.weight(np.rint(matrix / scale).astype(np.int8))
    c = net.parameters(-20, 20)
    y = net.node("QLinearMatMul", y, *b, codes, net.weight(scale), net.weight(np.int8(0)), *c)
    path = saved(net.model(net.node("DequantizeLinear", y, *c)), tmp_path)
    graph = load(path)
    assert [n.op for n in graph.nodes if n.op in (Op.CONV2D, Op.RELU6, Op.DENSE)] == [
        Op.CONV2D, Op.RELU6, Op.DENSE
    ]  # fmt: skip
    assert {t.dtype for t in graph.tensors.values()} == {"float32"}


def test_ranges_found_at_run_time_leave_the_float_model(tmp_path: Path) -> None:
    net = Coded({"x": ["n", 3, 8]}, opset=13)
    weights = floats(8, 5)
    scale = np.float32(np.abs(weights).max() / 127)
    codes = net.weight((np.rint(weights / scale) + 3).astype(np.int8))
    x, x_scale, x_zero = net.node("DynamicQuantizeLinear", "x", outputs=3)
    total = net.node("MatMulInteger", x, codes, x_zero, net.weight(np.int8(3)))
    real = net.node("Cast", total, to=1)
    path = saved(net.model(net.node("Mul", real, net.node("Mul", x_scale, net.weight(scale)))), tmp_path)
    near(path, load(path), {"x": 3 * floats(1, 3, 8)}, 30)


def unequal(net: Coded) -> str:
    scale, zero = net.parameters(-10, 10)
    other, _ = net.parameters(-20, 20)
    y: str = net.node("DequantizeLinear", net.node("QuantizeLinear", "x", scale, zero), other, zero)
    return y


def computed(net: Coded) -> str:
    scale, zero = net.parameters(-10, 10)
    y: str = net.node("Add", net.node("QuantizeLinear", "x", scale, zero), zero, name="sum")
    return y


def joined(net: Coded) -> str:
    parts = [net.node("QuantizeLinear", "x", *net.parameters(-top, top)) for top in (10.0, 20.0)]
    y: str = net.node("Concat", *parts, axis=1, name="sum")
    return y


def computed_scale(net: Coded) -> str:
    scale = net.node("ReduceMax", "x", keepdims=0)
    y: str = net.node("QuantizeLinear", "x", scale, net.weight(np.uint8(0)))
    return y


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (unequal, "scale or zero point is not that with which its input was quantized"),
        (computed, "Add 'sum' reads integer codes; convert the float model"),
        (joined, "Concat 'sum' joins codes of different scales"),
        (computed_scale, "the scale .* is computed from the model's inputs"),
    ],
)
def test_what_codes_do_beyond_that_is_refused(made: Any, words: str, tmp_path: Path) -> None:
    net = Coded({"x": ["n", 4]}, opset=13)
    with pytest.raises(UnsupportedFeature, match=words):
        load(saved(net.model(made(net)), tmp_path))


# --- TensorFlow Lite -----------------------------------------------------------------------------


def test_an_integer_file_gives_the_float_model_that_it_was_made_from(tmp_path: Path) -> None:
    path, graph = integer_file(tmp_path)
    source = read_source(path)
    assert source.hybrid and source.codes
    assert {t.dtype for t in source.graph.tensors.values()} == {"float32"}
    x = pictures(16, seed=3)
    (got,), (want,) = run(source.graph, {"x": x}).values(), run(graph, {"x": x}).values()
    noise = compare({"y": want}, {"y": got}, "other").sqnr_db
    assert noise is not None and noise > 30  # what rounding its weights cost
    (own,) = source.open().run({"x": x}).values()
    noise = compare({"y": got}, {"y": own}, "other").sqnr_db
    assert noise is not None and noise > 25  # what rounding its activations costs


@pytest.mark.parametrize(
    ("zero", "scale", "wanted"), [(0, 0.1, Op.NEG), (-128, 0.1, Op.RELU), (-128, 6 / 255, Op.RELU6)]
)
def test_a_range_that_begins_at_zero_is_a_relu(tmp_path: Path, zero: int, scale: float, wanted: Op) -> None:
    writer = ModelWriter("test")
    before = QuantParams(np.asarray(0.1, np.float32), np.asarray(0, np.int32))
    after = QuantParams(np.asarray(scale, np.float32), np.asarray(zero, np.int32))
    x = writer.tensor("x", (1, 4), "int8", params=before)
    y = writer.tensor("y", (1, 4), "int8", params=after)
    writer.operator("NEG", [x], [y], schema.NegOptionsT())
    path = tmp_path / "neg.tflite"
    path.write_bytes(writer.finish([("x", x)], [("y", y)]))
    assert load(path).nodes[-1].op is wanted


def test_a_file_that_keeps_state_is_refused_with_what_helps(tmp_path: Path) -> None:
    writer = ModelWriter("test")
    x, handle = writer.tensor("x", (1, 4), "float32"), writer.tensor("h", (), "int32")
    y = writer.tensor("y", (1, 4), "float32")
    writer.operator("VAR_HANDLE", [], [handle], schema.VarHandleOptionsT())
    writer.operator("READ_VARIABLE", [handle], [y], schema.ReadVariableOptionsT())
    path = tmp_path / "state.tflite"
    path.write_bytes(writer.finish([("x", x)], [("y", y)]))
    with pytest.raises(UnsupportedFeature, match=r"VAR_HANDLE #0 keeps state .* as an input and an output"):
        load(path)
