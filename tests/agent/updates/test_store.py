"""The state document: durable, noticed when damaged, rebuilt from the slots when gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.device.home import Home
from edge_agent.errors import HomeInvalid, HomeLocked
from edge_agent.runtimes.choice import Choice, Option
from edge_agent.updates.slots import Held, Phase, Slot, Slots
from edge_agent.updates.store import RESERVE, Found, Store, rebuilt
from edge_contracts.messages import Phase as Report
from edge_contracts.messages import Progress

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
FULL = Slots(
    phase=Phase.TRIAL,
    held={Slot.A: Held(DIGEST, 3, 7, Choice(Option("int8", "litert", "CPU"), "no NPU")), Slot.B: Held(OTHER)},
    active=Slot.B,
    candidate=Slot.B,
    last_good=Slot.A,
    checks=2,
    floor=3,
    number=8,
    progress=Progress(assignment=8, phase=Report.TRIAL, code="x", detail="y"),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_a_state_comes_back_as_it_was_stored(home: Home) -> None:
    Store(home).save(FULL)
    assert Store(home).slots == FULL


def test_a_new_home_has_an_empty_state_and_nothing_lost(home: Home) -> None:
    store = Store(home)
    assert (store.slots, store.lost) == (Slots(), "")


@pytest.mark.parametrize("damage", [b"", b"{}", b"garbage\n{}"])
def test_a_damaged_document_is_noticed_and_the_one_before_it_is_taken(home: Home, damage: bytes) -> None:
    store = Store(home)
    store.save(FULL)
    store.save(replace(FULL, floor=9))
    home.state.write_bytes(damage)
    again = Store(home)
    assert (again.slots, again.lost) == (FULL, "")


def test_one_changed_bit_is_noticed(home: Home) -> None:
    store = Store(home)
    store.save(FULL)
    content = bytearray(home.state.read_bytes())
    content[content.index(b'"floor":3') + 8] ^= 1
    home.state.write_bytes(bytes(content))
    again = Store(home)
    assert again.slots == Slots()
    assert "digest" in again.lost


def test_a_missing_state_beside_filled_slots_is_said(home: Home) -> None:
    home.slot(Slot.A).mkdir()
    assert "is missing" in Store(home).lost


def test_the_older_of_two_slots_is_the_one_known_to_be_good() -> None:
    slots = rebuilt({Slot.A: Found(OTHER, written_s=20.0), Slot.B: Found(DIGEST, written_s=10.0)})
    assert slots.bundle_in(slots.active) == DIGEST
    assert slots.last_good is None
    assert rebuilt({}) == Slots()


def test_snapshot_numbers_grow_over_restarts_and_a_clock_that_goes_back(home: Home) -> None:
    store = Store(home)
    first = [store.next_snapshot(now_ms=1_000_000), store.next_snapshot(now_ms=999_000)]
    second = Store(home).next_snapshot(now_ms=5)
    assert first == [1_000_000, 1_000_001]
    assert second > first[-1]


def test_snapshot_numbers_of_a_device_that_lost_its_state_go_on_with_the_clock(home: Home) -> None:
    number = Store(home).next_snapshot(now_ms=1_000_000)
    home.state.unlink()
    assert Store(home).next_snapshot(now_ms=1_060_000) > number


def test_a_device_whose_disk_takes_nothing_goes_on_numbering_and_no_number_comes_twice(home: Home) -> None:
    hour_ms = 3_600_000
    store = Store(home)
    stored = store.next_snapshot(now_ms=hour_ms)
    home.state.with_name("state.json.new").mkdir()  # every write fails
    numbers = [store.next_snapshot(now_ms=at * hour_ms) for at in (2, 3, 3, 1)]
    again = Store(home)
    numbers += [again.next_snapshot(now_ms=at * hour_ms) for at in (4, 5)]
    assert numbers == sorted({stored, *numbers})[1:], "they grow, over a restart too"
    wrong = Store(home).next_snapshot(now_ms=100 * 366 * 24 * hour_ms)
    assert wrong < 2 * 366 * 24 * hour_ms, "a clock that is wrong is believed for a year at most"
    home.state.with_name("state.json.new").rmdir()
    last = again.next_snapshot(now_ms=6 * hour_ms)
    assert Store(home).next_snapshot(now_ms=0) > last, "it is stored again"


def test_without_a_stored_number_nothing_is_said_that_an_earlier_life_may_have_said(home: Home) -> None:
    mark = Store(home).next_snapshot(now_ms=1_000_000) + RESERVE
    home.state.with_name("state.json.new").mkdir()
    again = Store(home)
    with pytest.raises(HomeInvalid):
        again.next_snapshot(now_ms=mark - 1)
    assert again.next_snapshot(now_ms=mark) == mark


def test_snapshot_numbers_do_not_write_the_disk_each_time(home: Home) -> None:
    store = Store(home)
    store.next_snapshot(now_ms=1_000_000)
    before = home.state.stat().st_mtime_ns, home.state.stat().st_ino
    store.next_snapshot(now_ms=1_060_000)
    assert (home.state.stat().st_mtime_ns, home.state.stat().st_ino) == before


def test_a_state_that_cannot_be_written_is_refused_and_the_old_one_stays(home: Home) -> None:
    store = Store(home)
    store.save(FULL)
    (home.folder / "state.json.new").mkdir()
    with pytest.raises(HomeInvalid, match=r"cannot write .*state\.json"):
        store.save(replace(FULL, floor=9))
    assert store.slots == FULL
    assert Store(home).slots == FULL


def test_two_agents_in_one_home_are_refused(home: Home) -> None:
    with home.locked(), pytest.raises(HomeLocked, match=rf"process {os.getpid()}\) works in"), home.locked():
        pass
    with home.locked():
        pass


def test_the_files_are_for_the_owner_only(home: Home) -> None:
    Store(home).save(FULL)
    assert home.state.stat().st_mode & 0o077 == 0
    assert home.folder.stat().st_mode & 0o077 == 0


WRITER = """
import sys
from pathlib import Path
from dataclasses import replace
from edge_agent.device.home import Home
from edge_agent.runtimes.choice import Choice, Option
from edge_agent.updates.slots import Slots
from edge_agent.updates.store import Store
store = Store(Home(Path(sys.argv[1])))
floor = store.slots.floor
while True:
    floor += 1
    store.save(Slots(floor=floor))
    print(floor, flush=True)
"""


def test_killed_at_any_moment_no_state_that_was_stored_is_lost(home: Home) -> None:
    stored = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(home.folder)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(7):
                stored = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            for line in writer.stdout:
                stored = int(line)
        found = Store(home)
        assert found.lost == ""
        assert found.slots.floor in (stored, stored + 1)
