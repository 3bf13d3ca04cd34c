"""Classes and groups: what each loses, and that too few samples never pass."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edge_convert import gates
from edge_convert.evidence import Answered
from edge_convert.gates import Limits, SliceDrop, Verdict
from edge_convert.measures import slices
from edge_convert.measures.assessment import slices_json
from edge_convert.measures.pairs import Pair, pair
from edge_convert.measures.truth import Truth


def compared(
    right: np.ndarray, theirs: np.ndarray, ours: np.ndarray, groups: Mapping[str, list[str]] | None = None,
    labelled: bool = True,
) -> Pair:  # fmt: skip
    named = {name: np.array(column) for name, column in (groups or {}).items()}
    answers = {"y": np.eye(3, dtype=np.float32)[theirs]}
    held_out = Answered({"x": right}, answers, Truth(classes=right) if labelled else None, named)
    return pair("classification", held_out, {"y": np.eye(3, dtype=np.float32)[ours]})


def many(lost: int, samples: int = 600) -> Pair:
    """Class 1 loses so many of its samples, the other two nothing."""
    right = np.repeat(np.arange(3), samples // 3)
    ours = right.copy()
    ours[right == 1] = [2] * lost + [1] * (samples // 3 - lost)
    return compared(right, right, ours)


def test_each_class_and_each_group_is_counted_by_itself() -> None:
    right = np.array([0, 0, 1, 1, 2, 2])
    ours = np.array([0, 0, 1, 2, 2, 2])
    found = slices.of(compared(right, right, ours, {"light": ["day", "day", "day", "night", "night", "day"]}))
    assert [(s.group, s.name, s.samples, s.drop) for s in found] == [
        ("class", "0", 2, 0.0),
        ("class", "1", 2, 0.5),
        ("class", "2", 2, 0.0),
        ("light", "day", 4, 0.0),
        ("light", "night", 2, 0.5),
    ]
    assert found[1].metric == "accuracy" and (found[1].source, found[1].artifact) == (1.0, 0.5)


def test_without_labels_a_slice_is_judged_by_its_agreement() -> None:
    right = np.array([0, 0, 1, 1])
    found = slices.of(compared(right, right, np.array([0, 1, 1, 1]), labelled=False))
    assert [(s.name, s.metric, s.source, s.artifact, s.drop) for s in found] == [
        ("0", "agreement", None, 0.5, 0.5),
        ("1", "agreement", None, 1.0, 0.0),
    ]
    assert gates.slice_limit(Limits(max_slice_drop=5, min_agreement=0.9), "agreement") == pytest.approx(15)


def test_a_class_that_surely_loses_too_much_fails_though_the_mean_barely_moves() -> None:
    found = slices.of(many(lost=30))
    finding = gates.worst_slice(found, Limits(max_slice_drop=5))
    assert finding.verdict is Verdict.FAIL
    assert finding.found == pytest.approx(15.0)
    assert "class 1 loses 15.00 points of accuracy on 200 samples, 5 allowed; at least" in finding.reason


def test_slices_that_are_large_and_whole_pass() -> None:
    assert gates.worst_slice(slices.of(many(lost=2)), Limits(max_slice_drop=5)).verdict is Verdict.PASS


def test_a_slice_too_small_to_tell_is_not_judged_and_warned_of() -> None:
    # nothing is lost at all, but ten samples cannot show it
    right = np.repeat(np.arange(3), 10)
    pair_of = compared(right, right, right)
    found = slices.of(pair_of)
    finding = gates.worst_slice(found, Limits(max_slice_drop=5))
    assert finding.verdict is Verdict.NOT_JUDGED
    assert "3 of 3 slices are too small to tell" in finding.reason


def test_with_many_slices_chance_alone_fails_none() -> None:
    """1000 builds of 20 harmless slices: about 5 % may be called worse, not 1 - 0.95**20 = 64 %."""
    random = np.random.RandomState(0)
    failed = 0
    for _ in range(150):
        right = np.repeat(np.arange(3), 200)
        theirs, ours = right.copy(), right.copy()
        # 2 % change their answer, in either direction
        flips = random.rand(600) < 0.02
        theirs[flips & (random.rand(600) < 0.5)] += 1
        ours[flips & (theirs == right)] += 1
        theirs, ours = theirs % 3, ours % 3
        groups = {"g": [str(i % 20) for i in range(600)]}
        found = slices.of(compared(right, theirs, ours, groups))
        failed += gates.worst_slice(found, Limits(max_slice_drop=0)).verdict is Verdict.FAIL
    assert failed <= 150 * 0.1


def test_no_slices_are_nothing_to_judge() -> None:
    assert gates.worst_slice((), Limits()).verdict is Verdict.NOT_JUDGED
    nothing = SliceDrop("g", "a", 3, "roc_auc", None, None, None, None, None)
    assert gates.worst_slice((nothing,), Limits()).verdict is Verdict.NOT_JUDGED


def test_a_slice_of_another_task_has_its_first_metric_and_a_bootstrapped_interval() -> None:
    random = np.random.RandomState(0)
    x = random.normal(0, 1, (400, 4)).astype(np.float32)
    anomalous = random.randint(0, 2, 400).astype(bool)
    noise = np.where(anomalous, 0.5, 0.3)[:, None] * random.normal(0, 1, x.shape)
    column = np.array(["a", "b"])[random.randint(0, 2, 400)]
    column[0] = "c"  # a slice of one sample
    held_out = Answered(
        {"x": x}, {"y": (x + noise).astype(np.float32)}, Truth(anomalous=anomalous), {"machine": column}
    )
    worse = x + np.where(column == "b", 0.35, 0.0)[:, None] * random.normal(0, 1, x.shape) + noise
    found = slices.of(pair("reconstruction", held_out, {"y": worse.astype(np.float32)}))
    by_name = {s.name: s for s in found}
    assert by_name["a"].drop == pytest.approx(0, abs=1e-6)
    assert (by_name["b"].drop or 0) > 0.1
    assert by_name["b"].interval is not None and by_name["b"].interval[0] > 0
    assert by_name["b"].verdict(1.0) is Verdict.FAIL
    assert by_name["c"].drop is None and by_name["c"].verdict(99) is Verdict.NOT_JUDGED


def test_the_report_names_classes_by_their_labels_and_speaks_in_points() -> None:
    document = slices_json(slices.of(many(lost=30)), Limits(), ["cat", "dog", "owl"])
    assert document is not None
    assert (document["metric"], document["limit_points"]) == ("accuracy", 5.0)
    dog = document["rows"][1]
    assert (dog["group"], dog["name"], dog["drop_points"], dog["verdict"]) == ("class", "dog", 15.0, "fail")
    assert dog["interval_points"][0] < 15 < dog["interval_points"][1]
    assert slices_json((), Limits()) is None
