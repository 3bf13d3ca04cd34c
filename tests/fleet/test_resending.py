from __future__ import annotations

from edge_fleet.resending import Resending


def test_what_was_sent_is_due_after_twice_as_long_each_time_and_not_for_ever() -> None:
    again = Resending(first_s=10, times=3)
    now, waits = 0.0, []
    again.sent("d", 1, now)
    while (wait := again.wait_s(now)) is not None:
        waits.append(wait)
        now += wait
        assert again.due(now - 0.001) == []
        assert again.due(now) == [("d", 1)]
        again.sent("d", 1, now)
    assert waits == [10, 20, 40]


def test_what_was_answered_is_not_due() -> None:
    again = Resending(first_s=10)
    again.sent("d", 1, 0)
    again.forget("d")
    assert again.due(100) == []


def test_what_was_sent_for_another_reason_meanwhile_is_due_once() -> None:
    again = Resending(first_s=10)
    again.sent("d", 1, 0)
    again.sent("d", 1, 1)
    assert again.due(21) == [("d", 1)]


def test_a_newer_assignment_is_waited_for_from_the_beginning() -> None:
    again = Resending(first_s=10, times=2)
    for at_s in (0.0, 10.0, 30.0):
        again.sent("d", 1, at_s)
    again.sent("d", 2, 31)
    assert again.due(40.9) == []
    assert again.due(41) == [("d", 2)]
