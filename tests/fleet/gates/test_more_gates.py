"""Gates on doubt, labels, shadows, memory and heat: each passes, fails and waits for the right reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from edge_contracts.lineup import CONFIDENCE_BINS
from edge_contracts.sketch import Baseline
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, StageEvidence
from edge_fleet.gates import GATES, Budget, GateLimit, Outcome, Verdict
from edge_fleet.gathering import gather
from edge_fleet.reading import Reading

NEW, OLD = "sha256:new", "sha256:old"
FACTS = {digest: BundleFacts(digest, "arm-cpu", Baseline(samples=0), 50.0) for digest in (NEW, OLD)}
DEVICES = [f"cam-{i:02}" for i in range(12)]


def fleet(
    new: Mapping[str, Any],
    old: Mapping[str, Any] | None = None,
    windows: int = 4,
    controls: int = 0,
    beside: Mapping[str, Any] | None = None,
) -> StageEvidence:
    """Twelve devices that all report `new`, and reported `old` before; others report `beside` meanwhile."""
    members = [Member(device, 0, NEW, OLD, State.CONFIRMED, 100.0) for device in DEVICES]
    at = range(windows)
    readings = [dataclasses.replace(Reading(d, NEW, 110.0 + w, 100), **new) for d in DEVICES for w in at]
    if old is not None:
        readings += [dataclasses.replace(Reading(d, OLD, 50.0 + w, 100), **old) for d in DEVICES for w in at]
    if beside is not None:
        readings += [
            dataclasses.replace(Reading(f"held-{i}", OLD, 110.0 + w, 100), **beside)
            for i in range(controls)
            for w in at
        ]
    return gather(members, readings, FACTS, 0, 90.0)


def ask(name: str, evidence: StageEvidence, limit: float, **more: Any) -> Verdict:
    return GATES[name].judge(evidence, GateLimit(limit=limit, **more), Budget())


def confident(at: float, count: int = 100) -> dict[str, Any]:
    bins = [0] * CONFIDENCE_BINS
    bins[int(at * CONFIDENCE_BINS)] = count
    return {"confidence": tuple(bins)}


@pytest.mark.parametrize(
    ("name", "limit", "good", "bad"),
    [
        ("abstain_rate", 0.1, {"sure": 98, "uncertain": 2}, {"sure": 50, "uncertain": 50}),
        ("fallback_rate", 0.1, {"sure": 98, "second": 2}, {"sure": 50, "second": 50}),
        ("live_accuracy", 0.9, {"labelled": 50, "correct": 49}, {"labelled": 50, "correct": 25}),
        ("shadow_agreement", 0.9, {"compared": 50, "agreed": 49}, {"compared": 50, "agreed": 25}),
        ("memory_mb", 200, {"rss_bytes": 100_000_000}, {"rss_bytes": 300_000_000}),
        ("temperature_c", 80, {"temperature_c": 60.0}, {"temperature_c": 95.0}),
    ],
)
def test_what_is_within_the_limit_passes_and_what_is_far_beyond_fails(
    name: str, limit: float, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    passed, failed = ask(name, fleet(good), limit), ask(name, fleet(bad), limit)
    assert passed.outcome is Outcome.PASS, passed.reason
    assert failed.outcome is Outcome.FAIL, failed.reason
    assert failed.evidence[0]["needed"] == 1000


@pytest.mark.parametrize(
    ("name", "limit", "usual", "worse"),
    [
        ("abstain_rate", 0.1, {"sure": 70, "uncertain": 30}, {"sure": 10, "uncertain": 90}),
        ("fallback_rate", 0.1, {"sure": 90, "second": 10}, {"sure": 40, "second": 60}),
        ("live_accuracy", 0.1, {"labelled": 99, "correct": 89}, {"labelled": 99, "correct": 30}),
        ("memory", 1.5, {"rss_bytes": 100_000_000}, {"rss_bytes": 200_000_000}),
        ("temperature", 10.0, {"temperature_c": 60.0}, {"temperature_c": 90.0}),
        ("confidence_shift", 0.1, confident(0.9), confident(0.5)),
        ("confidence_shift", 0.1, confident(0.1), confident(0.99)),
    ],
)
def test_a_release_is_held_to_the_one_before(
    name: str, limit: float, usual: dict[str, Any], worse: dict[str, Any]
) -> None:
    same = ask(name, fleet(usual, old=usual), limit, against="before")
    assert same.outcome is Outcome.PASS, same.reason
    changed = ask(name, fleet(worse, old=usual), limit, against="before")
    assert changed.outcome is Outcome.FAIL, changed.reason
    first = ask(name, fleet(usual), limit, against="before")
    assert first.outcome is Outcome.WAIT
    assert "under the release before" in first.reason


@pytest.mark.parametrize(
    ("name", "limit", "usual", "hot"),
    [
        ("temperature", 10.0, {"temperature_c": 60.0}, {"temperature_c": 90.0}),
        ("memory", 1.5, {"rss_bytes": 100_000_000}, {"rss_bytes": 200_000_000}),
        ("abstain_rate", 0.1, {"sure": 99, "uncertain": 1}, {"sure": 10, "uncertain": 90}),
    ],
)
def test_what_the_control_group_shows_as_well_is_not_the_release(
    name: str, limit: float, usual: dict[str, Any], hot: dict[str, Any]
) -> None:
    def beside(new: dict[str, Any], control: dict[str, Any]) -> Verdict:
        return ask(name, fleet(new, controls=60, beside=control), limit, against="control")

    assert beside(hot, hot).outcome is Outcome.PASS
    alone = beside(hot, usual)
    assert alone.outcome is Outcome.FAIL, alone.reason


def test_a_model_that_grows_surer_within_the_limit_passes() -> None:
    verdict = ask("confidence_shift", fleet(confident(0.82), old=confident(0.78)), 0.1, against="before")
    assert verdict.outcome is Outcome.PASS, verdict.reason


def test_memory_within_the_noise_of_an_allocator_is_no_growth() -> None:
    small, grown = {"rss_bytes": 2_000_000}, {"rss_bytes": 5_000_000}
    assert ask("memory", fleet(grown, old=small), 1.5).outcome is Outcome.PASS


def test_a_shadow_of_the_release_speaks_for_it_before_it_is_installed() -> None:
    members = [Member(device, 0, NEW, OLD, State.CONFIRMED, 100.0) for device in DEVICES]
    beside = [
        Reading(device, OLD, 50.0 + w, 100, shadow=NEW, compared=50, agreed=20)
        for device in DEVICES
        for w in range(4)
    ]
    verdict = ask("shadow_agreement", gather(members, beside, FACTS, 0, 90.0), 0.9)
    assert verdict.outcome is Outcome.FAIL
    other = [dataclasses.replace(reading, shadow="sha256:third") for reading in beside]
    assert ask("shadow_agreement", gather(members, other, FACTS, 0, 90.0), 0.9).outcome is Outcome.WAIT


def test_peaks_in_a_few_windows_are_not_the_memory_of_a_release() -> None:
    members = [Member(device, 0, NEW, OLD, State.CONFIRMED, 100.0) for device in DEVICES]
    readings = [
        Reading(d, NEW, 110.0 + w, 100, rss_bytes=300_000_000 if w == i else 100_000_000)
        for i, d in enumerate(DEVICES)
        for w in range(30)
    ]
    assert ask("memory_mb", gather(members, readings, FACTS, 0, 90.0), 200).outcome is Outcome.PASS
