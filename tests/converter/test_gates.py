"""The converter's gates, fed with recorded numbers and timings."""

from __future__ import annotations

from typing import Any

import pytest

from edge_contracts.manifest import Score
from edge_convert import gates
from edge_convert.gates import Finding, Limits, SliceDrop, Verdict

LIMITS = Limits()
CALM = [0.100, 0.101, 0.099, 0.100, 0.102, 0.100, 0.098]


def scored(**fields: Any) -> Score:
    return Score(samples=400, metric="accuracy", **fields)


def test_a_drop_up_to_the_limit_passes_and_one_beyond_fails() -> None:
    assert gates.accuracy_drop(scored(source=0.90, artifact=0.89), 1.0).verdict is Verdict.PASS
    finding = gates.accuracy_drop(scored(source=0.90, artifact=0.8875), 1.0)
    assert finding.verdict is Verdict.FAIL
    assert finding.found == pytest.approx(1.25)
    assert "88.75 %" in finding.reason
    assert "1.25 points, 1 allowed" in finding.reason


def test_a_drop_states_its_interval_and_can_be_judged_by_it() -> None:
    score = scored(source=0.90, artifact=0.895, drop_interval=(-0.004, 0.014))
    finding = gates.accuracy_drop(score, 1.0)
    assert finding.verdict is Verdict.PASS
    assert "(between -0.40 and 1.40 with 95 % confidence)" in finding.reason
    strict = gates.accuracy_drop(score, 1.0, "interval")
    assert strict.verdict is Verdict.FAIL
    assert strict.found == pytest.approx(1.4)
    assert gates.accuracy_drop(score, 1.5, "interval").verdict is Verdict.PASS
    unknown = gates.accuracy_drop(scored(source=0.90, artifact=0.90), 1.0, "interval")
    assert unknown.verdict is Verdict.FAIL


def test_better_than_the_source_is_no_drop() -> None:
    assert gates.accuracy_drop(scored(source=0.90, artifact=0.91), 0.0).verdict is Verdict.PASS


def test_without_labels_accuracy_is_not_judged() -> None:
    assert gates.accuracy_drop(Score(samples=9), 1.0).verdict is Verdict.NOT_JUDGED


def test_agreement_is_for_classifiers_and_signal_for_the_others() -> None:
    classifier, other = Score(samples=100, agreement=0.89, sqnr_db=8.0), Score(samples=100, sqnr_db=14.9)
    assert gates.agreement(classifier, 0.90).verdict is Verdict.FAIL
    assert gates.agreement(Score(samples=100, agreement=0.90), 0.90).verdict is Verdict.PASS
    assert gates.signal(classifier, 15.0).verdict is Verdict.NOT_JUDGED
    assert gates.agreement(other, 0.90).verdict is Verdict.NOT_JUDGED
    assert gates.signal(other, 15.0).verdict is Verdict.FAIL
    assert gates.signal(Score(samples=100), 15.0).verdict is Verdict.PASS


def test_an_output_that_is_not_finite_fails_whatever_the_task() -> None:
    assert gates.signal(Score(samples=9, agreement=1.0, sqnr_db=-300.0), 15.0).verdict is Verdict.FAIL


def test_an_import_that_changes_answers_fails() -> None:
    assert gates.fidelity(Score(samples=9, sqnr_db=59.0)).verdict is Verdict.FAIL
    assert gates.fidelity(Score(samples=9, sqnr_db=110.0)).verdict is Verdict.PASS
    assert gates.fidelity(Score(samples=9)).verdict is Verdict.PASS
    assert gates.fidelity(Score(samples=9, agreement=0.99)).verdict is Verdict.FAIL
    assert gates.fidelity(Score(samples=9, agreement=1.0)).verdict is Verdict.PASS


def test_a_source_that_guesses_fails_before_anything_is_compared_with_it() -> None:
    # chance of 10 classes is 0.1; two standard errors of 400 samples are 0.03
    assert gates.source_sanity(0.125, 10, 400).verdict is Verdict.FAIL
    assert gates.source_sanity(0.135, 10, 400).verdict is Verdict.PASS
    assert gates.source_sanity(0.10, 10, 20).verdict is Verdict.NOT_JUDGED
    assert gates.source_sanity(None, 10, 400).verdict is Verdict.NOT_JUDGED


