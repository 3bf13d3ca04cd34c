"""ONNX files: the same answers as OpenVINO gives for the file, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import CASES, Case, Network, floats, ints, onnx_run, openvino_run, saved

from edge_convert.errors import ConvertError, SourceInvalid, UnsupportedFeature, UnsupportedOperator
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.graph import Array, Op
from edge_convert.importers import load, onnx_quantized
from edge_convert.importers.onnx import HANDLERS, read
from edge_convert.passes import simplify
from edge_convert.reference import run
from edge_convert.source import read_source

LOGIC = {
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not"
}  # fmt: skip
REAL = ["ic_resnet8", "vww_mobilenetv1", "kws_dscnn", "ad_autoencoder"]


def assert_near(got: Array, want: Array, tolerance: float = 1e-5) -> None:
    assert got.shape == want.shape
    scale = max(float(np.abs(want).max()), 1.0)
    np.testing.assert_allclose(got / scale, want / scale, atol=tolerance, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_operator_gives_what_another_runtime_gives(case: Case, tmp_path: Path) -> None:
    path = saved(case.model(), tmp_path)
    feeds = case.feeds()
    want = openvino_run(path, feeds) if case.oracle == "openvino" else onnx_run(path, feeds)
    # recurrent layers have no batch in front
    fixed = FixedInputs({"": case.shapes[0]}) if case.shapes[0][0] != 1 else FixedInputs()
    graph = read(path, fixed)
    for form in (graph, simplify(graph)):
        got = run(form, feeds)
        for value, expected in zip(got.values(), want, strict=True):
            assert_near(value, expected)


def test_a_transposed_convolution_of_stated_size_crops_the_odd_pixel_at_the_beginning(tmp_path: Path) -> None:
    # the specification; neither OpenVINO nor the reference implementation follows it
    shape, kernel = (1, 4, 5, 6), floats(4, 3, 3, 3)
    stated = Case("", "ConvTranspose", (shape,), (kernel,), {"strides": [2, 2], "output_shape": [10, 12]})
    cropped = Case("", "ConvTranspose", (shape,), (kernel,), {"strides": [2, 2], "pads": [1, 1, 0, 0]})
    feeds = stated.feeds()
    (got,) = run(read(saved(stated.model(), tmp_path)), feeds).values()
    assert_near(got, openvino_run(saved(cropped.model(), tmp_path), feeds)[0])


def test_softmax_before_opset_13_takes_all_axes_from_its_own_on(tmp_path: Path) -> None:
    case = Case("", "Softmax", ((1, 4, 7, 9),), (), {"axis": 2}, opset=11)
    feeds = case.feeds()
    (got,) = run(read(saved(case.model(), tmp_path)), feeds).values()
    e = np.exp(feeds["x"].astype(np.float64))
    assert_near(got, e / e.sum(axis=(2, 3), keepdims=True))


def test_every_handler_has_a_case() -> None:
    # OneHot, Cast, Swish, RMSNormalization and logic stand in tests of their own below
    apart = {"OneHot", "Cast", "Swish", "RMSNormalization", *LOGIC, *onnx_quantized.HANDLERS}
    assert set(HANDLERS) - {case.operator for case in CASES} == apart


@pytest.mark.parametrize("operator", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_a_comparison_chooses_between_two_computed_values(operator: str, tmp_path: Path) -> None:
    net = Network({"x": ["n", 3, 4, 5], "y": ["n", 3, 1, 5]})
    condition = net.node(operator, net.node("Round", "x"), net.node("Round", "y"))
    path = saved(net.model(net.node("Where", condition, "x", net.weight(np.float32(-2.0)))), tmp_path)
    feeds = {"x": 2 * floats(1, 3, 4, 5), "y": 2 * floats(1, 3, 1, 5, seed=1)}
    for form in (read(path), simplify(read(path))):
        (got,) = run(form, feeds).values()
        np.testing.assert_array_equal(got, openvino_run(path, feeds)[0])


def test_logic_joins_conditions(tmp_path: Path) -> None:
    net = Network({"x": ["n", 6]})
    big = net.node("Greater", "x", net.weight(np.float32(0.5)))
    small = net.node("Not", net.node("Greater", "x", net.weight(np.float32(-0.5))))
    either = net.node("And", net.node("Or", big, small), net.node("Xor", big, small))
    path = saved(net.model(net.node("Where", either, "x", net.weight(np.float32(-np.inf)))), tmp_path)
    x = np.asarray([[-1, -0.5, -0.2, 0.2, 0.6, 3]], np.float32)
    (got,) = run(read(path), {"x": x}).values()
    assert got[0, [0, 1, 4, 5]].tolist() == x[0, [0, 1, 4, 5]].tolist()
    assert (got[0, 2:4] < -1e37).all()  # minus infinity, as far as a graph's constant can say it


def branching(condition: str, folder: Path) -> Path:
    """If with a constant condition, one that shapes decide, or one that the input decides."""
    net = Network({"x": ["n", 4]})
    then = helper.make_graph(
        [
            helper.make_node("Constant", [], ["two"], value_float=2.0),
            helper.make_node("Mul", ["x", "two"], ["inner"]),
            helper.make_node("Neg", ["inner"], ["result"]),
        ],
        "then", [], [helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    otherwise = helper.make_graph(
        [helper.make_node("Tanh", ["x"], ["inner"]), helper.make_node("Abs", ["inner"], ["result"])],
        "otherwise", [], [helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    if condition == "constant":
        name = net.weight(np.asarray(False))
    elif condition == "shape":
        size = net.node("Gather", net.node("Shape", "x"), net.weight(ints(1)[0]))
        name = net.node("Equal", size, net.weight(ints(4)[0]))
    else:
        total = net.node("ReduceSum", "x", net.weight(ints(0, 1)), keepdims=0)
        name = net.node("Greater", total, net.weight(np.float32(0)))
    return saved(net.model(net.node("If", name, then_branch=then, else_branch=otherwise)), folder)


@pytest.mark.parametrize("condition", ["constant", "shape", "input"])
def test_a_branch_gives_what_openvino_gives(condition: str, tmp_path: Path) -> None:
    path = branching(condition, tmp_path)
    graph = simplify(read(path))
    assert any(node.op is Op.SELECT for node in graph.nodes) == (condition == "input")
    for sign in (1, -1):
        feeds = {"x": sign * np.abs(floats(1, 4))}
        (got,) = run(graph, feeds).values()
        assert_near(got, openvino_run(path, feeds)[0])


def test_an_operator_inside_a_branch_is_refused_by_name(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Det", ["x"], ["y"], name="inner")],
        "body", [], [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    net = Network({"x": ["n", 2, 2]})
    net.node("If", net.weight(np.asarray(True)), then_branch=body, else_branch=body)
    with pytest.raises(UnsupportedOperator, match="operator Det of node 'inner'"):
        read(saved(net.model("if0_out"), tmp_path))


def test_a_loop_is_refused_by_name(tmp_path: Path) -> None:
    body = helper.make_graph([], "body", [], [])
    net = Network({"x": ["n", 2]})
    net.node("Loop", net.weight(ints(3)), "", "x", body=body, name="again")
    with pytest.raises(UnsupportedOperator, match="operator Loop of node 'again'"):
        read(saved(net.model("again_out"), tmp_path))


def recurrent(folder: Path, steps: int = 4, lengths: int | None = None, **attrs: Any) -> Path:
    net = Network({"x": [steps, 1, 3]})
    known = [] if lengths is None else ["", net.weight(np.asarray([lengths], np.int32))]
    weights = net.weight(floats(1, 16, 3)), net.weight(floats(1, 16, 4))
    y = net.node("LSTM", "x", *weights, *known, hidden_size=4, outputs=3, name="rnn", **attrs)
    return saved(net.model(y[1]), folder)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ({"lengths": 3}, r"sequence_lens \(3,\) differ from the 4 steps"),
        ({"clip": 1.0}, "clip and input_forget"),
        ({"activations": ["Sigmoid", "Affine", "Tanh"]}, "activations .*Affine"),
        ({"steps": 5000}, "5000 steps would be unrolled into about 70000 operators, at most 20000"),
    ],
)
def test_a_recurrent_layer_that_cannot_be_unrolled_says_why(
    use: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = recurrent(tmp_path, **use)
    with pytest.raises(UnsupportedFeature, match=f"LSTM 'rnn': {words}"):
        read(path, FixedInputs({"": (use.get("steps", 4), 1, 3)}))


def test_layers_with_the_batch_first_are_unrolled_alike(tmp_path: Path) -> None:
    # OpenVINO does not know layout 1: the same weights with the axes turned are its oracle
    results = []
    for layout in (0, 1):
        net = Network({"x": [2, 5, 3] if layout else [5, 2, 3]}, opset=14)
        weights = net.weight(floats(1, 12, 3)), net.weight(floats(1, 12, 4))
        y = net.node("GRU", "x", *weights, hidden_size=4, outputs=2, layout=layout)
        path = saved(net.model(*y), tmp_path, f"{layout}.onnx")
        x = floats(2, 5, 3)
        fed = x if layout else x.transpose(1, 0, 2)
        results.append(list(run(read(path, FixedInputs({"": fed.shape})), {"x": fed}).values()))
    assert_near(results[1][0], results[0][0].transpose(2, 0, 1, 3))
    assert_near(results[1][1], results[0][1].transpose(1, 0, 2))


@pytest.mark.parametrize("name", REAL)
def test_a_real_model_gives_what_openvino_gives(name: str, shared_data: Path) -> None:
    path = shared_data / "models" / f"{name}.onnx"
    graph = load(path)
    (port,) = graph.inputs
    feeds = {port.name: floats(*port.shape)}
    (want,) = openvino_run(path, feeds)
    for form in (graph, simplify(graph)):
        (got,) = run(form, feeds).values()
        assert_near(got, want)


def test_swish_and_rms_normalisation_give_what_their_formulas_give(tmp_path: Path) -> None:
    net = Network({"x": ["n", 4, 6]}, opset=24)
    y = net.node("Swish", "x", alpha=1.5)
    z = net.node("RMSNormalization", y, net.weight(floats(6)))
    x = floats(1, 4, 6, seed=1).astype(np.float64)
    swish = x / (1 + np.exp(-1.5 * x))
    want = swish / np.sqrt((swish**2).mean(-1, keepdims=True) + 1e-5) * floats(6)
    (got,) = run(simplify(read(saved(net.model(z), tmp_path))), {"x": x.astype(np.float32)}).values()
    assert_near(got, want)


def test_integers_become_one_hot_rows_and_floats(tmp_path: Path) -> None:
    net = Network({"x": ["n", 3]}, opset=13, dtypes={"x": "int32"})
    net.node("OneHot", "x", net.weight(ints(5)), net.weight(np.asarray([0, 1], np.float32)), name="hot")
    net.node("Cast", "x", to=onnx.TensorProto.FLOAT, name="cast")
    graph = simplify(read(saved(net.model("hot_out", "cast_out"), tmp_path)))
    got = run(graph, {"x": np.asarray([[4, 0, 2]], np.int32)})
    assert got["hot_out"].tolist() == [np.eye(5)[[4, 0, 2]].tolist()]
    assert got["cast_out"].tolist() == [[4.0, 0.0, 2.0]]


def test_arithmetic_on_shapes_leaves_no_node_behind(tmp_path: Path) -> None:
    # what PyTorch writes for x.view(x.shape[0], -1) without constant folding
    net = Network({"x": ["n", 4, 3, 2]}, opset=11)
    size = net.node("Gather", net.node("Shape", "x"), net.weight(np.asarray(0, np.int64)), axis=0)
    parts = net.node("Unsqueeze", size, axes=[0]), net.weight(ints(-1))
    shape = net.node("Concat", *parts, axis=0)
    graph = read(saved(net.model(net.node("Reshape", "x", shape)), tmp_path))
    assert [str(n.op) for n in graph.nodes] == ["reshape"]
    assert graph.outputs[0].shape == (1, 24)


@pytest.mark.parametrize("form", ["x/2 half", "half first", "by multiplication"])
def test_a_spelled_out_gelu_is_recognised(form: str, tmp_path: Path) -> None:
    net = Network({"x": ["n", 8]})
    one, half, root = (net.weight(np.float32(v)) for v in (1.0, 0.5, np.sqrt(2)))
    scaled = net.node("Div", "x", root)
    if form == "by multiplication":
        scaled = net.node("Mul", "x", net.weight(np.float32(np.sqrt(0.5))))
    gate = net.node("Add", net.node("Erf", scaled), one)
    if form == "x/2 half":
        y = net.node("Mul", net.node("Mul", "x", gate), half)
    elif form == "half first":
        y = net.node("Mul", net.node("Mul", "x", half), gate)
    else:
        y = net.node("Mul", "x", net.node("Mul", gate, half))
    path = saved(net.model(y), tmp_path)
    graph = read(path)
    assert [str(n.op) for n in graph.nodes] == ["gelu"]
    feeds = {"x": floats(1, 8)}
    assert_near(run(graph, feeds)[y], openvino_run(path, feeds)[0])


def test_an_erf_that_is_no_gelu_is_refused_by_name(tmp_path: Path) -> None:
    net = Network({"x": ["n", 8]})
    path = saved(net.model(net.node("Erf", "x", name="bell")), tmp_path)
    with pytest.raises(UnsupportedOperator, match="operator Erf of node 'bell' is not supported"):
        read(path)


def test_all_unsupported_operators_are_named_at_once(tmp_path: Path) -> None:
    net = Network({"x": ["n", 8]})
    y = net.node("Det", net.node("Asinh", net.node("Asinh", "x", name="first"), name="second"), name="third")
    with pytest.raises(UnsupportedOperator) as caught:
        read(saved(net.model(y), tmp_path))
    assert str(caught.value) == (
        "operator Asinh of node 'first' is not supported; operator Det of node 'third' is not supported"
    )


def test_an_operator_of_another_domain_is_refused(tmp_path: Path) -> None:
    net = Network({"x": ["n", 8]})
    y = net.node("FusedGemm", "x", domain="com.microsoft", name="odd")
    with pytest.raises(UnsupportedOperator, match=r"operator com\.microsoft\.FusedGemm of node 'odd'"):
        read(saved(net.model(y), tmp_path))


def test_bounds_that_are_computed_clip_too(tmp_path: Path) -> None:
    net = Network({"x": ["n", 6]})
    top = net.node("ReduceMax", "x", keepdims=0)
    low = net.node("Sub", top, net.weight(np.float32(1.5)))
    path = saved(net.model(net.node("Clip", "x", low, net.weight(np.float32(np.inf)))), tmp_path)
    feeds = {"x": floats(1, 6)}
    (got,) = run(read(path), feeds).values()
    assert_near(got, openvino_run(path, feeds)[0])


def test_weights_kept_as_integers_are_dequantized(tmp_path: Path) -> None:
    net = Network({"x": ["n", 2]})
    weights = net.weight(np.asarray([[2, 4], [6, 8]], np.int8))
    y = net.node("MatMul", "x", net.node("DequantizeLinear", weights, net.weight(np.float32(0.5))))
    (got,) = run(read(saved(net.model(y), tmp_path)), {"x": np.ones((1, 2), np.float32)}).values()
    assert got.tolist() == [[4.0, 6.0]]


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        (["n", 3, "h", 8], r"input 'x' has shape \[n, 3, h, 8\], dynamic dimension 2 \('h'\)"),
        ([4, 3, 8, 8], "input 'x' has a fixed batch of 4"),
    ],
)
def test_sizes_that_are_not_fixed_are_refused(dims: list[int | str], words: str, tmp_path: Path) -> None:
    net = Network({"x": dims})
    with pytest.raises(UnsupportedFeature, match=words):
        read(saved(net.model(net.node("Relu", "x")), tmp_path))


def test_an_open_size_is_what_the_user_says(tmp_path: Path) -> None:
    net = Network({"x": ["n", 3, "h", "w"]})
    path = saved(net.model(net.node("Relu", "x")), tmp_path)
    for fixed in (FixedInputs({"": (1, 3, 5, 7)}), FixedInputs(sizes={"h": 5, "w": 7})):
        assert read(path, fixed).inputs[0].shape == (1, 3, 5, 7)
    with pytest.raises(SourceInvalid, match="no input 'y'; it has x"):
        read(path, FixedInputs({"y": (1, 3, 5, 7)}))


def test_an_input_with_a_value_is_no_input_any_more(tmp_path: Path) -> None:
    net = Network({"x": ["n", 3], "gain": [1]})
    path = saved(net.model(net.node("Mul", "x", "gain")), tmp_path)
    source = read_source(path, FixedInputs(values={"gain": (2.5,)}))
    assert [port.name for port in source.graph.inputs] == ["x"]
    feeds = {"x": floats(2, 3)}
    for answers in (run(source.graph, feeds), source.open().run(feeds)):
        (got,) = answers.values()
        np.testing.assert_allclose(got, feeds["x"] * 2.5, rtol=1e-6)
    with pytest.raises(SourceInvalid, match=r"2 values for input 'gain', which has shape \[1\]"):
        read(path, FixedInputs(values={"gain": (2.5, 1.0)}))


def test_an_older_opset_is_upgraded(tmp_path: Path) -> None:
    # before opset 10 Upsample said what Resize says; it also had its scales as an input
    net = Network({"x": ["n", 2, 3, 4]}, opset=9)
    scales = net.weight(np.asarray([1, 1, 2, 2], np.float32))
    path = saved(net.model(net.node("Upsample", "x", scales, mode="nearest")), tmp_path)
    feeds = {"x": floats(1, 2, 3, 4)}
    (got,) = run(read(path), feeds).values()
    assert_near(got, feeds["x"].repeat(2, axis=2).repeat(2, axis=3))


@pytest.mark.parametrize("opset", [6, 99])
def test_an_opset_out_of_range_is_refused(opset: int, tmp_path: Path) -> None:
    net = Network({"x": ["n", 3]}, opset=opset)
    with pytest.raises(UnsupportedFeature, match=f"opset {opset}; expected 11 to"):
        read(saved(net.model(net.node("Relu", "x")), tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=["not a number", "infinite", "minus infinite"])
def test_weights_that_are_not_finite_are_refused_by_name(bad: float, tmp_path: Path) -> None:
    net = Network({"x": ["n", 3]})
    w = floats(3, 2)
    w[1, 1] = bad
    y = net.node("MatMul", "x", net.weight(w, "kernel"))
    with pytest.raises(SourceInvalid, match="initializer 'kernel' has 1 elements that are NaN or infinite"):
        read(saved(net.model(y), tmp_path))


def _model_bytes() -> bytes:
    net = Network({"x": ["n", 3, 8, 8]})
    data: bytes = net.model(net.conv("x", 3, 8)).SerializeToString()
    return data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 64,
        b"not a model at all, just text",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        _model_bytes()[:700],
    ],
    ids=["empty", "zeros", "text", "picture", "truncated"],
)
def test_a_file_that_is_not_a_model_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceInvalid) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_every_truncation_of_a_model_is_refused_or_still_a_model(tmp_path: Path) -> None:
    content = _model_bytes()
    path = tmp_path / "model.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            read(path)
        except ConvertError as error:
            assert "\n" not in str(error)


def test_missing_external_weights_are_refused(tmp_path: Path) -> None:
    net = Network({"x": ["n", 64]})
    model = net.model(net.node("MatMul", "x", net.weight(floats(64, 64), "kernel")))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert_near(run(read(path), {"x": floats(1, 64)})["matmul0_out"], floats(1, 64) @ floats(64, 64))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(SourceInvalid, match="weights kept in another file cannot be read"):
        read(path)


def test_a_node_with_too_few_inputs_is_refused(tmp_path: Path) -> None:
    net = Network({"x": ["n", 3]})
    with pytest.raises(SourceInvalid, match="node 'add0' is not valid ONNX"):
        read(saved(net.model(net.node("Add", "x")), tmp_path))


def test_an_unknown_suffix_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_bytes(b"PK")
    with pytest.raises(SourceInvalid, match=r"unknown suffix '\.txt'; expected a model: \.lite, \.onnx"):
        load(tmp_path / "model.txt")
    with pytest.raises(SourceInvalid, match="no such file"):
        load(tmp_path / "absent.onnx")


def _uses() -> list[tuple[str, Any, str]]:
    image = (1, 4, 8, 8)
    return [
        ("Conv", Case("", "Conv", ((1, 2, 4, 4, 4),), (floats(3, 2, 3, 3, 3),)), "only 1-D and 2-D images"),
        ("kernel", Case("", "Conv", (image, (6, 4, 3, 3))), "fixed batch of 6"),
        (
            "dilated",
            Case("", "MaxPool", (image,), (), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
            "dilations",
        ),
        (
            "cubic",
            Case("", "Resize", (image,), (None, np.ones(4, "f4") * [1, 1, 2, 2]), {"mode": "cubic"}),
            "cubic",
        ),
        ("last", Case("", "ArgMax", (image,), (), {"select_last_index": 1}), "select_last_index=1"),
        ("shape", Case("", "Reshape", (image,), (ints(2, 100),)), r"cannot take the shape \(2, 100\)"),
        ("einsum", Case("", "Einsum", (image,), (), {"equation": "nchw->nwch"}), "only two operands"),
    ]


@pytest.mark.parametrize(("case", "words"), [(c, w) for _, c, w in _uses()], ids=[n for n, _, _ in _uses()])
def test_a_use_that_cannot_be_expressed_is_refused_with_its_node(
    case: Case, words: str, tmp_path: Path
) -> None:
    model = case.model()
    for tensor in model.graph.initializer:  # numpy promotes what the cases above multiply
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with pytest.raises(UnsupportedFeature, match=words):
        read(saved(model, tmp_path))


def test_a_shape_that_depends_on_the_input_is_refused(tmp_path: Path) -> None:
    net = Network({"x": ["n", 6], "s": [2]}, dtypes={"s": "int64"})
    model = net.model(net.node("Reshape", "x", "s", name="late"))
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(UnsupportedFeature, match=r"Reshape 'late': the shape \('s'\) is computed"):
        read(saved(model, tmp_path))


def test_a_byte_picture_that_is_cast_at_once_is_fed_as_float(tmp_path: Path) -> None:
    net = Network({"x": ["n", 4, 4, 1]})
    y = net.node("Relu", net.node("Cast", "x", to=onnx.TensorProto.FLOAT))
    model = net.model(y)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    graph = simplify(read(saved(model, tmp_path)))
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(run(graph, {"x": x})[y], x)


def test_functions_of_the_model_are_written_out(tmp_path: Path) -> None:
    body = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    net = Network({"x": ["n", 3]})
    model = net.model(net.node("Twice", "x", domain="local"))
    model.functions.append(body)
    model.opset_import.append(helper.make_opsetid("local", 1))
    (got,) = run(read(saved(model, tmp_path)), {"x": np.ones((1, 3), np.float32)}).values()
    assert got.tolist() == [[2.0, 2.0, 2.0]]


def test_a_group_normalisation_written_with_reshapes_gives_what_openvino_gives(tmp_path: Path) -> None:
    net = Network({"x": ["n", 8, 5, 6]})
    y = net.node("Reshape", net.conv("x", 8, 8), net.weight(ints(0, 4, -1)))
    y = net.node("InstanceNormalization", y, net.weight(floats(4)), net.weight(floats(4)))
    y = net.node("Reshape", y, net.weight(ints(-1, 8, 5, 6)))
    path = saved(net.model(net.node("Mul", y, net.weight(floats(8, 1, 1)))), tmp_path)
    graph = simplify(read(path))
    assert "transpose" not in [str(node.op) for node in graph.nodes]
    feeds = {"x": floats(1, 8, 5, 6)}
    (got,) = run(graph, feeds).values()
    assert_near(got, openvino_run(path, feeds)[0])


def test_a_value_that_nothing_computes_is_refused_by_name(tmp_path: Path) -> None:
    net = Network({"x": ["n", 3]})
    with pytest.raises(SourceInvalid, match="Add 'add0': input 'ghost' is computed by no node before it"):
        read(saved(net.model(net.node("Add", "x", "ghost")), tmp_path))


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bytes_are_refused_or_still_a_model(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    net = Network({"x": ["n", 3, 8, 8]})
    x = net.node("Relu", net.batch_norm(net.conv("x", 3, 4), 4))
    x = net.node("Transpose", net.node("Reshape", x, net.weight(ints(0, 4, -1))), perm=[0, 2, 1])
    content = bytearray(net.model(net.node("MatMul", x, net.weight(floats(4, 2)))).SerializeToString())
    for at in rng.integers(len(content), size=3):
        content[at] = int(rng.integers(256))
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    try:
        simplify(read(path))
    except ConvertError as error:
        assert "\n" not in str(error)
