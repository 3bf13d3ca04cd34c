"""A fleet that switches a model off at the daemon: it stops answering, says why, and takes another later."""

from __future__ import annotations

import signal

from agent_bundles import build
from agent_fleet import TinyFleet, until
from running_device import Device, command, confirmed, release

from edge_contracts.bundle import open_bundle
from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import Knows
from edge_contracts.withdrawal import Withdrawn


def withdraw(fleet: TinyFleet, n: int, *bundles: str) -> None:
    """Say with the newest assignment what is withdrawn, and wait until the device has stored it."""
    assert fleet.assignment is not None
    word = Withdrawn(n=n, bundles=bundles, reason="it sees ghosts")
    fleet.assignment = fleet.assignment.model_copy(update={"withdrawn": word})
    fleet.say_assignment()
    until(lambda: fleet.states[-1].withdrawn == n, "the word is stored")


def test_a_first_release_is_switched_off_and_stays_off_over_a_crash(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    assert Knows.WITHDRAWN in fleet.states[0].knows
    withdraw(fleet, 1, first)
    until(lambda: fleet.states[-1].active is None, "nothing answers")
    assert (fleet.progress(1), fleet.reason) == ("rolled_back", "withdrawn")
    assert (
        "no answers: the model was withdrawn by the fleet: it sees ghosts"
        in command("status", home=device.home).stdout
    )
    device.end(signal.SIGKILL)
    answered, states = device.answered(), len(fleet.states)
    device.start()
    until(lambda: len(fleet.states) > states + 2, "it says where it stands")
    assert (fleet.states[-1].active, fleet.states[-1].withdrawn) == (None, 1)
    assert device.answered() == answered
    second = release(fleet, "2", number=2, counter=2)
    confirmed(fleet, 2)
    until(lambda: device.answered() > answered and fleet.running == second, "another release answers")
    assert "withdrawn" in {event.name for event in fleet.records("event")}
    assert fleet.faults == []


def test_a_release_with_one_before_it_gives_way_to_that(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    second = release(fleet, "2", number=2, counter=2)
    confirmed(fleet, 2)
    withdraw(fleet, 7, second)
    until(lambda: fleet.running == first, "the one before answers")
    before = device.answered()
    until(lambda: device.answered() > before + 20, "and goes on answering")
    assert fleet.faults == []


def test_an_assigned_shadow_is_stopped_too(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    candidate = build("float32", key=fleet.publisher, version="2")
    digest = open_bundle(candidate).digest
    terms = ShadowTerms(per_mille=1000, cpu_share=1, memory_bytes=1 << 30)
    fleet.assign(candidate, digest, 2, 2, shadow=terms)
    until(lambda: fleet.progress(2) == "shadow", "it runs as a shadow")
    withdraw(fleet, 1, digest)
    until(lambda: fleet.progress(2) == "rolled_back", "the shadow is stopped")
    assert (fleet.reason, fleet.running) == ("withdrawn", first)
    until(lambda: not (device.home / "shadow.json").exists(), "it is put away")
    assert fleet.faults == []