def test_size_is_held_against_the_profile_and_the_float_form() -> None:
    assert gates.fits(100, 100, "arm-cpu").verdict is Verdict.PASS
    finding = gates.fits(101, 100, "arm-cpu")
    assert (finding.verdict, finding.reason) == (
        Verdict.FAIL,
        "artifact has 101 bytes, profile arm-cpu allows 100",
    )
    assert gates.smaller(99, 100, "int8").verdict is Verdict.PASS
    assert gates.smaller(101, 100, "int8").verdict is Verdict.FAIL
    assert gates.smaller(101, 100, "float32").verdict is Verdict.NOT_JUDGED


def test_an_artifact_within_the_tolerance_is_not_slower() -> None:
    finding = gates.latency([1.09 * t for t in CALM], CALM, "LiteRT", LIMITS)
    assert finding.verdict is Verdict.PASS
    assert finding.found == pytest.approx(1.09)


def test_a_slower_artifact_fails_with_both_times() -> None:
    finding = gates.latency([1.5 * t for t in CALM], CALM, "LiteRT", LIMITS)
    assert finding.verdict is Verdict.FAIL
    assert "0.1500 ms against the float source's 0.1000 ms in LiteRT" in finding.reason


def test_rounds_that_scatter_around_the_limit_are_not_judged_unless_told_to() -> None:
    wild = [0.08, 0.19, 0.10, 0.22, 0.09, 0.15, 0.12]
    assert gates.latency(wild, CALM, "LiteRT", LIMITS).verdict is Verdict.NOT_JUDGED
    assert gates.latency(wild, CALM, "LiteRT", Limits(latency="on")).verdict is Verdict.FAIL


def test_noise_does_not_excuse_an_artifact_that_is_always_slower() -> None:
    always_slower = [0.2, 0.4, 0.25, 0.5, 0.3, 0.6, 0.2]
    assert gates.latency(always_slower, CALM, "LiteRT", LIMITS).verdict is Verdict.FAIL


def test_a_noisy_neighbour_of_both_hides_nothing() -> None:
    # the host slows down by ten for three rounds; both feel it, the ratios do not
    source = [0.10, 0.10, 1.00, 1.05, 0.98, 0.10, 0.10]
    finding = gates.latency([0.8 * t for t in source], source, "LiteRT", LIMITS)
    assert finding.verdict is Verdict.PASS
    assert finding.found == pytest.approx(0.8)


def test_a_difference_below_the_floor_is_not_the_models() -> None:
    source = [0.002] * 7
    assert gates.latency([0.004] * 7, source, "LiteRT", LIMITS).verdict is Verdict.PASS
    assert gates.latency([0.02] * 7, source, "LiteRT", LIMITS).verdict is Verdict.FAIL


def test_who_asks_for_a_gain_is_not_told_that_little_is_lost() -> None:
    finding = gates.latency([0.0014] * 7, [0.002] * 7, "LiteRT", Limits(max_latency_ratio=0.5))
    assert finding.verdict is Verdict.FAIL and finding.found == pytest.approx(0.7)


def test_the_latency_gate_can_be_switched_off_and_needs_rounds() -> None:
    assert gates.latency([9.0] * 7, CALM, "LiteRT", Limits(latency="off")).verdict is Verdict.NOT_JUDGED
    assert gates.latency(CALM[:4], CALM[:4], "LiteRT", LIMITS).verdict is Verdict.NOT_JUDGED
    with pytest.raises(ValueError, match="interleaved"):
        gates.latency(CALM, CALM[:5], "LiteRT", LIMITS)


def test_slower_in_another_runtime_than_the_devices_is_no_evidence() -> None:
    slower = gates.latency([1.5 * t for t in CALM], CALM, "LiteRT", LIMITS)
    finding = gates.of_other_runtime(slower, "edgetpu", LIMITS)
    assert finding.verdict is Verdict.NOT_JUDGED
    assert "the device runs it in edgetpu" in finding.reason
    assert gates.of_other_runtime(slower, "edgetpu", Limits(latency="on")) == slower
    faster = gates.latency(CALM, CALM, "LiteRT", LIMITS)
    assert gates.of_other_runtime(faster, "edgetpu", LIMITS) == faster


