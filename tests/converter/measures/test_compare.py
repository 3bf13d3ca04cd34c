"""An artifact's answers against the source's."""

from __future__ import annotations

import numpy as np
import pytest

from edge_convert.measures.compare import compare, error_histogram

SOURCE = {"y": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], np.float32)}
CLOSE = {"y": np.array([[0.9, 0.0], [0.0, 0.9], [0.9, 0.0], [0.0, 1.0]], np.float32)}


def test_a_classifier_is_scored_by_class_noise_and_labels() -> None:
    score = compare(SOURCE, CLOSE, "classification", np.array([0, 1, 1, 1]))
    assert (score.samples, score.agreement, score.metric) == (4, 0.75, "accuracy")
    assert (score.source, score.artifact) == (0.5, 0.75)
    # signal 4, noise 3 * 0.01 + 2: 10 log10(4 / 2.03)
    assert score.sqnr_db == pytest.approx(2.946, abs=1e-3)


def test_the_worst_output_counts() -> None:
    source = {"a": np.ones((2, 2), np.float32), "b": np.ones((2, 2), np.float32)}
    artifact = {"a": source["a"], "b": source["b"] * np.float32(0.9)}
    assert compare(source, artifact, "other").sqnr_db == pytest.approx(20.0, abs=1e-4)


def test_equal_answers_have_no_noise_and_nothing_left_is_a_number() -> None:
    assert compare(SOURCE, SOURCE, "other").sqnr_db is None
    lost = {"y": np.full((4, 2), np.nan, np.float32)}
    assert compare(SOURCE, lost, "other").sqnr_db == -300


def test_whole_numbers_are_equal_or_not() -> None:
    source = {"class": np.array([[3], [7], [1], [1]])}
    score = compare(source, {"class": np.array([[3], [8], [1], [1]])}, "other")
    assert (score.agreement, score.sqnr_db) == (0.75, None)


def test_errors_are_counted_around_zero() -> None:
    shape = error_histogram(SOURCE, CLOSE)
    assert shape is not None
    assert (shape.edges[0], shape.edges[-1]) == (-1.0, 1.0)
    assert sum(shape.counts) == 8
    assert shape.counts[20] == 3  # exactly right
    assert error_histogram(SOURCE, SOURCE) is None
    assert error_histogram(SOURCE, {"y": np.full((4, 2), np.nan, np.float32)}) is None
