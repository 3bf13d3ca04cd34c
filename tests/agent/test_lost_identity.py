"""A whole device, the files that say who it is damaged: it reports all the same, or at least it answers."""

from __future__ import annotations

from agent_fleet import TinyFleet, until
from running_device import Device, confirmed, release

from edge_contracts.messages import Event


def _mended(fleet: TinyFleet) -> list[str]:
    return [e.detail for e in fleet.records("event") if isinstance(e, Event) and e.name == "identity-mended"]


def test_a_device_whose_config_and_key_are_zeros_starts_reports_and_says_so(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end()
    for name in ("config.json", "device.key"):
        (device.home / name).write_bytes(bytes(400))
    device.start()
    until(lambda: len(_mended(fleet)) == 2, "both are told")
    until(lambda: fleet.running == first, "it answers")
    assert device.end() == 0
    assert fleet.faults == []


def test_a_device_that_has_lost_its_key_goes_on_answering_and_says_what_to_do(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end()
    before = device.answered()
    (device.home / "identity.copy").unlink()
    (device.home / "device.key").write_bytes(b"")
    device.start()
    until(lambda: device.answered() > before + 50, "it answers without a key")
    assert "device.key" in device.asked("status") and "enrol anew" in device.asked("status")
    assert "enroll --force" in device.asked("doctor")
    assert device.end() == 0
    assert "the device's key is lost" in device.log.read_text()