def test_nothing_passes_without_a_gate_that_compared_answers() -> None:
    size = Finding("size", Verdict.PASS, "")
    agreed = Finding("agreement", Verdict.PASS, "")
    assert not gates.passed([size])
    assert not gates.passed([])
    assert gates.passed([size, agreed])
    assert not gates.passed([agreed, Finding("size", Verdict.FAIL, "")])
    assert gates.passed([agreed, Finding("latency", Verdict.NOT_JUDGED, "")])


def part(name: str, samples: int = 100, **fields: Any) -> SliceDrop:
    known: dict[str, Any] = {
        "source": 0.9,
        "artifact": 0.8,
        "drop": 0.1,
        "interval": (0.0, 0.2),
        "at_least": -0.1,
    }
    return SliceDrop("class", name, samples, "accuracy", **known | fields)


@pytest.mark.parametrize(
    ("at_least", "interval", "verdict"),
    [
        (0.051, (0.052, 0.2), Verdict.FAIL),
        (0.05, (0.052, 0.2), Verdict.NOT_JUDGED),  # at the very least just what is allowed
        (0.04, (0.045, 0.2), Verdict.NOT_JUDGED),
        (-0.1, (-0.1, 0.051), Verdict.NOT_JUDGED),
        (-0.1, (-0.1, 0.05), Verdict.PASS),
        (None, (-0.1, 0.05), Verdict.NOT_JUDGED),
        (-0.1, None, Verdict.NOT_JUDGED),
    ],
)
def test_a_slice_fails_when_it_surely_loses_too_much_and_passes_when_surely_not(
    at_least: float | None, interval: tuple[float, float] | None, verdict: Verdict
) -> None:
    assert part("3", at_least=at_least, interval=interval).verdict(5.0) is verdict


def test_doubts_name_the_slices_that_lose_most_and_count_the_others() -> None:
    small = [
        part(name, 9, drop=drop, interval=None)
        for name, drop in zip("abcde", (0.1, None, 0.3, 0.2, 0.05), strict=True)
    ]
    sure = part("z", interval=(-0.01, 0.01))
    score = Score(samples=50, metric="accuracy")
    assert gates.doubts(score, [sure], LIMITS, None) == []
    assert gates.doubts(score, [sure, *small[:3]], LIMITS, None) == [
        "slices too small to tell whether they lose too much: "
        "class c (9 samples), class a (9 samples), class b (9 samples)"
    ]
    (told,) = gates.doubts(score, [sure, *small], LIMITS, None)
    assert told.endswith("class c (9 samples), class d (9 samples), class a (9 samples) and 2 more")


def test_doubts_say_what_a_drop_may_be_and_what_agreement() -> None:
    wide = scored(source=0.9, artifact=0.895, drop_interval=(-0.004, 0.014))
    assert gates.doubts(wide, [], LIMITS, None) == [
        "400 samples are too few to tell whether accuracy drops by more than 1 points: "
        "it lies between -0.40 and 1.40"
    ]
    assert (
        gates.doubts(scored(source=0.9, artifact=0.9, drop_interval=(-0.004, 0.01)), [], LIMITS, None) == []
    )
    # Wilson's interval of 92 of 100 begins at 85.0 %
    (told,) = gates.doubts(Score(samples=100, agreement=0.92), [], LIMITS, None)
    assert told.endswith("whether 90.0% keep their answer: it may be 85.0%")
    assert gates.doubts(Score(samples=100, agreement=0.89), [], LIMITS, None) == [], (
        "that fails, without doubt"
    )
    assert gates.doubts(Score(samples=10_000, agreement=0.92), [], LIMITS, None) == []


def test_one_class_is_not_guessed() -> None:
    assert gates.source_sanity(1.0, 1, 400).verdict is Verdict.NOT_JUDGED


@pytest.mark.parametrize(
    ("spread", "verdict"),
    # quartiles of seven are the second and the sixth: they lie twice `spread` apart
    [(0.10, Verdict.PASS), (0.16, Verdict.PASS), (0.20, Verdict.NOT_JUDGED), (0.32, Verdict.NOT_JUDGED)],
)
def test_rounds_are_judged_up_to_a_scatter_of_three_tenths(spread: float, verdict: Verdict) -> None:
    ratios = [1.09 + spread * step for step in (-1, -1, 0, 0, 0, 1, 1)]
    assert gates.latency(ratios, [1.0] * 7, "LiteRT", LIMITS).verdict is verdict
