"""Maps and importances of functions whose parts are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.explain.variants import (
    Axes,
    features_of,
    grid_of,
    importance,
    occlusion,
    picture_axes,
    window,
)
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Table


@pytest.mark.parametrize("axes", [Axes(0, 1), Axes(1, 2)])
def test_only_the_part_that_the_answer_looks_at_is_hot(axes: Axes) -> None:
    sample = np.ones((32, 32, 3) if axes.rows == 0 else (3, 32, 32), np.float32)

    def ask(batch: NDArray[Any]) -> NDArray[np.float64]:
        seen = batch if axes.rows == 0 else batch.transpose(0, 2, 3, 1)
        return np.asarray(seen[:, 8:12, 20:24].sum(axis=(1, 2, 3)), np.float64)

    heat = occlusion(ask, sample, axes, np.zeros_like(sample))
    assert heat.shape == (8, 8)
    # the patch is cell (2, 5): all of it goes with that cell, half of it with each neighbour's window
    assert heat[2, 5] == heat.max() == 4 * 4 * 3
    assert heat[1, 5] == heat[2, 4] == 2 * 4 * 3
    far = [heat[r, c] for r in range(8) for c in range(8) if abs(r - 2) > 1 or abs(c - 5) > 1]
    assert not any(far)


def test_what_speaks_against_the_answer_is_below_zero() -> None:
    sample = np.ones((16, 16, 1), np.float32)
    heat = occlusion(lambda b: -b[:, 0, 0, 0].astype(np.float64), sample, Axes(0, 1), np.zeros_like(sample))
    assert heat[0, 0] == -1


def test_windows_cover_the_whole_side_and_cells_are_square() -> None:
    for side, cells in ((96, 8), (49, 8), (10, 2), (7, 7)):
        covered = set()
        for cell in range(cells):
            covered |= set(range(*window(cell, cells, side).indices(side)))
        assert covered == set(range(side))
    assert grid_of(96, 96) == (8, 8)
    assert grid_of(49, 10) == (8, 2)


def test_a_feature_weighs_what_its_coefficient_says() -> None:
    others = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    sample = np.array([1, 2, 3, 4], np.float32)
    weights = np.array([2.0, 0.0, -1.0, 0.5])
    spec = TensorSpec(name="x", shape=(1, 4))
    falls = importance(lambda b: b @ weights, sample, features_of(spec), others)
    assert falls == pytest.approx(weights * (sample - others.mean(axis=0)), abs=1e-5)
    assert [f.name for f in features_of(spec)] == ["x[0]", "x[1]", "x[2]", "x[3]"]


def test_many_numbers_are_taken_together_and_a_tables_columns_have_names() -> None:
    wide = features_of(TensorSpec(name="x", shape=(1, 640)))
    assert len(wide) == 32
    assert (wide[0].name, wide[-1].stop) == ("x[0..19]", 640)
    columns = [{"name": "age"}, {"name": "sex", "kind": "category", "values": ["f", "m"]}]
    rule = Table.model_validate({"kind": "table", "columns": columns})
    found = features_of(TensorSpec(name="x", shape=(1, 3), prepare=rule))
    assert [(f.name, f.start, f.stop) for f in found] == [("age", 0, 1), ("sex", 1, 3)]


def test_a_signal_is_no_picture() -> None:
    assert picture_axes(TensorSpec(name="x", shape=(1, 3, 96, 96), layout="NCHW")) == Axes(1, 2)
    assert picture_axes(TensorSpec(name="x", shape=(1, 4, 96, 1), layout="NHWC")) is None
    assert picture_axes(TensorSpec(name="x", shape=(1, 96))) is None
