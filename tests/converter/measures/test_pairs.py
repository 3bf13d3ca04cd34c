"""Metrics of source and artifact with their intervals, and the figures that gates judge."""

from __future__ import annotations

import numpy as np
import pytest

from edge_contracts.manifest import Score
from edge_convert import gates
from edge_convert.evidence import Answered
from edge_convert.gates import Limits
from edge_convert.measures import pairs
from edge_convert.measures.intervals import Paired, paired
from edge_convert.measures.metrics import softmax
from edge_convert.measures.truth import Truth

RANDOM = np.random.RandomState(0)
N = 200
RIGHT = RANDOM.randint(0, 4, N)
LOGITS = RANDOM.normal(0, 1, (N, 4)) + 2 * np.eye(4)[RIGHT]
SOURCE = {"y": softmax(LOGITS).astype(np.float32)}
ARTIFACT = {"y": softmax(LOGITS + RANDOM.normal(0, 0.7, LOGITS.shape)).astype(np.float32)}
HELD_OUT = Answered({"x": LOGITS}, SOURCE, Truth(classes=RIGHT))


def test_a_classifiers_rows_begin_with_accuracy_and_end_with_noise() -> None:
    rows = {row.name: row for row in pairs.rows(pairs.pair("classification", HELD_OUT, ARTIFACT))}
    assert list(rows) == ["accuracy", "macro_f1", "roc_auc", "log_loss", "agreement", "sqnr_db"]
    accuracy = rows["accuracy"].as_json()
    right = [answers["y"].argmax(axis=1) == RIGHT for answers in (SOURCE, ARTIFACT)]
    counts = paired(*right)
    assert accuracy["difference"] == pytest.approx(-counts.drop)
    assert (accuracy["lost"], accuracy["gained"]) == (counts.lost, counts.gained)
    assert accuracy["lost"] > accuracy["gained"] > 0
    assert 0 < accuracy["p_value"] < 1
    assert accuracy["primary"] and not rows["macro_f1"].primary
    for name in ("accuracy", "macro_f1", "roc_auc", "log_loss"):
        row = rows[name].as_json()
        for key in ("source", "artifact", "difference"):
            low, high = row["intervals"][key]
            assert low <= row[key] <= high, (name, key)
    assert rows["agreement"].source is None
    assert rows["sqnr_db"].unit == "dB"


def test_equal_answers_have_no_noise_row() -> None:
    rows = [row.name for row in pairs.rows(pairs.pair("classification", HELD_OUT, SOURCE))]
    assert "sqnr_db" not in rows


def test_the_worst_output_is_the_one_that_is_shown() -> None:
    exact = {"a": np.ones((9, 2), np.float32), "b": np.ones((9, 2), np.float32), "n": np.ones((9, 1), int)}
    noisy = exact | {"a": exact["a"] * np.float32(1.01), "b": exact["b"] * np.float32(0.9)}
    (row,) = pairs.rows(pairs.pair("other", Answered({"x": exact["a"]}, exact), noisy))
    assert "b" in row.title and row.artifact == pytest.approx(20, abs=1e-4)
    lost = exact | {"a": np.full((9, 2), np.nan, np.float32)}
    (row,) = pairs.rows(pairs.pair("other", Answered({"x": exact["a"]}, exact), lost))
    assert row.artifact == gates.NOTHING_LEFT_DB and not row.intervals


def test_the_score_of_a_regression_is_its_r2_with_an_interval() -> None:
    right = RANDOM.normal(0, 2, (N, 1))
    theirs = right + RANDOM.normal(0, 0.5, right.shape)
    ours = theirs + RANDOM.normal(0, 0.5, right.shape)
    held_out = Answered({"x": right}, {"y": theirs.astype(np.float32)}, Truth(values=right))
    score = pairs.scored(pairs.pair("regression", held_out, {"y": ours.astype(np.float32)}))
    assert score.metric == "r2" and score.source is not None and score.artifact is not None
    drop = score.source - score.artifact
    assert score.drop_interval is not None and score.drop_interval[0] < drop < score.drop_interval[1]
    assert drop == pytest.approx(0.0625, abs=0.03)  # 0.25 of noise in a variance of 4
    assert gates.accuracy_drop(score, 1.0).verdict is gates.Verdict.FAIL


def test_a_detector_without_boxes_to_find_is_judged_by_noise_whatever_its_outputs() -> None:
    raw = {"encodings": RANDOM.normal(0, 1, (5, 9, 7)).astype(np.float32)}
    score = pairs.scored(pairs.pair("detection", Answered({"x": raw["encodings"]}, raw), raw))
    assert score == Score(samples=5)


def test_too_few_samples_are_said_so_with_how_many_would_do() -> None:
    compared = pairs.pair("classification", HELD_OUT, SOURCE)
    score = pairs.scored(compared)
    (warning,) = gates.doubts(score, (), Limits(max_drop=1.0), Paired(N, 0, 0))
    assert "200 samples are too few to tell whether accuracy drops by more than 1 points" in warning
    assert "samples would show 1" in warning
    assert gates.doubts(score, (), Limits(max_drop=10.0), Paired(N, 0, 0)) == []
    few = Score(samples=20, agreement=0.95)
    (warning,) = gates.doubts(few, (), Limits(), None)
    assert "20 samples are too few to tell whether 90.0% keep their answer" in warning
    assert gates.doubts(Score(samples=20, agreement=0.5), (), Limits(), None) == []  # that one fails
