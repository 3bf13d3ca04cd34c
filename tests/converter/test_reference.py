"""The numpy reference: what it takes, many samples at once, and what it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import Network, floats, ints, openvino_run, saved

from edge_convert.errors import DataInvalid
from edge_convert.graph import Graph, Op
from edge_convert.importers.onnx import read
from edge_convert.passes import simplify
from edge_convert.reference import batches, evaluate, run
from edge_convert.reference_kernels import KERNELS
from edge_convert.reference_layers import add_by_channel


def classifier(folder: Path) -> tuple[Path, Graph]:
    net = Network({"image": ["n", 3, 8, 6]})
    x = net.node("Relu", net.conv("image", 3, 4))
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    up = net.node("ConvTranspose", x, net.weight(floats(4, 2, 2, 2)), strides=[2, 2])
    x = net.node("Reshape", up, net.weight(ints(0, -1)))
    x = net.node("Gemm", x, net.weight(floats(96, 5)), net.weight(floats(5)))
    path = saved(net.model(net.node("Softmax", x)), folder)
    return path, read(path)


def test_there_is_a_kernel_for_every_operator() -> None:
    assert set(KERNELS) == set(Op)


def test_many_samples_at_once_give_what_openvino_gives(tmp_path: Path) -> None:
    path, graph = classifier(tmp_path)
    feeds = {"image": floats(5, 3, 8, 6)}
    (want,) = openvino_run(path, feeds)
    for form in (graph, simplify(graph)):
        assert batches(form)
        (got,) = run(form, feeds).values()
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_graph_that_mixes_samples_runs_them_one_by_one(tmp_path: Path) -> None:
    net = Network({"x": ["n", 3, 4]})
    # at batch 1 the same as a product of matrices, with n samples it is not
    flat = net.node("Reshape", "x", net.weight(ints(3, 4)))
    y = net.node("MatMul", flat, net.node("Transpose", flat, perm=[1, 0]))
    graph = read(saved(net.model(net.node("Unsqueeze", y, net.weight(ints(0)))), tmp_path))
    assert not batches(graph)
    x = floats(6, 3, 4)
    (got,) = run(graph, {"x": x}).values()
    np.testing.assert_allclose(got, x @ x.transpose(0, 2, 1), atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
def test_operands_of_another_rank_do_not_mix_samples(axis: int, tmp_path: Path) -> None:
    net = Network({"x": ["n", 4, 4]})
    mean = net.node("ReduceMean", "x", axes=[axis], keepdims=0)
    graph = simplify(read(saved(net.model(net.node("Add", "x", mean)), tmp_path)))
    x = floats(4, 4, 4)
    (got,) = run(graph, {"x": x}).values()
    want = np.concatenate([x[i : i + 1] + x[i : i + 1].mean(axis=axis) for i in range(4)])
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_evaluate_keeps_what_is_asked_for_and_nothing_else(tmp_path: Path) -> None:
    graph = simplify(classifier(tmp_path)[1])
    feeds = {"image": floats(2, 3, 8, 6)}
    everything = evaluate(graph, feeds)
    computed = {n for n, t in graph.tensors.items() if not t.is_constant}
    assert set(everything) == computed
    wanted = {graph.nodes[0].output, graph.nodes[2].output}
    kept = evaluate(graph, feeds, keep=wanted)
    assert set(kept) == wanted
    for name in wanted:
        np.testing.assert_array_equal(kept[name], everything[name])
        assert kept[name].shape == (2, *graph.tensor(name).shape[1:])


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "input 'image' is not fed"),
        ({"picture": floats(1, 3, 8, 6)}, "the model has no input 'picture'"),
        ({"image": floats(1, 8, 6, 3)}, r"input 'image' has shape \(1, 8, 6, 3\)"),
        ({"image": floats(3, 8, 6)}, r"input 'image' has shape \(3, 8, 6\)"),
    ],
    ids=["nothing", "another name", "another layout", "no samples axis"],
)
def test_feeds_that_do_not_fit_are_refused(feeds: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=words):
        run(classifier(tmp_path)[1], feeds)


def test_inputs_of_different_sample_counts_are_refused(tmp_path: Path) -> None:
    net = Network({"a": ["n", 3], "b": ["n", 3]})
    graph = read(saved(net.model(net.node("Add", "a", "b")), tmp_path))
    with pytest.raises(DataInvalid, match="different numbers of samples"):
        run(graph, {"a": floats(2, 3), "b": floats(4, 3)})


def test_values_out_of_a_functions_domain_give_nan_without_a_warning(tmp_path: Path) -> None:
    net = Network({"x": ["n", 2]})
    y = net.node("Log", net.node("MatMul", "x", net.weight(np.asarray([[1, -1], [-1, 1]], np.float32))))
    (got,) = run(read(saved(net.model(y), tmp_path)), {"x": np.full((1, 2), np.inf, np.float32)}).values()
    assert np.isnan(got).all()


def test_terms_are_added_to_the_channels_of_whole_and_of_cropped_arrays() -> None:
    whole = np.zeros((2, 3, 4, 2), np.float32)
    add_by_channel(whole, np.array([1, 2], np.float32))
    assert (whole == [1, 2]).all()
    cropped = np.zeros((2, 5, 6, 2), np.float32)
    add_by_channel(cropped[:, 1:4, 1:5], np.array([1, 2], np.float32))
    assert (cropped[:, 1:4, 1:5] == [1, 2]).all() and cropped.sum() == whole.sum()
    add_by_channel(whole, np.ones(1, np.float32))
    assert (whole == [2, 3]).all()
