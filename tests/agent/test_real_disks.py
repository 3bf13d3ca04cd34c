"""A whole device on a real file system that runs full, fails or wears out in the middle of an update.

The daemon is stopped right before one of its own operations, the disk is made to fail, and it goes on. With
EDGEFLEET_DISK_FAULTS=all each fault is tried at each moment, some minutes long.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_fleet import TinyFleet, until
from fault_harness import build_shim, compiler
from real_disk import RealDisk, real_disk
from running_device import AGENT, Device, confirmed, enrolled, release

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

# Right before what the disk fails: kind of the operation, part of its path, part of what is written.
MOMENTS = {
    "download": "write\t.part\t",
    "archive": "rename\t.bundle\t",
    "unpack": "write\t.new/\t",
    "slot": "rename\tslots/\t",
    "staged": 'write\tstate.json.new\t"phase":"staged"',
    "trial": 'write\tstate.json.new\t"active":"b"',
    "confirm": 'write\tstate.json.new\t"phase":"confirmed"',
}
ROLLED_BACK = 'write\tstate.json.new\t"phase":"rolled_back"'
ALL = os.environ.get("EDGEFLEET_DISK_FAULTS") == "all"
# before the first byte a full disk is no place for an update (docs/decisions/0062)
FULL = [moment for moment in MOMENTS if moment != "download"] if ALL else ["unpack", "confirm"]
BROKEN = [("abort", "trial"), ("wear_out", "archive")]
if ALL:
    BROKEN = [(fault, moment) for fault in ("abort", "wear_out") for moment in MOMENTS]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RealDisk]:
    with real_disk(tmp_path / "real") as made:
        yield made


@pytest.fixture
def device(tmp_path: Path, fleet: TinyFleet, disk: RealDisk) -> Iterator[Device]:
    with enrolled(tmp_path, fleet, disk.folder / "device", disk.prefix) as made:
        yield made


class Stage:
    """A device whose first bundle is confirmed, and the place where its daemon is stopped next."""

    def __init__(self, fleet: TinyFleet, device: Device, folder: Path) -> None:
        self.fleet, self.device, self._stop = fleet, device, folder / "stop"
        shim = {"LD_PRELOAD": str(build_shim(folder)), "FAULT_ROOT": str(device.home)}
        device.start(environment={**shim, "FAULT_LOG": "/dev/null", "FAULT_STOP": str(self._stop)})
        self.number, self.good = 1, release(fleet, "1", number=1, counter=1)
        confirmed(fleet, 1)

    def stop_before(self, moment: str) -> None:
        self._stop.write_text(moment)

    def release(self) -> str:
        """Assign another bundle; its digest."""
        self.number += 1
        return release(self.fleet, str(self.number), number=self.number, counter=self.number)

    def stands(self) -> bool:
        """Whether the daemon is where it was to be stopped."""
        process = self.device.process
        assert process is not None
        assert process.poll() is None, self.device.log.read_text()[-2000:]
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        assert self.device.process is not None
        self.device.process.send_signal(signal.SIGCONT)
        self.answers()

    def answers(self) -> None:
        """It answers a hundred inputs more, with the bundle that it had."""
        before = self.device.answered()
        until(lambda: self.device.answered() > before + 100, "100 answers with a disk that fails")
        assert self.device.process is not None
        assert self.device.process.poll() is None, self.device.log.read_text()[-2000:]

    def owns_up(self, reason: str) -> None:
        """Who asks the device is told what is wrong, and nothing else; its log is not filled."""
        found = f"nothing can be stored on the disk: {reason}"
        # the first write that fails may fail otherwise than those after it
        until(lambda: found in self.device.asked("status"), found)
        page, examined = self.device.asked("status"), self.device.asked("doctor")
        assert "cannot be opened" not in page
        assert f"cannot be written: {reason}" in examined
        log = self.device.log.read_text()
        assert "Traceback" not in log
        for line in ("state not stored", "telemetry in memory", "telemetry cannot be numbered"):
            assert log.count(line) <= 4 * self.number, log[-3000:]


@pytest.fixture
def stage(fleet: TinyFleet, device: Device, tmp_path: Path) -> Stage:
    return Stage(fleet, device, tmp_path)


def test_an_update_goes_on_when_a_full_disk_has_room_again(
    fleet: TinyFleet, device: Device, disk: RealDisk, stage: Stage
) -> None:
    for moment in FULL:
        stage.stop_before(MOMENTS[moment])
        digest = stage.release()
        until(stage.stands, f"it stands before {moment}")
        disk.fill()
        stage.go_on()
        # a block that the daemon itself sets free may be enough to go on with
        assert fleet.running in (stage.good, digest), moment
        stage.owns_up("No space left on device")
        disk.mend()
        until(lambda: fleet.progress(stage.number) == "confirmed", "the update is confirmed")
        until(lambda digest=digest: fleet.running == digest, "the new bundle answers")  # type: ignore[misc]
        stage.good = digest
    until(lambda: [e for e in fleet.records("event") if e.name == "disk-failed"], "the event of it")
    assert device.end() == 0
    assert fleet.records("gap") == [], "nothing was lost"
    assert fleet.faults == []


@pytest.mark.parametrize(("fault", "moment"), BROKEN)
def test_an_update_goes_on_when_a_disk_that_broke_is_mended(
    fleet: TinyFleet, device: Device, disk: RealDisk, stage: Stage, fault: str, moment: str
) -> None:
    """The kernel lets nothing be written any more; what mends that is a start of the machine, as a rule."""
    stage.stop_before(MOMENTS[moment])
    digest = stage.release()
    until(stage.stands, f"it stands before {moment}")
    disk.abort() if fault == "abort" else disk.wear_out()
    stage.go_on()
    assert fleet.progress(2) != "confirmed"
    assert fleet.running == (digest if moment == "confirm" else stage.good)
    if moment != "confirm":
        until(lambda: fleet.reason == "home-invalid", "the server is told why it stands")
    stage.owns_up("Read-only file system")
    device.end(signal.SIGKILL)
    device.start()  # the disk is as broken as before
    stage.answers()
    assert device.end() == 0
    assert "Traceback" not in device.log.read_text()

    disk.mount_again()
    device.start()
    # a trial that a restart has ended counts as a failed one
    end = "rolled_back" if moment == "confirm" else "confirmed"
    until(lambda: fleet.progress(2) == end, f"the update is {end}")
    assert device.end() == 0
    assert fleet.faults == []


def test_a_way_back_that_is_ordered_of_a_full_disk_is_gone_when_there_is_room(
    fleet: TinyFleet, device: Device, disk: RealDisk, stage: Stage
) -> None:
    second = stage.release()
    confirmed(fleet, 2)
    stage.stop_before(ROLLED_BACK)
    line = [*device.prefix, *AGENT, "rollback", "--home", str(device.home)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        until(stage.stands, "it stands before it goes back")
        disk.fill()
        stage.go_on()
        assert fleet.running in (stage.good, second)
        _, said = command.communicate(timeout=20)
    # new state, or not even the answer that says so; or a block that was set free was enough
    assert "the disk takes no" in said or command.returncode == 0
    stage.owns_up("No space left on device")
    disk.mend()
    back = "it has gone back"
    until(lambda: fleet.progress(2) == "rolled_back" and fleet.running == stage.good, back)
    assert fleet.reason == "operator"
    assert device.end() == 0
