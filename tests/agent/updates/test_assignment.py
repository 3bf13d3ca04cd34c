"""What an assignment asks of a device, decided case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.updates.assignment import (
    CLOCK_IS_SET_MS,
    Fetch,
    Ignore,
    Keep,
    Refuse,
    Reuse,
    Satisfied,
    decide,
    is_news,
)
from edge_agent.updates.slots import Held, Phase, Slot, Slots
from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import Assignment, Progress
from edge_contracts.messages import Phase as Report
from edge_contracts.withdrawal import Withdrawn

OLD, NEW, THIRD = ("sha256:" + digit * 64 for digit in "123")
NOW_MS = CLOCK_IS_SET_MS + 1_000_000
RECEIVED = Slots(
    held={Slot.A: Held(OLD, 3, 1), Slot.B: Held(THIRD, 2)},
    active=Slot.A,
    last_good=Slot.B,
    floor=3,
    number=7,
    progress=Progress(assignment=7, phase=Report.RECEIVED),
)


def assignment(**changes: Any) -> Assignment:
    fields = {
        "device": "cam-1",
        "number": 7,
        "bundle": NEW,
        "archive": NEW,
        "archive_bytes": 10,
        "counter": 4,
    }
    return Assignment.model_validate(fields | changes)


def test_a_new_bundle_is_fetched_with_its_counter_and_number() -> None:
    assert decide(assignment(), RECEIVED, NOW_MS, busy=False) == Fetch(Held(NEW, 4, 7))


@pytest.mark.parametrize(("number", "news"), [(6, False), (7, False), (8, True)])
def test_only_a_higher_number_is_news(number: int, news: bool) -> None:
    assert is_news(assignment(number=number), RECEIVED) is news


def test_no_assignment_is_no_news_to_a_device_that_never_had_one() -> None:
    assert not is_news(Assignment(device="cam-1", number=0), Slots())
    assert is_news(Assignment(device="cam-1", number=8), RECEIVED)


@pytest.mark.parametrize("bundle", [NEW, None])
def test_numbers_begin_anew_where_a_publisher_has_said_who_directs(bundle: str | None) -> None:
    told = assignment(number=3, bundle=bundle)
    held_up = replace(RECEIVED, number=1 << 62)
    assert not is_news(told, held_up)
    assert is_news(told, held_up, era=1)
    assert not is_news(told, replace(held_up, era=1), era=1)


def test_an_old_number_is_a_replay() -> None:
    assert isinstance(decide(assignment(number=6), RECEIVED, NOW_MS, busy=False), Ignore)


@pytest.mark.parametrize("phase", [Report.CONFIRMED, Report.REFUSED, Report.ROLLED_BACK])
def test_what_was_answered_is_not_begun_again(phase: Report) -> None:
    answered = replace(RECEIVED, progress=Progress(assignment=7, phase=phase))
    assert isinstance(decide(assignment(), answered, NOW_MS, busy=False), Ignore)


def test_what_is_under_way_is_not_begun_twice() -> None:
    assert isinstance(decide(assignment(), RECEIVED, NOW_MS, busy=True), Ignore)
    staged = replace(RECEIVED, phase=Phase.STAGED, candidate=Slot.B)
    assert isinstance(decide(assignment(), staged, NOW_MS, busy=False), Ignore)


def test_a_lower_counter_is_refused_unless_it_is_permitted() -> None:
    refused = decide(assignment(counter=2), RECEIVED, NOW_MS, busy=False)
    assert isinstance(refused, Refuse)
    assert refused.code == "downgrade"
    permitted = assignment(counter=2, permit_downgrade=True)
    assert isinstance(decide(permitted, RECEIVED, NOW_MS, busy=False), Fetch)
    assert isinstance(decide(assignment(counter=3), RECEIVED, NOW_MS, busy=False), Fetch)


def test_what_runs_already_satisfies() -> None:
    assert decide(assignment(bundle=OLD), RECEIVED, NOW_MS, busy=False) == Satisfied(Held(OLD, 4, 7))


def test_what_lies_in_the_other_slot_is_not_fetched_again() -> None:
    assert decide(assignment(bundle=THIRD), RECEIVED, NOW_MS, busy=False) == Reuse(Slot.B, Held(THIRD, 4, 7))


def test_nothing_assigned_keeps_what_is_there() -> None:
    assert decide(Assignment(device="cam-1", number=7), RECEIVED, NOW_MS, busy=False) == Keep()


def test_an_expired_assignment_is_not_begun() -> None:
    refused = decide(assignment(expires_ms=NOW_MS - 1), RECEIVED, NOW_MS, busy=False)
    assert isinstance(refused, Refuse)
    assert refused.code == "expired"
    assert isinstance(decide(assignment(expires_ms=NOW_MS + 1), RECEIVED, NOW_MS, busy=False), Fetch)


def test_a_clock_that_was_never_set_expires_nothing() -> None:
    assert isinstance(decide(assignment(expires_ms=1000), RECEIVED, now_ms=2000, busy=False), Fetch)


def test_the_first_assignment_ever_is_news_whatever_its_number() -> None:
    assert is_news(assignment(number=0), Slots())
    assert is_news(Assignment(device="cam-1", number=1), Slots(number=0))


@pytest.mark.parametrize("permit", [False, True])
def test_what_the_fleet_has_withdrawn_is_refused_with_its_reason(permit: bool) -> None:
    word = Withdrawn(n=1, bundles=(NEW,), reason="it sees ghosts")
    told = assignment(permit_downgrade=permit)
    refused = decide(told, replace(RECEIVED, withdrawn=word), NOW_MS, busy=False)
    assert refused == Refuse("withdrawn", "withdrawn by the fleet: it sees ghosts")
    other = replace(RECEIVED, withdrawn=word.model_copy(update={"bundles": (THIRD,)}))
    assert isinstance(decide(told, other, NOW_MS, busy=False), Fetch)
    silent = replace(RECEIVED, withdrawn=word.model_copy(update={"reason": ""}))
    assert decide(told, silent, NOW_MS, busy=False) == Refuse("withdrawn", "withdrawn by the fleet")


SHADOW = ShadowTerms(per_mille=50, cpu_share=0.25, memory_bytes=1 << 27)


def test_a_shadow_needs_a_model_that_answers() -> None:
    refused = decide(assignment(shadow=SHADOW), replace(RECEIVED, active=None), NOW_MS, busy=False)
    assert isinstance(refused, Refuse) and refused.code == "nothing-to-shadow"
    assert isinstance(decide(assignment(), replace(RECEIVED, active=None), NOW_MS, busy=False), Fetch)
    assert isinstance(decide(assignment(shadow=SHADOW), RECEIVED, NOW_MS, busy=False), Fetch)


def test_a_shadow_is_not_run_out_of_the_slot_that_holds_the_last_good_bundle() -> None:
    told = assignment(bundle=THIRD, shadow=SHADOW)
    assert isinstance(decide(told, RECEIVED, NOW_MS, busy=False), Fetch)


def test_in_its_last_millisecond_an_assignment_is_still_begun() -> None:
    assert isinstance(decide(assignment(expires_ms=NOW_MS), RECEIVED, NOW_MS, busy=False), Fetch)
