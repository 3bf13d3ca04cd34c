from __future__ import annotations

import threading

from edge_fleet.inbox import Inbox


def test_senders_take_turns() -> None:
    inbox: Inbox[str] = Inbox(10, 100)
    for item in ("a1", "a2", "a3", "b1", "c1"):
        assert inbox.offer(item[0], item)
    assert inbox.take(10, 0) == ["a1", "b1", "c1", "a2", "a3"]


def test_a_sender_that_floods_is_cut_at_its_share_and_others_are_not() -> None:
    inbox: Inbox[int] = Inbox(3, 100)
    assert [inbox.offer("loud", n) for n in range(5)] == [True, True, True, False, False]
    assert inbox.offer("quiet", 9)
    assert inbox.take(2, 0) == [0, 9]


def test_all_senders_together_have_a_limit() -> None:
    inbox: Inbox[int] = Inbox(3, 4)
    assert [inbox.offer(str(n), n) for n in range(5)] == [True] * 4 + [False]
    inbox.take(1, 0)
    assert inbox.offer("later", 5)


def test_the_order_of_one_sender_is_kept_over_batches() -> None:
    inbox: Inbox[int] = Inbox(100, 100)
    for n in range(7):
        inbox.offer("a", n)
    taken = [inbox.take(2, 0) for _ in range(4)]
    assert taken == [[0, 1], [2, 3], [4, 5], [6]]
    assert inbox.count == 0


def test_taking_from_an_empty_inbox_waits_for_the_first() -> None:
    inbox: Inbox[int] = Inbox(1, 1)
    timer = threading.Timer(0.05, inbox.offer, ("a", 1))
    timer.start()
    assert inbox.take(5, 10.0) == [1]
    timer.join()
    assert inbox.take(5, 0.0) == []


def test_a_closed_inbox_gives_what_it_has_and_takes_nothing_in() -> None:
    inbox: Inbox[int] = Inbox(2, 2)
    inbox.offer("a", 1)
    inbox.close()
    assert not inbox.offer("a", 2)
    assert inbox.take(5, 10.0) == [1]
    assert inbox.take(5, 10.0) == []
