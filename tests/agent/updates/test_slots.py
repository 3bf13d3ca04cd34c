"""The slots: every pair of phase and event, and the stories that matter."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from edge_agent.updates.slots import (
    Check,
    Erase,
    Event,
    Fact,
    Held,
    Phase,
    Serve,
    Slot,
    Slots,
    Tell,
    TransitionInvalid,
)
from edge_agent.updates.transitions import MAX_CHECKS, TRANSITIONS, beginning, step
from edge_contracts.messages import Phase as Report
from edge_contracts.messages import Progress
from edge_contracts.withdrawal import Withdrawn

OLD = Held("sha256:" + "1" * 64, counter=1, assignment=1)
NEW = Held("sha256:" + "2" * 64, counter=2, assignment=2)
OLDER = Held("sha256:" + "0" * 64, counter=0, assignment=0)

IDLE = Slots(
    held={Slot.A: OLD, Slot.B: OLDER},
    active=Slot.A,
    last_good=Slot.B,
    floor=1,
    number=1,
    progress=Progress(assignment=1, phase=Report.CONFIRMED),
)
STAGED = Slots(
    phase=Phase.STAGED,
    held={Slot.A: OLD, Slot.B: NEW},
    active=Slot.A,
    candidate=Slot.B,
    checks=1,
    floor=1,
    number=2,
    progress=Progress(assignment=2, phase=Report.TRIAL),
)
ON_TRIAL = replace(STAGED, phase=Phase.TRIAL, active=Slot.B, last_good=Slot.A)
IN_PHASE = {Phase.IDLE: IDLE, Phase.STAGED: STAGED, Phase.TRIAL: ON_TRIAL}
# enough for any event: each reads only what it needs
WORD = Withdrawn(n=1, bundles=(OLD.bundle,), reason="it sees ghosts")
FACT = Fact(number=3, held=NEW, slot=Slot.A, withdrawn=WORD, code="because", detail="of a test")


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_every_pair_leads_where_the_table_says_or_is_an_error(phase: Phase, event: Event) -> None:
    if (phase, event) in TRANSITIONS:
        after, _ = step(IN_PHASE[phase], event, FACT)
        assert after.phase is TRANSITIONS[phase, event]
    else:
        with pytest.raises(TransitionInvalid, match=str(event)):
            step(IN_PHASE[phase], event, FACT)


@pytest.mark.parametrize(("phase", "event"), sorted(TRANSITIONS))
def test_whatever_happens_the_slots_stay_consistent(phase: Phase, event: Event) -> None:
    after, actions = step(IN_PHASE[phase], event, FACT)
    if after.active is not None:
        assert after.active in after.held
    assert after.last_good is None or (after.last_good in after.held and after.last_good != after.active)
    assert (after.candidate is not None) == (after.phase is not Phase.IDLE)
    erased = {action.slot for action in actions if isinstance(action, Erase)}
    assert not erased & after.held.keys(), "an erased slot still counts as holding something"
    assert after.floor >= IN_PHASE[phase].floor


@pytest.mark.parametrize(
    "event",
    [
        event
        for (before, event), after in TRANSITIONS.items()
        if before is Phase.TRIAL and after is not Phase.TRIAL and event is not Event.HEALTHY
    ],
)
def test_every_way_out_of_a_trial_but_health_leads_back_to_the_old_bundle(event: Event) -> None:
    after, _ = step(ON_TRIAL, event, FACT)
    assert after.bundle_in(after.active) == OLD.bundle
    assert after.floor == 1


def test_power_loss_on_trial_goes_back_to_the_old_bundle() -> None:
    after, actions = step(ON_TRIAL, *beginning(ON_TRIAL))
    assert after.phase is Phase.IDLE
    assert actions[0] == Serve(Slot.A)
    assert Erase(Slot.B) in actions
    assert after.progress is not None
    assert (after.progress.phase, after.progress.code) == (Report.ROLLED_BACK, "restarted")


def test_a_stop_in_good_order_on_trial_is_tried_again_and_not_held_against_the_bundle() -> None:
    stopped, _ = step(ON_TRIAL, Event.STOPPED)
    after, actions = step(stopped, *beginning(stopped))
    assert after.phase is Phase.STAGED
    assert actions == (Serve(Slot.A), Check(Slot.B))


def test_a_check_that_takes_the_device_down_each_time_is_given_up() -> None:
    slots, starts = STAGED, 0
    while slots.phase is Phase.STAGED:
        slots, _ = step(slots, *beginning(slots))
        starts += 1
        assert starts <= MAX_CHECKS
    assert slots.progress is not None
    assert (slots.progress.phase, slots.progress.code) == (Report.REFUSED, "check-unfinished")
    assert slots.bundle_in(slots.active) == OLD.bundle


def test_a_confirmed_bundle_raises_the_floor_and_pins_the_old_one() -> None:
    after, actions = step(ON_TRIAL, Event.HEALTHY)
    assert (after.active, after.last_good, after.floor) == (Slot.B, Slot.A, 2)
    assert actions == (Tell("confirmed", NEW.bundle, 2),)


def test_a_permitted_downgrade_does_not_lower_the_floor() -> None:
    lower = replace(ON_TRIAL, held={Slot.A: NEW, Slot.B: OLD}, floor=2)
    after, _ = step(lower, Event.HEALTHY)
    assert after.floor == 2


def test_what_the_fleet_has_gone_back_from_is_no_way_back() -> None:
    again = replace(OLD, assignment=3)
    returned = replace(ON_TRIAL, held={Slot.A: NEW, Slot.B: again}, floor=2, number=3)
    after, _ = step(returned, Event.HEALTHY)
    assert (after.active, after.last_good) == (Slot.B, None)
    assert after.held[Slot.A] == NEW, "it may be assigned again"
    unhealthy, _ = step(returned, Event.UNHEALTHY, Fact(code="crash"))
    assert unhealthy.active is Slot.A, "on trial it is still better than nothing"
    by_hand = replace(again, counter=0, assignment=None)
    local, _ = step(replace(returned, held={Slot.A: NEW, Slot.B: by_hand}), Event.HEALTHY)
    assert local.last_good is Slot.A, "a person's bundle says nothing against the one before"


def test_writing_a_candidate_begins_by_giving_up_the_way_back_into_its_slot() -> None:
    after, actions = step(IDLE, Event.STAGING)
    assert after.last_good is None
    assert after.held == {Slot.A: OLD}
    assert actions[0] == Erase(Slot.B)


def test_the_first_bundle_of_a_device_that_fails_leaves_nothing_answering() -> None:
    first, _ = step(Slots(number=1), Event.STAGED, Fact(held=OLD))
    trial, actions = step(first, Event.CHECKED)
    assert Serve(Slot.A) in actions
    after, actions = step(trial, Event.UNHEALTHY, Fact(code="error-rate"))
    assert after.active is None
    assert after.held == {}
    assert actions[:2] == (Serve(None), Erase(Slot.A))


def test_a_new_assignment_on_trial_goes_back_but_keeps_what_was_fetched() -> None:
    after, actions = step(ON_TRIAL, Event.ASSIGNED, Fact(number=3))
    assert actions[0] == Serve(Slot.A)
    assert after.held[Slot.B] == NEW
    assert after.last_good is None, "a bundle that never passed its trial is no way back"
    assert after.progress == Progress(assignment=3, phase=Report.RECEIVED)


def test_the_old_bundle_assigned_again_is_staged_from_its_slot_without_being_pinned() -> None:
    again = Held(OLDER.bundle, counter=0, assignment=3)
    after, actions = step(IDLE, Event.STAGED, Fact(held=again))
    assert after.held[Slot.B] == again
    assert after.last_good is None
    assert actions[0] == Check(Slot.B)


def test_rollback_by_hand_goes_to_the_last_good_one_and_is_reported() -> None:
    after, actions = step(IDLE, Event.ROLLBACK)
    assert after.bundle_in(after.active) == OLDER.bundle
    assert after.last_good is None
    assert after.progress is not None
    assert (after.progress.phase, after.progress.code) == (Report.ROLLED_BACK, "operator")
    assert actions[0] == Serve(Slot.B)


def test_rollback_without_a_last_good_one_is_an_error() -> None:
    with pytest.raises(TransitionInvalid, match="no last good"):
        step(replace(IDLE, last_good=None), Event.ROLLBACK)


def test_a_damaged_active_slot_falls_to_the_last_good_one_and_is_fetched_again() -> None:
    after, actions = step(IDLE, Event.DAMAGED, Fact(slot=Slot.A, detail="model.tflite has another digest"))
    assert after.active is Slot.B
    assert actions[:2] == (Serve(Slot.B), Erase(Slot.A))
    assert after.progress is not None
    assert (after.progress.phase, after.progress.code) == (Report.RECEIVED, "damaged")


def test_a_damaged_last_good_slot_is_no_way_back_any_more() -> None:
    after, actions = step(IDLE, Event.DAMAGED, Fact(slot=Slot.B))
    assert (after.active, after.last_good) == (Slot.A, None)
    assert actions[:2] == (Serve(Slot.A), Erase(Slot.B))
    assert after.progress == IDLE.progress


def test_a_local_install_reports_nothing_about_the_servers_assignment() -> None:
    local = Held(NEW.bundle)
    slots, _ = step(step(IDLE, Event.STAGING)[0], Event.STAGED, Fact(held=local))
    slots, _ = step(slots, Event.CHECKED)
    slots, _ = step(slots, Event.HEALTHY)
    assert slots.progress == IDLE.progress
    assert slots.floor == 1


def test_an_assignment_of_what_runs_already_is_confirmed_with_its_counter() -> None:
    assigned, _ = step(IDLE, Event.ASSIGNED, Fact(number=5))
    after, _ = step(assigned, Event.SATISFIED, Fact(held=Held(OLD.bundle, counter=4)))
    assert after.floor == 4
    assert after.progress == Progress(assignment=5, phase=Report.CONFIRMED)


def test_a_long_reason_is_cut_so_that_it_can_always_be_reported() -> None:
    after, _ = step(ON_TRIAL, Event.UNHEALTHY, Fact(code="c" * 99, detail="d" * 999))
    assert after.progress is not None
    assert (len(after.progress.code), len(after.progress.detail)) == (64, 500)


def test_what_is_removed_for_the_next_bundle_is_told_with_the_reason() -> None:
    after, actions = step(IDLE, Event.STAGING)
    assert actions[0] == Erase(Slot.B)
    told = actions[1]
    assert isinstance(told, Tell)
    assert (told.event, told.bundle, told.code) == ("cleaned-up", OLDER.bundle, "place-needed")
    assert "the last good bundle" in told.detail
    assert step(after, Event.STAGING)[1] == (Erase(Slot.B),), "told although nothing was there"


def test_a_shadow_that_runs_is_told_and_leaves_the_slots_as_they_are() -> None:
    assigned, _ = step(IDLE, Event.ASSIGNED, Fact(number=2))
    after, actions = step(assigned, Event.SHADOWED, Fact(held=NEW))
    assert after.progress is not None and after.progress.phase is Report.SHADOW
    assert (after.held, after.active, after.last_good) == (IDLE.held, IDLE.active, IDLE.last_good)
    assert [type(action) for action in actions] == [Tell]


@pytest.mark.parametrize("phase", list(Phase))
def test_a_shadow_that_is_stopped_changes_only_what_is_told_of_it(phase: Phase) -> None:
    shadowing = replace(IN_PHASE[phase], progress=Progress(assignment=2, phase=Report.SHADOW))
    after, actions = step(shadowing, Event.SHADOW_STOPPED, Fact(code="memory"))
    assert after.progress is not None
    assert (after.progress.phase, after.progress.code) == (Report.ROLLED_BACK, "memory")
    assert replace(after, progress=shadowing.progress) == shadowing and actions == ()
    # something else is assigned by now: what is told of that stays
    assert step(IN_PHASE[phase], Event.SHADOW_STOPPED, Fact(code="memory")) == (IN_PHASE[phase], ())


READY_B = replace(
    IDLE,
    held={Slot.A: OLD, Slot.B: replace(NEW, hold=True)},
    last_good=None,
    number=2,
    progress=Progress(assignment=2, phase=Report.READY),
)


def test_what_is_to_wait_lies_checked_in_its_slot_and_nobody_goes_over_to_it() -> None:
    staged = replace(STAGED, held={Slot.A: OLD, Slot.B: replace(NEW, hold=True)})
    after, actions = step(staged, Event.READIED, FACT)
    assert after == replace(READY_B, held=after.held, progress=after.progress)
    assert (after.active, after.candidate, after.checks) == (Slot.A, None, 0)
    assert not any(isinstance(action, Serve) for action in actions)
    again, _ = step(after, Event.RESTARTED)
    assert again == after


def test_what_lies_ready_and_is_damaged_or_gives_way_is_told_and_fetched_again() -> None:
    damaged, _ = step(READY_B, Event.DAMAGED, Fact(slot=Slot.B, code="damaged"))
    gave_way, _ = step(READY_B, Event.STAGING)
    for after, code in ((damaged, "damaged"), (gave_way, "place-needed")):
        assert after.progress is not None
        assert (after.progress.phase, after.progress.code) == (Report.RECEIVED, code)
        assert (after.active, Slot.B in after.held) == (Slot.A, False)


def test_what_a_stolen_director_has_withdrawn_is_not_withdrawn_in_the_next_era() -> None:
    barred = Slots(number=1 << 62, withdrawn=Withdrawn(n=1 << 62, bundles=(NEW.bundle,)))
    same, _ = step(barred, Event.ASSIGNED, Fact(number=1))
    assert same.is_withdrawn(NEW.bundle)
    anew, _ = step(barred, Event.ASSIGNED, Fact(number=1, era=1, withdrawn=WORD))
    assert (anew.number, anew.era, anew.withdrawn) == (1, 1, WORD)


# the table once more, by where it leads: a line that is lost there or added is seen here
E = Event
STAYS = {E.SHADOW_STOPPED, E.DAMAGED, E.BARRED, E.WITHDRAWN}
MOVES = {
    (Phase.IDLE, Phase.IDLE): STAYS
    | {E.ASSIGNED, E.DOWNLOADING, E.WAITING, E.REFUSED, E.SATISFIED, E.KEPT, E.SHADOWED, E.STAGING}
    | {E.ROLLBACK, E.STOPPED, E.RESTARTED},
    (Phase.IDLE, Phase.STAGED): {E.STAGED},
    (Phase.STAGED, Phase.IDLE): {E.ASSIGNED, E.CHECK_FAILED, E.READIED, E.ROLLBACK},
    (Phase.STAGED, Phase.STAGED): STAYS | {E.STOPPED, E.RESTARTED},
    (Phase.STAGED, Phase.TRIAL): {E.CHECKED},
    (Phase.TRIAL, Phase.IDLE): {E.ASSIGNED, E.HEALTHY, E.UNHEALTHY, E.ROLLBACK, E.RESTARTED},
    (Phase.TRIAL, Phase.TRIAL): STAYS,
    (Phase.TRIAL, Phase.STAGED): {E.STOPPED},
}


def test_what_can_happen_in_a_phase_is_this_and_nothing_else() -> None:
    found: dict[tuple[Phase, Phase], set[Event]] = {}
    for (before, event), after in TRANSITIONS.items():
        found.setdefault((before, after), set()).add(event)
    assert found == MOVES


def test_a_restart_on_trial_is_the_trials_failure_however_often_it_was_checked() -> None:
    assert beginning(replace(ON_TRIAL, checks=MAX_CHECKS)) == (Event.RESTARTED, Fact())
    assert MAX_CHECKS == 3, "what is tried again and again keeps a device from its work"


def test_the_spare_slot_is_never_the_one_that_answers() -> None:
    assert (Slots().spare, replace(IDLE, active=Slot.A).spare) == (Slot.A, Slot.B)
    assert replace(IDLE, active=Slot.B).spare is Slot.A
