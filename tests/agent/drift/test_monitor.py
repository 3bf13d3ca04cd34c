"""The monitor: three kinds of drift told apart, raised and taken back, over restarts."""

from __future__ import annotations

from typing import Any

import pytest
from drift_worlds import BASE, BUNDLE, KNOWN, SURE, World, manifest

from edge_agent.drift.accuracy import KnownAccuracy
from edge_agent.drift.monitor import CALM, Change, Monitor, State, judge_accuracy, judge_counts
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.model import canonical_json, parse_json
from edge_contracts.sketch import MIN_DISTANCE, compare


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


def counted(*counts: int) -> dict[str, tuple[int, ...]]:
    return {BASE.name: counts}


def test_what_chance_cannot_have_made_is_no_drift_while_it_is_small() -> None:
    # one of a hundred samples in another bin: certain over a million, and too near to matter
    known = BASE.model_copy(update={"counts": (160_000, 340_000, 340_000, 160_000)})
    near = counted(150_000, 340_000, 340_000, 170_000)
    assert compare(known, near[BASE.name]).certain
    assert judge_counts((known,), near, {}) == {}
    assert list(judge_counts((known,), counted(50_000, 300_000, 400_000, 250_000), {})) == ["data-drift"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_number_that_drifts_most_is_the_one_that_is_told(order: int) -> None:
    scalars = tuple(BASE.model_copy(update={"name": f"input:x:{name}"}) for name in ("less", "more"))[::order]
    counts = {"input:x:less": (50, 300, 400, 250), "input:x:more": (0, 0, 100, 900)}
    (told,) = judge_counts(scalars, counts, {}).values()
    assert told.startswith("input:x:more is ")


def test_what_has_drifted_does_so_until_it_looks_like_chance() -> None:
    likely = counted(9, 28, 42, 29)  # as far as one span in two hundred is by chance
    found = compare(BASE, likely[BASE.name])
    assert not found.certain and found.p_value < CALM and found.distance >= MIN_DISTANCE
    assert judge_counts((BASE,), likely, {}) == {}
    assert list(judge_counts((BASE,), likely, {}, {"data-drift": "before"})) == ["data-drift"]
    assert judge_counts((BASE,), likely, {}, {"prediction-drift": "before"}) == {}
    calm = counted(160, 340, 340, 160)
    assert judge_counts((BASE,), calm, {}, {"data-drift": "before"}) == {}


def test_a_fall_of_accuracy_is_told_in_percent_of_both() -> None:
    assert judge_accuracy(KnownAccuracy(360, 400), 60, 100, None) == (
        "60.0 % of 100 labelled answers are right, 90.0 % were when it was made"
    )
    assert judge_accuracy(KnownAccuracy(360, 400), 88, 100, None) is None


def test_when_a_short_span_has_seen_the_world_turn_longer_ones_begin_anew() -> None:
    world, subject = World(), monitor()
    watched(subject, [world.window() for _ in range(60)])
    assert subject.state.blocks[-1].inferences > 0
    for _ in range(20):
        if subject.add(world.window(input_shift=1.0)):
            break
    turned = next(n for n, block in enumerate(subject.state.blocks) if block.judged)
    assert all(block.inferences == 0 for block in subject.state.blocks[turned:])
