"""The daemon and its clock: one that was never set, and one that jumps."""

from __future__ import annotations

from pathlib import Path

from agent_bundles import build
from agent_fleet import TinyFleet, until
from running_device import Device, confirmed, release

from edge_contracts.bundle import open_bundle

WALL_CLOCK = """
import os, time
real = time.time
def wall():
    said = open({file!r}).read()
    return float(said[1:]) if said.startswith("@") else real() + float(said)
time.time = wall
time.time_ns = lambda: int(wall() * 1e9)
"""


class Clock:
    """The wall clock of a Python that is started with `environment`; its monotonic clock stays true."""

    def __init__(self, folder: Path, time: str) -> None:
        self._file = folder / "clock"
        self.set(time)
        (folder / "clocked").mkdir()
        (folder / "clocked" / "sitecustomize.py").write_text(WALL_CLOCK.format(file=str(self._file)))
        self.environment = {"PYTHONPATH": str(folder / "clocked")}

    def set(self, time: str) -> None:
        """Jump: seconds from the true time ("-3600"), or "@" and Unix seconds, where it stands still."""
        beside = self._file.with_name("clock.new")
        beside.write_text(time)
        beside.replace(self._file)


def test_a_device_in_1970_takes_updates_and_reports(fleet: TinyFleet, device: Device, tmp_path: Path) -> None:
    clock = Clock(tmp_path, "@60")
    device.start(environment=clock.environment)
    in_2020 = 1_600_000_000_000
    archive = build("float32", key=fleet.publisher, version="1")
    fleet.assign(archive, open_bundle(archive).digest, number=1, counter=1, expires_ms=in_2020)
    confirmed(fleet, 1)
    until(lambda: fleet.records("window"), "a window")
    assert all(w.end_ms < 365 * 86_400_000 for w in fleet.records("window"))
    clock.set("0")  # and now it has learnt what time it is
    until(lambda: any(w.clock_step_ms > 0 for w in fleet.records("window")), "a window that tells the jump")
    # what was to be begun in 2020 is too late now
    archive = build("float32", key=fleet.publisher, version="2")
    fleet.assign(archive, open_bundle(archive).digest, number=2, counter=2, expires_ms=in_2020)
    until(lambda: fleet.progress(2) == "refused", "it is refused")
    assert fleet.reason == "expired"
    assert fleet.faults == []


def test_a_clock_that_jumps_back_and_forth_disturbs_nothing(
    fleet: TinyFleet, device: Device, tmp_path: Path
) -> None:
    clock = Clock(tmp_path, "0")
    device.start(environment=clock.environment)
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    for number, jump in enumerate(("-34560000", "630720000", "0"), 2):
        clock.set(jump)
        count = len(fleet.states)
        until(lambda n=count: len(fleet.states) > n + 1, "two more hellos")  # type: ignore[misc]
        release(fleet, str(number), number=number, counter=number)
        confirmed(fleet, number)
    until(lambda: device.status()["outbox"]["waiting"] == 0, "all is acknowledged")
    assert device.end() == 0
    windows = fleet.records("window")
    assert all(w.duration_ms < 60_000 for w in windows), "a window's length follows the wall clock"
    steps = [w.clock_step_ms for w in windows if w.clock_step_ms]
    assert [step > 0 for step in steps] == [False, True, False]
    numbers = [s.n for s in fleet.states]
    assert numbers == sorted(set(numbers)), "a snapshot's number went back"
    assert fleet.faults == []
