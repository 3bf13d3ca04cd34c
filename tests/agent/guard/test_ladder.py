"""The ladder is a table: every pair is a step or an error, and every way down ends at rest."""

from __future__ import annotations

import itertools

import pytest

from edge_agent.guard.ladder import AT_REST, TRANSITIONS, Event, LadderBroken, Rung, step


@pytest.mark.parametrize(("rung", "event"), list(itertools.product(Rung, Event)))
def test_every_pair_is_in_the_table_or_an_error(rung: Rung, event: Event) -> None:
    if (rung, event) in TRANSITIONS:
        assert step(rung, event) is TRANSITIONS[rung, event]
    else:
        with pytest.raises(LadderBroken, match=f"{event} on rung {rung}"):
            step(rung, event)


def test_the_way_down_is_the_one_that_is_written() -> None:
    walked = [Rung.SERVING]
    for event in (
        Event.ERROR, Event.LOST, Event.DISAGREED, Event.LOST, Event.EXHAUSTED, Event.EXHAUSTED,
    ):  # fmt: skip
        walked.append(step(walked[-1], event))
    assert walked == [
        Rung.SERVING, Rung.RETRY, Rung.RESET, Rung.NEXT, Rung.NEXT, Rung.SMALLER, Rung.ABSTAIN,
    ]  # fmt: skip


def test_from_every_rung_that_is_worked_on_a_pass_serves_and_a_failure_goes_on_down() -> None:
    order = [Rung.SERVING, Rung.RETRY, Rung.RESET, Rung.NEXT, Rung.SMALLER, Rung.ABSTAIN]
    for rung in set(Rung) - AT_REST:
        assert step(rung, Event.PASSED) is Rung.SERVING
        after = step(rung, Event.LOST)
        assert order.index(after) > order.index(rung) or (rung, after) == (Rung.NEXT, Rung.NEXT)


def test_a_model_that_disagrees_is_never_left_serving() -> None:
    for (_, event), after in TRANSITIONS.items():
        if event is Event.DISAGREED:
            assert after is not Rung.SERVING


def test_every_rung_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(Rung)
    assert {rung for rung, _ in TRANSITIONS} == set(Rung)


# the table once more, by where it leads: a line that is lost there or added is seen here
E = Event
MOVES = {
    (Rung.SERVING, Rung.RETRY): {E.ERROR},
    (Rung.SERVING, Rung.RESET): {E.REPEATED, E.LOST, E.DISAGREED, E.LIFTED},
    (Rung.SERVING, Rung.NEXT): {E.WORN_OUT},
    (Rung.RETRY, Rung.SERVING): {E.PASSED, E.ERROR},
    (Rung.RETRY, Rung.RESET): {E.REPEATED, E.LOST},
    (Rung.RETRY, Rung.NEXT): {E.WORN_OUT},
    (Rung.RESET, Rung.SERVING): {E.PASSED},
    (Rung.RESET, Rung.NEXT): {E.ERROR, E.LOST, E.DISAGREED},
    (Rung.RESET, Rung.SMALLER): {E.EXHAUSTED},
    (Rung.NEXT, Rung.SERVING): {E.PASSED},
    (Rung.NEXT, Rung.NEXT): {E.ERROR, E.LOST, E.DISAGREED},
    (Rung.NEXT, Rung.SMALLER): {E.EXHAUSTED},
    (Rung.SMALLER, Rung.SERVING): {E.PASSED},
    (Rung.SMALLER, Rung.ABSTAIN): {E.ERROR, E.LOST, E.DISAGREED, E.EXHAUSTED},
    (Rung.ABSTAIN, Rung.RESET): {E.LIFTED},
}


def test_what_can_happen_on_a_rung_is_this_and_nothing_else() -> None:
    found: dict[tuple[Rung, Rung], set[Event]] = {}
    for (before, event), after in TRANSITIONS.items():
        found.setdefault((before, after), set()).add(event)
    assert found == MOVES
