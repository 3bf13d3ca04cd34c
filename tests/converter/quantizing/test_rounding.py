"""Weight rounding: codes that cancel each other's errors, kept only where strangers' samples agree."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_nets import Net, picture_net, pictures

from edge_contracts.profile import load_profile
from edge_convert import recipe, reference
from edge_convert.graph import Graph, Node, Op
from edge_convert.measures import score
from edge_convert.quantizing import layer_rounding, rounding, simulate
from edge_convert.quantizing.layer_rounding import LayerRounding
from edge_convert.quantizing.quantization import equal
from edge_convert.quantizing.quantize import choose, rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.quantizing.rounding import Rows, can_round, rounded_weights, rows_of

ARM = rules_for(load_profile("arm-cpu"))
SCALE = np.asarray(0.1, np.float32)
DENSE = Node(Op.DENSE, "dense", ("x", "w"), ("y",), {"activation": "none"})
DEPTHWISE = Node(Op.DEPTHWISE_CONV2D, "depthwise", ("x", "w"), ("y",), {"activation": "none"})


def alike(rows: int, inputs: int, seed: int = 0) -> np.ndarray:
    """Inputs that mostly move together: rounding errors of their weights can cancel."""
    rng = np.random.default_rng(seed)
    together = rng.normal(0, 1, (rows, 1))
    return np.asarray(together + 0.1 * rng.normal(0, 1, (rows, inputs)), np.float32)


def judged(rows: int) -> np.ndarray:
    return np.asarray(np.arange(rows) % 4 == 3, bool)


def error(x: np.ndarray, codes: np.ndarray, scale: float, y: np.ndarray) -> float:
    off = x @ (codes * scale).T - y
    return float(((off - off.mean(axis=0)) ** 2).sum())


def test_codes_come_within_a_tenth_of_the_best_of_all_roundings() -> None:
    x, scale = alike(400, 6), SCALE
    weights = np.random.default_rng(1).normal(0, 0.5, (3, 6)).astype(np.float32)
    y = x @ weights.T
    nearest = np.rint(weights / scale).astype(np.int8)
    found = rounded_weights(DENSE, weights, nearest, scale, Rows(x, y, judged(400)))
    for row in range(3):
        floor = np.floor(weights[row] / scale)
        every = [floor + np.array(up) for up in itertools.product((-1, 0, 1, 2), repeat=6)]
        best = min(error(x, codes[None], 0.1, y[:, row : row + 1]) for codes in every)
        assert error(x, found[row : row + 1], 0.1, y[:, row : row + 1]) <= 1.1 * best + 1e-6


def test_errors_of_inputs_that_are_alike_cancel() -> None:
    x, scale = alike(400, 40), SCALE
    weights = np.random.default_rng(1).normal(0, 0.5, (16, 40)).astype(np.float32)
    y = x @ weights.T
    nearest = np.rint(weights / scale).astype(np.int8)
    found = rounded_weights(DENSE, weights, nearest, scale, Rows(x, y, judged(400)))
    assert error(x, found, 0.1, y) < 0.2 * error(x, nearest, 0.1, y)


def test_a_depthwise_layer_is_rounded_channel_by_channel() -> None:
    taps = np.stack([alike(400, 9, seed) for seed in range(8)], axis=2)
    weights = np.random.default_rng(3).normal(0, 0.5, (1, 3, 3, 8)).astype(np.float32)
    y = np.einsum("nkc,ck->nc", taps, weights.reshape(9, 8).T)
    scale = np.linspace(0.1, 0.2, 8).astype(np.float32)
    nearest = np.rint(weights / scale).astype(np.int8)
    found = rounded_weights(DEPTHWISE, weights, nearest, scale, Rows(taps, y, judged(400)))
    ours, plain = (
        sum(error(taps[..., c], codes.reshape(9, 8).T[c][None], float(scale[c]), y[:, [c]]) for c in range(8))
        for codes in (found, nearest)
    )
    assert ours < 0.5 * plain


def test_weights_make_up_for_inputs_that_are_off() -> None:
    """What arrives is 10 % too large: no code nearest to the float weights sees it."""
    x = alike(400, 6)
    weights = np.random.default_rng(1).normal(0, 0.5, (3, 6)).astype(np.float32)
    y, scale = x @ weights.T, np.asarray(0.01, np.float32)
    nearest = np.rint(weights / scale).astype(np.int8)
    found = rounded_weights(DENSE, weights, nearest, scale, Rows(x * np.float32(1.1), y, judged(400)))
    assert error(x * 1.1, found, 0.01, y) < 0.05 * error(x * 1.1, nearest, 0.01, y)


def test_what_does_not_help_samples_that_judge_is_not_kept() -> None:
    x, scale = alike(400, 6), SCALE
    weights = np.random.default_rng(1).normal(0, 0.5, (3, 6)).astype(np.float32)
    y, judges = x @ weights.T, judged(400)
    nearest = np.rint(weights / scale).astype(np.int8)
    misled = np.where(judges[:, None], y, -3 * y).astype(np.float32)
    assert np.array_equal(rounded_weights(DENSE, weights, nearest, scale, Rows(x, misled, judges)), nearest)


@pytest.mark.parametrize("judges", [np.zeros(400, bool), np.ones(400, bool)])
def test_without_samples_on_both_sides_the_nearest_codes_stay(judges: np.ndarray) -> None:
    x = alike(400, 6)
    weights = np.random.default_rng(1).normal(0, 0.5, (3, 6)).astype(np.float32)
    nearest = np.rint(weights / 0.1).astype(np.int8)
    found = rounded_weights(DENSE, weights, nearest, SCALE, Rows(x, x @ weights.T, judges))
    assert np.array_equal(found, nearest)


def test_codes_stay_within_the_symmetric_range() -> None:
    x = alike(400, 6)
    weights = np.full((1, 6), 0.127, np.float32)
    nearest = np.full((1, 6), 127, np.int8)
    rows = Rows(x * np.float32(0.5), x @ weights.T, judged(400))  # they would have to be twice as large
    assert rounded_weights(DENSE, weights, nearest, np.asarray(0.001, np.float32), rows).max() == 127


def test_an_input_that_is_always_zero_does_no_harm() -> None:
    x = alike(400, 6)
    x[:, 2] = 0
    weights = np.random.default_rng(1).normal(0, 0.5, (3, 6)).astype(np.float32)
    nearest = np.rint(weights / 0.1).astype(np.int8)
    y = x @ weights.T
    found = rounded_weights(DENSE, weights, nearest, SCALE, Rows(x, y, judged(400)))
    assert error(x, found, 0.1, y) < error(x, nearest, 0.1, y)


def test_rows_belong_to_the_sample_they_come_from() -> None:
    """Eight samples of 5 x 5 pixels; the value of a pixel is the number of its sample."""
    node = Node(
        Op.CONV2D,
        "conv",
        ("x", "w"),
        ("y",),
        {"activation": "none", "strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1},
    )
    numbers = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None, None], (8, 5, 5, 1))
    halves = [numbers[:3], numbers[3:]]
    rows = rows_of(node, np.ones((1, 1, 1, 1), np.float32), halves, halves)
    assert np.array_equal(rows.judges, rows.x[:, 0] % 4 == 3)
    assert np.array_equal(rows.x, rows.y)


def _wide(inputs: int, shared: bool = False) -> tuple[Graph, Node]:
    net = Net({"x": (1, inputs)})
    weights = net.constant(np.full((inputs, inputs), 0.1, np.float32))
    first = net.node(Op.DENSE, ["x", weights], activation="none")
    graph = net.graph(net.node(Op.DENSE, [first, weights], activation="none") if shared else first)
    return graph, graph.nodes[0]


def test_layers_of_too_many_inputs_and_weights_of_two_layers_keep_the_nearest_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounding, "MOST_INPUTS", 8)
    for inputs, shared, expected in ((8, False, True), (9, False, False), (8, True, False)):
        graph, node = _wide(inputs, shared)
        feeds = {"x": np.random.default_rng(0).normal(0, 1, (16, inputs)).astype(np.float32)}
        chosen = Quantizer(graph, feeds).quantize(recipe.load("wi8_ai8_minmax"), ARM)
        assert can_round(graph, chosen, node) is expected


def _noise_db(name: str) -> float:
    net = Net({"x": (1, 32)})
    y = "x"
    for _ in range(3):
        y = net.node(Op.DENSE, [y, net.weight(32, 32, gain=1.4)], activation="relu")
    graph = net.graph(y)
    feeds, unseen = {"x": alike(200, 32, seed=1)}, {"x": alike(200, 32, seed=2)}
    quantization = Quantizer(graph, feeds).quantize(recipe.load(name), ARM)
    out = graph.outputs[0]
    ratio = score.sqnr_db(
        reference.run(graph, unseen)[out.name],
        simulate.evaluate(graph, quantization, unseen, {out.tensor})[out.tensor],
    )
    assert ratio is not None
    return ratio


def test_rounding_by_least_squares_beats_bias_correction_on_unseen_samples() -> None:
    assert _noise_db("wi8m_ai8_mse_lsr") > _noise_db("wi8m_ai8_mse_bc") + 1.0


def test_the_same_samples_give_the_same_codes() -> None:
    graph, feeds = picture_net(), {"x": pictures(40)}
    one, other = (Quantizer(graph, feeds).quantize(recipe.load("wi8m_ai8_mse_lsr"), ARM) for _ in range(2))
    assert equal(one, other)


def test_a_large_network_is_rounded_on_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen samples, evenly picked, are left: to spoil the others changes nothing any more."""
    graph, x, chosen = picture_net(), pictures(40), recipe.load("wi8m_ai8_mse_lsr")
    seen = Quantizer(graph, {"x": x}).statistics
    picked = np.linspace(0, 39, 16).round().astype(int)
    spoilt = np.where(np.isin(np.arange(40), picked)[:, None, None, None], x, 0)
    plain = choose(graph, seen, chosen, ARM)

    def same() -> bool:
        return equal(
            LayerRounding(graph, {"x": x}).rounded(plain), LayerRounding(graph, {"x": spoilt}).rounded(plain)
        )

    assert not same()
    monkeypatch.setattr(layer_rounding, "_MOST_MACS", 1)
    assert same()


def test_a_recipe_that_rounds_must_correct_biases() -> None:
    raw = recipe.load("wi8m_ai8_mse_lsr")
    with pytest.raises(ValueError, match="bias_correction"):
        recipe.Recipe.model_validate(replace_field(raw, "bias_correction", False))


def replace_field(chosen: recipe.Recipe, name: str, value: object) -> dict[str, object]:
    return chosen.model_dump() | {name: value}
