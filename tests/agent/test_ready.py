"""A release that is to lie ready at the daemon: brought, checked, reported; switched to on another word."""

from __future__ import annotations

import signal

from agent_bundles import build
from agent_fleet import TinyFleet, until
from running_device import Device, confirmed, release

from edge_agent.device.home import Home
from edge_agent.updates.store import Store
from edge_contracts.bundle import open_bundle
from edge_contracts.messages import Assignment, Knows


def test_it_lies_ready_over_a_crash_and_is_switched_to_without_a_download(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    assert Knows.HOLD in fleet.states[0].knows
    archive = build("float32", key=fleet.publisher, version="2")
    second = open_bundle(archive).digest
    fleet.assign(archive, second, 2, 2, hold=True)
    until(lambda: fleet.progress(2) == "ready", "it is ready")
    before = device.answered()
    until(lambda: device.answered() > before + 50, "what was there goes on answering")
    assert (fleet.running, fleet.states[-1].counter) == (first, 1)
    device.end(signal.SIGKILL)
    device.start()
    asked, count = len(fleet.requests), len(fleet.states)
    until(lambda: len(fleet.states) > count + 1 and fleet.progress(2) == "ready", "it is ready still")
    assert fleet.running == first
    fleet.assign(archive, second, 3, 2)
    confirmed(fleet, 3)
    assert (fleet.running, len(fleet.requests)) == (second, asked)
    assert device.status()["last_good"]["bundle"] == first
    assert fleet.faults == []


def test_called_off_it_is_never_switched_to(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    archive = build("float32", key=fleet.publisher, version="2")
    fleet.assign(archive, open_bundle(archive).digest, 2, 2, hold=True)
    until(lambda: fleet.progress(2) == "ready", "it is ready")
    fleet.assignment = Assignment(device=fleet.device, number=3)
    fleet.say_assignment()
    confirmed(fleet, 3)
    device.end()
    device.start()
    until(lambda: fleet.running == first, "what was there answers after a start")
    assert {w.bundle for w in fleet.records("window")} == {first}
    assert fleet.faults == []


def test_one_that_is_damaged_while_it_waits_is_fetched_again(fleet: TinyFleet, device: Device) -> None:
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    archive = build("float32", key=fleet.publisher, version="2")
    fleet.assign(archive, open_bundle(archive).digest, 2, 2, hold=True)
    until(lambda: fleet.progress(2) == "ready", "it is ready")
    device.end()
    home = Home(device.home)
    (artifact,) = (home.slot(Store(home).slots.spare) / "artifacts").iterdir()
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"?")
    asked = len(fleet.requests)
    device.start()
    until(lambda: len(fleet.requests) > asked, "it is fetched again")
    until(lambda: fleet.progress(2) == "ready" and len(fleet.requests) > asked, "it is ready again")
    assert fleet.faults == []


def test_one_that_fails_its_check_is_refused_before_anybody_switches(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    archive = build("float32", key=fleet.publisher, version="2", latency_p95_ms=0.0001)
    fleet.assign(archive, open_bundle(archive).digest, 2, 2, hold=True)
    until(lambda: fleet.progress(2) == "refused", "it is too slow")
    assert (fleet.reason, fleet.running) == ("too-slow", first)
    assert fleet.faults == []
