"""What recipes and targets share: the same answer as alone, and shared only where nothing differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_nets import Net, picture_net, pictures

from edge_contracts.profile import load_profile
from edge_convert import recipe
from edge_convert.graph import Op
from edge_convert.quantizing import bias_correction
from edge_convert.quantizing.quantization import Quantization, QuantParams, dequantize, equal
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer

ARM = rules_for(load_profile("arm-cpu"))
CORAL = rules_for(load_profile("coral-tpu"))
NPU = rules_for(load_profile("intel-npu"))


def test_each_recipe_gives_what_it_gives_alone_whatever_was_asked_before() -> None:
    graph, x = picture_net(), pictures(24)
    feeds = {graph.inputs[0].name: x}
    shared = Quantizer(graph, feeds)
    shared.quantize(recipe.load("wi8_ai8_minmax_bc"), NPU)
    for name in ("wi8_ai8_mse_bc", "wi8_ai8_minmax"):
        alone = Quantizer(graph, feeds).quantize(recipe.load(name), ARM)
        assert equal(shared.quantize(recipe.load(name), ARM), alone)


def test_demands_that_come_to_the_same_are_the_same() -> None:
    graph, x = picture_net(), pictures(8)
    shared = Quantizer(graph, {graph.inputs[0].name: x})
    assert shared.same_for(ARM, CORAL)
    assert not shared.same_for(ARM, NPU)


def test_demands_that_differ_for_this_model_are_not_the_same() -> None:
    """The Edge TPU's compiler cannot read the exponential in int8; the CPU runs it."""
    net = Net({"x": (1, 4, 4, 2)})
    graph = net.graph(net.node(Op.EXP, [net.conv("x", 3)]))
    x = np.random.default_rng(0).normal(0, 1, (8, 4, 4, 2)).astype(np.float32)
    assert not Quantizer(graph, {graph.inputs[0].name: x}).same_for(ARM, CORAL)


@pytest.mark.parametrize("together", [1, 1 << 30])
def test_correction_does_not_depend_on_how_many_samples_run_together(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, x = picture_net(), pictures(24)
    feeds = {graph.inputs[0].name: x}
    chosen = recipe.load("wi8_ai8_minmax_bc")
    expected = Quantizer(graph, feeds).quantize(chosen, ARM)
    monkeypatch.setattr(bias_correction, "_TOGETHER", together)
    found = Quantizer(graph, feeds).quantize(chosen, ARM)
    assert found.codes.keys() == expected.codes.keys()
    for name, codes in expected.codes.items():
        if name in expected.params:  # what had a bias: the last bits of a sum may move a code or two
            np.testing.assert_allclose(
                dequantize(found.codes[name], found.params[name]),
                dequantize(codes, expected.params[name]),
                atol=1e-3,
            )


def test_quantizations_are_equal_to_the_last_bit_or_not_at_all() -> None:
    params = QuantParams(np.asarray(0.5, np.float32), np.asarray(3, np.int32))
    one = Quantization({"x": params}, {"w": np.arange(3, dtype=np.int8)}, frozenset({"n"}))
    assert equal(one, replace(one, params={"x": replace(params, scale=np.asarray(0.5, np.float32))}))
    for other in (
        replace(one, params={"x": replace(params, scale=np.nextafter(np.float32(0.5), np.float32(1)))}),
        replace(one, params={"x": replace(params, zero_point=np.asarray(4, np.int32))}),
        replace(one, params={"y": params}),
        replace(one, codes={"w": np.array([0, 1, 3], np.int8)}),
        replace(one, codes={}),
        replace(one, float_nodes=frozenset()),
        replace(one, whole=frozenset({"n"})),
        replace(one, constants={"w": np.ones(3, np.float32)}),
    ):
        assert not equal(one, other)
