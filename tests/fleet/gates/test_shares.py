"""What a share is held to, device by device, and what looking costs: expected values are worked by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from edge_contracts.sketch import Baseline, QuantileSketch, bin_index
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, StageEvidence
from edge_fleet.gates import GATES, GateLimit, Outcome, Verdict, betting
from edge_fleet.gathering import gather
from edge_fleet.reading import Reading

NEW, OLD = "sha256:new", "sha256:old"
FACTS = {digest: BundleFacts(digest, "arm-cpu", Baseline(samples=0), 50.0) for digest in (NEW, OLD)}


def window(device: str, bundle: str, at_s: float, bad: int, of: int) -> Reading:
    return dataclasses.replace(Reading(device, bundle, at_s, of - bad), errors=bad)


def seen(readings: Sequence[Reading], stages: dict[str, int] | None = None, stage: int = 0) -> StageEvidence:
    """Devices that report the new bundle are reached, in stage 0 unless stated."""
    names = sorted({one.device for one in readings if one.bundle == NEW})
    of = stages or {}
    members = [Member(name, of.get(name, 0), NEW, OLD, State.CONFIRMED, 100.0) for name in names]
    return gather(members, readings, FACTS, stage, 90.0)


def ask(evidence: StageEvidence, limit: float = 0.02, **more: object) -> Verdict:
    return GATES["error_rate"].judge(evidence, GateLimit(limit=limit, **more))  # type: ignore[arg-type]


def number(verdict: Verdict, name: str) -> float:
    found = verdict.evidence[0][name]
    assert isinstance(found, float | int)
    return float(found)


# against the release before


def worse_by(margin: float, bad_devices: int = 50, good_devices: int = 10) -> Verdict:
    """Devices of which most always failed in 30 % and some in 2 %, by how much more they fail now."""
    readings = []
    usual = [0.30] * bad_devices + [0.02] * good_devices
    pooled = sum(usual) / len(usual)
    for place, share in enumerate(usual):
        name = f"cam-{place:02}"
        allowed = max(share, pooled) + margin
        readings.append(window(name, OLD, 50.0, round(1000 * share), 1000))
        readings.append(window(name, NEW, 110.0, round(1000 * allowed), 1000))
    return ask(seen(readings), 0.1, against="before")


def test_each_device_is_held_to_its_own_past_or_that_of_all_where_that_is_worse() -> None:
    """At exactly what is allowed of each a bet wins nothing: nobody is held to another one's better past."""
    assert number(worse_by(0.1), "e_fleet") == pytest.approx(1.0, abs=0.01)
    # as much again as the margin, on each of sixty devices, is certain
    assert worse_by(0.2).outcome is Outcome.FAIL


def test_a_past_of_a_few_answers_excuses_nothing() -> None:
    """Twenty that were good, twenty that answered ten times, all wrong: those are held to what all did."""
    readings = []
    for place in range(20):
        readings += [
            window(f"good-{place}", OLD, 50.0, 0, 400),
            window(f"good-{place}", NEW, 110.0, 0, 400),
            window(f"new-{place}", OLD, 50.0, 10, 10),
            window(f"new-{place}", NEW, 110.0, 320, 400),
        ]
    assert number(ask(seen(readings), 0.1, against="before"), "e_fleet") > 1000


# single devices


def alone(before_bad: int, before_of: int) -> Verdict:
    """One device that answers nothing any more, after so much under the release before."""
    failing = [window("cam-1", NEW, 110.0 + n, 50, 50) for n in range(8)]
    return ask(seen([*failing, window("cam-1", OLD, 50.0, before_bad, before_of)]))


def test_a_device_that_was_well_before_fails_outright_and_is_named() -> None:
    verdict = alone(16, 400)  # 4 %: below half of what a healthy device may have, 10 %
    assert verdict.outcome is Outcome.FAIL and ", cam-1 outright, " in verdict.reason
    assert number(verdict, "e_devices") >= 1000


def test_a_device_that_was_half_ill_before_does_not() -> None:
    assert number(alone(28, 400), "e_devices") == 1.0  # 7 %


def test_ten_answers_do_not_say_that_a_device_was_ill() -> None:
    assert number(alone(10, 10), "e_devices") >= 1000


# against a control group: what looking costs


def apart(bad: int, first: str, count: int, bundle: str, windows: int = 1) -> list[Reading]:
    """So many devices with some errors among a hundred answers of each window."""
    return [
        window(f"{first}-{n:02}", bundle, 110.0 + w, bad, 100) for n in range(count) for w in range(windows)
    ]


def test_the_first_look_at_the_first_stage_costs_a_quarter_of_the_wealth() -> None:
    """1/2 of alpha is for the first mark, and of that 1/2 for the first stage (1/((n+1)(n+2)) of each)."""
    readings = apart(20, "cam", 20, NEW) + apart(1, "held", 60, OLD)
    shown = betting.above_control(np.full(20, 0.2), np.full(60, 0.01), 0.02)
    verdict = ask(seen(readings), against="control")
    assert shown > math.log(4)
    assert number(verdict, "e_fleet") == pytest.approx(math.exp(shown) / 4, rel=1e-3)


def test_a_bad_stage_is_not_made_up_for_by_a_good_one_after_it() -> None:
    readings = apart(20, "cam", 20, NEW) + apart(1, "held", 60, OLD)
    later = apart(1, "more", 20, NEW)
    one = ask(seen(readings), against="control")
    stages = {f"more-{n:02}": 1 for n in range(20)}
    both = ask(seen(readings + later, stages, stage=1), against="control")
    assert number(both, "e_fleet") >= number(one, "e_fleet") > 1


# quantiles, judged as shares


def test_a_device_that_was_always_slow_is_held_to_its_own_quantile() -> None:
    readings = []
    for place in range(30):
        took = QuantileSketch(bins={bin_index(80.0 if place == 0 else 10.0): 400})
        for bundle, at_s in ((OLD, 50.0), (NEW, 110.0)):
            one = Reading(f"cam-{place}", bundle, at_s, 400)
            readings.append(dataclasses.replace(one, latency_ms=took))
    verdict = GATES["latency_p95"].judge(seen(readings), GateLimit(limit=1.5, against="before"))
    assert verdict.outcome is Outcome.PASS
    assert number(verdict, "allowed_value") == pytest.approx(15.0, rel=0.03)
    assert number(verdict, "bad") == 0.0, "80 ms are no more than it took before"


def test_a_first_release_is_not_held_to_its_promise_where_a_control_group_was_asked_for() -> None:
    took = QuantileSketch(bins={bin_index(1.0): 400})
    reading = dataclasses.replace(Reading("cam-1", NEW, 110.0, 400), latency_ms=took)
    verdict = GATES["latency_p95"].judge(seen([reading]), GateLimit(limit=1.5, against="control"))
    assert verdict.outcome is Outcome.WAIT and "in the control group" in verdict.reason
