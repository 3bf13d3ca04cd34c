"""A whole device whose disk fills up, turns read-only or is another user's while it works.

The failures are the system's own, put between the daemon and the disk by a preloaded library, so that SQLite
meets them too.
"""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest
from agent_fleet import TinyFleet, until
from fault_harness import build_shim, compiler
from own_mounts import READ_ONLY, mounted
from running_device import AGENT, Device, confirmed, release

from edge_contracts.messages import Event


def shimmed(device: Device, folder: Path, failing: Path) -> dict[str, str]:
    """The environment of a daemon whose disk fails while a file is there."""
    return {
        "LD_PRELOAD": str(build_shim(folder)),
        "FAULT_ROOT": str(device.home.resolve()),
        "FAULT_LOG": "/dev/null",
        "FAULT_FAIL": str(failing),
    }


def events(fleet: TinyFleet) -> list[str]:
    return [record.name for record in fleet.records("event") if isinstance(record, Event)]


def fail(failing: Path, code: int) -> None:
    """Have the disk fail from now on."""
    beside = failing.with_name("failing.new")
    beside.write_text(str(int(code)))
    beside.rename(failing)


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_a_device_whose_disk_fails_goes_on_answering_takes_no_update_and_recovers(
    fleet: TinyFleet, device: Device, tmp_path: Path, code: int
) -> None:
    failing = tmp_path / "failing"
    device.start(environment=shimmed(device, tmp_path, failing))
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    until(lambda: len(fleet.records("window")) >= 2, "windows")

    fail(failing, code)
    before = device.answered()
    release(fleet, "2", number=2, counter=2)
    until(lambda: device.answered() > before + 150, "150 answers with a disk that fails")
    assert device.process is not None
    assert device.process.poll() is None
    assert fleet.running == first, "an update that cannot be stored is not switched to"
    assert device.log.read_text().count("state not stored") <= 3, "it is tried four times a second"
    assert fleet.progress(2) != "confirmed"
    if code == errno.EROFS:
        until(lambda: "disk-failed" in events(fleet), "it says that it cannot store")
        windows = len(fleet.records("window"))
        until(lambda: len(fleet.records("window")) > windows + 2, "windows from memory")

    failing.unlink()
    windows = len(fleet.records("window"))
    until(lambda: len(fleet.records("window")) > windows + 1, "windows again")
    if fleet.progress(2) != "confirmed":
        release(fleet, "3", number=3, counter=3)
        confirmed(fleet, 3)
    if code == errno.EROFS:
        until(lambda: "disk-mended" in events(fleet), "it says that it can store again")
    assert device.end() == 0
    assert fleet.records("gap") == [], "nothing was lost"
    assert fleet.faults == []


def test_a_device_whose_disk_is_mounted_read_only_starts_and_answers(
    fleet: TinyFleet, device: Device, tmp_path: Path
) -> None:
    """As the system does after a fault of a flash card; the outbox is there, with the wrong mode."""
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end(signal.SIGKILL)
    (device.home / "outbox.db").chmod(0o640)
    answers = tmp_path / "read-only.jsonl"
    run = [
        "run",
        "--home",
        str(device.home),
        "--input",
        str(device.inputs),
        "--answers",
        str(answers),
        "--once",
    ]
    done = mounted(READ_ONLY, device.home, *AGENT, *run)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert answers.read_bytes().count(b"\n") == 200


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_a_device_that_starts_with_a_disk_that_is_full_or_read_only_answers(
    fleet: TinyFleet, device: Device, tmp_path: Path, code: int
) -> None:
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end(signal.SIGKILL)
    failing = tmp_path / "failing"
    fail(failing, code)
    before = device.answered()
    device.start(environment=shimmed(device, tmp_path, failing))
    until(lambda: device.answered() > before + 100, "100 answers with a disk that fails")
    device.end(signal.SIGKILL)
    failing.unlink()
    windows = len(fleet.records("window"))
    device.start()
    until(lambda: len(fleet.records("window")) > windows + 1, "windows again")
    assert device.end() == 0
    assert fleet.faults == []
