"""What a server may make of a connection."""

from __future__ import annotations

import pytest

from edge_agent.device.patience import HEAD_BYTES, SLOW_BYTES, OutOfPatience, Patience


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_answer_with_its_head_and_some_framing_is_let_through() -> None:
    patience = Patience(8000, Clock())
    patience.came(HEAD_BYTES)
    patience.came(9000)
    with pytest.raises(OutOfPatience, match=f"it sent {HEAD_BYTES + 9001} bytes for an answer of"):
        patience.came(1)


def test_a_server_that_sends_enough_in_each_minute_may_take_hours() -> None:
    clock = Clock()
    patience = Patience(100_000_000, clock)
    patience.waits()
    for minute in range(1, 600):
        clock.now_s = minute * 60.0
        patience.came(SLOW_BYTES)
    clock.now_s += 59.0
    patience.came(1)
    clock.now_s += 1.0
    with pytest.raises(OutOfPatience, match="the server sent 2 bytes in 60 s"):
        patience.came(1)


def test_what_we_send_ourselves_may_take_long() -> None:
    clock = Clock()
    patience = Patience(1000, clock)
    clock.now_s = 600.0  # an upload over a slow link, then the first byte of the answer
    patience.waits()
    patience.came(1)
    clock.now_s += 59.0
    patience.waits()
    patience.came(1)
