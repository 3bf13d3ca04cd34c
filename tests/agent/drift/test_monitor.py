"""The monitor: three kinds of drift told apart, raised and taken back, over restarts."""

from __future__ import annotations

from typing import Any

import pytest
from drift_worlds import BASE, BUNDLE, KNOWN, SURE, World, manifest

from edge_agent.drift.monitor import Change, Monitor, State, judge_counts
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.model import canonical_json, parse_json


def monitor(**more: Any) -> Monitor:
    return Monitor(manifest(float32=KNOWN), BUNDLE, "float32", **more)


def watched(subject: Monitor, windows: list[Window]) -> list[Change]:
    return [change for window in windows for change in subject.add(window)]


def test_a_world_as_it_was_raises_nothing() -> None:
    world = World()
    assert watched(monitor(), [world.window() for _ in range(2000)]) == []


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"input_shift": 1.0}, "data-drift", "input:x:mean is 0."),
        ({"output_shift": -1.0}, "prediction-drift", "output:scores:confidence is 0."),
        ({"accuracy": 0.6}, "concept-drift", "% were when it was made"),
    ],
)
def test_each_kind_is_told_by_itself_and_taken_back(change: dict[str, Any], kind: str, words: str) -> None:
    world, subject = World(), monitor()
    assert watched(subject, [world.window() for _ in range(60)]) == []
    (began,) = watched(subject, [world.window(**change) for _ in range(20)])
    assert (began.kind, began.began) == (kind, True)
    assert words in began.detail
    assert list(subject.state.drifting) == [kind]
    # the hour that has seen it says so until a calm one has passed
    (ended,) = watched(subject, [world.window() for _ in range(180)])
    assert (ended.kind, ended.began) == (kind, False)
    assert subject.state.drifting == {}


def test_a_small_change_is_found_by_a_longer_span() -> None:
    world, subject = World(), monitor()
    watched(subject, [world.window() for _ in range(60)])
    changes = watched(subject, [world.window(input_shift=0.45) for _ in range(120)])
    assert [c.kind for c in changes if c.began][:1] == ["data-drift"]


def test_frames_that_repeat_are_no_drift_though_they_look_like_it() -> None:
    world, subject = World(), monitor()
    windows = [world.window(repeat=60) for _ in range(400)]
    assert watched(subject, windows) == []
    # counted as independent they would be
    naive = [judge_counts((BASE, SURE), {c.name: c.counts for c in w.scalars}, {}) for w in windows]
    assert sum(bool(found) for found in naive) > 20


def test_frames_that_repeat_do_not_hide_a_real_change() -> None:
    world, subject = World(), monitor()
    watched(subject, [world.window(repeat=10) for _ in range(60)])
    changes = watched(subject, [world.window(input_shift=1.5, repeat=10) for _ in range(60)])
    assert [c.kind for c in changes if c.began] == ["data-drift"]


def test_a_restart_goes_on_where_it_was() -> None:
    world, whole, broken = World(), monitor(), monitor()
    windows = [world.window(input_shift=0.5 * (n > 50)) for n in range(120)]
    found: list[Change] = []
    for window in windows:
        stored = canonical_json(broken.state)
        broken = monitor(state=parse_json(State, stored, "drift.json", "edgefleet.drift/1"))
        found += broken.add(window)
    assert found == watched(whole, windows)
    assert found


def test_another_bundles_state_is_left_aside() -> None:
    world, subject = World(), monitor()
    watched(subject, [world.window(input_shift=2.0) for _ in range(20)])
    assert subject.state.drifting
    other = Monitor(manifest(), "sha256:" + "2" * 64, "float32", state=subject.state)
    assert other.state.drifting == {}
    slower = monitor(per_month=1e-5, state=subject.state)  # another schedule: its blocks mean something else
    assert slower.state.drifting == {}


def test_few_inferences_wait_until_they_are_evidence() -> None:
    world, subject = World(), monitor()
    few = world.window()
    counts = tuple(ScalarCounts(name=s.name, counts=(0, 0, 0, 1)) for s in few.scalars)
    one = few.model_copy(update={"inferences": 1, "scalars": counts, "lineup": None})
    assert watched(subject, [one] * 49) == []
    assert [c.kind for c in watched(subject, [one])] == ["data-drift", "prediction-drift"]


def test_the_state_is_small() -> None:
    world, subject = World(), monitor()
    watched(subject, [world.window() for _ in range(200)])
    assert len(canonical_json(subject.state)) < 6000
