"""The life of an assignment: every pair of the table, and those that are not in it."""

from __future__ import annotations

import itertools

import pytest

from edge_contracts import messages
from edge_fleet.assignment import (
    ANSWERED,
    EVENT_OF,
    FAILED,
    OPEN,
    SETTLED,
    TRANSITIONS,
    Event,
    State,
    TransitionInvalid,
    step,
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_is_in_the_table_or_refused(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert step(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(TransitionInvalid, match=f"{state} cannot become {event}"):
            step(state, event)


def test_every_word_of_a_device_is_an_event() -> None:
    assert set(EVENT_OF) == set(messages.Phase)
    assert {EVENT_OF[phase] for phase in messages.FINAL_PHASES} == {
        Event.CONFIRMED,
        Event.ROLLED_BACK,
        Event.REFUSED,
        Event.SHADOW,
        Event.READY,
    }


@pytest.mark.parametrize("phase", list(messages.Phase))
@pytest.mark.parametrize("state", OPEN)
def test_snapshots_may_skip_steps(state: State, phase: messages.Phase) -> None:
    step(state, EVENT_OF[phase])


@pytest.mark.parametrize("phase", list(messages.Phase))
@pytest.mark.parametrize("state", list(State))
def test_hearing_the_same_word_twice_changes_nothing(state: State, phase: messages.Phase) -> None:
    event = EVENT_OF[phase]
    if (state, event) in TRANSITIONS:
        once = step(state, event)
        assert step(once, event) is once


@pytest.mark.parametrize("state", sorted(FAILED))
def test_a_device_cannot_take_back_a_refusal(state: State) -> None:
    with pytest.raises(TransitionInvalid):
        step(state, Event.CONFIRMED)


def test_a_confirmed_device_may_still_go_back_by_itself() -> None:
    assert step(State.CONFIRMED, Event.ROLLED_BACK) is State.ROLLED_BACK


def test_silence_ends_when_the_device_speaks() -> None:
    silent = step(State.TRIAL, Event.SILENT)
    assert silent is State.UNREACHABLE
    assert step(silent, Event.CONFIRMED) is State.CONFIRMED


def test_sending_again_is_not_an_answer() -> None:
    assert step(State.PENDING, Event.SENT) is State.OFFERED
    assert step(State.UNREACHABLE, Event.SENT) is State.UNREACHABLE


def test_silence_is_settled_but_no_answer() -> None:
    assert State.UNREACHABLE in SETTLED
    assert State.UNREACHABLE not in ANSWERED
    assert State.UNREACHABLE not in FAILED


# what an assignment that was answered can still become; whatever else a device says is refused
ANSWERED_CAN_BECOME = {
    State.CONFIRMED: {Event.CONFIRMED: State.CONFIRMED, Event.ROLLED_BACK: State.ROLLED_BACK},
    State.SHADOW: {Event.SHADOW: State.SHADOW, Event.ROLLED_BACK: State.ROLLED_BACK},
    State.ROLLED_BACK: {Event.ROLLED_BACK: State.ROLLED_BACK},
    State.REFUSED: {Event.REFUSED: State.REFUSED},
    State.READY: {
        Event.READY: State.READY,
        Event.RECEIVED: State.OFFERED,  # what lay ready was lost: it is brought again
        Event.DOWNLOADING: State.DOWNLOADING,
        Event.TRIAL: State.TRIAL,
        Event.REFUSED: State.REFUSED,
    },
}


@pytest.mark.parametrize("state", list(State))
def test_what_was_answered_changes_only_so(state: State) -> None:
    found = {event: after for (before, event), after in TRANSITIONS.items() if before is state}
    if state in ANSWERED:
        assert found == ANSWERED_CAN_BECOME[state]
    else:
        assert found.keys() == set(Event), "an open assignment becomes whatever the device says"


def test_every_state_is_open_or_answered() -> None:
    assert set(ANSWERED_CAN_BECOME) == ANSWERED
    assert set(State) == ANSWERED | set(OPEN)
    assert ANSWERED | {State.UNREACHABLE} == SETTLED
    assert {State.ROLLED_BACK, State.REFUSED} == FAILED
