"""The ladder: every pair of findings has one outcome, and an unsure answer never goes out unmarked."""

from __future__ import annotations

from itertools import product

import pytest

from edge_agent.doubt.confidence import ConfidenceRule
from edge_agent.doubt.ladder import ASKS_SECOND, VERDICTS, Found, Verdict, find
from edge_contracts.manifest import Confidence


def rule(below: float | None) -> ConfidenceRule:
    stated = Confidence(
        scores="logits", floor=0, temperature=1, abstain_below=below, risk_of="error", samples=1
    )
    return ConfidenceRule("scores", stated)


def test_whatever_is_found_has_a_verdict() -> None:
    for first in Found:
        assert (first, None) in VERDICTS
    for first, second in product(Found, Found):
        assert ((first, second) in VERDICTS) == (first in ASKS_SECOND)
    assert {Found.UNSURE, Found.FAILED} == ASKS_SECOND


def test_only_what_somebody_was_sure_of_or_could_not_rate_goes_out_unmarked() -> None:
    for (first, second), verdict in VERDICTS.items():
        if verdict is Verdict.FIRST:
            assert first in (Found.SURE, Found.UNRATED)
        elif verdict is Verdict.SECOND:
            assert second is Found.SURE or (first, second) == (Found.FAILED, Found.UNRATED)


def test_a_model_that_failed_is_never_the_answer() -> None:
    for (first, second), verdict in VERDICTS.items():
        if verdict in (Verdict.FIRST, Verdict.UNCERTAIN_FIRST):
            assert first is not Found.FAILED
        elif verdict in (Verdict.SECOND, Verdict.UNCERTAIN_SECOND):
            assert second not in (Found.FAILED, None)


@pytest.mark.parametrize(
    ("below", "confidence", "found"),
    [
        (0.8, (0.9, 0.8), Found.SURE),
        (0.8, (0.9, 0.79), Found.UNSURE),
        (0.8, (float("nan"),), Found.UNSURE),
        (None, (0.1,), Found.UNRATED),
    ],
)
def test_one_unsure_sample_makes_a_request_unsure(
    below: float | None, confidence: tuple[float, ...], found: Found
) -> None:
    assert find(rule(below), confidence) is found


def test_a_bundle_without_calibration_is_not_rated() -> None:
    assert find(None, ()) is Found.UNRATED
