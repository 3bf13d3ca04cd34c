from __future__ import annotations

import threading

from edge_fleet.inbox import ITEM_BYTES, Inbox

BIG = 1 << 30


def test_senders_take_turns() -> None:
    inbox: Inbox[str] = Inbox(BIG, BIG)
    for item in ("a1", "a2", "a3", "b1", "c1"):
        assert inbox.offer(item[0], item, 1)
    assert inbox.take(10, 0) == ["a1", "b1", "c1", "a2", "a3"]


def test_a_sender_that_floods_is_cut_at_its_share_and_others_are_not() -> None:
    inbox: Inbox[int] = Inbox(3 * (ITEM_BYTES + 100), BIG)
    assert [inbox.offer("loud", n, 100) for n in range(5)] == [True, True, True, False, False]
    assert inbox.offer("quiet", 9, 100)
    assert inbox.take(2, 0) == [0, 9]
    assert inbox.offer("loud", 5, 100)


def test_all_senders_together_have_a_limit() -> None:
    inbox: Inbox[int] = Inbox(BIG, 4 * (ITEM_BYTES + 10))
    assert [inbox.offer(str(n), n, 10) for n in range(5)] == [True] * 4 + [False]
    inbox.take(1, 0)
    assert inbox.offer("later", 5, 10)


def test_the_size_of_an_item_counts() -> None:
    inbox: Inbox[int] = Inbox(10_000, BIG)
    assert inbox.offer("a", 1, 9_000)
    assert not inbox.offer("a", 2, 9_000)
    assert not inbox.offer("b", 3, 10_000)
    assert inbox.size_bytes == 9_000 + ITEM_BYTES
    inbox.take(1, 0)
    assert inbox.size_bytes == 0


def test_many_empty_messages_are_bounded_too() -> None:
    inbox: Inbox[int] = Inbox(10 * ITEM_BYTES, BIG)
    assert sum(inbox.offer("a", n, 0) for n in range(100)) == 10


def test_the_order_of_one_sender_is_kept_over_batches() -> None:
    inbox: Inbox[int] = Inbox(BIG, BIG)
    for n in range(7):
        inbox.offer("a", n, 1)
    assert [inbox.take(2, 0) for _ in range(4)] == [[0, 1], [2, 3], [4, 5], [6]]
    assert inbox.count == 0


def test_an_inbox_that_was_emptied_takes_as_much_again() -> None:
    inbox: Inbox[int] = Inbox(2 * ITEM_BYTES, 2 * ITEM_BYTES)
    for _ in range(100):
        assert inbox.offer("a", 1, 0) and inbox.offer("a", 2, 0)
        assert inbox.take(9, 0) == [1, 2]


def test_taking_from_an_empty_inbox_waits_for_the_first() -> None:
    inbox: Inbox[int] = Inbox(BIG, BIG)
    timer = threading.Timer(0.05, inbox.offer, ("a", 1, 1))
    timer.start()
    assert inbox.take(5, 10.0) == [1]
    timer.join()
    assert inbox.take(5, 0.0) == []


def test_a_closed_inbox_gives_what_it_has_and_takes_nothing_in() -> None:
    inbox: Inbox[int] = Inbox(BIG, BIG)
    inbox.offer("a", 1, 1)
    inbox.close()
    assert not inbox.offer("a", 2, 1)
    assert inbox.take(5, 10.0) == [1]
    assert inbox.take(5, 10.0) == []


def test_items_offered_together_are_let_in_as_one_by_one() -> None:
    inbox: Inbox[int] = Inbox(2 * ITEM_BYTES, 3 * ITEM_BYTES)
    offered = [("a", 1, 0), ("a", 2, 0), ("a", 3, 0), ("b", 4, 0), ("c", 5, 0)]
    assert inbox.offer_all(offered) == [3, 5]
    assert inbox.take(9, 0) == [1, 4, 2]
