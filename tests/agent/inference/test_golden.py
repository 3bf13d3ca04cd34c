"""Golden answers: what counts as agreement, and that a device that differs is seen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest

from edge_agent.inference.golden import compare, read_golden, run_golden, sqnr_db
from edge_agent.inference.session import Session
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.errors import FormatInvalid
from edge_contracts.manifest import FileRef, Golden

LIMITS = Golden(
    file=FileRef(path="golden.npz", digest="sha256:" + "0" * 64, bytes=0),
    count=4,
    min_agreement=0.75,
    min_sqnr_db=10.0,
)


def opened(tmp_path: Path, *kinds: str, **changes: Any) -> tuple[Bundle, Path]:
    bundle = open_bundle(agent_bundles.build(*kinds, **changes))
    bundle.extract(tmp_path / "bundle")
    return bundle, tmp_path / "bundle"


def test_a_tenth_of_the_amplitude_is_twenty_decibels() -> None:
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.3, 4.4])) == pytest.approx(20)


def test_equal_answers_have_no_noise_at_all() -> None:
    assert sqnr_db(np.zeros(3), np.zeros(3)) == math.inf


@pytest.mark.parametrize("found", [np.nan, np.inf, 1e300])
def test_an_answer_that_is_no_number_is_as_bad_as_can_be(found: float) -> None:
    assert sqnr_db(np.array([1.0]), np.array([found])) < -100


def test_noise_without_a_signal_is_as_bad_as_can_be() -> None:
    assert sqnr_db(np.zeros(2), np.array([0.0, 0.1])) == -math.inf


SCORES = np.array([[0.8, 0.2], [0.7, 0.3], [0.1, 0.9], [0.2, 0.8]])


def test_three_of_four_classes_are_just_enough() -> None:
    found = SCORES.copy()
    found[1] = [0.49, 0.51]
    result = compare({"s": SCORES}, {"s": found}, "classification", LIMITS)
    assert (result.total, result.agree, result.passed) == (4, 3, True)


def test_two_of_four_classes_are_not_and_the_reason_says_so() -> None:
    found = SCORES.copy()
    found[:2] = [[0.49, 0.51], [0.49, 0.51]]
    result = compare({"s": SCORES}, {"s": found}, "classification", LIMITS)
    assert not result.passed
    assert "2 of 4 golden answers agree, needed 75.0%" in result.reason


def test_right_classes_with_wrong_numbers_fail_too() -> None:
    result = compare({"s": SCORES}, {"s": SCORES * 10}, "classification", LIMITS)
    assert result.agree == 4
    assert "needed 10.0 dB" in result.reason


def test_a_nan_agrees_with_nothing() -> None:
    found = SCORES.copy()
    found[0, 1] = np.nan
    result = compare({"s": SCORES}, {"s": found}, "classification", LIMITS)
    assert result.agree == 3
    assert not result.passed


def test_without_classes_a_sample_agrees_when_its_own_ratio_is_reached() -> None:
    expected = np.ones((4, 8))
    found = expected.copy()
    found[3] *= 1.5  # 6 dB
    result = compare({"r": expected}, {"r": found}, "reconstruction", LIMITS)
    assert result.agree == 3
    assert result.passed  # 12 dB over all, and three of four


def test_the_worst_output_decides() -> None:
    good, bad = np.ones((4, 2)), np.ones((4, 1))
    result = compare({"a": good, "b": bad}, {"a": good, "b": bad * 3}, "other", LIMITS)
    assert result.sqnr_db == pytest.approx(10 * math.log10(1 / 4))
    assert result.agree == 0


@pytest.mark.parametrize("kind", agent_bundles.KINDS)
def test_a_model_agrees_with_its_golden_answers(kind: str, tmp_path: Path) -> None:
    bundle, folder = opened(tmp_path, kind)
    golden = read_golden(folder, bundle.manifest, kind)
    result = run_golden(Session.open(folder, bundle.manifest), golden)
    assert result.passed
    assert result.total == 16


def test_a_model_that_answers_something_else_is_seen(tmp_path: Path) -> None:
    wrong = np.roll(agent_bundles.reference(agent_bundles.GOLDEN_X), 1, axis=1)
    bundle, folder = opened(tmp_path, "float32", expected=wrong)
    golden = read_golden(folder, bundle.manifest, "float32")
    assert not run_golden(Session.open(folder, bundle.manifest), golden).passed


def test_golden_answers_for_another_artifact_are_not_taken(tmp_path: Path) -> None:
    bundle, folder = opened(tmp_path, "float32")
    with pytest.raises(FormatInvalid, match=r"golden\.npz has no 'expected/int8/scores'"):
        read_golden(folder, bundle.manifest, "int8")


def test_golden_answers_of_the_wrong_number_are_refused(tmp_path: Path) -> None:
    few = agent_bundles.reference(agent_bundles.GOLDEN_X[:3])
    bundle, folder = opened(tmp_path, "float32", expected=few)
    with pytest.raises(FormatInvalid, match=r"shape \(3, 3\), expected \(16, 3\)"):
        read_golden(folder, bundle.manifest, "float32")


def test_a_close_call_may_flip_and_a_sure_one_may_not() -> None:
    limits = LIMITS.model_copy(update={"kinds": ("sure", "sure", "sure", "boundary"), "min_agreement": 1.0})
    flipped = SCORES.copy()
    flipped[3] = [0.51, 0.49]
    result = compare({"s": SCORES}, {"s": flipped}, "classification", limits)
    assert (result.total, result.agree, result.passed) == (3, 3, True)
    flipped = SCORES.copy()
    flipped[1] = [0.49, 0.51]
    result = compare({"s": SCORES}, {"s": flipped}, "classification", limits)
    assert (result.total, result.agree, result.passed) == (3, 2, False)
    assert result.reason == "2 of 3 golden answers agree, needed 100.0%"


def test_noise_counts_on_close_calls_too() -> None:
    limits = LIMITS.model_copy(update={"kinds": ("sure", "sure", "sure", "boundary")})
    found = SCORES.copy()
    found[3] = [-3, 3]
    result = compare({"s": SCORES}, {"s": found}, "classification", limits)
    assert result.agree == 3
    assert "dB from the expected" in result.reason


def test_a_manifest_without_kinds_demands_all() -> None:
    flipped = SCORES.copy()
    flipped[3] = [0.51, 0.49]
    assert compare({"s": SCORES}, {"s": flipped}, "classification", LIMITS).total == 4
