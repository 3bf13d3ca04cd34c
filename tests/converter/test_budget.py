"""Budgets, with a clock that the test turns."""

from __future__ import annotations

from edge_convert.budget import Budget


class Hands:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_is_spent_when_its_seconds_are_over() -> None:
    clock = Hands()
    budget = Budget(60, clock)
    clock.now += 59
    assert not budget.spent_up
    clock.now += 1
    assert budget.spent_up
    assert budget.share == 1.0


def test_an_infinite_budget_ends_only_by_hand() -> None:
    clock = Hands()
    budget = Budget(clock=clock)
    clock.now += 1e9
    assert not budget.spent_up
    assert budget.share == 0.0
    budget.stop()
    assert budget.spent_up
    assert budget.until(0.5).why == "stopped by the user"


def test_a_part_ends_before_the_whole_and_what_it_leaves_is_the_next_ones() -> None:
    clock = Hands()
    budget = Budget(60, clock)
    first = budget.until(1 / 2)
    clock.now += 29
    assert not first.spent_up
    clock.now += 1
    assert first.spent_up
    assert "60 s" in first.why
    last = budget.until(1)
    assert not last.spent_up
    clock.now += 30
    assert last.spent_up
