"""When a child is started again: at once, then later and later, and not for ever."""

from __future__ import annotations

from edge_agent.guard.restarts import Restarts


def test_the_first_restart_is_at_once_and_the_pauses_grow_fourfold() -> None:
    restarts = Restarts(limit=4, span_s=100, first_pause_s=1)
    assert restarts.wait_s(10) == 0
    restarts = restarts.after(10)
    assert restarts.wait_s(10.25) == 0.75
    restarts = restarts.after(11)
    assert restarts.wait_s(11) == 4
    restarts = restarts.after(15)
    assert restarts.wait_s(15) == 16


def test_at_the_limit_it_waits_until_the_oldest_is_out_of_the_span() -> None:
    restarts = Restarts(limit=2, span_s=100, first_pause_s=1).after(0).after(10)
    assert restarts.is_worn_out(50)
    assert restarts.wait_s(50) == 50
    assert not restarts.is_worn_out(100)
    assert restarts.wait_s(100) == 0, "one restart, 90 s ago"
    assert restarts.after(100).times_s == (10, 100)
