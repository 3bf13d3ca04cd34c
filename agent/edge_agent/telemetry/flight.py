"""Which envelopes are on their way: when to send, when to send again. Pure; time is an argument.

Acks are cumulative, so one timer serves all: when nothing was acknowledged for a while, everything
on its way counts as lost and is sent again, and the next such wait is longer. A server that is back
after an hour is met by one window of envelopes from each device, at a random moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from random import Random

WINDOW = 100  # envelopes on their way at once: a server's batch, and far below a broker's queue limit
RESERVE = 10  # of those for alarms alone: they do not wait behind a backlog of windows
FIRST_WAIT_S = 5.0  # a commit, a batch interval and two slow links
LONGEST_WAIT_S = 300.0


class Envelope(StrEnum):
    """Where an envelope in the outbox stands."""

    QUEUED = "queued"
    IN_FLIGHT = "in-flight"
    GONE = "gone"  # acknowledged


class Event(StrEnum):
    """What can happen to an envelope."""

    SENT = "sent"
    TIMED_OUT = "timed-out"
    DISCONNECTED = "disconnected"
    RESTARTED = "restarted"
    ACKNOWLEDGED = "acknowledged"


# (state, event) -> next state. A pair that is absent is an error; the tests walk the table.
TRANSITIONS: dict[tuple[Envelope, Event], Envelope] = {
    (Envelope.QUEUED, Event.SENT): Envelope.IN_FLIGHT,
    (Envelope.QUEUED, Event.RESTARTED): Envelope.QUEUED,
    (Envelope.QUEUED, Event.DISCONNECTED): Envelope.QUEUED,
    (Envelope.QUEUED, Event.TIMED_OUT): Envelope.QUEUED,
    (Envelope.QUEUED, Event.ACKNOWLEDGED): Envelope.GONE,  # it had arrived before the restart
    (Envelope.IN_FLIGHT, Event.TIMED_OUT): Envelope.QUEUED,
    (Envelope.IN_FLIGHT, Event.DISCONNECTED): Envelope.QUEUED,
    (Envelope.IN_FLIGHT, Event.RESTARTED): Envelope.QUEUED,
    (Envelope.IN_FLIGHT, Event.ACKNOWLEDGED): Envelope.GONE,
}


class Flight:
    """What is on its way, and until when one waits for word of it."""

    def __init__(self, random: Random) -> None:
        """Begin with nothing on its way: after a start everything is queued."""
        self._random = random
        self._states: dict[int, Envelope] = {}  # the others are QUEUED
        self._wait_s = FIRST_WAIT_S
        self._deadline_s: float | None = None

    @property
    def flying(self) -> frozenset[int]:
        """Numbers on their way."""
        return frozenset(self._states)

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return max(0, WINDOW - len(self._states))

    def sent(self, seqs: Iterable[int], now_s: float) -> None:
        """These have been given to the broker."""
        self._move(seqs, Event.SENT)
        if self._states and self._deadline_s is None:
            self._deadline_s = now_s + self._jittered(self._wait_s)

    def acknowledged(self, high: int, now_s: float) -> None:
        """The server has stored everything up to this number."""
        self._move([seq for seq in self._states if seq <= high], Event.ACKNOWLEDGED)
        self._wait_s = FIRST_WAIT_S
        self._deadline_s = now_s + self._jittered(self._wait_s) if self._states else None

    def disconnected(self) -> None:
        """The broker is gone: what was on its way may be lost."""
        self._move(list(self._states), Event.DISCONNECTED)
        self._deadline_s = None

    def heard(self, now_s: float) -> None:
        """The server is alive: a long wait that began while it was away is cut short."""
        self._wait_s = FIRST_WAIT_S
        if self._deadline_s is not None:
            self._deadline_s = min(self._deadline_s, now_s + self._jittered(FIRST_WAIT_S))

    def overdue(self, now_s: float) -> bool:
        """Queue everything again if nobody answered for too long; says whether it did."""
        if self._deadline_s is None or now_s < self._deadline_s:
            return False
        self._move(list(self._states), Event.TIMED_OUT)
        self._deadline_s = None
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        return True

    def _move(self, seqs: Iterable[int], event: Event) -> None:
        for seq in seqs:
            before = self._states.get(seq, Envelope.QUEUED)
            after = TRANSITIONS.get((before, event))
            if after is None:
                raise AssertionError(f"{event} cannot happen to envelope {seq}, which is {before}")
            if after is Envelope.IN_FLIGHT:
                self._states[seq] = after
            else:
                self._states.pop(seq, None)

    def _jittered(self, wait_s: float) -> float:
        return wait_s * self._random.uniform(0.75, 1.5)
