"""The queue of requests: bounded, fair, and everything it refuses is said and counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import DeadlinePassed, NoModel, QueueFull, RateLimited
from edge_agent.inference.request import Payer, Request
from edge_agent.inference.request_queue import QueueLimits, RequestQueue

ROW = {"x": np.zeros((1, 4), np.float32)}  # 16 bytes


def ask(client: str, origin: str = "", deadline_s: float | None = None) -> Request:
    return Request(ROW, client, deadline_s, origin)


def origins(queue: RequestQueue) -> list[str]:
    return [waiting.request.origin for waiting in queue.take_round()]


def test_turns_go_round_the_clients_and_not_round_the_requests() -> None:
    queue = RequestQueue()
    for number in range(3):
        queue.put(ask("greedy", f"g{number}"), 0)
    queue.put(ask("modest", "m0"), 0)
    assert [origins(queue) for _ in range(4)] == [["g0", "m0"], ["g1"], ["g2"], []]
    assert len(queue) == 0


def test_a_full_queue_says_how_many_wait_and_has_a_place_again_after_a_turn() -> None:
    queue = RequestQueue(QueueLimits(requests=4))
    for client in "abcd":
        queue.put(ask(client), 0)
    with pytest.raises(QueueFull, match="4 requests wait, allowed are 4") as caught:
        queue.put(ask("e"), 0)
    assert caught.value.code == "queue-full"
    queue.take_round()
    queue.put(ask("e"), 0)
    assert len(queue) == 1


def test_one_client_fills_half_of_the_queue_and_leaves_the_rest_to_others() -> None:
    queue = RequestQueue(QueueLimits(requests=4))
    queue.put(ask("greedy"), 0)
    queue.put(ask("greedy"), 0)
    with pytest.raises(QueueFull, match="2 requests of this user or address wait, allowed are 2"):
        queue.put(ask("greedy"), 0)
    queue.put(ask("modest"), 0)


def test_what_waits_is_bounded_in_bytes_but_a_single_request_always_has_a_place() -> None:
    queue = RequestQueue(QueueLimits(size_bytes=20))
    queue.put(ask("a"), 0)
    with pytest.raises(QueueFull, match="above 20 bytes"):
        queue.put(ask("b"), 0)
    queue.take_round()
    large = Request({"x": np.zeros((1, 400), np.float32)})
    queue.put(large, 0)
    assert len(queue) == 1


def test_a_client_above_its_rate_is_told_when_to_come_again_and_others_are_not_concerned() -> None:
    queue = RequestQueue(QueueLimits(rate_per_s=2))
    queue.put(ask("a"), 10.0)
    queue.put(ask("a"), 10.0)
    with pytest.raises(RateLimited, match=r"2 requests a second .* in 0\.5 s"):
        queue.put(ask("a"), 10.0)
    queue.put(ask("b"), 10.0)
    with pytest.raises(RateLimited, match=r"in 0\.1 s"):
        queue.put(ask("a"), 10.4)
    queue.put(ask("a"), 10.5)


def test_a_client_that_was_quiet_saves_up_no_more_than_its_burst() -> None:
    queue = RequestQueue(QueueLimits(rate_per_s=1, burst=2))
    queue.put(ask("a"), 0.0)
    queue.put(ask("a"), 1e6)
    queue.put(ask("a"), 1e6)
    with pytest.raises(RateLimited):
        queue.put(ask("a"), 1e6)


def asks(client: str, account: str, name: str = "") -> Request:
    return Request(ROW, client, payer=Payer(account, name))


def test_another_process_of_the_same_user_has_not_another_rate() -> None:
    queue = RequestQueue(QueueLimits(rate_per_s=2))
    for process in ("process 1", "process 2"):
        queue.put(asks(process, "user 7"), 0.0)
    with pytest.raises(RateLimited):
        queue.put(asks("process 3", "user 7"), 0.0)
    queue.put(asks("process 4", "user 8"), 0.0)
    assert len(queue) == 3


def test_a_thousand_names_are_one_account_by_place_and_by_turn() -> None:
    queue = RequestQueue(QueueLimits(requests=64))
    taken_in = 0
    for number in range(1000):
        try:
            queue.put(asks(f"n{number}", "user 7", f"n{number}"), 0)
            taken_in += 1
        except QueueFull as full:
            assert "32 requests of this user or address wait, allowed are 32 of one" in str(full)
    assert taken_in == 32
    for _ in range(3):
        queue.put(asks("app", "user 8"), 0)
    for turn in range(3):
        assert [waiting.request.client for waiting in queue.take_round()] == [f"n{turn}", "app"]


def test_clients_of_one_account_take_turns_and_leave_each_other_a_quarter_of_its_share() -> None:
    queue = RequestQueue(QueueLimits(requests=16))
    for _ in range(6):
        queue.put(asks("greedy", "user 7"), 0)
    with pytest.raises(QueueFull, match="6 requests of this client wait, allowed are 6 of one client"):
        queue.put(asks("greedy", "user 7"), 0)
    queue.put(asks("modest", "user 7"), 0)
    queue.put(asks("modest", "user 7"), 0)
    with pytest.raises(QueueFull, match="8 requests of this user"):
        queue.put(asks("third", "user 7"), 0)
    clients = [waiting.request.client for _ in range(5) for waiting in queue.take_round()]
    assert clients == ["greedy", "modest", "greedy", "modest", "greedy"]


def test_a_name_that_somebody_else_has_is_another_client() -> None:
    queue = RequestQueue(QueueLimits(requests=8))
    for _ in range(3):
        queue.put(asks("app", "user 7", "app"), 0)
    queue.put(asks("app", "user 8", "app"), 0)
    assert len(queue.take_round()) == 2


def test_one_account_has_half_of_the_bytes_and_another_the_rest() -> None:
    queue = RequestQueue(QueueLimits(size_bytes=64))
    queue.put(asks("a", "user 7"), 0)
    queue.put(asks("b", "user 7"), 0)
    with pytest.raises(QueueFull, match="32 bytes wait, with 16 more they are above 32 bytes"):
        queue.put(asks("c", "user 7"), 0)
    queue.put(asks("a", "user 8"), 0)


WHO = st.tuples(st.integers(0, 3), st.integers(0, 5))  # account, client
STEPS = st.lists(st.none() | WHO, max_size=120)  # a round is taken, or somebody asks


@given(st.integers(1, 24), STEPS)
def test_whoever_asks_places_and_turns_are_kept_to_and_nothing_is_lost(
    places: int, steps: list[tuple[int, int] | None]
) -> None:
    queue = RequestQueue(QueueLimits(requests=places))
    share = max(1, places // 2)
    most = max(1, share * 3 // 4)
    waiting: dict[int, list[tuple[int, str]]] = {}  # by account, of clients and the names of their requests
    passed: dict[tuple[int, int], set[int]] = {}  # since a client has waited: of whom others' turns were
    for number, who in enumerate(steps):
        if who is not None:
            account, client = who
            own = waiting.get(account, [])
            fits = (
                sum(map(len, waiting.values())) < places
                and len(own) < share
                and sum(one == client for one, _ in own) < most
            )
            try:
                queue.put(
                    Request(ROW, f"c{client}", origin=str(number), payer=Payer(f"u{account}", f"c{client}")),
                    0,
                )
            except QueueFull:
                assert not fits
                continue
            assert fits
            waiting.setdefault(account, []).append((client, str(number)))
            passed.setdefault(who, set())
            continue
        taken = [(one.request.account, one.request.client, one.request.origin) for one in queue.take_round()]
        assert sorted(account for account, _, _ in taken) == sorted(
            f"u{a}" for a, own in waiting.items() if own
        )
        for account_name, client_name, origin in taken:
            account, client = int(account_name[1:]), int(client_name[1:])
            own = waiting[account]
            # its oldest
            assert origin == next(name for one, name in own if one == client)
            own.remove((client, origin))
            del passed[account, client]
            for other in {one for one, _ in own} - {client}:
                assert client not in passed[account, other]  # nobody twice while another waits
                passed[account, other].add(client)
            if any(one == client for one, _ in own):
                passed[account, client] = set()
        assert len(queue) == sum(map(len, waiting.values()))
    while queue:
        assert queue.take_round()
    assert queue.take_round() == []


def test_a_name_has_a_rate_of_its_own_and_a_new_name_each_time_does_not_help() -> None:
    queue = RequestQueue(QueueLimits(rate_per_s=1, requests=1000))
    for number in range(8):
        queue.put(asks(f"n{number}", "user 7", f"n{number}"), 0.0)
    queue.put(asks("n8", "user 7", "n8"), 0.0)  # at the account's own rate
    for number in range(9, 20):
        with pytest.raises(RateLimited):
            queue.put(asks(f"n{number}", "user 7", f"n{number}"), 0.0)
    queue.put(asks("n8", "user 8", "n8"), 0.0)
    queue.put(asks("n21", "user 7", "n21"), 1.0)  # the others have been quiet for long enough


def test_clients_that_come_once_take_no_memory_for_ever() -> None:
    queue = RequestQueue(QueueLimits(rate_per_s=0.5))
    for number in range(1025):
        queue.put(ask(f"c{number}"), 0.0)
        queue.take_round()
    queue.put(ask("c0"), 0.0)  # forgotten: the longest quiet
    with pytest.raises(RateLimited):
        queue.put(ask("c1024"), 0.0)


def test_a_request_that_comes_too_late_is_refused_at_once() -> None:
    queue = RequestQueue()
    with pytest.raises(DeadlinePassed):
        queue.put(ask("a", deadline_s=5.0), 5.0)
    queue.put(ask("a", deadline_s=5.0), 4.9)


def test_everything_refused_is_counted_by_reason_once() -> None:
    queue = RequestQueue(QueueLimits(requests=1, rate_per_s=1))
    queue.put(ask("a"), 0)
    for deadline_s in (-1.0, None, None):
        with pytest.raises((DeadlinePassed, QueueFull)):
            queue.put(ask("a", deadline_s=deadline_s), 0)
    queue.take_round()
    with pytest.raises(RateLimited):
        queue.put(ask("a"), 0)
    assert queue.take_unserved() == {"deadline": 1, "queue-full": 2, "rate-limited": 1}
    assert queue.take_unserved() == {}


def test_a_closed_queue_takes_nothing_and_can_refuse_what_waits() -> None:
    queue = RequestQueue()
    future = queue.put(ask("a"), 0)
    called_off = queue.put(ask("a"), 0)
    called_off.cancel()
    queue.close("the agent stops")
    with pytest.raises(NoModel, match="the agent stops"):
        queue.put(ask("a"), 0)
    assert len(queue) == 2
    queue.refuse_all()
    assert isinstance(future.exception(timeout=0), NoModel)
    assert called_off.cancelled()
    assert len(queue) == 0
