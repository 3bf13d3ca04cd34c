"""What is on its way: every pair of state and event, and when things are sent again."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from edge_agent.telemetry.flight import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    TRANSITIONS,
    WINDOW,
    Envelope,
    Event,
    Flight,
)

LONG_S = 10_000.0


@pytest.mark.parametrize(("state", "event"), list(itertools.product(Envelope, Event)))
def test_what_is_gone_stays_gone_and_all_else_can_only_be_sent_from_the_queue(
    state: Envelope, event: Event
) -> None:
    after = TRANSITIONS.get((state, event))
    if state is Envelope.GONE:
        assert after is None
    elif event is Event.SENT:
        assert after is (Envelope.IN_FLIGHT if state is Envelope.QUEUED else None)
    else:
        assert after is (Envelope.GONE if event is Event.ACKNOWLEDGED else Envelope.QUEUED)


def flight() -> Flight:
    return Flight(Random(1))


def test_what_is_on_its_way_is_not_sent_twice() -> None:
    f = flight()
    f.sent([1, 2], now_s=0)
    with pytest.raises(AssertionError, match="envelope 2, which is in-flight"):
        f.sent([2], now_s=1)


def test_no_more_than_a_window_is_on_its_way() -> None:
    f = flight()
    f.sent(range(WINDOW), now_s=0)
    assert f.room == 0
    f.acknowledged(9, now_s=1)
    assert f.room == 10


def test_nothing_is_sent_again_before_the_wait_is_over() -> None:
    f = flight()
    f.sent([1], now_s=0)
    assert not f.overdue(now_s=FIRST_WAIT_S * 0.74)
    assert f.overdue(now_s=FIRST_WAIT_S * 1.5)
    assert f.flying == frozenset()


def waits(f: Flight, rounds: int) -> list[float]:
    """How long each round without an answer lasts, to a tenth of a second."""
    now_s, found = 0.0, []
    for _ in range(rounds):
        began = now_s
        f.sent([1], now_s)
        while not f.overdue(now_s):
            now_s += 0.1
        found.append(now_s - began)
    return found


def test_each_wait_without_an_answer_is_longer_up_to_a_bound() -> None:
    found = waits(flight(), 10)
    for index, wait_s in enumerate(found):
        nominal = min(FIRST_WAIT_S * 2**index, LONGEST_WAIT_S)
        assert 0.75 * nominal <= wait_s <= 1.5 * nominal + 0.2


def test_two_devices_do_not_wait_equally_long() -> None:
    assert waits(Flight(Random(1)), 1) != waits(Flight(Random(2)), 1)


def test_an_answer_makes_the_wait_short_again() -> None:
    f = flight()
    waits(f, 8)
    f.sent([1, 2], now_s=LONG_S)
    f.acknowledged(1, now_s=LONG_S)
    assert f.flying == frozenset({2})
    assert f.overdue(now_s=LONG_S + FIRST_WAIT_S * 1.5)


def test_word_from_the_server_cuts_a_long_wait_short() -> None:
    f = flight()
    waits(f, 8)
    f.sent([1], now_s=LONG_S)
    f.heard(now_s=LONG_S)
    assert f.overdue(now_s=LONG_S + FIRST_WAIT_S * 1.5)


def test_a_lost_connection_queues_everything_at_once() -> None:
    f = flight()
    f.sent([1, 2], now_s=0)
    f.disconnected()
    assert f.flying == frozenset()
    assert not f.overdue(now_s=LONG_S)


def test_more_that_is_sent_does_not_put_off_what_is_due() -> None:
    f = flight()
    f.sent([1], now_s=0)
    f.sent([2], now_s=FIRST_WAIT_S * 0.7)
    assert f.overdue(now_s=FIRST_WAIT_S * 1.5)
    assert f.flying == frozenset()


def test_word_from_the_server_hurries_nothing_that_is_not_on_its_way() -> None:
    f = flight()
    f.heard(now_s=0)
    assert not f.overdue(now_s=LONG_S)
    f.sent([1], now_s=LONG_S)
    f.heard(now_s=LONG_S)
    assert not f.overdue(now_s=LONG_S), "what was sent just now is given its time"
    f.acknowledged(1, now_s=LONG_S)
    assert not f.overdue(now_s=2 * LONG_S), "nothing is on its way"
