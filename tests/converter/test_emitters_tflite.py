"""Every operator through LiteRT: float against the numpy reference, int8 against its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_cases import CASES, Case, feeds_of, graph_of, int8_cases, operands, quantized, run

from edge_convert.emitters import tflite
from edge_convert.emitters.tflite import emit
from edge_convert.emitters.tflite_rules import FIXED_OUTPUT, INT8_KERNELS, SAME_PARAMS, WEIGHT_AXIS
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.importers.tflite import read
from edge_convert.importers.tflite_file import parse
from edge_convert.quantizing.quantization import Quantization, QuantParams, dequantize, quantize
from edge_convert.reference import apply
from edge_convert.validity import validate

RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}
INT8_CASES = int8_cases()
# LiteRT's reference set registers no kernel for these, or only one for older versions; its int8 SUM
# is wrong by the input's zero point. Nobody runs a product on that set.
NOT_IN_REFERENCE = {Op.ELU, Op.CEIL, Op.ROUND}
NOT_IN_REFERENCE_INT8 = {Op.ELU, Op.TILE, Op.DEPTH_TO_SPACE, Op.SUM}
# Codes of difference to the correctly rounded result. Most kernels are within one; an average over
# padding is rounded, then multiplied (up to 2.25) by a factor that is itself rounded.
TOLERANCE = {"average_pool2d not counted": 3}


def test_every_operator_has_a_case() -> None:
    assert {case.op for case in CASES} == set(Op)


def test_every_int8_kernel_has_an_int8_case() -> None:
    assert {case.op for case in INT8_CASES} == INT8_KERNELS


@pytest.mark.parametrize(
    ("case", "resolver"),
    [
        pytest.param(case, resolver, id=f"{case.id} {resolver}")
        for case in CASES
        for resolver in RESOLVERS
        if resolver != "reference" or case.op not in NOT_IN_REFERENCE
    ],
)
def test_a_float_operator_gives_what_numpy_gives(case: Case, resolver: str) -> None:
    rng = np.random.default_rng(1)
    graph = graph_of(case, rng)
    feeds = feeds_of(case, rng)
    expected = apply(graph.nodes[0], operands(graph, feeds))
    (got,) = run(emit(graph), feeds, RESOLVERS[resolver])
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_half_precision_weights_cost_at_most_their_own_rounding(case: Case) -> None:
    rng = np.random.default_rng(1)
    graph = graph_of(case, rng)
    feeds = feeds_of(case, rng)
    halved = [
        v.astype(np.float16).astype(np.float32) if i >= len(feeds) and v.dtype == np.float32 else v
        for i, v in enumerate(operands(graph, feeds))
    ]
    (got,) = run(emit(graph, weights="float16"), feeds)
    np.testing.assert_allclose(got, apply(graph.nodes[0], halved), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("case", "resolver", "per_channel"),
    [
        pytest.param(
            case, resolver, channels, id=f"{case.id} {resolver} {'channel' if channels else 'tensor'}"
        )
        for case in INT8_CASES
        for resolver in RESOLVERS
        for channels in ((True, False) if case.op in WEIGHT_AXIS else (False,))
        if resolver != "reference" or case.op not in NOT_IN_REFERENCE_INT8
    ],
)
def test_an_int8_operator_gives_the_rounded_result(case: Case, resolver: str, per_channel: bool) -> None:
    rng = np.random.default_rng(2)
    graph = graph_of(case, rng)
    feeds = feeds_of(case, rng)
    q = quantized(graph, feeds, per_channel)
    content = emit(graph, q)
    conversions = {op.code for op in parse(content).operators} & {"QUANTIZE", "DEQUANTIZE"}
    assert not conversions or case.op in (Op.RELU, Op.RELU6)
    codes = [quantize(f, q.params[p.tensor]) for f, p in zip(feeds, graph.inputs, strict=True)]
    (got,) = run(content, codes, RESOLVERS[resolver])
    expected = _on_dequantized(graph, q, feeds)
    if "y" not in q.params:
        np.testing.assert_array_equal(got, expected)
        return
    assert got.dtype == np.int8
    want = quantize(expected.astype(np.float32), q.params["y"])
    difference = np.abs(got.astype(np.int32) - want.astype(np.int32)).max()
    assert difference <= TOLERANCE.get(case.id, 1)


def _on_dequantized(graph: Graph, q: Quantization, feeds: list[Array]) -> Array:
    node = graph.nodes[0]
    seen = [
        dequantize(quantize(v, q.params[name]), q.params[name]) if name in q.params else v
        for name, v in zip(node.inputs, operands(graph, feeds), strict=True)
    ]
    return np.asarray(apply(node, seen))


# An average that leaves uneven padding out ends in a MUL, which rescales; LiteRT's TANH and XNNPACK's
# LOGISTIC take any output, but TensorFlow Lite's specification and the older runtime do not.
FREE_IN_LITERT = {"average_pool2d not counted", "tanh"}


@pytest.mark.parametrize(
    "case",
    [c for c in INT8_CASES if c.op in SAME_PARAMS | FIXED_OUTPUT.keys() and c.id not in FREE_IN_LITERT],
    ids=lambda c: c.id,
)
def test_each_rule_is_one_that_the_kernels_have(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    graph = graph_of(case, rng)
    feeds = feeds_of(case, rng)
    q = quantized(graph, feeds)
    out = q.params["y"]
    other = QuantParams(np.asarray(out.scale * np.float32(1.3)), np.asarray(out.zero_point * 0 + 5))
    broken = Quantization({**q.params, "y": other})
    with pytest.raises(AssertionError, match="must"):
        emit(graph, broken)

    monkeypatch.setattr(tflite, "broken_rules", lambda graph, quantization: ())
    codes = [quantize(f, q.params[p.tensor]) for f, p in zip(feeds, graph.inputs, strict=True)]
    want = quantize(_on_dequantized(graph, broken, feeds).astype(np.float32), other)
    try:
        (got,) = run(emit(graph, broken), codes, RESOLVERS["builtin"])
    except RuntimeError:
        return  # refused by the kernel
    assert np.abs(got.astype(np.int32) - want.astype(np.int32)).max() > 1, (
        "the kernel rescales: no rule needed"
    )


# What TensorFlow 2.x wrote for these, from files of its own: MLPerf Tiny's int8 and float models
# (CONV_2D to SOFTMAX), and op_version.cc for the rest.
@pytest.mark.parametrize(
    ("case_id", "code", "in_float", "in_int8"),
    [
        ("conv2d valid", "CONV_2D", 1, 3),
        ("conv2d grouped", "CONV_2D", 6, 6),
        ("depthwise_conv2d same", "DEPTHWISE_CONV_2D", 1, 3),
        ("depthwise_conv2d dilated", "DEPTHWISE_CONV_2D", 2, 3),
        ("dense", "FULLY_CONNECTED", 1, 4),
        ("dense three axes", "FULLY_CONNECTED", 5, 5),
        ("transpose_conv2d 4x4, relu", "TRANSPOSE_CONV", 3, 3),
        ("average_pool2d valid", "AVERAGE_POOL_2D", 1, 2),
        ("add", "ADD", 1, 2),
        ("softmax", "SOFTMAX", 1, 2),
        ("reshape", "RESHAPE", 1, 1),
        ("pad", "PAD", 1, 2),
        ("transpose", "TRANSPOSE", 1, 2),
        ("resize_bilinear plain", "RESIZE_BILINEAR", 1, 2),
        ("resize_bilinear half pixel", "RESIZE_BILINEAR", 3, 3),
        ("slice", "SLICE", 1, 2),
        ("slice strided", "STRIDED_SLICE", 1, 2),
        ("leaky_relu", "LEAKY_RELU", 1, 1),
    ],
)
def test_operator_versions_are_the_lowest_that_tensorflow_would_write(
    case_id: str, code: str, in_float: int, in_int8: int
) -> None:
    (case,) = [c for c in CASES if c.id == case_id]
    rng = np.random.default_rng(2)
    graph = graph_of(case, rng)
    q = quantized(graph, feeds_of(case, rng))
    for quantization, expected in ((None, in_float), (q, in_int8)):
        operators = parse(emit(graph, quantization)).operators
        assert {o.version for o in operators if o.code == code} == {expected}


@pytest.mark.parametrize("name", ["ic_resnet8", "vww_mobilenetv1", "kws_dscnn", "ad_autoencoder"])
def test_float_versions_are_those_of_the_reference_models(shared_data: Path, name: str) -> None:
    path = shared_data / "models" / f"{name}_float32.tflite"
    theirs = {(o.code, o.version) for o in parse(path.read_bytes()).operators}
    assert {(o.code, o.version) for o in parse(emit(read(path))).operators} <= theirs


def test_what_the_older_runtime_dies_of_has_no_int8_form() -> None:
    assert "mul five axes" in {c.id for c in INT8_CASES}
    assert "mul five axes broadcast" not in {c.id for c in INT8_CASES}


# --- whole files --------------------------------------------------------------------------------


def params(scale: float, zero_point: int = 0) -> QuantParams:
    return QuantParams(np.asarray(scale, np.float32), np.asarray(zero_point, np.int32))


def island() -> Graph:
    """relu in int8, floor and sin of its result in float, their sum in int8."""
    shape = (1, 4)
    nodes = (
        Node(Op.RELU, "relu", ("x",), ("a",)),
        Node(Op.FLOOR, "floor", ("a",), ("b",)),
        Node(Op.SIN, "sin", ("a",), ("c",)),
        Node(Op.ADD, "add", ("b", "c"), ("y",), {"activation": "none"}),
    )
    tensors = {name: Tensor(name, shape) for name in "xabcy"}
    return validate(Graph("island", (Port("x", "x", shape),), (Port("y", "y", shape),), nodes, tensors))


ISLAND = Quantization({name: params(0.05) for name in "xabcy"})


def test_conversions_around_float_nodes_are_shared() -> None:
    codes = [o.code for o in parse(emit(island(), ISLAND)).operators]
    assert codes == ["RELU", "DEQUANTIZE", "FLOOR", "SIN", "QUANTIZE", "QUANTIZE", "ADD"]


def test_a_float_island_computes_what_the_graph_says() -> None:
    x = np.array([[-1.0, 0.5, 1.2, 3.1]], np.float32)
    (got,) = run(emit(island(), ISLAND), [quantize(x, ISLAND.params["x"])])
    a = np.maximum(x, 0)
    expected = quantize(np.floor(a) + np.sin(a), ISLAND.params["y"])
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1


def test_a_node_named_float_stays_float() -> None:
    q = Quantization(ISLAND.params, float_nodes=frozenset({"add"}))
    codes = [o.code for o in parse(emit(island(), q)).operators]
    assert codes == ["RELU", "DEQUANTIZE", "FLOOR", "SIN", "ADD", "QUANTIZE"]


def test_the_rim_is_int8_exactly_where_it_has_parameters() -> None:
    without_output = Quantization({k: v for k, v in ISLAND.params.items() if k != "y"})
    file = parse(emit(island(), without_output))
    assert file.tensors[file.inputs[0]].type == "INT8"
    assert file.tensors[file.outputs[0]].type == "FLOAT32"
    without_input = Quantization({k: v for k, v in ISLAND.params.items() if k != "x"})
    file = parse(emit(island(), without_input))
    assert file.tensors[file.inputs[0]].type == "FLOAT32"
    assert file.tensors[file.outputs[0]].type == "INT8"


def test_names_that_were_strung_together_are_cut_and_stay_apart() -> None:
    shape = (1, 2)
    names = ("x", "relu;norm;add", "relu;norm;conv", "y")
    ops = (Op.ABS, Op.NEG, Op.EXP)
    nodes = [Node(op, op.value, (a,), (b,)) for op, a, b in zip(ops, names, names[1:], strict=False)]
    graph = Graph(
        "strung",
        (Port("x", "x", shape),),
        (Port("y", "y", shape),),
        tuple(nodes),
        {name: Tensor(name, shape) for name in names},
    )
    assert [t.name for t in parse(emit(validate(graph))).tensors] == ["x", "relu", "relu_1", "y"]


def test_ports_keep_their_names_and_order_in_the_signature() -> None:
    shape = (1, 2)
    nodes = (
        Node(Op.SUB, "sub", ("first", "second"), ("difference",), {"activation": "none"}),
        Node(Op.ABS, "abs", ("difference",), ("size",)),
    )
    tensors = {name: Tensor(name, shape) for name in ("first", "second", "difference", "size")}
    graph = Graph(
        "ports",
        (Port("b", "second", shape), Port("a", "first", shape)),
        (Port("|d|", "size", shape), Port("d", "difference", shape)),
        nodes,
        tensors,
    )
    content = emit(validate(graph))
    file = parse(content)
    assert [file.tensors[i].name for i in file.inputs] == ["second", "first"]
    assert [file.tensors[i].name for i in file.outputs] == ["size", "difference"]
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["a", "b"], "outputs": ["d", "|d|"]}
    }
    got = interpreter.get_signature_runner("serving_default")(
        a=np.array([[5, 1]], np.float32), b=np.array([[2, 3]], np.float32)
    )
    np.testing.assert_array_equal(got["d"], [[3, -2]])
    np.testing.assert_array_equal(got["|d|"], [[3, 2]])


def test_biases_take_the_product_of_the_scales_and_codes_given_are_written() -> None:
    case = next(c for c in CASES if c.id == "dense")
    rng = np.random.default_rng(3)
    graph = graph_of(case, rng)
    q = quantized(graph, feeds_of(case, rng))
    codes = np.arange(60, dtype=np.int8).reshape(5, 12)
    file = parse(emit(graph, Quantization(q.params, {"c0": codes})))
    by_name = {t.name: t for t in file.tensors}
    np.testing.assert_array_equal(by_name["c0"].elements(), codes)
    bias = by_name["c1"]
    assert bias.type == "INT32" and bias.quantization is not None
    product = q.params["x0"].scale * q.params["c0"].scale
    np.testing.assert_array_equal(bias.quantization.scale, product.astype(np.float32))
    by_hand = np.rint(graph.constant("c1") / product)
    np.testing.assert_array_equal(bias.elements(), by_hand)


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert emit(island(), ISLAND) == emit(island(), ISLAND)


def test_the_file_names_the_oldest_runtime_that_can_run_it() -> None:
    def runtime(case_id: str) -> bytes:
        case = next(c for c in CASES if c.id == case_id)
        content = emit(graph_of(case, np.random.default_rng(0)))
        model = schema.ModelT.InitFromPackedBuf(content)
        (entry,) = [m for m in model.metadata if m.name == b"min_runtime_version"]
        return bytes(model.buffers[entry.buffer].data).rstrip(b"\0")

    assert runtime("conv2d valid") == b"1.14.0"
    assert runtime("conv2d grouped") == b"2.9.0"
    assert runtime("broadcast_to") == b"2.5.0"


def test_constants_lie_at_multiples_of_16_bytes() -> None:
    case = next(c for c in CASES if c.id == "conv2d valid")
    content = emit(graph_of(case, np.random.default_rng(0)))
    model = schema.Model.GetRootAs(content, 0)
    base = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    starts = [
        model.Buffers(i).DataAsNumpy().__array_interface__["data"][0] - base
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]
    assert len(starts) >= 3
    assert all(start % 16 == 0 for start in starts)


def test_constants_beyond_half_precision_stay_single() -> None:
    weights = np.array([[1.0, 70000.0]], np.float32)
    nodes = (Node(Op.DENSE, "dense", ("x", "w"), ("y",), {"activation": "none"}),)
    tensors = {"x": Tensor("x", (1, 2)), "w": constant("w", weights), "y": Tensor("y", (1, 1))}
    graph = Graph("large", (Port("x", "x", (1, 2)),), (Port("y", "y", (1, 1)),), nodes, tensors)
    (got,) = run(emit(graph, weights="float16"), [np.array([[1.0, 1.0]], np.float32)])
    np.testing.assert_array_equal(got, [[70001.0]])
