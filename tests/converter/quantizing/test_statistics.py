"""Statistics: true extremes and counts, whatever the order and the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import Net, picture_net, pictures

from edge_convert import reference
from edge_convert.errors import DataInvalid
from edge_convert.graph import Op
from edge_convert.quantizing import statistics
from edge_convert.quantizing.statistics import TensorStatistics, collect, extremes


def same(left: TensorStatistics, right: TensorStatistics) -> bool:
    return (left.minimum, left.maximum, left.reach, left.zeros) == (
        right.minimum,
        right.maximum,
        right.reach,
        right.zeros,
    ) and bool((left.counts == right.counts).all())


def test_extremes_and_zeros_are_those_of_all_samples() -> None:
    graph, x = picture_net(), pictures(20)
    seen = collect(graph, {"x": x})
    values = reference.evaluate(graph, {"x": x})
    assert seen.samples == 20 and set(seen.tensors) == set(values)
    for name, array in values.items():
        found = seen.tensors[name]
        assert (found.minimum, found.maximum) == (array.min(), array.max())
        assert found.total == array.size
        assert found.zeros == (array == 0).sum()


def test_extremes_are_kept_by_channel_and_are_those_that_counting_finds() -> None:
    graph, x = picture_net(), pictures(20)
    found, counted = extremes(graph, {"x": x}), collect(graph, {"x": x})
    for name, array in reference.evaluate(graph, {"x": x}).items():
        rows = array.reshape(-1, array.shape[-1])
        np.testing.assert_allclose(found.lows[name], rows.min(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.highs[name], rows.max(axis=0), rtol=1e-5, atol=1e-6)
        whole, tensor = found.tensors[name], counted.tensors[name]
        assert (whole.minimum, whole.maximum) == (tensor.minimum, tensor.maximum)


def test_pieces_change_no_extreme(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net({"x": (1, 6, 6, 3)})
    graph = net.graph(net.node(Op.ABS, ["x"]))
    x = np.random.default_rng(0).normal(0, 1, (17, 6, 6, 3)).astype(np.float32)
    whole = extremes(graph, {"x": x})
    monkeypatch.setattr(statistics, "_CACHED_ELEMENTS", 1)
    pieces = extremes(graph, {"x": x})
    for name, low in whole.lows.items():
        assert (low == pieces.lows[name]).all() and (whole.highs[name] == pieces.highs[name]).all()


def test_chunks_and_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net({"x": (1, 6, 6, 3)})
    graph = net.graph(net.node(Op.RELU, [net.node(Op.ABS, ["x"])]))
    x = np.random.default_rng(0).normal(0, 1, (17, 6, 6, 3)).astype(np.float32)
    x[3] *= 1000  # one sample reaches far beyond the others: bins are merged
    whole = collect(graph, {"x": x})
    monkeypatch.setattr(statistics, "_CACHED_ELEMENTS", 1)
    for other in (x, x[::-1]):
        pieces = collect(graph, {"x": other})
        assert all(same(whole.tensors[n], pieces.tensors[n]) for n in whole.tensors)


def test_quantiles_agree_with_numpy_to_within_a_bin() -> None:
    net = Net({"x": (1, 1000)})
    graph = net.graph(net.node(Op.NEG, ["x"]))
    x = np.random.default_rng(1).gamma(2.0, 1.0, (50, 1000)).astype(np.float32)
    seen = collect(graph, {"x": x}).tensors["x"]
    for share in (0.0001, 0.5, 0.99, 0.9999):
        assert abs(seen.quantile(share) - np.quantile(x, share)) <= 2 * seen.bin_width
    assert seen.quantile(0.0) >= x.min() and seen.quantile(1.0) <= x.max()


@pytest.mark.parametrize(("bad", "count"), [(np.nan, 1), (np.inf, 1), (-np.inf, 1)])
def test_a_value_that_is_not_a_number_is_refused_with_its_tensor(bad: float, count: int) -> None:
    x = pictures(4)
    x[2, 5, 5, 1] = bad
    with pytest.raises(DataInvalid, match=f"tensor 'x' .the data fed to it. has {count} of"):
        collect(picture_net(), {"x": x})
    with pytest.raises(DataInvalid, match=f"tensor 'x' .the data fed to it. has {count} of"):
        extremes(picture_net(), {"x": x})


def test_a_layer_that_overflows_is_named() -> None:
    net = Net({"x": (1, 4)})
    graph = net.graph(net.node(Op.EXP, ["x"], "power"))
    with pytest.raises(DataInvalid, match="the result of 'power'"):
        collect(graph, {"x": np.full((2, 4), 100, np.float32)})


def test_no_sample_is_refused() -> None:
    with pytest.raises(DataInvalid, match="no sample"):
        extremes(picture_net(), {"x": np.zeros((0, 12, 12, 3), np.float32)})
    with pytest.raises(DataInvalid, match="no sample"):
        collect(picture_net(), {"x": np.zeros((0, 12, 12, 3), np.float32)})


def test_all_zeros_are_counted() -> None:
    net = Net({"x": (1, 4)})
    graph = net.graph(net.node(Op.NEG, ["x"]))
    seen = collect(graph, {"x": np.zeros((3, 4), np.float32)}).tensors["x"]
    assert (seen.minimum, seen.maximum, seen.zeros, seen.total) == (0.0, 0.0, 12, 12)
