"""Driving the slots with real files and real checks, and a host that only remembers."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from agent_bundles import KEY, build
from update_host import Host

from edge_agent.device.home import Home
from edge_agent.updates import installer
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.local import AtOnce
from edge_agent.updates.slots import Event, Fact, Held, Phase, Slot, Tell
from edge_agent.updates.store import Store
from edge_agent.updates.unstored import RETRY_S
from edge_agent.updates.updater import DAMAGED, Updater
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.keys import TrustedKeys

FIRST, SECOND = open_bundle(build(version="1")), open_bundle(build(version="2"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def host() -> Host:
    return Host()


def updater(home: Home, host: Host) -> Updater:
    trusted = TrustedKeys.of([KEY.public])
    made = Updater(home, Store(home), None, trusted, host, AtOnce(), Random(1))
    made.start()
    return made


def install(made: Updater, bundle: Bundle) -> None:
    made.stage(bundle, Held(bundle.digest))
    assert made.slots.phase is Phase.TRIAL
    made.judged(Finding(Verdict.HEALTHY))


def test_a_bundle_goes_through_check_and_trial_and_pins_the_one_before(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    install(made, SECOND)
    slots = made.slots
    assert (slots.bundle_in(slots.active), slots.bundle_in(slots.last_good)) == (SECOND.digest, FIRST.digest)
    assert host.served == [None, Slot.A, Slot.B]
    assert [t.event for t in host.told] == ["staged", "trial-started", "confirmed"] * 2
    assert Store(home).slots == slots


def test_an_unhealthy_bundle_goes_back_and_its_slot_is_emptied(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    made.stage(SECOND, Held(SECOND.digest))
    made.judged(Finding(Verdict.UNHEALTHY, "error-rate", "3 of 20"))
    assert host.served[-1] is Slot.A
    assert not home.slot(Slot.B).exists()
    assert host.told[-1] == Tell("rolled-back", SECOND.digest, None, "error-rate", "3 of 20")


def test_a_bundle_that_cannot_be_opened_on_trial_goes_back_by_itself(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    host.faults[Slot.B] = Finding(Verdict.UNHEALTHY, "model-invalid", "no such tensor")
    made.stage(SECOND, Held(SECOND.digest))
    assert made.slots.phase is Phase.IDLE
    assert made.slots.bundle_in(made.slots.active) == FIRST.digest
    assert host.told[-1].code == "model-invalid"


def test_a_damaged_bundle_falls_to_the_last_good_one(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    install(made, SECOND)
    host.faults[Slot.B] = Finding(Verdict.UNHEALTHY, DAMAGED, "another digest")
    again = updater(home, host)
    assert again.slots.bundle_in(again.slots.active) == FIRST.digest
    assert host.served[-2:] == [Slot.B, Slot.A]


def test_a_bundle_whose_runtime_is_gone_is_kept_for_its_return(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    host.faults[Slot.A] = Finding(Verdict.UNHEALTHY, "runtime-unavailable", "no litert")
    again = updater(home, host)
    assert again.slots.bundle_in(again.slots.active) == FIRST.digest
    assert home.slot(Slot.A).exists()


def test_a_damaged_last_good_slot_is_unpinned_at_the_start(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    install(made, SECOND)
    (home.slot(Slot.A) / "golden.npz").write_bytes(b"")
    again = updater(home, host)
    assert again.slots.last_good is None
    assert again.slots.bundle_in(again.slots.active) == SECOND.digest
    assert not home.slot(Slot.A).exists()


def test_when_both_bundles_are_damaged_nothing_answers_and_the_server_may_send_one(
    home: Home, host: Host
) -> None:
    made = updater(home, host)
    install(made, FIRST)
    install(made, SECOND)
    for slot in (Slot.A, Slot.B):
        (home.slot(slot) / "golden.npz").write_bytes(b"")
    host.faults[Slot.B] = Finding(Verdict.UNHEALTHY, DAMAGED, "another digest")
    host.served.clear()
    again = updater(home, host)  # finds out about the active one while it is still with the one before
    assert (again.slots.active, dict(again.slots.held)) == (None, {})
    assert [tell.bundle for tell in host.told if tell.event == "damaged"] == [FIRST.digest, SECOND.digest]
    host.faults.clear()
    install(again, FIRST)
    assert again.slots.bundle_in(again.slots.active) == FIRST.digest


def test_what_cannot_be_stored_does_not_happen_until_it_can(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    served = len(host.served)
    (home.folder / "state.json.new").mkdir()  # from here on the state cannot be written
    made.stage(SECOND, Held(SECOND.digest))
    assert made.is_stuck
    assert made.slots.bundle_in(made.slots.active) == FIRST.digest
    assert len(host.served) == served, "it acted on a state that was not stored"
    assert Store(home).slots == made.slots
    (home.folder / "state.json.new").rmdir()
    made.tick(now_s=0)
    assert not made.is_stuck


def test_a_trial_taken_up_after_a_stop_is_checked_again(home: Home, host: Host) -> None:
    made = updater(home, host)
    made.stage(FIRST, Held(FIRST.digest))
    made.stop()
    assert Store(home).slots.phase is Phase.STAGED
    again = updater(home, host)
    assert again.slots.phase is Phase.TRIAL


def test_a_candidate_that_was_changed_on_the_disk_fails_its_check(home: Home, host: Host) -> None:
    made = updater(home, host)
    made.stage(FIRST, Held(FIRST.digest))
    made.stop()
    (home.slot(Slot.A) / "golden.npz").write_bytes(b"x")
    again = updater(home, host)
    assert again.slots.phase is Phase.IDLE
    assert host.told[-1].code == "digest-mismatch"


def test_the_right_bundle_left_by_a_power_cut_before_it_counted_is_written_anew(
    home: Home, host: Host
) -> None:
    made = updater(home, host)
    made.advance(Event.STAGING)
    installer.place(home, FIRST, Slot.A)  # and then the power went
    again = updater(home, host)
    install(again, SECOND)
    assert again.slots.bundle_in(Slot.A) == SECOND.digest
    installer.verify_slot(home, Slot.A, TrustedKeys.of([KEY.public]), SECOND.digest)


def test_an_event_that_the_phase_does_not_know_is_our_own_fault(home: Home, host: Host) -> None:
    with pytest.raises(AssertionError):
        updater(home, host).advance(Event.CHECKED, Fact())


def test_a_model_that_fails_its_trial_on_a_disk_that_takes_nothing_does_not_go_on_answering(
    home: Home, host: Host
) -> None:
    made = updater(home, host)
    install(made, FIRST)
    made.stage(SECOND, Held(SECOND.digest))
    (home.folder / "state.json.new").mkdir()
    made.judged(Finding(Verdict.UNHEALTHY, "error-rate", "3 of 20"))
    assert host.served[-2:] == [Slot.B, Slot.A]
    assert made.is_stuck
    assert home.slot(Slot.B).exists(), "nothing is erased before it is stored"
    served = len(host.served)
    made.tick(now_s=0)
    made.tick(now_s=100)
    assert len(host.served) == served, "it is switched once"
    (home.folder / "state.json.new").rmdir()
    made.tick(now_s=200)
    assert not made.is_stuck
    assert made.slots.bundle_in(made.slots.active) == FIRST.digest
    assert host.codes()[-2:] == [("disk-failed", "home-invalid"), ("rolled-back", "error-rate")]


def test_a_disk_that_takes_nothing_is_asked_again_after_a_while(home: Home, host: Host) -> None:
    made = updater(home, host)
    install(made, FIRST)
    (home.folder / "state.json.new").mkdir()
    made.stage(SECOND, Held(SECOND.digest))
    made.tick(now_s=0)
    (home.folder / "state.json.new").rmdir()
    made.tick(now_s=RETRY_S / 2)
    assert made.is_stuck
    made.tick(now_s=RETRY_S)
    assert made.slots.phase is Phase.TRIAL, "what was to be staged is staged without being asked for again"


@pytest.mark.parametrize("checked", [True, False], ids=["trial", "staged"])
def test_a_start_on_a_disk_that_takes_nothing_answers_with_the_bundle_before(
    home: Home, host: Host, checked: bool
) -> None:
    made = updater(home, host)
    install(made, FIRST)
    made.stage(SECOND, Held(SECOND.digest))
    if not checked:
        made.stop()  # its trial is taken up by the next start, with its check
    (home.folder / "state.json.new").mkdir()
    host.served.clear()
    again = updater(home, host)
    assert again.is_stuck
    assert host.served == [Slot.A]
