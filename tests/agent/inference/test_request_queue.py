"""The queue of requests: bounded, fair, and everything it refuses is said and counted."""

from __future__ import annotations

import numpy as np
import pytest

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
    with pytest.raises(QueueFull, match="2 requests of this client wait, allowed are 2"):
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


def test_another_process_of_the_same_user_has_not_another_rate_but_a_turn_of_its_own() -> None:
    queue = RequestQueue(QueueLimits(rate_per_s=2))
    for process in ("process 1", "process 2"):
        queue.put(asks(process, "user 7"), 0.0)
    with pytest.raises(RateLimited):
        queue.put(asks("process 3", "user 7"), 0.0)
    queue.put(asks("process 4", "user 8"), 0.0)
    assert len(queue.take_round()) == 3


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
