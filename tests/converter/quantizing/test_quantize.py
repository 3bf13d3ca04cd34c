"""Parameters: worked by hand, within the kernels' rules, and good enough on real models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_nets import Net, litert_run, picture_net, pictures, real_model, real_samples

from edge_contracts.profile import load_profile
from edge_convert import recipe, reference
from edge_convert.emitters import tflite
from edge_convert.emitters.tflite_rules import broken_rules
from edge_convert.graph import Array, Graph, Op
from edge_convert.measures import score
from edge_convert.passes import simplify
from edge_convert.quantizing import simulate
from edge_convert.quantizing.quantization import Quantization, dequantize
from edge_convert.quantizing.quantization import quantize as to_codes
from edge_convert.quantizing.quantize import Rules, rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.quantizing.ranges import activation_params, least_squares, weight_codes, weight_params
from edge_convert.quantizing.statistics import TensorStatistics, collect
from edge_convert.recipe import ActivationRule, WeightRule

ARM = rules_for(load_profile("arm-cpu"))
CORAL = rules_for(load_profile("coral-tpu"))
NPU = rules_for(load_profile("intel-npu"))
MINMAX = recipe.load("wi8_ai8_minmax")


def quantized(graph: Graph, x: Array, rules: Rules = ARM, name: str = "wi8_ai8_minmax") -> Quantization:
    feeds = {graph.inputs[0].name: x}
    return Quantizer(graph, feeds).quantize(recipe.load(name), rules)


# --- scales and codes ----------------------------------------------------------------------------


def test_a_positive_range_starts_at_the_lowest_code() -> None:
    params = activation_params(0.0, 25.5)
    assert params.zero_point == -128
    assert 0.1 <= float(params.scale) < 0.1 * 1.001  # rounded up to 12 bits, never down


def test_zero_is_in_every_range_and_has_an_exact_code() -> None:
    for low, high in ((3.0, 7.0), (-7.0, -3.0), (-0.3, 11.0), (0.0, 0.0)):
        params = activation_params(low, high)
        zero = to_codes(np.zeros(1, np.float32), params)
        assert dequantize(zero, params)[0] == 0.0
        ends = dequantize(to_codes(np.array([low, high], np.float32), params), params)
        assert np.abs(ends - [low, high]).max() <= float(params.scale)


def test_the_largest_weight_of_each_channel_lands_on_the_last_code() -> None:
    weights = np.array([[0.5, -1.27], [0.0254, 0.01]], np.float32)
    params = weight_params(weights, 0, WeightRule(), None, 1.0)
    np.testing.assert_allclose(params.scale, [0.01, 0.0002], rtol=1e-6)
    assert weight_codes(weights, params).tolist() == [[50, -127], [127, 50]]


def test_one_scale_for_all_channels_where_the_kernel_wants_it() -> None:
    params = weight_params(np.array([[1.27], [0.01]], np.float32), None, WeightRule(), None, 1.0)
    assert params.axis is None and params.scale.shape == () and float(params.scale) == pytest.approx(0.01)


def test_a_bias_that_would_not_fit_widens_its_channel() -> None:
    weights = np.full((2, 1), 1e-3, np.float32)
    bias = np.array([1e6, 0.0], np.float32)
    params = weight_params(weights, 0, WeightRule(), bias, input_scale=1e-4)
    assert abs(bias[0] / (params.scale[0] * 1e-4)) <= 2**30 * 1.001
    assert params.scale[1] == pytest.approx(1e-3 / 127)


def test_a_channel_of_zeros_gets_a_scale_near_the_others() -> None:
    params = weight_params(np.array([[1.27], [0.0]], np.float32), 0, WeightRule(), None, 1.0)
    assert params.scale[1] == pytest.approx(0.01 / 65536)
    nothing = weight_params(np.zeros((2, 1), np.float32), 0, WeightRule(), None, 1.0)
    assert nothing.scale.tolist() == [1.0, 1.0]


def test_least_squares_weights_lose_no_more_than_the_largest_weights_scale() -> None:
    weights = np.random.default_rng(0).normal(0, 1, (4, 40_000)).astype(np.float32)
    weights[:, 0] = 6  # one weight far out in each channel
    errors = {}
    for rule in (WeightRule(range="absmax"), WeightRule(range="mse")):
        params = weight_params(weights, 0, rule, None, 1.0)
        codes = weight_codes(weights, params)
        assert codes.min() >= -127
        errors[rule.range] = ((dequantize(codes, params) - weights) ** 2).sum(axis=1)
    assert (errors["mse"] < 0.9 * errors["absmax"]).all()


def of_values(values: Array) -> TensorStatistics:
    net = Net({"x": (1, len(values))})
    graph = net.graph(net.node(Op.NEG, ["x"]))
    return collect(graph, {"x": values[None].astype(np.float32)}).tensors["x"]


def test_the_least_squares_range_is_near_the_best_of_all_ranges_tried_one_by_one() -> None:
    values = np.random.default_rng(3).normal(0, 1, 200_000).astype(np.float32)
    values[:2] = 9, -9

    def loss(low: float, high: float) -> float:
        return float(((simulate.rounded(values, activation_params(low, high)) - values) ** 2).sum())

    low, high = least_squares(of_values(values), ActivationRule(range="mse"))
    ends = np.linspace(3, 9, 10)
    tried = min(loss(-a, b) for a in ends for b in ends)
    assert loss(low, high) <= 1.03 * tried < 0.9 * loss(-9, 9)


def test_without_outliers_least_squares_keeps_the_whole_range() -> None:
    low, high = least_squares(of_values(np.linspace(-1, 1, 5001)), ActivationRule(range="mse"))
    assert low == pytest.approx(-1) and high == pytest.approx(1)


# --- which tensors, and what must be equal -------------------------------------------------------


def test_a_simulated_grid_is_the_codes_grid() -> None:
    values = np.random.default_rng(0).normal(0, 3, 4000).astype(np.float32)
    params = activation_params(-4.0, 5.5)
    np.testing.assert_allclose(
        simulate.rounded(values, params), dequantize(to_codes(values, params), params), atol=1e-6
    )


@pytest.mark.parametrize("rules", [ARM, CORAL], ids=["arm", "coral"])
def test_the_rules_of_the_kernels_are_kept(rules: Rules) -> None:
    graph = picture_net()
    assert broken_rules(graph, quantized(graph, pictures(16), rules)) == ()


def test_dense_weights_have_one_scale_unless_the_profile_says_otherwise() -> None:
    graph = picture_net()
    dense = next(n for n in graph.nodes if n.op is Op.DENSE).inputs[1]
    assert quantized(graph, pictures(8)).params[dense].axis is None
    assert quantized(graph, pictures(8), replace(ARM, per_channel_dense=True)).params[dense].axis == 0


def joined_net() -> Graph:
    """A sigmoid, whose scale is fixed, joined with a tensor of a far larger range."""
    net = Net({"x": (1, 6, 6, 3)})
    wide = net.conv("x", 4, name="wide")
    narrow = net.node(Op.SIGMOID, [net.conv("x", 4, activation="none")], "gate")
    big = net.node(Op.MUL, [wide, net.constant(np.float32(50))], "big", activation="none")
    return net.graph(net.node(Op.CONCAT, [big, narrow], "joined", axis=3))


def test_a_fixed_scale_that_the_group_outgrows_sends_its_node_to_float() -> None:
    graph = joined_net()
    x = np.random.default_rng(0).uniform(0, 1, (8, 6, 6, 3)).astype(np.float32)
    result = quantized(graph, x)
    assert result.float_nodes == {"gate"} and broken_rules(graph, result) == ()
    exact = reference.run(graph, {"x": x})["joined:0"]
    found = litert_run(tflite.emit(graph, result), x)
    assert (score.sqnr_db(exact, found) or 99.0) > 30.0


def test_a_fixed_scale_that_the_group_fits_is_taken() -> None:
    net = Net({"x": (1, 4)})
    graph = net.graph(net.node(Op.RESHAPE, [net.node(Op.SOFTMAX, ["x"], beta=1.0)], shape=(4,)))
    params = quantized(graph, np.random.default_rng(0).normal(0, 1, (9, 4)).astype(np.float32)).params
    assert all(
        (float(params[n].scale), int(params[n].zero_point)) == (1 / 256, -128) for n in params if n != "x"
    )


def test_the_constant_of_a_minimum_does_not_widen_the_range() -> None:
    net = Net({"x": (1, 4, 4, 2)})
    graph = net.graph(net.node(Op.MINIMUM, ["x", net.constant(np.float32(1e6))]))
    x = np.random.default_rng(0).uniform(-1, 1, (8, 4, 4, 2)).astype(np.float32)
    assert float(quantized(graph, x).params["x"].scale) < 0.01


def test_a_pads_value_is_in_the_range() -> None:
    net = Net({"x": (1, 4, 4, 2)})
    graph = net.graph(net.node(Op.PAD, ["x"], paddings=((0, 0), (1, 1), (1, 1), (0, 0)), value=-5.0))
    x = np.random.default_rng(0).uniform(0, 1, (4, 4, 4, 2)).astype(np.float32)
    exact = reference.run(graph, {"x": x})[graph.outputs[0].name]
    assert np.abs(litert_run(tflite.emit(graph, quantized(graph, x)), x) - exact).max() < 0.05


def test_an_operator_without_an_int8_kernel_stays_in_float() -> None:
    net = Net({"x": (1, 6, 6, 3)})
    graph = net.graph(net.conv(net.node(Op.COS, [net.conv("x", 4)], "wave"), 4, name="last"))
    assert quantized(graph, pictures(6, size=12)[:, ::2, ::2]).float_nodes == {"wave"}


def test_an_operator_that_the_edge_tpu_compiler_cannot_read_in_int8_stays_in_float_there() -> None:
    net = Net({"x": (1, 6, 6, 3)})
    graph = net.graph(net.conv(net.node(Op.EXP, [net.conv("x", 4)], "growth"), 4, name="last"))
    x = pictures(6, size=12)[:, ::2, ::2]
    assert quantized(graph, x, ARM).float_nodes == frozenset()
    assert quantized(graph, x, CORAL).float_nodes == {"growth"}


def test_weights_that_are_also_an_operand_keep_one_role() -> None:
    net = Net({"x": (1, 8)})
    shared = net.weight(8, 8)
    y = net.node(Op.DENSE, ["x", shared], "dense", activation="none")
    y = net.node(Op.MATMUL, [y, shared], "product", transpose_a=False, transpose_b=False)
    result = quantized(net.graph(y), np.random.default_rng(0).normal(0, 1, (20, 8)).astype(np.float32))
    assert result.float_nodes == {"product"} and result.params[shared].dtype == "int8"


def test_the_intel_rules_quantize_what_is_multiplied_and_not_the_answer() -> None:
    graph = picture_net()
    result = quantized(graph, pictures(8), NPU)
    assert "x" in result.params and graph.outputs[0].tensor not in result.params
    assert "sum:0" not in result.params  # a mean reads it, in float


def test_a_whole_image_average_gets_a_scale_of_its_own() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    pool: dict[str, Any] = {
        "kernel": (12, 12),
        "strides": (12, 12),
        "pads": (0, 0, 0, 0),
        "count_include_pad": False,
    }
    y = net.node(Op.AVERAGE_POOL2D, [net.conv("x", 8)], "average", **pool)
    graph = simplify(net.graph(y))
    assert [node.op for node in graph.nodes] == [Op.CONV2D, Op.MEAN]
    params = quantized(graph, pictures(16)).params
    assert float(params["average:0"].scale) < 0.9 * float(params["conv2d0:0"].scale)


def test_a_float_recipe_is_a_mistake_of_the_caller() -> None:
    graph, feeds = picture_net(), {"x": pictures(4)}
    with pytest.raises(AssertionError, match="wf16"):
        Quantizer(graph, feeds).quantize(recipe.load("wf16"), ARM)


# --- bias correction -----------------------------------------------------------------------------


def means(graph: Graph, result: Quantization, x: Array, name: str) -> Array:
    values = simulate.evaluate(graph, result, {"x": x}, {name})[name]
    return np.asarray(values.reshape(-1, 16).mean(axis=0))


def test_corrected_biases_bring_the_means_of_the_layers_back() -> None:
    graph, x = picture_net(seed=4), pictures(64)
    exact = reference.evaluate(graph, {"x": x}, keep={"branch:0"})["branch:0"].reshape(-1, 16).mean(axis=0)
    plain, corrected = (quantized(graph, x, name=f"wi8_ai8_minmax{end}") for end in ("", "_bc"))
    before = np.abs(means(graph, plain, x, "branch:0") - exact).max()
    after = np.abs(means(graph, corrected, x, "branch:0") - exact).max()
    assert after < 0.25 * before


def test_a_layer_without_a_bias_gets_one_in_the_file() -> None:
    graph, x = picture_net(), pictures(64)
    result = quantized(graph, x, name="wi8_ai8_minmax_bc")
    assert result.codes["logits/bias"].shape == (10,)
    simulated = simulate.evaluate(graph, result, {"x": x[:16]}, {"logits:0"})["logits:0"]
    ratio = score.sqnr_db(simulated, litert_run(tflite.emit(graph, result), x[:16]))
    assert ratio is None or ratio > 38.0


def test_a_shared_bias_is_left_alone() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    shared = net.constant(np.zeros(4, np.float32))
    attrs: dict[str, Any] = {
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (0, 0, 0, 0),
        "groups": 1,
        "activation": "none",
    }
    a, b = (net.node(Op.CONV2D, ["x", net.weight(4, 1, 1, 3), shared], **attrs) for _ in range(2))
    graph = net.graph(net.node(Op.ADD, [a, b], activation="none"))
    assert shared not in quantized(graph, pictures(8), name="wi8_ai8_minmax_bc").codes


def test_samples_that_cannot_run_together_are_corrected_all_the_same() -> None:
    """A transpose of the batch axis forces the samples through one by one."""
    net = Net({"x": (1, 4, 4, 3)})
    y = net.conv("x", 5, 3, "conv")
    y = net.node(Op.TRANSPOSE, [y], perm=(1, 0, 2, 3))
    graph = net.graph(y)
    x = np.random.default_rng(0).uniform(0, 1, (6, 4, 4, 3)).astype(np.float32)
    assert not reference.batches(graph)
    assert quantized(graph, x, name="wi8_ai8_minmax_bc").codes["c2"].dtype == np.int32


# --- real models ---------------------------------------------------------------------------------


# SQNR in decibels that the best recipe must reach on samples it has not seen; in brackets MLPerf's int8
# file on the same samples where its float twin is ours. Measured: kws 33, vww 32 (27.6), ic 20.5 (16.4).
@pytest.mark.parametrize(
    ("key", "name", "least_db"),
    [
        ("kws", "wi8_ai8_p9999_bc", 31.0),
        ("vww", "wi8m_ai8_minmax_eq_lsr", 31.0),
        ("ic", "wi8m_ai8_mse_lsr", 20.0),
    ],
)
def test_real_models_beat_the_stock_quantizers(
    shared_data: Path, key: str, name: str, least_db: float
) -> None:
    graph = real_model(shared_data, key)
    x = real_samples(shared_data, key, "calibration", 120)
    unseen = real_samples(shared_data, key, "evaluation", 100)
    port = graph.inputs[0].name
    exact = reference.run(graph, {port: unseen})[graph.outputs[0].name]
    found = litert_run(tflite.emit(graph, quantized(graph, x, name=name)), unseen)
    assert (score.sqnr_db(exact, found) or 99.0) >= least_db
