"""The passes: every one keeps the answers, and each does what it is there for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import Network, floats, ints, openvino_run, saved

from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.importers.onnx import read
from edge_convert.passes import PIPELINE, simplify
from edge_convert.passes.reshape_groups import groups, permuted_reshape, whole_groups
from edge_convert.reference import run
from edge_convert.shapes import result
from edge_convert.validity import validate

REAL = ["ic_resnet8", "vww_mobilenetv1", "kws_dscnn", "ad_autoencoder"]


# --- whole networks, written out as exporters write them ---------------------------------------


def resnet() -> Any:
    net = Network({"image": ["n", 3, 16, 16]})
    x = net.node("Relu", net.batch_norm(net.conv("image", 3, 8, 7, strides=[2, 2]), 8))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.node("Relu", net.batch_norm(net.conv(x, 8, 8), 8))
    x = net.node("Relu", net.node("Add", net.batch_norm(net.conv(y, 8, 8), 8), x))
    shortcut = net.conv(x, 8, 12, 1, strides=[2, 2])
    y = net.batch_norm(net.conv(x, 8, 12, strides=[2, 2]), 12)
    x = net.node("Relu", net.node("Add", y, shortcut))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.model(net.node("Gemm", x, net.weight(floats(12, 5)), net.weight(floats(5))))


def mobilenet() -> Any:
    net = Network({"image": ["n", 3, 16, 16]})

    def hard_swish(x: str) -> str:
        three, low, high, six = (net.weight(np.float32(v)) for v in (3, 0, 6, 6))
        gate = net.node("Clip", net.node("Add", x, three), low, high)
        name: str = net.node("Div", net.node("Mul", x, gate), six)
        return name

    x = hard_swish(net.batch_norm(net.conv("image", 3, 8, strides=[2, 2]), 8))
    y = hard_swish(net.batch_norm(net.conv(x, 8, 8, groups=8), 8))
    squeezed = net.node("ReduceMean", y, axes=[2, 3], keepdims=0)
    weights = net.weight(floats(8, 8)), net.weight(floats(8))
    gate = net.node("HardSigmoid", net.node("Gemm", squeezed, *weights), alpha=1 / 6)
    gate = net.node("Reshape", gate, net.weight(ints(-1, 8, 1, 1)))
    y = net.batch_norm(net.conv(net.node("Mul", y, gate), 8, 8, 1), 8)
    x = net.node("Add", x, y)
    return net.model(net.node("ReduceMean", x, axes=[2, 3], keepdims=0))


def u_net() -> Any:
    net = Network({"image": ["n", 3, 16, 12]})
    a = net.node("Relu", net.conv("image", 3, 4))
    b = net.node("Relu", net.conv(net.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 4, 8))
    up = net.node("ConvTranspose", b, net.weight(floats(8, 4, 2, 2)), strides=[2, 2])
    scales = net.weight(np.asarray([1, 1, 2, 2], np.float32))
    wide = net.node("Resize", b, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    x = net.node("Relu", net.conv(net.node("Concat", up, a, wide, axis=1), 16, 4))
    return net.model(net.node("Sigmoid", net.conv(x, 4, 2, 1)))


def auto_encoder() -> Any:
    net = Network({"image": ["n", 1, 8, 12]})
    x = net.node("LeakyRelu", net.conv("image", 1, 4, strides=[2, 2]), alpha=0.1)
    x = net.node("Relu", net.node("Flatten", x))
    code = net.node("Gemm", x, net.weight(floats(96, 6)), net.weight(floats(6)))
    x = net.node("Relu", net.node("Gemm", code, net.weight(floats(6, 96)), net.weight(floats(96))))
    x = net.node("Reshape", x, net.weight(ints(-1, 4, 4, 6)))
    x = net.node("ConvTranspose", x, net.weight(floats(4, 1, 4, 4)), strides=[2, 2], pads=[1, 1, 1, 1])
    return net.model(net.node("Tanh", x), code)


def line_network() -> Any:
    net = Network({"signal": ["n", 4, 32]})

    def conv(x: str, cin: int, cout: int, **attrs: Any) -> str:
        name: str = net.node("Conv", x, net.weight(floats(cout, cin, 3) / 4), pads=[1, 1], **attrs)
        return name

    x = net.node("Relu", net.batch_norm(conv("signal", 4, 8, strides=[2]), 8))
    x = net.node("Add", x, net.node("Relu", net.batch_norm(conv(x, 8, 8), 8)))
    x = net.node("Squeeze", net.node("GlobalAveragePool", x), net.weight(ints(-1)))
    return net.model(net.node("Softmax", net.node("MatMul", x, net.weight(floats(8, 3)))))


def denoiser() -> Any:
    net = Network({"image": ["n", 3, 9, 7]})
    x = net.node("Sub", "image", net.weight(floats(3, 1, 1)))
    y = net.node("Relu", net.conv(x, 3, 6))
    y = net.node("PRelu", net.conv(y, 6, 3), net.weight(floats(3, 1, 1)))
    return net.model(net.node("Add", "image", y))


def channels_last() -> Any:
    """What tf2onnx writes: NHWC in, transposes inside, Flatten back in NHWC."""
    net = Network({"image": ["n", 8, 8, 3]})
    x = net.node("Transpose", "image", perm=[0, 3, 1, 2])
    x = net.node("Relu", net.conv(x, 3, 4, strides=[2, 2]))
    x = net.node("Transpose", x, perm=[0, 2, 3, 1])
    x = net.node("Reshape", x, net.weight(ints(-1, 64)))
    return net.model(net.node("MatMul", x, net.weight(floats(64, 5))))


def flattened() -> Any:
    """The classic trap: channels-first flatten into a dense layer, with a batch norm between."""
    net = Network({"image": ["n", 2, 6, 8]})
    x = net.node("Relu", net.node("Flatten", net.conv("image", 2, 3)))
    x = net.batch_norm(x, 144)
    return net.model(net.node("Gemm", x, net.weight(floats(144, 4)), net.weight(floats(4))))


def pixel_shuffle() -> Any:
    net = Network({"image": ["n", 3, 6, 4]})
    x = net.node("DepthToSpace", net.conv("image", 3, 12), blocksize=2, mode="CRD")
    return net.model(x)


FREE_OF_TRANSPOSES = [
    resnet, mobilenet, u_net, auto_encoder, line_network, denoiser, channels_last, flattened, pixel_shuffle
]  # fmt: skip


def channel_shuffle() -> Any:
    net = Network({"image": ["n", 3, 6, 4]})
    x = net.node("Reshape", net.conv("image", 3, 8), net.weight(ints(-1, 2, 4, 6, 4)))
    x = net.node("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = net.node("Reshape", x, net.weight(ints(-1, 8, 6, 4)))
    return net.model(net.conv(x, 8, 3))


def detector_head() -> Any:
    net = Network({"image": ["n", 3, 8, 6]})
    x = net.node("Reshape", net.conv("image", 3, 14), net.weight(ints(-1, 2, 7, 8, 6)))
    x = net.node("Sigmoid", net.node("Transpose", x, perm=[0, 1, 3, 4, 2]))
    xy, rest = net.node("Split", x, net.weight(ints(2, 5)), axis=-1, outputs=2)
    x = net.node("Concat", net.node("Mul", xy, net.weight(np.float32(2))), rest, axis=-1)
    return net.model(net.node("Reshape", x, net.weight(ints(-1, 96, 7))))


def attention() -> Any:
    net = Network({"image": ["n", 3, 4, 6]})
    x = net.node("Reshape", net.conv("image", 3, 8), net.weight(ints(-1, 8, 24)))
    x = net.node("Transpose", x, perm=[0, 2, 1])
    x = net.node("LayerNormalization", x, net.weight(floats(8)), net.weight(floats(8)))
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        y = net.node("MatMul", x, net.weight(floats(8, 8, seed=len(net.weights))))
        heads.append(net.node("Transpose", net.node("Reshape", y, net.weight(ints(0, 24, 2, 4))), perm=perm))
    scores = net.node("Softmax", net.node("MatMul", heads[0], heads[1]))
    y = net.node("Transpose", net.node("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
    return net.model(net.node("Add", x, net.node("Reshape", y, net.weight(ints(0, 24, 8)))))


NETWORKS = [*FREE_OF_TRANSPOSES, channel_shuffle, detector_head, attention]


def feeds_of(graph: Graph, samples: int = 1) -> dict[str, Array]:
    return {p.name: floats(samples, *p.shape[1:], seed=7) for p in graph.inputs}


def ops(graph: Graph) -> Counter[Op]:
    return Counter(node.op for node in graph.nodes)


def contents(graph: Graph) -> list[Any]:
    return [(n.op, n.name, n.inputs, n.outputs, dict(n.attrs)) for n in graph.nodes]


def assert_same(got: dict[str, Array], want: list[Array]) -> None:
    for value, expected in zip(got.values(), want, strict=True):
        np.testing.assert_allclose(value, expected, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_a_simplified_network_gives_what_openvino_gives(network: Any, tmp_path: Path) -> None:
    path = saved(network(), tmp_path)
    graph = simplify(read(path))
    feeds = feeds_of(graph)
    assert_same(run(graph, feeds), openvino_run(path, feeds))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
@pytest.mark.parametrize("name", PIPELINE)
def test_every_pass_alone_keeps_the_answers(name: str, network: Any, tmp_path: Path) -> None:
    graph = read(saved(network(), tmp_path))
    feeds = feeds_of(graph)
    want = list(run(graph, feeds).values())
    assert_same(run(validate(PIPELINE[name](graph)), feeds), want)


@pytest.mark.parametrize("network", FREE_OF_TRANSPOSES, ids=lambda network: network.__name__)
def test_a_convolutional_network_comes_out_without_transposes(network: Any, tmp_path: Path) -> None:
    assert ops(simplify(read(saved(network(), tmp_path))))[Op.TRANSPOSE] == 0


@pytest.mark.parametrize("name", REAL)
def test_a_real_model_comes_out_without_transposes_or_loose_activations(name: str, shared_data: Path) -> None:
    left = ops(simplify(read(shared_data / "models" / f"{name}.onnx")))
    assert not left.keys() & {Op.TRANSPOSE, Op.RELU, Op.RELU6, Op.MUL, Op.PAD}


def test_simplifying_twice_changes_nothing(tmp_path: Path) -> None:
    once = simplify(read(saved(mobilenet(), tmp_path)))
    assert contents(simplify(once)) == contents(once)


# --- layout --------------------------------------------------------------------------------------


def test_the_ports_keep_the_source_shape_and_say_how_the_graph_differs(tmp_path: Path) -> None:
    graph = simplify(read(saved(u_net(), tmp_path)))
    (image,), (mask,) = graph.inputs, graph.outputs
    assert (image.shape, image.perm, image.layout) == ((1, 3, 16, 12), (0, 2, 3, 1), "NCHW")
    assert graph.tensor(image.tensor).shape == (1, 16, 12, 3)
    assert (mask.shape, mask.perm, mask.layout) == ((1, 2, 16, 12), (0, 3, 1, 2), "NCHW")
    assert graph.tensor(mask.tensor).shape == (1, 16, 12, 2)


def test_a_channels_last_source_has_no_perm(tmp_path: Path) -> None:
    (image,) = simplify(read(saved(channels_last(), tmp_path))).inputs
    assert (image.shape, image.perm, image.layout) == ((1, 8, 8, 3), None, "NHWC")


def test_vectors_have_no_layout(tmp_path: Path) -> None:
    net = Network({"x": ["n", 6]})
    graph = simplify(read(saved(net.model(net.node("Relu", "x")), tmp_path)))
    assert (graph.inputs[0].layout, graph.outputs[0].layout) == ("", "")


def test_a_channel_shuffle_costs_one_transpose(tmp_path: Path) -> None:
    assert ops(simplify(read(saved(channel_shuffle(), tmp_path))))[Op.TRANSPOSE] == 1


def test_the_order_of_dense_weights_takes_up_a_channels_first_flatten(tmp_path: Path) -> None:
    graph = simplify(read(saved(flattened(), tmp_path)))
    assert [n.op for n in graph.nodes] == [Op.CONV2D, Op.RESHAPE, Op.DENSE]


# --- folding and fusing --------------------------------------------------------------------------


def test_batch_norm_and_activation_vanish_into_the_convolution(tmp_path: Path) -> None:
    left = ops(simplify(read(saved(resnet(), tmp_path))))
    assert left == {Op.CONV2D: 5, Op.MAX_POOL2D: 1, Op.ADD: 2, Op.MEAN: 1, Op.RESHAPE: 1, Op.DENSE: 1}


def test_hard_swish_is_recognised_in_its_parts(tmp_path: Path) -> None:
    left = ops(simplify(read(saved(mobilenet(), tmp_path))))
    assert left[Op.HARD_SWISH] == 2
    assert left[Op.DIV] == 0


def test_a_pixel_shuffle_re_orders_the_kernel_of_its_convolution(tmp_path: Path) -> None:
    graph = simplify(read(saved(pixel_shuffle(), tmp_path)))
    assert [n.op for n in graph.nodes] == [Op.CONV2D, Op.DEPTH_TO_SPACE]


class Bench:
    """A graph of one input, written node by node."""

    def __init__(self, *shape: int) -> None:
        self.tensors = {"x": Tensor("x", shape)}
        self.nodes: list[Node] = []

    def const(self, name: str, data: Any) -> str:
        self.tensors[name] = constant(name, np.asarray(data, np.float32))
        return name

    def add(self, op: Op, name: str, *inputs: str, **attrs: Any) -> str:
        node, tensor = result(op, name, [self.tensors[n] for n in inputs], attrs, name)
        self.nodes.append(node)
        self.tensors[name] = tensor
        return name

    def conv(self, name: str, x: str, **attrs: Any) -> str:
        cin = self.tensors[x].shape[3]
        kernel = self.const(f"{name}:w", floats(4, 3, 3, cin))
        settings = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "groups": 1} | attrs
        return self.add(Op.CONV2D, name, x, kernel, **{"activation": "none", **settings})

    def graph(self, *outputs: str) -> Graph:
        ports = tuple(Port(name, name, self.tensors[name].shape) for name in outputs)
        x = Port("x", "x", self.tensors["x"].shape)
        return validate(Graph("bench", (x,), ports, tuple(self.nodes), self.tensors))


def assert_simplifies_to(graph: Graph, expected: list[Op]) -> Graph:
    """The nodes that are left, and the same answers as before."""
    simple = simplify(graph)
    assert [n.op for n in simple.nodes] == expected
    feeds = feeds_of(graph)
    assert_same(run(simple, feeds), list(run(graph, feeds).values()))
    return simple


def _scaled(bench: Bench, x: str, channels: int, shift: bool) -> str:
    y = bench.add(Op.MUL, "scaled", x, bench.const("s", floats(channels, seed=1)), activation="none")
    if shift:
        y = bench.add(Op.ADD, "shifted", y, bench.const("t", floats(channels, seed=2)), activation="none")
    return y


def test_a_factor_before_a_padded_convolution_folds() -> None:
    bench = Bench(1, 5, 5, 3)
    assert_simplifies_to(bench.graph(bench.conv("c", _scaled(bench, "x", 3, shift=False))), [Op.CONV2D])


def test_a_term_before_a_padded_convolution_stays() -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.add(Op.ADD, "shifted", "x", bench.const("t", floats(3)), activation="none")
    assert_simplifies_to(bench.graph(bench.conv("c", y)), [Op.ADD, Op.CONV2D])


def test_factor_and_term_before_an_unpadded_convolution_fold() -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.conv("c", _scaled(bench, "x", 3, shift=True), pads=(0, 0, 0, 0))
    assert_simplifies_to(bench.graph(y), [Op.CONV2D])


def test_factors_before_grouped_and_depthwise_convolutions_fold() -> None:
    bench = Bench(1, 5, 5, 4)
    y = _scaled(bench, "x", 4, shift=True)
    kernel = bench.const("g", floats(6, 3, 3, 2))
    settings: dict[str, Any] = {
        "strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "activation": "none"
    }  # fmt: skip
    y = bench.add(Op.CONV2D, "grouped", y, kernel, groups=2, **settings)
    y = bench.add(Op.MUL, "again", y, bench.const("u", floats(6)), activation="relu")
    y = bench.add(Op.MUL, "third", y, bench.const("v", floats(6, seed=5)), activation="none")
    y = bench.add(Op.DEPTHWISE_CONV2D, "dw", y, bench.const("d", floats(1, 3, 3, 12)), **settings)
    simple = assert_simplifies_to(bench.graph(y), [Op.CONV2D, Op.DEPTHWISE_CONV2D])
    assert simple.nodes[0].attrs["activation"] == "relu"


def test_a_convolution_that_others_read_too_keeps_its_answer() -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.conv("c", "x")
    z = bench.add(Op.RELU, "r", y)
    s = bench.add(Op.MUL, "m", y, bench.const("k", floats(4)), activation="none")
    simple = assert_simplifies_to(bench.graph(z, s), [Op.CONV2D, Op.RELU, Op.MUL])
    assert simple.nodes[0].attrs["activation"] == "none"


def test_an_activation_behind_an_output_of_the_model_is_not_fused() -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.conv("c", "x")
    assert_simplifies_to(bench.graph(y, bench.add(Op.RELU, "r", y)), [Op.CONV2D, Op.RELU])


PAD = ((0, 0), (1, 1), (2, 0), (0, 0))


@pytest.mark.parametrize(
    ("value", "paddings", "left"),
    [
        (0.0, PAD, [Op.CONV2D]),
        (1.0, PAD, [Op.PAD, Op.CONV2D]),
        (0.0, ((0, 0), (1, 1), (0, 0), (0, 1)), [Op.PAD, Op.CONV2D]),
    ],
    ids=["zeros", "ones", "of channels"],
)
def test_only_spatial_zeros_fold_into_a_convolution(value: float, paddings: Any, left: list[Op]) -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.add(Op.PAD, "p", "x", paddings=paddings, value=value)
    assert_simplifies_to(bench.graph(bench.conv("c", y, pads=(0, 1, 0, 1))), left)


@pytest.mark.parametrize(("before", "left"), [(Op.ABS, 2), (Op.NEG, 3)], ids=["never negative", "negative"])
def test_zeros_fold_into_a_max_pool_only_if_nothing_is_negative(before: Op, left: int) -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.add(Op.PAD, "p", bench.add(before, "b", "x"), paddings=PAD, value=0.0)
    y = bench.add(Op.MAX_POOL2D, "m", y, kernel=(3, 3), strides=(1, 1), pads=(0, 0, 0, 0))
    pools = [Op.PAD, Op.MAX_POOL2D][3 - left :] if left == 2 else [Op.PAD, Op.MAX_POOL2D]
    assert_simplifies_to(bench.graph(y), [before, *pools])


def test_zeros_fold_into_an_average_pool_as_counted_padding() -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.add(Op.PAD, "p", "x", paddings=PAD, value=0.0)
    pool: dict[str, Any] = {"kernel": (3, 3), "strides": (1, 1), "count_include_pad": False}
    y = bench.add(Op.AVERAGE_POOL2D, "a", y, pads=(0, 0, 0, 0), **pool)
    simple = assert_simplifies_to(bench.graph(y), [Op.AVERAGE_POOL2D])
    assert simple.nodes[0].attrs["count_include_pad"] is True


def test_zeros_before_an_average_pool_with_uncounted_padding_stay() -> None:
    bench = Bench(1, 5, 5, 3)
    y = bench.add(Op.PAD, "p", "x", paddings=PAD, value=0.0)
    pool: dict[str, Any] = {"kernel": (3, 3), "strides": (1, 1), "count_include_pad": False}
    y = bench.add(Op.AVERAGE_POOL2D, "a", y, pads=(1, 1, 1, 1), **pool)
    assert_simplifies_to(bench.graph(y), [Op.PAD, Op.AVERAGE_POOL2D])


def test_identities_of_every_kind_are_removed() -> None:
    bench = Bench(1, 4, 4, 2)
    y = bench.add(Op.SIGMOID, "s", "x")
    y = bench.add(Op.MUL, "one", y, bench.const("k1", 1.0), activation="none")
    y = bench.add(Op.ADD, "zero", bench.const("k0", np.zeros((1, 1, 2))), y, activation="none")
    y = bench.add(Op.RESHAPE, "same", y, shape=(1, 4, 4, 2))
    y = bench.add(Op.TRANSPOSE, "there", y, perm=(0, 2, 1, 3))
    y = bench.add(Op.TRANSPOSE, "back", y, perm=(0, 2, 1, 3))
    y = bench.add(Op.SLICE, "all", y, begin=(0, 0, 0, 0), end=(1, 4, 4, 2), strides=(1, 1, 1, 1))
    y = bench.add(Op.PAD, "none", y, paddings=((0, 0),) * 4, value=0.0)
    y = bench.add(Op.RELU, "again", y)
    y = bench.add(Op.CONCAT, "alone", y, axis=1)
    assert_simplifies_to(bench.graph(y), [Op.SIGMOID])


def test_what_only_looks_like_an_identity_stays() -> None:
    bench = Bench(1, 1, 4, 2)
    y = bench.add(Op.MUL, "wider", "x", bench.const("k", np.ones((1, 3, 1, 1))), activation="none")
    y = bench.add(Op.SUB, "from zero", bench.const("z", 0.0), y, activation="none")
    y = bench.add(Op.ADD, "clamped", y, bench.const("n", 0.0), activation="relu6")
    simplified = simplify(bench.graph(y))
    assert len(simplified.nodes) == 3


def test_the_only_node_between_input_and_output_stays() -> None:
    bench = Bench(1, 4)
    y = bench.add(Op.RESHAPE, "same", "x", shape=(1, 4))
    assert_simplifies_to(bench.graph(y), [Op.RESHAPE])


def test_nodes_that_nothing_reads_and_constants_that_nodes_compute_go() -> None:
    bench = Bench(1, 4)
    bench.add(Op.EXP, "unread", "x")
    shift = bench.add(Op.NEG, "negated", bench.const("k", [1.0, 2.0, 3.0, 4.0]))
    simple = assert_simplifies_to(
        bench.graph(bench.add(Op.MUL, "m", "x", shift, activation="none")), [Op.MUL]
    )
    assert simple.constant(simple.nodes[0].inputs[1]).tolist() == [-1.0, -2.0, -3.0, -4.0]


def test_a_constant_is_not_blown_up_by_folding() -> None:
    bench = Bench(1, 512, 512)
    row = bench.add(Op.BROADCAST_TO, "rows", bench.const("k", floats(1, 1, 512)), shape=(1, 512, 512))
    graph = bench.graph(bench.add(Op.ADD, "a", "x", row, activation="none"))
    assert [n.op for n in simplify(graph).nodes] == [Op.BROADCAST_TO, Op.ADD]


def test_two_reshapes_become_one() -> None:
    bench = Bench(1, 6, 4)
    y = bench.add(Op.RESHAPE, "b", bench.add(Op.RESHAPE, "a", "x", shape=(1, 24)), shape=(1, 4, 6))
    assert_simplifies_to(bench.graph(y), [Op.RESHAPE])


def test_hard_swish_with_another_constant_is_not_hard_swish() -> None:
    bench = Bench(1, 8)
    y = bench.add(Op.ADD, "a", "x", bench.const("k", 2.0), activation="relu6")
    y = bench.add(Op.MUL, "m", "x", y, activation="none")
    y = bench.add(Op.MUL, "s", y, bench.const("k6", 1 / 6), activation="none")
    assert_simplifies_to(bench.graph(y), [Op.ADD, Op.MUL, Op.MUL])


# --- transposes, exhaustively on random graphs ---------------------------------------------------


MOVEMENTS = ["transpose", "reshape", "unary", "binary", "add", "concat", "mean", "slice", "pad"]
SHAPES = [(1, 8, 6), (1, 4, 12), (1, 48), (1, 2, 2, 6, 2), (1, 6, 4, 2), (1, 4, 1, 12), (1, 2, 4, 6)]


@pytest.mark.parametrize("seed", range(40))
def test_random_chains_of_movements_keep_their_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bench = Bench(1, 4, 6, 2)
    made = ["x"]
    for index in range(12):
        x = str(rng.choice(made[-3:]))
        shape, rank = bench.tensors[x].shape, len(bench.tensors[x].shape)
        name = f"n{index}"
        kind = rng.choice(
            ["transpose", "reshape", "unary", "binary", "add", "concat", "mean", "slice", "pad"]
        )
        if kind == "transpose":
            made.append(bench.add(Op.TRANSPOSE, name, x, perm=(0, *(1 + rng.permutation(rank - 1)).tolist())))
        elif kind == "reshape":
            options = [
                (1, 8, 6),
                (1, 4, 12),
                (1, 48),
                (1, 2, 2, 6, 2),
                (1, 6, 4, 2),
                (1, 4, 1, 12),
                (1, 2, 4, 6),
            ]
            fitting = [s for s in options if np.prod(s) == np.prod(shape)]
            if fitting:
                made.append(bench.add(Op.RESHAPE, name, x, shape=fitting[int(rng.integers(len(fitting)))]))
        elif kind == "unary":
            made.append(bench.add(Op.TANH, name, x))
        elif kind == "binary":
            data = floats(*(d if rng.random() < 0.5 else 1 for d in shape[1:]), seed=index)
            made.append(bench.add(Op.MUL, name, x, bench.const(f"k{index}", data), activation="none"))
        elif kind in ("add", "concat"):
            same = [m for m in made if bench.tensors[m].shape == shape]
            other = str(rng.choice(same))
            if kind == "add":
                made.append(bench.add(Op.ADD, name, x, other, activation="none"))
            elif np.prod(shape) < 200:
                made.append(bench.add(Op.CONCAT, name, x, other, axis=rank - 1))
        elif kind == "mean":
            axis = int(rng.integers(1, rank))
            if rank > 2:
                made.append(bench.add(Op.MEAN, name, x, axes=(axis,), keepdims=bool(rng.random() < 0.5)))
        elif kind == "slice":
            end = tuple(d if i == 0 else max(1, d - 1) for i, d in enumerate(shape))
            made.append(bench.add(Op.SLICE, name, x, begin=(0,) * rank, end=end, strides=(1,) * rank))
        else:
            pads = tuple((0, 0) if i == 0 else (i % 2, 0) for i in range(rank))
            if np.prod(shape) < 200:
                made.append(bench.add(Op.PAD, name, x, paddings=pads, value=0.5))
    graph = bench.graph(*dict.fromkeys([made[-1], made[len(made) // 2]]))
    feeds = feeds_of(graph)
    want = list(run(graph, feeds).values())
    simple = simplify(graph)
    assert_same(run(simple, feeds), want)
    assert ops(simple)[Op.TRANSPOSE] <= ops(graph)[Op.TRANSPOSE] + 1


def test_groups_pair_axes_of_equal_product() -> None:
    assert groups((1, 4, 6), (1, 2, 2, 6)) == [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]
    assert groups((1, 4, 6), (1, 24)) == [((0,), (0,)), ((1, 2), (1,))]
    assert groups((5, 1, 3), (5, 3, 1)) == [((0,), (0,)), ((1,), ()), ((2,), (1,)), ((), (2,))]
    assert groups((4, 6), (6, 4)) == [((0, 1), (0, 1))]


def test_a_split_passes_a_transpose_and_a_merge_across_it_does_not() -> None:
    # x [1, h 2, w 3, c 4], seen as [1, 4, 2, 3]
    assert permuted_reshape((1, 2, 3, 4), (0, 3, 1, 2), (1, 2, 2, 2, 3)) == ((1, 2, 3, 2, 2), (0, 3, 4, 1, 2))
    assert whole_groups((1, 2, 3, 4), (0, 3, 1, 2), (1, 2, 2, 2, 3)) == (0, 1, 2, 3)
    assert whole_groups((1, 2, 3, 4), (0, 3, 1, 2), (1, 24)) == (0, 3, 1, 2)


def test_a_pass_never_changes_the_graph_it_is_given(tmp_path: Path) -> None:
    graph = read(saved(mobilenet(), tmp_path))
    before, elements = contents(graph), {n: t.data for n, t in graph.tensors.items()}
    copies = {n: None if a is None else a.copy() for n, a in elements.items()}
    simplify(graph)
    assert contents(graph) == before
    assert {n: t.data for n, t in graph.tensors.items()}.keys() == elements.keys()
    for name, array in elements.items():
        if array is not None:
            np.testing.assert_array_equal(array, copies[name])
