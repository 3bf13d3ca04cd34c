"""A shadow's budget: its share of the processor is kept, and too much memory, time or failure ends it."""

from __future__ import annotations

import pytest

from edge_agent.doubt.shadow_budget import FAILURES, STRIKES, Budget, Purse

BUDGET = Budget(cpu_share=0.1, memory_bytes=1000, latency_ms=50)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 1.0])
def test_over_time_it_uses_its_share_of_the_processor_and_no_more(share: float) -> None:
    purse, now_s, used_s = Purse(Budget(share, 1000, 50), 0.0), 0.0, 0.0
    while now_s < 1000:
        if purse.may_run(now_s):
            now_s += 0.7
            used_s += 0.7
            purse.spend(0.7, now_s)
        else:
            now_s += 0.1
    assert used_s / now_s == pytest.approx(share, rel=0.12)
    assert used_s <= share * now_s + 0.8


def test_a_long_rest_is_not_saved_up() -> None:
    purse = Purse(BUDGET, 0.0)
    purse.spend(1.0, 1000.0)
    assert not purse.may_run(1008.9)
    assert purse.may_run(1009.1)


def test_memory_above_the_bound_ends_it() -> None:
    purse = Purse(BUDGET, 0.0)
    purse.weigh(1000)
    assert purse.may_run(1.0)
    purse.weigh(1001)
    assert (purse.stopped, purse.may_run(1e9)) == ("memory", False)


def test_slow_inferences_in_a_row_end_it_and_a_quick_one_between_does_not() -> None:
    purse = Purse(BUDGET, 0.0)
    for _ in range(STRIKES - 1):
        purse.answered(51)
    purse.answered(50)
    for _ in range(STRIKES - 1):
        purse.answered(51)
    assert purse.stopped == ""
    purse.answered(51)
    assert purse.stopped == "latency"


def test_failures_in_a_row_end_it() -> None:
    purse = Purse(BUDGET, 0.0)
    for _ in range(FAILURES - 1):
        purse.failed()
    purse.answered(1)
    for _ in range(FAILURES):
        assert purse.stopped == ""
        purse.failed()
    assert purse.stopped == "failing"
