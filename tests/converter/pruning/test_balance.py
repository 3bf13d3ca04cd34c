"""Rare answers count: weights, splits and choices by class."""

from __future__ import annotations

import numpy as np

from edge_convert.pruning.balance import are_probabilities, kept_back, kinds, spread_out, weights

TEN_TO_TWO = np.array([0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0])


def test_kinds_are_the_classes_of_probabilities_and_nothing_else() -> None:
    rows = np.array([[0.2, 0.8], [0.9, 0.1]])
    assert kinds({"y": rows}).tolist() == [1, 0]
    assert kinds({"y": rows.reshape(2, 1, 1, 2)}).tolist() == [1, 0]
    assert kinds({"y": rows * 3}).tolist() == [0, 0]
    assert kinds({"y": np.full((2, 4, 4, 2), 0.5)}).tolist() == [0, 0]  # a map of them is not one answer
    assert not are_probabilities(np.array([[1.5, -0.5]])) and not are_probabilities(np.ones((3, 1)))


def test_classes_weigh_the_same_unless_they_are_very_rare() -> None:
    of = np.array([0] * 12 + [1] * 6 + [2])
    found = weights(of)
    assert found.sum() == 1.0
    zero, one, two = (found[of == kind].sum() for kind in range(3))
    assert np.isclose(zero, one) and np.isclose(two, one / 4)


def test_the_last_of_each_class_are_kept_back() -> None:
    assert np.flatnonzero(kept_back(TEN_TO_TWO, 0.5, 100)).tolist() == [6, 7, 8, 9, 10, 11]
    assert kept_back(TEN_TO_TWO, 0.5, 3).sum() == 2  # a quarter of each, rounded down
    assert not kept_back(TEN_TO_TWO, 0.0, 100).any()


def test_each_class_in_turn_until_there_are_enough() -> None:
    assert spread_out(TEN_TO_TWO, 5).tolist() == [0, 1, 2, 3, 8]
    assert spread_out(TEN_TO_TWO, 100).tolist() == list(range(12))
