"""A shadow that the server assigns to the daemon: it runs beside, is reported, gives way, or is let go."""

from __future__ import annotations

import signal
from typing import Any

from agent_bundles import build
from agent_fleet import TinyFleet, until
from running_device import Device, command, confirmed, release

from edge_contracts.bundle import open_bundle
from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import Assignment, Knows

EVERY_INPUT = ShadowTerms(per_mille=1000, cpu_share=1, memory_bytes=1 << 30)


def cast(fleet: TinyFleet, archive: bytes, number: int, **fields: Any) -> str:
    """Assign a bundle as a shadow; its digest."""
    digest = open_bundle(archive).digest
    fleet.assign(archive, digest, number, number, shadow=EVERY_INPUT, **fields)
    return digest


def lying(device: Device) -> set[str]:
    """Folders of bundles beside the slots."""
    folder = device.home / "lineup"
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.exists() else set()


def compared(fleet: TinyFleet, digest: str) -> int:
    """How many inputs a shadow has answered, by the windows of what it ran beside."""
    shadows = [w.lineup.shadow for w in fleet.records("window") if w.lineup is not None]
    return sum(s.compared for s in shadows if s is not None and s.bundle == digest)


def test_an_assigned_shadow_is_reported_and_then_switched_to_without_another_download(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    until(lambda: fleet.states, "hello")
    assert Knows.SHADOW in fleet.states[0].knows
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    candidate = build("float32", key=fleet.publisher, version="2")
    second = cast(fleet, candidate, 2)
    until(lambda: fleet.progress(2) == "shadow", "it runs as a shadow")
    until(lambda: compared(fleet, second) > 0, "its answers are compared")
    assert fleet.running == first
    assert "assigned    shadow" in command("lineup", "show", home=device.home).stdout
    device.end(signal.SIGKILL)
    before = compared(fleet, second)
    device.start()
    until(lambda: compared(fleet, second) > before, "it runs again after a start")
    asked = len(fleet.requests)
    fleet.assign(candidate, second, 3, 3)
    confirmed(fleet, 3)
    assert fleet.running == second
    assert len(fleet.requests) == asked, "what lies here already was downloaded again"
    until(lambda: not (device.home / "shadow.json").exists() and not lying(device), "it is put away")
    assert device.status()["last_good"]["bundle"] == first
    assert {w.bundle for w in fleet.records("window")} == {first, second}
    assert fleet.faults == []


def test_an_aborted_shadow_is_let_go_and_the_slots_have_never_changed(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    first = release(fleet, "2", number=2, counter=2)
    confirmed(fleet, 2)
    slots = {key: device.status()[key] for key in ("active", "last_good", "phase")}
    cast(fleet, build("float32", key=fleet.publisher, version="3"), 3)
    until(lambda: fleet.progress(3) == "shadow", "it runs as a shadow")
    assert len(lying(device)) == 1
    fleet.assignment = Assignment(device=fleet.device, number=4)
    fleet.say_assignment()
    confirmed(fleet, 4)
    until(lambda: not lying(device), "it is put away")
    assert {key: device.status()[key] for key in slots} == slots
    assert fleet.running == first
    assert fleet.faults == []


def test_what_cannot_be_a_shadow_is_refused_with_its_reason(fleet: TinyFleet, device: Device) -> None:
    device.start()
    until(lambda: fleet.states, "hello")
    cast(fleet, build("float32", key=fleet.publisher, version="2"), 1)
    until(lambda: fleet.progress(1) == "refused", "there is nothing that it could run beside")
    assert fleet.reason == "nothing-to-shadow"
    first = release(fleet, "1", number=2, counter=2)
    confirmed(fleet, 2)
    cast(fleet, build("float32", key=fleet.publisher, version="3", latency_p95_ms=0.0001), 3)
    until(lambda: fleet.progress(3) == "refused", "it is too slow")
    assert fleet.reason == "too-slow"
    other = build("float32", key=fleet.publisher, version="4", manifest={"labels": ("x", "y", "z")})
    cast(fleet, other, 4)
    until(lambda: fleet.progress(4) == "refused", "its labels are other")
    assert fleet.reason == "contract-differs"
    assert (fleet.running, lying(device)) == (first, set())
    assert fleet.faults == []


def test_a_shadow_that_is_stopped_says_so_as_a_failed_assignment(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    archive = build("float32", key=fleet.publisher, version="2")
    # three inferences in a row that are slower than this stop it
    terms = EVERY_INPUT.model_copy(update={"latency_ms": 0.0001})
    fleet.assign(archive, open_bundle(archive).digest, 2, 2, shadow=terms)
    until(lambda: fleet.progress(2) == "rolled_back", "it is stopped")
    assert fleet.reason == "latency"
    until(lambda: not lying(device), "it is put away")
    assert fleet.running == first
    assert fleet.faults == []
