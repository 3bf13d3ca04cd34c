"""The watch: told as events, stored, and no worse for a file that is torn."""

from __future__ import annotations

from pathlib import Path

import pytest
from drift_worlds import BUNDLE, KNOWN, World, manifest

from edge_agent.device.home import Home
from edge_agent.drift.watch import STORE_S, DriftWatch, read_state
from edge_agent.updates.slots import Tell


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def watch(home: Home, told: list[Tell], per_month: float = 0.1) -> DriftWatch:
    made = DriftWatch(home, told.append, per_month)
    made.serve(manifest(float32=KNOWN), BUNDLE, "float32")
    return made


def test_drift_is_an_event_and_marks_the_windows(home: Home) -> None:
    told: list[Tell] = []
    world, subject = World(), watch(home, told)
    assert subject.count(world.window(), 0.0).drifting == ()
    windows = [subject.count(world.window(input_shift=2.0), 60.0 * n) for n in range(1, 20)]
    assert windows[-1].drifting == ("data-drift",)
    assert [(t.event, t.code, t.bundle) for t in told] == [("drift-began", "data-drift", BUNDLE)]
    assert "input:x:mean" in told[0].detail


def test_a_restart_does_not_tell_again_what_was_told(home: Home) -> None:
    told: list[Tell] = []
    world, subject = World(), watch(home, told)
    for n in range(20):
        subject.count(world.window(input_shift=2.0), 60.0 * n)
    assert len(told) == 1
    again = watch(home, told)
    assert again.count(world.window(input_shift=2.0), 0.0).drifting == ("data-drift",)
    assert len(told) == 1


def test_another_models_window_is_left_as_it_is(home: Home) -> None:
    told: list[Tell] = []
    subject = watch(home, told)
    other = World().window(input_shift=3.0).model_copy(update={"bundle": "sha256:" + "9" * 64})
    assert subject.count(other, 0.0) is other
    assert told == []


def test_state_is_stored_now_and_then_and_at_the_end(home: Home) -> None:
    world, subject = World(), watch(home, [])
    subject.count(world.window(), 0.0)
    first = home.drift.read_bytes()
    subject.count(world.window(), STORE_S - 1)
    assert home.drift.read_bytes() == first
    subject.count(world.window(), STORE_S)
    assert home.drift.read_bytes() != first
    subject.count(world.window(), STORE_S + 1)
    subject.store(STORE_S + 2)
    stored = read_state(home)
    assert stored is not None
    assert stored.blocks[-1].inferences == 4 * 600


@pytest.mark.parametrize("keep", [0, 1, 50, -2])
def test_a_file_that_is_torn_or_missing_begins_anew(home: Home, keep: int) -> None:
    world, subject = World(), watch(home, [])
    subject.count(world.window(), 0.0)
    home.drift.write_bytes(home.drift.read_bytes()[:keep])
    assert read_state(home) is None
    assert watch(home, []).count(world.window(), 0.0).drifting == ()


def test_a_disk_that_takes_nothing_stops_no_window(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.drift.mkdir()  # nothing can take its place
    world, subject = World(), watch(home, [])
    assert subject.count(world.window(), 0.0).inferences == 600
    assert "drift is not stored" in caplog.text


def test_a_rate_of_zero_watches_for_nothing(home: Home) -> None:
    told: list[Tell] = []
    world, subject = World(), watch(home, told, per_month=0.0)
    for n in range(20):
        assert subject.count(world.window(input_shift=3.0), 60.0 * n).drifting == ()
    assert told == []
    assert not home.drift.exists()
